"""A positive control: nothing is measured, and 1 % of the workload's own CPU time is wasted beside it."""

from testbed.measurers import Measurer

MEASURER = Measurer(name="burn-1", summary="no measurement, but 1 % more CPU time (positive control)", burn=0.01)
