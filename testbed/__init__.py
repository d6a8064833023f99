"""Emulated testbed and benchmarking harness for container trust.

The run directory is the only connection between ``testbed.lab`` (boots machines, writes it) and ``testbed.attest`` and
``testbed.analysis`` (pure functions that read it). ``docs/architecture.md`` shows all parts.

For programs and notebooks, ``import testbed`` has the names of ``testbed.api`` (docs/api.md). They are imported when
the first of them is used, because pandas takes longer to import than most commands take to run.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from testbed.api import (
        CampaignResults,
        bundles,
        check_log,
        claim,
        compare,
        containers,
        decode,
        doubts,
        figure,
        figures,
        findings,
        forge,
        image_digest,
        load,
        overhead,
        prices,
        quote,
        read_claim,
        rules,
        semantics,
        use_style,
        verify,
        write_figures,
    )

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


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("testbed.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
