"""What differs between campaigns (``campaign.json``, plan), and which of their cells each difference concerns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from testbed import plugins
from testbed.analysis.tables.ladder import STRATUM
from testbed.errors import IncompatibleRuns
from testbed.rundir import LoadedCampaign
from testbed.spec import TUNED

# Numbers of two tiers are of different quantities, and under icount another QEMU counts other instructions. A kernel
# that is set otherwise does other work for the same system call.
_COMMAND_LINE = "experiment.machine.command_line"
_REFUSED = {
    "tier": "compare campaigns of one tier and one version of QEMU",
    "qemu_version": "compare campaigns of one tier and one version of QEMU",
    _COMMAND_LINE: "compare campaigns whose experiments have one machine.command_line",
}
# Names of the campaign, what the host was busy with, what only chooses cells, and ``qemu_version`` once more.
_IGNORED = re.compile(
    r"(campaign|schema|host\.(load|pressure|steal_ticks|qemu_version)|"
    r"experiment\.(name|question|kernels|runtimes|measurers|workloads|attacks|exclude))(\..*)?"
)
# Facts of one kernel or one image, with what a reader knows them as.
_OF_KERNEL = {"command_line": "kernel command line", "measurer": "measurer", "cpu": "CPU model"}
_DIGEST = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{28,}\b")
NOT_STATED = "not stated"
_INPUTS = "another input of the cell"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing in which campaigns differ: its ``label``, and its value in each campaign, in their order.

    ``kernel``, ``image``: it concerns only the cells with that kernel, or with a workload of that image.
    """

    label: str
    values: tuple[str, ...]
    kernel: str | None = None
    image: str | None = None

    def concerns(self, stratum: Mapping[str, str]) -> bool:
        """Whether it concerns the cells of a kernel, runtime and workload."""
        if self.kernel is not None:
            return self.kernel == stratum["kernel"]
        return self.image is None or self.image == _image(stratum["workload"])


def flat(facts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return facts with dotted names and values as text."""
    listed: list[tuple[str, str]] = []
    for name, value in facts.items():
        if isinstance(value, Mapping):
            listed += flat(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            listed.append((f"{prefix}{name}", ", ".join(map(str, value))))
        else:
            listed.append((f"{prefix}{name}", str(value)))
    return listed


def differences(campaigns: Sequence[LoadedCampaign]) -> tuple[Difference, ...]:
    """Return what differs between campaigns. Raises ``IncompatibleRuns`` if these must not be pooled (``_REFUSED``)."""
    # A campaign that does not say it is older than the key.
    facts = [{_COMMAND_LINE: TUNED} | dict(flat(one.facts)) | {"tier": str(one.plan.tier)} for one in campaigns]
    for name, hint in _REFUSED.items():
        for one, told in zip(campaigns, facts, strict=True):
            if told.get(name) != facts[0].get(name):
                raise IncompatibleRuns(
                    f"{one.campaign.path}: {name}: expected {facts[0].get(name)!r} as in "
                    f"{campaigns[0].campaign.path}, got {told.get(name)!r}",
                    hint,
                )
    names = sorted({name for told in facts for name in told if not _IGNORED.fullmatch(name)})
    listed = (_difference(name, tuple(told.get(name, NOT_STATED) for told in facts)) for name in names)
    return tuple(one for one in listed if one is not None)


def _difference(name: str, values: tuple[str, ...]) -> Difference | None:
    if len(set(values)) == 1:
        return None
    family, _, rest = name.partition(".")
    if family not in ("kernels", "images"):
        return Difference(label=name.removeprefix("made_by."), values=values)
    if NOT_STATED in values:
        return None  # no cell of that kernel or image is in all campaigns
    if family == "images":
        return Difference(label=f"image {rest}", values=values, image=rest)
    kernel, _, fact = rest.rpartition(".")
    return Difference(label=_OF_KERNEL.get(fact, "kernel"), values=values, kernel=kernel)


def labels(
    found: Sequence[Difference], stratum: Mapping[str, str], arms: Sequence[str], campaigns: Sequence[LoadedCampaign]
) -> tuple[str, ...]:
    """Return the names of what differs between the cells of ``arms`` in one stratum.

    A cell's id is a digest of all that can change its result. Where ids differ and nothing written down says why, the
    source of a plugin or a setting of the experiment differs, and that is said.
    """
    named = tuple(dict.fromkeys(one.label for one in found if one.concerns(stratum)))
    ids = {frozenset(_ids(campaign, stratum, arms)) for campaign in campaigns}
    return named or ((_INPUTS,) if len(ids) > 1 else ())


def lines(found: Sequence[Difference]) -> Iterator[str]:
    """Yield one line per difference, with its value in each campaign; of digests the first twelve digits."""
    for one in found:
        where = f" ({one.kernel})" if one.kernel else ""
        values = " | ".join(_DIGEST.sub(r"\1...", value) or "(empty)" for value in one.values)
        yield f"{one.label}{where}: {values}"


def _ids(loaded: LoadedCampaign, stratum: Mapping[str, str], arms: Sequence[str]) -> Iterator[str]:
    for cell in loaded.plan.cells:
        here = all(getattr(cell, axis) == stratum[axis] for axis in STRATUM)
        if here and cell.attack == "none" and cell.measurer in arms:
            yield cell.id


def _image(workload: str) -> str | None:
    known = plugins.known_workload(workload)
    return known.image if known else workload
