"""Building the measurer: once for one source and one kernel, and what the compiler says reaches the user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from testbed.errors import BuildError, CommandError
from testbed.lab.build import cache, debian, measurer
from testbed.lab.build.kernel import Kernel


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "bpf").mkdir()
    (tmp_path / "bpf/measurer.c").write_text("int main;")
    return tmp_path / "bpf"


@pytest.fixture
def makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Stand in for the build root: what it makes can be changed by the test."""
    files = {"testbed_measurer.ko": b"module", "measurer": b"loader"}

    def enter(
        root: Path, argv: Sequence[str], *, read: Mapping[Path, str], write: Mapping[Path, str], timeout: float
    ) -> None:
        assert root == tmp_path / "root"
        assert argv == ("sh", "/src/build.sh", "/src", "/out", "6.0")
        assert list(read.items()) == [(tmp_path / "bpf", "/src")]
        (at,) = write
        for name, data in files.items():
            (at / name).write_bytes(data)

    monkeypatch.setenv("TESTBED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(measurer, "_NEEDED", 0)
    monkeypatch.setattr(debian, "enter", enter)
    return files


def test_a_bundle_is_built_once(
    kernel: Kernel, source: Path, makes: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache.find(measurer.KIND, measurer._key(kernel, source)) is None
    made = measurer.build_bundle(kernel, source)
    assert made.module.read_bytes() == b"module"
    assert made.loader.read_bytes() == b"loader"
    monkeypatch.setattr(debian, "enter", lambda *_, **__: pytest.fail("built again"))
    assert measurer.build_bundle(kernel, source) == made
    assert cache.find(measurer.KIND, measurer._key(kernel, source)) == made.module.parent


def test_another_source_or_kernel_or_compiler_is_another_build(
    kernel: Kernel, source: Path, makes: dict[str, bytes]
) -> None:
    paths = [measurer.build_bundle(kernel, source).module]
    paths.append(measurer.build_bundle(replace(kernel, digest="d2"), source).module)
    paths.append(measurer.build_bundle(replace(kernel, build_digest="b2"), source).module)
    (source / "measurer.c").write_text("int main(void);")
    paths.append(measurer.build_bundle(kernel, source).module)
    assert len(set(paths)) == len(paths)


@pytest.mark.parametrize("name", ["testbed_measurer.ko", "measurer"])
def test_the_digest_covers_module_and_loader(kernel: Kernel, source: Path, makes: dict[str, bytes], name: str) -> None:
    before = measurer.build_bundle(kernel, source).digest
    makes[name] = b"changed"
    (source / "measurer.c").write_text("changed")
    assert measurer.build_bundle(kernel, source).digest != before


def test_what_the_compiler_said_reaches_the_person(
    kernel: Kernel, source: Path, makes: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise CommandError("exit status 2 of sh:\nmeasurer.c:1:5: error: 'main' is not a function")

    monkeypatch.setattr(debian, "enter", fail)
    with pytest.raises(BuildError, match="'main' is not a function") as error:
        measurer.build_bundle(kernel, source)
    assert "k:" in error.value.message
    assert cache.find(measurer.KIND, measurer._key(kernel, source)) is None


@pytest.mark.parametrize("name", ["testbed_measurer.ko", "measurer"])
def test_a_build_that_makes_nothing_is_an_error(
    kernel: Kernel, source: Path, makes: dict[str, bytes], name: str
) -> None:
    del makes[name]
    with pytest.raises(BuildError, match=f"made no {name}"):
        measurer.build_bundle(kernel, source)
