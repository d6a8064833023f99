"""Keylime's runtime policy (version 1) from ours. What Keylime cannot say is named; nothing becomes laxer unnamed.

Source: as ``keylime_import``. Keylime knows the host only: it reads PCR 10, and no container.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from testbed.attest.foreign.unsaid import Unsaid
from testbed.attest.log.ima import BOOT_AGGREGATES
from testbed.attest.policy.exclude import Excludes
from testbed.attest.policy.keys import Document, Host
from testbed.attest.policy.make import MadePolicy
from testbed.attest.policy.paths import unescape_path
from testbed.attest.policy.signers import key_and_ids, public_of

_SIGNING_TABLE = "a key listed there could sign files in Keylime, which it cannot here"


def export_policy(policy: Document) -> MadePolicy:
    """Return a runtime policy for Keylime's verifier, and notes about all that is not in it."""
    notes = Unsaid()
    digests = _digests(policy.host, notes)
    if policy.host.boot_aggregate:
        bare = sorted({one.rpartition(":")[2] for one in policy.host.boot_aggregate})
        digests |= {name.decode(): bare for name in BOOT_AGGREGATES}
    made: dict[str, Any] = {
        "meta": {"version": 1, "generator": 0},
        "release": 0,
        "digests": dict(sorted(digests.items())),
        "excludes": _excludes(policy.host, notes),
        "keyrings": {},
        "ima": {"ignored_keyrings": [], "log_hash_alg": "sha1", "dm_policy": None},
        "ima-buf": _buffers(policy.host, notes),
        "verification-keys": _keys(policy.host, notes),
    }
    _unsaid(policy, notes)
    return MadePolicy(document=made, notes=tuple(notes.lines()))


def _digests(host: Host, notes: Unsaid) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path, digests in host.files.items():
        # IMA writes an underscore for each space in a name, and Keylime looks names up as they are in the log.
        name = _logged(path, notes)
        plain = [one for one in digests if not one.startswith("verity:")]
        for one in digests:
            if one not in plain:
                notes.left("Keylime reads no fs-verity digests", f"{path} {one}")
        if name is not None and plain:
            bare = {one.rpartition(":")[2] for one in plain}
            found[name] = sorted({*found.get(name, ()), *bare})
    if found:
        notes.remarks.append("digests: Keylime compares the hex digits alone, and not which algorithm they are by")
    return found


def _logged(path: str, notes: Unsaid) -> str | None:
    try:
        return unescape_path(path).replace(b" ", b"_").decode()
    except UnicodeDecodeError:
        notes.left("Keylime's names are UTF-8", path)
        return None


def _buffers(host: Host, notes: Unsaid) -> dict[str, list[str]]:
    found = {}
    for name, digests in sorted(host.buffers.items()):
        if name.startswith((".", "_")):
            notes.left(_SIGNING_TABLE, f"buffers {name}")
        elif (logged := _logged(name, notes)) is not None:
            found[logged] = sorted({one.rpartition(":")[2] for one in digests})
    return found


def _excludes(host: Host, notes: Unsaid) -> list[str]:
    found = []
    for pattern in host.exclude:
        one = Excludes()
        one.add(pattern)
        # Keylime excuses whatever an exclude matches; here a listed file has one of its digests, or is refused.
        listed = [path for path in host.files if one.match(unescape_path(path).replace(b" ", b"_"))]
        if listed:
            notes.left(f"Keylime would not check {len(listed)} listed files that it matches", f"exclude {pattern}")
        elif "\\x" in pattern:
            notes.left("its bytes would be characters for Keylime", f"exclude {pattern}")
        else:
            found.append(f"^(?:{pattern})\\Z")
    return found


def _keys(host: Host, notes: Unsaid) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415

    keys: list[str] = []
    ids: list[int] = []
    for at, signer in enumerate(host.signed_by):
        if signer.paths is not None:
            notes.left("Keylime would accept its signatures at any path", f"signed-by {at}, a key with paths")
            continue
        _, known = key_and_ids(signer.key)
        der = public_of(signer.key).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        for key_id in sorted(known):
            keys.append(base64.b64encode(der).decode())
            ids.append(key_id)
    if not keys:
        return ""
    notes.remarks.append("signed-by: Keylime accepts a signed file also if it is listed with another digest")
    notes.remarks.append("signed-by: Keylime verifies signatures of version 2 in ima-sig entries only")
    return json.dumps({"meta": {"version": 1}, "keyids": ids, "pubkeys": keys})


def _unsaid(policy: Document, notes: Unsaid) -> None:
    """Name the keys that Keylime has nothing for."""
    for key, there in (
        ("images", policy.images),
        ("containers", policy.containers),
        ("cgroups", policy.cgroups),
        ("measurer", policy.measurer),
        ("require_measurer", policy.require_measurer),
    ):
        if there:
            notes.left("Keylime reads PCR 10 only, and knows no containers", key)
    if policy.resettable:
        notes.left("Keylime reads PCR 10 only", "resettable")
    for key, word in policy.on.model_dump(by_alias=True).items():
        if word != "reject":
            notes.left("Keylime has no such exception", f"on.{key}: {word}")
