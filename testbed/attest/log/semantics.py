"""What the digests in logs bind: each log is read, the plain digests of all are collected, and each line is judged.

``rules`` infers the rule of one line; this module reads files and puts together what ``testbed semantics`` shows.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed import files
from testbed.attest.finding import Finding
from testbed.attest.log.content import Content, read_content
from testbed.attest.log.pasted import decode
from testbed.attest.log.rules import Audit, Group, Inferred, Measured, audit, infer, path_of
from testbed.attest.log.text import LINES_MAX, TEXT_MAX, is_text
from testbed.errors import SpecError

SCHEMA = 1
_REPAIRS = 64
_GIVE = "give an IMA log, as the kernel shows it in binary_runtime_measurements or ascii_runtime_measurements"


@dataclass(frozen=True, slots=True, kw_only=True)
class Semantics:
    """What the digests of one or more logs bind.

    ``logs``: what was read of each file. ``audit``: the rules by which digests were made, and the findings about them.
    ``known``: the plain digests by path, of all logs together.
    """

    logs: tuple[Content, ...]
    audit: Audit
    known: Mapping[bytes, Sequence[bytes]]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is wrong with the logs, then with their digests."""
        return (*(finding for log in self.logs for finding in log.findings), *self.audit.findings)

    @property
    def clean(self) -> bool:
        """Whether nothing was found and no line is damaged."""
        return not self.findings and not any(log.damaged for log in self.logs)

    @property
    def lines(self) -> tuple[tuple[Measured, Inferred], ...]:
        """Each namespaced line with what was inferred of it."""
        return tuple((line, infer(line, self.known)) for log in self.logs for line in log.namespaced)

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object of ``testbed semantics --json``, schema 1."""
        return {
            "schema": SCHEMA,
            "logs": [_log(log) for log in self.logs],
            "rules": [_rule(group) for group in self.audit.groups],
            "lines": [_line(line, inferred) for line, inferred in self.lines],
            "findings": [finding.as_json() for finding in self.findings],
        }


def read_semantics(paths: Iterable[Path]) -> Semantics:
    """Read logs, binary or text, and judge their digests; the plain digests of all are used for each.

    Raises ``SpecError`` for a file that is not plain, cannot be read or is too large, ``EvidenceError`` for one without
    an entry.
    """
    logs = tuple(_read(path) for path in paths)
    namespaced = [line for log in logs for line in log.namespaced]
    known = {path: _plain(logs, path) for line in namespaced if (path := path_of(line.name)) is not None}
    others = (itertools.repeat(line, count) for log in logs for line, count in log.counted.values())
    return Semantics(logs=logs, audit=audit(itertools.chain(namespaced, *others), known), known=known)


def _plain(logs: Iterable[Content], path: bytes) -> list[bytes]:
    return list(dict.fromkeys(digest for log in logs for digest in log.plain.get(path, ())))


def _read(path: Path) -> Content:
    data, encoding = decode(_bytes(path))
    # A binary log may have any number of these bytes.
    if is_text(data) and data.count(b"\n") > LINES_MAX:
        raise SpecError(f"{path}: expected a log of at most {LINES_MAX} lines, got more", _GIVE)
    return read_content(str(path), data, encoding, repairs=_REPAIRS)


def _bytes(path: Path) -> bytes:
    """Read a plain file to the end: in securityfs the size of a file is not its length."""
    try:
        with files.open_plain(path) as file:
            data = file.read(TEXT_MAX + 1)
    except OSError as error:
        raise SpecError(f"{path}: expected a plain file that can be read, got: {files.reason(error)}", _GIVE) from error
    if len(data) > TEXT_MAX:
        raise SpecError(f"{path}: expected a log of at most {TEXT_MAX} bytes, got more", _GIVE)
    return data


def _line(line: Measured, inferred: Inferred) -> dict[str, Any]:
    return {
        "where": line.where,
        "pcr": line.pcr,
        "name": line.name.decode(errors="backslashreplace"),
        "digest": line.digest.hex(),
        "rule": inferred.rule.value,
        "bits": inferred.bits,
        "namespace_bound": inferred.namespace_bound,
        "explanation": inferred.explanation,
    }


def _log(log: Content) -> dict[str, Any]:
    return {
        "path": log.path,
        "form": log.form,
        "encoding": log.encoding,
        "entries": log.entries,
        "violations": log.violations,
        "other_lines": log.others,
        "damaged": log.damaged,
        "damaged_lines": log.damaged_lines,
        "cleaned": [{"what": what, "lines": count, "first": first} for what, (count, first) in log.cleaned.items()],
    }


def _rule(group: Group) -> dict[str, Any]:
    return {
        "pcr": group.pcr,
        "rule": group.rule.value,
        "namespaced": group.namespaced,
        "entries": group.entries,
        "bits": [{"bound": bits, "entries": count} for bits, count in group.bits.items()],
        "namespace_bound": group.namespace_bound if group.namespaced else None,
    }
