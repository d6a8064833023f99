"""The tables that are computed from the recorded ones."""

from __future__ import annotations

from testbed.analysis.dictionary.columns import AXES, BLOCK, COUNTS, INTERVAL, STRATUM, UNIT, DataTable, columns, pick
from testbed.analysis.dictionary.models import LATER

COMPUTED: tuple[DataTable, ...] = (
    DataTable(
        name="contrasts",
        row="one arm compared with the baseline, for one metric, workload, kernel and runtime",
        file="",
        columns=columns(
            STRATUM,
            """
            metric text - what is compared; `cpu` is the primary one
            baseline text - measurer that is the baseline
            treatment text - measurer that is compared with it
            ratio number 1 value of the arm divided by that of the baseline; 1.05 is 5 % more
            """,
            INTERVAL,
            """
            n integer blocks blocks that have all arms of the contrast
            verdict text - the statistical verdict, as in docs/statistics.md
            p number 1 exact two-sided p; missing below 12 blocks
            spread number ln standard deviation of the blocks' logarithms of the ratio
            mde number ln smallest true effect (logarithm) that 80 % of such campaigns detect; inf if none
            settles number blocks blocks that would end an INCONCLUSIVE; missing elsewhere
            cost number unit what the arm adds to one operation
            cost_low number unit lower end of the 95 % interval of `cost`
            cost_high number unit upper end of the 95 % interval of `cost`
            base number unit median of the baseline, one operation
            """,
            UNIT,
            """
            floor number 1 ratio of the A/A: the duplicate of the baseline divided by the baseline
            floor_low number 1 lower end of its 95 % interval
            floor_high number 1 upper end of its 95 % interval
            floor_n integer blocks blocks that have both; 0 without an A/A
            delta number 1 margin below which arms count as equal; 0.005 is 0.5 %
            noise_of text - arm whose A/A the verdict uses: the wider of this arm's own and the baseline's
            noise_low number 1 lower end of the 95 % interval of that A/A
            noise_high number 1 upper end of that interval
            elsewhere number unit what the arm adds outside of the containers' cgroup; missing where not recorded
            elsewhere_low number unit lower end of its 95 % interval
            elsewhere_high number unit upper end of that interval
            elsewhere_base number unit median of the baseline outside of the cgroup, one operation
            elsewhere_floor_low number unit lower end of the interval of the baseline's A/A there, as a difference
            elsewhere_floor_high number unit upper end of that interval
            p_adjusted number 1 `p` after Holm's correction over the workloads; missing where `p` is
            """,
        ),
    ),
    DataTable(
        name="overall",
        row="one arm over all workloads of a kernel and a runtime; of a single workload there is no row",
        file="",
        columns=columns(
            pick(AXES, "kernel", "runtime"),
            """
            treatment text - measurer that is compared with the baseline
            ratio number 1 geometric mean of the ratios of its workloads
            """,
            INTERVAL,
            """
            n integer blocks blocks that have every workload
            workloads integer - workloads in the mean
            apart_low number 1 lower end of the interval if workloads did not share their boots (a bootstrap)
            apart_high number 1 upper end of that interval
            """,
        ),
    ),
    DataTable(
        name="methods",
        row="one contrast of the primary metric by one statistical method",
        file="",
        columns=columns(
            STRATUM,
            """
            treatment text - measurer that is compared with the baseline
            method text - name of the method
            ratio number 1 its estimate
            """,
            INTERVAL,
            """
            verdict text - the verdict by this method
            agree flag - whether all methods give one verdict on this contrast
            """,
        ),
    ),
    DataTable(
        name="observations",
        row="what one step of the ladder added in one block, and the events that it had",
        file="",
        columns=columns(
            """
            step text - name of the step (`Measurer.steps`)
            arm text - measurer that the step leads to
            over text - measurer that it is compared with
            """,
            STRATUM,
            BLOCK,
            """
            added number unit what the step added in one iteration
            below number unit value of the iteration in the arm below
            cold flag - whether the iteration began with an empty page cache
            """,
            UNIT,
            COUNTS,
        ),
    ),
    DataTable(
        name="prices",
        row="the price of one event in one step on one kernel, fitted to `observations`",
        file="",
        columns=columns(
            """
            kernel text - name of the kernel
            step text - name of the step
            event text - which event: a column of `events`
            price number unit what one event costs; missing if it has no price
            low number unit lower end of its 95 % interval
            high number unit upper end of its 95 % interval
            n integer blocks blocks of the fit; missing without a price
            given_up text - why the event has no price; empty if it has one
            workloads text - workloads that were fitted
            """,
            UNIT,
        ),
    ),
    DataTable(
        name="predictions",
        row="what one arm adds in one workload: observed, and predicted by prices that were fitted without it",
        file="",
        columns=columns(
            STRATUM,
            """
            arm text - measurer
            role text - part of the workload in the test: `held out`, `held out after the swap`, `outside the model`
            observed number unit what the arm added in one iteration
            low number unit lower end of its 95 % interval
            high number unit upper end of its 95 % interval
            predicted number unit what the prices say
            ratio number 1 `predicted` divided by `observed`
            within flag - whether `ratio` is within 10 % of 1
            null number unit what the null model says, which knows hashed bytes alone; missing if none are hashed
            null_ratio number 1 `null` divided by `observed`
            null_within flag - whether `null_ratio` is within 10 % of 1
            """,
            UNIT,
            "fitted_on text - workloads that the prices were fitted to",
        ),
    ),
    DataTable(
        name="parts",
        row="one part of what the ladder adds to one timed iteration of a workload",
        file="",
        columns=columns(
            STRATUM,
            """
            part text - `hooks`, `lookups`, `hash`, `tree`, `entries`, `launches`, `elsewhere`, `rest`
            value number unit what it adds
            low number unit lower end of its 95 % interval
            high number unit upper end of its 95 % interval
            base number unit the baseline's iteration
            share number 1 its share of all that was added
            how text - `measured` (difference of two arms), `fitted` (by prices), `measured less fitted`
            """,
            UNIT,
        ),
    ),
    DataTable(
        name="starts",
        row="one timed iteration of a workload that only starts containers",
        file="",
        columns=columns(
            STRATUM,
            pick(AXES, "measurer"),
            BLOCK,
            """
            iteration integer - number of the iteration within the run, from 0
            value number instructions cost of one start, the mean of the iteration; on tier kvm in s
            starts number starts containers that the iteration started
            """,
        ),
    ),
    DataTable(
        name="scaling",
        row="one arm at one size of a family of workloads whose names end in a number",
        file="",
        columns=columns(
            pick(AXES, "kernel", "runtime"),
            """
            family text - name of the workloads without the number
            number integer - the number, multiplied by its prefix (`k` is 1024, `m` is 1024 * 1024)
            label text - the number as in the name
            workload text - name of the workload
            treatment text - measurer that is compared with the baseline
            value number unit what the arm adds to one operation
            low number unit lower end of its 95 % interval
            high number unit upper end of its 95 % interval
            base number unit median of the baseline
            noise number unit how far the A/A reaches
            n integer blocks blocks of the contrast
            """,
            UNIT,
        ),
    ),
    DataTable(
        name="sizes",
        row="one program of workload `sizes` and one arm",
        file="",
        columns=columns(
            pick(AXES, "kernel", "runtime"),
            """
            treatment text - measurer that is compared with the baseline; the duplicate of the baseline shows the noise
            program text - name of the program in /usr/bin
            bytes number B size of its file
            value number unit what the arm adds to its first execution, median of the blocks
            again number unit what the arm adds to its second execution, median of the blocks
            base number unit the first execution without the arm, median of the blocks
            n integer blocks blocks that have the arm and the baseline
            """,
            UNIT,
        ),
    ),
    DataTable(
        name="size_lines",
        row="one arm: what a byte and a file cost, fitted over the programs of `sizes` in each block",
        file="",
        columns=columns(
            pick(AXES, "kernel", "runtime"),
            """
            treatment text - measurer that is compared with the baseline
            byte number unit what a byte of a program adds to its first execution
            byte_low number unit lower end of its 95 % interval
            byte_high number unit upper end of its 95 % interval
            file number unit what a file adds, whatever its size
            file_low number unit lower end of its 95 % interval
            file_high number unit upper end of its 95 % interval
            explained number 1 share of the variance that the line explains (r²), median of the blocks
            programs integer - programs in the line
            n integer blocks blocks that were fitted
            """,
            UNIT,
        ),
    ),
    DataTable(
        name="waiting",
        row="one arm of one workload: medians over the timed iterations that count",
        file="",
        columns=columns(
            STRATUM,
            pick(AXES, "measurer"),
            """
            extends number entries entries that the log grew by in one iteration
            wait number s elapsed less CPU time of the guest; an emulated TPM is no measure of a chip
            base_wait number s that of the baseline
            """,
        ),
    ),
    DataTable(
        name="builds",
        row="one contrast of the primary metric whose blocks booted several builds of the disks; else there is no row",
        file="",
        columns=columns(
            STRATUM,
            """
            treatment text - measurer that is compared with the baseline
            builds integer - builds that its blocks booted
            n integer blocks blocks of the contrast
            within number ln standard deviation of the blocks of one build
            between number ln standard deviation of the builds beyond that; 0 if the blocks explain what they differ by
            apart number ln largest difference between the means of two builds
            low number 1 lower end of the 95 % interval of the ratio if the builds are the unit
            high number 1 upper end of that interval
            """,
        ),
    ),
    DataTable(
        name="noise",
        row="one arm of one workload that ran twice: its A/A of the primary metric",
        file="",
        columns=columns(
            STRATUM,
            """
            arm text - measurer that ran twice
            again text - name of its second run
            ratio number 1 the second run divided by the first
            """,
            INTERVAL,
            """
            n integer blocks blocks that have both
            spread number ln standard deviation of the blocks' logarithms of the ratio
            """,
        ),
    ),
    *LATER,
)
