"""JSON has one reading: policies, saved states and bundles have the same reader."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from testbed.attest.strict_json import read_json

ATTEST = Path(__file__).parents[2] / "testbed/attest"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"a": 1, "a": 1}', "the key 'a' twice in one object"),
        (b'{"b": [{"a": 1, "a": 2}]}', "the key 'a' twice"),
        (b"[NaN]", "NaN, which is not JSON"),
        (b"[-Infinity]", "-Infinity, which is not JSON"),
        (b"[" * 200_000, "nested too deeply"),
        (b'"\xff"', "invalid start byte"),
        (b"[1] [2]", "Extra data"),
        (b"[" + b"9" * 5000 + b"]", "4300 digits"),
    ],
)
def test_what_has_two_readings_is_rejected(data: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        read_json(data)


def test_a_reader_may_limit_the_digits_of_a_number() -> None:
    assert read_json(b"[1000, -1, 1.5]") == [1000, -1, 1.5]
    assert read_json(b"[100]", digits=3) == [100]
    with pytest.raises(ValueError, match="a number of 4 digits"):
        read_json(b"[1000]", digits=3)


def test_the_verifiers_own_files_have_no_second_reader() -> None:
    """Answers of other programs and OCI archives are read elsewhere, and bundles by attacks on them."""
    own = [ATTEST / "bundle.py", *(ATTEST / "saved").glob("*.py"), *(ATTEST / "policy").glob("file.py")]
    assert len(own) >= 4
    assert [path.name for path in own if re.search(r"json\.loads?\(", path.read_text())] == []
