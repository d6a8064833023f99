"""What lies beside the code says the same as the code: editor, hooks, versions, citation, forms, workflow."""

from __future__ import annotations

import configparser
import datetime as dt
import fnmatch
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_repo import ROOT, files, helped

import testbed

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))


def data(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def editor() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read_string(f"[first]\n{(ROOT / '.editorconfig').read_text()}")
    return parser


def tracked(pattern: str) -> list[Path]:
    return [path for path in files() if fnmatch.fnmatch(path.name, pattern)]


def test_the_editor_and_ruff_agree() -> None:
    python = editor()["*.py"]
    assert python.getint("max_line_length") == PYPROJECT["tool"]["ruff"]["line-length"]
    assert (python["indent_style"], python.getint("indent_size")) == ("space", 4)
    assert editor()["first"]["root"] == "true"


@pytest.mark.parametrize(
    ("section", "pattern", "wrong"),
    [
        ("*.py", "*.py", r"^ *\t"),
        ("*.{c,h}", "*.[ch]", r"^ {8}"),
        ("{Makefile,Kbuild}", "Makefile", r"^ {2,}\S"),
        ("*.md", "*.md", r"^ *\t"),
        ("*.{toml,yaml,yml,cff}", "*.toml", r"^ *\t"),
        ("*.{toml,yaml,yml,cff}", "*.yml", r"^ *\t"),
    ],
)
def test_the_tree_is_as_the_editor_is_told(section: str, pattern: str, wrong: str) -> None:
    assert editor()[section]["indent_style"] == ("tab" if " {" in wrong else "space")
    found = tracked(pattern)
    assert found
    assert [path for path in found if re.search(wrong, path.read_text(), re.MULTILINE)] == []


def test_no_line_ends_in_blanks_and_each_file_in_a_line_break() -> None:
    assert editor()["*"]["trim_trailing_whitespace"] == editor()["*"]["insert_final_newline"] == "true"
    found = {
        path: path.read_text() for pattern in ("*.py", "*.[ch]", "*.sh", "*.md", "*.yml") for path in tracked(pattern)
    }
    assert [path for path, text in found.items() if re.search(r"[ \t]+$", text, re.MULTILINE)] == []
    assert [path for path, text in found.items() if text and not text.endswith("\n")] == []


def newest() -> tuple[str, str]:
    headings: list[tuple[str, str]] = re.findall(
        r"^## (\d+\.\d+\.\d+) - (\d{4}-\d\d-\d\d)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert headings == sorted(headings, key=lambda one: tuple(map(int, one[0].split("."))), reverse=True)
    assert len({version for version, _ in headings}) == len(headings) > 1
    return headings[0]


def test_the_version_is_written_once_and_told_alike() -> None:
    version, date = newest()
    citation = data("CITATION.cff")
    assert testbed.__version__ == version == citation["version"]
    assert dt.date.fromisoformat(date) == citation["date-released"]
    assert "version" not in PYPROJECT["project"]
    assert PYPROJECT["project"]["dynamic"] == ["version"]
    assert PYPROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "testbed.__version__"}


def test_the_citation_has_what_its_form_demands() -> None:
    citation = data("CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert citation["license"] == PYPROJECT["project"]["license"]
    assert citation["message"]
    assert citation["title"]
    assert citation["authors"] == [{"name": "the testbed's contributors"}]
    known = {"cff-version", "message", "type", "title", "abstract", "authors", "version", "date-released", "license"}
    assert citation.keys() <= known | {"keywords"}


def test_the_changelog_says_how_versions_move_and_what_a_version_brought() -> None:
    page = (ROOT / "CHANGELOG.md").read_text()
    (rules,) = re.findall(r"^## How versions move\n(.*?)^## ", page, re.MULTILINE | re.DOTALL)
    for word in ("schema", "cell's id", "kind of finding", "exit status", "option", "experiment file"):
        assert re.search(rf"^\| [^|]*{word}", rules, re.MULTILINE), word
    assert set(re.findall(r"^### (.*)$", page, re.MULTILINE)) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed"}


def hooks() -> list[dict[str, Any]]:
    config = data(".pre-commit-config.yaml")
    assert config.keys() == {"repos"}
    assert [repo["repo"] for repo in config["repos"]] == ["local"]
    found: list[dict[str, Any]] = config["repos"][0]["hooks"]
    return found


def test_hooks_run_programs_of_the_repository_alone() -> None:
    assert {hook["id"] for hook in hooks()} == {"ruff-format", "ruff-check", "mypy"}
    for hook in hooks():
        assert hook["language"] == "system"
        assert hook["entry"].startswith(".venv/bin/")
        assert "additional_dependencies" not in hook


def test_hooks_do_what_make_check_does() -> None:
    done = subprocess.run(["make", "-C", ROOT, "-n", "check"], capture_output=True, text=True, check=False)
    for hook in hooks():
        assert re.search(rf"^{re.escape(hook['entry'])}( |$)", done.stdout, re.MULTILINE), hook["entry"]


def test_the_workflow_runs_what_ci_runs_and_nothing_else() -> None:
    workflow = data(".github/workflows/ci.yml")
    (job,) = workflow["jobs"].values()
    assert [step.get("run") for step in job["steps"] if "uses" not in step] == [".ci/run"]
    assert job["steps"][0]["uses"].startswith("actions/checkout@")
    assert job["timeout-minutes"] == 90
    assert workflow["permissions"] == {"contents": "read"}
    head = (ROOT / ".github/workflows/ci.yml").read_text().partition("name:")[0]
    for words in ("Written, not tried", "2 cores", "24 GiB", "90 minutes"):
        assert words in head


def test_forms_ask_for_what_helps() -> None:
    assert [form.stem for form in FORMS] == ["bug", "config", "hole", "wrong-verdict"]
    assert data(".github/ISSUE_TEMPLATE/config.yml") == {"blank_issues_enabled": False}


@pytest.mark.parametrize("form", [form for form in FORMS if form.stem != "config"], ids=lambda form: form.stem)
def test_a_form_asks_for_machine_command_and_bundle(form: Path) -> None:
    asked = yaml.safe_load(form.read_text())
    assert asked.keys() == {"name", "description", "labels", "body"}
    assert {one["type"] for one in asked["body"]} <= {"markdown", "textarea", "input", "dropdown"}
    fields = {one["id"]: one["attributes"] for one in asked["body"] if one["type"] != "markdown"}
    assert {"command", "doctor", "version"} <= fields.keys()
    assert "testbed doctor --json" in fields["doctor"]["label"]
    assert any("bundle" in f"{one['label']} {one.get('description', '')}".lower() for one in fields.values())
    assert "SECURITY.md" in asked["body"][0]["attributes"]["value"]


@pytest.mark.parametrize("name", ["CHANGELOG.md", "SECURITY.md", ".github/pull_request_template.md"])
def test_every_make_command_that_a_page_names_exists(name: str) -> None:
    named = set(re.findall(r"`(?:[A-Z_]+=\S+ )*make ([a-z-]+)", (ROOT / name).read_text()))
    assert named
    assert named <= helped()


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as a hosting page makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", ["SECURITY.md", "CHANGELOG.md", "docs/upgrading.md"])
def test_a_link_to_a_section_leads_to_it(name: str) -> None:
    page = ROOT / name
    links = re.findall(r"\]\(([^)#]+)(?:#([^)]+))?\)", page.read_text())
    assert links
    for target, anchor in links:
        assert (page.parent / target).exists(), target
        assert not anchor or anchor in anchors(page.parent / target), f"{target}#{anchor}"


def test_reports_of_vulnerabilities_name_no_host_and_no_address() -> None:
    page = (ROOT / "SECURITY.md").read_text()
    assert not re.search(r"https?://|\S@\S", page)
    for words in ("private", "What counts as a vulnerability", "Which versions get fixes", "testbed doctor --json"):
        assert words in page
    major, minor, _ = testbed.__version__.split(".")
    assert f"| {major}.{minor} and the main branch | yes |" in page
