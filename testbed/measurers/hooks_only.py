"""The project's module and BPF programs are attached but measure nothing: the price of the hooks."""

from testbed.measurers import BASELINE, Measurer, Step

MEASURER = Measurer(
    name="hooks-only",
    summary="the project's BPF programs are attached, but measure nothing",
    mode="hooks",
    rung=30,
    steps=(
        Step(
            name="hook",
            title="hooks alone",
            arm="hooks-only",
            over=(BASELINE,),
            terms=("runs",),
            slight=True,
        ),
    ),
)
