"""The cache: complete or absent, built once; only the work of dead processes is removed."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from testbed import progress
from testbed.errors import BuildError, CommandError, HostError
from testbed.lab.build import cache

KEY = cache.content_key({"this": 1})
OTHER = cache.content_key({"that": 1})


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TESTBED_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def fill(at: Path) -> None:
    (at / "file").write_text("content")


def left(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "kind").iterdir())


def test_an_entry_is_built_once(home: Path) -> None:
    first = cache.entry("kind", KEY, fill)
    again = cache.entry("kind", KEY, lambda at: pytest.fail(f"built again in {at}"))
    assert first == again == home / "kind" / KEY
    assert (first / "file").read_text() == "content"
    assert left(home) == [KEY]


def test_it_is_not_there_before_it_is_complete(home: Path) -> None:
    def build(at: Path) -> None:
        assert cache.find("kind", KEY) is None
        fill(at)

    cache.entry("kind", KEY, build)
    assert cache.find("kind", KEY) == home / "kind" / KEY


@pytest.mark.parametrize("error", [BuildError("no"), KeyboardInterrupt()])
def test_a_failed_build_leaves_nothing_and_is_tried_again(home: Path, error: BaseException) -> None:
    def build(at: Path) -> None:
        fill(at)
        (at / "closed").mkdir(mode=0o500)
        raise error

    with pytest.raises(type(error)):
        cache.entry("kind", KEY, build)
    assert left(home) == []
    assert cache.entry("kind", KEY, fill).is_dir()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        CommandError("exit status 2: tar\ntar: x: Cannot write: No space left on device"),
    ],
)
def test_a_full_disk_is_the_hosts_fault_and_says_what_is_needed(home: Path, error: Exception) -> None:
    def build(at: Path) -> None:
        raise error

    with pytest.raises(
        HostError, match=r"no space left while building kind: .* needs about 7 MiB free, has \d+ MiB"
    ) as e:
        cache.entry("kind", KEY, build, needed=7 << 20)
    assert "gc --all" in e.value.hint
    assert left(home) == []


def test_without_enough_space_nothing_is_begun() -> None:
    with pytest.raises(HostError, match="needs about"):
        cache.entry("kind", KEY, lambda at: pytest.fail(f"begun in {at}"), needed=1 << 60)


def test_another_failure_stays_what_it_is() -> None:
    def build(_: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with pytest.raises(PermissionError):
        cache.entry("kind", KEY, build)


def test_a_cache_that_cannot_be_written_is_named(home: Path) -> None:
    home.write_text("a file, not a directory")
    with pytest.raises(HostError, match=str(home)):
        cache.entry("kind", KEY, fill)


def _build_in_process(log: Path, begun: int, go: int) -> None:
    def build(at: Path) -> None:
        with log.open("a") as file:
            file.write("built\n")
        os.write(begun, b"x")
        os.read(go, 1)
        fill(at)

    cache.entry("kind", KEY, build)


def test_two_processes_build_one_entry_once(tmp_path: Path, home: Path) -> None:
    (begun, tell_begun), (go, tell_go) = os.pipe(), os.pipe()
    fork = multiprocessing.get_context("fork")
    arguments = (tmp_path / "log", tell_begun, go)
    processes = [fork.Process(target=_build_in_process, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    os.read(begun, 1)
    os.write(tell_go, b"xx")
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0]
    assert (tmp_path / "log").read_text() == "built\n"
    assert left(home) == [KEY]


def test_many_threads_get_one_entry(home: Path) -> None:
    built = []

    def build(at: Path) -> None:
        built.append(at)
        fill(at)

    threads = [threading.Thread(target=cache.entry, args=("kind", KEY, build)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert left(home) == [KEY]


def test_gc_clears_up_after_a_builder_that_was_killed(tmp_path: Path, home: Path) -> None:
    cache.entry("kind", OTHER, fill)
    (begun, tell_begun), (go, _tell_go) = os.pipe(), os.pipe()
    process = multiprocessing.get_context("fork").Process(
        target=_build_in_process, args=(tmp_path / "log", tell_begun, go)
    )
    process.start()
    os.read(begun, 1)
    assert cache.gc() == []  # it lives
    assert process.pid
    os.kill(process.pid, signal.SIGKILL)
    process.join(30)
    assert len(cache.gc()) == 1
    assert left(home) == [OTHER]


def test_gc_of_everything_leaves_what_is_being_built(home: Path) -> None:
    cache.entry("kind", OTHER, fill)

    def build(at: Path) -> None:
        fill(at)
        assert [path.name for path in cache.gc(everything=True)] == [f".{OTHER}.removed.tmp"]
        assert at.is_dir()

    assert cache.entry("kind", KEY, build).is_dir()
    assert left(home) == [KEY]


def test_gc_of_everything_leaves_what_others_keep_there(home: Path) -> None:
    (home / "saves" / "campaign").mkdir(parents=True)
    (home / "libvirt" / "qemu").mkdir(parents=True)
    (home / "libvirt" / ".qemu.lock").touch()
    assert cache.gc(everything=True) == []
    assert cache.entries() == []
    assert (home / "saves" / "campaign").is_dir()
    assert (home / "libvirt" / ".qemu.lock").exists()


def test_gc_of_everything_goes_on_where_another_was_killed(home: Path) -> None:
    cache.entry("kind", KEY, fill)
    half = home / "kind" / f".{KEY}.removed.tmp"
    half.mkdir()
    (half / "file").touch()
    (home / "kind" / f".{KEY}.lock").touch()
    assert cache.gc(everything=True) == [half, half]
    assert left(home) == []


def test_what_goes_while_sizes_are_added_takes_no_space(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.entry("kind", KEY, fill)
    real = os.lstat

    def lstat(path: str | Path) -> os.stat_result:
        if f"{path}".endswith("file"):
            raise FileNotFoundError(errno.ENOENT, "gone", f"{path}")
        return real(path)

    monkeypatch.setattr(os, "lstat", lstat)
    assert [entry.size for entry in cache.entries()] == [0]


def test_a_cache_that_is_removed_while_one_waits_is_made_again(home: Path) -> None:
    built: list[Path] = []
    waiting = threading.Thread(target=lambda: built.append(cache.entry("kind", KEY, fill)))

    def build(at: Path) -> None:
        waiting.start()
        shutil.rmtree(home)
        fill(at)

    with pytest.raises(FileNotFoundError):
        cache.entry("kind", KEY, build)
    waiting.join()
    assert built == [home / "kind" / KEY]
    assert (home / "kind" / KEY / "file").read_text() == "content"


def test_gc_without_a_cache_has_nothing_to_do() -> None:
    assert cache.gc(everything=True) == []


def test_entries_are_listed_with_the_space_they_take(home: Path) -> None:
    def sparse(at: Path) -> None:
        with (at / "disk").open("wb") as file:
            file.truncate(1 << 40)
            file.write(b"x" * 4096)

    cache.entry("kind", KEY, sparse)
    (found,) = cache.entries()
    assert (found.kind, found.key, found.path) == ("kind", KEY, home / "kind" / KEY)
    assert 0 < found.size < 1 << 20


def test_a_key_follows_from_the_content_not_from_the_order() -> None:
    assert cache.content_key({"a": 1, "b": [2]}) == cache.content_key({"b": [2], "a": 1})
    assert cache.content_key({"a": 1, "b": [2]}) != cache.content_key({"a": 1, "b": [3]})


def test_a_damaged_entry_is_told_with_its_cure(tmp_path: Path) -> None:
    (tmp_path / cache.META).write_text("{")
    with pytest.raises(BuildError, match="damaged") as error:
        cache.read_meta(tmp_path)
    assert "gc --all" in error.value.hint


def test_a_build_is_expected_to_take_as_long_as_the_last_of_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    expected: list[tuple[str, float | None]] = []

    @contextmanager
    def waiting(title: str, seconds: float | None = None) -> Iterator[None]:
        expected.append((title, seconds))
        yield

    monkeypatch.setattr(progress, "waiting", waiting)
    for key, pace in (("1", ""), ("2", ""), ("3", "compiled"), ("4", "compiled")):
        cache.entry("kernel", key * 64, fill, pace=pace)
    titles, seconds = zip(*expected, strict=True)
    assert set(titles) == {"build kernel"}
    assert [value is None for value in seconds] == [True, False, True, False]
    (cache.root() / ".kernel.seconds").write_text("no number")
    cache.entry("kernel", "5" * 64, lambda _: None)
    assert expected[-1] == ("build kernel", None)
    assert len(cache.entries()) == 5
