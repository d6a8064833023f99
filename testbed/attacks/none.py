"""The clean run: nothing may be found."""

from testbed.attacks import Attack

ATTACK = Attack(name="none", summary="no attack; nothing may be found")
