"""The lines of a kernel's log that report a fault: the one list for all code that searches for them."""

from __future__ import annotations

import re

# How a report begins, after the time stamp. KASAN, "sleeping function", a table of lockdep's that is full, a page in a
# bad state: all "BUG: ". WARN_ON and what lockdep says of locks: "WARNING: ". Lines that only announce a report are
# left out: how many objects kmemleak lists, and of which object debugobjects will warn next.
_WRONG = (
    r"\bBUG: |WARNING: |Oops|kernel BUG at |general protection fault|stack segment:|Kernel panic"
    r"|INFO: (task|trying to register|rcu|inconsistent|possible)|rcu: INFO|ODEBUG: Out of memory|UBSAN: |refcount_t: "
    r"|DEBUG_LOCKS_WARN_ON|turning off the locking correctness validator|(soft|hard) lockup|hard LOCKUP"
    r"|kmemleak: .*(disabled|pool empty)|list_(add|del) (corruption|double add)"
)
# A container can cause these by itself: they make a measurement useless, and say nothing about the kernel's code.
_NO_MEMORY = r"|page allocation failure|Out of memory|oom-kill:"

WRONG = re.compile(_WRONG)
"""The kernel's own code, or what runs in it, is wrong."""
REPORT = re.compile(_WRONG + _NO_MEMORY)
"""The same, and lines about missing memory."""


def complaints(log: str) -> list[str]:
    """Return the lines of a kernel's log that say that something in the kernel is wrong."""
    return [line for line in log.splitlines() if WRONG.search(line)]
