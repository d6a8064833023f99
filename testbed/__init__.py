"""Emulated testbed and benchmarking harness for container trust.

The run directory is the only connection between ``testbed.lab`` (boots machines, writes it) and ``testbed.attest`` and
``testbed.analysis`` (pure functions that read it). ``docs/architecture.md`` shows all parts.
"""

__version__ = "0.2.0"
