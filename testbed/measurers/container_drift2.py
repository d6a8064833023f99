"""``container-drift`` again under another name: how far it differs from ``container-drift`` is that arm's noise."""

from dataclasses import replace

from testbed.measurers import container_drift

MEASURER = replace(
    container_drift.MEASURER,
    name="container-drift2",
    summary="the same as container-drift, to see the noise of a treated arm (A/A)",
    again="container-drift",
    rung=61,
    steps=(),
)
