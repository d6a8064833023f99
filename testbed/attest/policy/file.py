"""The policy's file: reading it, its errors, and paths as text. Its keys are in ``policy.keys``."""

from __future__ import annotations

import gc
import json
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from testbed.attest.policy.keys import Document
from testbed.errors import SpecError

SIZE_MAX = 512 << 20
BOOT_AGGREGATE = "boot_aggregate"
_SHOWN = 80
_DIGITS_MAX = 20
_ESCAPE = re.compile(r"%(..?)?", re.DOTALL)
_HINT = "docs/policy.md explains every key"


def read_policy_file(path: Path) -> bytes:
    """Read a plain file, or what a link to one leads to. Raises ``SpecError``."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        why = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
        raise SpecError(f"{path}: cannot be read: {why}", "give the path of a policy") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size > SIZE_MAX:
        os.close(descriptor)
        expected = f"a plain file of at most {SIZE_MAX >> 20} MiB"
        got = f"{status.st_size} bytes" if stat.S_ISREG(status.st_mode) else "something else"
        raise SpecError(f"{path}: expected {expected}, got {got}", "give the path of a policy")
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
        return file.read(SIZE_MAX)


def parse_document(data: bytes, where: str) -> Document:
    """Read a policy's bytes; its tables of files are not looked into. Raises ``SpecError``."""
    try:
        with _no_collector():
            raw = json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_small)
    except (ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else shorten(str(error), 200)
        raise SpecError(
            f"{where}: expected JSON (UTF-8), got: {why}", "mend that place, or make the file again"
        ) from error
    if not isinstance(raw, dict):
        raise SpecError(f"{where}: expected an object, got {shorten(raw)}", _HINT)
    if type(raw.get("schema", 1)) is not int:  # to Python, and so to pydantic, true is 1
        raise wrong(where, "schema", "1", raw["schema"])
    try:
        document = Document.model_validate(raw)
    except ValidationError as error:
        lines = [_complaint(where, problem) for problem in error.errors(include_url=False)]
        raise SpecError("\n".join(lines[:20]), _HINT) from error
    _check_tables(document, where)
    return document


def _check_tables(document: Document, where: str) -> None:
    tables = {"host.files": document.host.files}
    tables |= {f"images.{name}.files": image.files for name, image in document.images.items()}
    for key, table in tables.items():
        if type(table) is not dict:
            raise wrong(where, key, "an object: digests by path", table)
    for container, names in document.containers.items():
        for name in names:
            if name not in document.images:
                known = shorten(", ".join(sorted(document.images)) or "no image at all", 200)
                raise wrong(where, f"containers.{container}", f"names of `images` ({known})", name)


def wrong(where: str, key: str, expected: str, got: object, hint: str = _HINT) -> SpecError:
    """Return the error that names file, key, what was expected and what was got."""
    return SpecError(f"{where}: key {shorten(key, 200)}: expected {expected}, got {shorten(got)}", hint)


def shorten(value: object, most: int = _SHOWN) -> str:
    """Return a value as ASCII of about ``most`` characters: a file may hold very long ones."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    text = ascii(value) if not isinstance(value, str) else ascii(value[: most + 1])
    return text if len(text) <= most + 2 else f"{text[:most]}..."


def escape_path(path: bytes) -> str:
    """Return a path as text: `%` and each byte that is no valid UTF-8 as `%` and two hex digits."""
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
            raise ValueError("not the one spelling")
    if not path or b"\0" in path:
        raise ValueError("empty, or with a zero byte")
    return path


def path_bytes(text: str, where: str, key: str) -> bytes:
    """Return a path that a policy writes. Raises ``SpecError``."""
    try:
        return unescape_path(text)
    except ValueError as error:
        hint = "write each byte that is no valid UTF-8, and % itself, as % and two upper-case hex digits, nothing else"
        raise wrong(where, key, "paths that are not empty and have one spelling", text, hint) from error


@contextmanager
def _no_collector() -> Iterator[None]:
    """Leave garbage alone for a while: to look for it among a million new lists takes as long as to make them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def is_host_name(name: bytes) -> bool:
    """Whether a host's file can have this name in the log: a path, or what IMA takes where a file has none.

    A digit at the beginning can be a namespace's number, and such a line is no plain measurement.
    """
    if b"/" in name:
        return name.startswith(b"/")
    return not name[:1].isdigit() and name not in {b"", BOOT_AGGREGATE.encode()}


def _complaint(where: str, error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"]) or "(whole file)"
    if error["type"] == "extra_forbidden":
        return f"{where}: key {shorten(key, 200)}: there is no such key"
    if error["type"] == "missing":
        return f"{where}: key {shorten(key, 200)}: is missing"
    return f"{where}: key {shorten(key, 200)}: {shorten(error['msg'], 400)}, got {shorten(error['input'])}"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two readers of a repeated key could read two things."""
    table = dict(pairs)
    if len(table) != len(pairs):
        ((twice, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {shorten(twice)} twice in one object")
    return table


def _no_constant(word: str) -> None:
    raise ValueError(f"{word}, which is not JSON")


def _small(digits: str) -> int:
    if len(digits) > _DIGITS_MAX:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)
