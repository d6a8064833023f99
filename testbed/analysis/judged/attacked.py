"""The verifier, attacked with a campaign's own evidence: which forgeries it and other verifiers find."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from testbed import progress
from testbed.analysis import markdown
from testbed.attest.mutate.engine.model import REFUSED
from testbed.attest.mutate.engine.trial import AttackOutcome, ask_rivals, matrix, read_honest
from testbed.attest.mutate.registry import ATTACKS
from testbed.attest.quote import parse_nonce
from testbed.attest.rivals import verifiers
from testbed.errors import TestbedError
from testbed.record import Record, Status
from testbed.rundir import Campaign

_OURS = "testbed verify"
_SHOWN = 8
# Nothing is forged there: a verifier that rejects it rejects more than forgeries.
_HONEST = "honest-quoted-again"
_PARTS = {"quote.": "quote", "AK": "quote", "ima.bin": "log", "PCR": "log", "digest": "log"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Attacked:
    """The outcome of each attack on the evidence of ``run``, on ``kernel``."""

    run: str
    kernel: str
    rows: tuple[AttackOutcome, ...]

    @property
    def ok(self) -> bool:
        """Whether each attack that could be made gave exactly the expected findings."""
        return all(row.ok for row in self.rows)


def attack(campaign: Campaign, runs: pd.DataFrame) -> tuple[Attacked, ...]:
    """Attack the evidence of one good run of each kernel: of the first from which the most attacks can be made."""
    best: dict[str, _Candidate] = {}
    good = runs[runs["status"] == str(Status.OK)].to_dict("records")
    for run in progress.each(good, "evidence to attack", unit="runs"):
        kernel = str(run["kernel"])
        if kernel in best and not best[kernel].missing:
            continue
        candidate = _candidate(campaign, f"{run['cell']}-{run['block']}", run["record"])
        if candidate and (kernel not in best or candidate.missing < best[kernel].missing):
            best[kernel] = candidate
    return tuple(Attacked(run=chosen.run, kernel=kernel, rows=_rows(chosen)) for kernel, chosen in sorted(best.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """A run's evidence. ``missing``: attacks that cannot be made from it."""

    run: str
    bundle: Path
    ak: bytes
    nonce: bytes
    missing: int


def _candidate(campaign: Campaign, run: str, record: Record) -> _Candidate | None:
    """Return a run's evidence, ``None`` if it is not trusted: the checks report that."""
    path, evidence, nonce = campaign.path / "runs" / run, record.evidence, record.facts.get("nonce")
    if not (evidence.bundle and evidence.ak and isinstance(nonce, str)):
        return None
    try:
        bundle, ak, asked = path / evidence.bundle, (path / evidence.ak).read_bytes(), parse_nonce(nonce)
        honest = read_honest(bundle, ak=ak, nonce=asked)
    except (TestbedError, OSError):
        return None
    missing = sum(forgery.applies(honest) is not None for forgery in ATTACKS)
    return _Candidate(run=run, bundle=bundle, ak=ak, nonce=asked, missing=missing)


def _rows(candidate: _Candidate) -> tuple[AttackOutcome, ...]:
    names = verifiers.available()
    ask = ask_rivals(names) if names else None
    with progress.steps("attacks", len(ATTACKS)) as work:
        rows = matrix(
            candidate.bundle,
            ATTACKS,
            ak=candidate.ak,
            nonce=candidate.nonce,
            ask=ask,
            advance=lambda _: work.advance(),
        )
    return tuple(rows)


def section(attacked: tuple[Attacked, ...]) -> list[str]:
    """Return the lines on the verifier itself."""
    lines = ["## The verifier, attacked", ""]
    if not attacked:
        return [*lines, "Not attacked: no good run has trusted evidence."]
    for evidence in attacked:
        made = [row for row in evidence.rows if not row.skipped]
        good, run = sum(row.ok for row in made), f"`{evidence.run}` (kernel `{evidence.kernel}`)"
        rest = f" ({len(evidence.rows) - len(made)} cannot be made from it)" if len(made) < len(evidence.rows) else ""
        lines += [f"- {good} of {len(made)} attacks on the evidence of {run} gave exactly the expected findings{rest}."]
        lines += [
            f"  - `{row.attack.name}`: expected {_kinds(row.attack.expect)}, got {_kinds(row.got)}"
            for row in _bad(evidence)
        ]
    every = [row for evidence in attacked for row in evidence.rows]
    return [*lines, "", *_others(every)]


def doubts(attacked: tuple[Attacked, ...]) -> list[str]:
    """Return the reasons to doubt this."""
    return [
        f"For {len(list(_bad(evidence)))} attacks on `{evidence.run}` the verifier gave other findings than expected, "
        "so no verdict here is certain."
        for evidence in attacked
        if not evidence.ok
    ]


def _bad(evidence: Attacked) -> Iterator[AttackOutcome]:
    return (row for row in evidence.rows if not row.ok)


def _kinds(kinds: frozenset[str]) -> str:
    return " ".join(sorted(kinds)) or "nothing"


def _others(rows: list[AttackOutcome]) -> list[str]:
    """Compare with the other verifiers, each on forgeries of what it looks at."""
    names = list(dict.fromkeys(name for row in rows for name in row.rivals))
    if not names:
        return ["This machine has no other verifier to compare with."]
    table, remarks = [], []
    for name in names:
        mine = [row for row in rows if _part(row) == verifiers.SEES[name] and name in row.rivals]
        said = Counter(row.rivals[name] for row in mine)
        seen = f"{len(mine)} of the {verifiers.SEES[name]}"
        honest = next((row.rivals[name] for row in rows if row.attack.name == _HONEST and name in row.rivals), "?")
        table.append(
            (f"`{name}`", honest, seen, *(said[word] for word in verifiers.Says if word != verifiers.Says.ABSENT))
        )
        for word in (verifiers.Says.ACCEPTS, verifiers.Says.CRASHED):
            those = list(dict.fromkeys(f"`{row.attack.name}`" for row in mine if row.rivals[name] == word))
            more = f" and {len(those) - _SHOWN} more" if len(those) > _SHOWN else ""
            remarks += [f"`{name}` {word}: {', '.join(those[:_SHOWN])}{more}."] if those else []
    words = [str(word) for word in verifiers.Says if word != verifiers.Says.ABSENT]
    return [
        "Other verifiers on the same files, each on forgeries of the part that it checks:",
        "",
        *markdown.table(("verifier", "honest evidence", "forgeries", *words), table),
        "",
        *markdown.bullets(remarks),
        "",
        f"`{_OURS}` judges quote and log together. `testbed audit BUNDLE --rivals` prints the whole table.",
    ]


def _part(row: AttackOutcome) -> str | None:
    """Return what was forged, the quote or the log, by where the first finding that counts is."""
    if not row.attack.expect or REFUSED in row.attack.expect:
        return None
    places = (finding.where for finding in row.findings if not finding.informative)
    first = next(places, "")
    return next((part for prefix, part in _PARTS.items() if first.startswith(prefix)), None)
