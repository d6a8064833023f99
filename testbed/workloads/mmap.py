"""Perl maps files of several sizes as code, many times each."""

from __future__ import annotations

from pathlib import PurePosixPath

from testbed.workloads import Output, Workload, expect_lines

TIMES = 2000
SIZES = {"4k": 4 << 10, "64k": 64 << 10, "1m": 1 << 20}
# Numbers of x86-64: 9 is mmap, with PROT_READ | PROT_EXEC and MAP_PRIVATE, and 11 munmap. The end of its first line
# shows that the right file is mapped.
SCRIPT = f"""
for my $name (qw({" ".join(SIZES)})) {{
  open(my $file, '<', "/code/$name") or die "$name: $!";
  my ($size, $fd, $seen) = (-s $file, fileno $file, 0);
  for (1 .. {TIMES}) {{
    my $at = syscall(9, 0, $size, 5, 2, $fd, 0);
    $at > 0 or die "$name: mmap: $!";
    my $head = unpack('P24', pack('J', $at));
    $seen++ if index($head, "#!/usr/bin/perl -$name\\n") == 0;
    syscall(11, $at, $size) == 0 or die "$name: munmap: $!";
  }}
  print "$name $size $seen\\n";
}}
""".strip()
EXPECTED = tuple(f"{name} {size} {TIMES}" for name, size in SIZES.items())


def parse(output: str) -> Output:
    """Expect one line for each file: its name, its size, and how often its beginning was found where it was mapped."""
    expect_lines(EXPECTED, output)
    return Output(operations=TIMES * len(SIZES))


WORKLOAD = Workload(
    name="mmap",
    summary=f"perl maps files of {', '.join(SIZES)} as code, each {TIMES} times",
    image="mmap",
    # Without PERL_HASH_SEED the order of Perl's hashes differs in each process; the image has only the locale C.
    argv=("/usr/bin/env", "LC_ALL=C", "PERL_HASH_SEED=0", "/usr/bin/perl", "-e", SCRIPT),
    executes=tuple(map(PurePosixPath, ("/usr/bin/env", "/usr/bin/perl", *(f"/code/{name}" for name in SIZES)))),
    parse=parse,
    operation="map",
)
