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
# # Figures and tables for a paper
#
# Every figure of a campaign as vectors, and its main table in LaTeX. All of it is made from the campaign's raw data,
# so a reader with the data can draw it again. The default is the reference data; `TESTBED_RESULTS` names another
# campaign.

# %%
import tempfile

import pandas as pd

import testbed

testbed.use_style("svg")
campaign = testbed.load()
campaign

# %% [markdown]
# ## The figures
#
# Each figure names its campaign, its tier and its number of blocks below the axes. Colours are safe for readers who
# cannot distinguish all of them, and each measurer also has a mark of its own for print in grey.

# %%
testbed.figure(campaign, "overhead")

# %%
testbed.figure(campaign, "ladder-stack")

# %%
testbed.figure(campaign, "starts")

# %%
testbed.figure(campaign, "cost-model")

# %% [markdown]
# ## The files
#
# PDF holds vectors, for LaTeX; PNG is for pages. The same data gives the same PDF, byte by byte.

# %%
scratch = tempfile.TemporaryDirectory()
files = testbed.write_figures(campaign, scratch.name)
pd.Series({path.name: path.stat().st_size for paths in files.values() for path in paths}, name="bytes").to_frame()

# %% [markdown]
# ## The main table
#
# Overhead in percent with its 95 % interval, for each workload and measurer.

# %%
table = testbed.overhead(campaign)
percent = 100 * (table[["ratio", "low", "high"]] - 1)
table["cell"] = [f"{ratio:+.2f} [{low:+.2f}, {high:+.2f}]" for ratio, low, high in percent.to_numpy()]
wide = table.pivot_table(index="workload", columns="treatment", values="cell", aggfunc="first", sort=False)
wide

# %% [markdown]
# The same for LaTeX (with the package `booktabs`):

# %%
print(wide.to_latex(column_format="l" + "r" * wide.shape[1]))

# %% [markdown]
# ## The prices
#
# What a reader needs to estimate another workload: the price of one event, with its interval.

# %%
prices = testbed.prices(campaign).set_index(["step", "event"])
numbers = prices[["price", "low", "high"]].map("{:,.1f}".format)
numbers.join(prices[["unit", "says"]])
