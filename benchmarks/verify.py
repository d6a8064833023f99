# ruff: noqa: INP001, E402 - a program, not a package; it finds the writers of tests/unit
"""`testbed verify` and other verifiers on the same log, in one run.

    python benchmarks/verify.py [--entries N] [--rounds N] [--quick] [--keylime-python PYTHON] [-o FILE] [--raw FILE]

prints a table in Markdown: medians of interleaved rounds, what each contestant checked for that time, memory, and how
time grows with the log. The log and the quote are made again, the same each time except for the key.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import resource
import ssl
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "unit")]

import contestants
import evidence
import hostile
import log

from testbed import shell
from testbed.attest.rivals import verifiers

BANK = "sha256"
MORE = 1000  # entries that a log has grown by since it was verified
TIMEOUT_SECONDS = 600
RSASSA = 0x0014
OURS = "ours"
_EXPLANATION = """\
Wall and CPU time (user and system, of all processes) are of judging alone. Ours and Keylime's are taken around the call
in a fresh process, without starting Python, importing and loading the policy, which is reported separately; evmctl's
are of its whole process. Ours reads the log from disk in that time. Keylime has it in memory as text, cut into lines,
all entries on PCR 10, as it refuses others. MiB: what was needed at the worst over what the process held when the
policy was loaded; Keylime's has the log's lines in it; of two processes it is the first one's. What loading a policy
leaves free but not given back is used again and does not count: the second table's is of processes that loaded none."""
Measured = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A contestant. `checks`: what it did in the time that is measured; `None`: it is no row of the first table."""

    name: str
    checks: str | None
    run: Callable[[], Measured]


def main() -> None:
    options = _options()
    sizes = sorted({max(2 * MORE, options.entries // part) for part in (100, 10, 1)})
    with tempfile.TemporaryDirectory(prefix="testbed-benchmark-", dir=options.scratch) as scratch:
        cases = {size: Path(scratch) / f"log-{size}" for size in [*sizes, options.entries + MORE]}
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        for size, case in cases.items():
            _say(f"writing a log of {size} entries")
            prepare(case, size, key)
        for name in hostile.LOGS:
            _say(f"writing a hostile log: {name}")
            hostile.prepare(Path(scratch) / f"hostile-{name}", name, options.entries, key)
        rows = _rows(cases, sizes, options)
        raw = measure(rows, options.rounds)
        text = report(rows, raw, cases, sizes, options)
    for name, said in ((options.output, text), (options.raw, json.dumps(raw, indent=1) + "\n")):
        if name:
            Path(name).write_text(said, encoding="utf-8")
    sys.stdout.write(text)


def prepare(case: Path, count: int, key: rsa.RSAPrivateKey) -> None:
    """Write a bundle whose log ends exactly at the quoted state, its key, and a policy that lists every file."""
    case.mkdir()
    values = log.write(case / "ima.new", count)
    composite = hashlib.sha256(b"".join(values[pcr] for pcr in log.PCRS)).digest()
    attest = evidence.attest(contestants.NONCE, composite)
    sig = evidence.sign(key, attest, scheme=RSASSA)
    evidence.write_bundle(case, attest=attest, sig=sig, log=b"", nonce=contestants.NONCE, values=values)
    (case / "ima.new").replace(case / "ima.bin")
    (case / "ak.pem").write_bytes(evidence.pem(key))
    with (case / "policy.json").open("w", encoding="utf-8") as file:
        (_, _, digest, _), *_ = log.entries(1)
        file.write(f'{{"schema": 1, "host": {{"boot_aggregate": ["sha256:{digest.hex()}"], "files": {{')
        for number, (_, path, digest, _) in enumerate(log.entries(count)):
            if number:
                file.write(f'{", " if number > 1 else ""}"{path}": ["sha256:{digest.hex()}"]')
        file.write("}}}\n")
    (case / "pcrs").write_text(verifiers.evmctl_pcrs({pcr: value.hex() for pcr, value in values.items()}, 32))


def prepare_keylime(case: Path, count: int) -> str:
    """Write the same entries all on PCR 10, as Keylime refuses others, in its forms; return the PCR's value in hex."""
    value = log.write(case / "one.bin", count, log.PCRS[:1])[log.PCRS[0]].hex()
    binary = (case / "one.bin").read_bytes()
    (case / "one.ascii").write_bytes(verifiers.ascii_log(binary))
    (case / "keylime.json").write_text(json.dumps(verifiers.keylime_policy(binary)))
    (case / "one.bin").unlink()
    return value


def measure(rows: list[Row], rounds: int) -> dict[str, list[Measured]]:
    """Run all contestants in turn, `rounds` times, each time from another one, so that a busy minute hits them all."""
    raw: dict[str, list[Measured]] = {row.name: [] for row in rows}
    for number in range(rounds):
        shift = number % len(rows)
        for row in rows[shift:] + rows[:shift]:
            raw[row.name].append(row.run())
            _say(f"round {number + 1} of {rounds}: {row.name}: {raw[row.name][-1]['seconds']:.3f} s")
    return raw


def report(
    rows: list[Row],
    raw: dict[str, list[Measured]],
    cases: dict[int, Path],
    sizes: list[int],
    options: argparse.Namespace,
) -> str:
    entries, whole = options.entries, cases[options.entries]
    mebibytes = (whole / "ima.bin").stat().st_size / (1 << 20)
    ours, ours_cpu = _median(raw[OURS], "seconds"), _median(raw[OURS], "cpu_seconds")
    what = f"{entries:,} `ima-ng` entries on PCRs 10 and 11, {mebibytes:.0f} MiB"
    lines = [
        f"{what}; {options.rounds} interleaved rounds; {_machine()}; load average {os.getloadavg()[1]:.1f}",
        "",
        "| verifier | checks | wall s, median (least to most) | CPU s | times ours: wall, CPU | policy load s | MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row.checks is None:
            continue
        got = raw[row.name]
        wall, cpu = _median(got, "seconds"), _median(got, "cpu_seconds")
        spread = f"{min(_values(got, 'seconds')):.2f} to {max(_values(got, 'seconds')):.2f}"
        load, memory = _shown(got, "load_seconds", 1, 2), _shown(got, "beyond_kib", 1024, 0)
        lines.append(
            f"| {row.name} | {row.checks} | {wall:.2f} ({spread}) | {cpu:.2f} "
            f"| {wall / ours:.2f}, {cpu / ours_cpu:.2f} | {load} | {memory} |"
        )
    lines += ["", *_growth(raw, sizes, ours, entries), "", *_explained(options)]
    return "\n".join(lines) + "\n"


def _growth(raw: dict[str, list[Measured]], sizes: list[int], ours: float, entries: int) -> list[str]:
    lines = [
        "| entries | microseconds an entry, wall | CPU | without a policy, wall | memory MiB, without a policy |",
        "|---|---|---|---|---|",
    ]
    for size in sizes:
        got = raw[OURS if size == entries else f"size {size}"]
        wall, cpu = (_median(got, key) / size * 1e6 for key in ("seconds", "cpu_seconds"))
        bare = raw[f"bare {size}"]
        without = _median(bare, "seconds") / size * 1e6
        memory = _shown(bare, "beyond_kib", 1024, 1)
        lines.append(f"| {size:,} | {wall:.2f} | {cpu:.2f} | {without:.2f} | {memory} |")
    grown = _median(raw["grown"], "seconds")
    lines += ["", *_of_hostile(raw, ours)]
    lines += ["", f"`--since`: {MORE:,} entries more on {entries:,} that were verified: {grown * 1e3:.1f} ms, "]
    lines[-1] += f"{100 * grown / ours:.2f} % of the whole."
    return lines


def _of_hostile(raw: dict[str, list[Measured]], ours: float) -> list[str]:
    lines = ["| hostile log of as many entries | wall s | times ours | memory MiB |", "|---|---|---|---|"]
    for name, what in hostile.LOGS.items():
        got = raw[f"hostile {name}"]
        wall, memory = _median(got, "seconds"), _shown(got, "beyond_kib", 1024, 0)
        lines.append(f"| {what.summary} | {wall:.2f} | {wall / ours:.2f} | {memory} |")
    return lines


def _explained(options: argparse.Namespace) -> list[str]:
    present = verifiers.available(keylime_python=options.keylime_python)
    absent = [name for name in ("evmctl", "keylime") if name not in present]
    return [_EXPLANATION, *(["", f"Not on this machine: {', '.join(absent)}."] if absent else [])]


def _rows(cases: dict[int, Path], sizes: list[int], options: argparse.Namespace) -> list[Row]:
    whole, later = cases[options.entries], cases[options.entries + MORE]
    every = "quote, replay, every digest and field, policy"
    present = verifiers.available(keylime_python=options.keylime_python)
    rows = [
        Row(name=OURS, checks=every, run=lambda: _child("verdict", whole, "1")),
        *(
            Row(name=f"ours, {jobs} processes", checks=every, run=partial(_child, "verdict", whole, f"{jobs}"))
            for jobs in _jobs()
        ),
        *(
            Row(
                name=f"`testbed verify --jobs {jobs}`, whole process",
                checks="quote, replay, every digest and field; no policy",
                run=partial(_command, whole, jobs),
            )
            for jobs in (1, *_jobs())
        ),
    ]
    if "evmctl" in present:
        rows.append(
            Row(
                name="evmctl",
                checks="replay in two banks, every digest; no quote, no policy",
                run=lambda: _evmctl(whole),
            )
        )
    if "keylime" in present:
        python = options.keylime_python or os.environ.get(verifiers.KEYLIME_PYTHON) or sys.executable
        value = prepare_keylime(whole, options.entries)
        checks = "replay, every digest, policy; no quote"
        rows.append(Row(name="Keylime", checks=checks, run=lambda: _keylime(python, value, whole)))
    rows += [
        Row(name="plain Python loop", checks="framing, replay, every digest", run=lambda: _child("loop", whole)),
        Row(name="hashes alone", checks="nothing: three hashes an entry", run=lambda: _child("hashes", whole)),
        Row(name="grown", checks=None, run=lambda: _child("increment", whole, str(later))),
    ]
    for size in sizes:
        rows += _sized(cases[size], size, with_policy=size != options.entries)
    for name in hostile.LOGS:
        case = whole.parent / f"hostile-{name}"
        rows.append(Row(name=f"hostile {name}", checks=None, run=partial(_child, "hostile", case)))
    return rows


def _jobs() -> list[int]:
    """Return numbers of processes: 2, and as many as there are processors."""
    return sorted({2, len(os.sched_getaffinity(0))} - {1})


def _sized(case: Path, size: int, *, with_policy: bool) -> list[Row]:
    bare = Row(name=f"bare {size}", checks=None, run=lambda: _child("bare", case))
    return [bare, Row(name=f"size {size}", checks=None, run=lambda: _child("verdict", case, "1"))][: 1 + with_policy]


def _child(name: str, case: Path, *words: str) -> Measured:
    argv = [sys.executable, contestants.__file__, name, str(case), *words]
    done = shell.run(argv, timeout=TIMEOUT_SECONDS, env={"PYTHONPATH": str(ROOT)})
    return dict(json.loads(done.out))


def _command(case: Path, jobs: int) -> Measured:
    """Run the command as a person does: Python's start, imports and output are in its time."""
    words = ("--ak", str(case / "ak.pem"), "--nonce", contestants.NONCE.hex(), "--jobs", f"{jobs}")
    argv = [sys.executable, "-c", "from testbed.cli import main; main()", "verify", str(case), *words]
    return _timed(argv, env={"PYTHONPATH": str(ROOT)})


def _evmctl(case: Path) -> Measured:
    return _timed(["evmctl", "ima_measurement", "--pcrs", f"{BANK},{case / 'pcrs'}", str(case / "ima.bin")])


def _timed(argv: list[str], env: dict[str, str] | None = None) -> Measured:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = shell.run(argv, timeout=TIMEOUT_SECONDS, env=env)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": done.seconds, "cpu_seconds": cpu}


def _keylime(python: str, value: str, case: Path) -> Measured:
    argv = verifiers.keylime_argv(python, BANK, value, case / "one.ascii", case / "keylime.json")
    answer = dict(json.loads(shell.run(argv, timeout=TIMEOUT_SECONDS).out))
    if answer["verdict"] != verifiers.Says.ACCEPTS:
        raise SystemExit(f"Keylime {answer['verdict']}: {answer['detail']}")
    return answer


def _machine() -> str:
    cpu = platform.machine()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            cpu = line.partition(": ")[2]
            break
    return f"Python {platform.python_version()}, {ssl.OPENSSL_VERSION}, {os.cpu_count()} CPUs ({cpu})"


def _values(got: list[Measured], key: str) -> list[float]:
    return [float(one[key]) for one in got if key in one]


def _median(got: list[Measured], key: str) -> float:
    return statistics.median(_values(got, key))


def _shown(got: list[Measured], key: str, unit: float, digits: int) -> str:
    return f"{_median(got, key) / unit:.{digits}f}" if _values(got, key) else "-"


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare `testbed verify` with other verifiers on one log.")
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="50,000 entries, 2 rounds: to see that it runs")
    parser.add_argument("--keylime-python", help="a Python that has Keylime, if not this one")
    parser.add_argument("--scratch", help="where to write logs and policies, 1 GB for a million entries")
    parser.add_argument("-o", "--output", help="write the table here, too")
    parser.add_argument("--raw", help="write all measured values here, as JSON")
    options = parser.parse_args()
    if options.quick:
        options.entries, options.rounds = 50_000, 2
    if options.entries < 2 * MORE or options.rounds < 1:
        parser.error(f"expected at least {2 * MORE} entries and 1 round, got {options.entries} and {options.rounds}")
    return options


if __name__ == "__main__":
    main()
