"""Attacks on a container's identity: another's id in a nested cgroup or at another path, or one id used twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from testbed.attest.finding import FindingKind as Kind
from testbed.attest.log.ima import Entry
from testbed.attest.mutate.attacks.rooted import added
from testbed.attest.mutate.attacks.version_2_entries import ID, file, loss, start, with_policy
from testbed.attest.mutate.engine.lines import ForgedMachine, needs_containers, quote
from testbed.attest.mutate.engine.model import Forged, Honest, by_root

_OUTER = "5c" * 32
_SEQ = 0x6666  # the number of container 0
_HOST = f"/machine.slice/libpod-{ID}.scope/container"
_OUTSIDE = f"/machine.slice/libpod-{_OUTER}.scope/container"
_INSIDE = f"{_OUTSIDE}/libpod-{ID}.scope"
_BEFORE = 2
Lines = tuple[Entry, ...]

# The outer container is number 0, the one inside it number 1; the policy knows the victim's id and files.
_NESTED = (start(path=_OUTSIDE), start(1, path=_INSIDE, parent=_SEQ), file(1))
_DEEPER = (*_NESTED[:2], start(2, path=f"{_INSIDE}/{'4b' * 32}", parent=_SEQ + 1), file(2))
_NAMED: Mapping[str, Any] = {"containers": {ID: ["second"], _OUTER: ["image"]}}
_RULE: Mapping[str, Any] = {"containers": {_OUTER: ["image"], f"{_OUTER}/*": ["second"]}}
_ANY_RULE: Mapping[str, Any] = {"containers": {ID: ["second"], "*/*": ["second"]}}
_JUDGED: tuple[tuple[str, str, Lines, Mapping[str, Any], tuple[str, ...]], ...] = (
    ("own", "no attack: a container with its own id", (start(path=_HOST), file()), _NAMED, ()),
    ("nested", "a container inside another, named like a victim", _NESTED, _NAMED, (Kind.UNKNOWN_FILE,)),
    (
        "nested-deeper",
        "a container named like a victim, two levels inside another",
        _DEEPER,
        _NAMED,
        (Kind.UNKNOWN_FILE,),
    ),
    ("nested-rule", "no attack: a rule for what runs inside that container", _NESTED, _RULE, ()),
    (
        "nested-rule-deeper",
        "no attack: a rule for what runs inside that container holds at all levels",
        _DEEPER,
        _RULE,
        (),
    ),
    ("nested-rule-any", "no attack: a rule for what runs inside any container", _NESTED, _ANY_RULE, ()),
    (
        "nested-by-path",
        "a cgroup below that of another container, and no parent reported",
        (_NESTED[0], start(1, path=_INSIDE), file(1)),
        _NAMED,
        (Kind.UNKNOWN_FILE,),
    ),
    (
        "nested-elsewhere",
        "started from another container, in a cgroup that looks like the host's",
        (_NESTED[0], start(1, path=_HOST, parent=_SEQ), file(1)),
        _NAMED,
        (Kind.UNKNOWN_FILE,),
    ),
    (
        "nested-of-nobody",
        "started from a container that is not in the log",
        (start(1, path=_HOST, parent=0x1111), file(1)),
        _NAMED,
        (Kind.UNKNOWN_FILE, Kind.MISSING),
    ),
    (
        "place",
        "an engine's name in a cgroup path that the engine does not use",
        (start(path=f"/evil.slice/libpod-{ID}.scope"), file()),
        _NAMED,
        (Kind.UNKNOWN_FILE,),
    ),
    (
        "place-listed",
        "no attack: a cgroup path that `cgroups` lists",
        (start(path=f"/evil.slice/libpod-{ID}.scope"), file()),
        {**_NAMED, "cgroups": ["/evil.slice"]},
        (),
    ),
    (
        "before",
        "a container that started before the measurer, in a cgroup that containers can make",
        (start(path=f"/testbed/x/{ID}", flags=_BEFORE), file()),
        _NAMED,
        (Kind.UNKNOWN_FILE, Kind.UNKNOWN_WINDOW),
    ),
)
_AGAIN = (start(path=_HOST), file(), start(1, path=_HOST), file(1))
_ELSEWHERE = (start(path=_HOST), file(), start(1, path=f"/testbed/{ID}"), file(1))
_BESIDE = (*_AGAIN[:2], start(1, path=_OUTSIDE), start(2, path=_INSIDE, parent=_SEQ + 1), file(2))
_NOTED: Mapping[str, Any] = {**_NAMED, "on": {"restart": "note"}}
_SHARED: tuple[tuple[str, str, Lines, Mapping[str, Any], tuple[str, ...]], ...] = (
    ("shared", "two containers with one id", _AGAIN, _NAMED, (Kind.AMBIGUOUS_IDENTITY,)),
    ("restart", "a container that is started again, which the policy tolerates", _AGAIN, _NOTED, ()),
    (
        "restart-elsewhere",
        "a tolerated restart, but in another cgroup",
        _ELSEWHERE,
        _NOTED,
        (Kind.AMBIGUOUS_IDENTITY,),
    ),
    (
        "restart-alive",
        "a tolerated restart, but the first container still runs",
        (*_AGAIN, file(route=2)),
        _NOTED,
        (Kind.AMBIGUOUS_IDENTITY,),
    ),
    (
        "restart-loss",
        "a tolerated restart; a late loss entry of the first container does not change that",
        (*_AGAIN, loss()),
        _NOTED,
        (Kind.UNKNOWN_WINDOW,),
    ),
    ("nested-not-shared", "no attack: a nested name does not make the victim's ambiguous", _BESIDE, _ANY_RULE, ()),
)
_SAVED: tuple[tuple[str, str, Lines, Lines, Mapping[str, Any], tuple[str, ...]], ...] = (
    (
        "shared",
        "a second container with an id that the state knows",
        _AGAIN[:2],
        _AGAIN[2:],
        _NAMED,
        (Kind.AMBIGUOUS_IDENTITY,),
    ),
    ("nested", "a container inside one that the state knows", _NESTED[:1], _NESTED[1:], _NAMED, (Kind.UNKNOWN_FILE,)),
    (
        "nested-known",
        "a file of a nested container that the state knows",
        _NESTED[:2],
        _NESTED[2:],
        _NAMED,
        (Kind.UNKNOWN_FILE,),
    ),
    (
        "restart-alive",
        "of two containers with one id, the first still runs",
        _AGAIN,
        (file(route=2),),
        _NOTED,
        (Kind.AMBIGUOUS_IDENTITY,),
    ),
    (
        "restart",
        "no attack: of two containers with one id, the second still runs",
        _AGAIN,
        (file(1, route=2),),
        _NOTED,
        (),
    ),
)


def _judged(honest: Honest, lines: Lines, keys: Mapping[str, Any]) -> Forged:
    return with_policy(honest, added(honest, *lines), **keys)


def _saved(honest: Honest, before: Lines, after: Lines, keys: Mapping[str, Any]) -> Forged:
    first = [*honest.covered(), *before]
    now = quote(honest, ForgedMachine(lines=[*first, *after], clock=60_000))
    then = with_policy(honest, quote(honest, ForgedMachine(lines=first)), **keys)
    return replace(with_policy(honest, now, **keys), since=then)


_row = partial(by_root, applies=needs_containers)

ATTACKS = (
    *(
        _row(f"identity-{name}", "T52", f"identity: {summary}", partial(_judged, lines=lines, keys=keys), *expect)
        for name, summary, lines, keys, expect in (*_JUDGED, *_SHARED)
    ),
    *(
        _row(
            f"saved-identity-{name}",
            "T68",
            f"identity: {summary}",
            partial(_saved, before=before, after=after, keys=keys),
            *expect,
        )
        for name, summary, before, after, keys, expect in _SAVED
    ),
)
