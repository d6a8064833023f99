"""Fuzz one target for a while: `python tests/fuzz/run.py TARGET --seconds N [--engine atheris|hypothesis]`.

Exit status 0 if nothing was found. What was found is kept in tests/fuzz/crashes/, and is run again by naming the file:
`python tests/fuzz/run.py TARGET FILE`. What atheris learns is kept in build/fuzz/TARGET/, for the next run.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.util
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CRASHES = HERE / "crashes"
LEARNT = HERE.parents[1] / "build" / "fuzz"
# Seconds and MiB that no input may take; an honest one takes some milliseconds.
TIMEOUT, MEMORY = 20, 1024
LONGEST = 1 << 14

sys.path.insert(0, str(HERE))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target")
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--engine", choices=("atheris", "hypothesis"))
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    engine = args.engine or ("atheris" if importlib.util.find_spec("atheris") else "hypothesis")
    if args.file is not None:
        load_target(args.target, parser).run(args.file.read_bytes())
        say(f"{args.target}: {args.file}: no fault")
        return 0
    CRASHES.mkdir(exist_ok=True)
    if args.inside is not None:
        return by_atheris(args.target, parser, args.seconds, args.inside)
    say(f"{args.target}: {args.seconds} s with {engine}")
    if engine == "hypothesis":
        return by_hypothesis(args.target, load_target(args.target, parser), args.seconds)
    return in_a_child(args.target, args.seconds)


def in_a_child(name: str, seconds: int) -> int:
    """Run atheris; libFuzzer leaves without the interpreter's way out, so somebody else has to tidy up after it."""
    memory, log = Path("/dev/shm"), LEARNT / f"{name}.log"
    LEARNT.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="testbed-fuzz-", dir=memory if memory.is_dir() else None) as scratch,
        log.open("w") as out,
    ):
        inside = [sys.executable, __file__, name, f"--seconds={seconds}", f"--inside={scratch}"]
        env = os.environ | {"TMPDIR": scratch}
        status = subprocess.run(inside, env=env, stdout=out, stderr=out, check=False).returncode
    said = log.read_text(errors="backslashreplace")
    inputs = re.search(r"number_of_executed_units: +(\d+)", said)
    if status == 0 and inputs is not None:
        say(f"{name}: no fault in {inputs[1]} inputs")
        return 0
    say(f"{name}: a fault, or it could not run (status {status}); the end of {log}:\n{said[-4000:]}")
    return 1


def load_target(name: str, parser: argparse.ArgumentParser) -> Any:
    targets = importlib.import_module("targets").TARGETS
    if name not in targets:
        parser.error(f"target: expected one of {', '.join(targets)}, got {name}")
    return targets[name]


def by_atheris(name: str, parser: argparse.ArgumentParser, seconds: int, scratch: Path) -> int:
    """Let libFuzzer look for new paths. It ends the process, with another status than 0 if it found a fault."""
    atheris = importlib.import_module("atheris")
    # Our own code only: the rest is many times as much.
    with atheris.instrument_imports(include=["testbed.attest"], enable_loader_override=False):
        target = load_target(name, parser)
    learnt, seeds, words = LEARNT / name, scratch / "seeds", scratch / "words"
    learnt.mkdir(parents=True, exist_ok=True)
    seeds.mkdir()
    for number, seed in enumerate(target.seeds()):
        (seeds / f"{number}").write_bytes(seed)
    words.write_text("".join('"' + re.sub("..", r"\\x\g<0>", word.hex()) + '"\n' for word in target.words))
    options = [f"-max_total_time={seconds}", f"-timeout={TIMEOUT}", f"-rss_limit_mb={MEMORY}", f"-max_len={LONGEST}"]
    options += [f"-artifact_prefix={CRASHES}/{name}-", f"-dict={words}", "-print_final_stats=1", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options, str(learnt), str(seeds)], target.run)
    atheris.Fuzz()
    return 0


def by_hypothesis(name: str, target: Any, seconds: int) -> int:
    """Make inputs from the seeds until the time is over; the smallest that shows a fault is kept."""
    hypothesis, inputs = importlib.import_module("hypothesis"), importlib.import_module("inputs")
    settings = hypothesis.settings(
        max_examples=500, database=None, deadline=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    last = b""

    @settings
    @hypothesis.given(inputs.of(target))
    def run(data: bytes) -> None:
        nonlocal last
        last = data
        with in_time():
            target.run(data)

    end, rounds = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        try:
            hypothesis.seed(time.time_ns())(run)()
        except BaseException:
            kept = CRASHES / f"{name}-{hashlib.sha256(last).hexdigest()[:16]}"
            kept.write_bytes(last)
            say(f"{name}: a fault, by {kept}")
            raise
        rounds += 1
    say(f"{name}: no fault in {rounds * 500} inputs")
    return 0


def say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


@contextmanager
def in_time() -> Iterator[None]:
    """Raise where one input takes too long."""

    def late(_number: int, _frame: object) -> None:
        raise TimeoutError(f"more than {TIMEOUT} s")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(TIMEOUT)
    try:
        yield
    finally:
        signal.alarm(0)


if __name__ == "__main__":
    sys.exit(main())
