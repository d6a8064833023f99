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
# # Your measurer: from its log to overhead and verdicts
#
# You wrote something that records what containers execute. What do its digests bind? Does it record everything? What
# does it cost? The first question needs only a log. The second needs the container's image. The third needs machines.
#
# The example is `execlog` ([examples/measurer](../examples/measurer)), which is not part of the testbed: a BPF
# program of 70 lines that logs each `execve` in a container, in a file of its own.

# %%
import os
from pathlib import Path

import pandas as pd

import testbed

testbed.use_style()
pd.set_option("display.max_colwidth", 80)
os.chdir(Path(testbed.__file__).parents[1])  # all paths are those of the repository

# %% [markdown]
# ## 1. What do the digests bind?
#
# Somebody shows a log on a slide, and you have nothing else. `testbed.semantics` infers the rule by which each digest
# was made. These are the logs of two public prototypes, as text that was copied from slides. Some lines are damaged.

# %%
said = testbed.semantics(*sorted(Path("tests/golden/slides").glob("*.txt")))
testbed.rules(said)

# %% [markdown]
# Six digests bind 64 bits of the file, and one binds none; none of them binds the namespace that the line names. The
# digest of the image binds nothing. *Unknown* means that no plain digest of that file is in the log to compare with.

# %%
testbed.findings(said).head(3)

# %% [markdown]
# ## 2. What must the log contain?
#
# A measurer states its promise in Python: `claim` takes what really ran and returns what must be in the log. Ground
# truth comes from the image, never from the log. `testbed claim execlog shell-script` computes both, without a machine.
# This is its output, because the repository does not hold the image.

# %%
claimed = testbed.read_claim("examples/measurer/claims/shell-script.json")
pd.DataFrame(claimed.truth_rows())[["container", "route", "path", "size"]]

# %% [markdown]
# A script runs, its interpreter, some programs, their loader and their libraries. `execlog` sees what is executed, and
# not what is mapped. So it promises less:

# %%
pd.DataFrame(claimed.claimed_rows())[["container", "path", "digest"]]

# %% [markdown]
# With the image at hand it is one call:
#
#     testbed.claim("execlog", "shell-script", "results/NAME/images/script.oci.tar", measurer_path="examples/measurer")
#
# ## 3. Is everything in the log?
#
# The lab ran the workload with `execlog` and kept its log.

# %%
campaign = testbed.load("examples/measurer/reference")
runs = testbed.bundles(campaign)
run = runs[runs["measurer"] == "execlog"].iloc[0]
lines = run["log"].read_bytes().splitlines(keepends=True)
len(lines), lines[0]

# %% [markdown]
# The record of the run says which containers the lab started. `check_log` compares the log with the claim for them:
# no finding.

# %%
claimed = testbed.read_claim(f"examples/measurer/claims/{run['workload']}.json")
started = {one.id: "container-0" for one in campaign.record(run["run"]).containers}
found = testbed.check_log("execlog", run["log"], claimed, started, measurer_path="examples/measurer")
len(found)

# %% [markdown]
# Now the log loses its first line, and a program appears that never ran:

# %%
container = next(iter(started)).encode()
wrong = b"".join(lines[1:]) + b"0" * 64 + b" " + container + b" /usr/bin/evil\n"
found = testbed.check_log("execlog", wrong, claimed, started, measurer_path="examples/measurer")
testbed.findings(found)[["kind", "where", "expected", "got"]].T

# %% [markdown]
# No PCR vouches for such a log. A forger who can write the file can also make both findings disappear. A log that a TPM
# vouches for is the subject of [attestation](attestation.ipynb).
#
# ## 4. What does it cost?
#
# The campaign ran `execlog` beside no measurement and the project's own `container-file`, on two workloads: containers
# that start and end, and one that executes 375 programs. `n` is the number of boots. Below six boots there is no
# interval, and the verdict is INCONCLUSIVE.

# %%
columns = ["workload", "treatment", "ratio", "low", "high", "n", "cost", "unit", "verdict"]
testbed.overhead(campaign)[columns].round(4)

# %%
testbed.figure(campaign, "overhead")

# %% [markdown]
# ## 5. And the verdicts?
#
# Each run was judged as above, with all its evidence: `ok` means that there is no finding beside the expected ones.

# %%
verdicts = campaign.verdicts
verdicts.pivot_table(index=["measurer", "workload"], columns="verdict", values="run", aggfunc="count", fill_value=0)

# %% [markdown]
# ## Now yours
#
# [Add a measurer](../docs/how-to/add-a-measurer.md) goes through these steps with the C code. Then this runs it, and
# `TESTBED_RESULTS` shows the new campaign in the other notebooks:
#
#     testbed run mine.toml --measurer-path DIRECTORY

# %%
testbed.doubts(campaign)
