"""Evidence in other projects' forms, made into bundles: the answer of Keylime's agent, and files of tpm2-tools.

Nothing is judged here, and the signature only where it decides in which form the signature is. `testbed verify` judges
the bundle.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from testbed import files
from testbed.attest import quote
from testbed.attest.bundle import LIMITS, SCHEMA
from testbed.attest.finding import BadEvidence, UnsupportedEvidence
from testbed.attest.foreign import pcr_values, plain_signature, text_log
from testbed.attest.hashes import HASHES
from testbed.attest.log.text import is_text
from testbed.attest.quote import Attest, Selection
from testbed.attest.strict_json import read_json

ANSWER_MAX = 1 << 29  # bytes of JSON: a log as text and some more
_BASE64_MAX = 1 << 15
_HEX_TEXT = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A foreign quote that was read. ``values``: of the quoted PCRs, if they are those that were quoted.

    ``nonce``: what the quote itself has. ``notes``: what was lost, for people.
    """

    attest: bytes
    sig: bytes
    selection: Selection
    nonce: bytes
    values: Mapping[int, bytes] | None
    notes: tuple[str, ...]


def read_answer(data: bytes) -> dict[str, Any]:
    """Return the ``results`` of what Keylime's agent answers to ``/quotes/integrity``; they alone do, too.

    Raises ``BadEvidence``.
    """
    try:
        raw = read_json(data, digits=20)
    except ValueError as error:
        raise BadEvidence("answer", "JSON", ascii(str(error))[:200]) from error
    if isinstance(raw, dict) and isinstance(raw.get("results"), dict):
        raw = raw["results"]
    if not isinstance(raw, dict):
        raise BadEvidence("answer", "an object", ascii(type(raw).__name__))
    return dict(raw)


def answered_quote(raw: Mapping[str, Any]) -> Imported:
    """Return the quote in an answer of Keylime's agent. Raises ``BadEvidence``."""
    text = raw.get("quote")
    if not isinstance(text, str) or not text.startswith("r"):
        raise BadEvidence("answer: quote", "a text that begins with r", ascii(text)[:_HEX_TEXT])
    parts = text[1:].split(":")
    if len(parts) != 3:
        raise BadEvidence("answer: quote", "three parts with colons between", f"{len(parts)}")
    attest, sig, values = (_base64(part, name) for part, name in zip(parts, ("quote", "sig", "pcrs"), strict=True))
    if attest[:1] == b"\x78":
        raise UnsupportedEvidence("answer: quote", "a quote that is not compressed", "zlib, as old agents send it")
    made = from_parts(attest, sig, values)
    notes = [*made.notes, "Keylime's nonce is a text: --nonce is that text in hex"]
    if isinstance(raw.get("hash_alg"), str) and raw["hash_alg"] != made.selection.bank:
        notes.append(f"the answer says hash_alg {ascii(raw['hash_alg'])[:40]}, but {made.selection} was quoted")
    if raw.get("mb_measurement_list"):
        notes.append("not carried over: mb_measurement_list (the log of the firmware, which is not verified here)")
    return replace(made, notes=tuple(notes))


def answered_log(raw: Mapping[str, Any]) -> bytes:
    """Return the log in an answer of Keylime's agent, which is text. Raises ``BadEvidence``, also for a part of one."""
    begin, log = raw.get("ima_measurement_list_entry", 0), raw.get("ima_measurement_list", "")
    if type(begin) is not int or begin != 0:
        expected = "a log from its first entry: ask the agent with ima_ml_entry=0"
        raise BadEvidence("answer: ima_measurement_list_entry", expected, ascii(begin)[:_HEX_TEXT])
    if not isinstance(log, str):
        raise BadEvidence("answer: ima_measurement_list", "a text", ascii(type(log).__name__))
    try:
        return log.encode()
    except UnicodeEncodeError as error:
        raise BadEvidence("answer: ima_measurement_list", "text", ascii(str(error))[:200]) from error


def from_parts(attest: bytes, sig: bytes, values: bytes | None, ak: bytes | None = None) -> Imported:
    """Put a quote together from files of ``tpm2_quote``.

    ``sig``: as ``-f tss`` or as ``-f plain`` writes it; the latter needs ``ak``, the key that made it. ``values``: what
    ``-o`` wrote, in either form. Raises ``BadEvidence``, and ``SpecError`` for a wrong key.
    """
    parsed = quote.parse_attest(attest)
    if parsed is None:
        raise BadEvidence("quote.attest: type", f"{quote.ATTEST_QUOTE:04x}", attest[4:6].hex())
    selection = _selection(parsed)
    signature, notes = plain_signature.as_tpmt(sig, attest, ak)
    read = None if values is None else pcr_values.read_pcr_values(values, selection, "pcrs")
    if read is not None:
        digest = HASHES.get(quote.parse_signature(signature).hash_alg, hashlib.sha256)
        if digest(b"".join(read.values())).digest() != parsed.digest:
            notes += ("not carried over: the PCR values, because they are not those that were quoted",)
            read = None
    return Imported(attest=attest, sig=signature, selection=selection, nonce=parsed.nonce, values=read, notes=notes)


def write(imported: Imported, log: bytes | BinaryIO, directory: Path) -> None:
    """Write a bundle as a new directory. ``log``: in the kernel's binary form. Raises ``BadEvidence`` if too large."""
    raw: dict[str, Any] = {"schema": SCHEMA, "hash_alg": imported.selection.bank, "pcrs": [*imported.selection.pcrs]}
    if imported.values is not None:
        raw["pcr_values"] = {f"{pcr}": value.hex() for pcr, value in imported.values.items()}
    raw["nonce"] = imported.nonce.hex()
    with files.new_directory(directory) as spare:
        files.write_plain(spare / "bundle.json", json.dumps(raw, indent=1).encode() + b"\n")
        files.write_plain(spare / "quote.attest", imported.attest)
        files.write_plain(spare / "quote.sig", imported.sig)
        with (spare / "ima.bin").open("xb") as out:
            if isinstance(log, bytes):
                out.write(log)
            else:
                shutil.copyfileobj(log, out, 1 << 20)
            if out.tell() > LIMITS["ima.bin"]:
                raise BadEvidence("ima.bin", f"at most {LIMITS['ima.bin']} bytes", f"{out.tell()}")


def binary_log(data: bytes, where: str) -> tuple[bytes, tuple[str, ...]]:
    """Return a log, binary or text, as a bundle has it, and what was lost. Raises ``BadEvidence``."""
    if not is_text(data):
        return data, ()
    note = "the log was text: names that are not UTF-8 and violations are as the text shows them"
    return text_log.as_binary(data, where), (note,)


def _base64(text: str, name: str) -> bytes:
    if len(text) > _BASE64_MAX:
        raise BadEvidence(f"answer: quote: {name}", f"at most {_BASE64_MAX} characters", f"{len(text)}")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadEvidence(f"answer: quote: {name}", "base64", ascii(text)[:_HEX_TEXT]) from error


def _selection(attest: Attest) -> Selection:
    sole = quote.sole_selection(attest)
    if sole is None:
        expected = "PCRs of one bank, in a bitmap of three bytes"
        raise UnsupportedEvidence("quote.attest: pcrSelect", expected, f"{len(attest.selections)} selections")
    return sole
