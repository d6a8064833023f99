"""docs/verify.md has an example of each kind of finding, and each is what the code says today."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path, PurePosixPath

import evidence as b
import pytest
from evidence import GOLDEN

from testbed.attest.finding import Container, Finding, FindingKind
from testbed.attest.log.ima import read_entries
from testbed.attest.mutate.engine.trial import matrix
from testbed.attest.mutate.registry import find
from testbed.attest.truth import compare
from testbed.measurers import Claimed, Executed

PAGE = (Path(__file__).parents[2] / "docs" / "verify.md").read_text(encoding="utf-8")
REAL = GOLDEN / "bundle-debian-6.12"
EXAMPLE = re.compile(
    r"^```text\nexample ([a-z-]+): ([a-z0-9-]+)\n(.+)\n  expected (.+)\n  got      (.+)\n```$", re.MULTILINE
)
EXAMPLES = {match[1]: match for match in EXAMPLE.finditer(PAGE)}


def attacked(kind: str, name: str) -> Finding:
    ak, nonce = (REAL / "ak.pub").read_bytes(), json.loads((REAL / "bundle.json").read_text())["nonce"]
    (row,) = matrix(REAL, [find(name)], ak=ak, nonce=bytes.fromhex(nonce))
    return next(finding for finding in row.findings if finding.kind == kind)


def compared(kind: str) -> Finding:
    """Of a log that has, for one container, an old library, a program that never ran, and another's file."""
    ours, other = f"{1:064x}", f"{2:064x}"
    said = [(1, "/usr/lib/libc.so.6", b"old"), (1, "/usr/bin/ghost", b"ghost"), (1, "/usr/bin/other", b"other")]
    entries = list(
        read_entries(
            b"".join(b.ima_buf("ctr-file", b.ctr_file(path.encode(), content, seq=seq)) for seq, path, content in said)
        )
    )
    claims = [(ours, "/usr/lib/libc.so.6", b"new"), (ours, "/usr/bin/app", b"app"), (other, "/usr/bin/other", b"other")]
    claimed = frozenset(
        Claimed(pcr=11, container=who, path=path, digest=hashlib.sha256(content).hexdigest())
        for who, path, content in claims
    )
    former = Executed(
        container=ours, path=PurePosixPath("/usr/lib/libc.so.6"), digest=hashlib.sha256(b"old").hexdigest(), size=3
    )
    containers = {
        str(seq): Container(seq=seq, mntns=0, cgroup=0, started=0, runtime_id=name)
        for seq, name in ((1, ours), (2, other))
    }
    findings = compare(entries, claimed, containers, former=[former])
    assert sorted(finding.kind for finding in findings) == ["ghost", "misattributed", "missing", "stale"]
    return next(finding for finding in findings if finding.kind == kind)


def test_each_kind_has_an_example() -> None:
    assert set(EXAMPLES) == {kind.value for kind in FindingKind}


@pytest.mark.parametrize("kind", sorted(EXAMPLES))
def test_an_example_is_what_is_said(kind: str) -> None:
    _, name, where, expected, got = EXAMPLES[kind].groups()
    finding = compared(kind) if name == "truth" else attacked(kind, name)
    assert (finding.where, finding.expected, finding.got) == (where, expected, got)
