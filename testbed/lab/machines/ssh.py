"""The guest over ssh: one connection per machine, a deadline on everything, and the machine's death noticed at once."""

from __future__ import annotations

import io
import logging
import select
import shlex
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from testbed.errors import DeadlineExceeded, DeployError, LabError, LostMachine
from testbed.guest import Completed

log = logging.getLogger(__name__)
# It reports each try at a guest that still boots as an error with a traceback; what matters reaches us as exceptions.
logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)

_TRY_SECONDS = 15  # one try to log in; the user-mode network accepts before anything in the guest listens
_KEEPALIVE_SECONDS = 15
_SETTLE_SECONDS = 3  # after a broken connection: how long libvirt may take to tell us that the machine died
_PAUSE_SECONDS = 0.2
_TAIL_LINES = 20
_CHUNK = 1 << 16


def new_key() -> tuple[str, str]:
    """Return a new key pair: the private key (PEM as OpenSSH writes it) and the public one (one line)."""
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return private.decode(), f"{public.decode()} testbed"


@dataclass(slots=True)
class Fate:
    """What became of a machine: set once, from libvirt's event thread, and waited for everywhere."""

    _ended: threading.Event = field(default_factory=threading.Event)
    reason: str = ""

    def end(self, reason: str) -> None:
        """Note that the machine ended; the first reason stays."""
        if not self._ended.is_set():
            self.reason = reason
            self._ended.set()

    def ended(self, wait: float = 0) -> bool:
        """Tell whether the machine has ended, waiting up to ``wait`` seconds for it."""
        return self._ended.wait(wait)


@dataclass(slots=True, kw_only=True)
class SshGuest:
    """``Guest`` over a logged-in ssh transport. ``last_words`` gives the end of the machine's console."""

    transport: paramiko.Transport
    fate: Fate
    last_words: Callable[[], str]

    @property
    def host_key(self) -> str:
        """The guest's host key (base64 of its wire format): the first one seen, pinned for the machine's clones."""
        return self.transport.get_remote_server_key().get_base64()

    def run(self, argv: Sequence[str], *, timeout: float = 60, input: bytes = b"", check: bool = True) -> Completed:
        """Run a program as root; both streams are drained while it runs. Errors: see ``Guest``."""
        words = tuple(argv)
        line = shlex.join(words)
        log.debug("guest$ %s", line)
        start = time.monotonic()
        deadline = start + timeout
        try:
            channel = self.transport.open_session(timeout=timeout)
            try:
                channel.exec_command(line)
                code, out, err = _converse(channel, input, deadline)
            finally:
                channel.close()
        except TimeoutError as error:
            self._raise_if_lost(line, wait=0)
            raise DeadlineExceeded(
                f"guest: did not finish within {timeout:g} s: {line}\n{self.last_words()}"
            ) from error
        except (paramiko.SSHException, OSError, EOFError) as error:
            self._raise_if_lost(line, wait=_SETTLE_SECONDS)
            raise LabError(
                f"guest: the connection broke while it ran {line}: {error!r}\n{self.last_words()}"
            ) from error
        done = Completed(argv=words, code=code, out=out, err=err, seconds=time.monotonic() - start)
        if check and code:
            raise DeployError(f"guest: exit status {code}: {line}\n{_tail(done)}")
        return done

    def put(self, data: bytes, path: str, *, mode: int = 0o644) -> None:
        """Write a regular file, parents included: beside, then renamed."""
        where = PurePosixPath(path)
        beside = f"{where.parent}/.{where.name}.new"
        script = 'set -e; mkdir -p -- "$1"; cat >"$2"; chmod "$4" -- "$2"; mv -f -- "$2" "$3"'
        seconds = 60 + len(data) / 200_000
        self.run(["sh", "-c", script, "put", str(where.parent), beside, path, f"{mode:o}"], input=data, timeout=seconds)

    def get(self, path: str) -> bytes:
        """Read a whole file, also of ``/proc`` and ``/sys``, whose sizes lie."""
        return self.run(["cat", "--", path], timeout=300).out

    def close(self) -> None:
        """Close the connection."""
        self.transport.close()

    def _raise_if_lost(self, line: str, *, wait: float) -> None:
        if self.fate.ended(wait):
            raise LostMachine(f"the machine {self.fate.reason} while it ran {line}\n{self.last_words()}")


def connect(
    port: int,
    private_key: str,
    fate: Fate,
    last_words: Callable[[], str],
    *,
    timeout: float,
    host_key: str | None = None,
) -> SshGuest:
    """Return the guest once a command answered in it.

    ``host_key``: what ``SshGuest.host_key`` said earlier; ``None`` accepts the first one seen. Raises ``LostMachine``,
    ``DeadlineExceeded`` after ``timeout`` seconds, ``LabError`` for another host key.
    """
    deadline = time.monotonic() + timeout
    reason: Exception | None = None
    while (left := deadline - time.monotonic()) > 0:
        if fate.ended():
            raise LostMachine(f"the machine {fate.reason} before it answered\n{last_words()}")
        try:
            guest = SshGuest(
                transport=_log_in(port, private_key, min(left, _TRY_SECONDS)), fate=fate, last_words=last_words
            )
            shown = guest.host_key
            if host_key is not None and shown != host_key:
                guest.close()
                raise LabError(f"another machine answers at port {port}: host key {shown}, expected {host_key}")
            guest.run(["true"], timeout=left)
        except (paramiko.SSHException, OSError, EOFError) as error:
            reason = error
            fate.ended(_PAUSE_SECONDS)
        else:
            return guest
    raise DeadlineExceeded(f"no ssh answer at port {port} after {timeout:g} s ({reason!r})\n{last_words()}")


def _log_in(port: int, private_key: str, seconds: float) -> paramiko.Transport:
    sock = socket.create_connection(("127.0.0.1", port), timeout=seconds)
    try:
        transport = paramiko.Transport(sock)
    except BaseException:
        sock.close()
        raise
    try:
        transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = seconds
        transport.set_keepalive(_KEEPALIVE_SECONDS)
        transport.start_client(timeout=seconds)
        transport.auth_publickey("root", _load(private_key))
    except BaseException:
        transport.close()
        raise
    return transport


def _load(private_key: str) -> paramiko.PKey:
    return paramiko.Ed25519Key.from_private_key(io.StringIO(private_key))


def _converse(channel: paramiko.Channel, data: bytes, deadline: float) -> tuple[int, bytes, bytes]:
    # Returns exit status, output, errors. Input is fed by a thread: a program may print before it has read all.
    threading.Thread(target=_feed, args=(channel, data), name="ssh-input", daemon=True).start()
    out, err = bytearray(), bytearray()
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    while not (channel.eof_received or channel.closed) or channel.recv_ready() or channel.recv_stderr_ready():
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        poll.poll(left * 1000)
        if channel.recv_ready():
            out += channel.recv(_CHUNK)
        if channel.recv_stderr_ready():
            err += channel.recv_stderr(_CHUNK)
    if not channel.status_event.wait(max(0, deadline - time.monotonic())):
        raise TimeoutError
    code = channel.recv_exit_status()
    if code < 0:
        raise EOFError("no exit status")
    return code, bytes(out), bytes(err)


def _feed(channel: paramiko.Channel, data: bytes) -> None:
    # The other end may close first: a program need not read its input, and a dead machine is noticed by the reader.
    with suppress(OSError, EOFError, paramiko.SSHException):
        channel.sendall(data)
        channel.shutdown_write()


def _tail(done: Completed) -> str:
    said = (done.out + done.err).decode(errors="backslashreplace").splitlines()
    return "\n".join(said[-_TAIL_LINES:])
