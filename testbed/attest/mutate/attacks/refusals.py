"""Policies that a verifier must reject: they would excuse files, or keep it busy forever."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from testbed.attest.mutate.attacks.policies import GOOD, Edit, judged, knowing_evil, setting, with_policy
from testbed.attest.mutate.engine.lines import as_it_is, needs_containers
from testbed.attest.mutate.engine.model import REFUSED, Forged, Honest, by_files


def _with_text(honest: Honest, edit: Callable[[bytes], bytes]) -> Forged:
    forged = judged(honest, as_it_is(honest))
    assert forged.policy is not None
    return replace(forged, policy=edit(forged.policy))


_WORDS: tuple[tuple[str, str, str, Edit, tuple[str, ...]], ...] = (
    ("schema-two", "T70", "schema 2", setting(schema=2), (REFUSED,)),
    ("image-unnamed", "T70", "an image that does not exist", setting(containers={"*": ["nobody"]}), (REFUSED,)),
    ("key-unknown", "T70", "a key that does not exist", setting(trusted=True), (REFUSED,)),
    ("digest-upper-case", "T70", "a digest in upper case", knowing_evil(digest=GOOD.upper()), (REFUSED,)),
    ("digest-short", "T70", "a digest of 31 bytes", knowing_evil(digest=GOOD[:-2]), (REFUSED,)),
)
_EXCLUDES = (
    ("all", "everything", ".*"),
    ("all-anchored", "everything, with anchors", "^.*$"),
    ("all-paths", "every path", "/.*"),
    ("all-by-class", "everything, by a character class", "[^x]*"),
    ("all-by-choice", "everything, by an alternative", "/var/cache/x|.*"),
    ("any-place", "a name at any place", ".*/evil"),
    ("optional-start", "an optional start", "(/var/cache/)?.*"),
    ("catastrophic", "nested repeats", "/var/cache/(a+)+"),
    ("catastrophic-choice", "a repeated alternative of equal parts", "/var/cache/(a|a)*b"),
    ("polynomial", "many repeats in a row", "/var/cache/" + ".*x" * 12),
    ("back-reference", "a back-reference", "/var/cache/(a*)\\1"),
    ("look-ahead", "a look-ahead", "/var/cache/(?=a).*"),
    ("flags", "a flag that changes what matches", "(?i)/var/cache/.*"),
    ("no-regex", "text that is not a regular expression", "/var/cache/("),
    ("long", "ten thousand characters", "/var/cache/" + "a" * 10_000),
)
_TEXTS: tuple[tuple[str, str, Callable[[bytes], bytes]], ...] = (
    ("empty", "no bytes", lambda _: b""),
    ("key-twice", "a key twice", lambda data: data.replace(b"{", b'{"schema": 1, ', 1)),
    ("nan", "NaN", lambda data: data.replace(b'"schema": 1', b'"schema": NaN', 1)),
    ("nested", "100 000 nested lists", lambda _: b"[" * 100_000),
    ("not-utf8", "a byte that is not UTF-8", lambda data: data + b"\xff"),
)

_row = partial(by_files, applies=needs_containers)

ATTACKS = (
    *(
        _row(f"policy-{n}", row, f"a policy file: {summary}", partial(with_policy, edit=e), *x)
        for n, row, summary, e, x in _WORDS
    ),
    *(
        _row(
            f"policy-exclude-{name}",
            "T70",
            f"a policy that excludes {summary}",
            partial(with_policy, edit=setting(exclude=[pattern])),
            REFUSED,
        )
        for name, summary, pattern in _EXCLUDES
    ),
    *(
        _row(f"policy-{name}", "T70", f"a policy file: {summary}", partial(_with_text, edit=edit), REFUSED)
        for name, summary, edit in _TEXTS
    ),
)
