"""Find a plugin by its name: ``measurers/NAME.py`` has ``MEASURER``, ``workloads/NAME.py`` has ``WORKLOAD``, ...

A file can contain several workloads that differ in a number: it has ``WORKLOADS``, and each has its own name. Measurers
can also come from a directory outside this package (``measurers_from``).
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from testbed import files
from testbed.attacks import Attack
from testbed.errors import SpecError
from testbed.measurers import Measurer, _policy
from testbed.measurers._policy import ImaPolicy
from testbed.runtimes import Runtime
from testbed.workloads import Workload

# Measurers from outside the package, by name: their module.
_FOREIGN: dict[str, ModuleType] = {}


@contextmanager
def measurers_from(directories: Iterable[Path]) -> Iterator[None]:
    """Add the measurers of ``directories``: each ``NAME.py`` with a ``MEASURER`` of that name, as in this package.

    Their code is executed. Raises ``SpecError`` if a directory has no measurer, or if a name is already used.
    """
    before = dict(_FOREIGN)
    try:
        for directory in directories:
            _add(directory)
        yield
    finally:
        _FOREIGN.clear()
        _FOREIGN.update(before)


def _add(directory: Path) -> None:
    count = 0
    for path in sorted(directory.glob("[!_]*.py")):
        module = _import(path)
        measurer = getattr(module, "MEASURER", None)
        if measurer is None:
            continue
        name = path.stem.replace("_", "-")
        if not isinstance(measurer, Measurer) or measurer.name != name:
            got = f"a Measurer named {measurer.name!r}" if isinstance(measurer, Measurer) else repr(measurer)
            raise SpecError(f"{path}: MEASURER: expected a Measurer named {name!r}, got {got}", "name it as its file")
        if name in names("measurers"):
            raise SpecError(f"{path}: there is a measurer {name!r} already", "rename the file and its MEASURER")
        _check_source(path, measurer.source)
        _FOREIGN[name] = module
        count += 1
    if not count:
        raise SpecError(
            f"{directory}: no measurer",
            "expected a file NAME.py with MEASURER = Measurer(name=...), see docs/how-to/add-a-measurer.md",
        )


def _check_source(path: Path, source: object) -> None:
    if source is None:
        return
    if not isinstance(source, Path) or not source.is_absolute():
        hint = 'for example Path(__file__).with_name("src")'
        raise SpecError(f"{path}: source: expected an absolute Path or none, got {source!r}", hint)
    if not (source / "Makefile").is_file():
        raise SpecError(f"{path}: source: {source} has no Makefile", "its goal `all` writes to $(O)")


def _import(path: Path) -> ModuleType:
    name = f"testbed_measurer_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look up their module by its name.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise SpecError(f"{path}: it cannot be imported: {error!r}", "correct it, or name another directory") from error
    return module


def names(family: str) -> tuple[str, ...]:
    """Return the names of all plugins of a family (``measurers``, ``runtimes``, ``workloads``, ``attacks``)."""
    return tuple(sorted((*_modules(family), *(_FOREIGN if family == "measurers" else ()))))


def measurer(name: str, policies: Iterable[ImaPolicy] = ()) -> Measurer:
    """Return the measurer of this name; raises ``SpecError`` with the existing names.

    ``policies``: the user's own; the name may be one of theirs. Only the lab needs their lines.
    """
    if name.startswith(_policy.PREFIX):
        return _policy.measurer(name, policies)
    plugin: Measurer = _load("measurers", name, "MEASURER")
    return plugin


def runtime(name: str) -> Runtime:
    """Return the runtime of this name; raises ``SpecError`` with the existing names."""
    plugin: Runtime = _load("runtimes", name, "RUNTIME")
    return plugin


def workload(name: str) -> Workload:
    """Return the workload of this name; raises ``SpecError`` with the existing names."""
    plugin: Workload = _load("workloads", name, "WORKLOAD")
    return plugin


def known_workload(name: str) -> Workload | None:
    """Return the workload of this name, ``None`` if there is none here: a campaign may be of another version."""
    try:
        return workload(name)
    except SpecError:
        return None


def attack(name: str) -> Attack:
    """Return the attack of this name; raises ``SpecError`` with the existing names."""
    plugin: Attack = _load("attacks", name, "ATTACK")
    return plugin


def source_digest(family: str, name: str) -> str:
    """Return SHA-256 over the source of a plugin, of its family's interface and of what the family's plugins share."""
    directory = Path(str(importlib.import_module(f"testbed.{family}").__file__)).parent
    if family == "measurers" and name in _FOREIGN:
        return _foreign_digest(directory, _FOREIGN[name])
    own = f"{_module(family, name).rpartition('.')[2]}.py"
    sources = [path for path in sorted(directory.glob("*.py")) if path.name == own or path.name.startswith("_")]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


def _foreign_digest(contract: Path, module: ModuleType) -> str:
    """Return SHA-256 over the interface, every Python file beside the measurer's, and all files of its ``source``."""
    own = Path(str(module.__file__)).parent
    source: Path | None = module.MEASURER.source
    python = [*sorted(contract.glob("_*.py")), *sorted(own.glob("*.py"))]
    total = hashlib.sha256(b"".join(path.read_bytes() for path in python))
    if source is not None:
        total.update(files.tree_digest(source).encode())
    return total.hexdigest()


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
        more = "; for a measurer in another directory: --measurer-path DIR" if family == "measurers" else ""
        raise SpecError(f"no {family[:-1]} {name!r}", f"there are: {', '.join(names(family))}{more}")
    return known[name]


def _load(family: str, name: str, attribute: str) -> Any:
    if family == "measurers" and name in _FOREIGN:
        return _FOREIGN[name].MEASURER
    module = importlib.import_module(_module(family, name))
    several = {plugin.name: plugin for plugin in getattr(module, family.upper(), ())}
    return several[name] if several else getattr(module, attribute)
