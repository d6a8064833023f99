"""All attacks on evidence, by name."""

from __future__ import annotations

import difflib

from testbed.attest.mutate.attacks import (
    answers,
    beats,
    bundles,
    drift,
    framing,
    identities,
    images,
    kernels,
    keys,
    launches,
    logs,
    order,
    payloads,
    policies,
    quotes,
    refusals,
    registers,
    rooted,
    saved,
    selections,
    signed,
    stretches,
    verities,
    version_2,
)
from testbed.attest.mutate.engine.model import EvidenceAttack
from testbed.errors import SpecError

_MODULES = (
    quotes,
    answers,
    keys,
    selections,
    logs,
    framing,
    order,
    rooted,
    payloads,
    launches,
    version_2,
    drift,
    verities,
    identities,
    beats,
    stretches,
    kernels,
    bundles,
    saved,
    policies,
    signed,
    images,
    registers,
    refusals,
)
ATTACKS: tuple[EvidenceAttack, ...] = tuple(attack for module in _MODULES for attack in module.ATTACKS)


def find(name: str) -> EvidenceAttack:
    """Return an attack. Raises ``SpecError`` with similar names."""
    for attack in ATTACKS:
        if attack.name == name:
            return attack
    near = difflib.get_close_matches(name, [attack.name for attack in ATTACKS]) or ["no similar name"]
    raise SpecError(
        f"attack: expected the name of an attack, got {name!r}", f"similar: {', '.join(near)}; --list shows all"
    )


def table() -> str:
    """Return all attacks as the table of docs/attacks.md."""
    lines = ["| attack | case | power | what is done | expected |", "|---|---|---|---|---|"]
    for attack in ATTACKS:
        summary = attack.summary.replace("|", "\\|")
        kinds = " ".join(f"`{kind}`" for kind in sorted(attack.expect)) or "nothing"
        lines.append(f"| `{attack.name}` | {attack.catalogue} | {attack.power} | {summary} | {kinds} |")
    return "\n".join(lines) + "\n"
