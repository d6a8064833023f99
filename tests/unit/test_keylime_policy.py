"""Policies from and to Keylime, in both directions through the other side's code where it is installed.

`TESTBED_KEYLIME_PYTHON` names a Python that has Keylime.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import struct
import sys
from pathlib import Path
from typing import Any

import evidence
import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from testbed import shell
from testbed.attest.finding import FindingKind
from testbed.attest.foreign.keylime_export import export_policy
from testbed.attest.foreign.keylime_import import import_policy
from testbed.attest.log.fields import parse_fields
from testbed.attest.log.ima import read_entries
from testbed.attest.policy.file import parse_document
from testbed.attest.policy.make import document
from testbed.attest.policy.reference import Policy, parse_policy
from testbed.attest.rivals import verifiers
from testbed.commands.policy import command
from testbed.errors import SpecError

A, B = hashlib.sha256(b"a").hexdigest(), hashlib.sha256(b"b").hexdigest()
EMPTY: dict[str, Any] = {
    "meta": {"version": 1, "generator": 0},
    "release": 0,
    "digests": {},
    "excludes": [],
    "keyrings": {},
    "ima": {"ignored_keyrings": [], "log_hash_alg": "sha1", "dm_policy": None},
    "ima-buf": {},
    "verification-keys": "",
}
# Keylime's own code: is the policy of its form, and what is wrong with a log by it?
ASK = """
import json, logging, sys, types
logging.disable(logging.CRITICAL)
try:
    import gpg
except ImportError:
    sys.modules["gpg"] = types.ModuleType("gpg")
from keylime.common.algorithms import Hash
from keylime.ima import ima
from keylime.ima.file_signatures import ImaKeyring, ImaKeyrings
policy = ima.deserialize_runtime_policy(open(sys.argv[1]).read())
ima.validate_runtime_policy(policy)
keyrings = ImaKeyrings()
keyrings.set_tenant_keyring(ImaKeyring.from_string(policy["verification-keys"]))
lines = open(sys.argv[2], "rb").read().decode().split("\\n")
_, failure = ima.process_measurement_list(None, lines, policy, ima_keyrings=keyrings, hash_alg=Hash("sha256"))
print(json.dumps(sorted({event.event_id for event in failure.events})))
"""


def imported(**keys: Any) -> tuple[dict[str, Any], str]:
    made = import_policy(json.dumps(EMPTY | keys).encode(), "file")
    parse_policy(json.dumps(made.document).encode(), "made")
    return made.document["host"], "\n".join(made.notes)


def exported(**keys: Any) -> tuple[dict[str, Any], str]:
    host, rest = keys.pop("host", {}), keys
    data = json.dumps({"schema": 1, "host": host, **rest}).encode()
    made = export_policy(parse_document(data, "file"))
    return made.document, "\n".join(made.notes)


def asked(policy: dict[str, Any], log: bytes, tmp_path: Path) -> list[str]:
    """What Keylime finds wrong with a log; the test is skipped where it is not installed."""
    if "keylime" not in verifiers.available():
        pytest.skip(f"Keylime is not on this machine; {verifiers.KEYLIME_PYTHON} can name a Python that has it")
    python = os.environ.get(verifiers.KEYLIME_PYTHON) or sys.executable
    (tmp_path / "policy").write_text(json.dumps(policy))
    (tmp_path / "log").write_bytes(verifiers.ascii_log(log))
    done = shell.run([python, "-I", "-c", ASK, tmp_path / "policy", tmp_path / "log"], timeout=120)
    return list(json.loads(done.out))


def judged(policy: Policy, log: bytes) -> list[FindingKind]:
    """What our judge finds wrong with the same log."""
    found = []
    for entry in read_entries(log):
        fields = parse_fields(entry)
        complaint = policy.judge_host(fields) if fields.of_file else policy.judge_buffer(fields)
        found += [] if complaint is None else [complaint.kind]
    return found


def ours(host: dict[str, Any]) -> Policy:
    return parse_policy(json.dumps({"schema": 1, "host": host}).encode(), "made")


RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def signature(content: bytes, key: rsa.RSAPrivateKey = RSA) -> bytes:
    """`security.ima` of version 2, over SHA-256."""
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)
    signed = key.sign(content, padding.PKCS1v15(), hashes.SHA256())
    return struct.pack(">BBB4sH", 3, 2, 4, hashlib.sha1(public).digest()[-4:], len(signed)) + signed


def der(key: Any) -> str:
    return base64.b64encode(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


LOG = b"".join(
    [
        evidence.ima_ng("boot_aggregate", b"aggregate"),
        evidence.ima_ng("/usr/bin/a", b"a"),
        evidence.ima_sig("/usr/bin/b", b"b"),
        evidence.ima_ng("/var/cache/x/y", b"any"),
        evidence.ima_ng("/srv/a_b", b"spaced"),
        evidence.ima_buf("kexec-cmdline", b"quiet", pcr=10),
    ]
)
GOOD: dict[str, Any] = {
    "files": {"/usr/bin/a": [f"sha256:{A}"], "/usr/bin/b": [f"sha256:{B}"], "/srv/a b": []},
    "boot_aggregate": ["sha256:" + hashlib.sha256(b"aggregate").hexdigest()],
    "buffers": {"kexec-cmdline": ["sha256:" + hashlib.sha256(b"quiet").hexdigest()]},
    "exclude": ["/var/cache/.*"],
}
GOOD["files"]["/srv/a b"] = ["sha256:" + hashlib.sha256(b"spaced").hexdigest()]


def test_keylime_accepts_by_the_exported_policy_what_we_accept(tmp_path: Path) -> None:
    made, _ = exported(host=GOOD)
    assert judged(ours(GOOD), LOG) == []
    assert asked(made, LOG, tmp_path) == []


@pytest.mark.parametrize(
    ("entry", "event"),
    [
        (evidence.ima_ng("/usr/bin/a", b"other"), "ima.validation.ima-ng.runtime_policy_hash"),
        (evidence.ima_sig("/usr/bin/c", b"c"), "ima.validation.ima-ng.not_in_allowlist"),
        (evidence.ima_ng("/var/cachet", b"c"), "ima.validation.ima-ng.not_in_allowlist"),
        (evidence.ima_ng("/srv/var/cache/x", b"c"), "ima.validation.ima-ng.not_in_allowlist"),
        (evidence.ima_buf("kexec-cmdline", b"loud", pcr=10), "ima.validation.ima-ng.runtime_policy_hash"),
        (evidence.ima_buf("other", b"x", pcr=10), "ima.validation.ima-ng.not_in_allowlist"),
    ],
)
def test_keylime_rejects_by_the_exported_policy_what_we_reject(entry: bytes, event: str, tmp_path: Path) -> None:
    made, _ = exported(host=GOOD)
    assert len(judged(ours(GOOD), LOG + entry)) == 1
    assert asked(made, LOG + entry, tmp_path) == [event]


def test_keys_that_sign_files_work_on_both_sides(tmp_path: Path) -> None:
    host = GOOD | {"signed-by": [{"key": evidence.pem(RSA).decode()}]}
    made, notes = exported(host=host)
    signed = LOG + evidence.ima_sig("/opt/x", b"x", signature(b"x"))
    assert judged(ours(host), signed) == []
    assert "also if it is listed with another digest" in notes
    back, _ = imported(**{"verification-keys": made["verification-keys"]})
    assert back["signed-by"] == [{"key": evidence.pem(RSA).decode()}]
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    forged = LOG + evidence.ima_sig("/opt/x", b"x", signature(b"x", stranger))
    assert len(judged(ours(host), forged)) == 1
    assert asked(made, signed, tmp_path) == []
    assert asked(made, forged, tmp_path) == ["ima.validation.ima-ng.not_in_allowlist"]


def test_what_is_exported_and_imported_judges_the_same() -> None:
    made, _ = exported(host=GOOD)
    host, notes = imported(**made)
    assert judged(ours(host), LOG) == []
    assert host["exclude"] == GOOD["exclude"]
    assert "not carried over" not in notes


def test_an_imported_policy_judges_like_keylime(tmp_path: Path) -> None:
    policy = EMPTY | {
        "digests": {"/usr/bin/a": [A], "/usr/bin/b": [B], "boot_aggregate": [hashlib.sha256(b"aggregate").hexdigest()]},
        "excludes": ["/var/cache/", "^/srv/a_b$"],
        "ima-buf": {"kexec-cmdline": [hashlib.sha256(b"quiet").hexdigest()]},
    }
    host, notes = imported(**policy)
    assert host["exclude"] == ["/var/cache/.*", "/srv/a_b"]
    assert "not carried over" not in notes
    assert judged(ours(host), LOG) == []
    for bad in (evidence.ima_ng("/usr/bin/a", b"x"), evidence.ima_ng("/srv/a_bc", b"x"), evidence.ima_ng("/x", b"x")):
        assert len(judged(ours(host), LOG + bad)) == 1
    assert asked(policy, LOG, tmp_path) == []
    for bad in (evidence.ima_ng("/usr/bin/a", b"x"), evidence.ima_ng("/srv/a_bc", b"x"), evidence.ima_ng("/x", b"x")):
        assert len(asked(policy, LOG + bad, tmp_path)) == 1


@pytest.mark.parametrize(
    ("regex", "pattern"),
    [
        ("/var/log/", "/var/log/.*"),
        ("^/var/log/", "/var/log/.*"),
        ("/var/log/.*", "/var/log/.*"),
        ("/var/log/.*$", "/var/log/.*"),
        ("^/srv/x$", "/srv/x"),
        ("^/srv/x\\$", "/srv/x\\$.*"),
        ("^/srv/a|/srv/b", "(?:/srv/a|/srv/b).*"),
        ("/tmp/x\\.*", None),
        ("/tmp/x\\.", "/tmp/x\\..*"),
        ("/tmp/[^/]*/cache/.*", "/tmp/[^/]*/cache/.*"),
        ("^/srv/a$|^/srv/b", None),
        (".*", None),
        ("boot_aggregate", None),
        ("^(?!/usr/bin/).*", None),
        ("/srv/(a*)*", None),
        ("/srv/x y", None),
        ("(", None),
        ("^(?:/srv/a|/srv/b)\\Z", "/srv/a|/srv/b"),
        ("^(?:/srv/a)(?:/srv/b)\\Z", None),
        ("", None),
    ],
)
def test_an_exclude_means_the_same_or_is_named(regex: str, pattern: str | None) -> None:
    host, notes = imported(excludes=[regex])
    assert host["exclude"] == ([] if pattern is None else [pattern])
    assert ("not carried over" in notes) == (pattern is None)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"digests": {"/a": ["ab"]}}, "not a digest of SHA-1 or SHA-2"),
        ({"digests": {"/a": [A.upper()]}}, "not a digest of SHA-1 or SHA-2"),
        ({"digests": {"memfd/x": [A]}}, "no file of the host can have"),
        ({"digests": {"": [A]}}, "no file of the host can have"),
        ({"digests": {"/\ud800": [A]}}, "no file of the host can have"),
        ({"digests": {"4026531836": [A]}}, "no file of the host can have"),
        ({"keyrings": {".ima": [A]}}, "Keylime also accepts files that such a key signed"),
        ({"ima": {"ignored_keyrings": ["*"]}}, "every measured key must be listed"),
        ({"ima": {"dm_policy": {"version": 1}}}, "device mapper"),
        ({"ima": {"log_hash_alg": "sha256"}}, "--log-digest"),
        ({"ima": {"new": 1}}, "not known here"),
        ({"surprise": 1}, "not known here"),
        ({"verification-keys": json.dumps({"pubkeys": ["AAAA"], "keyids": []})}, "not a key that can be used"),
        ({"verification-keys": json.dumps({"pubkeys": ["?"], "keyids": []})}, "not a key that can be used"),
        ({"verification-keys": json.dumps({"pubkeys": [der(RSA)], "keyids": [7]})}, "will not find it"),
    ],
)
def test_what_is_not_carried_over_is_named(keys: dict[str, Any], problem: str) -> None:
    _, notes = imported(**keys)
    assert problem in notes


def test_many_of_one_kind_are_counted() -> None:
    _, notes = imported(digests={f"relative-{n}/x": [A] for n in range(500)})
    assert notes.count("not carried over") == 21
    assert "480 more" in notes


def test_a_keyring_is_a_buffer() -> None:
    host, notes = imported(keyrings={".ima": [A]}, **{"ima-buf": {".ima": [B], "x": [A]}})
    # Keylime looks a key up in `keyrings` alone.
    assert host["buffers"] == {".ima": [f"sha256:{A}"], "x": [f"sha256:{A}"]}
    assert "ima-buf .ima" in notes


@pytest.mark.parametrize("pattern", [r"/var/tmp/\W$", "/var/tmp/[^a][^a]$", "/var/tmp/x.{2}y$", "/var/tmp/x[^/]{4}$"])
def test_a_pattern_that_counts_characters_is_refused(pattern: str) -> None:
    """Keylime matches text, the verifier bytes: this would excuse a name of two bytes that is one character."""
    host, notes = imported(excludes=[pattern, "/var/log/.*"])
    assert host["exclude"] == ["/var/log/.*"]
    assert "counts characters" in notes


def test_a_signed_envelope_is_opened_and_said_to_be_unchecked() -> None:
    payload = json.dumps(EMPTY | {"digests": {"/a": [A]}}).encode()
    made = import_policy(json.dumps({"payload": base64.b64encode(payload).decode(), "signatures": []}).encode(), "file")
    assert made.document["host"]["files"] == {"/a": [f"sha256:{A}"]}
    assert "its signature was not checked" in made.notes[-1]


WRONG: tuple[dict[str, Any], ...] = (
    {"digests": []},
    {"digests": {"/a": A}},
    {"digests": {"/a": [1]}},
    {"excludes": "x"},
    {"excludes": [1]},
    {"ima": 1},
    {"ima": {"ignored_keyrings": {}}},
    {"verification-keys": 7},
    {"verification-keys": "x"},
    {"verification-keys": "[]"},
    {"verification-keys": '{"pubkeys": 1}'},
    {"verification-keys": '{"pubkeys": [1]}'},
)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"meta": {"version": 1}, "meta": {"version": 1}}',
        b'{"meta": {"version": 2}}',
        b'{"meta": {"version": true}}',
        b'{"meta": []}',
        b"{}",
        b"[" * 100_000,
        b'{"payload": "?"}',
        b'{"payload": "AAAA"}',
        *(json.dumps({**EMPTY, **change}).encode() for change in WRONG),
    ],
)
def test_what_is_no_such_policy_is_refused(data: bytes) -> None:
    with pytest.raises(SpecError, match="file"):
        import_policy(data, "file")


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"images": {"x": {}}, "containers": {"*": ["x"]}}, "'images': Keylime reads PCR 10 only"),
        ({"images": {"x": {}}, "containers": {"*": ["x"]}}, "'containers': Keylime reads PCR 10 only"),
        ({"cgroups": ["/a"]}, "cgroups"),
        ({"require_measurer": True}, "require_measurer"),
        ({"measurer": {part: [f"sha256:{A}"] for part in ("module", "object", "loader")}}, "measurer"),
        ({"resettable": {"23": "why"}}, "resettable"),
        ({"on": {"violation": "note"}}, "on.violation: note"),
        ({"on": {"not-bound": "note"}}, "on.not-bound: note"),
        ({"host": {"files": {"/a": [f"verity:sha256:{A}"]}}}, "no fs-verity digests"),
        ({"host": {"files": {"/%E9": [f"sha256:{A}"]}}}, "names are UTF-8"),
        ({"host": {"buffers": {".ima": [f"sha256:{A}"]}}}, "could sign files in Keylime"),
        ({"host": {"exclude": ["/var/x\\xe9"]}}, "would be characters"),
        (
            {"host": {"exclude": ["/usr/bin/.*"], "files": {"/usr/bin/a": [f"sha256:{A}"]}}},
            "would not check 1 listed files",
        ),
        (
            {"host": {"signed-by": [{"key": evidence.pem(RSA).decode(), "paths": ["/opt/.*"]}]}},
            "at any path",
        ),
    ],
)
def test_what_keylime_cannot_say_is_named_and_nothing_gets_laxer(keys: dict[str, Any], problem: str) -> None:
    made, notes = exported(**keys)
    assert problem in notes
    assert "not carried over" in notes
    assert made == EMPTY | {"digests": {"/usr/bin/a": [A]}} if "/usr/bin/a" in str(keys) else made == EMPTY


def test_an_elliptic_key_goes_both_ways() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    made, _ = exported(host={"signed-by": [{"key": der(key)}]})
    host, notes = imported(**{"verification-keys": made["verification-keys"]})
    assert host["signed-by"] == [{"key": evidence.pem(key).decode()}]
    assert "will not find it" not in notes


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(command, [str(word) for word in words])


def test_the_commands_write_policies_and_say_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "keylime.json").write_text(json.dumps(EMPTY | {"digests": {"/a": [A]}, "excludes": [".*"]}))
    done = run("import-keylime", tmp_path / "keylime.json", "-o", tmp_path / "ours.json")
    assert done.exit_code == 0, done.output
    assert "not carried over: '.*'" in done.stderr
    assert run("lint", tmp_path / "ours.json").exit_code == 0
    done = run("export-keylime", tmp_path / "ours.json")
    assert json.loads(done.stdout)["digests"] == {"/a": [A]}
    done = run("export-keylime", tmp_path / "ours.json", "-o", tmp_path / "back.json")
    assert json.loads((tmp_path / "back.json").read_text())["digests"] == {"/a": [A]}
    (tmp_path / "more.json").write_text(json.dumps(document(files={"/b": [f"sha256:{B}"]})))
    run("import-keylime", tmp_path / "keylime.json", "--onto", tmp_path / "more.json", "-o", tmp_path / "both.json")
    assert sorted(json.loads((tmp_path / "both.json").read_text())["host"]["files"]) == ["/a", "/b"]
    for words in (("import-keylime", tmp_path), ("export-keylime", tmp_path / "keylime.json")):
        assert isinstance(run(*words).exception, SpecError)
