"""What a measurer must log when a workload runs, from the workload's image alone: ground truth, and the claim on it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from testbed.attest.image import ground_truth
from testbed.errors import SpecError
from testbed.measurers import LAUNCHING, Claimed, Executed, Launched, Measurer, Ran, Route, What
from testbed.workloads import Workload

SCHEMA = 1
_HINT = "run `testbed claim MEASURER WORKLOAD --json` again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """One start of a workload under a measurer. A container is named by its role's number: ``container-0``.

    ``truth``: each file whose code runs, by which route, and each launch. ``claimed``: what must be in the log.
    """

    truth: tuple[Ran, ...]
    claimed: frozenset[Claimed]

    def truth_rows(self) -> list[dict[str, Any]]:
        """Return ``truth`` as rows for a table, in a fixed order."""
        return sorted(map(_row, self.truth), key=_order)

    def as_json(self, measurer: str, workload: str) -> dict[str, Any]:
        """Return the JSON object of ``testbed claim --json``, schema 1."""
        rows = {"truth": self.truth_rows(), "claim": self.claimed_rows()}
        return {"schema": SCHEMA, "measurer": measurer, "workload": workload} | rows

    def claimed_rows(self) -> list[dict[str, Any]]:
        """Return ``claimed`` as rows for a table, in a fixed order."""
        return sorted(map(asdict, self.claimed), key=_order)


def claims(measurer: Measurer, workload: Workload, archive: Path) -> Claims:
    """Compute what runs in one start of a workload, and what a measurer promises to log of it.

    Raises ``BuildError`` if the archive cannot be read or does not have an executed file.
    """
    truth = tuple(_truth(workload, archive, launches=measurer.mode in LAUNCHING))
    return Claims(truth=truth, claimed=measurer.claim(truth))


def parse_claims(data: bytes, where: str) -> Claims:
    """Read what ``testbed claim --json`` printed; ``where`` names it in errors. Raises ``SpecError``.

    The arguments of a launch are not read back: they were printed as one text.
    """
    try:
        raw = json.loads(data)
        if raw["schema"] != SCHEMA:
            raise SpecError(
                f"{where}: expected schema {SCHEMA}, got {raw['schema']!r}", "use the version that wrote it"
            )
        truth = tuple(_fact(row) for row in raw["truth"])
        claimed = frozenset(Claimed(**row | {"what": What(row["what"])}) for row in raw["claim"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SpecError(f"{where}: expected the output of `testbed claim --json`, got: {error!r}", _HINT) from error
    return Claims(truth=truth, claimed=claimed)


def _fact(row: dict[str, Any]) -> Ran:
    if row["route"] == "launch":
        return Launched(container=row["container"], image=row["digest"])
    route, path = Route(row["route"]), PurePosixPath(row["path"])
    # Before there was the key, all of the truth was of images.
    of_image = row.get("of_image", True)
    return Executed(
        container=row["container"], path=path, digest=row["digest"], size=row["size"], route=route, of_image=of_image
    )


def _truth(workload: Workload, archive: Path, *, launches: bool) -> Iterator[Ran]:
    tree = ground_truth.image_tree(archive) if launches else ""
    for number, role in enumerate(workload.roles):
        name = f"container-{number}"
        yield from ground_truth.executed(archive, name, role.executes)
        if launches:
            yield Launched(container=name, image=tree, argv=ground_truth.arguments(archive, role.argv))


def _row(fact: Ran) -> dict[str, Any]:
    if isinstance(fact, Executed):
        row = {"route": str(fact.route), "path": str(fact.path), "digest": fact.digest, "size": fact.size}
        return {"container": fact.container} | row | {"of_image": fact.of_image}
    return {"container": fact.container, "route": "launch", "path": " ".join(fact.argv or ()), "digest": fact.image}


def _order(row: dict[str, Any]) -> tuple[str, str, str, str]:
    # Containers first, then the image, which belongs to none.
    return str(row["container"]), str(row.get("route", row.get("what"))), row["path"], row["digest"]
