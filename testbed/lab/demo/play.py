"""The demo from the boot to the last act: what is done, in its order. What is shown goes to a ``Show``."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from testbed import measurers
from testbed.attest.decoded.decode import DecodedEntry, decode_bundle
from testbed.attest.policy.log import from_entries
from testbed.attest.policy.make import from_images, merge
from testbed.attest.policy.reference import Policy, parse_policy
from testbed.attest.verify import attested_entries, verify
from testbed.errors import LabError
from testbed.files import write_plain
from testbed.guest import Guest
from testbed.lab import attestation, block
from testbed.lab.block import Parts, Ready
from testbed.lab.build.image import ContainerImage
from testbed.lab.cell import PCRS
from testbed.lab.demo import live, scene
from testbed.lab.demo.acts import ACTS, Act, Deed, problem
from testbed.lab.demo.live import Arrival
from testbed.lab.demo.scene import MEASURER, WAITING
from testbed.lab.demo.show import Exhibit, Performance, Played, Show

if TYPE_CHECKING:  # these import libvirt, which a desk does not have
    from testbed.lab.machines.lab import Lab
    from testbed.lab.machines.machine import Machine
    from testbed.lab.machines.save import Saved

_LIVE_SECONDS = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """What all acts share: the machine as it was when it was trusted, and how its evidence is judged."""

    lab: Lab
    saved: Saved
    ak: bytes
    policy: Policy
    image: str
    honest: Exhibit
    directory: Path
    show: Show


@contextmanager
def booted(lab: Lab, parts: Parts, directory: Path, show: Show) -> Iterator[Ready]:
    """Hold a machine that has the measurer's files and an enrolled key.

    Raises as ``Lab.boot`` does, and ``DeployError``.
    """
    show.scene("A machine boots", "QEMU starts a machine with a software TPM. Nothing is measured in it yet.")
    with ExitStack() as stack:
        with show.working(f"{parts.machine.name} boots"):
            machine = stack.enter_context(lab.boot(parts.machine, directory / "boot"))
        with show.working("the measurer is copied into it"):
            block.deploy(machine.guest, parts.bundle)
        with show.working("its TPM proves that it holds the key that will sign quotes"):
            ak = attestation.enrol(machine.guest, machine.tpm)
        yield Ready(machine=machine, ak=ak)


def perform(lab: Lab, ready: Ready, image: ContainerImage, directory: Path, show: Show) -> Performance:
    """Play the demo in a machine that ``booted`` holds, which ends it; evidence goes below ``directory``.

    An act that does not end as it must is a problem of the result. Raises ``LabError``, ``EvidenceError``.
    """
    machine, guest = ready.machine, ready.machine.guest
    with show.working("the image is copied to the machine's disk"):
        layers = scene.unpack(guest, block.reference(image))
    policy = _reference(ready, image, directory, show)
    show.scene(
        "The measurer is attached, and two containers start",
        "Each file that a container runs becomes an entry of the log, and the kernel extends PCR 11 of the TPM by it. "
        "Before the first container runs, its whole image is hashed, which takes some seconds.",
    )
    with show.working("the measurer is attached"):
        measurers.begin(MEASURER, guest)
    arrivals = _watched(guest, layers, show)
    show.pause()
    show.scene(
        "The evidence is verified",
        "The verifier sends a new nonce. The TPM signs it together with PCRs 10 and 11; then the log is read.",
    )
    honest = _judged(machine, ready.ak, policy, directory / "honest", show)
    show.verdict(honest.verdict)
    known = f"{machine.spec.name}, tier {machine.spec.tier}"
    if not honest.verdict.ok:
        wrong = f"expected a trusted machine before the acts, got {honest.verdict.judgement}"
        return Performance(machine=known, arrivals=arrivals, honest=honest, acts=(), problem=wrong)
    with show.working("the machine is saved; each act begins from here"):
        saved = machine.save(directory / "saved")
    stage = _Stage(
        lab=lab,
        saved=saved,
        ak=ready.ak,
        policy=policy,
        image=layers,
        honest=honest,
        directory=directory,
        show=show,
    )
    acts = tuple(_play(stage, number, act) for number, act in enumerate(ACTS, 1))
    return Performance(machine=known, arrivals=arrivals, honest=honest, acts=acts)


def _reference(ready: Ready, image: ContainerImage, directory: Path, show: Show) -> Policy:
    """Return what may run: the files of the image, and of the host what its log shows before any container started."""
    with show.working("a policy is made: the files of the image, and the host as it has just booted"):
        first = _collected(ready.machine, directory / "first")
        verdict = verify(first.directory, ak=ready.ak, nonce=first.nonce, make_state=False)
        if not verdict.ok:
            kinds = ", ".join(sorted(verdict.kinds))
            raise LabError(f"a machine that has just booted: expected trusted evidence, got {kinds}")
        host = from_entries(attested_entries(first.directory, verdict)).document
        document = merge(host, from_images([image.archive]).document) | {"require_measurer": True}
        return parse_policy(json.dumps(document).encode(), "the policy of the demo")


def _watched(guest: Guest, image: str, show: Show) -> tuple[Arrival, ...]:
    """Start the containers and show the log as it grows; return what was seen."""
    seen = []
    with show.live() as add:
        scene.start(guest, image)
        for arrival in live.follow(
            guest,
            lambda entry: live.path_of(entry) == WAITING,
            len(scene.ACTORS),
            check=lambda: scene.check_started(guest),
            timeout=_LIVE_SECONDS,
        ):
            add(arrival)
            seen.append(arrival)
    return tuple(seen)


def _judged(machine: Machine, ak: bytes, policy: Policy, directory: Path, show: Show) -> Exhibit:
    with show.working("the TPM signs, and the verifier judges"):
        measurers.beat(MEASURER, machine.guest)
        got = _collected(machine, directory)
        verdict = verify(got.directory, ak=ak, nonce=got.nonce, policy=policy, make_state=False)
    return Exhibit(bundle=got.directory, nonce=got.nonce, verdict=verdict)


def _collected(machine: Machine, directory: Path) -> attestation.Collected:
    return attestation.collect(machine.guest, PCRS, secrets.token_bytes(32), machine.clone_id, directory)


def _play(stage: _Stage, number: int, act: Act) -> Played:
    show = stage.show
    show.pause()
    show.scene(f"Act {number}: {act.title}", act.before)
    where = stage.directory / f"act-{number}"
    deed, got = _in_machine(stage, act, where) if act.on_log is None else _on_copy(stage, act, where)
    show.verdict(got.verdict)
    wrong = problem(act, deed, got.verdict)
    show.say(wrong or act.after)
    return Played(act=act, deed=deed, verdict=got.verdict, problem=wrong)


def _in_machine(stage: _Stage, act: Act, where: Path) -> tuple[Deed, Exhibit]:
    """Do an act in a clone of the saved machine, and judge its evidence."""
    assert act.in_guest is not None
    show = stage.show
    with ExitStack() as stack:
        with show.working("the saved machine is restored"):
            machine = stack.enter_context(stage.lab.restore(stage.saved, where / "machine"))
        deed = act.in_guest(machine.guest, stage.image)
        show.seen(deed.seen)
        got = _judged(machine, stage.ak, stage.policy, where / "evidence", show)
    show.entries(_added(stage.honest, got))
    return deed, got


def _on_copy(stage: _Stage, act: Act, where: Path) -> tuple[Deed, Exhibit]:
    """Do an act to a copy of the trusted bundle, and judge that; the nonce is the one that was sent for it."""
    assert act.on_log is not None
    honest = stage.honest
    bundle = where / "evidence"
    shutil.copytree(honest.bundle, bundle)
    log, deed = act.on_log((bundle / "ima.bin").read_bytes())
    write_plain(bundle / "ima.bin", log)
    stage.show.seen(deed.seen)
    verdict = verify(bundle, ak=stage.ak, nonce=honest.nonce, policy=stage.policy, make_state=False)
    return deed, Exhibit(bundle=bundle, nonce=honest.nonce, verdict=verdict)


def _added(before: Exhibit, after: Exhibit) -> tuple[DecodedEntry, ...]:
    """Return the entries that the log has got since."""
    return tuple(islice(decode_bundle(after.bundle, after.verdict.attested), before.verdict.entries, None))
