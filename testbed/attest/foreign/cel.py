"""A log in the JSON encoding of TCG's Canonical Event Log, with the content type for IMA's templates.

Source: TCG Canonical Event Log Format 1.0 (5.1.5, "IMA Template"; "JSON Encoding"): ``recnum`` counts from 0,
``digests`` are what the PCR of each bank was extended with, under the names that banks have here too, and ``content``
has the template's name and data as in the kernel's binary log.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from testbed.attest.finding import UnsupportedEvidence
from testbed.attest.log.ima import Entry, extension


def records(entries: Iterable[Entry], banks: Sequence[str], *, padded: bool = False) -> Iterator[dict[str, Any]]:
    """Yield a record for each entry. ``padded``: as for ``verify``; it does not change the digest of ``sha1``.

    Raises ``UnsupportedEvidence`` for a log of another byte order, whose data no reader of a record could read.
    """
    for number, entry in enumerate(entries):
        if entry.form.byte_order != "little":
            raise UnsupportedEvidence(entry.where, "a log in little-endian, as records have it", "big-endian")
        yield {
            "recnum": number,
            "pcr": entry.pcr,
            "digests": [{"hashAlg": bank, "digest": extension(entry, bank, padded=padded).hex()} for bank in banks],
            "content_type": "ima_template",
            "content": {"template_name": entry.template.decode("ascii"), "template_data": entry.data.hex()},
        }


def lines(entries: Iterable[Entry], banks: Sequence[str], *, padded: bool = False) -> Iterator[str]:
    """Yield the JSON array of all records in pieces: a log may have a million."""
    begin = "[\n"
    for record in records(entries, banks, padded=padded):
        yield begin + json.dumps(record)
        begin = ",\n"
    yield "[]\n" if begin == "[\n" else "\n]\n"
