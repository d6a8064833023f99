"""A user's own IMA policy as a measurer: its lines are checked, and nothing is promised about its entries."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from testbed.errors import SpecError
from testbed.measurers import Measurer

PREFIX = "ima-policy-"
# The kernel takes one write of less than a page (ima_write_policy() in security/integrity/ima/ima_fs.c).
MOST_BYTES = 4095
_STEM = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
# The first words of rules, and words of a rule that have no value (Documentation/ABI/testing/ima_policy).
_ACTIONS = ("measure", "dont_measure", "appraise", "dont_appraise", "audit", "hash", "dont_hash")
_FLAGS = ("permit_directio",)
_PAIR = re.compile(r"[a-z_]+(=|[<>])\S+")
_MEASURES = "measure"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImaPolicy:
    """The rules of one policy, in order. ``name``: of the measurer that loads them."""

    name: str
    lines: tuple[str, ...]


def read(path: Path) -> ImaPolicy:
    """Read a file of IMA policy lines; comments and empty lines are left out. Raises ``SpecError``."""
    stem = path.stem.lower()
    if not _STEM.fullmatch(stem):
        hint = "rename the file: letters, digits, `.`, `_` and `-`, at most 40, a letter or digit first"
        raise SpecError(f"{path}: no name for a measurer can be made of {path.stem!r}", hint)
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: expected UTF-8, got byte 0x{error.object[error.start]:02x} at {error.start}",
                        "save the policy as plain text") from error  # fmt: skip
    except (OSError, ValueError) as error:  # a zero byte in the path is a ``ValueError``
        why = (error.strerror if isinstance(error, OSError) else None) or f"{error}"
        raise SpecError(f"{path}: cannot be read: {why}", "give the path of a file of IMA rules") from error
    rules = {number: line.strip() for number, line in enumerate(text.splitlines(), 1)}
    kept = {number: line for number, line in rules.items() if line and not line.startswith("#")}
    for number, line in kept.items():
        _check(f"{path}: line {number}", line)
    policy = ImaPolicy(name=f"{PREFIX}{stem}", lines=tuple(kept.values()))
    check(policy, str(path))
    return policy


def check(policy: ImaPolicy, where: str) -> None:
    """Raise ``SpecError`` if the kernel would not take these rules, or they measure nothing."""
    if not policy.lines:
        raise SpecError(f"{where}: expected rules of an IMA policy, got none", "for example: measure func=BPRM_CHECK")
    size = sum(len(line.encode()) + 1 for line in policy.lines)
    if size > MOST_BYTES:
        hint = "the kernel takes a policy by one write of less than a page: remove rules"
        raise SpecError(f"{where}: expected at most {MOST_BYTES} bytes of rules, got {size}", hint)
    for line in policy.lines:
        _check(where, line)
    if not any(line.split()[0] == _MEASURES for line in policy.lines):
        hint = "add one, for example: measure func=BPRM_CHECK; without it the log stays empty"
        raise SpecError(f"{where}: expected a rule that begins with `measure`, got none", hint)


def measurer(name: str, policies: Iterable[ImaPolicy]) -> Measurer:
    """Return the measurer of a user's policy.

    Its lines are those of ``policies``. Judging needs no lines: nothing is promised about its entries.
    """
    lines = next((policy.lines for policy in policies if policy.name == name), ())
    return Measurer(
        name=name, summary="an IMA policy of your own; its entries are verified, not expected", policy=lines
    )


def _check(where: str, line: str) -> None:
    action, *conditions = line.split()
    if action not in _ACTIONS:
        raise SpecError(f"{where}: expected a rule, got {line[:80]!r}", f"a rule begins with {', '.join(_ACTIONS)}")
    for word in conditions:
        if word not in _FLAGS and not _PAIR.fullmatch(word):
            raise SpecError(f"{where}: expected KEY=VALUE, got {word[:80]!r}", "for example func=BPRM_CHECK")
