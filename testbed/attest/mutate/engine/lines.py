"""Lines of a log, made and changed, and the result: a forged log, or a machine that quotes another state."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from testbed.attest.log.ima import Entry, encode
from testbed.attest.mutate.engine.model import CONTAINER_PCR, IMA_PCR, Forged, Honest
from testbed.attest.mutate.engine.standin import StandIn, extended, hashed, pack_attest, rsa_tpm, selection

_U32 = struct.Struct("<I")
FILE_NAME, START_NAME = b"ctr-file", b"ctr-start"
# Offsets of docs/formats.md, section 2.
MNTNS, DIGEST, PATH = 24, 64, 96


def sized(value: bytes) -> bytes:
    """Return a field of template data."""
    return _U32.pack(len(value)) + value


def line(pcr: int, template: bytes, data: bytes, digest: bytes | None = None) -> Entry:
    """Return an entry that shows the right template digest, or ``digest``."""
    made = Entry(0, 0, 0, pcr, b"", template, data)
    return fixed(made) if digest is None else made._replace(digest=digest)


def fixed(entry: Entry) -> Entry:
    """Return the entry with the template digest that its data have."""
    return entry._replace(digest=hashlib.sha1(hashed(entry)).digest())  # noqa: S324 - the log's format


def digest_field(content: bytes, algorithm: str = "sha256") -> bytes:
    """Return field ``d-ng`` with the digest of ``content``."""
    return sized(algorithm.encode() + b":\0" + hashlib.new(algorithm, content).digest())


def file_line(path: str, content: bytes, pcr: int = IMA_PCR) -> Entry:
    """Return an ``ima-ng`` entry."""
    return line(pcr, b"ima-ng", digest_field(content) + sized(path.encode() + b"\0"))


def buffer_line(name: bytes, payload: bytes, pcr: int = CONTAINER_PCR) -> Entry:
    """Return an ``ima-buf`` entry."""
    return line(pcr, b"ima-buf", digest_field(payload) + sized(name + b"\0") + sized(payload))


def violation_line(path: str, pcr: int = IMA_PCR) -> Entry:
    """Return a violation: the log shows zeros, and the PCR is extended with ones."""
    data = sized(b"sha256:\0" + bytes(32)) + sized(path.encode() + b"\0")
    return line(pcr, b"ima-ng", data, digest=bytes(20))


def payload_of(kind: int, body: bytes, *, identity: bytes = bytes(32), flags: int = 0, version: int = 1) -> bytes:
    """Return a payload of the measurer. ``identity``: the four fields of a container, zeros for none."""
    return struct.pack("<4sHHII", b"TBCM", version, kind, 48 + len(body), flags) + identity + body


def fields(entry: Entry) -> list[bytes]:
    """Return the fields of an entry that is well formed."""
    values, at = [], 0
    while at < len(entry.data):
        (size,) = _U32.unpack_from(entry.data, at)
        values.append(entry.data[at + 4 : at + 4 + size])
        at += 4 + size
    return values


def event(entry: Entry) -> bytes:
    """Return the event's name of an ``ima-buf`` entry, an empty name for other entries."""
    return fields(entry)[1][:-1] if entry.template == b"ima-buf" else b""


def payload(entry: Entry) -> bytes:
    """Return field ``buf``."""
    return fields(entry)[2]


def patched(data: bytes, at: int, new: bytes) -> bytes:
    """Return ``data`` with some bytes replaced; ``at`` may count from the end."""
    at %= len(data)
    return data[:at] + new + data[at + len(new) :]


def flipped(data: bytes, at: int) -> bytes:
    """Return ``data`` with the lowest bit of one byte flipped."""
    return patched(data, at, bytes([data[at] ^ 1]))


def join(entries: Iterable[Entry]) -> bytes:
    """Return the bytes of a log."""
    return b"".join(encode(entry.pcr, entry.digest, entry.template, entry.data) for entry in entries)


def file_places(honest: Honest) -> list[int]:
    """Return where the attested ``ctr-file`` entries are."""
    return [index for index in honest.places(CONTAINER_PCR) if event(honest.entries[index]) == FILE_NAME]


def start_places(honest: Honest) -> list[int]:
    """Return where the attested ``ctr-start`` entries are."""
    return [index for index in honest.places(CONTAINER_PCR) if event(honest.entries[index]) == START_NAME]


def highest_seq(entries: Iterable[Entry]) -> int:
    """Return the highest number of a container that started, as an honest beat names it."""
    starts = (payload(entry) for entry in entries if event(entry) == START_NAME)
    return max((int.from_bytes(start[16:24], "little") for start in starts), default=0)


def victim(honest: Honest) -> int:
    """Return where the middle one of the ``ctr-file`` entries is."""
    places = file_places(honest)
    return places[len(places) // 2]


def victim_payload(honest: Honest) -> bytes:
    """Return what the middle one of the ``ctr-file`` entries says."""
    return payload(honest.entries[victim(honest)])


def needs_containers(honest: Honest) -> str | None:
    """Say what is missing for an attack on the entries of containers."""
    if len(file_places(honest)) < 4 or len(start_places(honest)) < 2:
        return "needs two containers and four files of theirs on PCR 11"
    return needs_both(honest)


def needs_both(honest: Honest) -> str | None:
    """Say what is missing for an attack that plays one PCR against the other."""
    if any(not honest.attested.get(pcr) for pcr in (IMA_PCR, CONTAINER_PCR)) or len(honest.attested) != 2:
        return "needs a quote over PCRs 10 and 11, and attested entries of both"
    return None


def as_it_is(honest: Honest) -> Forged:
    """Return the honest evidence and the honest question."""
    return Forged(files=honest.files, ak=honest.ak, nonce=honest.nonce, pcrs=honest.pcrs)


def with_files(honest: Honest, files: Mapping[str, bytes]) -> Forged:
    """Return the honest evidence with some files replaced."""
    return replace(as_it_is(honest), files={**honest.files, **files})


def with_log(honest: Honest, entries: Sequence[Entry]) -> Forged:
    """Return the honest evidence with another log."""
    return with_files(honest, {"ima.bin": join(entries)})


def described(honest: Honest, values: Mapping[int, bytes] | None, **others: object) -> bytes:
    """Return a ``bundle.json`` with these PCR values, or none, and with ``others`` instead of its own keys."""
    claims = {key: value for key, value in json.loads(honest.files["bundle.json"]).items() if key != "pcr_values"}
    if values is not None:
        claims["pcr_values"] = {f"{pcr}": value.hex() for pcr, value in values.items()}
    return json.dumps({**claims, **others}, indent=1).encode() + b"\n"


def without_values(honest: Honest, forged: Forged) -> Forged:
    """Return the forged evidence without PCR values: the verifier has to search the log."""
    return replace(forged, files={**forged.files, "bundle.json": described(honest, None)})


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgedMachine:
    """What a machine's root has done by the time of the quote.

    ``lines``: the entries that PCRs were extended by. ``direct``: digests with which root also extended a PCR, without
    a line. ``log``: what the verifier is shown, if it is not these lines. ``starts``: what PCRs held before the first
    line. ``clock`` (milliseconds), ``reset``, ``restart``, ``firmware``: by how much they differ from the honest
    quote's.
    """

    lines: Sequence[Entry]
    log: bytes | None = None
    direct: Mapping[int, Sequence[bytes]] = field(default_factory=dict)
    starts: Mapping[int, bytes] = field(default_factory=dict)
    bank: str = "sha256"
    padded: bool = False
    clock: int = 0
    reset: int = 0
    restart: int = 0
    firmware: int = 0

    def value(self, pcr: int, bank: str = "") -> bytes:
        """Return what a PCR holds."""
        bank = bank or self.bank
        value = extended(self.lines, pcr, bank, self.starts.get(pcr, b""), padded=self.padded)
        for digest in self.direct.get(pcr, ()):
            value = hashlib.new(bank, value + digest).digest()
        return value


def quote(
    honest: Honest,
    machine: ForgedMachine,
    *,
    tpm: StandIn | None = None,
    nonce: bytes | None = None,
    pcrs: Sequence[int] = (IMA_PCR, CONTAINER_PCR),
    selections: Sequence[tuple[int, bytes]] | None = None,
    values: Sequence[bytes] | None = None,
) -> Forged:
    """Return a genuine quote of the stand-in TPM over ``machine``, and the question that the honest verifier asks it.

    ``nonce``, ``pcrs``: what the TPM was asked for. ``selections``, ``values``: the quote's list and the PCR values
    that it is over, where they are not simply those of ``pcrs`` in the machine's bank.
    """
    tpm = tpm or rsa_tpm()
    reached = {pcr: machine.value(pcr) for pcr in pcrs}
    attest = replace(
        honest.attest,
        signer=tpm.signer,
        nonce=honest.nonce if nonce is None else nonce,
        clock=honest.attest.clock + machine.clock,
        reset_count=honest.attest.reset_count + machine.reset,
        restart_count=honest.attest.restart_count + machine.restart,
        firmware=honest.attest.firmware + machine.firmware,
        selections=tuple(selections or (selection(machine.bank, pcrs),)),
        digest=hashlib.new(tpm.hash_alg, b"".join(reached.values() if values is None else values)).digest(),
    )
    message = pack_attest(attest)
    files = {
        "bundle.json": described(honest, reached),
        "quote.attest": message,
        "quote.sig": tpm.sign(message),
        "ima.bin": join(machine.lines) if machine.log is None else machine.log,
    }
    return Forged(files=files, ak=tpm.public, nonce=honest.nonce, pcrs=honest.pcrs, ak_parent=tpm.parent)


def tail(honest: Honest) -> list[Entry]:
    """Return the entries past the quoted state."""
    covered = honest.covered_places()
    return [entry for index, entry in enumerate(honest.entries) if index not in covered]


def grown(honest: Honest, *new: Entry) -> list[Entry]:
    """Return what the quote covers with entries put before its last: in the middle of the log, but not at its end."""
    covered = honest.covered()
    return [*covered[:-1], *new, covered[-1]]
