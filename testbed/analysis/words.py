"""Numbers in words for people; never one without its interval."""

from __future__ import annotations

import math

from testbed.analysis.statistics.effect import Conclusion, percent

MINUS = "\N{MINUS SIGN}"
NO_INTERVAL = "too few blocks for an interval"


def overhead(ratio: float, low: float, high: float) -> str:
    """Return a ratio as overhead in words: ``+1.80 % [+1.75, +1.86]``."""
    if not math.isfinite(high):
        return f"{signed(percent(ratio), 2)} % ({NO_INTERVAL})"
    return f"{signed(percent(ratio), _digits(percent(high) - percent(low)))} % {bounds(low, high)}"


def bounds(low: float, high: float) -> str:
    """Return the ends of a ratio's interval in percent: ``[+1.75, +1.86]``."""
    if not math.isfinite(high):
        return NO_INTERVAL
    digits = _digits(percent(high) - percent(low))
    return f"[{signed(percent(low), digits)}, {signed(percent(high), digits)}]"


def amount(value: float, low: float, high: float, unit: str) -> str:
    """Return an absolute cost in words, with a prefix that fits: ``+7.56 [+7.49, +7.67] M instructions``."""
    bounded = math.isfinite(low) and math.isfinite(high)
    factor, prefix = _prefix(max(abs(value), abs(low), abs(high)) if bounded else abs(value))
    if not bounded:
        return f"{signed(value / factor, 2)} {_prefixed(prefix, unit)} ({NO_INTERVAL})"
    digits = _digits((high - low) / factor)
    ends = f"[{signed(low / factor, digits)}, {signed(high / factor, digits)}]"
    return f"{signed(value / factor, digits)} {ends} {_prefixed(prefix, unit)}"


def size(value: float, unit: str) -> str:
    """Return a quantity without an interval, which is shown only for comparison: ``420 M instructions``."""
    factor, prefix = _prefix(abs(value))
    return f"{value / factor:.4g} {_prefixed(prefix, unit)}"


def one(operation: str) -> str:
    """Return an operation with its article, an iteration where a workload has no name for it: ``an exec``."""
    each = operation or "iteration"
    return f"{'an' if each[0] in 'aeiou' else 'a'} {each}"


def conclusion(verdict: Conclusion, delta: float) -> str:
    """Return a verdict with the margin that it refers to: ``OVERHEAD, below δ (±0.5 %)``."""
    about_delta = {
        Conclusion.NO_DETECTABLE_OVERHEAD,
        Conclusion.OVERHEAD_BELOW_DELTA,
        Conclusion.SPEED_UP_BELOW_DELTA,
    }
    return f"{verdict} (±{100 * delta:g} %)" if verdict in about_delta else str(verdict)


def signed(value: float, digits: int) -> str:
    """Return a number with its sign and ``digits`` decimals; what rounds to 0 has no sign."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)


def _prefixed(prefix: str, unit: str) -> str:
    return f"{prefix}{unit}" if len(unit) == 1 else f"{prefix} {unit}".strip()


def _digits(width: float) -> int:
    """Return the decimals that show two digits of an interval's width, at most four."""
    return 4 if width <= 0 else min(4, max(0, 1 - math.floor(math.log10(width))))


def _prefix(size: float) -> tuple[float, str]:
    steps = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"))
    return next(((factor, prefix) for factor, prefix in steps if size >= factor), (1e-6, "µ") if size else (1.0, ""))
