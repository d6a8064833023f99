"""What is fuzzed: each target takes any bytes, and raises only if the verifier is at fault.

A target lets the errors pass that its function declares, and asserts what must hold of all that gets through. Its seeds
are read from the golden bundles at run time.
"""

from __future__ import annotations

import atexit
import bz2
import functools
import gzip
import io
import json
import lzma
import re
import shutil
import stat
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
from cryptography.hazmat.primitives.asymmetric import ec

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

import evidence as b
import image_files
import pastes
from image_files import Layout, member

from testbed.attest import bundle, quote, tpm
from testbed.attest.entries import parse
from testbed.attest.finding import BadEvidence, FindingKind
from testbed.attest.hashes import HASHES, TPM_ALGS
from testbed.attest.image.archive import open_image
from testbed.attest.image.tree import Opener, tree_digest
from testbed.attest.image.unpack import DRIVERS
from testbed.attest.log import ascii as ascii_log
from testbed.attest.log import pasted, rules, text
from testbed.attest.log.content import read_content
from testbed.attest.log.fields import Fields, parse_fields
from testbed.attest.log.ima import Entry, LogFormat, encode, extension, read_entries, template_digest
from testbed.attest.log.stream import Run, read_runs
from testbed.attest.policy import reference as policy
from testbed.attest.policy.log import from_entries
from testbed.attest.registers import pcr_register
from testbed.attest.saved import resume, state
from testbed.attest.verdict import Verdict
from testbed.attest.verify import verify
from testbed.errors import BuildError, EvidenceError, SpecError

BUNDLES = sorted(path.parent for path in b.GOLDEN.glob("*/quote.attest"))
SYNTHETIC = b.GOLDEN / "bundle-synthetic"
NONCE = bytes.fromhex("d1ce5eed00112233445566778899aabb")
DEMANDED = quote.Selection(bank="sha256", pcrs=(10, 11))
KEY = ec.derive_private_key(0x7E57, ec.SECP256R1())
AK = b.pem(KEY)
JSON_WORDS = (
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b":",
    b",",
    b"null",
    b"NaN",
    b"-1",
    b"1e9",
    b"9" * 400,
    b"\\ud800",
    b"[" * 99,
)
LENGTHS = (b"\0\0\0\0", b"\1\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\1\0", b"\xff\xff", b"\0\x40")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """``words``: pieces worth putting in. ``steps``: how many function calls an input may cost, and a byte of it.

    ``is_json``: the seeds are JSON, so that values can be replaced in them.
    """

    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    words: tuple[bytes, ...] = LENGTHS
    is_json: bool = False
    steps: tuple[int, int] = (20_000, 300)


@functools.cache
def scratch() -> Path:
    """Bundles of which files are replaced."""
    top = Path(tempfile.mkdtemp(prefix="testbed-fuzz-"))
    atexit.register(shutil.rmtree, top, ignore_errors=True)
    shutil.copytree(SYNTHETIC, top / "log")
    (top / "signed").mkdir()
    return top


def logs() -> list[bytes]:
    """The logs of the bundles, whole and in pieces, and an entry of each template."""
    whole = [(path / "ima.bin").read_bytes() for path in BUNDLES]
    single = [b.ima_old("/bin/old", b""), b.violation("/bin/v"), b.ima_sig("/bin/s", b"", b"\3\2\4" + bytes(6))]
    single += [b.entry(10, name, b.digest_field(b"d" * 32) + b.field(b"/n\0") + rest) for name, rest in OTHERS]
    single += [b.ima_buf(name, payload) for name, payload in (*OURS, *OURS_2, *OURS_3)]
    single += [b.ima_ng("4026531840:/bin/ls", b"ls"), b.ima_ng("4026531840", b"ls")]
    single.append(b"".join(b.ima_buf(name, payload) for name, payload in OURS[:6]))
    return [*(log[: first_bytes(log, 12)] for log in whole), *whole[:1], *single, b"".join(b.sample_log(4, 2)), b""]


def forms() -> list[bytes]:
    """A log as other banks and big-endian machines have it."""
    usual = [b.BOOT, *b.sample_log(3, 2), b.violation("/bin/v")]
    return [b"".join(b.reformed(line, *form) for line in usual) for form in (("sha256", "<"), ("sha1", ">"))]


FORMS = (LogFormat(), LogFormat("sha256"), LogFormat("sha512"), LogFormat("sha1", "big"))
TREE = b"t" * 32
LAUNCH = b.ctr_launch(TREE, (b"sh", b"-c", b":"), config=b"c" * 32, mounts=(b.mount(b"/proc", b"proc"), b.mount(b"/x")))
# One of each kind that a log of containers alone (evidence.sample_log) has not; together they are one that is good.
OURS = (
    ("ctr-beat", b.ctr_beat(1, 1, interval=10)),
    ("ctr-start", b.ctr_start(b.libpod())),
    ("ctr-image", b.ctr_image(TREE)),
    ("ctr-launch", LAUNCH),
    ("ctr-join", b.ctr_join()),
    ("ctr-beat", b.ctr_beat(2, 3)),
    ("ctr-violation", b.ctr_violation(b"/bin/x")),
    ("ctr-violation", b"x"),
)
OURS_2 = (
    ("ctr-beat", b.ctr_beat(1, 3, proved=0x3FF)),
    ("ctr-file", b.ctr_file(b"/dev/shm/x", b"x", route=2, flags=24, version=2)),
    ("ctr-image", b.ctr_image(TREE, version=2)),
    ("ctr-launch", b.ctr_launch(TREE, (b"sh",), table=b.TABLE)),
    ("ctr-loss", b.ctr_loss(4, 9)),
    ("ctr-mounts", b.ctr_mounts(b.TABLE, flags=1)),
    ("ctr-program", b.ctr_program()),
    ("ctr-measurer", b.ctr_measurer()),
)
OURS_3 = (
    ("ctr-start", b.ctr_start(b.libpod(), version=3)),
    ("ctr-image", b.ctr_image(TREE, version=3)),
    ("ctr-image", b.ctr_image(TREE, files=0, size=0, tree=256, version=3)),
    ("ctr-launch", b.ctr_launch(TREE, (b"sh",), table=b.TABLE, flags=128, version=3)),
    ("ctr-file", b.ctr_file(b"/opt/x", b"x", flags=32, version=3)),
    ("ctr-violation", b.ctr_violation(b"/x", violation=6, version=3)),
)
OTHERS = (
    (b"ima-modsig", b.field(b"") + b.field(b"sha256:\0" + b"m" * 32) + b.field(b"0\x82")),
    (
        b"evm-sig",
        b"".join(map(b.field, (b"\5s", b"security.ima\0", b"\4\0\0\0", b"xatt", bytes(4), bytes(4), bytes(2)))),
    ),
    (b"d-ng|n-ng", b""),
)


def first_bytes(log: bytes, count: int) -> int:
    """Where the first ``count`` entries of a log end."""
    return [entry.end for entry, _ in zip(read_entries(log), range(count), strict=False)][-1]


def collect(found: Iterable[Entry]) -> tuple[list[Entry], str]:
    """Read entries to the end, or to the error, of which the text is returned."""
    kept: list[Entry] = []
    try:
        for entry in found:
            kept.append(entry)  # noqa: PERF402 - those before an error count
    except BadEvidence as error:
        return kept, str(error)
    return kept, ""


def streamed(log: bytes, form: LogFormat) -> Iterable[Entry]:
    for item in read_runs(io.BytesIO(log), len(log), form=form):
        yield from item.entries() if isinstance(item, Run) else [item]


def run_log(data: bytes) -> None:
    """Both readers agree, what was read is written as it was, and no other log passes for the one that was quoted."""
    for form in FORMS:
        found, error = collect(read_entries(data, form))
        assert collect(streamed(data, form)) == (found, error)
        end = found[-1].end if found else 0
        assert b"".join(encode(one.pcr, one.digest, one.template, one.data, form) for one in found) == data[:end]
        assert bool(error) == (end < len(data))
        for entry in found:
            template_digest(entry)
            with suppress(BadEvidence):
                parse_fields(entry)
    found, _ = collect(read_entries(data))
    for entry in found:
        template_digest(entry)
        with suppress(BadEvidence):
            fields = parse_fields(entry)
            assert b"\0" not in fields.name
            if fields.buf is not None:
                payload = parse.parse_payload(fields.name, fields.buf)
                assert isinstance(payload, parse.OfNone) or payload.container.seq
    (scratch() / "log/ima.bin").write_bytes(data)
    ak = (SYNTHETIC / "ak.pub").read_bytes()
    verdict = plausible(verify(scratch() / "log", ak=ak, nonce=NONCE, policy=golden_policy()))
    if any(finding.kind is FindingKind.REPLAY_MISMATCH for finding in verdict.findings) or not verdict.attested:
        assert not verdict.ok
        return
    assert verdict.attested == {10: 12, 11: 9}
    golden = list(read_entries((SYNTHETIC / "ima.bin").read_bytes()))
    for pcr, count in verdict.attested.items():
        expected = [one.data for one in golden if one.pcr == pcr][:count]
        got = [one for one in found if one.pcr == pcr][:count]
        assert [one.data for one in got] == expected
        if verdict.ok:
            assert not any(one.violation for one in got)


@functools.cache
def golden_policy() -> policy.Policy:
    return policy.parse_policy(policies()[0], "golden")


def plausible(verdict: Verdict) -> Verdict:
    """What is said can be printed and written, whatever it was said of."""
    json.dumps(verdict.as_json()).encode()
    for finding in verdict.findings:
        assert f"{finding.where}{finding.expected}{finding.got}".isprintable(), finding
        assert len(finding.where) < 500, finding
    return verdict


def signed(log: bytes, values: dict[int, bytes], *, told: bool) -> Path:
    """A bundle with an honest quote of these values."""
    digest = HASHES["sha256"](values[10] + values[11]).digest()
    attested = b.attest(NONCE, digest)
    sig = b.sign(KEY, attested, scheme=tpm.ECDSA)
    return b.write_bundle(
        scratch() / "signed", attest=attested, sig=sig, log=log, nonce=NONCE, values=values if told else None
    )


def run_evidence(data: bytes) -> None:
    """A log that a TPM vouches for may say anything: all of it is judged, and the saved state goes on from there."""
    found, _ = collect(read_entries(data))
    mine = [one for one in found if one.pcr in (10, 11)]
    values = {pcr: pcr_register(pcr, "sha256").start for pcr in (10, 11)}
    for one in mine:
        values[one.pcr] = HASHES["sha256"](values[one.pcr] + extension(one, "sha256")).digest()
    foreign = any(one.end < mine[-1].offset + 1 and one.pcr not in (10, 11) for one in found) if mine else False
    counts = Counter(one.pcr for one in mine)
    kinds = []
    for told in (True, False):
        verdict = plausible(verify(signed(data, values, told=told), ak=AK, nonce=NONCE, policy=None))
        assert verdict.attested == {10: counts[10], 11: counts[11]}
        mismatch = [
            one for one in verdict.findings if one.kind in {FindingKind.REPLAY_MISMATCH, FindingKind.LOG_MISSING}
        ]
        assert bool(mismatch) == foreign
        assert counts[10] or not verdict.ok
        first = next((one for one in mine if one.pcr == 10), None)
        assert not verdict.ok or (first is not None and b"boot_aggregate" in first.data)
        kinds.append(sorted(one.kind for one in verdict.findings))
    assert kinds[0] == kinds[1]
    plausible(verify(scratch() / "signed", ak=AK, nonce=NONCE, policy=golden_policy()))
    if verdict.state is not None:
        saved = state.encode_state(verdict.state)
        assert state.encode_state(state.parse_state(saved, "saved")) == saved
        again = verify(
            scratch() / "signed",
            ak=AK,
            nonce=NONCE,
            since=state.parse_state(saved, "saved"),
            recheck=bool(len(data) % 2),
        )
        # What was in the log and not attested has to be attested the next time.
        assert again.ok == (verdict.state.seen_entries == verdict.state.entries)
        if again.state is not None:
            assert (again.state.offset, again.state.pcrs) == (verdict.state.offset, verdict.state.pcrs)


def as_text(log: bytes) -> bytes:
    """A log as the kernel shows it in text, for the templates `ima-ng`, `ima-sig` and `ima-buf`."""
    lines = []
    for entry in read_entries(log):
        with suppress(BadEvidence):
            one = parse_fields(entry)
            last = one.buf if one.buf is not None else one.sig
            more = b" " + last.hex().encode() if entry.template in (b"ima-sig", b"ima-buf") else b""
            digest = f"{one.algorithm}:{one.digest.hex()}".encode()
            head = b"%2d %s %s " % (entry.pcr, entry.digest.hex().encode(), entry.template)
            lines.append(head + digest + b" " + one.name + more + b"\n")
    return b"".join(lines)


def pasted_logs() -> list[bytes]:
    """Logs in text, and a short one after everything that people and programs do to it."""
    short = as_text(
        b.ima_sig("/bin/a b", b"") + b.ima_ng("/lib/x", b"") + b.ima_sig("/bin/s", b"", b"\3\2\4" + bytes(99))
    )
    changes = pastes.WHOLE | pastes.LOSSY | pastes.PCR_LOST
    return [*map(as_text, logs()), *(change(short) for change in changes.values()), as_text(b.violation("/v")) + short]


KERNEL = re.compile(rb"(?: [0-9]|[1-9][0-9]) [0-9a-f]{40} (?:ima|ima-ng|ima-sig|ima-buf|evm-sig) ")


def run_ascii(data: bytes) -> None:
    """Lines are pieces of the text in order; an entry that fits its digest is one in binary too; the rest is named."""
    at = unread = 0
    read, encoding = pasted.decode(data)
    for line in text.read_lines(read):
        assert line.offset >= at
        at = line.offset + len(line.raw)
        assert read[line.offset : at] == line.raw
        assert line.where.isprintable()
        unread += line.problem is not None
        assert ascii_log.damaged(line) <= (line.problem is not None)
        if line.entry is None:
            assert line.problem is not None or not KERNEL.match(line.raw)
            continue
        one = line.entry
        (same,) = read_entries(encode(one.pcr, one.digest, one.template, one.data))
        assert (same.pcr, same.digest, same.template, same.data) == (one.pcr, one.digest, one.template, one.data)
        assert line.fits != (line.problem is not None)
        if line.fits and not one.violation:
            assert template_digest(same) == one.digest
        assert not line.cleaned or not one.violation
        with suppress(BadEvidence):
            fields = parse_fields(same)
            if rules.is_namespaced(fields.name):
                rules.path_of(fields.name)
    with suppress(EvidenceError):
        log = read_content("log", read, encoding)
        assert bool(log.damaged or log.findings) >= bool(unread)
        said = [f"{finding.where}{finding.expected}{finding.got}" for finding in log.findings]
        assert all(words.isprintable() for words in (*said, *(line["why"] for line in log.damaged_lines)))


def run_quote(data: bytes) -> None:
    """A quote that a genuine key signed has one encoding: what is accepted is what its fields are written as."""
    with suppress(BadEvidence):
        sig = b.sign(KEY, data, scheme=tpm.ECDSA)
        answer = quote.check(data, sig, key=tpm.load_key(AK), nonce=NONCE, demanded=DEMANDED, parent=None)
        assert not any(one.kind is FindingKind.QUOTE_SIGNATURE for one in answer.findings)
        if answer.findings or answer.attest is None:
            return
        one = answer.attest
        clock = one.clock.to_bytes(8, "big") + one.reset_count.to_bytes(4, "big") + one.restart_count.to_bytes(4, "big")
        clock += bytes([one.safe]) + one.firmware.to_bytes(8, "big")
        same = b.attest(one.nonce, one.digest, signer=one.signer)
        start = 6 + 2 + len(one.signer) + 2 + len(one.nonce)
        assert same[:start] + clock + same[start + 25 :] == data


def run_signature(data: bytes) -> None:
    """No other bytes than the golden signature pass for it, whatever key they are checked with."""
    for path in BUNDLES:
        with suppress(BadEvidence):
            parsed = quote.parse_signature(data)
            head = parsed.scheme.to_bytes(2, "big") + _hash_number(parsed.hash_alg)
            assert head + b"".join(map(b.sized, parsed.parts)) == data
            attested = (path / "quote.attest").read_bytes()
            key = tpm.load_key((path / "ak.pub").read_bytes())
            answer = quote.check(attested, data, key=key, nonce=NONCE, demanded=DEMANDED, parent=None)
            wrong = {FindingKind.QUOTE_SIGNATURE, FindingKind.QUOTE_DIGEST_ALG}
            if not wrong & {one.kind for one in answer.findings}:
                golden = quote.parse_signature((path / "quote.sig").read_bytes())
                # Of an ECDSA signature (r, s) there is a second one, (r, -s), that anybody can make.
                assert parsed.parts[:1] == golden.parts[:1]
                assert parsed.scheme == tpm.ECDSA or data == (path / "quote.sig").read_bytes()


def _hash_number(name: str) -> bytes:
    return next(number for number, known in TPM_ALGS.items() if known == name).to_bytes(2, "big")


def run_key(data: bytes) -> None:
    with suppress(SpecError):
        key = tpm.load_key(data)
        assert len(state.fingerprint(key)) == 64


def run_bundle(data: bytes) -> None:
    (scratch() / "log/bundle.json").write_bytes(data)
    with suppress(BadEvidence):
        read = bundle.read_bundle(scratch() / "log")
        assert read.pcr_values is None or all(0 <= pcr < 100 for pcr in read.pcr_values)


def run_state(data: bytes) -> None:
    with suppress(SpecError):
        read = state.parse_state(data, "state.json")
        again = state.encode_state(read)
        assert state.parse_state(again, "state.json") == read
        assert read.entries == sum(read.counts.values())
        assert read.offset == sum(one.size for one in read.segments)
        for one in read.containers:
            f"{one.container.cgroup_path}{one.container.image}{one.images}".encode()
        resume.quote_findings(read, replace(GOLDEN_QUOTE, clock=1 << 40))


LAUNCHES = [
    one
    for name, payload in (*OURS, *OURS_2, *OURS_3)
    if name == "ctr-launch" and isinstance(one := parse.parse_payload(name.encode(), payload), parse.LaunchEntry)
]


def run_policy(data: bytes) -> None:
    """What the linter accepts is matched in few steps, also against a name that was made to be slow."""
    with suppress(SpecError):
        read = policy.parse_policy(data, "policy.json")
        for name in (b"/usr/bin/ls", b"/" + b"a" * 2000 + b"!", b"/a" * 1000, b"\xff\n", b"boot_aggregate"):
            read.judge_host(Fields("sha256", bytes(32), name))
            read.judge_buffer(Fields("sha256", bytes(32), name, buf=b""))
            for images in read.containers.values():
                read.judge_file(images, name, bytes(32))
                for launch in LAUNCHES:
                    read.judge_launch(images, launch)
                read.demands(images)


READ_MOST = 1 << 20


def run_image(data: bytes) -> None:
    """An archive, or a layer alone, is refused or gives a tree: every name in it lies in a directory of the tree."""
    for name, content in (("archive.tar", data), ("layer.tar", one_layer(data))):
        (scratch() / name).write_bytes(content)
        for driver in DRIVERS:
            with suppress(BuildError), open_image(scratch() / name, driver=driver) as image:
                for path, node in image.nodes.items():
                    assert not path or image.nodes[path.rpartition(b"/")[0]].type == stat.S_IFDIR
                    assert all(0 <= number < 1 << 32 for number in (node.uid, node.gid, *node.rdev))
                # A sparse file may have any size.
                if all(node.open is None or len(read_some(node.open)) < READ_MOST for node in image.nodes.values()):
                    tree_digest(image.nodes)


def read_some(opener: Opener) -> bytes:
    with opener() as file:
        return file.read(READ_MOST)


def one_layer(data: bytes) -> bytes:
    files = image_files.oci([data])
    return image_files.tar(member(name, what=content) for name, content in files.items())


def images() -> list[bytes]:
    """Layers with every kind of entry, plain and compressed, and archives of every format."""
    below = [
        member("usr", "dir"),
        member("usr/a", what="a"),
        member("bin", "link", "usr"),
        member("bin/b", "hard", "usr/a"),
    ]
    above = [member("usr/.wh.a"), member("usr/.wh..wh..opq"), member("c", "chr", rdev=(1, 3)), member("p", "fifo")]
    above += [member("n" * 120, what="x" * 600, uid=-2, gid=1 << 40, xattrs={b"user.x": b"1", b"security.x": b"\0"})]
    above += [member("g", "global", records={b"uid": b"7"}), member(".wh..wh.plnk/1", what="p"), member("d/../../e")]
    sparse = {b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0", b"GNU.sparse.realsize": b"9"}
    above += [image_files.Member(name=b"s", content=b"1\n3\n2\n".ljust(512, b"\0") + b"xy", records=sparse)]
    layers = [image_files.tar(below), image_files.tar(above)]
    layout = Layout()
    amd64 = layout.image(layers[:1]) | {"platform": {"os": "linux", "architecture": "amd64"}}
    index = layout.end([layout.index([amd64, layout.image(layers[1:], arch="arm")])])
    formats = (image_files.oci(layers), image_files.docker(layers[:1]), index)
    archives = [image_files.tar(member(f"./{name}", what=one) for name, one in files.items()) for files in formats]
    packed = [pack(layers[0]) for pack in (gzip.compress, bz2.compress, lzma.compress)]
    return [
        *layers,
        *archives,
        *packed,
        bytes(pa.compress(layers[0], "zstd", asbytes=True)),
        gzip.compress(archives[0]),
        b"",
    ]


_attest = quote.parse_attest((SYNTHETIC / "quote.attest").read_bytes())
assert _attest is not None
GOLDEN_QUOTE = _attest


def policies() -> list[bytes]:
    """The first is made from a golden log; then one with every key, and the emptiest."""
    made = from_entries(read_entries((SYNTHETIC / "ima.bin").read_bytes())).document
    full = {
        "schema": 1,
        "host": {
            "files": {
                "/bin/ls": ["sha256:" + "ab" * 32, "verity:sha256:" + "cd" * 32],
                "/bin/%0a": ["sha1:" + "00" * 20],
            },
            "boot_aggregate": ["sha256:" + "01" * 32],
            "buffers": {"dm_table_load": ["sha256:" + "02" * 32]},
            "exclude": ["/var/lib/[a-z0-9]{1,8}/.+", r"/usr/share/(doc|man)/[^/]+\.gz"],
        },
        "images": {
            "one": {"digest": "ab" * 32, "config": ["cd" * 32], "files": {"/bin/sh": ["sha256:" + "03" * 32]}},
            "two": {},
        },
        "containers": {"*": ["one", "two"], "5f" * 32: ["one"]},
        "on": {"violation": "note", "unknown": "note"},
        "require_measurer": True,
        "resettable": {"23": "nobody else has access"},
    }
    return [json.dumps(one).encode() for one in (made, full, {"schema": 1})]


def states() -> list[bytes]:
    found = []
    for values in (True, False):
        ours = [b.BOOT, *(b.ima_buf(name, payload) for name, payload in OURS[:6])]
        log = b"".join(b.sample_log(4, 2) if values else ours)
        quoted = {pcr: b.extended(log, pcr) for pcr in (10, 11)}
        verdict = verify(signed(log, quoted, told=values), ak=AK, nonce=NONCE)
        assert verdict.state is not None
        found.append(state.encode_state(verdict.state))
    return found


def files(name: str) -> Callable[[], list[bytes]]:
    return lambda: [path.read_bytes() for one in BUNDLES for path in sorted(one.glob(name))]


def bundles() -> list[bytes]:
    usual = files("bundle.json")()
    log = {"digest": "sha256", "byte_order": "little", "offset": 5}
    return [*usual, json.dumps(json.loads(usual[0]) | {"log": log}).encode()]


TARGETS = {
    "log": Target(run=run_log, seeds=lambda: [*logs(), *forms()]),
    "evidence": Target(run=run_evidence, seeds=logs, steps=(50_000, 900)),
    "ascii": Target(
        run=run_ascii,
        seeds=pasted_logs,
        words=(
            *(b" ", b"\n", b":", b"sha256:", b"ima-ng", b"ima-buf", b"10 ", b"0" * 40, b"4026531840:/"),
            *(
                b"\t",
                b"\r",
                b"> ",
                b"12:",
                b"|",
                b"=\n",
                b"&gt;",
                b"...",
                b"\0",
                b"\x1b[0m",
                b"\xc2\xa0",
                b"\xe2\x80\x8b",
            ),
        ),
        # Lines that do not fit are tried together with those behind them, and with changes undone: see `log/text.py`.
        steps=(3_000_000, 3_000),
    ),
    "quote": Target(run=run_quote, seeds=lambda: [*files("quote.attest")(), b.attest(NONCE, b"d" * 32)]),
    "signature": Target(run=run_signature, seeds=files("quote.sig")),
    "key": Target(run=run_key, seeds=files("ak.p*")),
    "bundle": Target(run=run_bundle, seeds=bundles, words=JSON_WORDS, is_json=True),
    "state": Target(run=run_state, seeds=states, words=JSON_WORDS, is_json=True),
    "policy": Target(
        run=run_policy,
        seeds=policies,
        words=(*JSON_WORDS, b".*", b"(a+)+", b"[^/]", b"{1,9}", b"\\\\", b"%2f", b"(?:", b"|", b"sha512:"),
        is_json=True,
        steps=(100_000, 1_000),
    ),
    "image": Target(
        run=run_image,
        seeds=images,
        words=(
            b".wh.",
            b".wh..wh..opq",
            b"../",
            b"/",
            b"\0" * 512,
            b"ustar\0",
            b"17 uid=4294967295\n",
            b"\x80",
            b"\xff" * 8,
        ),
        steps=(400_000, 600),
    ),
}
