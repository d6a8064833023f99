"""The reference pages that are made from the code: the command line, the keys of an experiment file, the Python API."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import click
from site_pages import DOCS, Entry

from testbed import cli
from testbed.spec import Experiment

Write = Callable[[str, str], None]

_ROW = re.compile(r"^\| `(?P<key>[a-z_.]+)` \|(?:.*\|)? (?P<meaning>[^|]+) \|$", re.MULTILINE)
# Its schema is that of what `load` makes of the key, not of what a user writes.
_FILES = {"ima_policies": {"type": "array", "items": {"type": "file"}, "default": []}}
# What the code calls a `Name`.
_NAME = "^[a-z0-9][a-z0-9._-]*$"
_LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "minItems": "at least {} in the list",
    "maxItems": "at most {} in the list",
    "minLength": "length at least {}",
    "maxLength": "length at most {}",
}


def write(page: Write) -> list[Entry]:
    """Write the pages; return their lines of the navigation, without pages whose code is not there."""
    entries = [_commands(page)]
    page("reference/experiment-keys.md", experiment_page())
    entries.append(Entry(title="Keys of an experiment file", page="reference/experiment-keys.md"))
    if importlib.util.find_spec("testbed.api"):
        page("reference/python.rst", _api_page())
        entries.append(Entry(title="Python: every function", page="reference/python.rst"))
    return entries


def _commands(page: Write) -> Entry:
    assert isinstance(cli.main, click.Group)
    names = cli.main.list_commands(click.Context(cli.main))
    for name in names:
        title = f"testbed {name}"
        module = f"testbed.commands.{name.replace('-', '_')}"
        # The directive makes the page's heading.
        lines = [f".. click:: {module}:command", f"   :prog: {title}", "   :nested: full"]
        page(f"reference/commands/{name}.rst", "\n".join([*lines, ""]))
    page("reference/commands/index.md", _command_index(names))
    return Entry(title="Command line", page="reference/commands/index.md")


def _command_index(names: list[str]) -> str:
    rows = [f"| [`testbed {name}`]({name}.rst) | {cli.summary(name)} |" for name in names]
    return "\n".join(
        [
            "# Command line",
            "",
            "`testbed COMMAND --help` prints the same as these pages. Every command ends with one of the",
            "[exit statuses](../../architecture.md#errors-and-exit-statuses).",
            "",
            "| command | what it does |",
            "|---|---|",
            *rows,
            "",
            "```{toctree}",
            ":hidden:",
            *(f"testbed {name} <{name}>" for name in names),
            "```",
            "",
        ]
    )


def _api_page() -> str:
    title = "Python: every function"
    lines = [title, "=" * len(title), "", ".. automodule:: testbed.api", "   :members:", "   :undoc-members:", ""]
    return "\n".join(lines)


def experiment_page() -> str:
    """Return the page of all keys: type, default and limits from the code, the meaning from docs/experiments.md."""
    meanings = dict(_meanings((DOCS / "experiments.md").read_text(encoding="utf-8")))
    rows = [
        f"| `{key}` | {kind} | {default} | {limits} | {meanings.get(key, '')} |"
        for key, kind, default, limits in keys(Experiment.model_json_schema(mode="validation"))
    ]
    return "\n".join(
        [
            "# Keys of an experiment file",
            "",
            "This table is made from the code that reads the file (`testbed/spec.py`).",
            "[Experiment files](../experiments.md) explains the keys and shows examples.",
            "A *name* has at most 60 of the characters a-z, 0-9, `.`, `_` and `-`. It begins with a letter or a digit.",
            "",
            "| key | type | default | limits | meaning |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _meanings(text: str) -> Iterator[tuple[str, str]]:
    for match in _ROW.finditer(text):
        # A link is relative to the page that it is from.
        yield match["key"], re.sub(r"\]\((?=#)", "](../experiments.md", match["meaning"])


def keys(schema: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Yield key, type, default and limits of each key of an experiment file; a table's keys with dots."""
    yield from _keys(schema, schema.get("$defs", {}), "")


def _keys(schema: dict[str, Any], named: dict[str, Any], prefix: str) -> Iterator[tuple[str, str, str, str]]:
    for key, given in schema["properties"].items():
        value = _resolved(_FILES.get(key, given), named)
        items = _resolved(value.get("items", {}), named)
        inner = value if "properties" in value else items if "properties" in items else None
        if inner:
            yield from _keys(inner, named, f"{prefix}{key}.")
            continue
        required = key in schema.get("required", [])
        yield f"{prefix}{key}", _kind(value, items), _default(given, required=required), _limits(value, items)


def _resolved(value: dict[str, Any], named: dict[str, Any]) -> dict[str, Any]:
    """Return a value's schema with a reference followed, and without the null of a key that may be missing."""
    if "$ref" in value:
        return dict(named[value["$ref"].rpartition("/")[2]])
    choices = [choice for choice in value.get("anyOf", []) if choice.get("type") != "null"]
    return _resolved(choices[0], named) if choices else value


def _kind(value: dict[str, Any], items: dict[str, Any]) -> str:
    if value.get("pattern") == _NAME:
        return "name"
    if "enum" in value:
        return "one of " + ", ".join(f"`{choice}`" for choice in value["enum"])
    if value.get("type") == "array":
        return f"list of: {_kind(items, {})}"
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "`true` or `false`"}
    return words.get(value.get("type", ""), str(value.get("type", "")))


def _default(value: dict[str, Any], *, required: bool) -> str:
    if required:
        return "required"
    default = value.get("default")
    if default is None:
        return ""
    return f"`{json.dumps(default)}`"  # also TOML, for these values


def _limits(value: dict[str, Any], items: dict[str, Any]) -> str:
    said = [(whose, each) for whose, each in ((value, ""), (items, "each ")) if whose.get("pattern") != _NAME]
    found = [
        f"{each}{words.format(whose[name])}" for whose, each in said for name, words in _LIMITS.items() if name in whose
    ]
    return "; ".join(found)
