"""``testbed log``: entries in words, filters, what is attested, two logs compared, hostile names, pipes."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import evidence as b
import pytest
from click.testing import CliRunner, Result
from evidence import GOLDEN
from terminal import shown_on
from test_ascii import as_text

from testbed.attest.decoded.choose import Binding, binding, differences
from testbed.attest.decoded.decode import DecodedEntry, decode
from testbed.attest.log.ima import read_entries
from testbed.cli import main

BUNDLE = GOLDEN / "bundle-debian-6.12"
OTHER = GOLDEN / "bundle-debian-6.1"
NONCE = json.loads((BUNDLE / "bundle.json").read_bytes())["nonce"]
VERIFIED = ("--ak", BUNDLE / "ak.pub", "--nonce", NONCE)
ROOT = Path(__file__).parents[2]


def start(seq: int, container: str = b.CONTAINER) -> bytes:
    return b.ima_buf("ctr-start", b.ctr_start(b.libpod(container), seq=seq))


def file(path: bytes, content: bytes, seq: int = 1) -> bytes:
    return b.ima_buf("ctr-file", b.ctr_file(path, content, seq=seq))


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["log", *map(str, words)])


def lines_of(*words: object) -> list[dict[str, Any]]:
    done = run(*words, "--json")
    assert done.exit_code in {0, 1}, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_each_entry_is_a_line_and_nothing_is_verified() -> None:
    done = run(BUNDLE)
    assert done.exit_code == 0
    head, *rows = done.stdout.splitlines()
    assert head.split() == ["number", "PCR", "attested", "container", "kind", "digest", "says"]
    assert len(rows) == 64
    assert re.match(r" +3 +11  \? +1  ctr-file +223fe8564b60636b  /usr/bin/bash, executed$", rows[2])
    assert done.stderr == "nothing is verified: the author of this log decides what it says\n"
    assert "\x1b" not in done.output


def test_with_a_quote_each_entry_is_attested_or_not(tmp_path: Path) -> None:
    copy = tmp_path / "longer"
    shutil.copytree(BUNDLE, copy)
    with (copy / "ima.bin").open("ab") as log:
        log.write(b.ima_ng("/usr/bin/late", b"late"))
    done = run(copy, *VERIFIED, "--json")
    assert done.exit_code == 0
    assert done.stderr == "trusted: 64 of 65 entries attested\n"
    marks = [json.loads(line)["attested"] for line in done.stdout.splitlines()]
    assert marks == [True] * 64 + [False]
    assert run(copy, *VERIFIED, "--kind", "file").stdout.splitlines()[1].split()[:4] == ["65", "10", "NO", "-"]


def test_what_is_not_trusted_is_shown_with_the_status_of_verify(tmp_path: Path) -> None:
    done = run(BUNDLE, "--ak", BUNDLE / "ak.pub", "--nonce", "00" * 32)
    assert done.exit_code == 1
    assert done.stderr.startswith("untrusted: ")
    assert "`testbed verify` says more" in done.stderr
    assert len(done.stdout.splitlines()) == 65
    copy = tmp_path / "cut"
    shutil.copytree(BUNDLE, copy)
    whole = (copy / "ima.bin").read_bytes()
    (copy / "ima.bin").write_bytes(whole[:-7])
    cut = run(copy)
    assert cut.exit_code == 4
    assert len(cut.stdout.splitlines()) == 64
    assert "entry 64 at byte" in cut.stderr


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (("--pcr", 10), 1),
        (("--pcr", 10, "--pcr", 11), 64),
        (("--kind", "ctr-start"), 3),
        (("--kind", "ctr-start", "--kind", "boot aggregate"), 4),
        (("--container", 1), 21),
        (("--container", 99), 0),
        (("--container", "0f0019"), 21),
        (("--container", "0f001"), 0),  # too short to be an id
    ],
)
def test_filters(words: tuple[object, ...], count: int) -> None:
    assert len(lines_of(BUNDLE, *words)) == count


def test_json_has_every_field_and_the_runtime_id() -> None:
    third = lines_of(BUNDLE)[2]
    assert set(third) == {"schema", "runtime_id", *(field.name for field in fields(DecodedEntry))}
    assert third["schema"] == 1
    assert third["runtime_id"].startswith("0f0019f931576f884e0ca6cb")
    assert third["fields"]["path"] == "/usr/bin/bash"
    assert lines_of(BUNDLE)[0]["runtime_id"] is None


def test_full_shows_what_the_pcr_then_holds() -> None:
    done = run(BUNDLE, *VERIFIED, "--full", "--container", 1)
    last = lines_of(BUNDLE, "--container", 1)[-1]
    assert f"  PCR 11 holds     sha256:{last['value']}" in done.stdout
    assert "  container        1 (0f0019f931576f884e0ca6cb" in done.stdout


@pytest.mark.parametrize("text", [False, True])
def test_a_log_of_the_kernel_without_a_bundle(tmp_path: Path, text: bool) -> None:
    data = (BUNDLE / "ima.bin").read_bytes()
    path = tmp_path / "log"
    path.write_bytes(as_text(data) if text else data)
    rows = lines_of(path)
    assert [row["template_digest"] for row in rows] == [row["template_digest"] for row in lines_of(BUNDLE)]
    assert [row["says"] for row in rows] == [row["says"] for row in lines_of(BUNDLE)]
    assert run(path, *VERIFIED).exit_code == 2
    assert run(BUNDLE, "--diff", path).exit_code == 0


def test_damaged_lines_of_a_text_are_counted(tmp_path: Path) -> None:
    data = as_text((BUNDLE / "ima.bin").read_bytes()).splitlines()
    path = tmp_path / "log"
    path.write_bytes(b"\n".join([*data[:5], data[5][:-40] + b"zz" + data[5][-38:], *data[6:]]))
    done = run(path)
    assert len(done.stdout.splitlines()) == 64
    assert "1 line not read; `testbed semantics` says which and why" in done.stderr
    path.write_bytes(b"no log at all\n")
    assert run(path).exit_code == 4
    path.write_bytes(b"")
    assert run(path).exit_code == 4
    assert run(tmp_path / "none").exit_code == 2


def test_hostile_names_are_escaped(tmp_path: Path) -> None:
    path = tmp_path / "log"
    hostile = "/x\x1b[31m\r\n\u202e\u0085end"
    path.write_bytes(b.BOOT + b.ima_ng(hostile, b"x") + file(hostile.encode(), b"y") + b.violation(hostile))
    for words in ((), ("--full",), ("--json",)):
        said = run(path, *words).stdout
        assert not {"\x1b", "\r", "\u202e", "\x85"} & set(said)
        assert "\\x1b[31m" in said
    said = run(path, "--diff", BUNDLE).stdout
    assert not {"\x1b", "\r", "\u202e", "\x85"} & set(said)
    assert len(said.splitlines()) == len(lines_of(path, "--diff", BUNDLE))


def test_two_logs_of_one_workload_bind_the_same_files(tmp_path: Path) -> None:
    done = run(BUNDLE, "--diff", BUNDLE)
    assert (done.exit_code, done.stdout) == (0, "")
    assert "0 differences" in done.stderr
    # The containers of two boots are different ones, so whole entries differ.
    copy = tmp_path / "other"
    copy.write_bytes(b.BOOT + start(9) + file(b"/bin/a", b"a", 9))
    path = tmp_path / "log"
    path.write_bytes(b.BOOT + start(1, "f" * 64) + 2 * file(b"/bin/a", b"a"))
    assert run(path, "--diff", copy).exit_code == 0
    exact = lines_of(path, "--diff", copy, "--exact")
    assert [(row["only_in"], row["kind"], row["count"]) for row in exact] == [
        ("bundle", "ctr-start", 1),
        ("bundle", "ctr-file", 2),
        ("other", "ctr-start", 1),
        ("other", "ctr-file", 1),
    ]


def test_another_file_and_another_digest_are_differences(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b.BOOT + file(b"/bin/a", b"a") + b.ima_ng("/bin/h", b"1"))
    two.write_bytes(b.BOOT + file(b"/bin/a", b"b") + b.ima_ng("/bin/h", b"1"))
    done = run(one, "--diff", two)
    assert done.exit_code == 1
    assert [line[:25] for line in done.stdout.splitlines()] == [
        "- ctr-file       /bin/a c",
        "+ ctr-file       /bin/a 3",
    ]
    assert run(one, "--diff", two, "--kind", "file").exit_code == 0


def test_bindings_leave_the_container_out() -> None:
    (named,) = decode(read_entries(b.ima_ng("4026532500:/bin/a", b"a")))
    assert binding(named).name == "/bin/a"
    (violated,) = decode(read_entries(b.violation("/bin/a")))
    assert binding(violated) == Binding("violation", "/bin/a", "")
    (beat,) = decode(read_entries(b.ima_buf("ctr-beat", b.ctr_beat(1))))
    assert binding(beat) == Binding("ctr-beat", "", "")
    assert list(differences([beat], [beat, beat], exact=False)) == []


@pytest.mark.parametrize(
    "words",
    [
        ("--nonce", NONCE),
        ("--exact",),
        ("--diff", BUNDLE, "--full"),
        ("--diff", BUNDLE, *VERIFIED),
        ("--kind", "nonesuch"),
        ("--ak", BUNDLE / "ak.pub", "--nonce", "xyz"),
    ],
)
def test_wrong_arguments(words: tuple[object, ...]) -> None:
    done = run(BUNDLE, *words)
    assert done.exit_code == 2
    assert "Error: " in done.stderr


def test_a_long_log_streams_into_a_pipe_that_closes(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b.BOOT + b"".join(b.ima_ng(f"/usr/bin/{number}", b"x") for number in range(20000)))
    program = f"{sys.executable} -m testbed.cli log {path} | head -n 2; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 141
    assert len(done.stdout.splitlines()) == 2
    assert "Traceback" not in done.stderr


def test_colours_only_on_a_terminal() -> None:
    assert "\x1b[36m" in on_a_terminal({})
    assert "\x1b" not in on_a_terminal({"NO_COLOR": "1"})


def on_a_terminal(more: dict[str, str]) -> str:
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-m", "testbed.cli", "log", str(BUNDLE), "--container", "1"]
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm"} | more
    with subprocess.Popen(argv, cwd=ROOT, stdout=theirs, stderr=subprocess.DEVNULL, env=environment):
        os.close(theirs)
        said = shown_on(ours)
    os.close(ours)
    return said.decode()


def test_a_container_that_is_not_there_is_said() -> None:
    """A mistyped container must not look like one that did nothing."""
    done = CliRunner().invoke(main, ["log", str(BUNDLE), "--container", "77"])
    assert done.exit_code == 0
    assert "no entry matches" in done.stderr
    assert "no entry matches" not in CliRunner().invoke(main, ["log", str(BUNDLE), "--container", "1"]).stderr
