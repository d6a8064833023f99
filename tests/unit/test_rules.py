"""Which rule made a digest, and what it binds: on the slides' lines, and on two files with one measurement."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import evidence as b
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from testbed.attest.finding import FindingKind
from testbed.attest.log.fields import parse_fields
from testbed.attest.log.ima import Entry, read_entries
from testbed.attest.log.rules import (
    CANDIDATES,
    SHOWN,
    Audit,
    Measured,
    Rule,
    audit,
    infer,
    is_namespaced,
    no_content_digests,
    path_of,
    prototype_file,
    split_name,
)
from testbed.attest.log.text import read_lines
from testbed.attest.verify import verify

GOLDEN = Path(__file__).parents[1] / "golden"
EXCERPTS = ("host-and-container-in-one-log", "namespaced-files", "container-files-unreadable", "image-digest")
NS, OTHER = b"4026532981", b"4026532896"
Known = Mapping[bytes, list[bytes]]


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def line(name: bytes, digest: bytes, *, pcr: int = 11, algorithm: str = "sha256", where: str = "here") -> Measured:
    return Measured(where=where, pcr=pcr, name=name, algorithm=algorithm, digest=digest)


def kinds(found: Audit) -> list[FindingKind]:
    return [finding.kind for finding in found.findings]


def undamaged(*excerpts: str) -> Iterator[tuple[str, Entry]]:
    for excerpt in excerpts:
        for one in read_lines((GOLDEN / "slides" / f"{excerpt}.txt").read_bytes()):
            if one.entry is not None and one.fits:
                yield f"{excerpt}:{one.number}", one.entry


def slides(*excerpts: str) -> tuple[list[Measured], Known]:
    """The undamaged lines of PCR 11, and the plain digests that those of PCR 10 tell."""
    lines: list[Measured] = []
    known: dict[bytes, list[bytes]] = {}
    for where, entry in undamaged(*excerpts):
        fields = parse_fields(entry)
        if entry.pcr == 11:
            lines.append(line(fields.name, fields.digest, where=where))
        else:
            known.setdefault(fields.name, []).append(fields.digest)
    return lines, known


def test_the_slides_namespaced_lines() -> None:
    """Each undamaged line: those whose file the host also measured, and the one that needs no such line."""
    lines, known = slides(*EXCERPTS)
    found = {one.name.decode().partition(":/")[2]: infer(one, known) for one in lines}
    assert len(lines) == 15
    fitting = {"hello", "usr/lib64/ld-linux-x86-64.so.2", "usr/bin/locale", "usr/bin/sha256sum", "usr/bin/dircolors"}
    by_rule = {rule: {name for name, one in found.items() if one.rule is rule} for rule in Rule}
    assert by_rule[Rule.PROTOTYPE_FILE] == fitting | {"usr/lib64/libtinfo.so.6.4"}
    assert by_rule[Rule.PROTOTYPE_IMAGE] == {""}
    assert len(by_rule[Rule.UNKNOWN]) == 8
    assert all((found[name].bits, found[name].namespace_bound) == (64, False) for name in fitting)
    assert found[""].bits == 0


def test_one_file_of_the_slides_left_nothing_in_its_digest() -> None:
    """The digest of libtinfo begins with a zero byte: the logged one is that of eight digits of the namespace."""
    (one,) = [one for one in slides("namespaced-files")[0] if one.name.endswith(b"libtinfo.so.6.4")]
    assert one.digest == sha256(b"40265328")
    found = infer(one, {})
    assert (found.rule, found.bits, found.namespace_digits, found.namespace_bound) == (Rule.PROTOTYPE_FILE, 0, 8, False)


def test_a_plain_digest_may_be_in_another_excerpt() -> None:
    """The host's dircolors is in the first excerpt alone; its /hello is damaged there, and good in the second."""
    lines, own = slides("namespaced-files")
    _, first = slides("host-and-container-in-one-log")
    named = {one.name.partition(b":")[2]: one for one in lines}
    dircolors, hello = named[b"/usr/bin/dircolors"], named[b"/hello"]
    assert infer(dircolors, own).rule is Rule.UNKNOWN
    assert infer(dircolors, first).rule is Rule.PROTOTYPE_FILE
    assert infer(hello, first).rule is Rule.UNKNOWN
    assert infer(hello, own).rule is Rule.PROTOTYPE_FILE


def test_the_audit_of_the_slides() -> None:
    found = audit(*slides(*EXCERPTS))
    assert [(g.pcr, g.rule, g.bits, g.namespace_bound) for g in found.groups] == [
        (11, Rule.PROTOTYPE_FILE, {64: 5, 0: 1}, False),
        (11, Rule.PROTOTYPE_IMAGE, {0: 1}, False),
        (11, Rule.UNKNOWN, {None: 8}, False),
    ]
    said = {kind: kinds(found).count(kind) for kind in kinds(found)}
    assert said == {FindingKind.WEAK_BINDING: 2, FindingKind.NO_CONTENT: 1, FindingKind.UNSUPPORTED: 8}
    (weak, _) = [finding for finding in found.findings if finding.kind is FindingKind.WEAK_BINDING]
    assert weak.got == "64 bits bound by 5 entries, 0 bits bound by 1 entry; namespace not bound"
    assert "namespaced-files:6" in weak.where


def test_the_slides_image_digest_is_that_of_eight_zero_bytes() -> None:
    (one,) = slides("image-digest")[0]
    assert one.digest == sha256(bytes(8))
    assert audit([one], {}).findings[-1].kind is FindingKind.NO_CONTENT


@pytest.mark.parametrize("digest", [bytes(32), sha256(b""), sha256(bytes(32)), sha256(bytes(8))])
def test_other_digests_of_nothing(digest: bytes) -> None:
    assert digest in no_content_digests()
    assert infer(line(NS, digest), {}).rule is Rule.PROTOTYPE_IMAGE


def test_an_image_digest_of_something_cannot_be_judged() -> None:
    found = audit([line(NS, sha256(b"x"))], {})
    assert kinds(found) == [FindingKind.UNSUPPORTED]


A, B = ((GOLDEN / f"collision_{name}.bin").read_bytes() for name in "ab")


def collide(first: bytes, second: bytes, namespace: bytes) -> bool:
    """Whether two contents have one measurement."""
    return prototype_file(sha256(first), namespace) == prototype_file(sha256(second), namespace)


def test_the_collision_pair() -> None:
    assert A != B
    assert sha256(A) != sha256(B)
    assert collide(A, B, NS)
    assert collide(A, B, OTHER)
    assert not collide(A, b"else", NS)


def test_two_contents_pass_a_replay_and_are_caught_here(tmp_path: Path) -> None:
    """The kernel logs a template digest once: the malicious file of the pair adds nothing to PCR 11."""
    line11 = prototype_line(b"/bin/tool", prototype_file(sha256(A), NS))
    log = b"".join([b.BOOT, b.ima_ng("/bin/tool", A), line11, b.ima_ng("/bin/tool", B)])
    key = ec.generate_private_key(ec.SECP256R1())
    values = {pcr: b.extended(log, pcr) for pcr in (10, 11)}
    signed = b.attest(b"nonce", sha256(values[10] + values[11]))
    b.write_bundle(
        tmp_path, attest=signed, sig=b.sign(key, signed, scheme=0x0018), log=log, nonce=b"nonce", values=values
    )
    verdict = verify(tmp_path, ak=b.pem(key), nonce=b"nonce")
    assert dict(verdict.attested) == {10: 3, 11: 1}
    assert {finding.kind for finding in verdict.findings} <= {FindingKind.WEAK_BINDING}
    measured = [(entry.pcr, parse_fields(entry)) for entry in read_entries(log)]
    known = {b"/bin/tool": [fields.digest for _, fields in measured if fields.name == b"/bin/tool"]}
    found = audit([line(fields.name, fields.digest) for pcr, fields in measured if pcr == 11], known)
    assert kinds(found) == [FindingKind.WEAK_BINDING] * 2
    assert sha256(A).hex() in found.findings[1].got
    assert sha256(B).hex() in found.findings[1].got


def prototype_line(path: bytes, digest: bytes) -> bytes:
    return b.entry(11, b"ima-ng", b.digest_field(digest) + b.field(NS + b":" + path + b"\0"))


def test_two_contents_at_two_paths() -> None:
    known = {b"/a": [sha256(A)], b"/b": [sha256(B)]}
    lines = [line(NS + b":" + path, prototype_file(known[path][0], NS)) for path in known]
    found = audit(lines, known)
    assert [finding.expected for finding in found.findings[1:]] == ["another digest for another content"]
    same = {b"/a": [sha256(A)], b"/b": [sha256(A)]}
    assert len(audit(lines, same).findings) == 1


def test_one_digest_in_two_namespaces() -> None:
    known = {b"/a": [sha256(A)]}
    lines = [line(ns + b":/a", prototype_file(sha256(A), ns), where=ns.decode()) for ns in (NS, OTHER, b"4026532897")]
    found = audit(lines, known)
    assert [finding.expected for finding in found.findings[1:]] == ["another digest in another namespace"]
    assert "4026532981 (4026532981) and 4026532896" in found.findings[1].got
    unknown = audit(lines, {})
    assert kinds(unknown).count(FindingKind.WEAK_BINDING) == 1
    assert kinds(unknown).count(FindingKind.UNSUPPORTED) == 3


@pytest.mark.parametrize("kept", range(9))
def test_a_zero_byte_ends_what_is_bound(kept: int) -> None:
    """Bits of the file are those before it; digits of the namespace fill up the eight bytes, never all ten."""
    digest = bytes(range(1, 1 + kept)) + bytes([0] * (kept < 8)) + b"\xaa" * 31
    digest = digest[:32]
    logged = prototype_file(digest, NS)
    assert logged == sha256((digest[:8] if kept == 8 else digest[:kept] + NS)[:8])
    found = infer(line(NS + b":/x", logged), {b"/x": [digest]})
    assert (found.rule, found.bits, found.namespace_digits) == (Rule.PROTOTYPE_FILE, 8 * kept, 8 - kept)
    assert not found.namespace_bound
    assert found.contents == (digest,)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=24, max_size=24))
def test_what_lies_behind_eight_bytes_is_not_bound(digest: bytes, tail: bytes) -> None:
    assert prototype_file(digest, NS) == prototype_file(digest[:8] + tail, NS)
    if 0 not in digest[:8]:
        assert prototype_file(digest, NS) == prototype_file(digest, OTHER) == sha256(digest[:8])


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha384", "sha512"])
def test_other_algorithms(algorithm: str) -> None:
    plain = hashlib.new(algorithm, b"x").digest()
    logged = prototype_file(plain, NS, algorithm)
    found = infer(line(NS + b":/x", logged, algorithm=algorithm), {b"/x": [sha256(b"x"), plain]})
    assert (found.rule, found.contents) == (Rule.PROTOTYPE_FILE, (plain,))


@pytest.mark.parametrize(("algorithm", "size"), [("sha256", 31), ("sm3", 32)])
def test_a_digest_that_cannot_be_one(algorithm: str, size: int) -> None:
    assert infer(line(NS, bytes(size), algorithm=algorithm), {}).rule is Rule.UNKNOWN


def test_a_plain_digest_binds_all_of_the_file() -> None:
    found = audit([line(NS + b":/x", sha256(A)), line(OTHER + b":/x", sha256(A))], {b"/x": [sha256(A)]})
    assert [(g.rule, g.bits, g.namespace_bound) for g in found.groups] == [(Rule.PLAIN, {256: 2}, False)]
    assert found.findings == ()


def test_a_digest_of_no_rule() -> None:
    found = audit([line(NS + b":/x", sha256(b"?"))], {b"/x": [sha256(A)]})
    assert kinds(found) == [FindingKind.UNSUPPORTED]
    assert "no known rule" in found.findings[0].got


@pytest.mark.parametrize(
    "name",
    [
        *(b"/bin/x", b"boot_aggregate", b"12a:/x", b":/x", b"12:x", b"40265329810:/x", b""),
        # Files without a path.
        *(b"0", b"12345", b"402653298", b"3999999999", b"9999999999", b"12345:", b"4026532981:", b"4026532981 "),
    ],
)
def test_names_that_are_not_namespaced(name: bytes) -> None:
    assert not is_namespaced(name)
    assert path_of(name) is None
    assert audit([line(name, sha256(A), pcr=10)], {}).findings == ()


def test_names_that_are() -> None:
    assert split_name(b"4026532981:/a:b\n/c") == (NS, b"/a:b\n/c")
    assert split_name(NS) == (NS, None)
    assert split_name(b"4026531832") == (b"4026531832", None)
    assert split_name(b"4294967295") == (b"4294967295", None)
    # Nothing else has `:/`: neither a path, nor the name of a file without one.
    assert split_name(b"12345:/x") == (b"12345", b"/x")
    assert path_of(NS + b":/x") == b"/x"


def test_our_own_entries_bind_all() -> None:
    ours = Measured(where="", pcr=11, name=b"ctr-file", algorithm="sha256", digest=bytes(32), template=b"ima-buf")
    start = Measured(where="", pcr=11, name=b"ctr-start", algorithm="sha256", digest=bytes(32), template=b"ima-buf")
    # A name of digits in a buffer's entry is no namespace.
    digits = Measured(where="", pcr=11, name=NS, algorithm="sha256", digest=bytes(32), template=b"ima-buf")
    found = audit([ours, start, digits], {})
    assert [(g.rule, g.bits, g.namespace_bound) for g in found.groups] == [
        (Rule.CONTAINER_FILE, {256: 1}, True),
        (Rule.PLAIN, {256: 2}, False),
    ]
    assert found.findings == ()


def test_findings_and_candidates_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testbed.attest.log.rules.TRACKED", 10)
    lines = [line(NS + b":/%d" % n, sha256(b"%d" % n)) for n in range(SHOWN + 50)]
    found = audit(lines, {})
    assert kinds(found).count(FindingKind.UNSUPPORTED) == SHOWN + 2
    assert [finding.got for finding in found.findings[-2:]] == [
        "50 more like these",
        f"{SHOWN + 40} more lines, which were not compared with each other",
    ]
    many = {b"/x": [sha256(b"%d" % n) for n in range(CANDIDATES)] + [sha256(A)]}
    assert infer(line(NS + b":/x", prototype_file(sha256(A), NS)), many).rule is Rule.UNKNOWN


def test_groups_are_by_pcr_and_rule() -> None:
    known = {b"/x": [sha256(A)]}
    lines = [line(NS + b":/x", prototype_file(sha256(A), NS), pcr=pcr) for pcr in (12, 11, 12)]
    lines.append(line(b"/x", sha256(A), pcr=10))
    assert [(g.pcr, g.rule, g.entries, g.namespaced) for g in audit(lines, known).groups] == [
        (10, Rule.PLAIN, 1, False),
        (11, Rule.PROTOTYPE_FILE, 1, True),
        (12, Rule.PROTOTYPE_FILE, 2, True),
    ]
