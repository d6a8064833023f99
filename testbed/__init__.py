"""Emulated testbed and benchmarking harness for container trust.

The run directory is the only door between ``testbed.lab`` (boots machines, writes it) and ``testbed.attest`` and
``testbed.analysis`` (pure functions that read it). ``docs/architecture.md`` draws the whole.
"""

__version__ = "0.2.0"
