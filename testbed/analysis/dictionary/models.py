"""The tables that show what a start, a byte and a block do to the overhead, and what tests the prices."""

from __future__ import annotations

from testbed.analysis.dictionary.columns import BLOCK, STRATUM, UNIT, DataTable, columns

_ARM = "treatment text - measurer that is compared with the baseline"
LATER: tuple[DataTable, ...] = (
    DataTable(
        name="checked",
        row="one fitted price beside the count of the single event by `testbed bench measurer`",
        file="",
        columns=columns(
            """
            kernel text - name of the kernel
            step text - name of the step
            event text - which event: a column of `events`
            price number unit what one event costs by the fit
            low number unit lower end of its 95 % interval
            high number unit upper end of its 95 % interval
            single_low number instructions least count of the single event; missing if it was not counted
            single_high number instructions largest count of the single event
            apart number 1 `price` divided by the nearest of these counts, less 1; 0 between them
            how text - how the single event is counted
            """,
            UNIT,
        ),
    ),
    DataTable(
        name="lengths",
        row="one arm of one workload: its start, one operation, and after how long a run the overhead is below 1 %",
        file="",
        columns=columns(
            STRATUM,
            _ARM,
            """
            operations number - operations of the measured iteration
            start_base number unit what a start takes without measurement (without a running state: the iteration)
            start_cost number unit what the arm adds to a start
            start_low number unit lower end of the 95 % interval of `start_cost`
            start_high number unit upper end of it
            base number unit what one operation takes once it runs; 0 where no running state was counted
            cost number unit what the arm adds to it
            cost_low number unit lower end of the 95 % interval of `cost`
            cost_high number unit upper end of it
            even number unit length of the shortest run whose overhead is below 1 %; inf if there is none
            even_least number unit the same by the lower ends of the intervals
            even_most number unit the same by their upper ends
            n integer blocks blocks of the contrast
            """,
            UNIT,
        ),
    ),
    DataTable(
        name="byte_prices",
        row="one arm of one workload, if a hashed byte had another price (a model)",
        file="",
        columns=columns(
            STRATUM,
            _ARM,
            """
            hashed number B bytes that one operation hashes
            fitted number instructions fitted price of one of these bytes
            price number instructions the price that is assumed
            cost number unit what the arm then adds to one operation
            base number unit median of the baseline, one operation
            overhead number 1 `cost` divided by `base`
            measured number 1 measured cost divided by `base`
            """,
            UNIT,
        ),
    ),
    DataTable(
        name="spread",
        row="one block of one pair of arms",
        file="",
        columns=columns(
            STRATUM,
            """
            arm text - measurer
            over text - measurer that it is divided by
            kind text - `effect` (an arm over the baseline) or `twice` (the same arm under two names)
            """,
            BLOCK,
            """
            log number ln logarithm of the ratio in this block
            center number ln its estimate over the blocks
            """,
        ),
    ),
)
