"""Our policy from Keylime's runtime policy (version 1). What cannot be carried over is named.

Source: ``keylime.ima.ima`` 7.14 (``RUNTIME_POLICY_SCHEMA``, ``_validate_ima_ng``, ``_validate_ima_sig``,
``_validate_ima_buf``). Where the two mean different things by the same word, the result is the stricter one.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from typing import Any

from testbed.attest.foreign.unsaid import Unsaid
from testbed.attest.log.ima import BOOT_AGGREGATES
from testbed.attest.policy.lint import lint
from testbed.attest.policy.make import Files, MadePolicy, document
from testbed.attest.policy.paths import escape_path, is_host_name, shorten
from testbed.attest.policy.signers import key_and_ids
from testbed.attest.strict_json import read_json
from testbed.errors import SpecError

VERSION = 1
SIGNED_HINT = "Keylime's policy is an object with the keys meta, digests, excludes, keyrings, ima, ima-buf, ..."
# Keylime compares digests as hex and does not say which algorithm they are by.
_BY_SIZE = {40: "sha1", 64: "sha256", 96: "sha384", 128: "sha512"}
_HEX = re.compile("[0-9a-f]+")
_BOOT = tuple(name.decode() for name in BOOT_AGGREGATES)
_TABLES = ("digests", "keyrings", "ima-buf")
_INFORMATION = ("meta", "release")
_KNOWN = {*_TABLES, *_INFORMATION, "excludes", "ima", "verification-keys"}
_KNOWN_IMA = {"ignored_keyrings", "log_hash_alg", "dm_policy"}


def import_policy(data: bytes, where: str) -> MadePolicy:
    """Return a policy that accepts what a runtime policy of Keylime accepts, and nothing else, as far as it can.

    Raises ``SpecError`` for what is no such policy.
    """
    notes = Unsaid()
    raw = _read(data, where, notes)
    files: Files = {}
    aggregates: list[str] = []
    for name, digests in _table(raw, "digests", where).items():
        listed = _digests(name, digests, notes)
        if name in _BOOT:
            aggregates += listed
        elif (path := _path(name, notes)) is not None and listed:
            files[path] = sorted({*files.get(path, ()), *listed})
    buffers: Files = {}
    for table in ("ima-buf", "keyrings"):
        for name, digests in _table(raw, table, where).items():
            if table == "ima-buf" and name.startswith((".", "_")):
                notes.left("Keylime judges a measured key by `keyrings` alone", f"ima-buf {name}")
                continue
            if listed := _digests(name, digests, notes):
                buffers[name] = sorted({*buffers.get(name, ()), *listed})
    if _table(raw, "keyrings", where):
        notes.remarks.append("keyrings: listed as buffers; Keylime also accepts files that such a key signed")
    excludes = [pattern for one in _texts(raw, "excludes", where) if (pattern := _pattern(one, notes)) is not None]
    if excludes:
        notes.remarks.append("excludes: a file that is listed is judged by its digests here, even if a pattern matches")
    _ima(raw, where, notes)
    made = document(
        files=files, boot_aggregate=sorted(set(aggregates)), buffers=buffers, keys=list(_keys(raw, where, notes))
    )
    made["host"]["exclude"] = excludes
    return MadePolicy(document=made, notes=tuple(notes.lines()))


def _read(data: bytes, where: str, notes: Unsaid) -> dict[str, Any]:
    raw = _object(data, where)
    if isinstance(raw.get("payload"), str):
        notes.remarks.append("the policy is in a signed envelope (DSSE); its signature was not checked")
        try:
            payload = base64.b64decode(raw["payload"], validate=True)
        except ValueError as error:
            raise SpecError(f"{where}: key payload: expected base64, got: {error}", SIGNED_HINT) from error
        raw = _object(payload, f"{where}: payload")
    meta = raw.get("meta")
    version = meta.get("version") if isinstance(meta, dict) else None
    if type(version) is not int or version != VERSION:
        raise SpecError(f"{where}: key meta.version: expected {VERSION}, got {shorten(version)}", SIGNED_HINT)
    for key in raw.keys() - _KNOWN:
        notes.left("a key that is not known here", key)
    return raw


def _object(data: bytes, where: str) -> dict[str, Any]:
    try:
        raw = read_json(data, digits=20)
    except ValueError as error:
        raise SpecError(f"{where}: expected JSON (UTF-8), got: {shorten(str(error), 200)}", SIGNED_HINT) from error
    if not isinstance(raw, dict):
        raise SpecError(f"{where}: expected an object, got {shorten(raw)}", SIGNED_HINT)
    return raw


def _table(raw: Mapping[str, Any], key: str, where: str) -> dict[str, list[str]]:
    table = raw.get(key, {})
    good = isinstance(table, dict) and all(isinstance(one, list) and _all_texts(one) for one in table.values())
    if not good:
        raise SpecError(
            f"{where}: key {key}: expected an object of lists of digests, got {shorten(table)}", SIGNED_HINT
        )
    return dict(table)


def _texts(raw: Mapping[str, Any], key: str, where: str) -> list[str]:
    found = raw.get(key, [])
    if not isinstance(found, list) or not _all_texts(found):
        raise SpecError(f"{where}: key {key}: expected a list of texts, got {shorten(found)}", SIGNED_HINT)
    return found


def _all_texts(values: list[Any]) -> bool:
    return all(isinstance(one, str) for one in values)


def _digests(name: str, digests: list[str], notes: Unsaid) -> list[str]:
    found = []
    for one in digests:
        if len(one) in _BY_SIZE and _HEX.fullmatch(one):
            found.append(f"{_BY_SIZE[len(one)]}:{one}")
        else:
            notes.left("not a digest of SHA-1 or SHA-2 in lower-case hex", f"{name} {one}")
    return sorted(set(found))


def _path(name: str, notes: Unsaid) -> str | None:
    try:
        path = name.encode()
    except UnicodeEncodeError:
        path = b""
    if path and b"\0" not in path and is_host_name(path):
        return escape_path(path)
    notes.left("a name that no file of the host can have in a log", name)
    return None


def _pattern(regex: str, notes: Unsaid) -> str | None:
    """Return a pattern of ours for one of Keylime's, which need not match a name to its end."""
    bare = regex.removeprefix("^")
    if bare.startswith("(?:") and bare.endswith(")\\Z"):
        # As `keylime_export` writes a pattern; if this is more than one group, what is within is no pattern.
        found = bare[3:-3]
    elif "|" in bare:
        # An anchor within belongs to one alternative; `lint` refuses it there.
        found = f"(?:{bare}).*"
    elif bare.endswith("$") and not bare.endswith("\\$"):
        found = bare[:-1]
    elif bare.endswith((".*", ".*)")) and not bare.endswith(("\\.*", "\\.*)")):
        found = bare
    else:
        found = f"{bare}.*"
    problem = lint(found) or _bytewise(found)
    if problem is not None:
        notes.left(f"as an exclude it is refused: {problem}", regex)
        return None
    return found


def _bytewise(pattern: str) -> str | None:
    """Return why a pattern is refused that counts characters: here it is matched on bytes, and Keylime has text."""
    wide = r"(?:\[\^(?:\\.|[^\\])(?:\\.|[^\]\\])*\]|(?<!\\)\.)(?![*+])"
    if re.search(r"\\[DSW]|\[\^[^\]]*\\[dsw]", pattern) or re.search(wide, pattern):
        return "it counts characters, which are not bytes: use `*` or `+`, or name the ASCII characters"
    return None


def _ima(raw: Mapping[str, Any], where: str, notes: Unsaid) -> None:
    ima = raw.get("ima", {})
    if not isinstance(ima, dict):
        raise SpecError(f"{where}: key ima: expected an object, got {shorten(ima)}", SIGNED_HINT)
    for key in ima.keys() - _KNOWN_IMA:
        notes.left("a key that is not known here", f"ima.{key}")
    for name in _texts(ima, "ignored_keyrings", f"{where}: ima"):
        notes.left("here every measured key must be listed", f"ima.ignored_keyrings {name}")
    if ima.get("dm_policy") is not None:
        notes.left("there are no rules for device mapper tables here", "ima.dm_policy")
    digest = ima.get("log_hash_alg", "sha1")
    if digest != "sha1":
        notes.left("declare it when you verify, with --log-digest", f"ima.log_hash_alg {shorten(digest)}")


def _keys(raw: Mapping[str, Any], where: str, notes: Unsaid) -> Iterator[str]:
    """Yield the keys that sign files, as PEM."""
    text = raw.get("verification-keys") or ""
    if not isinstance(text, str):
        raise SpecError(f"{where}: key verification-keys: expected a text, got {shorten(text)}", SIGNED_HINT)
    if not text:
        return
    listed = _object(text.encode(errors="replace"), f"{where}: verification-keys")
    keys, ids = listed.get("pubkeys", []), listed.get("keyids", [])
    if not isinstance(keys, list) or not _all_texts(keys) or not isinstance(ids, list):
        raise SpecError(f"{where}: verification-keys: expected lists pubkeys and keyids", SIGNED_HINT)
    if keys:
        notes.remarks.append(
            "verification-keys: a file that is listed with another digest is refused here, even signed"
        )
    for at, key in enumerate(keys):
        try:
            pem, own = key_and_ids(key)
        except ValueError as error:
            notes.left(f"not a key that can be used: {shorten(str(error))}", f"verification-keys {at}")
            continue
        given = ids[at] if at < len(ids) else None
        if given is not None and given not in own:
            # Its certificate named the key so. The key alone does not say it, and a policy has no place for an id.
            notes.left("the key is used, but entries that name it by this id will not find it", f"key id {given!r}")
        yield pem
