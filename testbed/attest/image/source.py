"""Where an image's files lie: in a tar file, which may be compressed, or in a directory."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from testbed.attest.image.content import Piece, unreadable
from testbed.attest.image.filesystem import Filesystem, Refused, split
from testbed.attest.image.packed import plain
from testbed.attest.image.tar import BadTar, read_entries
from testbed.attest.image.unpack import unpack_archive
from testbed.files import NotPlainFile, open_plain

_DIGEST = re.compile("(sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})")
_JSON_MAX = 16 << 20


class BadImage(ValueError):
    """What was given is not one image that can be read; the text says why, ``hint`` what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The files of an image that is open. ``files``: those of a tar file; else ``top`` is the directory."""

    name: str
    stack: ExitStack
    files: Filesystem | None = None
    top: Path = field(default_factory=Path)

    def find(self, name: str) -> Piece | None:
        """Return the content of a file, ``None`` if there is none. Raises ``BadImage`` and ``HostError``."""
        path = name.encode(errors="replace")
        if self.files is not None:
            try:
                found = self.files.lookup(split(path), follow=True)
            except Refused:
                return None
            if found.content is not None and not isinstance(found.content, Piece):
                hint = "pack it again without --sparse"
                raise BadImage(f"{name!a} is stored as a sparse file", hint)
            return found.content
        if b".." in path.split(b"/"):
            raise BadImage(f"{name!a} leads out of the directory")
        return None if b"\0" in path else _opened(self.stack, self.top / os.fsdecode(path.lstrip(b"/")))

    def blob(self, digest: object) -> Piece | None:
        """Return the content that has a digest, after a check; ``None`` if it is missing."""
        algorithm, value = _parsed(digest)
        # A layout of the OCI has it by the first name, a directory of skopeo's transport `dir` by one of the others.
        for name in (f"blobs/{algorithm}/{value}", value, f"{value}.manifest.json"):
            found = self.find(name)
            if found is not None:
                hashed = sha(found, algorithm)
                if hashed != value:
                    raise BadImage(f"{name} is damaged: expected {algorithm} {value}, got {hashed}")
                return found
        return None

    def value(self, name: str) -> Any:
        """Return the JSON in a file, ``None`` if there is no such file."""
        found = self.find(name)
        return None if found is None else parse_json(found, name)


def sha(content: Piece, algorithm: str = "sha256") -> str:
    """Return the digest of a content in hex."""
    with content.open() as file:
        return hashlib.file_digest(cast("Any", file), algorithm).hexdigest()


def parse_json(content: Piece, what: str) -> Any:
    """Return the JSON of a content. Raises ``BadImage``."""
    if content.size > _JSON_MAX:
        raise BadImage(f"{what}: expected at most {_JSON_MAX} bytes of JSON, got {content.size}")
    try:
        return json.loads(content.read(0, content.size))
    except (ValueError, RecursionError) as error:
        raise BadImage(f"{what}: not JSON: {error}") from error


def an_object(value: object, what: str) -> Mapping[str, Any]:
    """Return a value that must be an object of JSON. Raises ``BadImage``."""
    if not isinstance(value, dict):
        raise BadImage(f"{what}: expected an object, got {ascii(value)[:60]}")
    return value


def a_list(value: object, what: str) -> list[Any]:
    """Return a value that must be a list of JSON. Raises ``BadImage``."""
    if not isinstance(value, list):
        raise BadImage(f"{what}: expected a list, got {ascii(value)[:60]}")
    return value


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Open an archive or a directory. Raises ``BadImage``, ``BadPacking``, ``Refused`` and ``HostError``."""
    with ExitStack() as stack:
        if _is_directory(path):
            yield Source(name=str(path), stack=stack, top=path)
            return
        archive = _opened(stack, path)
        if archive is None:
            raise BadImage("no such file", "give the path of an image's archive or directory")
        try:
            entries = list(read_entries(stack.enter_context(plain(archive))))
        except BadTar as error:
            hint = "give an archive as `podman save`, `docker save` or `skopeo copy` writes it, or a directory"
            raise BadImage(f"expected a tar file: {error}", hint) from error
        yield Source(name=str(path), stack=stack, files=unpack_archive(entries))


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as error:
        raise unreadable(str(path), error) from error


def _opened(stack: ExitStack, path: Path) -> Piece | None:
    try:
        file = stack.enter_context(open_plain(path))
        return Piece(file=file.fileno(), start=0, size=os.fstat(file.fileno()).st_size, where=str(path))
    except NotPlainFile as error:
        raise BadImage(f"{path.name}: expected a file, got {error.strerror}") from error
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise unreadable(str(path), error) from error


def _parsed(digest: object) -> tuple[str, str]:
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise BadImage(f"expected a digest, sha256:HEX or sha512:HEX, got {ascii(digest)[:80]}")
    algorithm, _, value = digest.partition(":")
    return algorithm, value
