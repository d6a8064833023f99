"""By which rule was a digest made, and what does it bind? Computed from the log's lines alone.

A measurer that writes namespaced lines (name `NAMESPACE:/path`, or `NAMESPACE` for an image) is not trusted: its digest
is compared with the results of each known rule on the log's plain digests for that path.
"""

from __future__ import annotations

import enum
import hashlib
import itertools
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from testbed.attest.finding import Finding, FindingKind, counted
from testbed.attest.hashes import BANKS

# What both prototypes hash: as many bytes as a pointer has (its `sizeof`), instead of the whole digest.
POINTER = 8
# An attester can log any number of contents for a path, and any number of digests, so both have a limit.
CANDIDATES = 64
TRACKED = 1 << 16
SHOWN = 100
_NAMESPACED = re.compile(rb"([0-9]{1,10}(?=:)|4[0-9]{9})(?::(/.*))?", re.DOTALL)  # alone: from 4026531832 on
_ALGORITHMS = {"md5": 16, "sha224": 28} | BANKS


class Rule(enum.StrEnum):
    """How a digest was made. ``UNKNOWN``: no known rule gives this digest."""

    PLAIN = "plain"
    PROTOTYPE_FILE = "prototype-file"
    PROTOTYPE_IMAGE = "prototype-image"
    CONTAINER_FILE = "container-file"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A line as a measurement: ``where`` for people, the rest from its fields. ``template`` identifies `ima-buf`."""

    where: str
    pcr: int
    name: bytes
    algorithm: str
    digest: bytes
    template: bytes = b"ima-ng"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inferred:
    """What was inferred of one line.

    ``bits``: how many bits of the file's or the image's digest the logged digest binds, ``None`` if that is not known.
    ``namespace_bound``: whether it binds the whole identity of the container, beside the line's name, which always
    shows one; ``namespace_digits`` of its number are in it. ``contents``: known plain digests that give the logged one.
    """

    rule: Rule
    bits: int | None = None
    namespace_bound: bool = False
    namespace_digits: int = 0
    contents: tuple[bytes, ...] = ()
    explanation: str = ""


@dataclass(slots=True, kw_only=True)
class Group:
    """The lines of one PCR that were made by one rule. ``bits``: numbers of bits and of lines that bind them."""

    rule: Rule
    pcr: int
    first: str
    namespaced: bool
    bits: dict[int | None, int] = field(default_factory=dict)
    namespace_bound: bool = True

    @property
    def entries(self) -> int:
        return sum(self.bits.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """Groups by PCR and rule, host lines and namespaced ones separate, and the findings, limited in number."""

    groups: tuple[Group, ...]
    findings: tuple[Finding, ...]


def prototype_file(digest: bytes, namespace: bytes, algorithm: str = "sha256") -> bytes:
    """Return what the public prototype `container-ima` logs for a file with this digest in this UTS namespace.

    It appends the namespace's number with a string function to the binary digest and hashes the first ``POINTER``
    bytes: so the number is in them only where a zero byte ends the "string" before (container_ima.c, commit 1429fd0).
    ``namespace``: decimal text, which the kernel's numbers give at least as many digits as ``POINTER``.
    """
    return hashlib.new(algorithm, (digest[: _kept(digest)] + namespace)[:POINTER]).digest()


def no_content_digests(algorithm: str = "sha256") -> frozenset[bytes]:
    """Return the image digests that cover nothing.

    The prototype `container-integrity-measurement` (commit 2db127b) hashes the first ``POINTER`` bytes of an aggregate
    over the tree's part of the dentry cache. On a fresh overlay that part is empty, and the aggregate is zero. Also:
    the hash of a whole zero digest, of no bytes, and zeros that were not hashed at all.
    """
    size = _ALGORITHMS[algorithm]
    hashed = (hashlib.new(algorithm, bytes(count)).digest() for count in (0, POINTER, size))
    return frozenset((bytes(size), *hashed))


def split_name(name: bytes) -> tuple[bytes, bytes | None] | None:
    """Return namespace and path of a namespaced line, no path for an image's, and ``None`` for any other line."""
    return (match[1], match[2]) if (match := _NAMESPACED.fullmatch(name)) else None


def is_namespaced(name: bytes) -> bool:
    return split_name(name) is not None


def path_of(name: bytes) -> bytes | None:
    """Return the path in the name of a namespaced line; an image's has none."""
    return (split_name(name) or (None, None))[1]


def infer(line: Measured, known: Mapping[bytes, Collection[bytes]]) -> Inferred:
    """Infer the rule of one line. ``known``: plain digests by path, of which the first ``CANDIDATES`` are tried."""
    if line.template == b"ima-buf" and line.name == b"ctr-file":
        said = "the digest of a payload that has the file's digest and the container's identity"
        return Inferred(rule=Rule.CONTAINER_FILE, bits=8 * len(line.digest), namespace_bound=True, explanation=said)
    parts = _parts(line)
    if parts is None:
        return Inferred(rule=Rule.PLAIN, bits=8 * len(line.digest), explanation="not namespaced: used unchanged")
    if len(line.digest) != _ALGORITHMS.get(line.algorithm):
        return Inferred(rule=Rule.UNKNOWN, explanation=f"{len(line.digest)} bytes of {line.algorithm}")
    namespace, path = parts
    return _image(line) if path is None else _file(line, namespace, path, known)


def audit(lines: Iterable[Measured], known: Mapping[bytes, Collection[bytes]]) -> Audit:
    """Infer the rule of each line and report what the rules do not bind.

    Findings: one ``weak-binding`` for each prototype rule and PCR, and one for each digest that stands for two contents
    or two namespaces; ``no-content`` for an image line; ``unsupported`` for a namespaced line whose rule is unknown.
    The first ``SHOWN`` of each kind are listed, the others counted.
    """
    state = _State()
    for line in lines:
        inferred, parts = infer(line, known), _parts(line)
        _count(state, line, inferred, namespaced=parts is not None or inferred.rule is Rule.CONTAINER_FILE)
        if parts is not None:
            _judge(state, line, inferred, *parts)
    groups = tuple(state.groups[key] for key in sorted(state.groups))
    for group in groups:
        group.bits = dict(sorted(group.bits.items(), key=lambda item: -(item[0] or 0)))
    return Audit(groups=groups, findings=(*_weak(groups), *state.findings, *_rest(state)))


@dataclass(slots=True, kw_only=True)
class _Seen:
    """The first meaning of a digest, and whether a second one was already reported."""

    where: str
    namespace: bytes
    content: bytes | None
    namespaces_told: bool = False
    contents_told: bool = False


@dataclass(slots=True, kw_only=True)
class _State:
    groups: dict[tuple[int, str, bool], Group] = field(default_factory=dict)
    seen: dict[tuple[str, bytes], _Seen] = field(default_factory=dict)
    untracked: int = 0
    findings: list[Finding] = field(default_factory=list)
    counts: dict[FindingKind, int] = field(default_factory=dict)


def _parts(line: Measured) -> tuple[bytes, bytes | None] | None:
    return None if line.template == b"ima-buf" else split_name(line.name)


def _kept(digest: bytes) -> int:
    """Return how many bytes of a digest are hashed: those before its first zero byte, at most ``POINTER``."""
    end = digest[:POINTER].find(0)
    return POINTER if end < 0 else end


def _image(line: Measured) -> Inferred:
    if line.digest not in no_content_digests(line.algorithm):
        return Inferred(rule=Rule.UNKNOWN, explanation="an image digest that does not say what it covers")
    return Inferred(rule=Rule.PROTOTYPE_IMAGE, bits=0, explanation="the digest of zero bytes: no content was measured")


def _file(line: Measured, namespace: bytes, path: bytes, known: Mapping[bytes, Collection[bytes]]) -> Inferred:
    size = len(line.digest)
    plain = dict.fromkeys(digest for digest in itertools.islice(known.get(path, ()), CANDIDATES) if len(digest) == size)
    if line.digest in plain:
        return Inferred(rule=Rule.PLAIN, bits=8 * size, contents=(line.digest,), explanation="the file's own digest")
    fits = tuple(digest for digest in plain if prototype_file(digest, namespace, line.algorithm) == line.digest)
    # Of a digest that begins with a zero byte nothing is hashed, so this case needs no plain digest.
    if not fits and prototype_file(bytes(size), namespace, line.algorithm) == line.digest:
        return _prototype(0, namespace, ())
    if not fits:
        said = (
            "no known rule gives it from a plain digest of this path"
            if plain
            else "no plain digest of this path is known"
        )
        return Inferred(rule=Rule.UNKNOWN, explanation=said)
    return _prototype(min(_kept(digest) for digest in fits), namespace, fits)


def _prototype(count: int, namespace: bytes, contents: tuple[bytes, ...]) -> Inferred:
    """``count``: bytes of the file's digest that were hashed; the namespace fills the rest of ``POINTER``."""
    digits = min(POINTER - count, len(namespace))
    return Inferred(
        rule=Rule.PROTOTYPE_FILE,
        bits=8 * count,
        namespace_bound=digits == len(namespace),
        namespace_digits=digits,
        contents=contents,
        explanation=f"{count} bytes of the file's digest and {digits} digits of the namespace were hashed",
    )


def _count(state: _State, line: Measured, inferred: Inferred, *, namespaced: bool) -> None:
    key = (line.pcr, inferred.rule.value, namespaced)
    if (group := state.groups.get(key)) is None:
        group = state.groups[key] = Group(rule=inferred.rule, pcr=line.pcr, first=line.where, namespaced=namespaced)
    group.bits[inferred.bits] = group.bits.get(inferred.bits, 0) + 1
    group.namespace_bound &= inferred.namespace_bound


def _judge(state: _State, line: Measured, inferred: Inferred, namespace: bytes, path: bytes | None) -> None:
    name = ascii(line.name.decode(errors="backslashreplace"))[:200]
    if inferred.rule is Rule.UNKNOWN:
        expected = "a digest made by a known rule"
        _add(state, FindingKind.UNSUPPORTED, line.where, expected, f"{name}: {inferred.explanation}")
    elif inferred.rule is Rule.PROTOTYPE_IMAGE:
        got = f"{name}: {line.digest.hex()}, {inferred.explanation}"
        _add(state, FindingKind.NO_CONTENT, line.where, "a digest of the image's content", got)
    # A plain digest claims to bind only the file; an image may run in two namespaces.
    if path is not None and inferred.rule is not Rule.PLAIN:
        _shared(state, line, inferred, namespace)


def _shared(state: _State, line: Measured, inferred: Inferred, namespace: bytes) -> None:
    """Report a digest that stands for two namespaces or two contents, each once."""
    key, content = (line.algorithm, line.digest), inferred.contents[0] if inferred.contents else None
    seen = state.seen.get(key)
    if seen is None:
        if len(state.seen) >= TRACKED:
            state.untracked += 1
            return
        seen = state.seen[key] = _Seen(where=line.where, namespace=namespace, content=content)
    if seen.namespace != namespace and not seen.namespaces_told:
        seen.namespaces_told = True
        got = f"{line.digest.hex()} for {seen.namespace.decode()} ({seen.where}) and {namespace.decode()}"
        _add(state, FindingKind.WEAK_BINDING, line.where, "another digest in another namespace", got)
    contents = tuple(dict.fromkeys((seen.content or content or b"", *inferred.contents)))
    if len(contents) > 1 and not seen.contents_told:
        seen.contents_told = True
        got = f"{line.digest.hex()} for files {contents[0].hex()} and {contents[1].hex()} ({seen.where})"
        _add(state, FindingKind.WEAK_BINDING, line.where, "another digest for another content", got)
    seen.content = seen.content or content


def _weak(groups: Iterable[Group]) -> Iterable[Finding]:
    for group in groups:
        if group.rule not in {Rule.PROTOTYPE_FILE, Rule.PROTOTYPE_IMAGE}:
            continue
        bits = ", ".join(
            f"{bits} bits bound by {counted(count, 'entry', 'entries')}" for bits, count in group.bits.items()
        )
        entries = counted(group.entries, "entry", "entries")
        yield Finding(
            kind=FindingKind.WEAK_BINDING,
            where=f"PCR {group.pcr}: {entries} by rule {group.rule}, the first is {group.first}",
            expected="digests that bind the whole content digest and the container",
            got=f"{bits}; namespace {'bound' if group.namespace_bound else 'not bound'}",
        )


def _add(state: _State, kind: FindingKind, where: str, expected: str, got: str) -> None:
    state.counts[kind] = state.counts.get(kind, 0) + 1
    if state.counts[kind] <= SHOWN:
        state.findings.append(Finding(kind=kind, where=where, expected=expected, got=got))


def _rest(state: _State) -> Iterable[Finding]:
    for kind, count in state.counts.items():
        if count > SHOWN:
            yield Finding(kind=kind, where="further lines", expected="none", got=f"{count - SHOWN} more like these")
    if state.untracked:
        got = f"{state.untracked} more lines, which were not compared with each other"
        expected, where = f"at most {TRACKED} digests of namespaced files", "namespaced lines"
        yield Finding(kind=FindingKind.UNSUPPORTED, where=where, expected=expected, got=got)
