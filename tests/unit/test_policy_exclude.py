"""Many patterns: the same answer as each of them gives alone, and the same refusals."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_policy_lint import BAD, GOOD

from testbed.attest.policy import exclude, lint
from testbed.attest.policy.exclude import Excludes
from testbed.attest.policy.steps import Bound, RefusedError

WORDS = st.sampled_from(
    ["var", "usr", "usrx", "lib", "app1", "app-2.log", "a_b", "x", "long_word_of_letters", "\\.x", "..", "."]
)
SETS = st.sampled_from(
    ["[a-z]", "[^/]", "[/bcdefg/]", "[]/abcdef/]", "[\\]/abcdef/]", "[^]x/]", "\\d", "\\w", ".", "u", "sr"]
)
REPEATS = st.sampled_from(["", "*", "+", "?", "{2}", "{0,3}", "*?"])
GROUPS = st.sampled_from(
    ["(lib|cache)", "(?:a|)", "(log|log2)?", "(usr|var)", "([)]/abcdef/x)", "(a(b)c)", "(\\.gz)?", "(?:x)y*"]
)
PARTS = st.one_of(
    WORDS, WORDS, st.just("/"), st.just("/"), st.builds("{}{}".format, SETS, REPEATS), GROUPS, st.sampled_from("|^$-_")
)
PATTERNS = st.builds(
    "{}{}".format,
    st.sampled_from(["/var/", "/usr/lib/", "/usr/", "/(var|opt)/", "/v", "/srv", "^/var/", "/var/*", "/a/x|/usr/"]),
    st.lists(PARTS, max_size=8).map("".join),
)
PIECES = [
    b"/var",
    b"/usr",
    b"/opt",
    b"/lib",
    b"/cache",
    b"/app1",
    b"/app2",
    b"/x",
    b"/",
    b"a",
    b"b1",
    b"log",
    b".gz",
    b"..",
    b"\n",
]
NAMES = st.lists(st.sampled_from(PIECES), max_size=6).map(b"".join)


def accepted(patterns: list[str]) -> Iterator[str]:
    for pattern in patterns:
        if lint.lint(pattern) is None:
            yield pattern


def slowly(patterns: list[str], name: bytes) -> bool:
    """Each pattern on its own, compiled by Python alone."""
    if len(name) > 4096 or ".." in name.decode().split("/"):
        return False
    return any(re.compile(pattern.encode()).fullmatch(name) for pattern in patterns)


def excludes(patterns: list[str]) -> Excludes:
    made = Excludes()
    for pattern in patterns:
        made.add(pattern)
    return made


@given(st.lists(PATTERNS | st.sampled_from(GOOD), max_size=5), st.lists(NAMES, max_size=8))
@example(["/var/(lib|cache)/app1/[a-z]+\\.x"], [b"/var/cache/app1/ab.x", b"/var/lib/app1/.x", b"/var/log/app1/a.x"])
@example(["/var/(?:a|)b1", "/var/x*"], [b"/var/ab1", b"/var/b1", b"/var/", b"/var/xx"])
@example(["/srv"], [b"/srv", b"/srv/", b"srv", b""])
@example(["/var/.*"], [b"/var/../x", b"/var/..x", b"/var/" + b"x" * 4092, b"/var/" + b"x" * 4091])
@settings(max_examples=300, deadline=None)
def test_all_patterns_give_the_answer_of_each(patterns: list[str], names: list[bytes]) -> None:
    good = list(accepted(patterns))
    many = excludes(good)
    assert len(many) == len(good)
    for name in [*names, *(name + b"/x" for name in names)]:
        assert many.match(name) == slowly(good, name), (good, name)


@given(PATTERNS)
@example("/var/x|/usr/abcdefgh")
@example("/var/[]/abcdefgh/]x")
@example("/var/abcdefgh*h*x")
@example("/var/" + "x{0,50}abcdefg" * 12)
@settings(max_examples=500, deadline=None)
def test_a_pattern_is_refused_as_it_is_alone(pattern: str) -> None:
    reason = lint.lint(pattern)
    if reason is None:
        heads = lint.heads(pattern)
        assert all(head.startswith(b"/") for head in heads)
    else:
        with pytest.raises(RefusedError) as caught:
            lint.heads(pattern)
        assert str(caught.value) == reason


@given(PATTERNS)
@settings(max_examples=500, deadline=None)
def test_a_shape_is_accepted_only_if_its_pattern_is(pattern: str) -> None:
    shape = lint._shape(pattern)
    if shape is not None and lint.lint(shape) is None:
        assert lint.lint(pattern) is None
        assert lint.bound(pattern).at(4096) <= lint.bound(shape).at(4096)


@pytest.mark.parametrize(("pattern", "reason"), BAD)
def test_no_shape_admits_a_bad_pattern(pattern: str, reason: str) -> None:
    with pytest.raises(RefusedError, match=re.escape(reason)):
        Excludes().add(pattern)


def test_many_patterns_are_checked_by_their_shape_and_compiled_when_they_are_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checked: list[str] = []
    compiled: list[str] = []
    check = lint._check

    def noted_check(pattern: str, *, anywhere: bool = False) -> tuple[tuple[bytes, ...], Bound]:
        checked.append(pattern)
        return check(pattern, anywhere=anywhere)

    def noted_compile(pattern: str) -> re.Pattern[bytes]:
        compiled.append(pattern)
        return lint.compile_pattern(pattern)

    lint._lint_shape.cache_clear()
    monkeypatch.setattr(lint, "_check", noted_check)
    monkeypatch.setattr(exclude, "compile_pattern", noted_compile)
    many = excludes([f"/var/(lib|cache)/package_{n}/[a-z]+\\.log" for n in range(10_000, 12_000)])
    assert len(many) == 2000
    assert len(checked) <= 2
    assert not any(many.match(b"/var/lib/other/%d.log" % n) for n in range(1000))
    assert compiled == []
    assert many.match(b"/var/lib/package_11000/a.log")
    assert not many.match(b"/var/lib/package_11000/1.log")
    assert compiled == ["/var/(lib|cache)/package_11000/[a-z]+\\.log"]
