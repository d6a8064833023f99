"""Files of earlier versions: read with the values that they had, or rejected with the message of docs/upgrading.md."""

from __future__ import annotations

import ast
import inspect
import io
import json
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from test_truth import archive, layer

from testbed import cli, errors, rundir, surveys
from testbed.analysis.bench.log_growth import Length, Lookup
from testbed.analysis.bench.prices import EventCost, Ratio
from testbed.analysis.paper import claims as paper_claims
from testbed.analysis.paper import material, paper
from testbed.analysis.reference import make
from testbed.analysis.tables import frames, stored
from testbed.attest import mutate
from testbed.attest.bundle import read_bundle
from testbed.attest.enrol.exchange import read_challenge
from testbed.attest.entries.parse import parse_payload
from testbed.attest.entries.payload import KINDS, parse_header
from testbed.attest.finding import UnsupportedEvidence
from testbed.attest.foreign.keylime_import import import_policy
from testbed.attest.image.claims import parse_claims
from testbed.attest.image.tree import DIRECTORY, Node, measure_tree
from testbed.attest.log.semantics import read_semantics
from testbed.attest.policy.keys import Document
from testbed.attest.policy.make import as_json as policy_as_json
from testbed.attest.policy.reference import load_policy
from testbed.attest.saved.state import load_state
from testbed.attest.verdict import Verdict
from testbed.commands._composefs import show as composefs_digests
from testbed.commands.audit import command as audit_command
from testbed.commands.bench import command as bench
from testbed.commands.bench import measurer as bench_measurer
from testbed.commands.check_results import command as results_command
from testbed.commands.image_digest import command as image_digest
from testbed.commands.log import command as log_command
from testbed.commands.status import as_object as status_object
from testbed.commands.status import command as status_command
from testbed.lab.attestation import collect
from testbed.lab.campaign import conduct
from testbed.lab.machines.save import Saved
from testbed.lab.overview import CacheState, CampaignState, MachineState, Overview
from testbed.lab.probe import Capability
from testbed.lab.probe import as_json as doctor_json
from testbed.record import Record
from testbed.rundir import Campaign, load

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests/golden"
SAMPLES = GOLDEN / "schemas"
BUNDLE = GOLDEN / "bundle-debian-6.12"
PAGE = (ROOT / "docs/upgrading.md").read_text()

VERDICT, AUDIT, SEMANTICS, DOCTOR, IMAGE_DIGEST, BENCH_MEASURER, BENCH_LOG, CLAIM, LOG, STATUS, RESULTS = (
    f"testbed {name} --json"
    for name in (
        *("verify", "audit", "semantics", "doctor", "image-digest", "bench measurer", "bench log", "claim"),
        *("log", "status", "check-results"),
    )
)
ENTRY, TREE, STATE, POLICY = "log entry", "image tree digest", "saved state", "policy"

# What has a number, by something that is defined in the file with that number.
HOLDERS: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (Record, ("record.json",)),
    (Campaign, ("plan.json", "kernels.json")),
    (conduct, ("campaign.json",)),
    (make, ("reference.json",)),
    (collect, ("bundle.json",)),
    (read_bundle, ("bundle.json",)),
    (parse_header, (ENTRY,)),
    (measure_tree, (TREE,)),
    (Document, (POLICY,)),
    (policy_as_json, (POLICY,)),
    (load_state, (STATE,)),
    (Saved, ("saved.json",)),
    (Verdict, (VERDICT,)),
    (audit_command.callback, (AUDIT,)),
    (read_semantics, (SEMANTICS,)),
    (doctor_json, (DOCTOR,)),
    (image_digest.callback, (IMAGE_DIGEST,)),
    (composefs_digests, (IMAGE_DIGEST,)),
    (bench.callback, (BENCH_MEASURER, BENCH_LOG)),
    (bench_measurer.callback, (BENCH_MEASURER, BENCH_LOG)),
    (parse_claims, (CLAIM,)),
    (import_policy, (POLICY,)),
    (read_challenge, ("expected.json",)),
    (paper_claims.read, ("claims.toml",)),
    (paper.write, ("claims.json",)),
    (results_command.callback, (RESULTS,)),
    (log_command.callback, (LOG,)),
    (status_command.callback, (STATUS,)),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One frozen file. ``read``: today's reader of it; ``fate``: the first word that docs/upgrading.md has for it.

    ``expected``: what the reader returns, or the error that it raises, with FILE for the path.
    """

    file: str
    format: str
    number: int
    fate: str
    read: Callable[[Path], object]
    expected: object

    @property
    def path(self) -> Path:
        return SAMPLES / self.file


def plan(path: Path) -> object:
    found = rundir.read_plan(Campaign(path=path.parent))
    return found.campaign, found.order, [cell.measurer for cell in found.blocks[0].cells]


def record(path: Path) -> object:
    found = rundir.read_record(path)
    made_by = found.made_by and (found.made_by.command[:2], len(found.made_by.settings))
    return found.status.value, [(one.image, one.role) for one in found.containers], len(found.samples), made_by


def facts(path: Path) -> object:
    found = rundir.read_facts(Campaign(path=path.parent))
    return found["campaign"], found["tier"], found["experiment"]["name"]


def reference(path: Path) -> object:
    return stored.is_reference(path.parent), len(json.loads(path.read_text())["evidence"])


def survey(path: Path) -> object:
    found = surveys.read_survey(path)
    return found.name, [(one.kernel, one.seconds, bool(one.refused), one.problem) for one in found.kernels]


def state(path: Path) -> object:
    found = load_state(path)
    return found.offset, found.entries, [one.counts_as for one in found.containers]


def policy(path: Path) -> object:
    found = load_policy(path)
    return sorted(found.images), min(found.containers)[:3], found.cgroups, sorted(found.noted)


def bundle(path: Path) -> object:
    done = verify(path, path / "ak.pub")
    return done["verdict"], done["entries"], len(done["containers"])


def entries(path: Path) -> object:
    lines = [line.split() for line in path.read_text().splitlines()]
    for name, payload in lines:
        parse_payload(name.encode(), bytes.fromhex(payload))
    return [name for name, _ in lines]


def tree(path: Path) -> object:
    """Whether the digest in the file is the one that its tree has today."""

    def file(content: bytes) -> Node:
        return Node(mode=stat.S_IFREG | 0o644, open=lambda: io.BytesIO(content))

    nodes = {b"": DIRECTORY, b"bin": DIRECTORY, b"bin/true": file(b"true\n"), b"etc": DIRECTORY}
    nodes[b"etc/hosts"] = file(b"127.0.0.1 localhost\n")
    return json.loads(path.read_text())["images"][0]["digest"] == measure_tree(nodes).digest.hex()


def saved(path: Path) -> object:
    found = Saved.load(path.parent)
    assert found is not None
    return found.spec.name, found.spec.pcr_banks, found.spec.tpm, found.spec.store


def challenge(path: Path) -> object:
    found = read_challenge(path)
    return found.pcrs, found.nonce[:2].hex(), len(found.ak), found.issuer


def claims(path: Path) -> object:
    return [(one.id, one.metric, dict(one.where), one.minutes) for one in paper_claims.read(path)]


def checked_results() -> object:
    return run("check-results", ROOT / "results/reference-paper", "--json")


def judged_claims() -> object:
    """Return ``claims.json`` of a paper without figures: it has the claims of the paper's campaign."""
    data = material.gather([load(Campaign(path=ROOT / "results/reference-paper"))], ())
    with tempfile.TemporaryDirectory() as place:
        paper.write(data, paper_claims.read(SAMPLES / "claims-1.toml"), Path(place))
        return json.loads((Path(place) / "claims.json").read_text())


def decoded() -> object:
    """Return what ``testbed log`` says of the entry that the sample has."""
    done = CliRunner().invoke(cli.main, ["log", f"{BUNDLE}", "--json"])
    return json.loads(done.stdout.splitlines()[3])


def status() -> object:
    ran = CampaignState(path=Path("results/one"), name="one", tier="icount", planned=2, complete=1, age=60.0, runner=7)
    machine = MachineState(machine="tb-1", directory=Path("m"), state="running", owner=7, command="testbed run")
    kept = CacheState(path=Path("cache"), kinds={"kernel": 1 << 20}, saves=0)
    return status_object(
        Overview(results=Path("results"), campaigns=(ran,), machines=(machine,), cache=kept, missing=("swtpm",))
    )


def as_today(today: Callable[[], object]) -> Callable[[Path], object]:
    """Return a reader of output that nobody here reads: whether each of its keys is still written, as it was."""
    return lambda path: list(lost(json.loads(path.read_text()), today()))


def claimed() -> object:
    """Return what ``testbed claim`` says of an image with one script in it."""
    with tempfile.TemporaryDirectory() as place:
        image = archive(Path(place) / "image", [layer({"usr/bin/busybox": b"#!/usr/bin/busybox\n"})])
        return run("claim", "container-image", "exec-static", "--image", image, "--json")


def lost(then: object, now: object, where: str = "") -> Iterator[str]:
    if type(then) is not type(now):
        yield f"{where}: {type(then).__name__} has become {type(now).__name__}"
    elif isinstance(then, dict) and isinstance(now, dict):
        yield from (f"{where}.{key}" for key in then.keys() - now.keys())
        for key in then.keys() & now.keys():
            yield from lost(then[key], now[key], f"{where}.{key}")
    elif isinstance(then, list) and isinstance(now, list) and then:
        yield from lost(then[0], now[0] if now else None, f"{where}[0]")


def run(*words: object) -> dict[str, Any]:
    done = CliRunner().invoke(cli.main, [f"{word}" for word in words])
    assert done.exit_code in (0, 1), done.output
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def verify(directory: Path, ak: Path) -> dict[str, Any]:
    nonce = json.loads((directory / "bundle.json").read_text())["nonce"]
    return run("verify", directory, "--ak", ak, "--nonce", nonce, "--json")


def doctor() -> object:
    found = [Capability(name="swtpm", ok=True, found="0.7.1"), Capability(name="kvm", ok=False, found="none")]
    return json.loads(doctor_json(found))


def bench_rows(path: Path) -> object:
    """Read it into the classes that the command writes."""
    said = json.loads(path.read_text())
    rows = [EventCost(**row) for row in said.get("rows", ())]
    ratios = [Ratio(**{key: value for key, value in one.items() if key != "ok"}) for one in said.get("ratios", ())]
    lengths = [
        Length(**one | {"rows": tuple(EventCost(**row) for row in one["rows"])}) for one in said.get("lengths", ())
    ]
    steps = [Lookup(**said["lookup"]).step] if "lookup" in said else []
    return len(rows), [one.ok for one in ratios], [one.entries for one in lengths], steps


POLICY_EARLY = (["registry/one:1", "two"], "*", (), ["violation"])
EARLY, NOW = "smoke-icount-0123abcd", "overhead-icount-f7069a6d"
KINDS_1 = [f"ctr-{kind}" for kind in ("file", "start", "image", "launch", "violation", "beat", "join")]
KINDS_2 = [*KINDS_1, *(f"ctr-{kind}" for kind in ("loss", "mounts", "program", "measurer"))]
OLD_STATE = "FILE: schema: expected 4, got {}\n  hint: verify once without --since to make a new one"

TABLE = (
    Sample("plan-1-early.json", "plan.json", 1, "read", plan, (EARLY, "shuffled", ["container-file", "none"])),
    Sample("plan-1.json", "plan.json", 1, "read", plan, (NOW, "williams", ["container-file", "none"])),
    Sample("record-1-early.json", "record.json", 1, "read", record, ("ok", [("tools", 0)], 2, None)),
    Sample("record-1.json", "record.json", 1, "read", record, ("ok", [("exec", 0)], 2, None)),
    Sample("record-2.json", "record.json", 2, "read", record, ("ok", [("exec", 0)], 2, (("testbed", "run"), 6))),
    Sample("campaign-1-early.json", "campaign.json", 1, "read", facts, (EARLY, "icount", "smoke")),
    Sample("campaign-1.json", "campaign.json", 1, "read", facts, (NOW, "icount", "overhead")),
    Sample("reference-1.json", "reference.json", 1, "read", reference, (True, 6)),
    Sample(
        "survey-1.json",
        "kernels.json",
        1,
        "read",
        survey,
        ("kernels", [("debian-6.1", 14.2, True, ""), ("debian-forky", None, False, "no package")]),
    ),
    Sample("bundle-1", "bundle.json", 1, "read", bundle, ("trusted", 7, 2)),
    Sample("policy-1-files.json", POLICY, 1, "read", policy, POLICY_EARLY),
    Sample("policy-1-claims.json", POLICY, 1, "read", policy, POLICY_EARLY),
    Sample(
        "policy-1.json", POLICY, 1, "read", policy, (["one"], "*", ("/web.slice",), ["ambiguous-identity", "not-bound"])
    ),
    Sample("policy-1-verity.json", POLICY, 1, "read", policy, (["one"], "*", (), [])),
    Sample("state-1.json", STATE, 1, "rejected", state, OLD_STATE.format(1)),
    Sample("state-2.json", STATE, 2, "rejected", state, OLD_STATE.format(2)),
    Sample("state-3.json", STATE, 3, "rejected", state, OLD_STATE.format(3)),
    Sample("state-4.json", STATE, 4, "read", state, (14276, 64, [1, 2, 3])),
    Sample("saved-1-early.json", "saved.json", 1, "read", saved, ("debian-6.12", ("sha256",), True, None)),
    Sample("saved-1.json", "saved.json", 1, "read", saved, ("debian-6.12", ("sha256",), True, None)),
    Sample("entry-1.txt", ENTRY, 1, "read", entries, KINDS_1),
    Sample("entry-2.txt", ENTRY, 2, "read", entries, KINDS_2),
    Sample("entry-3.txt", ENTRY, 3, "read", entries, KINDS_2),
    Sample("tree-1.json", TREE, 1, "read", tree, False),
    Sample("tree-2.json", TREE, 2, "read", tree, True),
    Sample("tree-2.json", IMAGE_DIGEST, 1, "written", as_today(lambda: run("image-digest", BUNDLE, "--json")), []),
    *(
        Sample(name, VERDICT, 1, "written", as_today(lambda: verify(BUNDLE, BUNDLE / "ak.pub")), [])
        for name in ("verdict-1-early.json", "verdict-1.json")
    ),
    Sample("verdict-2.json", VERDICT, 2, "written", as_today(lambda: verify(BUNDLE, BUNDLE / "ak.pub")), []),
    Sample(
        "challenge-1.json", "expected.json", 1, "read", challenge, ("sha256:10,11", "0001", 282, "CN=an invented maker")
    ),
    Sample(
        "claims-1.toml",
        "claims.toml",
        1,
        "read",
        claims,
        [("start-file", "overhead", {"workload": "start-warm", "measurer": "container-file"}, 45)],
    ),
    Sample("claims-1.json", "claims.json", 1, "written", as_today(judged_claims), []),
    Sample("check-results-1.json", RESULTS, 1, "written", as_today(checked_results), []),
    Sample("log-1.json", LOG, 1, "written", as_today(decoded), []),
    Sample("status-1.json", STATUS, 1, "written", as_today(status), []),
    Sample("claim-1.json", CLAIM, 1, "written", as_today(claimed), []),
    Sample("audit-1.json", AUDIT, 1, "written", as_today(lambda: run("audit", SAMPLES / "bundle-1", "--json")), []),
    Sample(
        "semantics-1.json",
        SEMANTICS,
        1,
        "written",
        as_today(lambda: run("semantics", SAMPLES / "bundle-1/ima.bin", "--json")),
        [],
    ),
    Sample("doctor-1.json", DOCTOR, 1, "written", as_today(doctor), []),
    Sample("bench-measurer-1.json", BENCH_MEASURER, 1, "written", bench_rows, (2, [True], [], [])),
    Sample("bench-log-1.json", BENCH_LOG, 1, "written", bench_rows, (0, [], [1000], [32.2])),
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Sample], Path]:
    """Return a copy of a sample under the name that its file has in use; what a saved machine needs is there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cache").mkdir()
    for name in ("vmlinuz", "initrd", "disk"):
        (tmp_path / "cache" / name).touch()

    def copy(sample: Sample) -> Path:
        if sample.path.is_dir():
            return Path(shutil.copytree(sample.path, tmp_path / sample.file))
        name = sample.format if sample.format.endswith(".json") else sample.file
        return Path(shutil.copyfile(sample.path, tmp_path / name))

    return copy


def outcome(read: Callable[[Path], object], path: Path) -> object:
    """Return what a reader returns or raises, with FILE for the path."""
    try:
        return read(path)
    except errors.TestbedError as error:
        return f"{error}".replace(f"{path}", "FILE")


@pytest.mark.parametrize("sample", TABLE, ids=lambda sample: f"{sample.format}: {sample.file}")
def test_a_file_of_each_version_is_read_or_rejected_as_promised(
    sample: Sample, place: Callable[[Sample], Path]
) -> None:
    got = outcome(sample.read, place(sample))
    assert got == sample.expected
    if sample.fate == "rejected":
        assert f"```text\n{got}\n```" in PAGE


def test_no_sample_lies_there_unread() -> None:
    assert {path.name for path in SAMPLES.iterdir()} == {sample.file for sample in TABLE} | {"README.md"}
    listed = set(re.findall(r"`([a-z0-9-]+(?:\.[a-z]+|/))`", (SAMPLES / "README.md").read_text()))
    assert {sample.file if sample.path.is_file() else f"{sample.file}/" for sample in TABLE} <= listed


def test_a_campaign_of_the_first_version_is_tabulated(tmp_path: Path) -> None:
    run_directory = tmp_path / "runs/6954912bc0fc-0"
    run_directory.mkdir(parents=True)
    for name in ("plan", "campaign"):
        shutil.copyfile(SAMPLES / f"{name}-1-early.json", tmp_path / f"{name}.json")
    shutil.copyfile(SAMPLES / "record-1-early.json", run_directory / "record.json")
    rows = frames.rows(load(Campaign(path=tmp_path)))
    assert rows[["measurer", "value", "warmup", "operations"]].to_numpy().tolist() == [
        ["container-file", 0.25, True, 1.0],
        ["container-file", 0.125, False, 1.0],
    ]


def test_a_log_goes_on_from_a_state_of_today() -> None:
    nonce = json.loads((BUNDLE / "bundle.json").read_text())["nonce"]
    since = ("--since", SAMPLES / "state-4.json", "--recheck")
    done = run("verify", BUNDLE, "--ak", BUNDLE / "ak.pub", "--nonce", nonce, *since, "--json")
    assert (done["verdict"], sorted(done["containers"])) == ("trusted", ["1", "2", "3"])


@pytest.mark.parametrize(
    ("name", "message", "status"),
    [
        ("plan-1.json", "FILE: expected an object of schema 1, got 2", 4),
        ("record-2.json", "FILE: expected an object of schema 1 or 2, got 3", 4),
        ("campaign-1.json", "FILE: expected an object of schema 1, got 2", 4),
        ("survey-1.json", "FILE: expected an object of schema 1, got 2", 4),
        ("policy-1.json", "FILE: key 'schema': 'Input should be 1', got 2", 2),
        ("state-4.json", "FILE: schema: expected 4, got 5", 2),
        ("saved-1.json", "FILE: schema 2, expected 1", 3),
        ("bundle-1", "bundle.json: schema: expected 1, got 2", 4),
    ],
)
def test_a_file_of_a_later_version_is_rejected(
    name: str, message: str, status: int, place: Callable[[Sample], Path]
) -> None:
    sample = next(sample for sample in TABLE if sample.file == name)
    path = place(sample)
    file = path / "bundle.json" if path.is_dir() else path
    raw = json.loads(file.read_text())
    file.write_text(json.dumps(raw | {"schema": raw["schema"] + 1}))
    with pytest.raises(errors.TestbedError) as caught:
        (read_bundle if path.is_dir() else sample.read)(path)
    assert caught.value.message.replace(f"{path}", "FILE") == message
    assert caught.value.exit_status == status
    row = next(line for line in PAGE.splitlines() if f"| `{message}` |" in line)
    assert f"`{sample.format}`" in row or row.startswith(f"| {sample.format} |")
    assert re.search(rf"\| {status}\b[^|]*\|$", row)


def test_an_entry_of_a_later_version_is_unsupported() -> None:
    name, payload = (SAMPLES / "entry-3.txt").read_text().splitlines()[0].split()
    later = payload[:8] + "0400" + payload[12:]
    with pytest.raises(UnsupportedEvidence) as caught:
        parse_payload(name.encode(), bytes.fromhex(later))
    assert f"| {ENTRY} | `{caught.value.message}` |" in PAGE


def test_a_sample_of_entries_has_every_kind() -> None:
    assert [name.decode() for name in KINDS] == KINDS_2


def numbers(source: str) -> set[int]:
    """Return each schema number or version that a file has: of constants, of JSON that it writes, of a model's key."""
    found: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id in ("SCHEMA", "VERSION", "VERSIONS") for target in node.targets
        ):
            found |= constants(node.value)
        elif isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            found |= {
                number
                for key, value in pairs
                if isinstance(key, ast.Constant) and key.value == "schema"
                for number in constants(value)
            }
        elif isinstance(node, ast.AnnAssign) and node.value is not None and "alias='schema'" in ast.unparse(node.value):
            found |= constants(node.annotation)
    return found


def constants(node: ast.expr) -> set[int]:
    if isinstance(node, ast.Subscript):
        return constants(node.slice)
    if isinstance(node, ast.Tuple):
        return {number for one in node.elts for number in constants(one)}
    return {node.value} if isinstance(node, ast.Constant) and type(node.value) is int else set()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("SCHEMA = 7", {7}),
        ("VERSIONS = (1, 2)", {1, 2}),
        ("said = {'schema': 3, 'version': 4}", {3}),
        ("class A:\n    version: Literal[5] = Field(alias='schema')", {5}),
        ("SCHEMA = pa.schema([])\n_VERSION = 2\nbump = {'schema': SCHEMA}", set()),
    ],
)
def test_a_number_is_found_wherever_it_is_written(source: str, expected: set[int]) -> None:
    assert numbers(source) == expected


def numbered_files() -> dict[Path, set[int]]:
    """Return the numbers of each file of the package, but for attacks, which write any."""
    (attacks,) = map(Path, mutate.__path__)
    found = {path: numbers(path.read_text()) for path in sorted(Path(cli.__file__).parent.rglob("*.py"))}
    return {path: told for path, told in found.items() if told and not path.is_relative_to(attacks)}


def test_every_number_in_the_code_has_a_sample() -> None:
    held: dict[Path, set[str]] = {}
    for holder, formats in HOLDERS:
        held.setdefault(Path(inspect.getfile(inspect.unwrap(holder))), set()).update(formats)
    known = {(sample.format, sample.number) for sample in TABLE}
    files = numbered_files()
    assert files.keys() == held.keys(), "a file with a number that HOLDERS does not have, or one without a number"
    lacking = {
        (path.name, name, number)
        for path, told in files.items()
        for number in told
        for name in held[path]
        if (name, number) not in known
    }
    assert lacking == set()
    assert {name for names in held.values() for name in names} == {sample.format for sample in TABLE}


@pytest.mark.parametrize(("constant", "name"), [("TESTBED_VERSION", ENTRY), ("TESTBED_TREE_VERSION", TREE)])
def test_the_version_that_the_kernel_writes_has_a_sample(constant: str, name: str) -> None:
    (number,) = re.findall(rf"^#define {constant} (\d+)$", (ROOT / "bpf/measurer.h").read_text(), re.MULTILINE)
    assert int(number) == max(sample.number for sample in TABLE if sample.format == name)


def test_the_page_names_every_number_and_what_becomes_of_it() -> None:
    rows = re.findall(r"^\| `?([^|`]+?)`? \| (\d+) \| ([a-z]+)\b", PAGE, re.MULTILINE)
    assert {(name, int(number), fate) for name, number, fate in rows} == {
        (sample.format, sample.number, sample.fate) for sample in TABLE
    }
