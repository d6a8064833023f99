"""An attack's evidence as a directory, and the key and the nonce that a bundle itself states.

What a bundle states about its own key and nonce is good enough to attack the bundle, never to trust it.
"""

from __future__ import annotations

import json
from pathlib import Path

from testbed import files
from testbed.attest.mutate.engine.model import EvidenceAttack, Forged, Honest
from testbed.attest.mutate.engine.trial import beside, saved_state, write_files
from testbed.attest.quote import parse_nonce
from testbed.attest.saved.state import save_state
from testbed.errors import SpecError

_KEYS = ("ak.pub", "ak.pem")
_JSON_MAX = 1 << 20


def stated_key(bundle: Path) -> bytes:
    """Return the attestation key that lies in a bundle. Raises ``SpecError`` if there is none."""
    for name in _KEYS:
        if (bundle / name).is_file():
            return (bundle / name).read_bytes()
    raise SpecError(f"{bundle}: expected the attestation key as {' or '.join(_KEYS)}, got neither", "give --ak")


def stated_nonce(bundle: Path) -> bytes:
    """Return the nonce that ``bundle.json`` states. Raises ``SpecError`` if none can be read."""
    try:
        with (bundle / "bundle.json").open("rb") as file:
            return parse_nonce(json.loads(file.read(_JSON_MAX))["nonce"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SpecError) as error:
        raise SpecError(
            f"{bundle}: expected a nonce in bundle.json, got none that can be read", "give --nonce"
        ) from error


def write_forged(attack: EvidenceAttack, honest: Honest, output: Path) -> Forged:
    """Write an attack's evidence, and the files to judge it with, into a new directory; return what was forged.

    Raises ``SpecError`` if the attack cannot be made from this evidence, or if ``output`` exists.
    """
    if reason := attack.applies(honest):
        raise SpecError(f"{attack.name}: cannot be made from this bundle: {reason}", "--list shows which can")
    forged = attack.forge(honest)
    with files.naming(output), beside(output) as new:
        write_files(forged, new)
        (new / key_name(forged)).write_bytes(forged.ak)
        if forged.policy is not None:
            (new / "policy.json").write_bytes(forged.policy)
        if forged.since is not None:
            save_state(new / "state.json", saved_state(forged.since, new.with_name("first")))
    return forged


def key_name(forged: Forged) -> str:
    """Return the name of the file that ``write_forged`` writes the key to."""
    return "ak.pem" if forged.ak.startswith(b"-----BEGIN") else "ak.pub"
