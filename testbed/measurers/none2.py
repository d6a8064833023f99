"""The baseline again under another name: what ``none2`` differs from ``none`` is the noise (A/A)."""

from testbed.measurers import Measurer

MEASURER = Measurer(name="none2", summary="the same as none, to see the noise (A/A)", rung=10)
