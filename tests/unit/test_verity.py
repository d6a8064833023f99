"""The fs-verity digest of a container's file: computed, put on a disk, listed in a policy, claimed and judged."""

from __future__ import annotations

import hashlib
import io
import json
import random
import struct
import tarfile
from pathlib import Path, PurePosixPath

import evidence as b
import pytest
from test_policy_make import archive, logged, made
from test_truth import archive as truth_archive
from test_truth import elf, layer

from testbed import plugins
from testbed.attest.decoded.choose import binding
from testbed.attest.decoded.decode import decode
from testbed.attest.finding import Container, FindingKind
from testbed.attest.image.ground_truth import executed
from testbed.attest.image.verity import BLOCK, digests_of, verity_of
from testbed.attest.log.ima import read_entries
from testbed.attest.policy.reference import Policy, parse_policy
from testbed.attest.truth import compare
from testbed.errors import BuildError, SpecError
from testbed.lab.build import verity
from testbed.measurers import Executed, Route

CONTENT = b"#!/bin/sh\ntrue\n"
BOTH = digests_of(io.BytesIO(CONTENT))
FLAG, LATE = 32, 8
SHA, VERITY = f"sha256:{BOTH.sha256}", f"verity:sha256:{BOTH.verity}"

# ---- what the kernel would find ----


def leaf_hashes(tree: bytes, root: bytes, blocks: int) -> list[bytes]:
    """Return the hashes of data blocks, each checked as fs/verity/verify.c does: the path to the root, top down."""
    levels: list[int] = []
    count = blocks
    while count > 1:
        count = -(-count // 128)
        levels.append(count)
    starts = [sum(levels[at + 1 :]) for at in range(len(levels))]
    found = []
    for block in range(blocks):
        want = root
        for level in reversed(range(len(levels))):
            index = block >> (7 * level)
            place = (starts[level] + (index >> 7)) * BLOCK
            hashed = tree[place : place + BLOCK]
            assert hashlib.sha256(hashed).digest() == want
            want = hashed[(index & 127) * 32 :][:32]
        found.append(want)
    return found


@pytest.mark.parametrize("size", [0, 1, 4096, 4097, 128 * 4096, 128 * 4096 + 1, 128 * 128 * 4096 + 5000])
def test_a_tree_is_what_the_kernel_checks_pages_against(size: int) -> None:
    data = random.Random(size).randbytes(min(size, 5 * BLOCK)).ljust(size, b"\7")
    found = verity_of(io.BytesIO(data))
    root = found.descriptor[16:48]
    assert struct.unpack_from("<BBBB4xQ", found.descriptor) == (1, 1, 12, 0, size)
    assert len(found.descriptor) == 256
    blocks = [data[at : at + BLOCK].ljust(BLOCK, b"\0") for at in range(0, size, BLOCK)]
    if not blocks:
        assert (root, found.tree) == (bytes(32), b"")
        return
    assert leaf_hashes(found.tree, root, len(blocks)) == [hashlib.sha256(block).digest() for block in blocks]


def test_both_digests_of_a_content() -> None:
    assert BOTH.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert BOTH.verity == verity_of(io.BytesIO(CONTENT)).digest.hex() != BOTH.sha256
    assert BOTH.size == len(CONTENT)


# ---- on a disk ----


@pytest.mark.parametrize("size", [0, 5, 4096, 65536, 65537, 600_000])
def test_what_ext4_keeps_behind_a_file_is_found_as_the_kernel_looks_for_it(size: int) -> None:
    """As ``ext4_get_verity_descriptor`` does: the last four bytes of the last block, and the block they lead to."""
    data = b"\1" * size
    info = tarfile.TarInfo("layers/ab/usr/bin/x")
    info.size = size
    file, content = verity.append(info, io.BytesIO(data))
    whole = content.read()
    assert (file.path, file.size, info.size) == ("layers/ab/usr/bin/x", size, len(whole))
    assert len(whole) % BLOCK == 0
    at = len(whole) - 4
    (length,) = struct.unpack_from("<I", whole, at)
    place = (at - length) // BLOCK * BLOCK
    found = verity_of(io.BytesIO(data))
    assert whole[place : place + length] == found.descriptor
    metadata = -(-size // 65536) * 65536
    assert place >= metadata
    assert whole[:size] == data
    assert not any(whole[size:metadata])
    assert whole[metadata:place] == found.tree


def test_names_reach_debugfs_as_they_are() -> None:
    files = [verity.VerityFile(path='layers/a b/with "quotes"', size=3), verity.VerityFile(path="x", size=1 << 33)]
    assert verity.commands(files).splitlines() == [
        'sif "/layers/a b/with ""quotes""" size 3',
        'sif "/layers/a b/with ""quotes""" flags 0x180000',
        'sif "/x" size 8589934592',
        'sif "/x" flags 0x180000',
    ]
    with pytest.raises(BuildError, match="line break"):
        verity.commands([verity.VerityFile(path="x\ny", size=1)])


# ---- in a policy ----


def policy(*digests: str, **keys: object) -> Policy:
    document = {"schema": 1, "images": {"i": {"files": {"/bin/x": [*digests]}}}, "containers": {"*": ["i"]}} | keys
    return parse_policy(json.dumps(document).encode(), "p")


def kinds(of: Policy, digest: str, *, verity: bool) -> tuple[FindingKind, str] | None:
    _, complaint = of.judge_file(("i",), b"/bin/x", bytes.fromhex(digest), verity=verity)
    return None if complaint is None else (complaint.kind, complaint.expected)


def test_a_digest_is_judged_by_those_of_its_kind() -> None:
    both = policy(SHA, VERITY)
    assert kinds(both, BOTH.sha256, verity=False) is None
    assert kinds(both, BOTH.verity, verity=True) is None
    wrong = (FindingKind.WRONG_DIGEST, f"{SHA} (image i) or {VERITY} (image i)")
    assert kinds(both, BOTH.verity, verity=False) == wrong
    assert kinds(both, BOTH.sha256, verity=True) == wrong


def test_a_kind_that_is_not_listed_is_never_tolerated() -> None:
    """Else a container would have its changed file accepted by enabling fs-verity of it."""
    noted = policy(SHA, on={"unknown": "note"})
    assert kinds(noted, "ee" * 32, verity=True) == (FindingKind.WRONG_DIGEST, f"{SHA} (image i)")


@pytest.mark.parametrize("bad", [f"verity:{SHA[7:]}", VERITY.upper(), VERITY[:-1], f"verity:sha512:{'0' * 128}"])
def test_only_the_kinds_that_entries_have_are_taken(bad: str) -> None:
    with pytest.raises(SpecError, match="verity:sha256:HEX"):
        policy(bad)


def test_the_measurers_parts_have_a_sha256() -> None:
    with pytest.raises(SpecError, match="measurer"):
        policy(SHA, measurer={"module": [VERITY], "object": [SHA], "loader": [SHA]})


def test_an_image_is_listed_with_both(tmp_path: Path) -> None:
    document = made("from-image", archive(tmp_path / "i.oci.tar", {"bin/x": CONTENT}))
    assert document["images"]["i"]["files"] == {"/bin/x": [SHA, VERITY]}


def test_a_log_is_listed_with_the_kind_that_it_has() -> None:
    entry = b.ctr_file(b"/bin/x", CONTENT, flags=FLAG, version=3, digest=bytes.fromhex(BOTH.verity))
    found = logged(b.ima_buf("ctr-start", b.ctr_start(b.libpod())), b.ima_buf("ctr-file", entry))
    (image,) = found.document["images"].values()
    assert image["files"] == {"/bin/x": [VERITY]}


# ---- claimed ----


def entries(*payloads: bytes) -> list[object]:
    log = b.ima_buf("ctr-start", b.ctr_start(b.libpod())) + b"".join(b.ima_buf("ctr-file", one) for one in payloads)
    return list(read_entries(log))


def found(ran: Executed, *payloads: bytes) -> list[FindingKind]:
    claimed = plugins.measurer("container-file").claim([ran])
    containers = {"1": Container(seq=1, mntns=1, cgroup=1, started=1, runtime_id=b.CONTAINER)}
    return [finding.kind for finding in compare(entries(*payloads), claimed, containers, [ran])]  # type: ignore[arg-type]


def ran(*, sealed: bool) -> Executed:
    return Executed(
        container=b.CONTAINER,
        path=PurePosixPath("/bin/x"),
        digest=BOTH.sha256,
        size=BOTH.size,
        verity=BOTH.verity if sealed else "",
    )


def entry(digest: str, flags: int) -> bytes:
    return b.ctr_file(b"/bin/x", CONTENT, flags=flags, version=3, digest=bytes.fromhex(digest))


def test_a_file_with_fs_verity_must_have_that_digest() -> None:
    plain, sealed = entry(BOTH.sha256, 0), entry(BOTH.verity, FLAG)
    assert found(ran(sealed=True), sealed) == []
    assert found(ran(sealed=False), plain) == []
    assert FindingKind.WRONG_DIGEST in found(ran(sealed=True), plain)
    assert FindingKind.WRONG_DIGEST in found(ran(sealed=False), sealed)
    # A flipped flag does not turn the one into the other.
    assert FindingKind.WRONG_DIGEST in found(ran(sealed=True), entry(BOTH.verity, 0))
    assert FindingKind.WRONG_DIGEST in found(ran(sealed=False), entry(BOTH.sha256, FLAG))


def test_ground_truth_has_it_if_the_store_does(tmp_path: Path) -> None:
    image = truth_archive(tmp_path / "image.tar", [layer({"bin/x": CONTENT, "bin/sh": elf()})])
    (plain,) = (one for one in executed(image, "c", ["/bin/x"]) if one.route is Route.SCRIPT)
    (sealed,) = (one for one in executed(image, "c", ["/bin/x"], verity=True) if one.route is Route.SCRIPT)
    assert (plain.digest, plain.verity) == (BOTH.sha256, "")
    assert (sealed.digest, sealed.verity) == (BOTH.sha256, BOTH.verity)


# ---- shown ----


def test_people_see_the_kind_and_a_comparison_of_logs_does_too() -> None:
    """An entry of another kind binds another content, also where the bytes of both digests are equal."""
    kinds = [next(decode(entries(entry(BOTH.verity, flags))[1:])) for flags in (FLAG, 0)]  # type: ignore[arg-type]
    said = [dict(one.fields) for one in kinds]
    assert [one["digest"] for one in said] == [BOTH.verity, BOTH.verity]
    assert [one["flags"] for one in said] == ["digest of fs-verity", "none"]
    assert binding(kinds[0]) != binding(kinds[1])
