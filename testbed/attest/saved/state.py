"""The saved state of a verification: what the next one of the same machine may treat as judged.

It is the verifier's own file, and its content is trusted: keep it where only the verifier can write. A malformed one is
a ``SpecError``, never a finding.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from testbed import files
from testbed.attest.beats import Beat
from testbed.attest.entries.integrity import PARTS
from testbed.attest.hashes import BANKS
from testbed.attest.log.ima import USUAL
from testbed.attest.quote import Selection
from testbed.attest.registers import PCRS
from testbed.attest.saved import containers
from testbed.attest.saved.containers import SavedContainer
from testbed.attest.saved.strict import Object, parse_object
from testbed.attest.tpm import Key
from testbed.errors import SpecError

# 2: `trees`, `beats`, and `image_digest` of containers. 3: `measurer`, and `parent` and `counts_as` of containers; a
# nested container no longer has a `runtime_id`. 4: `policy` and `starts`, and containers as rows; a state without an
# attested entry is rejected, as older versions could save one of a machine on which no IMA ran.
SCHEMA = 4
SIZE_MAX = 16 << 20
_U32, _U64 = (1 << 32) - 1, (1 << 64) - 1
_HINT = "verify once without --since to make a new one"
_compact = json.JSONEncoder(separators=(",", ":"), sort_keys=True).encode
_BEAT = ("pcr", *Beat.__slots__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One piece of the attested log: ``size`` in bytes, ``sha256`` its digest in hex."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of the measurer that the log names: its word and digest, hex."""

    part: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a verification attested.

    ``key``: SHA-256 of the attestation key's SubjectPublicKeyInfo (DER), hex. ``policy``: that of the policy's file, by
    which all entries were judged; ``None`` without a policy. ``starts``: value of each PCR of ``bank`` before the log's
    first entry; ``pcrs``: at byte ``offset`` of the log; ``counts``: its entries before that. ``entries``: all entries
    before ``offset``, the sum of ``counts``, as an entry of any other PCR is never attested. ``seen_bytes``,
    ``seen_entries``: the log as it was read; its part past ``offset`` must be attested at the next verification.
    ``clock`` (milliseconds), ``reset_count``, ``restart_count``, ``firmware``: the quote's. ``segments``: the log's
    first ``offset`` bytes, a piece for each verification. ``trees``: digests, hex, of images that have their
    ``ctr-image``, sorted. ``measurer``: its own parts, sorted. ``beats``: the last one of each PCR that has any.
    ``padded_sha1``: entries extend the bank with their SHA-1 and zeros, as kernels before 5.8 do. ``log_digest``,
    ``byte_order``: how the log is written (``LogFormat``).
    """

    key: str
    policy: str | None
    bank: str
    starts: Mapping[int, bytes]
    pcrs: Mapping[int, bytes]
    counts: Mapping[int, int]
    offset: int
    entries: int
    seen_bytes: int
    seen_entries: int
    clock: int
    reset_count: int
    restart_count: int
    firmware: int
    segments: tuple[Segment, ...]
    containers: tuple[SavedContainer, ...] = ()
    trees: tuple[str, ...] = ()
    measurer: tuple[Part, ...] = ()
    beats: Mapping[int, Beat] = field(default_factory=dict)
    padded_sha1: bool = False
    log_digest: str = USUAL.digest
    byte_order: str = USUAL.byte_order


def fingerprint(key: Key) -> str:
    """Return the digest that stands for a key: the same for a PEM and a TPM2B_PUBLIC of one key."""
    # Imported only here: it is slow to import, and needed only where a state is saved or read.
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415

    return hashlib.sha256(key.public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def applies(state: State, key_fingerprint: str, bank: str, pcrs: Collection[int]) -> None:
    """Raise ``SpecError`` if the state is of another key, or of other PCRs than are demanded."""
    for what, saved, now in (
        ("attestation key", state.key, key_fingerprint),
        ("PCRs", _selection(state.bank, state.pcrs), _selection(bank, pcrs)),
    ):
        if saved != now:
            hint = "give the key and the PCRs of the earlier verification, or verify once without --since"
            raise SpecError(f"saved state: {what}: expected {saved}, as saved, got {now}", hint)


def same_policy(state: State, policy: str | None) -> None:
    """Raise ``SpecError`` if the entries were judged by another policy. ``policy``: SHA-256 of its file, hex."""
    if state.policy == policy:
        return
    saved, now = (digest or "no policy" for digest in (state.policy, policy))
    hint = "--rejudge judges the log again from its beginning, by the policy that you give now"
    raise SpecError(f"saved state: policy (SHA-256 of its file): expected {saved}, as saved, got {now}", hint)


def load_state(path: Path) -> State:
    """Read a state file. Raises ``SpecError``."""
    try:
        with files.open_plain(path) as file:
            data = file.read(SIZE_MAX + 1)
    except OSError as error:
        raise _wrong(f"{path}", "a plain file that can be read", files.reason(error)) from error
    return parse_state(data, f"{path}")


def save_state(path: Path, state: State) -> None:
    """Write a state file, mode 0600, beside, then renamed: never a partial file. Raises ``SpecError``."""
    data = encode_state(state)
    hint = "name a file in a directory that you may write"
    if len(data) > SIZE_MAX:
        where = f"{path}: the state is too large to be read again"
        raise SpecError(f"{where}: expected at most {SIZE_MAX} bytes, got {len(data)}", "verify with --recheck")
    try:
        target = path.resolve()
        # A rename would replace a device by a file.
        if target.exists() and not target.is_file():
            raise SpecError(f"{path}: expected a plain file or none, got something else", hint)
        files.write_plain(target, data, mode=0o600)
    except (OSError, ValueError, RuntimeError) as error:
        raise SpecError(f"{path}: expected a file that can be written, got {files.reason(error)}", hint) from error


def encode_state(state: State) -> bytes:
    """Return the file's bytes: the same for the same state, in whatever order its containers are."""
    flat = {name: getattr(state, name) for name in State.__slots__} | {
        "schema": SCHEMA,
        "starts": {f"{pcr}": state.starts[pcr].hex() for pcr in sorted(state.starts)},
        "pcrs": {f"{pcr}": state.pcrs[pcr].hex() for pcr in sorted(state.pcrs)},
        "counts": {f"{pcr}": state.counts[pcr] for pcr in sorted(state.counts)},
        "segments": [asdict(segment) for segment in state.segments],
        "measurer": [asdict(part) for part in state.measurer],
        "beats": [{"pcr": pcr} | asdict(beat) for pcr, beat in sorted(state.beats.items())],
        **containers.flatten(state.containers),
    }
    keys = ",\n".join(f"{json.dumps(key)}: {_lines(value)}" for key, value in sorted(flat.items()))
    return f"{{{keys}}}\n".encode()


def _lines(value: object) -> str:
    """Return JSON with a line for each item of a list: there can be many containers."""
    if isinstance(value, list):
        return "[" + ",\n".join(map(_compact, value)) + "]"
    return _compact(value)


def parse_state(data: bytes, where: str) -> State:
    """Read a state's bytes; ``where`` names them in errors. Raises ``SpecError`` and nothing else."""
    if len(data) > SIZE_MAX:
        raise _wrong(where, f"at most {SIZE_MAX} bytes", "more")
    keys = {"schema", *State.__slots__, *containers.KEYS}
    top = parse_object(data, where, keys, schema=SCHEMA, hint=_HINT, others=(containers.DRIFT,))
    bank = top.text("bank", "|".join(BANKS), f"one of {', '.join(BANKS)}")
    (pcrs, valued), (counts, counted) = top.numbered("pcrs", PCRS), top.numbered("counts", PCRS)
    starts, started = top.numbered("starts", PCRS)
    state = State(
        key=top.digest("key", 32),
        policy=None if top.null("policy") else top.digest("policy", 32),
        bank=bank,
        starts={pcr: bytes.fromhex(starts.digest(f"{pcr}", BANKS[bank])) for pcr in started},
        pcrs={pcr: bytes.fromhex(pcrs.digest(f"{pcr}", BANKS[bank])) for pcr in valued},
        counts={pcr: counts.integer(f"{pcr}") for pcr in counted},
        offset=top.integer("offset"),
        entries=top.integer("entries"),
        seen_bytes=top.integer("seen_bytes"),
        seen_entries=top.integer("seen_entries"),
        clock=top.integer("clock", most=_U64),
        reset_count=top.integer("reset_count", most=_U32),
        restart_count=top.integer("restart_count", most=_U32),
        firmware=top.integer("firmware", most=_U64),
        segments=tuple(map(_segment, top.objects("segments", Segment.__slots__))),
        containers=containers.parse(top),
        trees=top.digests("trees", 32),
        measurer=_parts(top),
        beats=_beats(top),
        padded_sha1=top.truth("padded_sha1"),
        log_digest=top.text("log_digest", "|".join(BANKS), f"one of {', '.join(BANKS)}"),
        byte_order=top.text("byte_order", "little|big", "little or big"),
    )
    _check_sums(top, state)
    return state


def _segment(row: Object) -> Segment:
    return Segment(size=row.integer("size", least=1), sha256=row.digest("sha256", 32))


def _parts(top: Object) -> tuple[Part, ...]:
    rows = top.objects("measurer", Part.__slots__)
    words = "|".join(PARTS.values())
    parts = tuple(
        Part(part=row.text("part", words, f"one of {words}"), digest=row.digest("digest", 32)) for row in rows
    )
    keys = [(part.part, part.digest) for part in parts]
    top.demand("measurer", keys == sorted(set(keys)), "different parts in order", [" ".join(key) for key in keys])
    return parts


def _beats(top: Object) -> dict[int, Beat]:
    rows = list(top.objects("beats", _BEAT))
    pcrs = [row.integer("pcr", most=PCRS - 1) for row in rows]
    top.demand("beats", pcrs == sorted(set(pcrs)), "each PCR once, in order", pcrs)
    return {pcr: _beat(row) for pcr, row in zip(pcrs, rows, strict=True)}


def _beat(row: Object) -> Beat:
    return Beat(
        number=row.integer("number", least=1, most=_U64),
        time=row.integer("time", most=_U64),
        interval=row.integer("interval", most=_U64),
        lost=row.integer("lost", most=_U64),
        containers=row.integer("containers", most=_U64),
        started=row.integer("started", most=_U64),
    )


def _check_sums(top: Object, state: State) -> None:
    """Numbers that the file contains twice must agree: otherwise it was written in part, or by hand."""
    seqs = [saved.container.seq for saved in state.containers]
    judges = {saved.counts_as for saved in state.containers}
    claimed = sum(saved.container.entries for saved in state.containers)
    top.demand("starts", state.starts.keys() == state.pcrs.keys(), "the same PCRs as in `pcrs`", sorted(state.starts))
    top.demand("counts", state.counts.keys() == state.pcrs.keys(), "the same PCRs as in `pcrs`", sorted(state.counts))
    for key, good, expected, got in (
        ("entries", state.entries == sum(state.counts.values()), "the sum of counts", state.entries),
        (
            "offset",
            state.offset == sum(segment.size for segment in state.segments),
            "the sum of segments",
            state.offset,
        ),
        ("entries", bool(state.entries), "at least one", state.entries),
        ("offset", bool(state.offset), "1 or more", state.offset),
        ("seen_bytes", state.seen_bytes >= state.offset, "offset or more", state.seen_bytes),
        ("seen_entries", state.seen_entries >= state.entries, "entries or more", state.seen_entries),
        ("containers", seqs == sorted(set(seqs)), "each seq once, in order", seqs),
        ("containers", claimed <= state.entries, "no more entries than `entries`", claimed),
        ("containers", judges <= set(seqs), "`counts_as` of a container of this state", sorted(judges)),
        ("beats", state.beats.keys() <= state.pcrs.keys(), "PCRs of `pcrs`", sorted(state.beats)),
    ):
        top.demand(key, good, expected, got)


def _selection(bank: str, pcrs: Collection[int]) -> str:
    return f"{Selection(bank=bank, pcrs=tuple(sorted(pcrs)))}"


def _wrong(where: str, expected: str, got: str) -> SpecError:
    return SpecError(f"{where}: expected {expected}, got {got}", _HINT)
