"""Table in, figure out: a module per kind of figure. The style is ``style.mplstyle``. No statistic is computed here."""

from testbed.analysis.figures.byteprice import byteprice
from testbed.analysis.figures.canvas import Caption, write
from testbed.analysis.figures.curves import scaling
from testbed.analysis.figures.dots import dots
from testbed.analysis.figures.ecdf import starts
from testbed.analysis.figures.fit import model
from testbed.analysis.figures.grid import grid
from testbed.analysis.figures.length import length
from testbed.analysis.figures.rungs import rungs
from testbed.analysis.figures.sizes import sizes
from testbed.analysis.figures.stack import stack

__all__ = [
    "Caption",
    "byteprice",
    "dots",
    "grid",
    "length",
    "model",
    "rungs",
    "scaling",
    "sizes",
    "stack",
    "starts",
    "write",
]
