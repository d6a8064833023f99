"""Measurers from outside the package: found, built, deployed, named in cells, and compared with their claims."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import evidence as b
import pytest
from click.testing import CliRunner
from test_truth import archive, layer

from testbed import plugins
from testbed.attest.finding import BadEvidence
from testbed.attest.log.ima import read_entries
from testbed.attest.observed import observe_foreign
from testbed.attest.truth import compare
from testbed.cli import main
from testbed.errors import BuildError, CommandError, SpecError
from testbed.lab import block
from testbed.lab.build import debian, measurer
from testbed.lab.build.kernel import Kernel
from testbed.measurers import Executed, ForeignLog, Measurer, Route, Seen
from testbed.plan import Plan, resolve
from testbed.record import Tier
from testbed.spec import Experiment

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/measurer"
A, B = "a" * 64, "b" * 64
FILE = """
from testbed.measurers import Measurer
MEASURER = Measurer(name="{name}", summary="x")
"""


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write(directory: Path, **files: str) -> Path:
    directory.mkdir(exist_ok=True)
    for name, text in files.items():
        (directory / f"{name}.py").write_text(text)
    return directory


@pytest.fixture
def example() -> Measurer:
    with plugins.measurers_from([EXAMPLE]):
        return plugins.measurer("execlog")


# Found by their directory.


def test_a_measurer_of_a_directory_is_there_until_the_end() -> None:
    with plugins.measurers_from([EXAMPLE]):
        assert "execlog" in plugins.names("measurers")
        assert plugins.measurer("execlog").source == EXAMPLE / "src"
        assert plugins.measurer("none").name == "none"
    assert "execlog" not in plugins.names("measurers")
    with pytest.raises(SpecError, match="no measurer 'execlog'") as caught:
        plugins.measurer("execlog")
    assert "--measurer-path" in caught.value.hint


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no measurer"),
        ({"other": "x = 1"}, "no measurer"),
        ({"_hidden": FILE.format(name="hidden")}, "no measurer"),
        ({"mine": FILE.format(name="yours")}, "expected a Measurer named 'mine', got a Measurer named 'yours'"),
        ({"mine": "MEASURER = 3"}, "expected a Measurer named 'mine', got 3"),
        ({"mine": "import nothing_of_this_name"}, "cannot be imported"),
        # Its status would be a verdict.
        ({"mine": "import sys; sys.exit(1)"}, "cannot be imported: SystemExit(1)"),
        ({"mine": FILE.format(name="mine").replace('"x"', '"x", source="src"')}, "an absolute Path or none, got 'src'"),
        (
            {"mine": FILE.format(name="mine").replace('"x"', '"x", source=__import__("pathlib").Path("src")')},
            "an absolute Path or none, got PosixPath('src')",
        ),
        ({"none": FILE.format(name="none")}, "a measurer 'none' already"),
        (
            {"mine": FILE.format(name="mine").replace('"x"', '"x", source=__import__("pathlib").Path("/nowhere")')},
            "/nowhere has no Makefile",
        ),
    ],
)
def test_a_directory_that_does_not_fit_is_named(tmp_path: Path, files: dict[str, str], message: str) -> None:
    directory = write(tmp_path / "theirs", **files)
    with pytest.raises(SpecError, match="theirs") as caught, plugins.measurers_from([directory]):
        pass
    assert message in str(caught.value)
    assert caught.value.hint


def test_two_directories_may_not_have_one_name(tmp_path: Path) -> None:
    both = [write(tmp_path / name, mine=FILE.format(name="mine")) for name in ("one", "two")]
    with (
        pytest.raises(SpecError, match="there is a measurer 'mine' already"),
        plugins.measurers_from(both),
    ):
        pass
    assert "mine" not in plugins.names("measurers")


def test_every_file_of_a_measurer_is_in_its_digest(tmp_path: Path) -> None:
    source = tmp_path / "theirs/src"
    source.mkdir(parents=True)
    (source / "Makefile").write_text("all:")
    text = FILE.format(name="mine").replace('"x"', '"x", source=__import__("pathlib").Path(__file__).parent / "src"')
    directory = write(tmp_path / "theirs", mine=text)

    def now() -> str:
        with plugins.measurers_from([directory]):
            return plugins.source_digest("measurers", "mine")

    seen = [now()]
    assert now() == seen[0]
    for change in (
        lambda: (source / "Makefile").write_text("all: x"),
        lambda: (source / "more.c").write_text("int x;"),
        lambda: (source / "more.c").rename(source / "other.c"),
        lambda: (directory / "_shared.py").write_text("X = 1"),
        lambda: (directory / "mine.py").write_text(f"{text}\n"),
    ):
        change()
        seen.append(now())
    assert len(set(seen)) == len(seen)


# Built in a kernel's build root, and deployed to its own runs alone.


@pytest.fixture
def makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """What the Makefile leaves, as a test wants it."""
    files = {"release": b"6.0", "tool": b"\x7fELF", "mine.ko": b"ko"}

    def enter(
        _: Path, argv: Sequence[str], *, read: Mapping[Path, str], write: Mapping[Path, str], timeout: float
    ) -> None:
        assert argv[0] == "sh"
        assert Path(argv[1]).parent == Path(read[ROOT / "bpf"])
        assert argv[2:] == ("/src", "/out", "6.0")
        assert read[EXAMPLE / "src"] == "/src"
        assert timeout
        (at,) = write
        (at / "work").mkdir()
        (at / "work/left.o").write_text("o")
        for name, data in files.items():
            (at / name).write_bytes(data)

    monkeypatch.setenv("TESTBED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(measurer, "_NEEDED", 0)
    monkeypatch.setattr(debian, "enter", enter)
    return files


def test_everything_that_the_makefile_leaves_is_a_product(kernel: Kernel, makes: dict[str, bytes]) -> None:
    products = measurer.build_products(kernel, "execlog", EXAMPLE / "src")
    assert {path.name: path.read_bytes() for path in products.files} == {"tool": b"\x7fELF", "mine.ko": b"ko"}
    makes["tool"] = b"other"
    assert measurer.build_products(kernel, "execlog", EXAMPLE / "src") == products, "built once"


@pytest.mark.usefixtures("makes")
def test_a_makefile_that_leaves_nothing_is_an_error(kernel: Kernel, makes: dict[str, bytes]) -> None:
    for name in ("tool", "mine.ko"):
        del makes[name]
    with pytest.raises(BuildError, match="Makefile made nothing for k"):
        measurer.build_products(kernel, "execlog", EXAMPLE / "src")


def test_what_the_compiler_said_is_in_the_error(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def enter(*_: object, **__: object) -> None:
        raise CommandError("exit status 2: execlog.c:1: error")

    monkeypatch.setenv("TESTBED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(measurer, "_NEEDED", 0)
    monkeypatch.setattr(debian, "enter", enter)
    with pytest.raises(BuildError, match=r"measurer execlog does not build for k: .*execlog.c:1: error"):
        measurer.build_products(kernel, "execlog", EXAMPLE / "src")


def test_products_go_where_the_measurer_looks(tmp_path: Path, example: Measurer) -> None:
    tool = tmp_path / "execlog"
    tool.write_bytes(b"tool")
    tool.chmod(0o755)
    put: list[tuple[str, bytes, int]] = []

    class Guest:
        def put(self, data: bytes, path: str, *, mode: int = 0o644) -> None:
            put.append((path, data, mode))

    block.deploy_products(Guest(), example, measurer.Products(files=(tool,), digest="d"))  # type: ignore[arg-type]
    assert put == [("/opt/testbed/execlog/execlog", b"tool", 0o755)]


# In the ids of its own cells alone.


def plan(products: Mapping[tuple[str, str], str], *more: str) -> Plan:
    wish = Experiment(
        name="x",
        question="?",
        kernels=("k1", "k2"),
        runtimes=("crun",),
        measurers=("none", "none2", *more),
        workloads=("tools",),
    )
    return resolve(wish, tier=Tier.ICOUNT, kernels={"k1": "1", "k2": "2"}, inputs={"tools": "t"}, products=products)


def ids(of: Plan) -> dict[tuple[str, str], str]:
    return {(cell.kernel, cell.measurer): cell.id for cell in of.cells}


def test_a_further_arm_leaves_the_cells_of_the_others_as_they_are() -> None:
    alone = ids(plan({}))
    with plugins.measurers_from([EXAMPLE]):
        beside = ids(plan({("k1", "execlog"): "p", ("k2", "execlog"): "p"}, "execlog"))
    assert alone.items() <= beside.items()


def test_other_products_are_another_cell() -> None:
    with plugins.measurers_from([EXAMPLE]):
        before = ids(plan({("k1", "execlog"): "p", ("k2", "execlog"): "p"}, "execlog"))
        after = ids(plan({("k1", "execlog"): "q", ("k2", "execlog"): "p"}, "execlog"))
    assert {key for key in before if before[key] != after[key]} == {("k1", "execlog")}


# Compared with its claim.


def executed(container: str, path: str, content: bytes, route: Route = Route.EXEC) -> Executed:
    return Executed(
        container=container, path=PurePosixPath(path), digest=digest(content), size=len(content), route=route
    )


def line(container: str, path: str, content: bytes) -> str:
    return f"{digest(content)} {container} {path}\n"


TRUTH = [
    executed(A, "/run", b"script", Route.SCRIPT),
    executed(A, "/usr/bin/sh", b"shell", Route.INTERPRETER),
    executed(A, "/usr/bin/ls", b"ls"),
    executed(A, "/usr/lib/libc.so.6", b"libc", Route.MAPPED),
    executed(B, "/usr/bin/ls", b"ls"),
]
GOOD = line(A, "/run", b"script") + line(A, "/usr/bin/sh", b"shell") + line(A, "/usr/bin/ls", b"ls")
GOOD += line(B, "/usr/bin/ls", b"ls")


def found(example: Measurer, own: str) -> list[tuple[str, str]]:
    foreign = observe_foreign(example, [], own.encode())
    findings = compare([], example.claim(TRUTH), {}, TRUTH, foreign=foreign)
    return [(finding.kind.value, finding.where) for finding in findings]


def test_a_complete_log_has_no_finding_and_needs_no_library(example: Measurer) -> None:
    assert found(example, GOOD) == []


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        (lambda log: log.replace(line(A, "/run", b"script"), ""), [("missing", "the measurer's own log: '/run'")]),
        (lambda log: log + line(A, "/usr/bin/evil", b"evil"), [("ghost", "measurer.log: line 5")]),
        (lambda log: log + line(B, "/usr/bin/sh", b"shell"), [("ghost", "measurer.log: line 5")]),
        (
            lambda log: log.replace(line(B, "/usr/bin/ls", b"ls"), line(B, "/usr/bin/ls", b"old")),
            [("wrong-digest", "")],
        ),
        (lambda log: log.replace(f" {B} ", f" {'c' * 64} "), [("misattributed", "measurer.log: line 4")]),
    ],
)
def test_what_is_wrong_with_a_log_is_found(
    example: Measurer, change: Callable[[str], str], kinds: list[tuple[str, str]]
) -> None:
    findings = found(example, change(GOOD))
    assert [kind for kind, _ in findings] == [kind for kind, _ in kinds]
    assert all(where.startswith(expected) for (_, where), (_, expected) in zip(findings, kinds, strict=True))


def test_a_log_that_cannot_be_read_is_bad_evidence(example: Measurer) -> None:
    with pytest.raises(BadEvidence, match="observe"):
        observe_foreign(example, [], b"one word\n")


def test_names_with_odd_bytes_are_read(example: Measurer) -> None:
    assert example.observe is not None
    (seen,) = example.observe(ForeignLog(entries=(), own=line(A, r"/a\040b\012c\134", b"x").encode()))
    assert seen.path == "/a b\nc\\"


def test_entries_of_the_ima_log_can_be_observed_too() -> None:
    def observe(log: ForeignLog) -> list[Seen]:
        return [
            Seen(where=entry.where, pcr=entry.pcr, container=A, path=entry.name.decode(), digest=entry.digest.hex())
            for entry in log.entries
            if entry.pcr == 12
        ]

    mine = Measurer(name="mine", summary="x", pcr=12, observe=observe)
    entries = list(read_entries(b.ima_ng("/a", b"a", pcr=12) + b.ima_ng("/host", b"h") + b.violation("/v")))
    (seen,) = observe_foreign(mine, entries, b"")
    assert (seen.pcr, seen.container, seen.path, seen.digest) == (12, A, "/a", digest(b"a"))
    (finding,) = compare(entries, frozenset(), {}, foreign=[seen])
    assert finding.kind.value == "ghost"


def test_a_measurer_of_this_project_is_not_asked_in_this_way() -> None:
    assert observe_foreign(plugins.measurer("container-file"), [], b"anything") == ()


# Printed without a machine.


def run(*words: str) -> Any:
    return CliRunner().invoke(main, words)


def test_a_claim_is_printed_without_a_machine(tmp_path: Path) -> None:
    script = b"#!/usr/bin/busybox\n"
    archive(tmp_path / "image", [layer({"usr/bin/busybox": script})])
    words = ("--image", str(tmp_path / "image"), "--json")
    said = json.loads(run("claim", "container-file", "exec-static", *words).stdout)
    (fact,), (claimed,) = said["truth"], said["claim"]
    assert (fact["route"], fact["path"], fact["digest"]) == ("script", "/usr/bin/busybox", digest(script))
    assert (claimed["pcr"], claimed["path"], claimed["digest"]) == (11, "/usr/bin/busybox", digest(script))
    theirs = json.loads(run("claim", "execlog", "exec-static", *words, "--measurer-path", str(EXAMPLE)).stdout)
    assert theirs["claim"] == [claimed | {"pcr": None}]
    shown = run("claim", "container-image", "exec-static", *words[:2]).stdout
    assert "container-image must log: 3 entries" in shown, "the file, the launch and the image"


def test_an_image_without_the_program_is_an_error(tmp_path: Path) -> None:
    archive(tmp_path / "image", [layer({"usr/bin/other": b"#!/usr/bin/other\n"})])
    done = run("claim", "none", "exec-static", "--image", str(tmp_path / "image"))
    assert (done.exit_code, "usr/bin/busybox" in done.stderr) == (3, True)
    assert run("claim", "nobody", "tools").exit_code == 2
