"""A positive control: nothing is measured, and 3 % of the workload's own CPU time is wasted beside it."""

from testbed.measurers import Measurer

MEASURER = Measurer(name="burn-3", summary="no measurement, but 3 % more CPU time (positive control)", burn=0.03)
