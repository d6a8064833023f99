"""Our module and BPF programs attached, deciding nothing: the price of the hooks."""

from testbed.measurers import Measurer

MEASURER = Measurer(name="hooks-only", summary="our BPF programs attached, deciding nothing", mode="hooks")
