"""What may excuse a file. No time is taken: the steps of a backtracking matcher are counted and held to the bound."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.attest.policy import lint as policy_lint
from testbed.attest.policy import steps as policy_steps
from testbed.attest.policy.lint import bound, compile_pattern, lint

GOOD = [
    "/var/cache/[a-z]+/.*",
    "/var/.*",
    "/var/lib/dpkg/info/.*\\.(list|md5sums|conffiles)",
    "/home/[^/]+/\\.cache/.*",
    "/tmp",
    "/tmp/x",
    "^/var/cache/.*$",
    "\\A/var/cache/.*\\Z",
    "/(var|opt)/cache/.*",
    "/[ab]/.*",
    "/var/a|/var/b",
    "/var/a|/var/ab",
    "/var/a|/opt/b|/srv/.*",
    "^/a/x|^/b/y",
    "/usr/share/.*",
    "/usr",
    "/usr/share",
    "/a/[0-9a-f]{64}\\.(x|y|zz)",
    "/a/\\d+\\.x",
    "/a/[^\\d]+",
    "/a/\\w+\\s\\W",
    "/a/.*?x",
    "/a/(?:x)?y",
    "/a/(?P<name>x|y)[0-9]{1,3}",
    "/a/.{0,10}.{0,10}x",
    "/a/x*y*z*w",
    "/a/[^/]*/[^/]*/[^/]*",
    "/a/(.+)?x",
    "/a/foo..bar",
    "/a/caf\\xc3\\xa9/.*",
    "/a\\n/.*",
    "/\\.x/.*",
    "/a/(x(y(z)?)?)?",
]
EVERYTHING = "(nearly) everywhere"
BEGIN = "begin each with /"
SHARED = "may need more than linear time; use `[^/]*` for the first"
GROUP = "only ? may follow a group"
BAD = [
    ("", "can begin with anything"),
    (".*", "can begin with anything"),
    ("^.*$", "can begin with anything"),
    ("(/.*)?", "can begin with anything"),
    (".*/foo", "can begin with anything"),
    ("[^x]*", "can begin with anything"),
    ("/", EVERYTHING),
    ("/.*", EVERYTHING),
    ("/.+", EVERYTHING),
    ("/[a-z]*/.*", EVERYTHING),
    ("/[a-c]/.*", EVERYTHING),
    ("/\\w+", EVERYTHING),
    ("/tmp.*", EVERYTHING),
    ("/u(sr)?/.*", EVERYTHING),
    ("//x/.*", EVERYTHING),
    ("/\\./.*", EVERYTHING),
    ("/var/a|/.*", EVERYTHING),
    ("(/var/a|/.*)", EVERYTHING),
    ("/(var/.*|.*)", EVERYTHING),
    ("/var/.*|.*", "can begin with anything"),
    ("/var/.*|foo", BEGIN),
    ("foo", BEGIN),
    ("usr/bin", BEGIN),
    ("/usr/.*", "second directory"),
    ("/usr/", "second directory"),
    ("/usr/b.*", "second directory"),
    ("/usr//.*", "second directory"),
    ("/usr|/usr/.*", "second directory"),
    ("/usr/\\./.*", "second directory"),
    ("/a/../b", ". or .."),
    ("/a/\\.\\./b", ". or .."),
    ("/a/./b", ". or .."),
    ("/a/\\.\\.", ". or .."),
    ("/a/$b", "an anchor in the middle"),
    ("/a/^b", "an anchor in the middle"),
    ("/a/x$|/b/y$", "an anchor in the middle"),
    ("/a/\\b.*", "an anchor in the middle"),
    ("(?i)/a/.*", "inline flags"),
    ("(?m)/a/.*", "inline flags"),
    ("(?s:/a/.*)", "inline flags"),
    ("/a/.*.*x", SHARED),
    ("/a/.*/b/.*", SHARED),
    ("/a/(.*)(.*)", SHARED),
    ("/a/.*[a-z]*", SHARED),
    ("/a/x*x+y", SHARED),
    ("/a/x*y?x*z", SHARED),
    ("/a/.*(b|c*d)", SHARED),
    ("/a/(.*x)?.*y", SHARED),
    ("/a/(a|a)*", GROUP),
    ("/a/(/[a-z]+)*", GROUP),
    ("/a/(x+)+y", GROUP),
    ("/a/(xy){2}", GROUP),
    ("/a/(a*)*", "can match the empty text"),
    ("/a/(x?)?", "can match the empty text"),
    ("/a/(x*|y*)z", "two branches can both match the empty text"),
    ("/a/(x)\\1", "a back-reference"),
    ("/a/(?P<n>x)(?P=n)", "a back-reference"),
    ("/a/(x)?(?(1)y|z)", "a back-reference"),
    ("/a/(?=x).*", "look-around"),
    ("/a/(?!x).*", "look-around"),
    ("/a/.*(?<=x)", "look-around"),
    ("/a/(?>x)b", "an atomic group"),
    ("/a/x*+b", "a possessive repeat"),
    ("/a/.{0,1000}.{0,1000}x", "too many steps"),
    ("/a/x{0,9999999}", "too many steps"),
    ("/a/" + "[xy]" * 7 + "z" * 1000, "1000 characters"),
    ("/a/" + "(" * 60 + ")" * 60, "50 groups"),
    ("/" + "[ab]" * 7 + "/.*", "more than 100 ways"),
    ("/a/\u00e9", "\\xNN"),
    ("/a/\t", "\\xNN"),
    ("/a b/.*", "an underscore"),
    ("/a/(", "not a regular expression"),
    ("/a/[[b]", "not a regular expression"),
    ("/a/x{99999999999999}", "not a regular expression"),
    ("/a/\\q", "not a regular expression"),
]


@pytest.mark.parametrize("pattern", GOOD)
def test_a_pattern_that_may_be(pattern: str) -> None:
    assert lint(pattern) is None
    assert compile_pattern(pattern).fullmatch(b"/etc/passwd") is None


@pytest.mark.parametrize(("pattern", "reason"), BAD)
def test_a_pattern_that_may_not_be(pattern: str, reason: str) -> None:
    assert reason in (lint(pattern) or "accepted")


def test_the_table_is_long_enough_to_mean_something() -> None:
    assert len({*GOOD, *(pattern for pattern, _ in BAD)}) >= 100


def test_what_a_later_python_may_have_is_refused() -> None:
    with pytest.raises(policy_steps.RefusedError, match="an unknown class"):
        policy_steps._category("CATEGORY_LATER")


class Matcher:
    """Tries each way in which a sequence can match, as a backtracking engine does at worst, and counts."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.steps = 0

    def run(self, items: list[Any]) -> bool:
        matched = False
        for end in self._sequence(items, 0):
            self.steps += 1
            matched |= end == len(self.text)
        return matched

    def _sequence(self, items: list[Any], at: int) -> Iterator[int]:
        if not items:
            yield at
            return
        for end in self._item(items[0], at):
            yield from self._sequence(items[1:], end)

    def _item(self, item: Any, at: int) -> Iterator[int]:
        self.steps += 1
        op, value = item
        if op.name == "BRANCH":
            for branch in policy_steps.branches(item):
                yield from self._sequence(branch, at)
        elif op.name in ("MAX_REPEAT", "MIN_REPEAT"):
            yield from self._repeat(value[0], value[1], policy_steps.flatten(value[2]), at)
        elif self._is_one(item, at):
            yield at + 1

    def _repeat(self, low: int, high: int, body: list[Any], at: int) -> Iterator[int]:
        if (low, high) == (0, 1) and (len(body) > 1 or body[0][0].name in ("BRANCH", "MAX_REPEAT", "MIN_REPEAT")):
            yield from self._sequence(body, at)
            yield at
            return
        end = at
        while end - at < high:
            self.steps += 1
            if not self._is_one(body[0], end):
                break
            end += 1
        yield from range(end, at + low - 1, -1)

    def _is_one(self, item: Any, at: int) -> bool:
        return at < len(self.text) and self.text[at] in policy_steps._characters(item)


def check(pattern: str, text: bytes) -> None:
    """Hold a match to the bound, and the matcher that counts to the one that is used."""
    matcher = Matcher(text)
    matched = matcher.run(policy_lint._parse(pattern))
    assert matched == (compile_pattern(pattern).fullmatch(text) is not None)
    assert matcher.steps <= bound(pattern).at(len(text)), (pattern, text)


@pytest.mark.parametrize("pattern", GOOD)
def test_an_accepted_pattern_keeps_to_its_bound_on_hostile_names(pattern: str) -> None:
    head = policy_lint._heads(policy_lint._parse(pattern))[0][0]
    for unit in (b"a", b"/", b"x", b"xy", b"a/", b"0", b"\n", b"\xff", b".", b"zw"):
        for end in (b"", b"!", b"x", b"\0"):
            check(pattern, head + unit * 200 + end)


def test_the_bound_is_linear_where_names_are_long() -> None:
    for pattern in GOOD:
        assert bound(pattern).at(2 * 4096) <= 2 * bound(pattern).at(4096)


ATOMS = st.sampled_from(["a", "b", "/", "[ab]", "[^a]", "[^/]", ".", "\\d", "\\D"])
REPEATS = st.sampled_from(["", "", "", "*", "+", "?", "{0,3}", "{2}", "*?", "{1,}", "??"])


def sequences(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(parts, min_size=1, max_size=4).map("".join)


def larger(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    inner = sequences(parts)
    return st.one_of(
        st.builds("({}){}".format, inner, st.sampled_from(["", "?"])),
        st.builds("({}|{})".format, inner, inner),
        st.builds("(?:{}|{})?".format, inner, inner),
    )


PARTS = st.recursive(st.builds("{}{}".format, ATOMS, REPEATS), larger, max_leaves=6)
PATTERNS = sequences(PARTS).map("/a/{}".format)
TEXTS = st.builds(
    lambda unit, times, end: b"/a/" + unit * times + end,
    st.binary(min_size=1, max_size=4).map(lambda raw: bytes(b"ab/1\n"[byte % 5] for byte in raw)),
    st.integers(0, 40),
    st.sampled_from([b"", b"a", b"/", b"1", b"\n", b"aab", b"!"]),
)


@given(pattern=PATTERNS, texts=st.lists(TEXTS, min_size=1, max_size=4))
@settings(max_examples=400, deadline=None)
def test_whatever_is_accepted_keeps_to_its_bound(pattern: str, texts: list[bytes]) -> None:
    if lint(pattern) is None:
        for text in texts:
            check(pattern, text)


@given(pattern=st.text(st.sampled_from("/abu sr.*+?()[]{}|^$\\0,1-:=!<>P\n\u00e9"), max_size=40))
@settings(max_examples=400, deadline=None)
def test_any_text_is_accepted_or_refused_with_a_reason(pattern: str) -> None:
    reason = lint(pattern)
    if reason is None:
        for name in (b"/etc/shadow", b"/lib/x.so", b"bin/sh", b"", b"/"):
            assert re.compile(pattern.encode()).fullmatch(name) is None or pattern.startswith(("/", "(", "^", "["))
    else:
        assert len(reason) > 20
