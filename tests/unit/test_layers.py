"""Imports go down only and in no circle, folders stay small, names are unique. All is read from the source.

An import inside a function or below ``if TYPE_CHECKING`` counts like any other.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

BASE = ("errors", "record")
TOOLS = ("files", "kernel_complaints", "streams")  # small, and without imports of this package
FAMILIES = ("measurers", "runtimes", "workloads", "attacks")
STAGES = ("spec", "plan", "rundir", "surveys", "plugins", "estimate", "progress")
BELOW_DESK = (*BASE, *TOOLS, "guest", "shell", *FAMILIES, *STAGES)

# What each part of the package may import of it. A part may always import itself, and everyone the version.
MAY_SEE: dict[str, tuple[str, ...]] = {
    "errors": (),
    **dict.fromkeys(TOOLS, ()),
    "record": ("errors",),
    "guest": BASE,
    "shell": (*BASE, "guest"),
    **dict.fromkeys(FAMILIES, (*BASE, "guest")),
    **dict.fromkeys(STAGES, BELOW_DESK),
    "attest": BELOW_DESK,
    "analysis": (*BELOW_DESK, "attest"),
    "lab": (*BELOW_DESK, "attest"),
    "api": (*BELOW_DESK, "attest", "analysis"),  # beside the commands, and without the lab: it needs no machine
    "": ("api",),  # its names, imported when they are used
    "commands": (*BELOW_DESK, "attest", "analysis", "lab"),  # the one place that sees both lab and desk
    "cli": ("errors", "streams"),  # it finds commands by the names of their files
}

# Modules of others that only some modules may import, and why.
KEPT_TO: dict[str, tuple[str, ...]] = {
    "libvirt": ("testbed.lab.",),  # the desk works without it
    "subprocess": (
        "testbed.shell",  # the one door
        "testbed.lab.machines.swtpm",  # swtpm lives as long as its machine
        "testbed.lab.machines.lab",  # names its type
        "testbed.lab.machines.machine",  # names its type
        "testbed.commands.shell",  # hands the terminal over
        "testbed.lab.in_guest.drive",  # runs in the guest, without this package
        "testbed.lab.in_guest.fired",  # likewise
    ),
}


def imports(source: str, package: str) -> Iterator[str]:
    """Yield the dotted name of everything that a module of ``package`` imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


# Folders that hold one file a plugin, a command or a kind of attack: they may grow.
MAY_GROW = ("commands", "measurers", "workloads", "attacks")
MOST_MODULES = 20


def part(dotted: str) -> str:
    """Return ``lab`` for ``testbed.lab.machines.machine.Lab``, and nothing for ``testbed`` itself."""
    return dotted.split(".")[1] if "." in dotted else ""


def breaches(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """Return the imports of a module that the tables above forbid."""
    package = module if is_package else module.rpartition(".")[0]
    found = []
    for name in imports(source, package):
        top = name.split(".")[0]
        if top == "testbed" and part(name) not in ("", "__version__", part(module), *MAY_SEE.get(part(module), ())):
            found.append(f"{module} imports {name}")
        if top in KEPT_TO and not module.startswith(KEPT_TO[top]):
            found.append(f"{module} imports {name}, which is kept to {', '.join(KEPT_TO[top])}")
    return found


def edges(module: str, source: str, known: frozenset[str], *, is_package: bool = False) -> frozenset[str]:
    """Return the modules of this package that a module names in an import, anywhere in its source, but for itself.

    ``from testbed import spec`` is an edge to ``testbed.spec``. That Python also runs the ``__init__`` of each package
    on the way to a module is no edge: of these, only those that are named count.
    """
    package = module if is_package else module.rpartition(".")[0]
    named = {name if name in known else name.rpartition(".")[0] for name in imports(source, package)}
    return frozenset(named & known - {module})


def circle(graph: Mapping[str, frozenset[str]]) -> list[str]:
    """Return the modules of a circle of imports, or of what leads to one; nothing if there is none."""
    left = dict(graph)
    while bottom := [module for module, below in left.items() if not below & left.keys()]:
        for module in bottom:
            del left[module]
    return sorted(left)


def public_classes(sources: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the modules of each class whose name has no leading underscore, by that name."""
    where: dict[str, list[str]] = {}
    for module, source in sources.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                where.setdefault(node.name, []).append(module)
    return where


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted((ROOT / "testbed").rglob("*.py")):
        yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path


@pytest.mark.parametrize(("module", "path"), [pytest.param(m, p, id=m) for m, p in modules()])
def test_imports_go_down(module: str, path: Path) -> None:
    assert breaches(module, path.read_text(), is_package=path.name == "__init__.py") == []


def test_no_imports_form_a_circle() -> None:
    known = frozenset(module for module, _ in modules())
    graph = {m: edges(m, path.read_text(), known, is_package=path.name == "__init__.py") for m, path in modules()}
    assert sum(map(len, graph.values())) > 500
    assert circle(graph) == []


def test_a_circle_is_seen_wherever_its_imports_stand() -> None:
    sources = {
        "testbed.a": "from testbed import b\nimport testbed.d",
        "testbed.b": "def f():\n    from testbed.c import g",
        "testbed.c": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .a import h",
        "testbed.d": "import sys\nfrom testbed.d import x",
    }
    known = frozenset(sources)
    graph = {module: edges(module, source, known) for module, source in sources.items()}
    assert graph["testbed.a"] == {"testbed.b", "testbed.d"}
    assert graph["testbed.d"] == frozenset()
    assert circle(graph) == ["testbed.a", "testbed.b", "testbed.c"]
    assert circle(graph | {"testbed.c": frozenset()}) == []


def test_no_folder_is_large() -> None:
    sizes = Counter(path.parent for _, path in modules())
    large = {str(folder.relative_to(ROOT)): count for folder, count in sizes.items() if count > MOST_MODULES}
    assert [folder for folder in large if Path(folder).name not in MAY_GROW] == []


def test_a_public_class_has_a_name_of_its_own() -> None:
    classes = public_classes({module: path.read_text() for module, path in modules()})
    assert {name: where for name, where in classes.items() if len(where) > 1} == {}


def test_a_second_class_of_one_name_is_seen() -> None:
    source = "class _Own: ...\nclass Shared: ..."
    assert public_classes({"a": source, "b": source}) == {"Shared": ["a", "b"]}


@pytest.mark.parametrize(("module", "path"), [pytest.param(m, p, id=m) for m, p in modules()])
def test_a_module_says_what_it_holds(module: str, path: Path) -> None:
    first_line = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
    assert first_line.endswith((".", "?")), f"{module}: begin with a docstring whose first line says what it holds"


def test_every_part_has_a_layer() -> None:
    parts = {part(module) for module, _ in modules()} - {""}
    assert parts <= MAY_SEE.keys(), "give the new module its place in MAY_SEE"


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("testbed.attest.verify", "from testbed.lab import machine"),
        ("testbed.attest.verify", "def f():\n    import testbed.analysis.statistics.effect"),
        ("testbed.attest.verify", "from ..analysis import stats"),
        ("testbed.analysis.report.report", "from testbed import lab"),
        ("testbed.analysis.report.report", "from ... import lab"),
        ("testbed.lab.campaign", "from testbed.analysis import report"),
        ("testbed.workloads.tools", "from testbed.shell import run"),
        ("testbed.workloads.tools", "from testbed import attacks"),
        ("testbed.record", "from testbed.plan import Plan"),
        ("testbed.shell", "from testbed.spec import load"),
        ("testbed.plan", "import testbed.attest.verify"),
        ("testbed.rundir", "import libvirt"),
        ("testbed.files", "from testbed.errors import HostError"),
        ("testbed.attest.rivals.verifiers", "from subprocess import run"),
        ("testbed.cli", "from testbed.lab import machine"),
        ("testbed.cli_new", "from testbed.commands import run"),
        ("testbed.lab.campaign", "from testbed.commands import _conduct"),
    ],
)
def test_an_import_that_goes_up_is_seen(module: str, source: str) -> None:
    assert len(breaches(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "testbed.attest.verify",
            "from testbed.attest import ima\nfrom . import quote\nfrom ..errors import EvidenceError",
        ),
        ("testbed.rundir", "from testbed import files"),
        ("testbed.lab.machines.machine", "import libvirt\nfrom testbed.attest import quote"),
        ("testbed.commands.run", "from testbed import spec\nfrom testbed.lab import campaign"),
        (
            "testbed.commands.report",
            "from testbed.analysis import report\nfrom testbed.commands._options import CAMPAIGN",
        ),
        ("testbed.cli", "from testbed import __version__\nfrom testbed.errors import HostError"),
        ("testbed.workloads.tools", "from testbed.workloads import Workload"),
    ],
)
def test_an_import_that_goes_down_is_not(module: str, source: str) -> None:
    assert breaches(module, source) == []


@pytest.mark.parametrize("command", ["doctor", "figures", "report", "run", "verify"])
def test_a_command_of_the_desk_needs_no_libvirt(command: str) -> None:
    program = "import sys; sys.modules['libvirt'] = None; from testbed.cli import main; main(sys.argv[1:])"
    argv = [sys.executable, "-c", program, command, "--help"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


def unencoded(source: str) -> list[int]:
    """Return the lines that read or write text in the encoding of the locale, whatever that is."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and not any(word.arg == "encoding" for word in node.keywords):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            modes = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
            if name in ("read_text", "write_text") or (name in ("open", "fdopen") and {"r", "w", "a"} & set(modes)):
                lines.append(node.lineno)
    return lines


def test_text_is_the_same_in_every_locale() -> None:
    # What runs in the guest has its locale, in which Python uses UTF-8.
    here = {module: path for module, path in modules() if not module.startswith("testbed.lab.in_guest.")}
    found = {module: unencoded(path.read_text(encoding="utf-8")) for module, path in here.items()}
    assert {module: lines for module, lines in found.items() if lines} == {}


def test_text_without_an_encoding_is_seen() -> None:
    assert unencoded("p.read_text()\np.open('w')\nopen(p, 'a')\np.write_text(x)") == [1, 2, 3, 4]
    assert unencoded("p.read_text(encoding='utf-8')\np.open('rb')\ntarfile.open(p, 'r:')\nos.open(p, 1)") == []
