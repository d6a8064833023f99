"""The baseline again under another name: the difference between ``none2`` and ``none`` is the noise (A/A)."""

from testbed.measurers import Measurer

MEASURER = Measurer(name="none2", summary="the same as none, to see the noise (A/A)", rung=10)
