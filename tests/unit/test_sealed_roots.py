"""Image entries with a digest of the kernel's own (composefs, dm-verity): in a policy, in a log, in words."""

from __future__ import annotations

import json
from typing import Any

import evidence as b
import pytest

from testbed.attest.decoded.as_text import summary
from testbed.attest.entries.launch import COMPOSEFS, DM_VERITY, TREE_2
from testbed.attest.entries.parse import parse_payload
from testbed.attest.finding import Finding, FindingKind
from testbed.attest.judge import Judge
from testbed.attest.log.ima import read_entries
from testbed.attest.policy.file import parse_document
from testbed.attest.policy.log import from_entries
from testbed.attest.policy.make import as_json
from testbed.attest.policy.reference import build_policy, parse_policy
from testbed.errors import SpecError

DIGEST, OTHER = b"\xaa" * 32, b"\xbb" * 32
KINDS = {"digest": TREE_2, "composefs": COMPOSEFS, "dm-verity": DM_VERITY}


def listed(kind: str, *digests: bytes) -> dict[str, Any]:
    """An image of a policy with digests of one kind."""
    texts = [digest.hex() for digest in digests]
    return {"digest": texts[0]} if kind == "digest" else {"roots": {kind: texts}}


def log(kind: str, digest: bytes = DIGEST) -> bytes:
    """A log with one container on a root of this kind."""
    files = 9 if kind == "digest" else 0
    image = b.ctr_image(digest, files=files, size=files, version=3, tree=KINDS[kind])
    entries = {
        "ctr-start": b.ctr_start(b.libpod(), version=3),
        "ctr-image": image,
        "ctr-launch": b.ctr_launch(digest, table=b.TABLE, version=3),
    }
    return b"".join(b.ima_buf(name, payload) for name, payload in entries.items())


def judged(image: dict[str, Any], entries: bytes) -> list[Finding]:
    document = {"schema": 1, "images": {"i": image}, "containers": {"*": ["i"]}}
    judge = Judge(policy=parse_policy(json.dumps(document).encode(), "p.json"))
    for entry in read_entries(entries):
        judge.step(entry)
    return [one for one in judge.findings({11}) if one.kind is FindingKind.WRONG_DIGEST]


@pytest.mark.parametrize("kind", KINDS)
def test_a_digest_of_its_kind_is_accepted_and_another_is_not(kind: str) -> None:
    word = "tree" if kind == "digest" else kind
    assert judged(listed(kind, DIGEST), log(kind)) == []
    (found,) = judged(listed(kind, OTHER), log(kind))
    assert found.expected == f"{word} {OTHER.hex()} (image i)"
    assert found.got == f"{word} {DIGEST.hex()}"


@pytest.mark.parametrize("of_policy", KINDS)
@pytest.mark.parametrize("of_log", KINDS)
def test_a_digest_of_another_kind_does_not_count(of_policy: str, of_log: str) -> None:
    assert bool(judged(listed(of_policy, DIGEST), log(of_log))) == (of_policy != of_log)


def test_an_image_may_have_several_digests_of_several_kinds() -> None:
    image = listed("digest", DIGEST) | {"roots": {"composefs": [OTHER.hex(), DIGEST.hex()], "dm-verity": ["c" * 64]}}
    assert judged(image, log("digest") + b"") == []
    assert judged(image, log("composefs", OTHER)) == judged(image, log("composefs")) == []
    assert [one.kind for one in judged(image, log("dm-verity"))] == [FindingKind.WRONG_DIGEST]
    assert judged({}, log("composefs")) == [], "without any digest, any root is accepted"


def test_a_policy_made_from_a_log_names_the_kind() -> None:
    for kind in KINDS:
        (image,) = from_entries(read_entries(log(kind))).document["images"].values()
        assert {key: image.get(key) for key in ("digest", "roots")} == {"digest": None, "roots": None} | listed(
            kind, DIGEST
        )


def test_a_policy_keeps_its_keys_when_it_is_written_again() -> None:
    text = {"schema": 1, "images": {"i": {"roots": {"composefs": ["a" * 64], "dm-verity": ["b" * 64]}, "files": {}}}}
    document = parse_document(json.dumps(text).encode(), "p.json")
    assert as_json(document)["images"] == text["images"]
    assert build_policy(document, "p.json").images["i"].digests == (("composefs", "a" * 64), ("dm-verity", "b" * 64))


@pytest.mark.parametrize("roots", [{"composefs": []}, {"composefs": ["a" * 63]}, {"squashfs": ["a" * 64]}, "a" * 64])
def test_bad_roots_are_refused(roots: object) -> None:
    document = {"schema": 1, "images": {"i": {"roots": roots}}}
    with pytest.raises(SpecError, match=r"images\.i\.roots"):
        parse_policy(json.dumps(document).encode(), "p.json")


def test_words() -> None:
    texts = {}
    for kind, tree in KINDS.items():
        files = 9 * (kind == "digest")
        payload = b.ctr_image(DIGEST, files=files, size=files, version=3, tree=tree)
        texts[kind] = summary(parse_payload(b"ctr-image", payload))
    assert texts == {
        "digest": f"an image of 9 files, tree {DIGEST.hex()}",
        "composefs": f"an image whose root the kernel checks, composefs {DIGEST.hex()}",
        "dm-verity": f"an image whose root the kernel checks, dm-verity {DIGEST.hex()}",
    }
