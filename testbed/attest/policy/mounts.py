"""Which mounts a policy allows in an image's containers, by rules that a user writes (docs/policy.md)."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from testbed.attest.entries.mounts import Mount
from testbed.attest.policy.paths import path_bytes

if TYPE_CHECKING:  # pydantic is slow to import
    from testbed.attest.policy.keys import MountRule as RuleValues

# Mounts that runtimes and engines make for any container, and on which no image has code.
_DEVICES = frozenset({b"null", b"zero", b"full", b"random", b"urandom", b"tty"})
_HANDED_IN = frozenset(
    {
        *(b"/etc/hosts", b"/etc/hostname", b"/etc/resolv.conf", b"/run/.containerenv", b"/.dockerenv"),
    }
)
_FIXED = {
    b"/proc": b"proc",
    b"/sys": b"sysfs",
    b"/sys/fs/cgroup": b"cgroup2",
    b"/dev": b"tmpfs",
    b"/dev/pts": b"devpts",
    b"/dev/console": b"devpts",
    b"/dev/mqueue": b"mqueue",
}
_SHM = b"/dev/shm"
_BELOW = "/*"
_SHOWN = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowedMount:
    """One rule: mounts at ``target``, or anywhere below it. ``None`` allows any type, source or root.

    ``options``: words that each such mount must have.
    """

    target: bytes
    below: bool = False
    types: frozenset[bytes] | None = None
    sources: frozenset[bytes] | None = None
    roots: frozenset[bytes] | None = None
    options: frozenset[str] = frozenset()

    def allows(self, mount: Mount) -> bool:
        here = mount.target.startswith(self.target + b"/") if self.below else mount.target == self.target
        return (
            here
            and (self.types is None or mount.type in self.types)
            and (self.sources is None or mount.source in self.sources)
            and (self.roots is None or mount.root in self.roots)
            and self.options <= frozenset(mount.options)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MountRules:
    """All rules of an image. ``usual``: the mounts that runtimes make for any container are allowed too."""

    rules: tuple[AllowedMount, ...] = ()
    usual: bool = False

    def refused(self, mounts: Sequence[Mount], *, of_other_root: bool = False) -> Mount | None:
        """Return the first mount that no rule allows. ``of_other_root``: "/" is not the root that the launch has."""
        # The image's digest covers one root: it says nothing about another root, or about a mount that covers it.
        root = not of_other_root and sum(mount.target == b"/" for mount in mounts) == 1
        return next((mount for mount in mounts if not self._allows(mount, root=root)), None)

    def _allows(self, mount: Mount, *, root: bool) -> bool:
        usual = root if mount.target == b"/" else is_usual(mount)
        return (self.usual and usual) or any(rule.allows(mount) for rule in self.rules)


def is_usual(mount: Mount) -> bool:
    """Whether runtimes make this mount for any container: pseudo file systems, covers, files of the engine.

    A kind of mount that could hold code other than the image's must not be executable or not be writable.
    """
    target = mount.target
    above, name = posixpath.split(target)
    if target in _HANDED_IN:
        return True
    if target == _SHM:
        return mount.type == b"tmpfs" and "noexec" in mount.options
    if target in _FIXED:
        return mount.type == _FIXED[target]
    if above == b"/dev" and name in _DEVICES:
        return mount.root == b"/" + name and mount.type in {b"devtmpfs", b"tmpfs"}
    return target.startswith((b"/proc/", b"/sys/")) and _is_cover(mount)


def _is_cover(mount: Mount) -> bool:
    """Whether a mount below /proc or /sys hides what is there, or makes it read-only."""
    if mount.root == b"/null":
        return mount.type in {b"devtmpfs", b"tmpfs"}
    kinds = {b"proc"} if mount.target.startswith(b"/proc/") else {b"sysfs", b"cgroup2"}
    return "ro" in mount.options and mount.type in {b"tmpfs", *kinds}


def mount_rules(said: Sequence[Literal["usual"] | RuleValues], where: str, key: str) -> MountRules:
    """Convert an image's rules into the form for look-ups. Raises ``SpecError``."""
    rules = tuple(_rule(rule, where, key) for rule in said if not isinstance(rule, str))
    return MountRules(rules=rules, usual="usual" in said)


def _rule(said: RuleValues, where: str, key: str) -> AllowedMount:
    below = said.target.endswith(_BELOW)
    target = path_bytes(said.target.removesuffix(_BELOW) or "/", where, key)
    return AllowedMount(
        target=b"" if below and target == b"/" else target,
        below=below,
        types=_names(said.types, where, key),
        sources=_names(said.sources, where, key),
        roots=_names(said.roots, where, key),
        options=frozenset(said.options),
    )


def _names(said: Sequence[str] | None, where: str, key: str) -> frozenset[bytes] | None:
    """Return what a rule lists; a mount's source may be empty, which no path may."""
    return None if said is None else frozenset(path_bytes(name, where, key) if name else b"" for name in said)


def show(mount: Mount) -> str:
    """Write a mount for people."""
    words = (mount.target, mount.type, mount.source or b"", mount.root or b"")
    return f"{' '.join(ascii(word)[1:] for word in words)} {','.join(mount.options)}"[:_SHOWN]
