"""Compiled kernels: what a configuration says, what is refused, and what becomes of what a build leaves."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from testbed.errors import BuildError, CommandError
from testbed.guest import Completed
from testbed.lab.build import compiled, debian, recipes

RECIPE = recipes.BuiltRecipe(name="mine", summary="a kernel", suite="trixie", packages=("linux-source-6.0", "gcc"))
FRAGMENT = """
# Why this is wanted.
CONFIG_KASAN=y
# CONFIG_AUTO is not set
CONFIG_NAME="a=b"
"""
RELEASE = "6.0-mine"


def test_the_rows_of_this_repository_can_be_read_and_no_experiment_has_them() -> None:
    rows = recipes.load_built()
    assert set(rows) == {"kasan"}
    assert not set(rows) & set(recipes.load_kernels())
    for name, row in rows.items():
        asked = compiled.options((compiled.ROWS / f"{name}.config").read_text())
        assert any(package.startswith("linux-source-") for package in row.packages)
        needed = ("KASAN", "DEBUG_KMEMLEAK", "PROVE_LOCKING", "DEBUG_ATOMIC_SLEEP", "DEBUG_LIST", "BPF_LSM", "IMA")
        assert {asked.get(f"CONFIG_{option}") for option in needed} == {"y"}
        assert asked["CONFIG_LSM"] == '"bpf"'


def test_what_a_configuration_says() -> None:
    assert compiled.options(FRAGMENT) == {"CONFIG_KASAN": "y", "CONFIG_AUTO": "n", "CONFIG_NAME": '"a=b"'}


@pytest.mark.parametrize("line", ["KASAN=y", "CONFIG_KASAN", " CONFIG_KASAN=y", "CONFIG_KASAN="])
def test_a_line_that_asks_for_nothing_is_refused(line: str) -> None:
    with pytest.raises(BuildError, match=r"line 2 .*got"):
        compiled.options(f"CONFIG_A=y\n{line}\n")


def test_a_configuration_that_is_as_asked_passes() -> None:
    compiled.check("mine", compiled.options(FRAGMENT), 'CONFIG_KASAN=y\nCONFIG_MORE=y\nCONFIG_NAME="a=b"\n')


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ('CONFIG_NAME="a=b"', "CONFIG_KASAN: expected y, got n"),
        ('CONFIG_KASAN=m\nCONFIG_NAME="a=b"', "CONFIG_KASAN: expected y, got m"),
        ('CONFIG_KASAN=y\nCONFIG_AUTO=y\nCONFIG_NAME="a=b"', "CONFIG_AUTO: expected n, got y"),
        ("CONFIG_KASAN=y\n# CONFIG_NAME is not set", 'CONFIG_NAME: expected "a=b", got n'),
    ],
)
def test_an_option_that_did_not_come_out_is_named(config: str, complaint: str) -> None:
    with pytest.raises(BuildError) as error:
        compiled.check("mine", compiled.options(FRAGMENT), config)
    assert complaint in error.value.message
    assert "images/built/mine.config" in error.value.hint


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "built"
    made.mkdir()
    (made / "mine.config").write_text(FRAGMENT)
    (made / "build.sh").write_text("steps")
    monkeypatch.setattr(compiled, "ROWS", made)
    return made


def test_a_comment_does_not_change_the_key_and_everything_else_does(rows: Path) -> None:
    before = compiled._key(RECIPE)
    (rows / "mine.config").write_text(FRAGMENT.replace("Why", "Because"))
    assert compiled._key(RECIPE) == before
    assert compiled._key(RECIPE.model_copy(update={"packages": ("gcc",)})) != before
    (rows / "build.sh").write_text("other steps")
    changed = compiled._key(RECIPE)
    (rows / "mine.config").write_text(FRAGMENT.replace("CONFIG_AUTO is not set", "nothing"))
    assert len({before, changed, compiled._key(RECIPE)}) == 3


class Kbuild:
    """Stand in for the build root: does what ``build.sh`` promises, and notes its steps."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.config = 'CONFIG_KASAN=y\nCONFIG_NAME="a=b"\n'
        self.fails = ""

    def bootstrap(self, _suite: str, _packages: Sequence[str], target: Path) -> None:
        with tarfile.open(target, "w") as tar:
            for name in ("./usr", "./usr/src", "./var", "./var/lib", "./var/lib/dpkg"):
                info = tarfile.TarInfo(name)
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(info)
            tar.addfile(tarfile.TarInfo("./var/lib/dpkg/status"))

    def enter(
        self, _root: Path, argv: Sequence[str], *, read: Mapping[Path, str], write: Mapping[Path, str], timeout: float
    ) -> Completed:
        out = next(iter(write))
        step = argv[argv.index("/src/build.sh") + 1]
        self.steps.append(step)
        if step == self.fails:
            raise CommandError("exit status 1: cc")
        if step == "configure":
            (out / "config").write_text(self.config)
        else:
            modules = out / "modules" / "lib" / "modules" / RELEASE
            modules.mkdir(parents=True)
            (modules / "modules.builtin").write_text("kernel/overlay.ko\n")
            (out / "headers").mkdir()
            (out / "headers" / "vmlinux").write_text("types")
            for name, text in (("vmlinuz", "kernel"), ("initrd", "empty"), ("release", f"{RELEASE}\n")):
                (out / name).write_text(text)
        return Completed(argv=tuple(argv), code=0, out=b"", err=b"", seconds=0)


@pytest.fixture
def kbuild(rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kbuild:
    stand_in = Kbuild()
    monkeypatch.setenv("TESTBED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(compiled, "_NEEDED", 0)
    monkeypatch.setattr(debian, "bootstrap", stand_in.bootstrap)
    monkeypatch.setattr(debian, "enter", stand_in.enter)
    return stand_in


def test_a_kernel_is_compiled_once_and_has_headers_in_its_root(kbuild: Kbuild) -> None:
    made = compiled.build(RECIPE)
    assert kbuild.steps == ["configure", "compile"]
    assert (made.name, made.release) == ("mine", RELEASE)
    assert made.vmlinuz.read_text() == "kernel"
    assert made.initrd.read_text() == "empty"
    assert made.config.read_text() == kbuild.config
    build = made.build_root / "usr/lib/modules" / RELEASE / "build"
    assert str(build.readlink()) == f"/usr/src/linux-headers-{RELEASE}"
    assert (made.build_root / f"usr/src/linux-headers-{RELEASE}/vmlinux").read_text() == "types"
    with tarfile.open(made.modules) as tar:
        assert [m.name for m in tar if m.isreg()] == [f"usr/lib/modules/{RELEASE}/modules.builtin"]
    assert sorted(path.name for path in made.build_root.parent.iterdir()) == [
        *("config", "initrd", "meta.json", "modules.tar", "root", "vmlinuz")
    ]
    assert compiled.build(RECIPE) == made
    assert kbuild.steps == ["configure", "compile"]


def test_what_is_not_as_asked_is_refused_before_it_is_compiled(kbuild: Kbuild) -> None:
    kbuild.config = "CONFIG_KASAN=y\n"
    with pytest.raises(BuildError, match="CONFIG_NAME"):
        compiled.build(RECIPE)
    assert kbuild.steps == ["configure"]


@pytest.mark.parametrize("step", ["configure", "compile"])
def test_a_failed_step_keeps_what_was_said(kbuild: Kbuild, step: str) -> None:
    kbuild.fails = step
    with pytest.raises(BuildError, match=r"kernel mine does not build: exit status 1: cc"):
        compiled.build(RECIPE)
    assert kbuild.steps[-1] == step
