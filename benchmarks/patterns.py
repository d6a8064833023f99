# ruff: noqa: INP001 - programs, not a package
"""How long many exclude patterns take: `python benchmarks/patterns.py [--patterns N] [--names N]` prints a table.

CPU time of loading a policy of so many patterns, and of comparing names that no pattern matches: half of them begin
like no pattern, and half in the directory of the patterns.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from testbed.attest.log.ima import Fields
from testbed.attest.policy.reference import parse_policy

FORMS = (
    "/var/lib/package-{n}/.*",
    "/var/cache/a{n}/[a-z]+/.*",
    "/var/lib/tool{n}\\.sh",
    "/var/(lib|cache)/app{n}/[a-z]+\\.pyc?",
    "/var/u{n}/[^/]*/[0-9a-f]{{8}}-x\\.log",
)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure a policy's exclude patterns.")
    parser.add_argument("--patterns", type=int, default=100_000)
    parser.add_argument("--names", type=int, default=1_000_000)
    options = parser.parse_args()
    sys.stdout.write(f"| {options.patterns:,} patterns like | load s | microseconds a name |\n|---|---|---|\n")
    for form in FORMS:
        patterns = [form.format(n=number) for number in range(options.patterns)]
        document = json.dumps({"schema": 1, "host": {"exclude": patterns}}).encode()
        start = time.process_time()
        policy = parse_policy(document, "policy")
        loaded = time.process_time()
        half = options.names // 2
        names = [b"/usr/lib/lib%d.so" % n for n in range(half)] + [b"/var/lib/other/%d" % n for n in range(half)]
        fields = [Fields("sha256", bytes(32), name) for name in names]
        policy.judge_host(fields[0])  # sorts the files
        begin = time.process_time()
        if any(policy.judge_host(one) is None for one in fields):
            raise SystemExit("a name was excused")
        each = (time.process_time() - begin) / len(fields) * 1e6
        sys.stdout.write(f"| `{patterns[0].replace('|', chr(92) + '|')}` | {loaded - start:.2f} | {each:.2f} |\n")


if __name__ == "__main__":
    main()
