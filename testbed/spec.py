"""An experiment file: the user's question and its axes, as TOML. Errors name the file, the key and the value found."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from testbed import files
from testbed.errors import SpecError
from testbed.measurers import _policy
from testbed.measurers._policy import ImaPolicy

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=60)]
Bank = Literal["sha1", "sha256", "sha384", "sha512"]
BANKS: tuple[str, ...] = get_args(Bank)
Store = Literal["plain", "verity"]
CommandLine = Literal["tuned", "distribution"]
TUNED: CommandLine = "tuned"


def _is_word(text: str) -> str:
    if not text or not text.isascii() or not text.isprintable() or set(text) & set(" \"'\\"):
        raise ValueError("expected one word of printable ASCII without quotes and backslashes")
    return text


KernelArg = Annotated[str, StringConstraints(max_length=200), AfterValidator(_is_word)]
Names = Annotated[tuple[Name, ...], Field(min_length=1, strict=False)]


class _Values(BaseModel):
    # Strict: otherwise `blocks = true` would be 1, and the text "yes" a boolean. TOML has no tuples: its lists are.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Shape(_Values):
    """The machine: virtual CPUs, memory, the banks of PCRs that its TPM has, and how its kernel is set.

    The kernel extends every bank there is, each with a digest of its own; quotes are over ``sha256``.
    ``command_line``: ``tuned`` has the words and settings with which counts repeat on the tier; ``distribution`` has
    none of them, so that the kernel runs as Debian ships it.
    """

    vcpus: int = Field(default=1, ge=1, le=64)
    memory_mib: int = Field(default=1024, ge=512, le=65536)
    pcr_banks: tuple[Bank, ...] = Field(default=("sha256",), strict=False)
    command_line: CommandLine = TUNED

    @field_validator("pcr_banks")
    @classmethod
    def _one_is_quoted(cls, banks: tuple[Bank, ...]) -> tuple[Bank, ...]:
        if "sha256" not in banks:
            raise ValueError("the bank sha256 must be among them, it is the one that is quoted")
        if len(set(banks)) < len(banks):
            raise ValueError("a bank is listed twice")
        # The order means nothing: the same banks are the same machine.
        return tuple(sorted(banks))


class Limits(_Values):
    """What a run may see of its surroundings before it is rejected, whatever it measured (tier ``kvm``).

    ``guest_steal`` and ``host_steal``: share of processor time that a hypervisor took, 0 to 1. ``host_pressure``:
    percent of the time in which some task of the host waited for a processor (``/proc/pressure/cpu``).
    ``tries``: how often the arms of one workload run in a block before the testbed gives up.
    """

    guest_steal: float = Field(default=0.02, ge=0, le=1)
    host_steal: float = Field(default=0.02, ge=0, le=1)
    host_pressure: float = Field(default=10.0, ge=0, le=100)
    tries: int = Field(default=3, ge=1, le=10)


class Exclude(_Values):
    """Cells to leave out: every axis that is named must match."""

    kernel: Name | None = None
    runtime: Name | None = None
    measurer: Name | None = None
    workload: Name | None = None
    attack: Name | None = None


class Experiment(_Values):
    """A question and the axes whose product, less the excludes, answers it.

    ``blocks``: repetitions, each a boot of its own; at least 6 for an interval. ``builds``: how many builds of the
    machine's disks the blocks take in turns: the same files, laid out otherwise. ``delta``: the relative overhead below
    which two arms count as equal (0.005 = 0.5 %); by default that of the tier. ``baseline``: the measurer that the
    others are compared with; ``duplicate``: the same again, to see the noise (A/A). ``start``: whether each arm is
    restored from its block's saved machine or booted afresh. ``store``: ``verity`` gives the files of the images that
    runtimes start directly fs-verity. ``bpf_stats``: count the run time of BPF programs; such
    runs price nothing else. ``ima_policies``: the user's own IMA policies, each of them a measurer; ``load`` reads
    their files. ``kernel_args``: words for the kernel's command line in addition to the testbed's.
    """

    name: Name
    question: str = Field(min_length=1)
    tier: Literal["auto", "kvm", "icount", "tcg"] = "auto"
    kernels: Names = ("debian-6.12",)
    runtimes: Names = ("crun",)
    measurers: Names
    workloads: Names
    attacks: Names = ("none",)
    exclude: tuple[Exclude, ...] = Field(default=(), strict=False)
    baseline: Name = "none"
    duplicate: Name = "none2"
    blocks: int = Field(default=6, ge=1, le=1000)
    builds: int = Field(default=1, ge=1, le=16)
    warmups: int = Field(default=1, ge=0, le=100)
    iterations: int = Field(default=1, ge=1, le=1000)
    machine: Shape = Shape()
    start: Literal["restore", "boot"] = "restore"
    store: Store = "plain"
    bpf_stats: bool = False
    ima_policies: tuple[ImaPolicy, ...] = Field(default=(), strict=False)
    kernel_args: tuple[KernelArg, ...] = Field(default=(), max_length=40, strict=False)
    limits: Limits = Limits()
    seed: int = Field(default=1, ge=0)
    delta: float | None = Field(default=None, gt=0, lt=1)

    @model_validator(mode="after")
    def _policies_are_measurers(self) -> Self:
        for policy in self.ima_policies:
            if policy.name not in self.measurers:
                raise ValueError(f"measurers: {policy.name} is missing, which ima_policies has")
        return self

    @model_validator(mode="after")
    def _each_build_has_a_block(self) -> Self:
        if self.builds > self.blocks:
            raise ValueError(f"builds: expected at most one for each of the {self.blocks} blocks, got {self.builds}")
        return self

    @model_validator(mode="after")
    def _no_axis_twice(self) -> Self:
        for axis in ("kernels", "runtimes", "measurers", "workloads", "attacks"):
            values = getattr(self, axis)
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"{axis}: {', '.join(twice)} is listed twice")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class _Override:
    """One ``--set KEY=VALUE``: the option as it was given, the parts of its key, and its value."""

    option: str
    key: tuple[str, ...]
    value: Any


def load(
    path: Path, overrides: Sequence[str] = (), *, ima_policies: Sequence[Path] = (), kernel_args: Sequence[str] = ()
) -> Experiment:
    """Read an experiment file; each of ``overrides``, a ``KEY=VALUE`` (dotted key, value in TOML), takes a key's place.

    ``ima_policies`` (files) and ``kernel_args`` are added to those of the file. A policy joins the measurers. The
    result is checked as a whole. Raises ``SpecError`` with one line for each thing that is wrong, which names the
    file, or the override.
    """
    table = _toml(_read(path), f"{path}: not TOML", "fix that line")
    wishes = [_override(option) for option in overrides]
    for at, wish in enumerate(wishes):
        if other := next((one for one in wishes[:at] if one.key == wish.key and one.value != wish.value), None):
            raise SpecError(f"{other.option} and {wish.option}: expected one value of a key", "give each key once")
        _put(table, wish)
    _add_words(table, path, kernel_args)
    _add_policies(table, path, ima_policies)
    try:
        return Experiment.model_validate(table)
    except ValidationError as error:
        whole = named(path, overrides)
        lines = (_complaint(_source(whole if not e["loc"] else str(path), wishes, e["loc"]), e) for e in error.errors())
        raise SpecError("\n".join(lines), _hint(error)) from error


def _read(path: Path) -> str:
    try:
        with files.open_plain(path) as file:
            text = file.read().decode()
    except OSError as error:
        hint = "give the path of a TOML file; `experiments/` has some"
        raise SpecError(f"{path}: cannot be read: {files.reason(error)}", hint) from error
    except UnicodeDecodeError as error:
        byte, place = error.object[error.start], error.start
        raise SpecError(
            f"{path}: expected UTF-8, got byte 0x{byte:02x} at {place}", "save the file as plain text in UTF-8"
        ) from error
    if text.startswith("\ufeff"):
        raise SpecError(
            f"{path}: expected TOML, got a byte order mark (U+FEFF) before it", "save the file as UTF-8 without a mark"
        )
    return text


def _toml(text: str, what: str, hint: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise SpecError(f"{what}: nested too deeply", hint) from error
    except ValueError as error:  # also a number of too many digits
        raise SpecError(f"{what}: {error}", hint) from error


def named(path: Path, overrides: Iterable[str]) -> str:
    """Return what to call an experiment in a message: its file, and what was given instead of its keys."""
    return " ".join((str(path), *(f"--set {option}" for option in overrides)))


def _override(text: str) -> _Override:
    option = f"--set {text}"
    name, given, value = text.partition("=")
    key = tuple(part.strip() for part in name.split("."))
    if not given or not all(key):
        raise SpecError(f"{option}: expected KEY=VALUE", "for example --set machine.vcpus=2")
    parsed = _toml(f"value = {value}", f"{option}: the value is not TOML", f"text is quoted: --set '{name}=\"...\"'")
    if parsed.keys() != {"value"}:
        raise SpecError(f"{option}: more than one value", "give --set once for each key")
    return _Override(option=option, key=key, value=parsed["value"])


def _put(table: dict[str, Any], wish: _Override) -> None:
    for depth, part in enumerate(wish.key[:-1], 1):
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            where = ".".join(wish.key[:depth])
            raise SpecError(f"{wish.option}: {where!r} is not a table, got {table!r}", "set the whole key")
    table[wish.key[-1]] = wish.value


def _add_words(table: dict[str, Any], path: Path, words: Sequence[str]) -> None:
    if words:
        table["kernel_args"] = [*_list(table, path, "kernel_args"), *words]


def _add_policies(table: dict[str, Any], path: Path, given: Sequence[Path]) -> None:
    """Put the policies' lines where their files' names are, and their names among the measurers.

    A path in the file is relative to the file, one that was ``given`` to the current directory.
    """
    listed = _list(table, path, "ima_policies")
    if not all(isinstance(name, str) for name in listed):
        raise SpecError(f"{path}: key 'ima_policies': expected paths of files, got {listed!r}", "quote each path")
    policies = [_policy.read(file) for file in (*(path.parent / name for name in listed), *given)]
    if policies:
        table["ima_policies"] = policies
        table["measurers"] = [*_list(table, path, "measurers"), *(policy.name for policy in policies)]


def _list(table: dict[str, Any], path: Path, key: str) -> list[Any]:
    value = table.get(key, [])
    if not isinstance(value, list):
        raise SpecError(
            f"{path}: key {key!r}: expected a list, got {value!r}", "docs/experiments.md explains every key"
        )
    return value


def _source(otherwise: str, wishes: Sequence[_Override], where: Sequence[object]) -> str:
    """Return the source of the wrong value at ``where``: the last override of it or of a part of it, or the file."""
    for wish in reversed(wishes):
        both = min(len(wish.key), len(where))
        if both and wish.key[:both] == tuple(map(str, where[:both])):
            return wish.option
    return otherwise


def _complaint(source: str, error: object) -> str:
    assert isinstance(error, dict)
    key = ".".join(str(part) for part in error["loc"]) or "(whole file)"
    if error["type"] == "extra_forbidden":
        return f"{source}: unknown key {key!r} = {error['input']!r}"
    if error["type"] == "missing":
        return f"{source}: key {key!r} is missing"
    return f"{source}: key {key!r}: {error['msg']}, got {error['input']!r}"


def _hint(error: ValidationError) -> str:
    if any(e["type"] == "extra_forbidden" for e in error.errors()):
        return f"known keys: {', '.join(Experiment.model_fields)}"
    return "docs/experiments.md explains every key"
