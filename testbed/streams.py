"""The standard streams of the command line: always open, able to print every name, and named in their errors."""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

_ESCAPE = "testbed-escape"
_OWNED = False


class Closed(Exception):
    """The reader of a standard stream has closed it. Not an ``OSError``, for which click ends with status 1."""


class _Output:
    """A standard stream for output: its errors name it, and a reader that is gone has an error of its own."""

    def __init__(self, stream: TextIO, title: str) -> None:
        self._stream = stream
        self._title = title

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._named():
            return self._stream.write(text)

    def flush(self) -> None:
        with self._named():
            self._stream.flush()

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError as error:
            raise Closed(self._title) from error
        except OSError as error:
            error.filename = self._title
            raise


def owned() -> bool:
    """Whether the command line runs, so that this process may print to the streams without being asked."""
    return _OWNED


def settle() -> None:
    """Make the three standard streams usable.

    A closed one becomes /dev/null: otherwise the next file that is opened would get its number. What the encoding of a
    stream does not have is written as an escape.
    """
    global _OWNED  # noqa: PLW0603 - the streams are global too
    _OWNED = True
    while (null := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(null, True)
    os.close(null)
    codecs.register_error(_ESCAPE, _escape)
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - it stays open
    sys.stdout = _output(sys.stdout, 1, "standard output")
    sys.stderr = _output(sys.stderr, 2, "standard error")


def finish() -> None:
    """Flush the streams. One that cannot be flushed is replaced, or Python would end with a status of its own."""
    global _OWNED  # noqa: PLW0603 - see above
    _OWNED = False
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except (OSError, ValueError, Closed):
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - it stays open


def _output(stream: TextIO | None, number: int, title: str) -> TextIO:
    stream = stream or open(number, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - it stays open
    if isinstance(stream, io.TextIOWrapper):
        # A locale that is not installed leaves ASCII, on terminals that show UTF-8.
        plain = codecs.lookup(stream.encoding).name == "ascii"
        stream.reconfigure(encoding="utf-8" if plain else None, errors=_ESCAPE)
    return cast("TextIO", _Output(stream, title))


def _escape(error: UnicodeError) -> tuple[str, int]:
    r"""Write a byte of a name that is not UTF-8 as ``\xff``, and a character that an encoding lacks as ``\u03b4``."""
    assert isinstance(error, UnicodeEncodeError)
    wrong = error.object[error.start : error.end]
    codes = (f"\\x{ord(sign) - 0xDC00:02x}" if "\udc80" <= sign <= "\udcff" else ascii(sign)[1:-1] for sign in wrong)
    return "".join(codes), error.end
