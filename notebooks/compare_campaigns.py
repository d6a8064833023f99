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
# # Do two campaigns agree?
#
# Somebody else ran the same cells, or you ran them again with another commit. Are the overheads the same? A
# comparison is possible if both campaigns have the same tier and the same version of QEMU.
#
# Here the reference data meets a second campaign: `examples/measurer/reference`, recorded some days later with the
# example measurer beside the others. `TESTBED_RESULTS` names another second campaign.

# %%
import os
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt

import testbed

testbed.use_style()
pd.set_option("display.max_colwidth", None)
os.chdir(Path(testbed.__file__).parents[1])  # all paths are those of the repository

# %%
second = None if os.environ.get("TESTBED_RESULTS") else "examples/measurer/reference"
campaigns = [testbed.load("results/reference"), testbed.load(second)]
campaigns

# %% [markdown]
# ## The overheads that both have
#
# `ratio_1` and `ratio_2` are the overheads in the two campaigns. `allowed` is the largest difference that counts as
# the same: 0.1 % for workloads of one process, 0.5 % for servers.

# %%
both = testbed.compare(campaigns)
both.drop(columns=["kernel", "runtime", "differs"]).round(5)

# %% [markdown]
# The same as a figure: the difference of each overhead as a bar, and what is allowed as a line.

# %%
shown = both.assign(name=both["workload"] + ", " + both["treatment"]).set_index("name").iloc[::-1]
figure, ax = plt.subplots(figsize=(7.2, 1.0 + 0.3 * len(shown)))
ax.barh(shown.index, 100 * shown["difference"], color=["#0072B2" if ok else "#D55E00" for ok in shown["ok"]])
for place, allowed in enumerate(shown["allowed"]):
    ax.plot([100 * allowed] * 2, [place - 0.4, place + 0.4], color="black")
ax.set_xlabel("largest difference between the campaigns, % (line: allowed)")
plt.show()

# %% [markdown]
# ## The intervals side by side
#
# A difference between two campaigns is no surprise if it is smaller than the intervals of both. If it is larger,
# something beside chance differs. Below six blocks (`n`) there is no interval, and its ends are 0 and infinite.

# %%
keys = ["workload", "treatment"]
columns = ["ratio", "low", "high", "n", "floor_low", "floor_high"]
tables = [testbed.overhead(one).set_index(keys)[columns].round(5) for one in campaigns]
pd.concat(dict(enumerate(tables, 1)), axis="columns", join="inner").T

# %% [markdown]
# ## What differs between them
#
# The facts that both campaigns recorded: kernel, images, measurer, commit, host. Look here first if two overheads do
# not agree. If `measurer` or `commit` is in the list, the code under test is not the same, and equal overheads are not
# to be expected.

# %%
both.set_index(keys)["differs"].map(lambda text: text or "nothing but the boots").to_frame()

# %% [markdown]
# ## Within one campaign
#
# `testbed compare --across kernel` compares two sides of one campaign, for example two kernels. Boots of one campaign
# are interleaved, so this needs no assumption that nothing else changed in the meantime.
