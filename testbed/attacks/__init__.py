"""An attack: something done in the guest, and the findings that it must cause (kinds of ``attest.finding``).

To add one, write ``attacks/NAME.py`` with a module-level ``ATTACK``. ``none`` is the absence of an attack: nothing may
be found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from testbed.guest import Guest


def _do_nothing(_: Guest) -> None:
    return


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """``strike`` runs in the guest after the workload and before the quote; ``expect`` are kinds of findings."""

    name: str
    summary: str
    expect: frozenset[str] = frozenset()
    strike: Callable[[Guest], None] = _do_nothing
