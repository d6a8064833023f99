"""Experiment files: each mistake is named with file, key and what was got."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from testbed import spec
from testbed.errors import SpecError

ROOT = Path(__file__).parents[2]
GOOD = """
name = "mine"
question = "What does it cost?"
measurers = ["none", "ima-exec"]
workloads = ["tools"]
"""


def load(tmp_path: Path, text: str | bytes) -> spec.Experiment:
    path = tmp_path / "mine.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return spec.load(path)


def refusal(tmp_path: Path, text: str | bytes) -> SpecError:
    with pytest.raises(SpecError) as caught:
        load(tmp_path, text)
    assert str(tmp_path / "mine.toml") in caught.value.message
    assert caught.value.hint
    assert caught.value.exit_status == 2
    return caught.value


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*.toml")), ids=lambda path: path.name)
def test_the_experiments_of_the_repository_are_good(path: Path) -> None:
    assert spec.load(path).name == path.stem


def test_what_is_not_said_has_a_default(tmp_path: Path) -> None:
    experiment = load(tmp_path, GOOD)
    assert experiment.measurers == ("none", "ima-exec")
    assert (experiment.tier, experiment.blocks, experiment.attacks) == ("auto", 6, ("none",))
    assert (experiment.machine.vcpus, experiment.machine.memory_mib) == (1, 1024)


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    text = GOOD + 'seed = 7\n[machine]\nvcpus = 2\n[[exclude]]\nruntime = "crun"\nmeasurer = "none"\n'
    experiment = load(tmp_path, text)
    assert (experiment.seed, experiment.machine.vcpus) == (7, 2)
    assert (experiment.exclude[0].runtime, experiment.exclude[0].measurer) == ("crun", "none")
    assert experiment.exclude[0].kernel is None


def test_an_unknown_key_gets_the_known_ones(tmp_path: Path) -> None:
    error = refusal(tmp_path, GOOD + "blokcs = 9\n")
    assert "unknown key 'blokcs' = 9" in error.message
    assert "blocks" in error.hint


def test_an_unknown_key_of_a_table_is_named_in_full(tmp_path: Path) -> None:
    assert "'machine.cpus'" in refusal(tmp_path, GOOD + "[machine]\ncpus = 2\n").message
    assert "'exclude.0.kernels'" in refusal(tmp_path, GOOD + '[[exclude]]\nkernels = "x"\n').message


@pytest.mark.parametrize("key", ["name", "question", "measurers", "workloads"])
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    text = re.sub(rf"^{key} = .*$", "", GOOD, flags=re.MULTILINE)
    assert f"key '{key}' is missing" in refusal(tmp_path, text).message


def test_every_mistake_has_its_line(tmp_path: Path) -> None:
    error = refusal(tmp_path, GOOD + "blocks = 0\nseed = -1\n")
    assert len(error.message.splitlines()) == 2


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tier", '"fast"'),
        ("blocks", "0"),
        ("blocks", "1001"),
        ("blocks", '"many"'),
        ("blocks", "1.5"),
        ("warmups", "-1"),
        ("iterations", "0"),
        ("seed", "-1"),
        ("delta", "0"),
        ("delta", "1"),
        ("delta", "nan"),
        ("kernels", "[]"),
        ("kernels", '"debian-6.12"'),
        ("runtimes", '["../crun"]'),
        ("attacks", '[""]'),
        ("baseline", '"None"'),
        ("exclude", '{ kernel = "x" }'),
        ("machine", "{ vcpus = 0 }"),
        ("machine", "{ memory_mib = 511 }"),
        ("machine", "{ pcr_banks = [] }"),
        ("machine", '{ pcr_banks = ["sha1"] }'),
        ("machine", '{ pcr_banks = ["sha256", "sha256"] }'),
        ("machine", '{ pcr_banks = ["sha256", "md5"] }'),
    ],
)
def test_a_bad_value_is_named_with_its_key(tmp_path: Path, key: str, value: str) -> None:
    assert f"key '{key}" in refusal(tmp_path, f"{GOOD}{key} = {value}\n").message


@pytest.mark.parametrize("name", ["", "Mine", "a/b", "-a", "a b", "x" * 61])
def test_a_name_is_one_plain_word(tmp_path: Path, name: str) -> None:
    assert "key 'name'" in refusal(tmp_path, GOOD.replace('"mine"', f'"{name}"')).message


@pytest.mark.parametrize("axis", ["kernels", "runtimes", "measurers", "workloads", "attacks"])
def test_a_value_listed_twice_is_named(tmp_path: Path, axis: str) -> None:
    text = re.sub(rf"^{axis} = .*$", "", GOOD, flags=re.MULTILINE) + f'{axis} = ["one", "two", "one"]\n'
    assert f"{axis}: one is listed twice" in refusal(tmp_path, text).message


@pytest.mark.parametrize("text", ["name = ", "= 1", "[", "name = 'a'\nname = 'b'", "{}"])
def test_what_is_not_toml_is_said_to_be_not_toml(tmp_path: Path, text: str) -> None:
    assert "not TOML: " in refusal(tmp_path, text).message


def test_an_empty_file_misses_its_keys(tmp_path: Path) -> None:
    assert "is missing" in refusal(tmp_path, "").message


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    assert "expected UTF-8, got byte 0xff at 8" in refusal(tmp_path, b"name = '\xff\xfe'").message


def test_a_byte_order_mark_is_named(tmp_path: Path) -> None:
    assert "a byte order mark (U+FEFF)" in refusal(tmp_path, b"\xef\xbb\xbf" + GOOD.encode()).message


@pytest.mark.parametrize("text", [f"x = {'[' * 100_000}", f"x = {'9' * 10_000}"], ids=["deep", "long"])
def test_what_no_reader_takes_is_not_toml(tmp_path: Path, text: str) -> None:
    assert "not TOML: " in refusal(tmp_path, text).message
    with pytest.raises(SpecError, match="the value is not TOML"):
        overridden(tmp_path, f"seed{text.removeprefix('x ')}")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("blocks", "true"),
        ("blocks", '"6"'),
        ("blocks", "6.0"),
        ("seed", "false"),
        ("bpf_stats", '"yes"'),
        ("bpf_stats", "1"),
        ("bpf_stats", '"true"'),
        ("delta", '"0.01"'),
        ("delta", "nan"),
        ("limits.tries", "true"),
        ("limits.host_steal", "true"),
        ("limits.guest_steal", "nan"),
        ("machine.vcpus", '"2"'),
        ("machine.memory_mib", "1024.0"),
        ("machine.pcr_banks", '"sha256"'),
        ("kernel_args", '"quiet"'),
        ("name", "1"),
        ("start", "true"),
    ],
)
def test_a_value_of_another_type_is_named_with_its_key(tmp_path: Path, key: str, value: str) -> None:
    with pytest.raises(SpecError) as caught:
        overridden(tmp_path, f"{key}={value}")
    assert f"--set {key}={value}: key '{key}" in caught.value.message


def test_a_path_with_a_zero_byte_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read: embedded null byte"):
        load(tmp_path, GOOD + 'ima_policies = ["a\\u0000/b"]\n')


def test_no_file_and_a_directory_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.toml", tmp_path):
        with pytest.raises(SpecError, match="cannot be read") as caught:
            spec.load(path)
        assert str(path) in caught.value.message


def test_the_same_banks_are_the_same_machine(tmp_path: Path) -> None:
    some, other = (
        load(tmp_path, f"{GOOD}machine.pcr_banks = {list(banks)}\n")
        for banks in (("sha512", "sha256"), ("sha256", "sha512"))
    )
    assert some.machine == other.machine
    assert load(tmp_path, GOOD).machine.pcr_banks == ("sha256",)


def overridden(tmp_path: Path, *overrides: str, text: str = GOOD) -> spec.Experiment:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return spec.load(path, overrides)


def test_an_option_takes_the_place_of_a_key(tmp_path: Path) -> None:
    options = (
        "machine.vcpus=2",
        'name = "other"',
        "blocks=3",
        "blocks = 3",
        'workloads=["a", "b"]',
        "machine.memory_mib=600",
    )
    experiment = overridden(tmp_path, *options, text=GOOD + "blocks = 1\n[machine]\nvcpus = 4\n")
    assert (experiment.machine.vcpus, experiment.machine.memory_mib) == (2, 600)
    assert (experiment.name, experiment.blocks, experiment.workloads) == ("other", 3, ("a", "b"))
    assert experiment.measurers == ("none", "ima-exec")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("blocks", "expected KEY=VALUE"),
        ("=3", "expected KEY=VALUE"),
        ("machine..vcpus=2", "expected KEY=VALUE"),
        ("name=other", "not TOML"),
        ("blocks=", "not TOML"),
        ("blocks=3\nseed=1", "more than one value"),
        ("blocks=0", "key 'blocks'"),
        ("seed=3", "--set seed=2 and --set seed=3: expected one value of a key"),
        ("blocks.x=1", "key 'blocks'"),
        ("machine=3", "key 'machine'"),
        ("machine.vcpus=99", "key 'machine.vcpus'"),
        ("machine.cpus=2", "unknown key 'machine.cpus'"),
        ("blokcs=2", "unknown key 'blokcs'"),
        ("name.first=1", "'name' is not a table, got 'mine'"),
        ('measurers=["none", "none"]', "none is listed twice"),
    ],
)
def test_a_bad_option_is_named(tmp_path: Path, option: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        overridden(tmp_path, "seed=2", option)
    assert f"--set {option}" in caught.value.message
    assert said in caught.value.message
    assert caught.value.hint


def test_what_the_file_says_wrong_is_not_the_options_fault(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        overridden(tmp_path, "blocks=2", text=GOOD + "seed = -1\n")
    assert caught.value.message.startswith(f"{tmp_path / 'mine.toml'}: key 'seed'")
    assert "--set" not in caught.value.message


def test_every_key_is_explained() -> None:
    explained = set(re.findall(r"^\| `([a-z_.]+)` \|", (ROOT / "docs/experiments.md").read_text(), re.MULTILINE))
    keys = {key for key in spec.Experiment.model_fields if key not in ("machine", "exclude", "limits")}
    keys |= {f"machine.{key}" for key in spec.Shape.model_fields}
    keys |= {f"limits.{key}" for key in spec.Limits.model_fields}
    keys |= {f"exclude.{key}" for key in spec.Exclude.model_fields}
    assert explained == keys
