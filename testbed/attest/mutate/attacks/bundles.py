"""Attacks on what bundle.json says, and on what is in the place of the bundle's files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from testbed.attest.finding import FindingKind as Kind
from testbed.attest.mutate.engine.lines import as_it_is, described, flipped, needs_both, with_files
from testbed.attest.mutate.engine.model import FILES, Forged, Honest, Link, Odd, by_files

Values = Callable[[Mapping[int, bytes]], Mapping[int, bytes] | None]


def _values(honest: Honest, edit: Values) -> Forged:
    return with_files(honest, {"bundle.json": described(honest, edit(honest.values))})


def _word(honest: Honest, words: Mapping[str, object]) -> Forged:
    return with_files(honest, {"bundle.json": described(honest, honest.values, **words)})


def _text(honest: Honest, edit: Callable[[bytes], bytes]) -> Forged:
    return with_files(honest, {"bundle.json": edit(honest.files["bundle.json"])})


def _missing(honest: Honest, name: str) -> Forged:
    return replace(as_it_is(honest), files={key: value for key, value in honest.files.items() if key != name})


def _odd(honest: Honest, name: str, odd: Odd | Link) -> Forged:
    """Put something else where a file should be; the file is beside it under another name."""
    return replace(as_it_is(honest), files={**honest.files, name: odd, f"real-{name}": honest.files[name]})


def _padded(honest: Honest, name: str, size: int) -> Forged:
    return with_files(honest, {name: honest.files[name].ljust(size, b" ")})


def _moved_byte(values: Mapping[int, bytes]) -> Mapping[int, bytes]:
    """Move a byte from PCR 11 to PCR 10: the same bytes under the quote's hash."""
    return {10: values[10] + values[11][:1], 11: values[11][1:]}


_VALUES: tuple[tuple[str, str, Values], ...] = (
    (
        "values-lying",
        "PCR values other than the quoted ones",
        lambda v: {pcr: flipped(pcr_value, 0) for pcr, pcr_value in v.items()},
    ),
    ("values-missing", "no PCR values", lambda _: None),
    ("values-none", "an empty object of PCR values", lambda _: {}),
    ("values-of-one", "the value of one PCR only", lambda v: {10: v[10]}),
    ("values-swapped", "the two PCRs' values swapped", lambda v: {10: v[11], 11: v[10]}),
    ("values-short", "values of 20 bytes", lambda v: {pcr: pcr_value[:20] for pcr, pcr_value in v.items()}),
    ("values-moved-byte", "a byte of one PCR's value moved to the other's", _moved_byte),
    ("values-more", "values of PCRs that were not demanded", lambda v: {**v, 0: bytes(32), 23: b"\1" * 32}),
)
_WORDS: tuple[tuple[str, str, dict[str, object], tuple[str, ...]], ...] = (
    ("nonce-lying", "another nonce", {"nonce": "00" * 32}, ()),
    ("pcrs-lying", "other PCRs", {"pcrs": [0, 1, 2]}, ()),
    ("hash-lying", "another hash", {"hash_alg": "md5"}, ()),
    ("boot-lying", "another boot and another clone", {"boot_id": "x", "clone_id": "y"}, ()),
    ("key-more", "an unknown key", {"trusted": True, "ak": "mine"}, ()),
    ("schema-two", "schema 2", {"schema": 2}, (Kind.MALFORMED,)),
    ("schema-true", "a schema that equals 1 and is not a number", {"schema": True}, (Kind.MALFORMED,)),
    ("schema-text", "a schema that is text", {"schema": "1"}, (Kind.MALFORMED,)),
    ("pcr-24", "a PCR that no TPM has", {"pcrs": [10, 24]}, (Kind.MALFORMED,)),
    ("pcrs-text", "PCR numbers as text", {"pcrs": "10,11"}, (Kind.MALFORMED,)),
    ("hash-number", "a hash name that is a number", {"hash_alg": 11}, (Kind.MALFORMED,)),
    ("nonce-number", "a nonce that is a number", {"nonce": 1}, (Kind.MALFORMED,)),
    ("nonce-upper-case", "a nonce in upper case", {"nonce": "AA"}, (Kind.MALFORMED,)),
    ("values-list", "PCR values in a list", {"pcr_values": ["00"]}, (Kind.MALFORMED,)),
    ("values-key", "a PCR called 010", {"pcr_values": {"010": "00"}}, (Kind.MALFORMED,)),
)
_TEXTS: tuple[tuple[str, str, Callable[[bytes], bytes]], ...] = (
    ("empty", "no bytes", lambda _: b""),
    ("cut", "its second half missing", lambda data: data[: len(data) // 2]),
    ("not-utf8", "a byte that is not UTF-8", lambda data: data.replace(b"{", b'{"\xff": 1,', 1)),
    ("byte-order-mark", "a byte order mark", lambda data: b"\xef\xbb\xbf" + data),
    ("key-twice", "a key twice", lambda data: data.replace(b"{", b'{"schema": 1,', 1)),
    ("nan", "NaN", lambda data: data.replace(b"{", b'{"x": NaN,', 1)),
    ("infinity", "Infinity", lambda data: data.replace(b"{", b'{"x": -Infinity,', 1)),
    ("two-objects", "a second object after the first", lambda data: data + data),
    ("list", "a list", lambda data: b"[" + data + b"]"),
    ("nested", "100 000 nested lists", lambda _: b"[" * 100_000),
    ("digits", "a number of 100 000 digits", lambda data: data.replace(b"{", b'{"x": ' + b"9" * 100_000 + b",", 1)),
)
_ODD = (
    ("link", "a symbolic link to the file itself", Link),
    ("link-out", "a symbolic link out of the bundle, to a device that never ends", lambda _: Link("/dev/zero")),
    ("fifo", "a FIFO without a writer", lambda _: Odd.FIFO),
    ("directory", "a directory", lambda _: Odd.DIRECTORY),
)
_LARGEST = {"bundle.json": 1 << 20, "quote.attest": 1 << 12, "quote.sig": 1 << 12}

ATTACKS = (
    *(
        by_files(f"json-{name}", "T50", f"bundle.json: {summary}", partial(_values, edit=edit), applies=needs_both)
        for name, summary, edit in _VALUES
    ),
    *(
        by_files(f"json-{name}", "T51", f"bundle.json: {summary}", partial(_word, words=words), *expect)
        for name, summary, words, expect in _WORDS
    ),
    *(
        by_files(f"json-{name}", "T52", f"bundle.json: {summary}", partial(_text, edit=edit), Kind.MALFORMED)
        for name, summary, edit in _TEXTS
    ),
    *(
        by_files(
            f"{name.replace('.', '-')}-missing",
            "T52",
            f"{name}: missing",
            partial(_missing, name=name),
            Kind.MALFORMED,
        )
        for name in FILES
    ),
    *(
        by_files(
            f"{name.replace('.', '-')}-{what}",
            "T52",
            f"{name}: {summary}",
            partial(_odd, name=name, odd=odd(f"real-{name}")),
            Kind.MALFORMED,
        )
        for name in FILES
        for what, summary, odd in _ODD
    ),
    *(
        by_files(
            f"{name.replace('.', '-')}-huge",
            "T72",
            f"{name}: one byte over the limit",
            partial(_padded, name=name, size=size + 1),
            Kind.MALFORMED,
        )
        for name, size in _LARGEST.items()
    ),
    by_files(
        "ima-bin-huge", "T72", "ima.bin: 2 GiB and a byte", partial(_odd, name="ima.bin", odd=Odd.HUGE), Kind.MALFORMED
    ),
    by_files(
        "file-more", "T52", "one more file in the bundle", lambda honest: with_files(honest, {"policy.json": b"{}"})
    ),
)
