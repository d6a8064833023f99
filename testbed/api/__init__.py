"""The testbed for Python: campaigns, overhead, evidence, verdicts. ``import testbed`` shows the same names.

::

    import testbed

    campaign = testbed.load("results/reference")
    testbed.overhead(campaign, workload="nginx")

Every number and every verdict comes from the code behind the commands. Tables are pandas DataFrames. All errors are
``testbed.errors.TestbedError``, with the message and the hint that a command prints. ``docs/api.md`` lists everything.
"""

from __future__ import annotations

from testbed.api.campaigns import (
    CampaignResults,
    bundles,
    compare,
    doubts,
    figure,
    figures,
    load,
    overhead,
    prices,
    use_style,
    write_figures,
)
from testbed.api.evidence import containers, decode, findings, forge, quote, verify
from testbed.api.logs import check_log, claim, image_digest, read_claim, rules, semantics

__all__ = [
    "CampaignResults",
    "bundles",
    "check_log",
    "claim",
    "compare",
    "containers",
    "decode",
    "doubts",
    "figure",
    "figures",
    "findings",
    "forge",
    "image_digest",
    "load",
    "overhead",
    "prices",
    "quote",
    "read_claim",
    "rules",
    "semantics",
    "use_style",
    "verify",
    "write_figures",
]
