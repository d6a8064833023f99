"""A campaign whose report page shows everything: logs, containers, findings, and names that an attacker may choose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import evidence as b
from fake_campaign import build, failed
from lxml import html

from testbed.analysis.judged.checks import Judged
from testbed.analysis.report import report
from testbed.attest.finding import Container, Finding, FindingKind
from testbed.attest.verdict import Verdict
from testbed.plan import Cell
from testbed.record import Evidence, Record, Started, Status
from testbed.rundir import Campaign, load

MEASURING = "container-file"
UNQUOTED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What an attacker may choose: names of files, containers, images, workloads; words of findings and failures."""

    path: str
    container: str
    image: str
    workload: str
    got: str
    reason: str
    fact: str


PLAIN = Names(
    path="/usr/bin/true",
    container="5f" * 32,
    image="tools",
    workload="tools",
    got="nothing",
    reason="no answer",
    fact="6.12",
)
HOSTILE = Names(
    path="/tmp/</code><script>alert('path')</script>\n\u202e<img src=x onerror=alert(1)>",
    container="\"onmouseover=alert('id') x=\"" + "<b>" * 12,
    image="javascript:alert('image')\u2066",
    workload="<script>alert('workload')</script>$\\frac$|`*_[a](javascript:1)",
    got="'\"><svg onload=alert(1)>&lt;`|**x** \0\r\n# x",
    reason="</p><a href=javascript:alert(1)>x</a>\u200f`",
    fact="--><style>*{display:none}</style><!--\x1b[31m",
)


def write(root: Path, names: Names = PLAIN, *, files: int = 6, blocks: int = 2) -> Path:
    """Write a campaign with one log in each run of the measurer, and its report; return the front page.

    ``files``: entries of the container's files in each log. The last ``UNQUOTED`` entries are past the quote.
    """
    return written(campaign_of(root, names, files=files, blocks=blocks), names, files)


def campaign_of(root: Path, names: Names = PLAIN, *, files: int = 6, blocks: int = 2) -> Campaign:
    """Write a campaign with the raw material of one log in each run of the measurer, and one run that failed."""

    def change(cell: Cell, record: Record) -> Record:
        if cell.measurer == "ima-exec" and record.block == 0:
            return failed(record, Status.WORKLOAD_FAILED, names.reason)
        started = Started(id=names.container, image=names.image, workload=names.workload, exit_status=0)
        evidence = Evidence(bundle="evidence", ak="ak.pub") if cell.measurer == MEASURING else Evidence()
        facts = record.facts | {"kernel_release": names.fact}
        return replace(record, containers=(started,), evidence=evidence, facts=facts)

    campaign = build(root, workloads={names.workload: 0.42}, blocks=blocks, change=change)
    log = _log(names, files)
    for path, record in load(campaign).current:
        if record.evidence.bundle:
            b.write_bundle(path / "evidence", attest=b"", sig=b"", log=log, nonce=b"\0" * 32)
    return campaign


def written(campaign: Campaign, names: Names, files: int) -> Path:
    """Write the report of such a campaign."""

    def judge(cell: Cell, _: Path, record: Record) -> Judged:
        ours = cell.measurer == MEASURING
        about = Container(
            seq=1,
            mntns=1,
            cgroup=2,
            started=3,
            cgroup_path=names.path,
            runtime_id=names.container,
            image=names.image,
            image_digest="ab" * 32,
            entries=files,
        )
        finding = Finding(
            kind=FindingKind.GHOST, where="entry 5, PCR 11", expected="no entry", got=names.got, container="1"
        )
        verdict = Verdict(
            findings=(finding,) if ours and record.block == 0 else (),
            entries=files + 3 if ours else 1,
            unattested=UNQUOTED if ours else 0,
            pcrs={10: "11" * 32, 11: "22" * 32},
            attested={10: 1, 11: files + 2 - UNQUOTED} if ours else {10: 1},
            containers={"1": about} if ours else {},
            notes=(names.got,),
        )
        return Judged(verdict=verdict, promises=ours, promised=files if ours else 0)

    return report.write(load(campaign), judge).page


def _log(names: Names, files: int) -> bytes:
    path = names.path.encode()
    entries = [
        b.ima_ng("boot_aggregate", b""),
        b.ima_buf("ctr-start", b.ctr_start(path)),
        b.ima_buf("ctr-launch", b.ctr_launch(b"\xab" * 32, (path, b"-c"))),
        *(b.ima_buf("ctr-file", b.ctr_file(b"%s-%d" % (path, number), b"%d" % number)) for number in range(files)),
    ]
    return b"".join(entries)


def pages(front: Path) -> Iterator[tuple[Path, html.HtmlElement]]:
    """Yield every page of a report, parsed."""
    for path in (front, *sorted((front.parent / "runs").iterdir())):
        yield path, html.document_fromstring(path.read_bytes(), parser=html.HTMLParser(encoding="utf-8"))
