"""Against a real ssh server in this process."""

from __future__ import annotations

import io
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import paramiko
import pytest
from paramiko import common

from testbed.errors import DeadlineExceeded, DeployError, LabError, LostMachine
from testbed.lab.machines import ssh

Play = Callable[[paramiko.Channel, str], None]
MORE_THAN_A_WINDOW = 5 << 20
PRIVATE, _PUBLIC = ssh.new_key()
HOST_KEY = paramiko.RSAKey.generate(2048)


class _Server(paramiko.ServerInterface):
    def __init__(self, play: Play, accepted: paramiko.PKey) -> None:
        self._play, self._accepted = play, accepted

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        good = username == "root" and key == self._accepted
        return common.AUTH_SUCCESSFUL if good else common.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return common.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(target=self._run, args=(channel, command.decode()), daemon=True).start()
        return True

    def _run(self, channel: paramiko.Channel, command: str) -> None:
        with suppress(OSError, EOFError):
            # Our answer to the request goes out after its check returned; the client feeds input only when it has it.
            fed = select.poll()
            fed.register(channel, select.POLLIN)
            fed.poll()
            if command == "true":
                channel.send_exit_status(0)
            else:
                self._play(channel, command)
            channel.close()


@pytest.fixture
def serve() -> Iterator[Callable[[Play], int]]:
    listener = socket.create_server(("127.0.0.1", 0))
    transports: list[paramiko.Transport] = []

    def accept(play: Play) -> None:
        with suppress(OSError):
            while True:
                transport = paramiko.Transport(listener.accept()[0])
                transport.add_server_key(HOST_KEY)
                transports.append(transport)
                with suppress(paramiko.SSHException, EOFError):
                    transport.start_server(
                        server=_Server(play, paramiko.Ed25519Key.from_private_key(io.StringIO(PRIVATE)))
                    )

    def start(play: Play) -> int:
        threading.Thread(target=accept, args=(play,), daemon=True).start()
        return int(listener.getsockname()[1])

    yield start
    for transport in transports:
        transport.close()
    listener.close()


def guest_at(port: int, fate: ssh.Fate | None = None, host_key: str | None = None) -> ssh.SshGuest:
    return ssh.connect(port, PRIVATE, fate or ssh.Fate(), lambda: "<console>", timeout=30, host_key=host_key)


def test_both_streams_are_drained_while_input_is_fed(serve: Callable[[Play], int]) -> None:
    def play(channel: paramiko.Channel, _: str) -> None:
        channel.sendall_stderr(b"e" * MORE_THAN_A_WINDOW)
        channel.sendall(b"o" * MORE_THAN_A_WINDOW)
        read = 0
        while chunk := channel.recv(1 << 16):
            read += len(chunk)
        channel.sendall(str(read).encode())
        channel.send_exit_status(0)

    done = guest_at(serve(play)).run(["x"], input=b"i" * MORE_THAN_A_WINDOW)
    assert done.out == b"o" * MORE_THAN_A_WINDOW + str(MORE_THAN_A_WINDOW).encode()
    assert done.err == b"e" * MORE_THAN_A_WINDOW


def test_words_arrive_quoted(serve: Callable[[Play], int]) -> None:
    def play(channel: paramiko.Channel, command: str) -> None:
        channel.sendall(command.encode())
        channel.send_exit_status(0)

    assert guest_at(serve(play)).run(["echo", "a b", "$HOME; 'x'"]).text == "echo 'a b' '$HOME; '\"'\"'x'\"'\"''"


def test_a_failure_is_an_error_that_says_what_was_said(serve: Callable[[Play], int]) -> None:
    def play(channel: paramiko.Channel, _: str) -> None:
        channel.sendall_stderr(b"no such module")
        channel.send_exit_status(3)

    guest = guest_at(serve(play))
    with pytest.raises(DeployError, match=r"(?s)exit status 3: insmod x.*no such module"):
        guest.run(["insmod", "x"])
    assert guest.run(["insmod", "x"], check=False).code == 3


def test_a_program_that_does_not_end_meets_its_deadline(serve: Callable[[Play], int]) -> None:
    ends = threading.Event()
    guest = guest_at(serve(lambda _channel, _command: (ends.wait(60), None)[1]))
    with pytest.raises(DeadlineExceeded, match=r"(?s)sleep 99.*<console>"):
        guest.run(["sleep", "99"], timeout=0.2)
    ends.set()


def test_a_dead_machine_is_told_from_a_broken_connection(serve: Callable[[Play], int]) -> None:
    fate = ssh.Fate()

    def die(channel: paramiko.Channel, command: str) -> None:
        if command == "panic":
            fate.end("crashed")
        channel.get_transport().close()

    port = serve(die)
    with pytest.raises(LabError, match="connection broke") as broken:
        guest_at(port).run(["reset"])
    assert not isinstance(broken.value, LostMachine)
    with pytest.raises(LostMachine, match=r"(?s)crashed while it ran panic.*<console>"):
        guest_at(port, fate).run(["panic"])


def test_a_machine_that_dies_before_it_answers_is_lost_at_once() -> None:
    fate = ssh.Fate()
    fate.end("failed (QEMU ended)")
    with pytest.raises(LostMachine, match="QEMU ended"):
        ssh.connect(1, PRIVATE, fate, lambda: "", timeout=3600)


def test_a_guest_that_never_answers_meets_the_deadline() -> None:
    # It accepts and is silent, as the user-mode network does while nothing in the guest listens.
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(DeadlineExceeded, match="no ssh answer"):
        ssh.connect(silent.getsockname()[1], PRIVATE, ssh.Fate(), lambda: "", timeout=0.5)


def test_the_host_key_is_pinned(serve: Callable[[Play], int]) -> None:
    port = serve(lambda _channel, _command: None)
    seen = guest_at(port).host_key
    assert seen == HOST_KEY.get_base64()
    assert guest_at(port, host_key=seen).host_key == seen
    with pytest.raises(LabError, match="another machine answers"):
        guest_at(port, host_key="AAAA")


def test_the_first_reason_of_an_end_stays() -> None:
    fate = ssh.Fate()
    assert not fate.ended()
    fate.end("crashed")
    fate.end("ended")
    assert (fate.ended(), fate.reason) == (True, "crashed")
