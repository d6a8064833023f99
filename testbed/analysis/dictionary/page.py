"""The dictionary as a page (``docs/data.md``) and as a table (``dictionary.csv``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from testbed.analysis import markdown
from testbed.analysis.dictionary.columns import DataTable
from testbed.analysis.dictionary.computed import COMPUTED
from testbed.analysis.dictionary.recorded import LOG_ENTRY, RECORDED

TABLES = (*RECORDED, *COMPUTED)

_HEAD = """
# Data dictionary

`testbed export CAMPAIGN --csv DIR` (or `--parquet DIR`) writes the tables below, one file each, and this dictionary as
`dictionary.csv`. This page is made from `testbed/analysis/dictionary/` by `testbed export --dictionary`.

- A missing value is an empty cell in CSV and null in Parquet.
- `unit` as a unit means: the unit that the row's column `unit` names.
- `1` as a unit means: a ratio or a plain number; `ln` means: a difference of natural logarithms.
- A list is JSON in CSV.
- Text is as the measured machine gave it. A spreadsheet may take text that begins with `=`, `+`, `-` or `@` as a
  formula: import such columns as text.
- Where a file is named, the campaign's own directory has this table too, once `testbed report` has written it.
- Words are those of [the glossary](glossary.md). The methods are those of [statistics.md](statistics.md).

Most questions need `contrasts` (what does a measurer cost?) and `checks` (is each log as it must be?). To compute them
again from the samples, begin with `rows` where `current` is true, `status` and `oracle` are `ok` and `warmup` is false.
"""
_METRICS = """
## Metrics

Values of `metric` in `rows`:

- `cpu`: CPU time of the containers' cgroup. On tier icount 1e9 times it is guest instructions. The primary metric.
- `cpu_running`: the same from the moment when the server answers, without the start of the container.
- `cpu_open_close`, `cpu_stat`, `cpu_create_unlink`, `cpu_mmap`, `cpu_fork`, `cpu_execve`: what one such system call
  takes (workload `calls`).
- `exec_bytes/NAME`, `exec_first/NAME`, `exec_again/NAME`: size of a program in bytes, and what its first and its second
  execution take (workload `sizes`).
- `elapsed`: time of the guest's clock. On tier icount it contains waits of the host, so no overhead is computed of it.
- `throughput`, `latency_p50`, `latency_p99`: what a server's client reports. They mean time on tier kvm only.
- `operations`: how many operations the iteration did.
- `elsewhere`: time that the guest's processors worked outside of that cgroup and of the driver, from the first start
  until 0.2 s after the last: kernel threads, RCU, work queues, interrupts, other processes. Not in `cpu`. On icount
  1e9 times it is guest instructions. Missing in campaigns before it was recorded.
- `log_entries`, `log_before`: entries that the log grew by, and had before the iteration.
- `ima_log_bytes`, `slab`, `page_cache`: size of the log, growth of kernel memory and of the page cache, in bytes.
- `guest_steal`: share of the guest's time, 0 to 1, in which its processors waited for the host.
"""


def page() -> str:
    """Return ``docs/data.md``."""
    lines = [_HEAD.strip(), "", _METRICS.strip(), ""]
    for table in TABLES:
        lines += [*_section(table), ""]
    lines += [*_section(LOG_ENTRY)]
    return "\n".join(lines).rstrip() + "\n"


def rows() -> Iterator[Sequence[str]]:
    """Yield the header of ``dictionary.csv``, then a line for each column."""
    yield ("table", "column", "type", "unit", "meaning")
    for table in TABLES:
        for column in table.columns:
            yield (table.name, column.name, column.type, column.unit, column.meaning)


def _section(table: DataTable) -> Iterator[str]:
    yield f"## {table.name}"
    yield ""
    yield f"One row is {table.row}."
    if table.file:
        yield ""
        yield f"File: `{table.file}`."
    yield ""
    cells = ((f"`{column.name}`", column.type, column.unit, column.meaning) for column in table.columns)
    yield from markdown.table(("column", "type", "unit", "meaning"), cells)
