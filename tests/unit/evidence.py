"""Writers of what `testbed.attest` reads, from docs/formats.md and the kernel's rules. They share no code with it."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

GOLDEN = Path(__file__).parents[1] / "golden"
CONTAINER = "5f" * 32


def field(value: bytes) -> bytes:
    return struct.pack("<I", len(value)) + value


def digest_field(content_digest: bytes, algorithm: str = "sha256") -> bytes:
    return field(algorithm.encode() + b":\0" + content_digest)


def entry(pcr: int, template: bytes, data: bytes, *, digest: bytes | None = None) -> bytes:
    """One entry of the binary log, for any template but `ima`."""
    shown = hashlib.sha1(data).digest() if digest is None else digest
    return struct.pack("<I", pcr) + shown + field(template) + field(data)


def ima_ng(path: str, content: bytes, pcr: int = 10) -> bytes:
    data = digest_field(hashlib.sha256(content).digest()) + field(path.encode() + b"\0")
    return entry(pcr, b"ima-ng", data)


def ima_sig(path: str, content: bytes, sig: bytes = b"", pcr: int = 10) -> bytes:
    data = digest_field(hashlib.sha256(content).digest()) + field(path.encode() + b"\0") + field(sig)
    return entry(pcr, b"ima-sig", data)


def ima_old(path: str, content: bytes, pcr: int = 10) -> bytes:
    """One entry of the template `ima`, whose data have no length and whose name is hashed padded."""
    digest, name = hashlib.sha1(content).digest(), path.encode()
    shown = hashlib.sha1(digest + name.ljust(256, b"\0")).digest()
    return struct.pack("<I", pcr) + shown + field(b"ima") + digest + field(name)


def reformed(line: bytes, digest: str = "sha1", order: str = "<") -> bytes:
    """An entry as another bank's log, or a big-endian machine, has it; of any template but `ima`."""
    pcr, shown, size = struct.unpack_from("<I20sI", line)
    template, data = line[28 : 28 + size], line[32 + size :]
    fields, at = b"", 0
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        fields += struct.pack(f"{order}I", length) + data[at + 4 : at + 4 + length]
        at += 4 + length
    hashed = hashlib.new(digest, fields).digest()
    shown = hashed if any(shown) else bytes(len(hashed))
    head = struct.pack(f"{order}I{len(shown)}sI", pcr, shown, size) + template
    return head + struct.pack(f"{order}I", len(fields)) + fields


def extended_by_fields(lines: list[bytes], pcr: int, digest: str, order: str) -> bytes:
    """What PCR `pcr` of the bank sha256 holds after such lines."""
    value, size = bytes(32), hashlib.new(digest).digest_size
    for line in lines:
        number, shown, name = struct.unpack_from(f"{order}I{size}sI", line)
        if number == pcr:
            data = line[8 + size + name + 4 :]
            value = hashlib.sha256(value + (hashlib.sha256(data).digest() if any(shown) else b"\xff" * 32)).digest()
    return value


def violation(path: str, pcr: int = 10) -> bytes:
    return entry(pcr, b"ima-ng", digest_field(bytes(32)) + field(path.encode() + b"\0"), digest=bytes(20))


def buf_data(name: str, payload: bytes) -> bytes:
    """Template data of an `ima-buf` entry."""
    return digest_field(hashlib.sha256(payload).digest()) + field(name.encode() + b"\0") + field(payload)


def ima_buf(name: str, payload: bytes, pcr: int = 11) -> bytes:
    return entry(pcr, b"ima-buf", buf_data(name, payload))


BOOT = ima_ng("boot_aggregate", b"")


def header(kind: int, size: int, *, flags: int = 0, seq: int = 1, mntns: int = 4026532500, version: int = 1) -> bytes:
    cgroup, started = 7000 + seq, 30_000_000_000 + seq
    return struct.pack("<4sHHIIQQQQ", b"TBCM", version, kind, size, flags, seq, mntns, cgroup, started)


def ctr_file(
    path: bytes,
    content: bytes,
    *,
    seq: int = 1,
    route: int = 1,
    flags: int = 0,
    version: int = 1,
    digest: bytes | None = None,
) -> bytes:
    """A file with this content, or, as ``digest`` says, with another digest than its SHA-256."""
    told = hashlib.sha256(content).digest() if digest is None else digest
    body = struct.pack("<HHIQ32s", route, 0x000B, len(path), len(content), told) + path
    return header(1, 48 + len(body), flags=flags, seq=seq, version=version) + body


def ctr_start(cgroup: bytes, *, seq: int = 1, parent: int = 0, flags: int = 0, version: int = 1) -> bytes:
    body = struct.pack("<QIIII", parent, 4026532600, 4026531838, len(cgroup), 0) + cgroup
    return header(2, 48 + len(body), flags=flags, seq=seq, version=version) + body


def ctr_beat(
    number: int,
    event: int = 2,
    *,
    lost: int = 0,
    interval: int = 0,
    time: int | None = None,
    proved: int | None = None,
    containers: int = 1,
) -> bytes:
    """A beat; without ``time`` one is a nanosecond after the one before it. With ``proved`` it is of version 2."""
    when = 40_000_000_000 + number if time is None else time
    body = struct.pack("<QQIIQQQ", number, when, event, proved or 0, interval, lost, containers)
    return of_nobody(6, body, version=1 if proved is None else 2)


def ctr_join(*, seq: int = 1, origin: int = 0, version: int = 1) -> bytes:
    return header(7, 64, seq=seq, version=version) + struct.pack("<QQ", 50_000_000_000, origin)


def ctr_loss(lost: int = 1, reasons: int = 1, *, seq: int = 1) -> bytes:
    return header(8, 64, seq=seq, version=2) + struct.pack("<QII", lost, reasons, 0)


def ctr_mounts(table: bytes, *, seq: int = 1, flags: int = 0, event: int = 9) -> bytes:
    body = struct.pack("<QII", event, table.count(b"\n"), len(table)) + table
    return header(9, 48 + len(body), flags=flags, seq=seq, version=2) + body


def ctr_program(content: bytes = b"program", *, seq: int = 1, what: int = 1, command: int | None = None) -> bytes:
    """A program or module, or, as ``what`` 2 says, another command of bpf()."""
    number = {1: 5, 2: 2, 3: 0}[what] if command is None else command
    told = (0, number, 0, bytes(32)) if what == 2 else (11, number, len(content), hashlib.sha256(content).digest())
    return header(10, 96, seq=seq, version=2) + struct.pack("<HHIQ32s", what, *told)


def ctr_measurer(part: int = 1, content: bytes = b"part") -> bytes:
    digest = hashlib.sha256(content).digest()
    return of_nobody(11, struct.pack("<HHIQ32s", part, 0x000B, 0, len(content), digest), version=2)


def of_nobody(kind: int, body: bytes, flags: int = 0, version: int = 1) -> bytes:
    """A payload of a kind that speaks of no container."""
    return struct.pack("<4sHHIIQQQQ", b"TBCM", version, kind, 48 + len(body), flags, 0, 0, 0, 0) + body


def ctr_image(
    digest: bytes, *, outcome: int = 0, files: int = 9, size: int = 1000, version: int = 1, tree: int | None = None
) -> bytes:
    """An image; ``tree``: what its digest is, if not that of a tree as the entry's version has it."""
    kind = min(version, 2) if tree is None else tree
    return of_nobody(3, struct.pack("<HHIQQ32s", kind, 0x000B, outcome, files, size, digest), version=version)


def mount(path: bytes, kind: bytes = b"tmpfs", flags: int = 7) -> bytes:
    return struct.pack("<III", flags, len(path), len(kind)) + path + kind


# A container's mounts as crun makes them.
TABLE = (
    b"/ overlay overlay / rw,relatime rw\n"
    b"/proc proc proc / rw,nosuid,nodev,noexec,relatime rw\n"
    b"/dev tmpfs tmpfs / rw,nosuid rw\n"
    b"/sys/fs/cgroup cgroup2 cgroup2 /testbed/a ro,nosuid,nodev,noexec,relatime rw\n"
)


def ctr_launch(
    image: bytes,
    args: tuple[bytes, ...] = (b"/usr/bin/true",),
    *,
    seq: int = 1,
    outcome: int = 0,
    flags: int = 0,
    arguments: bytes | None = None,
    uid_map: tuple[tuple[int, int, int], ...] = ((0, 0, 0xFFFFFFFF),),
    gid_map: tuple[tuple[int, int, int], ...] = ((0, 0, 0xFFFFFFFF),),
    mounts: tuple[bytes, ...] = (mount(b"/proc", b"proc", 14),),
    table: bytes | None = None,
    root: tuple[int, int, int, bytes] = (0o755, 0, 0, bytes(32)),
    environment: bytes = b"e" * 32,
    runtime: bytes = b"r" * 32,
    config: bytes = bytes(32),
    user: int = 0,
    group: int = 0,
    caps: tuple[int, int, int, int] = (0x5FB, 0x5FB, 0, 0),
    version: int = 2,
) -> bytes:
    """Flags for what is not there, or is claimed, are set from the digests. Without ``table`` it is of version 1."""
    said = b"".join(arg + b"\0" for arg in args) if arguments is None else arguments
    listed, count = (b"".join(mounts), len(mounts)) if table is None else (table, table.count(b"\n"))
    mode, owner, owners, xattrs = root
    flags |= 4 * (not any(runtime)) | 8 * any(config) | 32 * (not any(environment))
    numbers = (0x000B, outcome, user, group, len(args), len(said), len(uid_map), len(gid_map), count, len(listed))
    body = struct.pack("<HHIIIIIIIII", *numbers, 0 if table is None else mode)
    body += image + environment + runtime + config + struct.pack("<QQQQ", *caps)
    if table is not None:
        body += struct.pack("<II32s", owner, owners, xattrs)
    ranges = b"".join(struct.pack("<III", *one) for one in (*uid_map, *gid_map))
    body += said + ranges + listed
    return header(4, 48 + len(body), flags=flags, seq=seq, version=1 if table is None else version) + body


def ctr_violation(
    path: bytes,
    *,
    seq: int = 1,
    violation: int = 1,
    flags: int = 0,
    device: tuple[int, int] = (8, 1),
    inode: int = 77,
    version: int = 1,
) -> bytes:
    body = struct.pack("<HHIQQ", violation, 0, len(path), device[0] << 32 | device[1], inode) + path
    return header(5, 48 + len(body), flags=flags, seq=seq, version=version) + body


def libpod(container: str = CONTAINER) -> bytes:
    return f"/machine.slice/libpod-{container}.scope/container".encode()


def sample_log(host_files: int = 10, container_files: int = 6) -> list[bytes]:
    """A log as a boot with two containers leaves it, PCR 10 and PCR 11 interleaved."""
    log = [ima_ng("boot_aggregate", b"aggregate")]
    for seq in (1, 2):
        log.append(ima_buf("ctr-start", ctr_start(libpod(f"{seq:064x}"), seq=seq)))
        log += [ima_ng(f"/usr/bin/host-{seq}-{n}", f"host {seq} {n}".encode()) for n in range(host_files // 2)]
        for n in range(container_files // 2):
            route = 1 + n % 2
            log.append(ima_buf("ctr-file", ctr_file(f"/usr/lib/file-{n}".encode(), b"%d" % n, seq=seq, route=route)))
    log.append(ima_sig("/usr/bin/signed", b"signed", b"\x03\x02\x04" + bytes(6)))
    log.append(ima_buf("ctr-file", ctr_file(b"/usr/bin/last", b"last", seq=2)))
    return log


def extended(log: bytes, pcr: int, bank: str = "sha256") -> bytes:
    """What the TPM holds after this log: its own reading, entry by entry, as the kernel extends."""
    value = bytes(hashlib.new(bank).digest_size)
    at = 0
    while at < len(log):
        number, shown, name_size = struct.unpack_from("<I20sI", log, at)
        name = log[at + 28 : at + 28 + name_size]
        at += 28 + name_size
        if name == b"ima":
            (size,) = struct.unpack_from("<I", log, at + 20)
            data = log[at : at + 20] + log[at + 24 : at + 24 + size].ljust(256, b"\0")
            at += 24 + size
        else:
            (size,) = struct.unpack_from("<I", log, at)
            data = log[at + 4 : at + 4 + size]
            at += 4 + size
        if number == pcr:
            digest = hashlib.new(bank, data).digest() if any(shown) else b"\xff" * len(value)
            value = hashlib.new(bank, value + digest).digest()
    return value


def sized(value: bytes) -> bytes:
    return struct.pack(">H", len(value)) + value


def bitmap(pcrs: tuple[int, ...], size: int = 3) -> bytes:
    return sum(1 << pcr for pcr in pcrs).to_bytes(size, "little")


def attest(
    nonce: bytes,
    pcr_digest: bytes,
    *,
    pcrs: tuple[int, ...] = (10, 11),
    magic: int = 0xFF544347,
    kind: int = 0x8018,
    signer: bytes = b"\0\x0b" + bytes(32),
    selections: bytes | None = None,
    safe: int = 1,
    tail: bytes = b"",
) -> bytes:
    """A TPMS_ATTEST of a quote; `selections` replaces the TPML_PCR_SELECTION."""
    if selections is None:
        selections = struct.pack(">IHB", 1, 0x000B, 3) + bitmap(pcrs)
    head = struct.pack(">IH", magic, kind) + sized(signer) + sized(nonce)
    clock = struct.pack(">QIIBQ", 123456, 2, 0, safe, 0x2019102300163636)
    return head + clock + selections + sized(pcr_digest) + tail


def sign(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
    data: bytes,
    *,
    scheme: int,
    alg: int = 0x000B,
    salt: int | None = None,
) -> bytes:
    """A TPMT_SIGNATURE. `salt`: bytes of salt for RSAPSS, as many as the digest has if not given."""
    sha2 = {0x0004: hashes.SHA1(), 0x000B: hashes.SHA256(), 0x000C: hashes.SHA384(), 0x000D: hashes.SHA512()}
    sha3 = {0x0027: hashes.SHA3_256(), 0x0028: hashes.SHA3_384(), 0x0029: hashes.SHA3_512()}
    digest: hashes.HashAlgorithm = {**sha2, 0x0012: hashes.SM3(), **sha3}[alg]
    head = struct.pack(">HH", scheme, alg)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        r, s = decode_dss_signature(key.sign(data, ec.ECDSA(digest)))
        size = (key.key_size + 7) // 8
        return head + sized(r.to_bytes(size, "big")) + sized(s.to_bytes(size, "big"))
    pss = padding.PSS(padding.MGF1(digest), digest.digest_size if salt is None else salt)
    pad = padding.PKCS1v15() if scheme == 0x0014 else pss
    return head + sized(key.sign(data, pad, digest))


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def tpm2b_public(key: ec.EllipticCurvePrivateKey, *, attributes: int = 0x00050072, scheme_hash: int = 0x000B) -> bytes:
    """A TPM2B_PUBLIC as `tpm2_createak -G ecc` writes it."""
    numbers = key.public_key().public_numbers()
    area = struct.pack(">HHIHHHHHH", 0x0023, 0x000B, attributes, 0, 0x0010, 0x0018, scheme_hash, 0x0003, 0x0010)
    area += sized(numbers.x.to_bytes(32, "big")) + sized(numbers.y.to_bytes(32, "big"))
    return sized(area)


def write_bundle(
    directory: Path,
    *,
    attest: bytes,
    sig: bytes,
    log: bytes,
    nonce: bytes,
    values: dict[int, bytes] | None = None,
    form: dict[str, object] | None = None,
) -> Path:
    """The four files of an evidence bundle; `form`: what it says of the log."""
    directory.mkdir(parents=True, exist_ok=True)
    described = {"schema": 1, "hash_alg": "sha256", "pcrs": [10, 11], "nonce": nonce.hex()}
    described |= {"boot_id": "00000000-0000-4000-8000-000000000000", "clone_id": "synthetic"}
    if values is not None:
        described["pcr_values"] = {str(pcr): value.hex() for pcr, value in values.items()}
    if form is not None:
        described["log"] = form
    (directory / "bundle.json").write_text(json.dumps(described, indent=1) + "\n")
    (directory / "quote.attest").write_bytes(attest)
    (directory / "quote.sig").write_bytes(sig)
    (directory / "ima.bin").write_bytes(log)
    return directory


def page_vectors() -> dict[str, dict[str, str]]:
    """The test vectors of docs/formats.md: each fenced block that begins with `vector NAME`, as its `field: value`."""
    page = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
    found = {}
    for name, body in re.findall(r"^```text\nvector (.+)\n((?:.+\n)+?)```$", page, re.MULTILINE):
        found[name] = dict(line.split(": ", 1) for line in body.splitlines())
    return found
