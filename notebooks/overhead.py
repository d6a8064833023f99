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
# From a campaign's directory to every figure, in a few lines a cell. Every number comes from `import testbed`
# ([docs/api.md](../docs/api.md)), and `report.md` of the campaign has the same ones.
#
# The default is the reference data of the repository. `make jupyter` opens the newest campaign instead. For another
# one, set `TESTBED_RESULTS=results/NAME`.

# %%
import testbed

testbed.use_style()
campaign = testbed.load()
campaign

# %% [markdown]
# ## One row for each sample
#
# A *block* is one boot, and each cell runs once in it. `oracle` is `ok` if the log of that run had exactly the
# entries that it must have. Only then its numbers count.

# %%
campaign.rows[["workload", "measurer", "block", "metric", "value", "unit", "operations", "oracle"]].head()

# %% [markdown]
# ## Overhead by workload
#
# A ratio of 1.05 means 5 % more than without measurement. `low` and `high` are its 95 % interval, and `floor_low` and
# `floor_high` are the interval of the baseline against itself (A/A). That is the noise of the experiment: an effect
# within it cannot be seen.

# %%
columns = ["workload", "treatment", "ratio", "low", "high", "n", "verdict", "floor_low", "floor_high"]
table = testbed.overhead(campaign)
table[columns].round(4)

# %%
testbed.figure(campaign, "overhead")

# %% [markdown]
# One number for each measurer is the geometric mean over the workloads. It says how the measurers compare. It does
# not say what *your* workload pays, because the workloads differ more than the measurers do.

# %%
campaign.tables.overall.round(4)

# %% [markdown]
# ## What one operation pays
#
# A percentage of a short run and of a long one mean different things. So here is the absolute cost of one operation:
# a start, a request, a compiled file. On the tier `icount` the unit is guest instructions, not time.

# %%
table.pivot_table(index="workload", columns="treatment", values="cost", sort=False).map("{:,.0f}".format)

# %% [markdown]
# ## Where the added instructions go

# %%
campaign.tables.parts.pivot_table(index="workload", columns="part", values="share").round(3)

# %%
testbed.figure(campaign, "ladder-stack")

# %% [markdown]
# ## What one event costs
#
# The counted events (bytes, files, launches...) explain what each step of the ladder adds. The model is fitted on one
# half of the workloads and predicts the other half. The figure shows how well it does.

# %%
testbed.prices(campaign).drop(columns=["kernel", "n"])

# %%
testbed.figure(campaign, "cost-model")

# %% [markdown]
# ## Starts of containers, and curves
#
# The first start after a boot hashes every file. Later starts find most files known. A curve appears here if the
# campaign varies a number, as `experiments/scaling.toml` does.

# %%
testbed.figure(campaign, "starts")

# %%
testbed.figure(campaign, "scaling")

# %% [markdown]
# ## Extends and waiting for an emulated TPM
#
# The TPM of this machine is software. The number of extends is real; the time that they took says nothing about a
# chip.

# %%
campaign.tables.waiting

# %% [markdown]
# ## Reasons for doubt
#
# Read these before you quote a number.

# %%
testbed.doubts(campaign)
