"""Find a plugin by its name: ``measurers/NAME.py`` has ``MEASURER``, ``workloads/NAME.py`` has ``WORKLOAD``, ...

A file can hold several that differ in a number: it has ``WORKLOADS``, and their names are their own.
"""

from __future__ import annotations

import functools
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
    return tuple(sorted(_modules(family)))


def measurer(name: str) -> Measurer:
    """Return the measurer of this name; raises ``SpecError`` naming those that exist."""
    plugin: Measurer = _load("measurers", name, "MEASURER")
    return plugin


def runtime(name: str) -> Runtime:
    """Return the runtime of this name; raises ``SpecError`` naming those that exist."""
    plugin: Runtime = _load("runtimes", name, "RUNTIME")
    return plugin


def workload(name: str) -> Workload:
    """Return the workload of this name; raises ``SpecError`` naming those that exist."""
    plugin: Workload = _load("workloads", name, "WORKLOAD")
    return plugin


def attack(name: str) -> Attack:
    """Return the attack of this name; raises ``SpecError`` naming those that exist."""
    plugin: Attack = _load("attacks", name, "ATTACK")
    return plugin


def source_digest(family: str, name: str) -> str:
    """Return SHA-256 over the source of a plugin, of its family's contract and of what the family's plugins share."""
    directory = Path(str(importlib.import_module(f"testbed.{family}").__file__)).parent
    own = f"{_module(family, name).rpartition('.')[2]}.py"
    sources = [path for path in sorted(directory.glob("*.py")) if path.name == own or path.name.startswith("_")]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


@functools.cache
def _modules(family: str) -> dict[str, str]:
    """Return the module of each name. A file is one plugin of its own name, or several (``WORKLOADS``)."""
    package = importlib.import_module(f"testbed.{family}")
    modules: dict[str, str] = {}
    for info in pkgutil.iter_modules(package.__path__):
        if not info.name.startswith("_"):
            where = f"testbed.{family}.{info.name}"
            several = getattr(importlib.import_module(where), family.upper(), None)
            modules |= dict.fromkeys(
                [plugin.name for plugin in several] if several else [info.name.replace("_", "-")], where
            )
    return modules


def _module(family: str, name: str) -> str:
    known = _modules(family)
    if name not in known:
        raise SpecError(f"no {family[:-1]} {name!r}", f"there are: {', '.join(sorted(known))}")
    return known[name]


def _load(family: str, name: str, attribute: str) -> Any:
    module = importlib.import_module(_module(family, name))
    several = {plugin.name: plugin for plugin in getattr(module, family.upper(), ())}
    return several[name] if several else getattr(module, attribute)
