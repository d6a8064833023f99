"""Judging evidence: pure functions over the files of a run. Nothing here sees a machine (``testbed.lab``)."""
