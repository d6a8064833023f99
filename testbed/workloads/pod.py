"""Three containers that are started together: a server, its client, and a sidecar that waits for the end."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from testbed.workloads import Output, Parse, Role, Workload, WorkloadFailed

QUESTIONS = 200
# The bytes that the client reads: each answer is the question's number times 1 to 100.
BYTES = sum(len(" ".join(str(number * n) for n in range(1, 101))) for number in range(1, QUESTIONS + 1))
_PERL = tuple(map(PurePosixPath, ("/usr/bin/perl", "/usr/lib/x86_64-linux-gnu/perl-base/auto/Socket/Socket.so")))


def _says(who: str, what: str) -> Parse:
    """Return a parser of a container's one line: its name, its host's name (that of the pod), and ``what``."""
    wanted = re.compile(rf"{who} on [0-9a-f]{{64}}: {re.escape(what)}\n")

    def parse(output: str) -> Output:
        if not wanted.fullmatch(output):
            raise WorkloadFailed(f"expected '{who} on' a name of 64 hexadecimal digits ': {what}', got {output!r}")
        return Output()

    return parse


def _role(who: str, what: str, *arguments: str) -> Role:
    program = f"/opt/{who}"
    return Role(argv=(program, *arguments), executes=(PurePosixPath(program), *_PERL), parse=_says(who, what))


_SERVER = _role("server", f"{QUESTIONS} questions")
WORKLOAD = Workload(
    name="pod",
    summary=f"a pod of three containers: a server, a client with {QUESTIONS} questions, a sidecar",
    image="pod",
    argv=_SERVER.argv,
    executes=_SERVER.executes,
    parse=_SERVER.parse,
    beside=(
        _role("client", f"{QUESTIONS} answers, {BYTES} bytes", str(QUESTIONS)),
        _role("sidecar", f"told of {QUESTIONS} questions"),
    ),
    operation="pod",
    steady=False,
)
