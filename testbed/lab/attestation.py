"""Evidence of a running machine: its attestation key, enrolled once, and bundles of quote and log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from testbed.guest import Guest
from testbed.lab.tpm import CertificateAuthority


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """An evidence bundle that was written at ``directory``. ``nonce`` is what its quote must contain."""

    directory: Path
    nonce: bytes


def enrol(guest: Guest, authority: CertificateAuthority) -> bytes:
    """Return the attestation key of the machine's TPM (``TPM2B_PUBLIC``), made now and proven to live in that TPM."""
    raise NotImplementedError


def collect(guest: Guest, pcrs: Sequence[int], challenge: bytes, clone_id: str, directory: Path) -> Collected:
    """Write an evidence bundle: a quote over ``pcrs`` that answers ``challenge``, then the IMA log."""
    raise NotImplementedError
