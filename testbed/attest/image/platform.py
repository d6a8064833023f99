"""The platform that an image is for: operating system, architecture, variant (OCI Image Index, ``platform``)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

_WORD = re.compile(r"[A-Za-z0-9._-]{0,40}")
_NAMES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64"}
# Variants that mean the same as none.
_FIRST = {"amd64": "v1", "arm64": "v8"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """A platform in the words of images, ``variant`` empty if it is the architecture's first one."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self | None:
        """Return the platform of an index's entry or of a configuration, ``None`` if it does not name one."""
        found = [values.get(key, "") for key in ("os", "architecture", "variant")]
        if not all(isinstance(one, str) and _WORD.fullmatch(one) for one in found) or not all(found[:2]):
            return None
        return cls._made(*found)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the platform of `OS/ARCHITECTURE[/VARIANT]`. Raises ``ValueError``."""
        parts = text.split("/")
        if not 2 <= len(parts) <= 3 or not all(part and _WORD.fullmatch(part) for part in parts):
            raise ValueError(f"expected OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, got {text!r}")
        return cls._made(*parts)

    @classmethod
    def _made(cls, os: str, architecture: str, variant: str = "") -> Self:
        architecture = _NAMES.get(architecture, architecture)
        return cls(os=os, architecture=architecture, variant="" if variant == _FIRST.get(architecture) else variant)

    @property
    def is_unknown(self) -> bool:
        """Whether it is what tools write for a manifest that is not an image."""
        return "unknown" in (self.os, self.architecture)


# That of the guests.
DEFAULT = Platform(os="linux", architecture="amd64")


def best(platforms: Sequence[Platform | None], wanted: Platform) -> Platform | None:
    """Return the platform that fits: the same one, or if ``wanted`` has no variant the only one of any variant."""
    if wanted in platforms:
        return wanted
    fit = {one for one in platforms if one and (one.os, one.architecture) == (wanted.os, wanted.architecture)}
    return fit.pop() if len(fit) == 1 and not wanted.variant else None
