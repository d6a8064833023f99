"""Every error that a user can see.

::

    TestbedError(message, hint)        exit status of the CLI
      SpecError                        the experiment file is wrong                    2
      HostError                        this machine does not have or allow something   3
      BuildError                       an image, a kernel or a C part was not built    3
      CommandError                     a program that we started failed                3
      LabError                         a machine misbehaved                            3
        LostMachine                    it died
        DeadlineExceeded               it did not answer in time
        DeployError                    it runs but rejects what was copied into it
      EvidenceError                    a log or a quote is malformed                   4
      IncompatibleRuns                 results that must not be pooled                 4

A failed workload is a ``Status``, a wrong digest is a ``Finding``: neither is an exception. What the operating system
refuses stays an ``OSError`` until the command line, where ``host_error`` says it in one way for all commands.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping


class TestbedError(Exception):
    """Something that the user must know. ``message`` says what, where, expected and got; ``hint`` says what to do."""

    exit_status = 3

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class SpecError(TestbedError):
    """The experiment file is wrong: which file, which key, what was expected, what was got."""

    exit_status = 2


class HostError(TestbedError):
    """This machine does not have or does not allow something; the hint says what to install or to change."""


class BuildError(TestbedError):
    """An image, a kernel or a C part could not be built; nothing half-built is left in the cache."""


class CommandError(TestbedError):
    """A program that we started failed; the message has its command line, exit status and last lines."""


class LabError(TestbedError):
    """A machine misbehaved."""


class LostMachine(LabError):
    """The machine died: QEMU ended, or the guest's kernel stopped."""


class DeadlineExceeded(LabError):
    """The machine, or a command in it, did not answer in time."""


class DeployError(LabError):
    """The machine runs but rejects what was copied into it: a module, a BPF program, a policy, an image."""


class EvidenceError(TestbedError):
    """A log, a quote or a record is malformed. Malformed is never a pass."""

    exit_status = 4


class IncompatibleRuns(TestbedError):
    """Results that must not be pooled: they differ in tier, image or emulator."""

    exit_status = 4


_FREE = "free some and give the same command again: what is complete is kept; `testbed images gc` frees more"
_ELSEWHERE = (
    "name another place: an option for what the command writes (--results, -o), TESTBED_CACHE for the cache, "
    "TESTBED_STATE for the state directory, TMPDIR for temporary files"
)
_ALLOW = f"run the command as a user who may do this, or {_ELSEWHERE}"
# Each answer of the system that users meet, in their terms, and what they can do about it.
_SYSTEM: Mapping[int, tuple[str, str]] = {
    errno.ENOSPC: ("the disk is full", _FREE),
    errno.EDQUOT: ("the disk quota of this user is used up", _FREE),
    errno.EFBIG: ("the file is larger than this machine allows", "`ulimit -f` shows the limit; raise it"),
    errno.EROFS: ("the file system is read-only", _ELSEWHERE),
    errno.EACCES: ("permission denied", _ALLOW),
    errno.EPERM: ("this is not allowed to this user", _ALLOW),
    errno.EEXIST: ("it exists already", "remove it, or name another place; another `testbed` process may have made it"),
    errno.ENOTEMPTY: ("it exists already and has files in it", "remove it, or name another place"),
    errno.ENOENT: ("no such file or directory", "correct the path; another process may have removed the file"),
    errno.ENOTDIR: ("a part of this path is a file, not a directory", _ELSEWHERE),
    errno.EISDIR: ("it is a directory, not a file", "correct the path"),
    errno.ELOOP: ("its symbolic links lead in a circle", "correct the links"),
    errno.ENAMETOOLONG: ("the path is too long", "name a directory with a shorter path"),
    errno.EMFILE: ("too many files are open in this process", "`ulimit -n` shows the limit; raise it"),
    errno.ENFILE: ("too many files are open on this machine", "end other programs"),
    errno.EAGAIN: ("this machine has no room for one more process", "`ulimit -u` shows the limit; raise it"),
    errno.ENOMEM: ("no memory is left", "end other programs, or run fewer machines (--machines 1)"),
    errno.EIO: ("the device reports an error", "check the disk (`dmesg` says more), or name a place on another one"),
}


def host_error(error: OSError | UnicodeError | MemoryError, hint: str = "", *, where: object = None) -> HostError:
    """Return what the system said as an error with path and remedy.

    ``hint``: a better remedy than that of this kind of error. ``where``: what was used, if the error does not say it.
    """
    if isinstance(error, MemoryError):
        error = OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
    if isinstance(error, UnicodeError):
        words, remedy = (
            f"a name or a text does not fit its encoding: {error}",
            "set LC_ALL=C.UTF-8; files must be UTF-8",
        )
    else:
        words, remedy = _SYSTEM.get(error.errno or 0, (error.strerror or f"{error}", _ELSEWHERE))
        # Of two paths, of a copy or a rename, the second is the one that is written.
        where = error.filename2 or error.filename or where
    place = os.fsdecode(where) if isinstance(where, bytes) else where
    return HostError(f"{place}: {words}" if place else words, hint or remedy)
