"""Files are opened only if they are plain, and appear whole or not at all."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from testbed import files


def test_a_plain_file_is_read_also_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    for path in (tmp_path / "file", tmp_path / "link", os.fsencode(tmp_path / "file")):
        with files.open_plain(path) as file:
            assert file.read() == b"content"
    with files.open_plain(tmp_path / "file", follow=False) as file:
        assert file.read() == b"content"
    with pytest.raises(OSError, match="a symbolic link"):
        files.open_plain(tmp_path / "link", follow=False)


@pytest.mark.parametrize(
    ("name", "said"),
    [("fifo", "a FIFO"), ("directory", "a directory"), ("socket", "a socket"), ("device", "a device")],
)
def test_what_is_no_plain_file_is_refused_and_not_waited_for(tmp_path: Path, name: str, said: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    (tmp_path / "device").symlink_to("/dev/null")
    here = socket.socket(socket.AF_UNIX)
    here.bind(f"{tmp_path}/socket")
    with here, pytest.raises(files.NotPlainFile) as caught:
        files.open_plain(tmp_path / name)
    assert files.reason(caught.value) == said


def test_a_reason_is_the_words_alone(tmp_path: Path) -> None:
    for path, said in ((tmp_path / "none", "No such file or directory"), (Path("a\0b"), "a path with a zero byte")):
        with pytest.raises(OSError, match=said) as caught:
            files.open_plain(path)
        assert files.reason(caught.value) == said
    assert files.reason(ValueError("bad")) == "bad"


def give_up(path: Path) -> None:
    with files.replacing(path) as spare:
        spare.write_bytes(b"half")
        raise RuntimeError


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for data in (b"old", b"new"):
        files.write_plain(path, data, mode=0o600)
        assert path.read_bytes() == data
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(RuntimeError):
        give_up(path)
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["x" * 250, "δ" * 120])
def test_each_writer_of_a_file_has_a_path_of_its_own(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with files.replacing(path) as one:
        one.write_bytes(b"1")
        # While it is being written, another process writes all of it, and removes nothing of the first.
        files.write_plain(path, b"2")
        assert path.read_bytes() == b"2"
    assert path.read_bytes() == b"1"
    assert list(tmp_path.iterdir()) == [path]


def _killed(path: Path) -> None:
    with files.replacing(path) as spare:
        spare.write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_writer_left_goes_with_the_next_one(tmp_path: Path) -> None:
    for name in ("file", "other"):
        process = multiprocessing.get_context("fork").Process(target=_killed, args=(tmp_path / name,))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    assert len(list(tmp_path.glob(f"{files.SPARE}*"))) == 2
    files.write_plain(tmp_path / "file", b"new")
    assert [path.name.rpartition("-")[2] for path in tmp_path.glob(f"{files.SPARE}*")] == ["other"]
    assert (tmp_path / "file").read_bytes() == b"new"


def test_what_lies_there_under_such_a_name_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"kept")
    (tmp_path / f"{files.SPARE}{'0' * 12}-file").symlink_to("elsewhere")
    files.write_plain(tmp_path / "file", b"new")
    assert (tmp_path / "elsewhere").read_bytes() == b"kept"
    assert not (tmp_path / "file").is_symlink()


def test_what_is_no_plain_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "device").symlink_to("/dev/null")
    (tmp_path / "directory").mkdir()
    for name, said in (("device", "got a device"), ("directory", "got a directory")):
        with pytest.raises(files.NotPlainFile, match=said):
            files.write_plain(tmp_path / name, b"")
    assert len(list(tmp_path.iterdir())) == 2


def test_an_error_names_the_file_and_not_the_one_beside_it(tmp_path: Path) -> None:
    for error in (OSError(errno.ENOSPC, "full"), OSError(errno.EACCES, "no", f"{tmp_path}/{files.SPARE}x/in")):
        with (
            pytest.raises(OSError, match=r"full|no") as caught,
            files.naming(tmp_path / "f"),
        ):
            raise error
        assert caught.value.filename == f"{tmp_path / 'f'}"
    with pytest.raises(FileNotFoundError) as absent, files.naming(tmp_path / "f"):
        (tmp_path / "another").read_bytes()
    assert absent.value.filename == f"{tmp_path / 'another'}"
    with pytest.raises(FileNotFoundError) as missing:
        files.write_plain(tmp_path / "none/file", b"")
    assert missing.value.filename == f"{tmp_path / 'none/file'}"


def test_a_directory_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with files.new_directory(tmp_path / "above" / "new") as spare:
        (spare / "file").write_bytes(b"content")
        assert not (tmp_path / "above" / "new").exists()
    assert (tmp_path / "above" / "new" / "file").read_bytes() == b"content"

    def fail() -> None:
        with files.new_directory(tmp_path / "other") as spare:
            (spare / "file").write_bytes(b"content")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["above"]


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_a_new_directory_does_not_replace_what_is_there(kind: str, tmp_path: Path) -> None:
    there = tmp_path / "there"
    made: dict[str, Callable[[], None]] = {"file": there.touch, "directory": there.mkdir}
    made.get(kind, lambda: there.symlink_to("nowhere"))()
    with pytest.raises(FileExistsError), files.new_directory(there):
        pytest.fail("it was made")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
