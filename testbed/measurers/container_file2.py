"""``container-file`` again under another name: how far it differs from ``container-file`` is the noise of that arm."""

from dataclasses import replace

from testbed.measurers import container_file

MEASURER = replace(
    container_file.MEASURER,
    name="container-file2",
    summary="the same as container-file, to see the noise of a treated arm (A/A)",
    again="container-file",
    rung=41,
    steps=(),
)
