"""The tables of what was recorded, counted and judged, and the lines of ``testbed log --json``."""

from __future__ import annotations

from testbed.analysis.dictionary.columns import AXES, BLOCK, COUNTS, RUN, DataTable, columns

RECORDED: tuple[DataTable, ...] = (
    DataTable(
        name="rows",
        row="one sample: one value of one metric in one iteration; a run without samples is one row without a value",
        file="rows.parquet",
        columns=columns(
            "campaign text - name of the campaign",
            RUN,
            AXES,
            BLOCK,
            """
            position integer - place of the run in the order of its block, from 0
            previous text - measurer of the run before it in the block; missing for the first one
            attempt integer - 1 for the first attempt, 2 for the run that replaced it, ...
            current flag - whether it is the attempt that counts; earlier ones are kept and not used
            status text - how the run ended: `ok`, `rejected`, `workload-failed`, `machine-lost`, `timed-out`
            reason text - why it did not end well, empty if it did
            oracle text - worst verdict on the run: `ok`, `unexpected`, `missed`, `unjudged`; missing if none was judged
            tier text - how the guest's clock works: `kvm`, `icount`, `tcg`; never pool rows of different tiers
            boot_id text - random id of the guest's boot
            clone_id text - random id of the machine that was restored for this run
            kernel_release text - release that the guest's kernel reports
            qemu_version text - version of QEMU
            cpu_model text - processor that the guest saw
            metric text - what was measured, see below
            unit text - unit of `value`: `s`, `B`, `1` (a count), `1/s`, `instructions`
            value number unit the recorded value; on tier icount one nanosecond of `cpu` is one guest instruction
            iteration integer - number of the iteration within the run, from 0
            warmup flag - whether the iteration is a warm-up, which no result uses
            operations number - operations in the iteration (`Workload.operation` says of what), 1 if it does not say
            """,
        ),
    ),
    DataTable(
        name="runs",
        row="one planned run; without a record `status` is missing",
        file="",
        columns=columns(
            RUN,
            AXES,
            BLOCK,
            """
            build integer - which build of the machine's disks its block booted, from 0
            status text - as in `rows`; missing if the run has no record
            reason text - as in `rows`
            attempt integer - as in `rows`; 0 without a record
            started_utc text - when the run began, ISO 8601 in UTC
            seconds number s time of the host that the run took
            containers integer - containers that the run started
            """,
        ),
    ),
    DataTable(
        name="counters",
        row="one counter of the measurer in one run, read after the last iteration",
        file="",
        columns=columns(
            RUN,
            AXES,
            BLOCK,
            """
            counter text - name of the counter; names that begin with `unmeasured_` count what was not measured
            value integer - its value
            """,
        ),
    ),
    DataTable(
        name="checks",
        row="one verdict: the evidence of one good run, judged by the verifier and compared with ground truth",
        file="checks.parquet",
        columns=columns(
            "campaign text - name of the campaign",
            RUN,
            AXES,
            BLOCK,
            """
            case text - which evidence was judged: `collected` is that of the run itself
            judgement text - answer of the verifier: `trusted`, `untrusted`, `malformed`
            verdict text - whether the findings are the expected ones: `ok`, `unexpected`, `missed`
            expected list - kinds of findings that the attack and the measurer must cause
            unexpected list - kinds of findings that were found and not expected
            missed list - kinds of findings that were expected and not found
            findings list - all findings: objects with `kind`, `where`, `expected`, `got`
            entries integer entries entries in the log
            unattested integer entries entries after the quoted state
            attested list entries objects with `pcr` and the `entries` of it that the quote covers
            promises flag - whether the measurer promises entries at all
            promised integer entries entries that the ground truth demands; missing if that is not known
            """,
        ),
    ),
    DataTable(
        name="events",
        row="one iteration of one good run: what was measured in it; what nobody knows is missing",
        file="events.parquet",
        columns=columns(
            RUN,
            AXES,
            BLOCK,
            """
            iteration integer - number of the iteration within the run, from 0
            warmup flag - whether the iteration is a warm-up
            starts number starts containers that were started
            """,
            COUNTS,
            """
            counted_files number files files of the whole run, by the measurer's counter
            counted_bytes number B bytes of the whole run, by the measurer's counter
            true_files number files files of the whole run, by the container images
            true_bytes number B bytes of the whole run, by the container images
            """,
        ),
    ),
)

# What a line of ``testbed log --json`` is: one entry of a log.
LOG_ENTRY = DataTable(
    name="log",
    row="one entry of an IMA log, as one JSON object on a line (`testbed log BUNDLE --json`)",
    file="",
    columns=columns(
        """
        schema integer - 1: the version of these keys
        number integer - number of the entry in the log, from 1
        offset integer B byte of the log at which it begins
        pcr integer - PCR that it was extended into
        template text - layout of the entry (`ima-ng`, `ima-buf`, ...)
        template_digest text hex template digest as the log shows it; zeros for a violation
        kind text - `file`, `boot aggregate`, `violation`, `buffer`, `unreadable`, or the name of a measurer's entry
        name text - name in the entry: a path, or an event
        algorithm text - hash of `digest`
        digest text hex digest that the entry binds
        says text - the entry in one line
        bank text - PCR bank of `extension` and `value`
        extension text hex what the PCR was extended with
        value text hex what the PCR holds afterwards, from the log alone
        container text - its container's `seq`; null for none
        fields list - further fields of the entry: an object from name to text
        attested flag - whether the quote covers the entry; null if nothing was verified
        runtime_id text - the runtime's id of the container, once the log has shown it; null for none
        """
    ),
)
