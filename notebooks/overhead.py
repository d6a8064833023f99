# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What measuring containers costs
#
# From a campaign's directory to every figure, in a few lines a cell. Nothing is computed here: every number comes from
# `testbed.analysis`, as in `report.md`. The default is the small reference campaign of the repository; name another:
#
#     TESTBED_RESULTS=results/overhead-icount-... jupyter lab notebooks/overhead.ipynb

# %%
import os
from pathlib import Path

import pandas as pd
from matplotlib import style
from matplotlib_inline.backend_inline import set_matplotlib_formats

import testbed
from testbed.analysis.figures.canvas import STYLE
from testbed.analysis.report import draw, overhead
from testbed.analysis.tables import tables
from testbed.rundir import Campaign, load

# %%
style.use(STYLE)
set_matplotlib_formats("png")
root = Path(testbed.__file__).parents[1]
campaign = Campaign(path=root / Path(os.environ.get("TESTBED_RESULTS", "results/reference")).expanduser())
known = tables.read(load(campaign))
known.plan.campaign, str(known.plan.tier), len(known.plan.cells), len(known.plan.blocks)

# %% [markdown]
# ## One row per sample
#
# `oracle` is `ok` if the run's evidence was as expected. A number counts only then.

# %%
known.rows[["workload", "measurer", "block", "metric", "value", "operations", "oracle"]].head()

# %% [markdown]
# ## Overhead by workload
#
# The estimate with its 95 % interval, the noise (A/A: the baseline against itself), the verdict.

# %%
columns = ["workload", "treatment", "ratio", "low", "high", "n", "verdict", "floor_low", "floor_high"]
known.ladder.reindex(columns=columns)

# %%
draw.overhead(known)

# %%
known.overall

# %% [markdown]
# ## Where the added instructions go

# %%
known.parts.pivot_table(index="workload", columns="part", values="share").round(4)

# %%
draw.stack(known)

# %% [markdown]
# ## What an event costs, and a test on workloads that were not fitted

# %%
prices = [
    {"step": fit.step.name, "event": name, "price": price.center, "interval": price.interval, "unit": fit.unit}
    for fit in known.fits
    for name, price in fit.prices.items()
]
pd.DataFrame(prices)

# %%
known.predictions.drop(columns=["kernel", "runtime", "fitted_on"])

# %%
draw.model(known)

# %% [markdown]
# ## Starts of containers, and curves

# %%
draw.starts(known)

# %%
draw.scaling(known)

# %% [markdown]
# ## Extends and waiting for an emulated TPM

# %%
known.waiting

# %% [markdown]
# ## Reasons for doubt

# %%
overhead.doubts(known)
