"""Container starts while others are alive: does the cost grow with their number?

``alive-N``: N containers wait all the time. An iteration starts four more, each of which executes a tiny static program
twenty times: each start calls the hooks some dozen times and hashes almost nothing.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from testbed.workloads import Crowd, Output, Workload, expect_lines

SIZES = (1, 10, 50, 200)
_AGAIN, _NOTHING, _WAIT = (PurePosixPath("/alive") / name for name in ("again", "nothing", "wait"))


def parse(output: str) -> Output:
    """Expect the one line that says that every program ended well. One operation is one start."""
    expect_lines(("done",), output)
    return Output()


WORKLOADS = tuple(
    Workload(
        name=f"alive-{size}",
        summary=f"four starts of a container with twenty tiny programs, while {size} others are alive",
        image="alive",
        argv=(str(_AGAIN),),
        executes=(_AGAIN, _NOTHING),
        parse=parse,
        starts=4,
        operation="start",
        crowd=Crowd(size=size, argv=(str(_WAIT),), executes=(_WAIT,)),
    )
    for size in SIZES
)
