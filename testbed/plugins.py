"""Find a plugin by its name: ``measurers/NAME.py`` has ``MEASURER``, ``workloads/NAME.py`` has ``WORKLOAD``, ..."""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
from pathlib import Path
from typing import Any

from testbed.attacks import Attack
from testbed.errors import SpecError
from testbed.measurers import Measurer
from testbed.runtimes import Runtime
from testbed.workloads import Workload


def names(family: str) -> tuple[str, ...]:
    """Return the names of all plugins of a family (``measurers``, ``runtimes``, ``workloads``, ``attacks``)."""
    package = importlib.import_module(f"testbed.{family}")
    found = (module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_"))
    return tuple(sorted(name.replace("_", "-") for name in found))


def measurer(name: str) -> Measurer:
    """Return the measurer of this name; raises ``SpecError`` naming those that exist."""
    found: Measurer = _load("measurers", name, "MEASURER")
    return found


def runtime(name: str) -> Runtime:
    """Return the runtime of this name; raises ``SpecError`` naming those that exist."""
    found: Runtime = _load("runtimes", name, "RUNTIME")
    return found


def workload(name: str) -> Workload:
    """Return the workload of this name; raises ``SpecError`` naming those that exist."""
    found: Workload = _load("workloads", name, "WORKLOAD")
    return found


def attack(name: str) -> Attack:
    """Return the attack of this name; raises ``SpecError`` naming those that exist."""
    found: Attack = _load("attacks", name, "ATTACK")
    return found


def source_digest(family: str, name: str) -> str:
    """Return SHA-256 over the source of a plugin, of its family's contract and of what the family's plugins share."""
    directory = Path(str(importlib.import_module(f"testbed.{family}").__file__)).parent
    own = f"{name.replace('-', '_')}.py"
    sources = [path for path in sorted(directory.glob("*.py")) if path.name == own or path.name.startswith("_")]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


def _load(family: str, name: str, attribute: str) -> Any:
    known = names(family)
    if name not in known:
        raise SpecError(f"no {family[:-1]} {name!r}", f"there are: {', '.join(known)}")
    return getattr(importlib.import_module(f"testbed.{family}.{name.replace('-', '_')}"), attribute)
