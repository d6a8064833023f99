"""The executed notebooks as pages: text, code, and what the code printed and drew."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from site_pages import ROOT, Entry

_PICTURES = {"image/svg+xml": "svg", "image/png": "png"}
_FENCE = "`" * 6


def source_of(path: str) -> Path | None:
    """Return the executed notebook of a path of the repository (``notebooks/NAME.py`` or ``.ipynb``), if it is one."""
    if not path.startswith("notebooks/") or not path.endswith((".py", ".ipynb")):
        return None
    executed = (ROOT / path).with_suffix(".ipynb")
    return executed if executed.exists() else None


def write(out: Path, relinked: Callable[[str, str], str]) -> list[Entry]:
    """Write a page for each notebook, and one that lists them; return the lines of the navigation."""
    found = sorted((ROOT / "notebooks").glob("*.ipynb"))
    if not found:
        return []
    folder = out / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    titles = []
    for path in found:
        text = page(json.loads(path.read_text(encoding="utf-8")), folder, path.stem)
        titles.append(text.partition("\n")[0].removeprefix("# ") or path.stem)
        (folder / f"{path.stem}.md").write_text(relinked(f"notebooks/{path.stem}.md", text), encoding="utf-8")
    lines = [
        "# Notebooks",
        "",
        "Each notebook was executed on the reference data. `make notebooks` executes them again.",
        "",
        *(f"- [{title}]({path.stem}.md)" for path, title in zip(found, titles, strict=True)),
        "",
        *("```{toctree}", ":hidden:", *(path.stem for path in found), "```", ""),
    ]
    (folder / "index.md").write_text("\n".join(lines), encoding="utf-8")
    return [Entry(title="Notebooks", page="notebooks/index.md")]


def page(notebook: dict[str, Any], folder: Path, name: str) -> str:
    """Return a notebook as Markdown; its pictures are written into ``folder``."""
    parts: list[str] = []
    for number, cell in enumerate(notebook["cells"]):
        text = _joined(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(text)
        elif text.strip():
            parts.append(f"{_FENCE}python\n{text}\n{_FENCE}")
        for which, output in enumerate(cell.get("outputs", [])):
            parts += _output(output, folder, f"{name}-{number}-{which}")
    return "\n\n".join(parts) + "\n"


def _output(output: dict[str, Any], folder: Path, name: str) -> list[str]:
    data = output.get("data", {})
    if "text" in output:  # a stream
        data = {"text/plain": output["text"]}
    for kind, suffix in _PICTURES.items():
        if kind in data:
            content = _joined(data[kind])
            (folder / f"{name}.{suffix}").write_bytes(
                content.encode() if suffix == "svg" else base64.b64decode(content)
            )
            return [f"![figure of the cell above]({name}.{suffix})"]
    if "text/html" in data:
        return [
            f'{_FENCE}{{raw}} html\n<div class="output" tabindex="0">\n{_joined(data["text/html"])}\n</div>\n{_FENCE}'
        ]
    if "text/plain" in data:
        return [f"{_FENCE}text\n{_joined(data['text/plain']).rstrip()}\n{_FENCE}"]
    return []


def _joined(text: str | list[str]) -> str:
    return text if isinstance(text, str) else "".join(text)
