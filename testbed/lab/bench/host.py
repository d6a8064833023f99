"""What attached hooks cost a host that goes about its business, event by event, outside of any container."""

from __future__ import annotations

from pathlib import Path

from testbed import plugins
from testbed.lab.bench import events
from testbed.lab.machines.lab import Lab
from testbed.lab.machines.save import Saved

PROGRAM = "host"
# The names of ``benchmarks/measurer/host.c``.
EVENTS = (
    *("host-open-read", "host-open-write", "host-create-unlink", "host-mkdir-rmdir"),
    *("host-rename", "host-chmod", "host-fork", "host-execve"),
)
# Those that exist are run, in this order.
ARMS = ("none", "hooks-only", "container-file", "container-image", "container-drift")
# Events that are counted for the number of programs which run at one.
REPEATS = 200
_WHERE = "/var/tmp/testbed-host"  # noqa: S108 - in the guest, where nobody else is
_COUNTER = Path(__file__).parents[1] / "in_guest" / "fired.py"
_SECONDS = 300.0


def arms() -> tuple[str, ...]:
    """Return the arms whose measurer exists."""
    return tuple(name for name in ARMS if name in plugins.names("measurers"))


def run_arm(lab: Lab, saved: Saved, arm: str, directory: Path) -> tuple[str, dict[str, float]]:
    """Restore the machine of ``events.prepare``, attach the arm's measurer, and count the host's events.

    Returns lines ``EVENT SIZE VALUE``, and by event how many BPF programs run at one.
    """
    measurer = plugins.measurer(arm)
    program = f"{events.ROOT}/{PROGRAM}"
    with lab.restore(saved, directory) as machine:
        guest = machine.guest
        with measurer.attach(measurer, guest):
            text = guest.run((program, "run", _WHERE), timeout=_SECONDS).text
            # After the counts: while programs are counted, each of them costs more.
            argv = ("python3", "-", program, _WHERE, str(REPEATS), *EVENTS)
            fired = guest.run(argv, input=_COUNTER.read_bytes(), timeout=_SECONDS).text
    pairs = (line.split() for line in fired.splitlines())
    return text, {event: int(runs) / REPEATS for event, runs in pairs}
