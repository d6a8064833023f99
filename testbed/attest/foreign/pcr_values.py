"""PCR values as tpm2-tools write them beside a quote: the values one after another, or structures from memory.

Source of the second form, ``tpm2_quote -o FILE`` without ``-F values``, which Keylime's agent sends too: ``pcr.c`` of
tpm2-tools 5. It is a TPML_PCR_SELECTION of 16 places and TPML_DIGESTs of 8 places, with the padding of C, in
little-endian.
"""

from __future__ import annotations

import struct

from testbed.attest.finding import BadEvidence
from testbed.attest.hashes import BANKS, TPM_ALGS
from testbed.attest.quote import Selection, selected
from testbed.attest.registers import PCRS

_SELECTION = struct.Struct("<HB4sx")
_PLACES, _DIGESTS, _DIGEST = 16, 8, struct.Struct("<H64s")
_HEAD = 4 + _PLACES * _SELECTION.size
_LIST = 4 + _DIGESTS * _DIGEST.size
SIZE_MAX = _HEAD + 4 + _PLACES * _LIST


def read_pcr_values(data: bytes, selection: Selection, where: str) -> dict[int, bytes]:
    """Return the values of the PCRs of a selection. Raises ``BadEvidence`` for another number or form of values."""
    size = BANKS[selection.bank]
    if len(data) == size * len(selection.pcrs):
        parts = [data[at : at + size] for at in range(0, len(data), size)]
    else:
        parts = _structures(data, selection, where)
    for value in parts:
        if len(value) != size:
            raise BadEvidence(where, f"values of {size} bytes, as {selection.bank} has", f"{len(value)}")
    if len(parts) != len(selection.pcrs):
        raise BadEvidence(where, f"{len(selection.pcrs)} values, of {selection}", f"{len(parts)}")
    return dict(zip(selection.pcrs, parts, strict=True))


def _structures(data: bytes, selection: Selection, where: str) -> list[bytes]:
    if len(data) < _HEAD + 4 or (len(data) - _HEAD - 4) % _LIST:
        expected = f"{len(selection.pcrs)} values of {BANKS[selection.bank]} bytes, or the structures of tpm2_quote -o"
        raise BadEvidence(where, expected, f"{len(data)} bytes")
    (count,) = struct.unpack_from("<I", data)
    chosen = [_SELECTION.unpack_from(data, 4 + at * _SELECTION.size) for at in range(min(count, _PLACES))]
    sole = [(algorithm, bitmap[:size]) for algorithm, size, bitmap in chosen if any(bitmap[:size])]
    banks = {
        TPM_ALGS.get(algorithm, hex(algorithm)): tuple(pcr for pcr in selected(bitmap) if pcr < PCRS)
        for algorithm, bitmap in sole
    }
    if banks != {selection.bank: selection.pcrs}:
        raise BadEvidence(where, f"values of {selection}, which were quoted", ascii(banks)[:200])
    (lists,) = struct.unpack_from("<I", data, _HEAD)
    if lists != (len(data) - _HEAD - 4) // _LIST:
        raise BadEvidence(where, "as many lists of digests as it says", f"{lists}")
    return [value for at in range(lists) for value in _list(data, _HEAD + 4 + at * _LIST, where)]


def _list(data: bytes, at: int, where: str) -> list[bytes]:
    (count,) = struct.unpack_from("<I", data, at)
    if count > _DIGESTS:
        raise BadEvidence(where, f"at most {_DIGESTS} digests in a list", f"{count}")
    found = []
    for place in range(count):
        size, value = _DIGEST.unpack_from(data, at + 4 + place * _DIGEST.size)
        if size > len(value):
            raise BadEvidence(where, f"a digest of at most {len(value)} bytes", f"{size}")
        found.append(value[:size])
    return found
