"""Logs that people pasted: what is read of them is what the slow reader reads of the log before, or is named."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import evidence as b
import pastes
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_ascii import as_text

from testbed.attest.log import pasted
from testbed.attest.log.ascii import Line, damaged
from testbed.attest.log.content import read_content
from testbed.attest.log.text import read_lines
from testbed.errors import EvidenceError

SIGNATURE = b"\x03\x02\x04" + bytes(range(256))
LOG = as_text(
    b"".join(
        (
            b.ima_ng("boot_aggregate", b""),
            b.ima_sig("/usr/bin/id", b"id"),
            b.ima_sig("/usr/share/a name with blanks", b"a"),
            b.ima_ng("/usr/lib/x86_64-linux-gnu/libc++_1.so.6", b"c"),
            b.ima_sig("/usr/bin/signed", b"s", SIGNATURE),
            b.ima_buf("kexec-cmdline", b"root=/dev/vda1"),
            b.ima_buf("dm_table_load", b""),
            b.ima_ng("/usr/bin/last", b"l"),
        )
    )
)
GOOD = as_text(b.ima_ng("/usr/bin/x", b"x"))
SIGNED = as_text(b.ima_sig("/usr/bin/x", b"x"))
VIOLATION = as_text(b.violation("/usr/bin/v"))


def found(data: bytes) -> tuple[list[Line], list[pastes.Read]]:
    """Return all lines, and what was read, as the slow reader says it. Of an impossible PCR nothing is read."""
    lines = list(read_lines(pasted.decode(data)[0]))
    read = []
    for line in lines:
        if line.entry is not None and line.fits and line.entry.pcr < 24:
            one = line.entry
            read.append(pastes.Read(one.pcr, one.digest, one.template, b"" if one.violation else one.data))
    return lines, read


def named(data: bytes) -> bool:
    """Whether the command ends with another status than 0."""
    try:
        log = read_content("log", *pasted.decode(data))
    except EvidenceError:
        return True
    return bool(log.damaged or log.findings)


def is_part(some: Iterable[pastes.Read], of: Iterable[pastes.Read]) -> bool:
    left = iter(of)
    return all(one in left for one in some)


def nothing_in_silence(text: bytes, data: bytes, times: int = 1) -> None:
    """What is read was in the log, in its order; and if something is missing, the command says so."""
    expected = pastes.slowly(text) * times
    _, read = found(data)
    assert is_part(read, expected)
    if read != expected:
        assert named(data)


def test_the_slow_reader_reads_what_the_kernel_wrote() -> None:
    assert found(LOG)[1] == pastes.slowly(LOG)
    assert len(pastes.slowly(LOG)) == 8
    assert not named(LOG)
    with pytest.raises(AssertionError):
        pastes.slowly(LOG.replace(b"signed", b"Signed"))


@pytest.mark.parametrize("change", pastes.WHOLE)
def test_what_only_a_tool_changed_is_read_in_full(change: str) -> None:
    data = pastes.WHOLE[change](LOG)
    expected = pastes.slowly(LOG)
    lines, read = found(data)
    assert read == expected * (2 if change == "two logs" else 1)
    assert not named(data)
    harmless = {"in fences", "prompts", "UTF-16", "UTF-16, big-endian", "UTF-16 without a mark", "two logs"}
    harmless |= {"blank lines", "Latin-1 to UTF-8"}
    assert any(line.cleaned for line in lines) == (change not in harmless)


@pytest.mark.parametrize("change", [*pastes.LOSSY, *pastes.PCR_LOST])
def test_what_lost_something_is_named(change: str) -> None:
    data = (pastes.LOSSY | pastes.PCR_LOST)[change](LOG)
    _, read = found(data)
    assert is_part(read, pastes.slowly(LOG))
    whole = {"blanks collapsed", "not UTF-8", "ASCII alone", "all in upper case"}
    assert (read == pastes.slowly(LOG)) == (change in whole)
    assert named(data) == (change not in whole)


@pytest.mark.parametrize("place", range(1, 120, 3))
def test_a_text_that_ends_in_a_line(place: int) -> None:
    for change in (lambda text: text, pastes.before("> "), pastes.numbered("%6d\t"), pastes.numbered("%d:")):
        nothing_in_silence(LOG, change(pastes.cut(place)(LOG)))
        nothing_in_silence(LOG, change(pastes.cut(place)(LOG) + b"\n"))


ODD = [
    b"a",
    b"/b",
    b"A",
    b" ",
    b"  ",
    b"\t",
    b"\r",
    b"&amp;",
    b"&gt;",
    b"> ",
    b"'",
    b'"',
    b"|",
    b",",
    b"\\",
    b"=20",
    b"$",
    b"...",
    b"10 ",
    b"f" * 40,
    b"ima-ng ",
    b"sha256:",
    b"\x1b[0m",
    b"\xe9",
    "\u00e9\u2026\u00a0\u200b".encode(),
]
odd_names = st.lists(st.sampled_from(ODD), max_size=6).map(lambda parts: b"/" + b"".join(parts))
last_fields = st.sampled_from([b"", b"", b"\x03\x02", b"\x03" + bytes(range(60))])


@st.composite
def logs(draw: st.DrawFn) -> bytes:
    """A log of some entries with names that look like what tools add; some are violations."""
    log = b""
    for name, last, kind in draw(
        st.lists(st.tuples(odd_names, last_fields, st.integers(0, 3)), min_size=1, max_size=4)
    ):
        data = b.digest_field(hashlib.sha256(name).digest()) + b.field(name + b"\0")
        pcr, digest = draw(st.sampled_from([10, 11, 9])), bytes(20) if kind == 3 else None
        template = (b"ima-ng", b"ima-sig", b"ima-buf", b"ima-sig")[kind]
        # A violation has no signature.
        rest = (b"", b.field(last), b.field(last), b.field(b""))[kind]
        log += b.entry(pcr, template, data + rest, digest=digest)
    return as_text(log)


places = st.integers(0, 4000)
# A blank in front of a line that lost the first digit of its PCR makes a line that is as the kernel prints it.
CHANGES = {name: change for name, change in (pastes.WHOLE | pastes.LOSSY).items() if name != "a diff, the same"}
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


@QUICK
@given(logs(), st.lists(st.sampled_from(sorted(CHANGES)), min_size=1, max_size=3))
def test_changes_one_after_the_other(text: bytes, changes: list[str]) -> None:
    data = text
    for change in changes:
        data = CHANGES[change](data)
    nothing_in_silence(text, data, 2 ** changes.count("two logs"))


@QUICK
@given(logs(), st.sampled_from(sorted(CHANGES)), st.sampled_from(sorted(pastes.PCR_LOST)))
def test_a_change_and_then_the_pcr_is_lost(text: bytes, change: str, last: str) -> None:
    data = pastes.PCR_LOST[last](CHANGES[change](text))
    # From line 10 on, nothing distinguishes the number that `less` prints from a PCR.
    if "less" not in last or data.count(b"\n") < 10:
        nothing_in_silence(text, data, 1 + (change == "two logs"))


@QUICK
@given(
    logs(),
    st.builds(pastes.lost, places, st.integers(1, 9))
    | st.builds(pastes.put, places, st.sampled_from([one for one in ODD if one != b"10 "]))
    | st.builds(pastes.cut, places),
    # If an entry is cut and its beginning joined to a violation without a blank, it is a part of that one's name.
    st.sampled_from(sorted(set(CHANGES) - {"line breaks lost"})),
)
def test_a_character_and_then_everything(text: bytes, first: pastes.Change, change: str) -> None:
    nothing_in_silence(text, CHANGES[change](first(text)), 1 + (change == "two logs"))


STAGES = (
    ("cat -n", "grep -n", "less -N", "dmesg", "colours", "prompts", "cat -A"),
    ("blanks lost at the end", "tabs between the columns", "no-break spaces", "dashes"),
    ("quoted", "quoted twice", "indented", "a diff, added", "in fences", "blank lines"),
    ("CRLF", "entities", "byte order mark", "UTF-16"),
)


@QUICK
@given(st.tuples(*(st.sampled_from(stage) for stage in STAGES)))
def test_what_a_log_goes_through_on_its_way_is_undone(changes: tuple[str, ...]) -> None:
    """A screen, a program, a mail, a file: each changes the whole log."""
    data = LOG
    for change in changes:
        data = pastes.WHOLE[change](data)
    assert found(data)[1] == pastes.slowly(LOG)


def problem_of(data: bytes) -> str:
    (line,) = [line for line in read_lines(data) if line.problem is not None]
    return str(line.problem)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (GOOD[:30] + b"... ima-ng sha256:5dd8db... /usr/bin/x\n", "the whole line, got '...' at column 31: a part"),
        (GOOD[:-5] + b"...\n", "the whole line, got '...' at column 130"),
        (GOOD[:-1] + "\ufffd\n".encode(), "the bytes of the name, got U+FFFD at column 134"),
        (GOOD[1:], "a PCR in two columns: no digest covers it, so it is not guessed, got '0'"),
        (GOOD[3:], "a PCR in two columns: no digest covers it, so it is not guessed, got none"),
        (b"     7\t" + GOOD[3:], "a PCR in two columns: no digest covers it, so it is not guessed, got '7'"),
        (b"> " + VIOLATION, "a violation exactly as the kernel prints it, because it has no digest"),
        (b"> " + GOOD.replace(b"/x", b"/y"), "that of the fields, got"),
        (GOOD.replace(b"/x", b"/y"), "that of the fields, got"),
        (b"> " + GOOD[:20] + GOOD[21:], "40 hex digits of SHA-1, got 39"),
        (GOOD[:-1] + GOOD, "that of the fields, got"),
        (GOOD[:-1] + b" " + GOOD.replace(b"/x", b"/y"), "one line for each entry, got 2 in one line"),
        (GOOD + b"10 74", "got '10 74'; the text ends here"),
        (GOOD + b"1", "got '1'; the text ends here"),
        (b"> " + GOOD + b"> 1\n", "PCR, template digest, template and fields, got '> 1'"),
        (b"hash " + b"ab" * 20 + b" x\n", "a PCR in two columns"),
        (b"hash " + b"ab" * 20 + b"\n", "PCR, template digest, template and fields, got 'hash abab"),
        (b"see ima-ng 748a above\n", "PCR, template digest, template and fields, got 'see ima-ng"),
        (b"> " + GOOD.replace(b"ima-ng", b"ima-xx"), "a template of the kernel or a list of its fields"),
    ],
)
def test_why_a_line_was_not_read(data: bytes, words: str) -> None:
    assert words in problem_of(data)
    assert named(data)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[root@host ~]# cat /sys/kernel/security/integrity/ima/ascii_runtime_measurements",
        b"$ grep ima-ng /sys/kernel/security/ima/ascii_runtime_measurements | tail -n 20",
        b"```",
        b"--",
        b"...",
        b"On Mon, 30 Nov 2026 at 10:06, somebody wrote:",
        b"+++ b/measurements.txt",
        b"@@ -1,7 +1,7 @@",
        b"| PCR | digest | template | file digest | name |",
        b"|-----|--------|----------|-------------|------|",
    ],
)
def test_what_stands_around_a_log_is_no_damage(line: bytes) -> None:
    for data in (line + b"\n" + GOOD, GOOD + line, GOOD + line + b"\n" + GOOD):
        lines, read = found(data)
        assert len(read) == data.count(GOOD)
        assert not named(data)
        assert not any(map(damaged, lines))


@pytest.mark.parametrize("change", sorted(pastes.WHOLE))
@pytest.mark.parametrize("place", [0, 1, 2, 3, 4])
def test_a_cut_line_is_named_after_every_change(change: str, place: int) -> None:
    text = GOOD * 2
    nothing_in_silence(text, pastes.WHOLE[change](pastes.cut(place)(text)), 1 + (change == "two logs"))


def test_a_pcr_of_one_digit_needs_its_blank_or_a_tab_before_it() -> None:
    nine = as_text(b.ima_sig("/usr/bin/nine", b"9", pcr=9))
    for data in (nine, b"     1\t" + nine, nine.replace(b" \n", b"\r\n"), b"\xef\xbb\xbf" + nine):
        assert found(data)[1] == pastes.slowly(nine)
        assert not named(data)
    for front in (b">", b"> ", b"12:", b"    ", b"      1 "):
        assert found(front + nine)[1] == []
        assert named(front + nine)


def test_numbers_of_lines_are_not_pcrs() -> None:
    """A log without its PCRs, numbered from 10 on, would otherwise be one of PCRs 10 to 14."""
    lines = [b"%7d %s" % (number, GOOD[3:]) for number in range(10, 15)]
    log = read_content("log", b"".join(lines))
    (finding,) = log.findings
    assert finding.where == "log: line 3 at byte 278"
    assert finding.got == "11 and 12 in the lines before and here: numbers of lines"
    assert not named(lines[0] + lines[1])
    assert not named(lines[0] + lines[1] + lines[1])
    assert not named(b" ".join(line.rstrip(b"\n") for line in [GOOD] * 4) + b"\n")
    assert named(b"".join(b"%d%s" % (number, GOOD) for number in range(1, 4)))


def test_a_number_before_a_tab_is_no_pcr() -> None:
    for number in (1, 9, 10, 23):
        data = b"%6d\t%s" % (number, GOOD[3:])
        assert found(data)[1] == []
        assert f"a PCR in two columns: no digest covers it, so it is not guessed, got '{number}'" in problem_of(data)
    assert found(GOOD.replace(b" ", b"\t", 2))[1] == pastes.slowly(GOOD)


def test_a_violation_is_read_only_as_the_kernel_prints_it() -> None:
    assert read_content("log", VIOLATION).violations == 1
    for change in ("quoted", "cat -n", "byte order mark", "colours", "tabs between the columns"):
        log = read_content("log", pastes.WHOLE[change](VIOLATION))
        assert (log.violations, log.damaged, log.repaired) == (0, 1, 0)


@pytest.mark.parametrize("rest", [GOOD, as_text(b.ima_ng("/x", b"", pcr=9)), GOOD[3:], b"10 74\n", b"10\n", b"1\n"])
def test_a_violation_does_not_hide_what_follows_in_its_line(rest: bytes) -> None:
    """No digest says where its name ends, so it would take the rest of the line for its name."""
    data = VIOLATION[:-1] + b" " + rest
    assert read_content("log", VIOLATION).violations == 1
    assert (read_content("log", data).violations, named(data)) == (0, True)


@pytest.mark.parametrize(
    "rest",
    [
        *(GOOD, GOOD[3:50], b"10 748ab\n", b"10 7\n", b"1\n", b"see " + GOOD[3:43] + b"\n"),
        *(b"\\n1\\n\n", b"\\r\\n10\\r\\n\n", b"^M1^M\n", b"<br>1<br>\n"),
        *(b"\r1\r\n", b"\r10\r\n", b"| 1 |\n", b"|1\n", b",1\n", b"\t1\n", b"\xc2\xa01\n", b"> 1\n", b"(10)\n"),
    ],
)
def test_no_part_of_an_entry_is_left_out_as_a_remark(rest: bytes) -> None:
    data = GOOD[:-1] + b"  " + rest
    assert len(found(data)[1]) == (2 if rest == GOOD else 0)
    assert named(data) == (rest != GOOD)
    assert not named(GOOD[:-1] + b"  see here\n")


def inner(name: str) -> bytes:
    """An entry whose name has another entry, which is consistent in itself."""
    return as_text(b.ima_ng(f"/tmp/{GOOD[:-1].decode()}{name}", b""))


@pytest.mark.parametrize("change", pastes.WHOLE)
def test_an_entry_in_a_name_is_never_read_alone(change: str) -> None:
    """Neither if the entry around it is whole, nor if it is damaged in its name, its digests or its template."""
    outer = inner(" x")
    forged = pastes.slowly(GOOD)[0]
    assert forged not in found(pastes.WHOLE[change](outer))[1]
    # Nothing shows which line a line continues, if the first was damaged before all were broken.
    if "broken" not in change and "filled" not in change:
        for data in (outer[:-2] + b"y\n", outer[:9] + b"00" + outer[11:], outer[:70] + b"00" + outer[72:]):
            assert forged not in found(pastes.WHOLE[change](data))[1]
        assert forged not in found(outer.replace(b"ima-ng", b"ima-nq", 1))[1]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        (b"/caf\xe9", ["Latin-1 to UTF-8"]),
        (b"/caf\xc3\xa9", ["Latin-1 to UTF-8"]),
        (b"/caf\xc3\xa9", ["Latin-1 to UTF-8", "Latin-1 to UTF-8"]),
        (b"/cafe\xcc\x81", ["quoted", "CRLF"]),
        (b"/a&b <c> 'd'", ["entities", "quoted"]),
        (b"/a-b_c", ["backslashes", "quoted"]),
        ("/a\u2026\u2013b".encode(), ["quoted", "UTF-16"]),
        (b"/A b  c", ["cat -n", "no-break spaces"]),
        (b"/x,", ["strings"]),
        (b"/x |", ["a table"]),
    ],
)
def test_names_that_are_not_plain(name: bytes, changes: list[str]) -> None:
    data = b.digest_field(bytes(32)) + b.field(name + b"\0")
    text = as_text(b.entry(10, b"ima-ng", data) + b.entry(10, b"ima-sig", data + b.field(b"")))
    changed = text
    for change in changes:
        changed = pastes.WHOLE[change](changed)
    assert found(changed)[1] == pastes.slowly(text)


def test_letters_in_the_other_form_of_unicode() -> None:
    text = as_text(b.ima_ng("/cafe\u0301", b""))
    assert found(text.decode().replace("e\u0301", "\u00e9").encode())[1] == pastes.slowly(text)


def test_text_of_two_encodings_in_one_file() -> None:
    """A shell appended to a file in another encoding than the file has."""
    wide = GOOD.decode().encode("utf-16-le")
    for data in (GOOD + wide, b"\xff\xfe" + wide + GOOD, b"\xff\xfe" + wide + GOOD[:-1] + b"\r\n" + wide):
        assert is_part(found(data)[1], pastes.slowly(GOOD) * 3)
        assert len(found(data)[1]) == data.count(b"\n")


def test_lost_blanks_of_every_template() -> None:
    """Not only that of a missing signature."""
    evm = b"".join(map(b.field, (b"", b"", b"", b"", bytes(4), bytes(4), bytes(2))))
    head = b.digest_field(bytes(32)) + b.field(b"/x\0")
    for template, rest in ((b"ima-modsig", b.field(b"") * 3), (b"evm-sig", evm), (b"ima-buf", b.field(b""))):
        text = as_text(b.entry(10, template, head + rest))
        for change in (pastes.WHOLE["blanks lost at the end"], pastes.LOSSY["blanks collapsed"]):
            (line,) = read_lines(change(text))
            assert line.fits
            assert line.entry is not None
            assert line.entry.data == head + rest


def test_lines_keep_their_numbers_and_bytes() -> None:
    data = b"# head\n" + pastes.WHOLE["broken at 78, quoted"](SIGNED) + b"\n" + GOOD + GOOD[:-1] + b" " + GOOD
    lines = [line for line in read_lines(data) if line.entry is not None]
    assert [line.number for line in lines] == [2, 5, 6, 6]
    assert [line.entry.number for line in lines if line.entry] == [1, 2, 3, 4]
    for line in lines:
        assert data[line.offset : line.offset + len(line.raw)] == line.raw
        assert data[: line.offset].count(b"\n") == line.number - 1
    assert [line.cleaned for line in lines] == [
        "line breaks removed",
        "",
        "line breaks added, blanks at the end removed",
        "line breaks added",
    ]
