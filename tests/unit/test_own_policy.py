"""A person's own IMA policy and kernel words: what of them is refused, and that both are in a cell's id."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from test_measurers import FakeGuest

from testbed import cli, measurers, plan, plugins, spec
from testbed.errors import SpecError
from testbed.measurers import _policy
from testbed.record import Tier

LINES = ("measure func=BPRM_CHECK mask=MAY_EXEC", "dont_measure fsmagic=0x9fa0", "measure uid>1000 permit_directio")
RULES = "# what is executed\n{}\n\n{}\n  {}\n".format(*LINES)
FILE = """
name = "mine"
question = "?"
measurers = ["none"]
workloads = ["tools"]
"""


def written(path: Path, content: str | bytes = RULES) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def loaded(tmp_path: Path, text: str = FILE, **more: Any) -> spec.Experiment:
    return spec.load(written(tmp_path / "mine.toml", text), **more)


def cells(experiment: spec.Experiment) -> dict[str, str]:
    decided = plan.resolve(experiment, tier=Tier.TCG, kernels={"debian-6.12": "k"}, inputs={})
    return {cell.measurer: cell.id for cell in decided.cells}


def test_a_policy_is_a_measurer_of_the_experiment_and_its_lines_are_in_the_cells_id(tmp_path: Path) -> None:
    policy = written(tmp_path / "Exec-Only.policy")
    first = loaded(tmp_path, ima_policies=[policy])
    assert first.measurers == ("none", "ima-policy-exec-only")
    assert first.ima_policies == (_policy.ImaPolicy(name="ima-policy-exec-only", lines=LINES),)
    written(policy, f"# another comment\n{RULES}")
    assert cells(loaded(tmp_path, ima_policies=[policy])) == cells(first)
    written(policy, f"{RULES}measure func=MMAP_CHECK\n")
    changed = cells(loaded(tmp_path, ima_policies=[policy]))
    assert changed["none"] == cells(first)["none"]
    assert changed["ima-policy-exec-only"] != cells(first)["ima-policy-exec-only"]


def test_a_file_names_policies_beside_it_and_options_add_to_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "one.policy")
    other = written(tmp_path / "two.policy")
    monkeypatch.chdir("/")
    text = f'{FILE}ima_policies = ["one.policy"]\nkernel_args = ["quiet"]\n'
    found = loaded(tmp_path, text, ima_policies=[other], kernel_args=["ima_hash=sha512"])
    assert found.measurers == ("none", "ima-policy-one", "ima-policy-two")
    assert found.kernel_args == ("quiet", "ima_hash=sha512")
    with pytest.raises(SpecError, match="ima-policy-one is listed twice"):
        loaded(tmp_path, text, ima_policies=[tmp_path / "one.policy"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected rules of an IMA policy, got none"),
        ("# only a comment\n", "expected rules of an IMA policy, got none"),
        (b"measure func=BPRM_CHECK\n\xff", "expected UTF-8, got byte 0xff at 24"),
        ("audit func=BPRM_CHECK\n", "expected a rule that begins with `measure`, got none"),
        ("dont_measure fsmagic=0x1\n", "expected a rule that begins with `measure`, got none"),
        ("\nmesure func=BPRM_CHECK\n", "line 2: expected a rule, got 'mesure func=BPRM_CHECK'"),
        ("measure BPRM_CHECK\n", "line 1: expected KEY=VALUE, got 'BPRM_CHECK'"),
        ("measure func=\n", "line 1: expected KEY=VALUE, got 'func='"),
        ("measure func=BPRM_CHECK\n" * 171, "expected at most 4095 bytes of rules, got 4104"),
    ],
)
def test_what_the_kernel_would_refuse_is_told_before_anything_boots(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    path = written(tmp_path / "x.policy", content)
    with pytest.raises(SpecError) as caught:
        _policy.read(path)
    assert message in caught.value.message
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_as_many_rules_as_the_kernel_takes_are_taken(tmp_path: Path) -> None:
    assert len(_policy.read(written(tmp_path / "x.policy", "measure func=BPRM_CHECK\n" * 170)).lines) == 170


@pytest.mark.parametrize(
    ("name", "message"), [("absent.policy", "cannot be read"), (" .policy", "no name for a measurer")]
)
def test_a_policy_needs_a_file_and_a_name(tmp_path: Path, name: str, message: str) -> None:
    if name != "absent.policy":
        written(tmp_path / name)
    with pytest.raises(SpecError, match=message):
        _policy.read(tmp_path / name)


def test_the_guest_gets_the_rules_and_the_desk_needs_none() -> None:
    policy = _policy.ImaPolicy(name="ima-policy-x", lines=LINES)
    guest, measurer = FakeGuest(), plugins.measurer("ima-policy-x", [policy])
    with measurer.attach(measurer, guest):
        assert guest.files[measurers.POLICY_STAGED].decode().splitlines() == list(LINES)
        # As many commands as of a measurer with a module and programs.
        assert [line.split()[0] for line in guest.ran] == ["sh", "modinfo", "/opt/testbed/measurer"]
    desk = plugins.measurer("ima-policy-x")
    assert (desk.name, desk.policy, desk.pcr, desk.claim([])) == ("ima-policy-x", (), None, frozenset())


def test_a_policy_that_is_not_given_is_no_measurer(tmp_path: Path) -> None:
    experiment = loaded(tmp_path, FILE.replace('["none"]', '["none", "ima-policy-x"]'))
    with pytest.raises(SpecError, match="no measurer 'ima-policy-x'"):
        cells(experiment)


@pytest.mark.parametrize("word", ["", "a b", "a\nb", '"x"', "it's", "a\\b", "\xe9", "x" * 201])
def test_a_kernel_word_is_one_plain_word(tmp_path: Path, word: str) -> None:
    with pytest.raises(SpecError, match=r"key 'kernel_args\.0'"):
        loaded(tmp_path, kernel_args=[word])


@pytest.mark.parametrize("command", ["run", "plan"])
def test_the_commands_take_both_and_say_what_is_wrong(tmp_path: Path, command: str) -> None:
    path = written(tmp_path / "mine.toml", FILE)
    bad = written(tmp_path / "bad.policy", "")
    done = CliRunner().invoke(cli.main, [command, str(path), "--tier", "tcg", "--ima-policy", str(bad)])
    assert (done.exit_code, "expected rules of an IMA policy" in done.stderr) == (2, True)
    done = CliRunner().invoke(cli.main, [command, str(path), "--tier", "tcg", "--kernel-arg", "root=/dev/sda"])
    assert (done.exit_code, "the testbed sets this word itself" in done.stderr) == (2, True)
