"""A measurer: what is put into the guest to record what containers run, and what it promises to record.

To add one, write ``measurers/NAME.py`` with a module-level ``MEASURER``. ``claim`` is the heart of correctness:
``attest.truth`` compares the log with it, so the checker shares no code with the C.
"""

from __future__ import annotations

import enum
import json
import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from testbed.guest import Guest
from testbed.measurers._loading import bring as bring
from testbed.record import Tier

POLICY = "/sys/kernel/security/ima/policy"
POLICY_STAGED = "/run/testbed/ima-policy"
DEPLOYED = "/opt/testbed"
PINS = "/sys/fs/bpf/testbed"
_NO_POLICY, _NOWHERE = ("# no rule of IMA",), "/dev/null"
# In the path of a claim: the number of a namespace, whichever it is.
ANY_NAMESPACE = "*"
# Modes in which the programs say in the log when they were there (docs/formats.md, ctr-beat).
BEATING = frozenset({"file", "image", "drift"})
# Modes in which each start of a container is an entry, with its image's digest (ctr-image, ctr-launch).
LAUNCHING = frozenset({"image", "drift"})
# Modes in which the image's digest stands for its files: only other code has entries of its own (docs/formats.md).
DRIFTING = frozenset({"drift"})
ARGUMENTS_MAX = 4096
# In ``Step.over``: the baseline of the experiment, whichever measurer that is.
BASELINE = "(baseline)"


class Route(enum.StrEnum):
    """The way in which the kernel came to run code of a file. A file with two routes is two facts of ground truth."""

    EXEC = "exec"  # execve of an ELF file
    SCRIPT = "script"  # execve of a file that begins with #!
    INTERPRETER = "interpreter"  # the program that a script names
    MAPPED = "mapped"  # mmap with PROT_EXEC: the ELF interpreter and the libraries
    MPROTECT = "mprotect"  # mapped first, made executable later
    READ = "read"  # the kernel read it: a module, firmware, another kernel


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """Ground truth: code of this file ran in this container.

    ``container`` is the runtime's id, ``digest`` SHA-256 in hex, ``size`` in bytes. ``route``: see ``Route``.
    ``of_image``: it is a file of the container's image, unchanged and at its path in the image. ``verity``: the
    fs-verity digest of a file that has one, hex.
    """

    container: str
    path: PurePosixPath
    digest: str
    size: int
    route: Route = Route.EXEC
    of_image: bool = False
    verity: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """Ground truth: this container was started of this image.

    ``image`` is the digest of the image's tree, hex; ``argv`` what its first program finds as its arguments (of a
    script, the interpreter's), ``None`` if unknown.
    """

    container: str
    image: str
    argv: tuple[str, ...] | None = None


Ran = Executed | Launched


class What(enum.StrEnum):
    """What an entry is about."""

    FILE = "file"
    IMAGE = "image"
    LAUNCH = "launch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """One thing that must be in the log.

    ``pcr`` is ``None`` for a line of a log that no PCR vouches for. ``container`` is ``None`` for an image, and if the
    measurer does not distinguish containers. ``path``: the entry's name; with ``ANY_NAMESPACE`` where a number of a
    namespace stands first in it. Of a launch its arguments (``arguments_text``), nothing if they are not known.
    ``digest``: of the file (``_verity.content``), of a launch and an image its tree's.
    """

    pcr: int | None
    container: str | None
    path: str
    digest: str
    what: What = What.FILE


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One attested entry of the IMA log, for ``Measurer.observe``.

    ``where`` names it in messages. ``name``: its event name. ``digest``: what it binds (``d-ng``), raw. ``buf``: the
    data of an ``ima-buf`` entry, ``None`` in other templates.
    """

    where: str
    pcr: int
    name: bytes
    digest: bytes
    buf: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignLog:
    """What a measurer left. ``entries``: of the IMA log; ``own``: the bytes that its ``read_log`` returned."""

    entries: tuple[LogEntry, ...]
    own: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a measurer said: code of this file ran in this container. It is compared with the measurer's claim.

    ``where`` names the entry or line in messages. ``container``: the runtime's id, ``None`` if the measurer does not
    distinguish containers. ``digest``: SHA-256 in hex. ``pcr``: the PCR that vouches for it, ``None`` if none does.
    """

    where: str
    container: str | None
    path: str
    digest: str
    pcr: int | None = None


Claim = Callable[[Iterable[Ran]], frozenset[Claimed]]
Observe = Callable[[ForeignLog], Iterable[Seen]]


def claim_nothing(_: Iterable[Ran]) -> frozenset[Claimed]:
    """Promise nothing."""
    return frozenset()


def files(ran: Iterable[Ran]) -> Iterator[Executed]:
    """Yield the ground truth about files."""
    return (item for item in ran if isinstance(item, Executed))


def arguments_text(arguments: Iterable[bytes], *, cut_of: int | None = None) -> str:
    """Write the arguments of a program as one text; ``cut_of``: how many there were, if these are not all."""
    more = "" if cut_of is None else f" ... (cut, {cut_of} in all)"
    return shlex.join(os.fsdecode(argument) for argument in arguments) + more


@contextmanager
def attach(measurer: Measurer, guest: Guest) -> Iterator[None]:
    """Hold a measurer in ``guest``: its policy loaded, its module and programs in; the programs are removed at the end.

    The policy stays for the boot, and so does the module once it has numbered a container. Raises as ``begin`` does.
    """
    begin(measurer, guest)
    try:
        yield
    finally:
        if measurer.mode is not None:
            detach(guest)


def begin(measurer: Measurer, guest: Guest) -> None:
    """Attach a measurer for as long as the guest runs. Raises ``DeployError``: what the guest refused, and why.

    A measurer without a policy or without programs runs as many commands of the same programs, which change nothing:
    the memory that commands leave behind makes a first start cheaper, and that is no effect of measuring.
    """
    load_policy(measurer, guest)
    refused = f"{measurer.name}: the guest refused"
    insert = ("insmod" if measurer.mode else "modinfo", f"{DEPLOYED}/testbed_measurer.ko")
    bring(guest, insert, f"{refused} the kernel module", "build it for the kernel that runs")
    beat = ("--beat", str(measurer.beat)) if measurer.beat else ()
    words = ("attach", "--mode", measurer.mode, "--pin", PINS, *beat) if measurer.mode else ("nothing",)
    hint = "use a kernel with CONFIG_BPF_LSM and with `bpf` in its `lsm=` list"
    bring(guest, (f"{DEPLOYED}/measurer", *words), f"{refused} the BPF programs", hint)


def detach(guest: Guest) -> None:
    """Remove the programs, if they are still there."""
    guest.run((f"{DEPLOYED}/measurer", "detach", "--pin", PINS), check=False)


def load_policy(measurer: Measurer, guest: Guest) -> None:
    """Load a measurer's IMA policy; of one without, read lines of no meaning. Raises ``DeployError`` if refused."""
    # The kernel takes a policy by one write of the whole, and only once a boot (IMA_WRITE_POLICY is off).
    guest.put("".join(f"{line}\n" for line in measurer.policy or _NO_POLICY).encode(), POLICY_STAGED)
    load = ("sh", "-c", f"cat {POLICY_STAGED} > {POLICY if measurer.policy else _NOWHERE}")
    what = f"{measurer.name}: the guest refused the IMA policy"
    hint = "a boot takes one policy: check that no other one was loaded before, and that the kernel knows its rules"
    bring(guest, load, what, hint)


def beat(measurer: Measurer, guest: Guest) -> None:
    """Have the programs log a beat: the verifier expects one right before a quote.

    Does nothing for a measurer without programs, or whose programs measure nothing. If the programs are gone, the
    missing beat shows it in the log; evidence is collected in any case.
    """
    if measurer.mode in BEATING:
        guest.run((f"{DEPLOYED}/measurer", "beat", "--pin", PINS), check=False)


def counters(measurer: Measurer, guest: Guest) -> dict[str, int]:
    """Return what the programs counted, unmeasured events among it; nothing for a measurer without programs."""
    if measurer.mode is None:
        return {}
    said = guest.run((f"{DEPLOYED}/measurer", "counters", "--pin", PINS)).text
    return {str(name): int(value) for name, value in json.loads(said).items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A priced step of the ladder: what ``arm`` adds over the first arm of ``over`` that was run.

    ``name``: unique among all measurers; ``title``: what a report calls it. ``over``: names of measurers, or
    ``BASELINE``. ``terms``: the counted events that explain what is added (columns of ``events.parquet``), the one to
    drop first last. ``first``: of the first iteration in the machine, else of the timed ones. ``slight``: it may cost
    too little to be priced; then predictions leave it out, and this arm alone is not predicted.
    """

    name: str
    title: str
    arm: str
    over: tuple[str, ...]
    terms: tuple[str, ...]
    first: bool = False
    slight: bool = False
    native: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurer:
    """One rung of the ladder.

    ``policy``: lines for the one IMA policy that can be loaded in a boot; empty: none is loaded.
    ``mode``: what the BPF programs do (``hooks``: nothing, ``file``: measure files, ``image``: images as well,
    ``drift``: images, and files that are not theirs); ``None``: no module and no programs.
    ``beat``: seconds between two beats; 0: only when the programs are attached, detached or asked.
    ``pcr``: the PCR on which its entries are, ``None`` if it makes none.
    ``again``: the measurer that this one is once more; their difference is that arm's noise (A/A).
    ``expect``: kinds of findings that its entries must cause, because its rule binds too little.
    ``burn``: of a positive control, the share of the workload's CPU time that is wasted beside it, by tier.
    ``rung``: its place on the ladder, lowest first; measurers without one come last, by name.
    ``steps``: what it adds over the arms below it, to be priced.
    ``attach``: holds the measurer in a guest. ``count``: returns its counters; names that begin with ``unmeasured_``
    count what it did not measure.

    A measurer that is not of this project also has some of these:

    ``source``: a directory with a Makefile, built in the kernel's build root by ``make O=OUT KDIR=HEADERS all``. KDIR
    is a copy of the kernel's headers with ``vmlinux`` (BTF) in it. What is in OUT then is copied to ``deployed``.
    ``read_log``: returns the measurer's own log, after the quote. ``observe``: reads what the measurer left.
    """

    name: str
    summary: str
    policy: tuple[str, ...] = ()
    mode: str | None = None
    beat: int = 0
    pcr: int | None = None
    claim: Claim = claim_nothing
    again: str | None = None
    expect: frozenset[str] = frozenset()
    burn: Mapping[Tier, float] = field(default_factory=dict)
    attach: Callable[[Measurer, Guest], AbstractContextManager[None]] = attach
    rung: int | None = None
    steps: tuple[Step, ...] = ()
    count: Callable[[Measurer, Guest], dict[str, int]] = counters
    source: Path | None = None
    read_log: Callable[[Guest], bytes] | None = None
    observe: Observe | None = None

    @property
    def deployed(self) -> str:
        """Where the products of ``source`` are in the guest."""
        return f"{DEPLOYED}/{self.name}"

    @property
    def promises(self) -> bool:
        """Whether it makes entries, which can be compared with ground truth."""
        return self.pcr is not None or self.observe is not None
