"""Paths as a policy writes them, and the errors that name one of its keys."""

from __future__ import annotations

from testbed.attest.log.ima import BOOT_AGGREGATES
from testbed.attest.log.rules import is_namespaced
from testbed.errors import SpecError

HINT = "docs/policy.md explains every key"
_SHOWN = 80


def wrong(where: str, key: str, expected: str, got: object, hint: str = HINT) -> SpecError:
    """Return the error that names file, key, expected and got."""
    return SpecError(f"{where}: key {shorten(key, 200)}: expected {expected}, got {shorten(got)}", hint)


def shorten(value: object, most: int = _SHOWN) -> str:
    """Return a value as ASCII of about ``most`` characters: a file may hold very long ones."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    text = ascii(value) if not isinstance(value, str) else ascii(value[: most + 1])
    return text if len(text) <= most + 2 else f"{text[:most]}..."


def escape_path(path: bytes) -> str:
    """Return a path as text: `%` and each byte that is not valid UTF-8 as `%` and two hex digits."""
    text = path.decode("utf-8", "surrogateescape").replace("%", "%25")
    if text.isascii():
        return text
    return "".join(f"%{ord(c) - 0xDC00:02X}" if "\udc80" <= c <= "\udcff" else c for c in text)


def unescape_path(text: str) -> bytes:
    """Return the path that ``escape_path`` wrote. Raises ``ValueError``, also for a second spelling of a path."""
    if "%" not in text:
        path = text.encode()
    else:
        path = b"".join(
            bytes.fromhex(part[:2]) + part[2:].encode() if at else part.encode()
            for at, part in enumerate(text.split("%"))
        )
        if escape_path(path) != text:
            raise ValueError("not the canonical spelling")
    if not path or b"\0" in path:
        raise ValueError("empty, or with a zero byte")
    return path


def path_bytes(text: str, where: str, key: str) -> bytes:
    """Return a path that a policy writes. Raises ``SpecError``."""
    try:
        return unescape_path(text)
    except ValueError as error:
        hint = "write only % and bytes that are not valid UTF-8 as % and two upper-case hex digits"
        raise wrong(where, key, "paths that are not empty and have one spelling", text, hint) from error


def is_host_name(name: bytes) -> bool:
    """Whether a host's file can have this name in the log: a path, or IMA's name for a file without a path.

    A name that is the number of a namespace is not that of a plain measurement.
    """
    if b"/" in name:
        return name.startswith(b"/")
    return name not in {b"", *BOOT_AGGREGATES} and not is_namespaced(name)
