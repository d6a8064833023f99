"""One boot a kernel: files with fs-verity as code of containers, and attacks on them."""

from __future__ import annotations

import errno
import hashlib
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import robust
import stress
from attacks import EVIL, GOOD, KERNELS, Played, digest, on_the_host, played
from booted import Saves
from holes import memory
from robust import Subject

from testbed import rundir
from testbed.attest.entries import parse
from testbed.attest.image.verity import verity_of
from testbed.lab.block import Parts


@pytest.fixture(scope="module", params=KERNELS)
def subject(
    request: pytest.FixtureRequest, saves: Saves, parts: dict[str, Parts], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Subject]:
    with robust.subject(saves, parts[request.param], tmp_path_factory.mktemp(request.param)) as opened:
        yield opened


def verity(content: bytes) -> bytes:
    return verity_of(io.BytesIO(content)).digest


def kinds(got: Played, path: str) -> list[tuple[bool, bytes, int]]:
    """Return the entries of a path: whether the digest is that of fs-verity, the digest, the size."""
    return [(one.verity, one.digest, one.size) for one in got.of(path)]


def its_own(content: bytes) -> tuple[bool, bytes, int]:
    return True, verity(content), len(content)


def hashed(content: bytes) -> tuple[bool, bytes, int]:
    return False, digest(content), len(content)


def test_a_file_has_the_digest_of_fs_verity_by_whatever_route(subject: Subject) -> None:
    """A content that has an entry with its SHA-256 has another one when fs-verity is enabled, and one only."""
    place = subject.place("executed")
    with subject.counting(verity=3):
        got = played(subject, f"verities.executed({place!r})")
    assert (got.said["ran"], got.violations) == ([GOOD] * 4, ())
    assert kinds(got, f"{place}/it") == [hashed(stress.padded(b"it", GOOD)), its_own(stress.padded(b"it", GOOD))]
    assert kinds(got, f"{place}/mapped") == [its_own(memory.function(GOOD))]
    (late,) = got.of(f"{place}/mapped")
    assert (late.route, bool(late.flags & parse.LATE)) == (parse.MPROTECT, True)
    large = stress.program(b"large", GOOD).ljust(int(str(got.said["large"])), b"\1")
    assert kinds(got, f"{place}/large") == [its_own(large)]
    assert not any(one.flags & parse.NOT_BOUND for one in got.files if one.verity)


def test_other_parameters_are_not_believed(subject: Subject) -> None:
    """A salt, another algorithm and other blocks give digests that nobody can compute from the image: SHA-256 then."""
    place = subject.place("parameters")
    got = played(subject, f"verities.parameters({place!r})")
    for name in ("salted", "long", "small"):
        if got.said.get(name) == errno.EINVAL and name == "small":
            continue
        assert got.said[f"ran-{name}"] == GOOD
        assert kinds(got, f"{place}/{name}") == [hashed(stress.padded(name.encode(), GOOD))]


def test_a_page_that_was_pinned_before_fs_verity_was_enabled(subject: Subject) -> None:
    place = subject.place("verity-pinned")
    host = on_the_host(subject, f"verities.pinned('/root{subject.place('verity-pinned-host')}')")
    assert host == {"before": [GOOD, GOOD], "writing": True, "after": [EVIL, EVIL]}, "no attack"
    got = played(subject, f"verities.pinned({place!r})")
    assert (got.said["before"], got.said["writing"]) == ([GOOD, GOOD], True)
    assert its_own(stress.padded(b"good", GOOD)) in kinds(got, f"{place}/it")
    assert got.said["after"] == [GOOD, GOOD] or got.told(f"{place}/it")


def test_code_behind_the_end_of_a_file_with_fs_verity(subject: Subject) -> None:
    place = subject.place("verity-tail")
    got = played(subject, f"verities.behind({place!r})")
    assert got.said["content"] is True
    assert got.said["ran"] != EVIL or parse.TAIL in got.told(f"{place}/it")


def test_a_file_with_fs_verity_is_replaced(subject: Subject) -> None:
    place = subject.place("verity-replaced")
    got = played(subject, f"verities.replaced({place!r})")
    assert got.said["ran"] == [GOOD, EVIL]
    both = (stress.padded(b"one", GOOD), stress.padded(b"other", EVIL))
    assert kinds(got, f"{place}/it") == [its_own(content) for content in both]


def test_a_file_with_fs_verity_is_copied_up(subject: Subject) -> None:
    """What is mapped decides: the lower file has fs-verity, its copy in the upper layer has none."""
    place = subject.place("verity-copied")
    got = played(subject, f"verities.copied_up({place!r})")
    assert got.said["ran"] == [GOOD, EVIL]
    lower, upper = stress.padded(b"lower", GOOD), stress.padded(b"upper", EVIL)
    assert kinds(got, f"{place}/merged/it") == [its_own(lower), hashed(upper)]


def test_the_content_that_a_digest_is_computed_of_is_not_taken_for_the_file(subject: Subject) -> None:
    place = subject.place("verity-confused")
    got = played(subject, f"verities.confused({place!r})")
    descriptor = bytes.fromhex(str(got.said["descriptor"]))
    it = stress.padded(b"it", GOOD)
    assert hashlib.sha256(descriptor).digest() == verity(it)
    assert kinds(got, f"{place}/it") == [its_own(it)]
    assert kinds(got, f"{place}/descriptor") == [(False, verity(it), len(descriptor))]


EXPERIMENT = """
name = "verity"
question = "is a store with fs-verity read?"
kernels = ["{kernel}"]
measurers = ["container-file"]
workloads = ["start-cold"]
store = "verity"
blocks = 1
warmups = 0
tier = "tcg"
"""


@pytest.mark.parametrize("kernel", KERNELS)
def test_no_byte_of_a_store_with_fs_verity_is_hashed(lab: object, tmp_path: Path, kernel: str) -> None:
    """The disk that the host made is good for the kernel, and the verdict is that each file has its digest."""
    assert lab
    (tmp_path / "verity.toml").write_text(EXPERIMENT.format(kernel=kernel))
    words = ("run", str(tmp_path / "verity.toml"), "--results", str(tmp_path / "results"), "--machines", "1")
    done = subprocess.run((sys.executable, "-m", "testbed.cli", *words), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ((_, record),) = rundir.records(rundir.Campaign(path=next((tmp_path / "results").iterdir())))
    counted = record.counters
    assert (counted["verity"], counted["bytes_hashed"]) == (counted["files"], 0)
    assert counted["files"] >= len(("bash", "libtinfo", "libc", "ld-linux"))
