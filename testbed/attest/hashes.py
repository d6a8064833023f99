"""Hash algorithms: by the kernel's names, as a log has them, and by a TPM's, as its banks have them.

Source: ``hash_algo_name`` and ``hash_digest_size`` (crypto/hash_info.c); TPM 2.0 Library, Part 2, TPM_ALG_ID. A digest
of each of them can be read. It can be computed only where this Python and its OpenSSL have the algorithm.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any

from testbed.attest.finding import UnsupportedEvidence

# By the kernel's name: the digest's bytes, and what `hashlib` calls it. (Before 5.6 the kernel's table says `sm3-256`,
# but those kernels cannot compute it, because their crypto API calls it `sm3`.)
_KERNEL = {
    "md4": (16, "md4"),
    "md5": (16, "md5"),
    "sha1": (20, "sha1"),
    "rmd160": (20, "ripemd160"),
    "sha256": (32, "sha256"),
    "sha384": (48, "sha384"),
    "sha512": (64, "sha512"),
    "sha224": (28, "sha224"),
    "rmd128": (16, ""),
    "rmd256": (32, ""),
    "rmd320": (40, ""),
    "wp256": (32, ""),
    "wp384": (48, ""),
    "wp512": (64, "whirlpool"),
    "tgr128": (16, ""),
    "tgr160": (20, ""),
    "tgr192": (24, ""),
    "sm3": (32, "sm3"),
    "streebog256": (32, ""),
    "streebog512": (64, ""),
    "sha3-256": (32, "sha3_256"),
    "sha3-384": (48, "sha3_384"),
    "sha3-512": (64, "sha3_512"),
}
# TPM_ALG_ID, the bank's name in `tpm2_pcrread` and so in `--pcrs`, and the kernel's name.
_TPM = (
    (0x0004, "sha1", "sha1"),
    (0x000B, "sha256", "sha256"),
    (0x000C, "sha384", "sha384"),
    (0x000D, "sha512", "sha512"),
    (0x0012, "sm3_256", "sm3"),
    (0x0027, "sha3_256", "sha3-256"),
    (0x0028, "sha3_384", "sha3-384"),
    (0x0029, "sha3_512", "sha3-512"),
)

Hash = Callable[[bytes], Any]


def _hash(name: str) -> Hash | None:
    """Return the constructor that ``hashlib`` has for its ``name``, or ``None`` where the algorithm is missing."""
    try:
        hashlib.new(name)
    except ValueError:
        return None
    constructor: Hash = getattr(hashlib, name, None) or partial(hashlib.new, name)
    return constructor


_COMPUTED = {name: made for name, (_, called) in _KERNEL.items() if called and (made := _hash(called)) is not None}

# Bytes of the digest that the kernel calls so.
DIGESTS = {name: size for name, (size, _) in _KERNEL.items()}
# By the bank's name, for those that can be computed here: the size of a PCR in bytes, and the hash.
BANKS = {bank: DIGESTS[name] for _, bank, name in _TPM if name in _COMPUTED}
HASHES = {bank: _COMPUTED[name] for _, bank, name in _TPM if name in _COMPUTED}
# The bank's name by its TPM_ALG_ID.
TPM_ALGS = {number: bank for number, bank, _ in _TPM if bank in HASHES}


def digest(name: str, data: bytes) -> bytes:
    """Return the digest of ``data`` by the hash that the kernel calls ``name``.

    Raises ``UnsupportedEvidence`` where this Python and its OpenSSL do not have it.
    """
    if (value := computed(name, data)) is None:
        raise UnsupportedEvidence("field d-ng", "a digest that this machine's OpenSSL can compute", name)
    return value


def computed(name: str, data: bytes) -> bytes | None:
    """Return the same, and ``None`` where this Python and its OpenSSL do not have it."""
    made = _COMPUTED.get(name)
    return None if made is None else made(data).digest()
