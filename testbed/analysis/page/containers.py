"""The containers of a run: those that the harness started, and those that the log describes, as one list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from testbed.analysis.page.logs import LogSummary
from testbed.attest.finding import Container
from testbed.attest.verdict import Verdict
from testbed.record import Record, Started


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRow:
    """One container. ``seq``: its number in the log, empty if the log does not describe it; then it has no ``colour``.

    ``launch``: what its launch entry says, with the number of that entry. ``exit_status``: ``None`` for a container
    that the harness did not start. ``findings``: how many there are about it alone.
    """

    seq: str
    runtime_id: str
    image: str
    image_digest: str = ""
    launch: str = ""
    launch_entry: int | None = None
    entries: int = 0
    parent: int = 0
    cgroup: str = ""
    exit_status: int | None = None
    verdict: str = ""
    findings: int = 0
    colour: int | None = None


def containers(record: Record | None, verdict: Verdict | None, summary: LogSummary) -> list[ContainerRow]:
    """Return the containers that the log describes, then those that only the harness knows of."""
    started = {one.id: one for one in record.containers} if record else {}
    return [*_logged(verdict, summary, started), *(_unlogged(one) for one in started.values())]


def _logged(verdict: Verdict | None, summary: LogSummary, started: dict[str, Started]) -> Iterator[ContainerRow]:
    """Yield each container of the log, and take those that the harness started out of ``started``."""
    if verdict is None:
        return
    judged = verdict.container_judgements(verdict.containers)
    about = Counter(finding.container for finding in verdict.findings)
    for (_, seq_or_none), number in verdict.omitted.items():
        about[seq_or_none] += number
    for seq, container in verdict.containers.items():
        known = started.pop(container.runtime_id or "", None)
        launch = summary.launches.get(seq)
        yield ContainerRow(
            seq=seq,
            runtime_id=container.runtime_id or "",
            image=_image(container, known),
            image_digest=container.image_digest,
            launch=launch.says if launch else "",
            launch_entry=launch.number if launch else None,
            entries=container.entries,
            parent=container.parent,
            cgroup=container.cgroup_path,
            exit_status=known.exit_status if known else None,
            verdict=str(judged[seq]),
            findings=about[seq],
            colour=summary.colours.get(seq),
        )


def _unlogged(one: Started) -> ContainerRow:
    return ContainerRow(seq="", runtime_id=one.id, image=one.image, exit_status=one.exit_status)


def _image(container: Container, known: Started | None) -> str:
    return container.image or (known.image if known else "")
