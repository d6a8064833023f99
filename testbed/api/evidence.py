"""Evidence of one machine: its quote, its log entry by entry, the verdict, and forgeries to try a verifier with.

Source: ``testbed.attest``. What evidence says is text from the attested machine: escape it where it is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pandas as pd

from testbed.api.given import PathLike, content, directory, one_of, text
from testbed.attest import quote as quotes
from testbed.attest import verify as verifier
from testbed.attest.bundle import read_bundle
from testbed.attest.decoded.decode import DecodedEntry, decode_bundle
from testbed.attest.finding import BadEvidence, Finding
from testbed.attest.hashes import BANKS, TPM_ALGS
from testbed.attest.log.semantics import Semantics
from testbed.attest.mutate.engine import forge as forging
from testbed.attest.mutate.engine.trial import read_honest
from testbed.attest.mutate.registry import find
from testbed.attest.policy.reference import Policy, load_policy
from testbed.attest.registers import PCRS, pcr_register
from testbed.attest.saved.state import State, load_state
from testbed.attest.tpm import parse_name
from testbed.attest.verdict import Verdict
from testbed.errors import SpecError

_KEY_MAX = 1 << 16
_FORGED = (
    *("ak_parent", "starts", "padded_sha1", "firmware", "ima_pcr"),
    *("resettable", "recheck", "rejudge", "log_digest"),
)
_FINDING = [field.name for field in fields(Finding)]


def verify(
    bundle: PathLike,
    *,
    ak: bytes | PathLike,
    nonce: str | bytes,
    pcrs: str = verifier.DEFAULT_PCRS,
    ak_parent: str | bytes | None = None,
    policy: Policy | PathLike | None = None,
    since: State | PathLike | None = None,
    starts: Mapping[int, bytes] | None = None,
    resettable: Mapping[int, str] | None = None,
    **more: Any,
) -> Verdict:
    """Judge the evidence in a bundle's directory: ``judgement`` is ``trusted``, ``untrusted`` or ``malformed``.

    ``ak``: the attestation key, PEM or TPM2B_PUBLIC, as bytes or a file. ``nonce``: the one that you sent, hex or
    bytes. ``pcrs``: what you demand, ``BANK:PCR,PCR``. ``policy``, ``since``: files or what was read of them.
    ``starts``, ``resettable``: by PCR. ``more``: further arguments of ``attest.verify.verify`` (``firmware``,
    ``padded_sha1``, ``ima_pcr``, ``log_digest``, ``byte_order``, ``recheck``, ``rejudge``, ``processes``).

    Never raises for evidence. Raises ``SpecError`` for wrong arguments. Source: ``testbed verify``, docs/verify.md.

    >>> golden = "tests/golden/bundle-debian-6.12"
    >>> verdict = verify(golden, ak=f"{golden}/ak.pub", nonce=quote(golden)["nonce"])
    >>> str(verdict.judgement), verdict.entries, dict(verdict.attested)
    ('trusted', 64, {10: 1, 11: 63})
    """
    _check(starts or {}, resettable or {}, more, since=since is not None)
    return verifier.verify(
        directory("bundle", bundle),
        ak=content("ak", ak, _KEY_MAX),
        nonce=quotes.parse_nonce(text(nonce)),
        pcrs=pcrs,
        ak_parent=None if ak_parent is None else parse_name(text(ak_parent)),
        policy=load_policy(Path(policy).expanduser()) if isinstance(policy, str | Path) else policy,
        since=load_state(Path(since).expanduser()) if isinstance(since, str | Path) else since,
        starts=starts,
        resettable=resettable or {},
        **more,
    )


def quote(bundle: PathLike) -> pd.Series[Any]:
    """Return what a bundle's quote states, unchecked: a Series of texts by name, bytes in hex.

    ``nonce``: what the quote answers; ``pcrs``: the quoted PCRs, ``BANK:PCR,PCR``; ``digest``: over their values;
    ``clock``: milliseconds in which the TPM was powered. Only ``verify`` says whether any of it is true.

    Raises ``SpecError`` if there is no directory, ``EvidenceError`` if the files are no quote.

    >>> quote("tests/golden/bundle-debian-6.12")["pcrs"]
    'sha256:10,11'
    """
    attest = quotes.parse_attest(read_bundle(directory("bundle", bundle)).attest)
    if attest is None:
        raise BadEvidence("quote.attest: type", "a quote", "an attestation of something else")
    stated = {name: text(value) if isinstance(value, bytes) else value for name, value in asdict(attest).items()}
    stated["pcrs"] = " + ".join(_selected(*one) for one in stated.pop("selections"))
    return pd.Series({name: f"{value}" for name, value in stated.items()}, dtype=object)


def decode(bundle: PathLike, verdict: Verdict | None = None, *, bank: str = "sha256") -> pd.DataFrame:
    """Return a bundle's log as a table, a row for each entry, with the columns of ``DecodedEntry``.

    ``says``: the entry in one line; ``container``: its ``seq``, missing for the host; ``digest``: what it binds, hex.
    ``value``: what its PCR holds afterwards, hex, in ``bank``. ``attested``: whether the quote covers the entry,
    missing without ``verdict``. ``fields``: a dictionary of texts.

    Raises ``SpecError`` for an unknown bank or directory, ``EvidenceError`` for a log that cannot be read to its end.
    Source: ``attest.decoded.decode``.

    >>> log = decode("tests/golden/bundle-debian-6.12")
    >>> log["kind"].value_counts().to_dict()["ctr-file"]
    60
    """
    one_of("bank", bank, BANKS)
    entries = decode_bundle(directory("bundle", bundle), None if verdict is None else verdict.attested, bank=bank)
    columns = [field.name for field in fields(DecodedEntry)]
    listed = [{name: getattr(entry, name) for name in columns} | {"fields": dict(entry.fields)} for entry in entries]
    return pd.DataFrame(listed, columns=columns)


def containers(verdict: Verdict) -> pd.DataFrame:
    """Return the containers that the attested log names: a row for each, by ``seq`` as text.

    ``judgement``: of this container alone; ``runtime_id``: its name at the runtime; ``image_digest``: of its image's
    tree, hex, empty without a launch entry; ``entries``: how many are about it. Source: ``Verdict.containers``.
    """
    judgements = verdict.container_judgements(verdict.containers)
    columns = ["judgement", "entries", "runtime_id", "image", "image_digest", "parent", "cgroup_path"]
    listed = {
        key: {"judgement": str(judgements[key])} | {name: getattr(one, name) for name in columns[1:]}
        for key, one in verdict.containers.items()
    }
    table = pd.DataFrame.from_dict(listed, orient="index", columns=columns)
    return table.rename_axis("seq")


def findings(of: Verdict | Semantics | Iterable[Finding]) -> pd.DataFrame:
    """Return findings as a table: ``kind``, ``where``, ``expected``, ``got``, ``container`` (missing for none)."""
    listed = of.findings if isinstance(of, Verdict | Semantics) else of
    return pd.DataFrame([asdict(one) | {"kind": str(one.kind)} for one in listed], columns=_FINDING)


def forge(
    bundle: PathLike,
    attack: str,
    output: PathLike,
    *,
    ak: bytes | PathLike | None = None,
    nonce: str | bytes | None = None,
    pcrs: str = verifier.DEFAULT_PCRS,
) -> dict[str, Any]:
    """Forge the honest evidence in a bundle as a named attack does, into a new directory ``output``.

    Returns the arguments with which ``verify`` judges it: ``verify(**forge(...))``. ``ak``, ``nonce``: by default those
    that lie in the bundle, which is good enough for an attack and never for trust. ``attack``: a name of
    docs/attacks.md. Raises ``SpecError`` for an unknown attack, one that cannot be made from this bundle, a bundle that
    is not trusted to begin with, and if ``output`` exists. Source: ``testbed mutate``.
    """
    place, where = directory("bundle", bundle), Path(output).expanduser()
    key = forging.stated_key(place) if ak is None else content("ak", ak, _KEY_MAX)
    sent = forging.stated_nonce(place) if nonce is None else quotes.parse_nonce(text(nonce))
    forged = forging.write_forged(find(attack), read_honest(place, ak=key, nonce=sent, pcrs=pcrs), where)
    given: dict[str, Any] = {"bundle": where, "ak": forged.ak, "nonce": forged.nonce, "pcrs": forged.pcrs}
    given |= {name: getattr(forged, name) for name in _FORGED}
    if forged.policy is not None:
        given["policy"] = where / "policy.json"
    if forged.since is not None:
        given["since"] = where / "state.json"
    return given


def _check(starts: Mapping[int, bytes], resettable: Mapping[int, str], more: Mapping[str, Any], *, since: bool) -> None:
    """Raise ``SpecError`` for what the command line refuses by the types of its options."""
    for pcr in starts:
        if not 0 <= pcr < PCRS:
            raise SpecError(f"starts: expected a PCR from 0 to {PCRS - 1}, got {pcr}")
    for pcr, why in resettable.items():
        if not (0 <= pcr < PCRS and pcr_register(pcr, "sha256").reset_by and why.strip()):
            raise SpecError(f"resettable: expected a PCR from 16 to 23 and a reason, got {pcr}: {why!r}")
    if not 0 <= more.get("ima_pcr", verifier.IMA_PCR) < PCRS:
        raise SpecError(f"ima_pcr: expected a PCR from 0 to {PCRS - 1}, got {more['ima_pcr']}")
    for name, known in (("log_digest", tuple(BANKS)), ("byte_order", ("little", "big"))):
        if more.get(name) is not None:
            one_of(name, more[name], known)
    for name in ("recheck", "rejudge"):
        if more.get(name) and not since:
            raise SpecError(f"{name}: expected `since` with it; without a saved state the whole log is judged anyway")


def _selected(algorithm: int, bitmap: bytes) -> str:
    return f"{TPM_ALGS.get(algorithm, hex(algorithm))}:{','.join(map(str, quotes.selected(bitmap)))}"
