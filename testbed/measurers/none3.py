"""The baseline a third time: a treatment that does nothing, in which an evaluation must find nothing."""

from testbed.measurers import Measurer

MEASURER = Measurer(name="none3", summary="the same as none, as a treatment (null campaign)")
