"""The baseline: no IMA policy, no programs (the boot aggregate is logged all the same)."""

from testbed.measurers import Measurer

MEASURER = Measurer(name="none", summary="no policy, no programs", rung=0)
