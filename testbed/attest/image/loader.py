"""Which libraries a program gets: the search of glibc's dynamic loader, done inside an image (ld.so(8), ldconfig(8)).

Only what the files say: no LD_LIBRARY_PATH, no dlopen, no glibc-hwcaps. musl's own search is shorter.
"""

from __future__ import annotations

import fnmatch
import io
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import InterpSegment

from testbed.attest.image.archive import OpenImage
from testbed.errors import BuildError
from testbed.measurers import Route

# What loaders of the distributions have built in; a file for another machine is skipped, as the loader does.
_DEFAULT = tuple(f"{root}/{lib}".encode() for lib in ("lib/x86_64-linux-gnu", "lib64", "lib") for root in ("", "/usr"))
_MUSL = (b"/lib", b"/usr/local/lib", b"/usr/lib")
_SCRIPTS = 5  # interpreters of interpreters, as deep as the kernel follows them


@dataclass(frozen=True, slots=True, kw_only=True)
class Elf:
    """What the loader reads of a file. ``opened``: the path by which it was found; ``path``: resolved."""

    path: bytes
    opened: bytes
    machine: str
    interpreter: bytes | None
    needed: tuple[bytes, ...]
    rpath: tuple[bytes, ...]
    runpath: tuple[bytes, ...]
    soname: bytes | None
    loader: Elf | None = None


def executed_files(image: OpenImage, program: bytes) -> list[tuple[bytes, Route]]:
    """Return the resolved path of each file whose code runs when ``program`` is executed, itself first, and its route.

    A script's interpreters are followed. What an ELF file maps are its ELF interpreter and its libraries. Raises
    ``BuildError`` if a file is missing.
    """
    scripts: list[tuple[bytes, Route]] = []
    for depth in range(_SCRIPTS):
        path = _existing(image, program, b"")
        if path in [script for script, _ in scripts]:
            return scripts
        content = image.read(path) or b""
        if content[:2] == b"#!":
            scripts.append((path, Route.INTERPRETER if depth else Route.SCRIPT))
            program = (content[2:].split(b"\n", 1)[0].split() or [b""])[0]
            continue
        main = read_elf(image, program, None)
        if main is None:
            raise BuildError(f"{image.name}: {_show(program)} is neither an ELF file nor a script")
        first, *mapped = _closure(image, main)
        route = Route.INTERPRETER if depth else Route.EXEC
        return [*scripts, (first, route), *((path, Route.MAPPED) for path in mapped)]
    raise BuildError(f"{image.name}: {_show(program)}: too many nested interpreters")


def found_arguments(image: OpenImage, argv: Sequence[bytes]) -> tuple[bytes, ...]:
    """Return the arguments that the first program of ``argv`` (its path, then arguments) gets.

    A script's interpreter gets its own path, the one argument of the script's first line, and then the script's
    (``fs/binfmt_script.c``).
    """
    words = tuple(argv)
    for _ in range(_SCRIPTS):
        content = image.read(words[0]) or b""
        if content[:2] != b"#!":
            break
        line = content[2:].split(b"\n", 1)[0].strip()
        words = (*line.split(maxsplit=1), *words)
    return words


def read_elf(image: OpenImage, path: bytes, loader: Elf | None) -> Elf | None:
    """Read what the loader reads; ``None`` if the file does not exist or is not an ELF file."""
    resolved, content = image.resolve(path), image.read(path)
    if resolved is None or content is None or content[:4] != b"\x7fELF":
        return None
    try:
        elf = ELFFile(io.BytesIO(content))
        interpreter = [s.get_interp_name().encode() for s in elf.iter_segments() if isinstance(s, InterpSegment)]
        tags = [tag for s in elf.iter_segments() if isinstance(s, DynamicSegment) for tag in s.iter_tags()]
        machine = f"{elf['e_machine']} {elf.elfclass}"
    except (ELFError, ValueError, KeyError) as error:
        raise BuildError(f"{image.name}: {_show(path)}: no such ELF file: {error}") from error

    def strings(tag: str, attribute: str) -> tuple[bytes, ...]:
        return tuple(getattr(t, attribute).encode() for t in tags if t.entry.d_tag == tag)

    return Elf(
        path=resolved,
        opened=path,
        machine=machine,
        interpreter=interpreter[0] if interpreter else None,
        needed=strings("DT_NEEDED", "needed"),
        rpath=tuple(part for value in strings("DT_RPATH", "rpath") for part in value.split(b":") if part),
        runpath=tuple(part for value in strings("DT_RUNPATH", "runpath") for part in value.split(b":") if part),
        soname=next(iter(strings("DT_SONAME", "soname")), None),
        loader=loader,
    )


def _closure(image: OpenImage, main: Elf) -> list[bytes]:
    """Return the program, its interpreter and its libraries, in the order in which the loader loads them."""
    if main.interpreter is None:
        return [main.path]
    interpreter = read_elf(image, main.interpreter, main)
    if interpreter is None:
        raise BuildError(f"{image.name}: {_show(main.opened)} needs the interpreter {_show(main.interpreter)}")
    known = {name: interpreter for name in (interpreter.soname, main.interpreter) if name}
    objects = [main]
    for elf in objects:
        wanted = (*_preloaded(image), *elf.needed) if elf is main else elf.needed
        for name in wanted:
            if name in known:
                continue
            library = _search(image, elf, name)
            same = [other for other in (interpreter, *objects) if other.path == library.path]
            known[name] = same[0] if same else library
            if library.soname:
                known.setdefault(library.soname, known[name])
            if not same:
                objects.append(library)
    return [main.path, interpreter.path, *(elf.path for elf in objects[1:])]


def _search(image: OpenImage, elf: Elf, name: bytes) -> Elf:
    places = [name] if b"/" in name else [place + b"/" + name for place in _places(image, elf)]
    for place in places:
        library = read_elf(image, place, elf)
        if library is not None and library.machine == elf.machine:
            return library
    raise BuildError(
        f"{image.name}: {_show(elf.opened)} needs {_show(name)}, which is in no directory that the loader searches"
    )


def _places(image: OpenImage, elf: Elf) -> Iterator[bytes]:
    """Yield directories in the loader's order: RPATH of the object and of what loaded it, RUNPATH, cache, default."""
    asking: Elf | None = elf
    main = elf
    while asking is not None and not elf.runpath:
        if not asking.runpath:
            yield from (_expanded(image, asking, part) for part in asking.rpath)
        asking = asking.loader
    yield from (_expanded(image, elf, part) for part in elf.runpath)
    while main.loader is not None:
        main = main.loader
    if main.interpreter and b"/ld-musl-" in main.interpreter:
        yield from _MUSL
        return
    if image.read(b"/etc/ld.so.cache") is not None:  # the loader reads the cache that ldconfig made, not the settings
        yield from _configured(image, b"/etc/ld.so.conf", 0)
    yield from _DEFAULT


def _configured(image: OpenImage, path: bytes, depth: int) -> Iterator[bytes]:
    for raw in (image.read(path) or b"").splitlines() if depth < _SCRIPTS else ():
        line = raw.split(b"#", 1)[0].split()
        if line[:1] == [b"include"]:
            for pattern in line[1:]:
                directory, _, name = posixpath.join(b"/etc", pattern).rpartition(b"/")
                for file in fnmatch.filter(image.listing(directory), name):
                    yield from _configured(image, directory + b"/" + file, depth + 1)
        elif line and line[0].startswith(b"/"):
            yield line[0].rstrip(b"/")


def _preloaded(image: OpenImage) -> list[bytes]:
    return (image.read(b"/etc/ld.so.preload") or b"").replace(b":", b" ").split()


def _expanded(image: OpenImage, elf: Elf, part: bytes) -> bytes:
    origin = b"/" + (elf.path if elf.loader is None else elf.opened.lstrip(b"/")).rpartition(b"/")[0]
    expanded = part.replace(b"${ORIGIN}", origin).replace(b"$ORIGIN", origin)
    if b"$" in expanded:
        raise BuildError(f"{image.name}: {_show(elf.opened)}: search path {_show(part)} cannot be expanded")
    return expanded


def _existing(image: OpenImage, path: bytes, default: bytes) -> bytes:
    resolved = image.resolve(path) or default
    if not path.startswith(b"/") or resolved not in image.nodes or image.nodes[resolved].open is None:
        raise BuildError(f"{image.name}: no file {_show(path)}", "give the absolute path of a file in the image")
    return resolved


def _show(path: bytes) -> str:
    return ascii(path.decode(errors="backslashreplace"))
