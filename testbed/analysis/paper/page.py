"""The paper's page in Markdown: the claims with their verdicts, the listings beside live logs, the evaluation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from testbed.analysis import markdown, words
from testbed.analysis.paper.amounts import Amount
from testbed.analysis.paper.claims import ClaimVerdict, JudgedClaim
from testbed.analysis.paper.compared import SlideComparison, live_table, slide_table, summary_table
from testbed.analysis.paper.material import CampaignData
from testbed.analysis.paper.typeset import PaperTable, as_markdown, plain

# Of each figure: what it shows. The figures of a campaign have the same names.
TITLES: Mapping[str, str] = {
    "overhead": "What each measurer adds to one operation, and the overhead",
    "run-length": "Overhead against the length of a run",
    "ladder-stack": "Where the added instructions go",
    "byte-price": "Overhead against the price of a hashed byte",
    "entries": "Entries and extends at a start",
    "correctness": "Correctness of the evidence",
}
BINDING = "binding"


def claim_lines(judged: Sequence[JudgedClaim]) -> list[str]:
    """Return what is printed of claims: two lines for each, and the sum."""
    lines = []
    for one in judged:
        lines.append(f"{one.verdict}: {one.claim.id}: {one.claim.says}")
        lines.append(f"    expected {one.claim.band}; got {value_words(one.amount) if one.amount else one.why}")
        if one.amount and one.why:
            lines.append(f"    {one.why}")
    return [*lines, summary(judged)]


def summary(judged: Sequence[JudgedClaim]) -> str:
    """Return in one line how many claims have each verdict."""
    counts = Counter(one.verdict for one in judged)
    return f"{len(judged)} claims: " + ", ".join(f"{counts[verdict]} {_PLURAL[verdict]}" for verdict in ClaimVerdict)


def value_words(amount: Amount) -> str:
    """Return a value with its interval and what that is."""
    ends = "" if amount.low == amount.high else f" [{_number(amount.low)}, {_number(amount.high)}]"
    return f"{_number(amount.value)}{ends} {amount.unit} ({amount.basis})"


def claim_table(judged: Sequence[JudgedClaim]) -> PaperTable:
    """Return each claim with its verdict, value, expected values, source and minutes."""
    return PaperTable(
        name="claims",
        caption=f"{summary(judged)}. Minutes: to make the data again on two cores, without the first build.",
        header=("claim", "verdict", "value [interval]", "expected", "data", "minutes"),
        rows=tuple(
            (
                one.claim.says,
                str(one.verdict),
                value_words(one.amount) if one.amount else one.why,
                one.claim.band,
                one.claim.experiment,
                f"{one.claim.minutes:g}",
            )
            for one in judged
        ),
        right=frozenset({5}),
        wide={0: 0.33, 1: 0.1, 2: 0.22, 3: 0.1},
    )


def tables(
    judged: Sequence[JudgedClaim],
    comparisons: Sequence[SlideComparison],
    paired: PaperTable,
    evaluated: Mapping[str, Sequence[PaperTable]],
) -> dict[str, PaperTable]:
    """Return every table by the path of its file, without an ending. ``evaluated``: by the name of the experiment."""
    found = {"claims": claim_table(judged), "slides": summary_table(comparisons), paired.name: paired}
    for comparison in comparisons:
        listed = [slide_table(comparison)]
        listed += [table for number in range(len(comparison.beside)) if (table := live_table(comparison, number))]
        found |= {f"listings/{table.name}": table for table in listed}
    for experiment, several in evaluated.items():
        found |= {f"{experiment}/{table.name}": table for table in several}
    return found


def render(
    judged: Sequence[JudgedClaim],
    *,
    comparisons: Sequence[SlideComparison],
    paired: PaperTable,
    evaluated: Mapping[str, Sequence[PaperTable]],
    campaigns: Mapping[str, CampaignData],
    figures: Mapping[str, str],
) -> str:
    """Return the page. ``figures``: the picture of each figure by its path without an ending."""
    lines = [f"# {summary(judged)}", "", *_source(campaigns.values()), "", "## Claims", ""]
    lines += [*as_markdown(claim_table(judged)), "", "## The slides' logs beside live ones", ""]
    lines += [*as_markdown(summary_table(comparisons)), "", *_figure(figures, BINDING, "What the digests bind"), ""]
    lines += ["### File by file", "", *as_markdown(paired), ""]
    for comparison in comparisons:
        lines += [*_listing(comparison), ""]
    for experiment, several in evaluated.items():
        lines += [f"## Evaluation: {plain(experiment)}", ""]
        for name, title in TITLES.items():
            lines += [*_figure(figures, f"{experiment}/{name}", title), ""]
        for table in several:
            lines += [*as_markdown(table), ""]
    return "\n".join(lines).rstrip() + "\n"


def _source(campaigns: Iterable[CampaignData]) -> list[str]:
    said = [
        f"{markdown.code(one.loaded.plan.campaign)} (experiment {plain(one.experiment)}, tier "
        f"{one.loaded.plan.tier}, {len(one.loaded.current)} runs)"
        for one in campaigns
    ]
    return [f"Made from {', '.join(said) or 'no campaign'} and from the log listings of the slides. No machine booted."]


def _listing(comparison: SlideComparison) -> list[str]:
    listing = comparison.listing
    lines = [
        f"### {plain(listing.slide.title)}",
        "",
        f"The slide says: {plain(listing.slide.says)}",
        "",
        f"It claims: {plain(listing.slide.means)}",
        "",
        "Its bytes show:",
        "",
        *markdown.bullets(map(plain, comparison.shows)),
        "",
        *markdown.folded("The slide's text", _block(listing.text)),
        "",
        *as_markdown(slide_table(comparison)),
    ]
    for number, (beside, log) in enumerate(comparison.beside):
        table = live_table(comparison, number)
        lines += ["", f"#### {plain(beside.measurer)}: {plain(beside.why)}", ""]
        if table is None or log is None:
            lines.append("There is no log of this measurer in the data.")
            continue
        kinds = f", because of: {', '.join(log.kinds)}" if log.kinds else ""
        lines += [f"The verifier's verdict on this log: **{log.judgement}**{kinds}.", "", *as_markdown(table)]
    return lines


def _block(text: str) -> list[str]:
    """Return text as a block of code that it cannot leave."""
    fence = "```"
    while fence in text:
        fence += "`"
    return [f"{fence}text", *text.splitlines(), fence]


def _figure(figures: Mapping[str, str], name: str, title: str) -> list[str]:
    if name not in figures:
        return [f"*{title}*: not drawn, because the data does not have what it shows."]
    return [f"**{title}**", "", f"![{title}]({figures[name]})"]


def _number(value: float) -> str:
    return f"{value:.6g}".replace("-", words.MINUS)


_PLURAL = {ClaimVerdict.HOLDS: "hold", ClaimVerdict.FAILS: "do not hold", ClaimVerdict.UNKNOWN: "cannot be judged"}
