"""A kernel compiled from Debian's sources with this project's configuration: the rows of ``images/built/``.

It takes up to half an hour, so only `make kasan` builds one: no experiment can name such a row. The result is a
``Kernel`` like any other, and its build root has the headers for the measurer.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from testbed.errors import BuildError, CommandError
from testbed.files import file_digest
from testbed.lab.build import cache, debian, kernel, tarball
from testbed.lab.build.kernel import Kernel
from testbed.lab.build.recipes import IMAGES, BuiltRecipe

# Raise it when this module makes something else of the same recipe.
BUILDER = 1
ROWS = IMAGES / "built"
_SCRIPT = "build.sh"
_NEEDED = 8 << 30
_CONFIGURE_SECONDS = 900.0
# On two idle processors it takes up to 30 minutes.
_COMPILE_SECONDS = 4 * 3600.0
_SET = re.compile(r"(CONFIG_\w+)=(.+)")
_UNSET = re.compile(r"# (CONFIG_\w+) is not set")


def build(recipe: BuiltRecipe, progress: cache.Progress = cache.silent) -> Kernel:
    """Return the kernel of a recipe, from the cache or compiled now.

    Raises ``BuildError`` if the resulting configuration differs from the requested one, ``HostError``.
    """
    key, compiled = _key(recipe), "compiled"
    path = cache.entry(kernel.KIND, key, lambda at: _build(recipe, at, progress), needed=_NEEDED, pace=compiled)
    return kernel.load(recipe, path)


def options(text: str) -> dict[str, str]:
    """Return what a configuration says, ``n`` for what it says is not set.

    Raises ``BuildError`` for a line that is neither an option, nor a comment, nor empty.
    """
    values = {}
    for number, line in enumerate(text.splitlines(), 1):
        if match := _SET.fullmatch(line):
            values[match[1]] = match[2]
        elif match := _UNSET.fullmatch(line):
            values[match[1]] = "n"
        elif line.strip() and not line.startswith("#"):
            raise BuildError(f"line {number} of a kernel's configuration: expected CONFIG_NAME=VALUE, got {line!r}")
    return values


def check(name: str, asked: Mapping[str, str], config: str) -> None:
    """Raise ``BuildError`` naming each option of ``asked`` that ``config`` does not have, with expected and got."""
    values = options(config)
    unmet = [
        f"{option}: expected {value}, got {values.get(option, 'n')}"
        for option, value in asked.items()
        if values.get(option, "n") != value
    ]
    if unmet:
        hint = f"see what each of them depends on, and add that to images/built/{name}.config"
        raise BuildError(
            f"kernel {name}: the resulting configuration differs from the requested one: {'; '.join(unmet)}", hint
        )


def _asked(recipe: BuiltRecipe) -> Path:
    return ROWS / f"{recipe.name}.config"


def _key(recipe: BuiltRecipe) -> str:
    # Comments do not change a kernel.
    parts = {
        "builder": BUILDER,
        "recipe": recipe.canonical(),
        "config": options(_asked(recipe).read_text(encoding="utf-8")),
    }
    return cache.content_key(parts | {"script": file_digest(ROWS / _SCRIPT)})


def _build(recipe: BuiltRecipe, at: Path, progress: cache.Progress) -> None:
    packed, root, out = at / "root.tar", at / "root", at / "out"
    progress(f"kernel {recipe.name}: packages of {recipe.suite}")
    debian.bootstrap(recipe.suite, recipe.packages, packed)
    debian.unpack(packed, root)
    out.mkdir()
    progress(f"kernel {recipe.name}: configure")
    _run(recipe, root, out, ("configure", "/out", f"/src/{recipe.name}.config"), _CONFIGURE_SECONDS)
    check(
        recipe.name, options(_asked(recipe).read_text(encoding="utf-8")), (out / "config").read_text(encoding="utf-8")
    )
    progress(f"kernel {recipe.name}: compile (up to half an hour)")
    _run(recipe, root, out, ("compile", "/out"), _COMPILE_SECONDS)
    release = (out / "release").read_text(encoding="utf-8").strip()
    _install(out, root, release)
    for name in ("vmlinuz", "initrd", "config"):
        (out / name).rename(at / name)
    # Nothing but the modules: what the guest's disk gets.
    tarball.merge(at / "modules.tar", [], tree=out / "stage", epoch=debian.EPOCH)
    cache.write_meta(at, kernel.describe(recipe, release, at, packed))
    packed.unlink()
    shutil.rmtree(out)


def _run(recipe: BuiltRecipe, root: Path, out: Path, words: tuple[str, ...], seconds: float) -> None:
    argv = ("nice", "-n", "10", "sh", f"/src/{_SCRIPT}", *words)
    try:
        debian.enter(root, argv, read={ROWS: "/src"}, write={out: "/out"}, timeout=seconds)
    except CommandError as error:
        raise BuildError(
            f"kernel {recipe.name} does not build: {error.message}", f"correct {_asked(recipe)}"
        ) from error


def _install(out: Path, root: Path, release: str) -> None:
    """Put the headers into the build root where a package would, and what the disk gets below ``out/stage``."""
    headers = f"usr/src/linux-headers-{release}"
    modules = f"usr/lib/modules/{release}"
    (out / "headers").rename(root / headers)
    (root / modules).mkdir(parents=True)
    (root / modules / "build").symlink_to(f"/{headers}")
    (out / "stage" / "usr" / "lib").mkdir(parents=True)
    (out / "modules" / "lib" / "modules").rename(out / "stage" / "usr" / "lib" / "modules")
