"""The policy's file: how it is read and what its errors say. Its keys are in ``policy.keys``."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from testbed import files
from testbed.attest.policy.keys import Document
from testbed.attest.policy.paths import HINT, shorten, wrong
from testbed.attest.strict_json import read_json
from testbed.errors import SpecError

SIZE_MAX = 512 << 20
_DIGITS_MAX = 20


def read_policy_file(path: Path) -> bytes:
    """Read a plain file, or the target of a link to one. Raises ``SpecError``."""
    expected, hint = f"a plain file of at most {SIZE_MAX >> 20} MiB", "give the path of a policy"
    try:
        with files.open_plain(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size <= SIZE_MAX:
                return file.read(SIZE_MAX)
    except OSError as error:
        raise SpecError(f"{path}: expected {expected}, got: {files.reason(error)}", hint) from error
    raise SpecError(f"{path}: expected {expected}, got {size} bytes", hint)


def parse_document(data: bytes, where: str) -> Document:
    """Read a policy's bytes; its tables of files are not checked here. Raises ``SpecError``."""
    try:
        with _no_collector():
            raw = read_json(data, digits=_DIGITS_MAX)
    except ValueError as error:
        hint = "fix that line, or make the file again"
        raise SpecError(f"{where}: expected JSON (UTF-8), got: {shorten(str(error), 200)}", hint) from error
    if not isinstance(raw, dict):
        raise SpecError(f"{where}: expected an object, got {shorten(raw)}", HINT)
    if type(raw.get("schema", 1)) is not int:  # to Python, and so to pydantic, true is 1
        raise wrong(where, "schema", "1", raw["schema"])
    try:
        document = Document.model_validate(raw)
    except ValidationError as error:
        lines = [_complaint(where, problem) for problem in error.errors(include_url=False)]
        raise SpecError("\n".join(lines[:20]), HINT) from error
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


@contextmanager
def _no_collector() -> Iterator[None]:
    """Pause garbage collection: a search among a million new lists takes as long as making them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _complaint(where: str, error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"]) or "(whole file)"
    if error["type"] == "extra_forbidden":
        return f"{where}: key {shorten(key, 200)}: there is no such key"
    if error["type"] == "missing":
        return f"{where}: key {shorten(key, 200)}: is missing"
    return f"{where}: key {shorten(key, 200)}: {shorten(error['msg'], 400)}, got {shorten(error['input'])}"
