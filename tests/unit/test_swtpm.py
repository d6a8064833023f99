from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from testbed import shell
from testbed.errors import HostError
from testbed.lab.machines import swtpm

# Stands for swtpm: accepts the connection on the socket that it was given, and ends when that ends.
ECHO = (
    "import socket, sys; s = socket.socket(fileno=int(sys.argv[1])); c, _ = s.accept(); c.sendall(c.recv(9)); c.recv(1)"
)


def stand_in(_state: Path, control_fd: int, _log: Path) -> list[str]:
    return [sys.executable, "-c", ECHO, str(control_fd)]


def test_the_socket_listens_before_anything_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swtpm, "_argv", stand_in)
    control = tmp_path / "control"
    with swtpm.emulator(tmp_path, control, tmp_path / "log") as process:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(control))
            client.sendall(b"ping")
            assert client.recv(9) == b"ping"
        assert process.wait(30) == 0
    assert not control.exists()


def test_the_process_ends_with_the_context_also_after_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swtpm, "_argv", stand_in)
    held: list[subprocess.Popen[bytes]] = []
    with suppress(KeyError), swtpm.emulator(tmp_path, tmp_path / "control", tmp_path / "log") as process:
        held.append(process)
        raise KeyError
    assert held[0].returncode == -signal.SIGTERM


def test_the_thread_that_started_it_lives_as_long_as_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swtpm, "_argv", stand_in)
    before = set(threading.enumerate())
    with swtpm.emulator(tmp_path, tmp_path / "control", tmp_path / "log"):
        started = [thread for thread in set(threading.enumerate()) - before if thread.name == "swtpm"]
        assert [thread.is_alive() for thread in started] == [True]
    started[0].join(30)
    assert not started[0].is_alive()


def test_a_tpm_is_made_with_the_banks_that_were_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(shell, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(shell, "run", lambda argv, **_: seen.append([str(word) for word in argv]))
    authority = swtpm.CertificateAuthority(directory=tmp_path / "ca")
    swtpm.manufacture(tmp_path / "one", authority, "m")
    swtpm.manufacture(tmp_path / "two", authority, "m", ("sha1", "sha256"))
    assert [words[words.index("--pcr-banks") + 1] for words in seen] == ["sha256", "sha1,sha256"]


def test_a_program_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swtpm, "_argv", lambda *_: ["no-such-swtpm"])
    with pytest.raises(HostError, match="no-such-swtpm"), swtpm.emulator(tmp_path, tmp_path / "c", tmp_path / "log"):
        pass


def test_a_socket_path_that_libc_would_cut_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(HostError, match="socket path"),
        swtpm.emulator(tmp_path, Path("/" + "x" * 107), tmp_path / "log"),
    ):
        pass


def test_swtpm_dies_with_us_and_with_qemu() -> None:
    words = swtpm._argv(Path("/state"), 7, Path("/log"))
    assert words[: words.index("swtpm")] == ["setpriv", "--pdeathsig", "TERM"]
    assert {"--terminate", "type=unixio,fd=7", "dir=/state"} <= set(words)


def test_every_path_of_the_ca_is_ours_and_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = swtpm._write_config(swtpm.CertificateAuthority(directory=Path("ca")))
    text = config.read_text() + (tmp_path / "ca" / "swtpm-localca.conf").read_text()
    named = [line.partition("=")[2].strip() for line in text.splitlines() if not line.startswith("create_certs_tool =")]
    assert len(named) == 6
    assert all(path.startswith(f"{tmp_path}/ca") for path in named)
    assert (tmp_path / "ca").stat().st_mode & 0o077 == 0


def test_a_lock_is_no_part_of_a_state(tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / ".lock").touch()
    (tmp_path / "from" / "tpm2-00.permall").write_bytes(b"state")
    swtpm.copy_state(tmp_path / "from", tmp_path / "to")
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["tpm2-00.permall"]
