"""Files are opened only if they are plain, and appear whole or not at all."""

from __future__ import annotations

import os
import socket
import stat
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


def give_up(path: Path, *, shared: bool) -> None:
    with files.replacing(path, shared=shared) as spare:
        spare.write_bytes(b"half")
        raise RuntimeError


@pytest.mark.parametrize("shared", [False, True])
def test_a_file_is_replaced_whole(tmp_path: Path, shared: bool) -> None:
    path = tmp_path / "file"
    for data in (b"old", b"new"):
        files.write_plain(path, data, mode=0o600, shared=shared)
        assert path.read_bytes() == data
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(RuntimeError):
        give_up(path, shared=shared)
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_each_writer_of_a_shared_file_has_a_path_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 240)
    with files.replacing(path, shared=True) as one, files.replacing(path, shared=True) as other:
        assert one != other
        one.write_bytes(b"1")
        other.write_bytes(b"2")
    assert path.read_bytes() == b"1"


def test_what_a_killed_writer_left_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"kept")
    (tmp_path / f"{files.SPARE}file").symlink_to("elsewhere")
    files.write_plain(tmp_path / "file", b"new")
    assert (tmp_path / "elsewhere").read_bytes() == b"kept"
    assert not (tmp_path / "file").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "file"]
