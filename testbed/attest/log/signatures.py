"""File signatures as IMA and EVM log them, and whether one of the verifier's keys made them (docs/formats.md).

Source: ``integrity_digsig_verify``, ``asymmetric_verify`` and ``calc_file_id_hash`` (security/integrity),
``xattr_verify`` (ima/ima_appraise.c), ``evm_calc_hmac_or_hash`` (evm/evm_crypto.c). Neither signatures of version 1
nor appended ones (field ``modsig``) are verified.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from testbed.attest.log.fields import Fields
from testbed.attest.tpm import PublicKey

ID_SIZE = 4
# `enum evm_ima_xattr_type`, the first byte of `security.ima` and `security.evm`: signatures of a content's digest, of
# metadata, of an fs-verity digest; and a digest alone.
_CONTENT, _METADATA, _VERITY = 3, 5, 6
_DIGEST = 4
_VERSIONS = {_CONTENT: (2, 3), _METADATA: (2, 3), _VERITY: (3,)}
_PLAIN = 2  # it signs the digest itself; version 3 signs a digest of type, algorithm and digest
# `enum hash_algo`.
_ALGORITHMS = {1: "md5", 2: "sha1", 4: "sha256", 5: "sha384", 6: "sha512", 7: "sha224"}
# Those that are accepted. SHA-1 is not: anybody can make two files that have the same.
_PREHASHED = {
    "sha256": Prehashed(hashes.SHA256()),
    "sha384": Prehashed(hashes.SHA384()),
    "sha512": Prehashed(hashes.SHA512()),
}
_HEAD = struct.Struct(f">BBB{ID_SIZE}sH")
# `struct h_misc` of a 64-bit kernel: inode and generation (zero in a portable signature), user, group, mode, padding.
_OWNER = struct.Struct("<12x4s4s2s2x")
_IMA = b"security.ima"


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A key whose signatures count. ``paths``: patterns of the names that it may sign; ``None``: any name."""

    public: PublicKey
    paths: tuple[re.Pattern[bytes], ...] | None = None


# By the ids that signatures name keys by, ``ID_SIZE`` bytes. Two keys can have the same one.
Keyring = Mapping[bytes, tuple[SigningKey, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureCheck:
    """What the signatures of an entry are worth. ``signers``: the keys that made one for this entry.

    ``bad``: the key id that a signature names, if none of its keys made it for this entry. ``why``: what the entry has
    instead of a good signature; empty if it has nothing.
    """

    signers: tuple[SigningKey, ...] = ()
    bad: str = ""
    why: str = ""


def check(fields: Fields, keyring: Keyring) -> SignatureCheck:
    """Check all signatures in an entry of a file. If one of them is bad, the others do not count."""
    found = list(_all(fields, keyring))
    if bad := [one for one in found if one.bad]:
        return bad[0]
    if signers := tuple(key for one in found for key in one.signers):
        return SignatureCheck(signers=signers)
    return found[0] if found else SignatureCheck()


def _all(fields: Fields, keyring: Keyring) -> Iterator[SignatureCheck]:
    """Check each signature in an entry. The kernel puts that of EVM into ``sig`` where there is none of IMA."""
    if not fields.sig and not fields.others:
        return
    ima = _attributes(fields.others).get(_IMA, b"")
    for blob in (fields.sig, ima):
        if blob and blob[0] in {_CONTENT, _VERITY}:
            yield _of_digest(blob, fields, keyring)
    if evm := fields.others.get("evmsig"):
        yield _of_metadata(evm, ima, fields, keyring)
    elif fields.sig and fields.sig[0] == _METADATA:
        yield SignatureCheck(why="an EVM signature without the metadata that it is of")
    if fields.others.get("modsig"):
        yield SignatureCheck(why="an appended signature, which is not verified")


def _of_digest(blob: bytes, fields: Fields, keyring: Keyring) -> SignatureCheck:
    """Check a signature of IMA: it must be of the one digest that the entry has."""
    of_verity = blob[0] == _VERITY
    if of_verity != (fields.digest_type == "verity"):
        what = "an fs-verity digest" if of_verity else "the content"
        return SignatureCheck(why=f"a signature over {what}, but the entry has another digest")
    return _verify(blob, fields.digest, fields.algorithm, keyring)


def _of_metadata(blob: bytes, ima: bytes, fields: Fields, keyring: Keyring) -> SignatureCheck:
    """Check a portable signature of EVM: of attributes and owner, and so of the digest that `security.ima` has.

    The names and lengths of the attributes are not signed, only their values one after another. But a digest must come
    out of these bytes, wherever they are cut.
    """
    owner = [fields.others.get(name, b"") for name in ("iuid", "igid", "imode")]
    algorithm = _ALGORITHMS.get(blob[2]) if len(blob) > 2 and blob[0] == _METADATA else None
    if algorithm is None:
        return SignatureCheck(why="an EVM signature that is not portable")
    if algorithm not in _PREHASHED:
        return SignatureCheck(why=f"a signature over a digest of {algorithm}, which is not accepted")
    if not ima or not all(owner):
        return SignatureCheck(why="an EVM signature, but the entry does not contain the signed metadata")
    signed = hashlib.new(algorithm, fields.others["xattrvalues"] + _OWNER.pack(*owner)).digest()
    checked = _verify(blob, signed, algorithm, keyring)
    if not checked.signers:
        return checked
    held = _ALGORITHMS.get(ima[1]) if len(ima) > 1 and ima[0] == _DIGEST else None
    if fields.digest_type == "verity" or held != fields.algorithm:
        return SignatureCheck(why="an EVM signature over metadata that contain no digest of this file")
    return (
        checked
        if ima[2:] == fields.digest
        else SignatureCheck(bad=_key_id(blob), why="signed metadata of another digest")
    )


def _attributes(others: Mapping[str, bytes]) -> dict[bytes, bytes]:
    """Return the attributes that EVM protects, by name; none if there are none, or names, lengths, values differ."""
    names = others.get("xattrnames", b"").removesuffix(b"\0").split(b"|")
    lengths, values = others.get("xattrlengths", b""), others.get("xattrvalues", b"")
    if len(lengths) != 4 * len(names) or len(set(names)) != len(names):
        return {}
    ends = list(accumulate(struct.unpack(f"<{len(names)}I", lengths), initial=0))
    if ends[-1] != len(values):
        return {}
    return {name: values[start:end] for name, (start, end) in zip(names, pairwise(ends), strict=True)}


def _verify(blob: bytes, digest: bytes, algorithm: str, keyring: Keyring) -> SignatureCheck:
    """Check a signature of ``digest``, made with ``algorithm``, with each key that it can mean."""
    if len(blob) < _HEAD.size:
        return SignatureCheck(why=f"a signature of {len(blob)} bytes, which is too short")
    kind, version, number, key_id, size = _HEAD.unpack_from(blob)
    if version not in _VERSIONS[kind]:
        return SignatureCheck(why=f"a signature of version {version}, which is not verified")
    named = _ALGORITHMS.get(number, f"algorithm {number}")
    if named != algorithm or named not in _PREHASHED:
        but = f"but the entry has one of {algorithm}" if named in _PREHASHED else "which is not accepted"
        return SignatureCheck(why=f"a signature over a digest of {named}, {but}")
    keys = keyring.get(key_id, ())
    if not keys:
        return SignatureCheck(why=f"signed by key {key_id.hex()}, which the policy does not have")
    signed = digest if version == _PLAIN else hashlib.new(algorithm, bytes([kind, number]) + digest).digest()
    raw = blob[_HEAD.size :]
    signers = tuple(key for key in keys if len(raw) == size and _made(key.public, raw, signed, algorithm))
    if signers:
        return SignatureCheck(signers=signers)
    return SignatureCheck(bad=_key_id(blob), why="a signature that does not verify with this key")


def _made(public: PublicKey, raw: bytes, digest: bytes, algorithm: str) -> bool:
    try:
        if isinstance(public, rsa.RSAPublicKey):
            public.verify(raw, digest, padding.PKCS1v15(), _PREHASHED[algorithm])
        else:
            public.verify(raw, digest, ec.ECDSA(_PREHASHED[algorithm]))
    except InvalidSignature:
        return False
    return True


def _key_id(blob: bytes) -> str:
    return bytes(_HEAD.unpack_from(blob)[3]).hex()
