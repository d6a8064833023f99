"""The options of ``testbed verify`` that write its verdict as an EAR."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import click

from testbed import files
from testbed.attest.verdict import Verdict
from testbed.errors import SpecError

_KEY_MAX = 1 << 16
# As in attest.foreign.ear, which is imported only if it is used: a table of names is no reason to wait.
_PROFILES = ("ietf-04", "veraison-2023")

EAR_FILE = click.option(
    "--ear", type=click.Path(dir_okay=False, path_type=Path), help="Write the verdict as a signed EAR (a JWT) too."
)
EAR_KEY = click.option("--ear-key", type=click.File("rb"), help="With --ear: private key, PEM (P-256, P-384, Ed25519).")
EAR_PROFILE = click.option(
    "--ear-profile",
    type=click.Choice(_PROFILES),
    default=_PROFILES[0],
    show_default=True,
    help="With --ear: which edition of EAR; readers of 2023 want the second.",
)

# Gets the verdict, the nonce, and the SHA-256 of the policy's file.
Writer = Callable[[Verdict, bytes, str | None], None]


def result_writer(path: Path | None, key: BinaryIO | None, profile: str) -> Writer | None:
    """Return what writes the EAR; the key is read now, before a long verification. Raises ``SpecError``."""
    if (path is None) != (key is None):
        raise SpecError("--ear and --ear-key: expected both or none, got one", "an EAR is always signed")
    if path is None or key is None:
        return None
    from testbed.attest.foreign import ear  # noqa: PLC0415

    signer = ear.load_result_key(key.read(_KEY_MAX))
    target = path

    def write(verdict: Verdict, nonce: bytes, policy: str | None) -> None:
        content = ear.claims(verdict, issued=int(time.time()), nonce=nonce, policy=policy, profile=profile)
        files.write_plain(target, ear.signed(content, signer).encode())

    return write
