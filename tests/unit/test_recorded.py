"""Bundles of real boots, one a kernel: three containers of the `tools` workload under `container-file`.

They come from ``testbed run`` on an experiment with that one cell, without warm-ups, on tier tcg.
"""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from testbed.attest.log.ima import read_entries
from testbed.attest.verdict import Judgement, Verdict
from testbed.attest.verify import verify

BUNDLES = sorted((Path(__file__).parents[1] / "golden").glob("bundle-debian-*"))
LOG_POSITIONS = 2000
each = pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)


def judge(bundle: Path, nonce: str | None = None) -> Verdict:
    told = json.loads((bundle / "bundle.json").read_text())["nonce"]
    return verify(bundle, ak=(bundle / "ak.pub").read_bytes(), nonce=bytes.fromhex(nonce or told))


def test_there_is_one_a_kernel() -> None:
    assert [path.name for path in BUNDLES] == ["bundle-debian-6.1", "bundle-debian-6.12"]


@each
def test_it_is_trusted(bundle: Path) -> None:
    verdict = judge(bundle)
    assert verdict.judgement is Judgement.TRUSTED
    assert verdict.findings == ()
    assert verdict.attested == {10: 1, 11: 63}
    assert [one.entries for one in verdict.containers.values()] == [21, 21, 21]
    assert len({one.runtime_id for one in verdict.containers.values()}) == 3


@each
def test_no_byte_of_quote_or_signature_can_change(bundle: Path, tmp_path: Path) -> None:
    flips = random.Random(bundle.name)
    for name in ("quote.attest", "quote.sig"):
        copy = shutil.copytree(bundle, tmp_path / name)
        good = (bundle / name).read_bytes()
        for at in range(len(good)):
            (copy / name).write_bytes(flipped(good, at, flips))
            assert not judge(copy).ok, f"{name}: byte {at}"


@each
def test_no_byte_of_the_log_can_change(bundle: Path, tmp_path: Path) -> None:
    flips = random.Random(bundle.name)
    copy = shutil.copytree(bundle, tmp_path / "copy")
    good = (bundle / "ima.bin").read_bytes()
    assert len(list(read_entries(good))) == 64
    for at in flips.sample(range(len(good)), LOG_POSITIONS):
        (copy / "ima.bin").write_bytes(flipped(good, at, flips))
        assert not judge(copy).ok, f"ima.bin: byte {at}"


@each
def test_another_question_gets_no_answer(bundle: Path) -> None:
    verdict = judge(bundle, "00" * 32)
    assert [finding.kind for finding in verdict.findings] == ["quote-nonce"]


@each
def test_a_log_that_is_cut_is_malformed_or_does_not_replay(bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle, tmp_path / "copy")
    good = (bundle / "ima.bin").read_bytes()
    (copy / "ima.bin").write_bytes(good[: len(good) - 1])
    assert judge(copy).judgement is Judgement.MALFORMED
    last = list(read_entries(good))[-1]
    (copy / "ima.bin").write_bytes(good[: last.offset])
    assert "replay-mismatch" in {finding.kind for finding in judge(copy).findings}


def flipped(data: bytes, at: int, flips: random.Random) -> bytes:
    changed = bytearray(data)
    changed[at] ^= flips.randrange(1, 256)
    return bytes(changed)
