"""What docs/artifact.md says of the claims is what claims.toml and the commands have."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from testbed.analysis.paper import claims
from testbed.analysis.paper.amounts import METRICS
from testbed.analysis.paper.claims import ClaimVerdict

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/artifact.md").read_text(encoding="utf-8")
STATED = claims.read(ROOT / "claims.toml")


def test_it_expects_as_many_claims_as_there_are() -> None:
    count = len(STATED)
    assert f"`{count} claims: {count} hold, 0 do not hold, 0 cannot be judged`" in PAGE


def test_its_example_is_a_claim_of_the_file() -> None:
    (block,) = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    stated = tomllib.loads((ROOT / "claims.toml").read_text(encoding="utf-8"))["claim"]
    assert tomllib.loads(block)["claim"][0] in stated


def test_it_has_every_metric_and_every_verdict() -> None:
    table = PAGE.partition("| metric | unit |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`([a-z-]+)`", table)) == set(METRICS)
    assert [verdict for verdict in ClaimVerdict if f"| `{verdict}` |" not in PAGE] == []


def test_it_is_of_all_three_badges() -> None:
    headings = re.findall(r"^## (\w+)", PAGE, re.MULTILINE)
    assert [name for name in headings if name in {"Available", "Functional", "Reproduced"}] == [
        "Available",
        "Functional",
        "Reproduced",
    ]
