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
# # A machine proves what its containers ran
#
# A verifier gets four files from a machine that it does not trust: a quote, its signature, a log, and a description.
# This notebook goes from these files to a verdict, one step at a time, with evidence from a real boot. Then it forges
# the evidence and looks at the verdict again.

# %%
import hashlib
import os
import tempfile
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt

import testbed

testbed.use_style()
pd.set_option("display.max_colwidth", 90)
os.chdir(Path(testbed.__file__).parents[1])  # all paths are those of the repository

# %% [markdown]
# ## The four files
#
# The reference data has the evidence of one run of each measurer. We take the measurer that records files and
# launches. `nonce` is what the lab sent to the machine, from its own record.

# %%
evidence = testbed.bundles("results/reference").set_index("measurer")
run = evidence.loc["container-image"]
{path.name: f"{path.stat().st_size} bytes" for path in sorted(run["bundle"].iterdir())}

# %% [markdown]
# ## Step 1: the quote
#
# The TPM signed a statement: "these PCRs have values with this digest, and this is your nonce". Nothing is checked
# yet; we only read it.

# %%
stated = testbed.quote(run["bundle"])
stated.to_frame("stated")

# %% [markdown]
# The nonce is the one that the lab sent. So the quote was made after the question, and is not an old one.

# %%
stated["nonce"] == run["nonce"]

# %% [markdown]
# ## Step 2: the log
#
# The kernel wrote an entry for each thing that it measured. PCR 10 is IMA's, and PCR 11 is the container measurer's.
# The machine could have written anything here, so this is only a claim.

# %%
log = testbed.decode(run["bundle"])
log[["number", "pcr", "kind", "container", "says"]]

# %% [markdown]
# Each entry has more fields. This is how the container was started: its arguments, its mounts, and the digest of its
# image (cut to the first lines here).

# %%
launch = log[log["kind"] == "ctr-launch"].iloc[0]
pd.Series(launch["fields"]).str.slice(0, 90).to_frame("value").head(16)

# %% [markdown]
# ## Step 3: the replay
#
# A PCR can only be extended: its new value is the hash of its old value and of a digest. So a log leads to exactly
# one value. The first entries of PCR 11, with the value after each of them:

# %%
eleven = log[log["pcr"] == 11].set_index("number")
eleven[["kind", "extension", "value"]].map(lambda text: text[:24])

# %% [markdown]
# We check one step by hand: old value, then the digest of the entry, through SHA-256.

# %%
before, entry = eleven.iloc[0], eleven.iloc[1]
by_hand = hashlib.sha256(bytes.fromhex(before["value"]) + bytes.fromhex(entry["extension"])).hexdigest()
by_hand == entry["value"]

# %% [markdown]
# The quote signs one digest over the last values of all quoted PCRs. If the log leads to it, the log is the one that
# the TPM saw: nothing is missing, and nothing was added or changed.

# %%
last = log.groupby("pcr")["value"].last()
hashlib.sha256(b"".join(bytes.fromhex(last[pcr]) for pcr in (10, 11))).hexdigest() == stated["digest"]

# %% [markdown]
# ## Step 4: the verdict
#
# `verify` does all of this and much more: the signature, the key, the form of each entry, the identity of each
# container, the beats that show that the measurer was there all the time. It knows what *we* sent and demanded.

# %%
verdict = testbed.verify(run["bundle"], ak=run["ak"], nonce=run["nonce"], pcrs="sha256:10,11")
str(verdict.judgement), f"{sum(verdict.attested.values())} of {verdict.entries} entries attested"

# %%
testbed.containers(verdict).T

# %% [markdown]
# What it did *not* check is listed too. Here nobody told it who made the key, and nobody gave it a policy of allowed
# files.

# %%
list(verdict.notes)

# %% [markdown]
# ## Step 5: a forgery
#
# For this we take a longer log, from another boot: three containers that ran the same tools. First as it is. Each
# column is one entry; the colour says how the file came to run.

# %%
bundle = Path("tests/golden/bundle-debian-6.12")
honest = {"bundle": bundle, "ak": bundle / "ak.pub", "nonce": testbed.quote(bundle)["nonce"]}
verdict = testbed.verify(**honest)
log = testbed.decode(bundle, verdict)
str(verdict.judgement), len(log)

# %%
how = log["fields"].map(lambda fields: fields.get("route", "")).replace("", "start of a container")
figure, ax = plt.subplots(figsize=(7.2, 2.0))
for name, part in log[log["container"].notna()].groupby(how):
    ax.plot(part["number"], "container " + part["container"], "s", label=name)
ax.invert_yaxis()
ax.set_xlabel("entry of the log")
ax.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, 1.3))
plt.show()

# %% [markdown]
# Somebody with access to the files removes one entry: a program that should not have run.

# %%
scratch = tempfile.TemporaryDirectory()
forged = testbed.forge(attack="line-deleted", output=f"{scratch.name}/line-deleted", **honest)
verdict = testbed.verify(**forged)
str(verdict.judgement), len(testbed.decode(forged["bundle"]))

# %%
testbed.findings(verdict).T

# %% [markdown]
# The shorter log leads to another value than the quoted one. So none of its entries on PCR 11 is attested, and the
# verdict names no container: a log that does not fit proves nothing.

# %%
after = testbed.decode(forged["bundle"], verdict)
after.groupby("pcr")["attested"].agg(["size", "sum"]), len(testbed.containers(verdict))

# %% [markdown]
# ## More forgeries
#
# [docs/attacks.md](../docs/attacks.md#all-attacks) has some six hundred. A careful forger also repairs the digest of
# an edited entry, sends an old quote, signs with another key, extends the PCR itself, or writes further entries
# behind the quoted state. The last one changes no verdict: such entries are reported, and they never count as
# evidence.


# %%
def judge(attack: str) -> dict[str, str]:
    """Forge, verify, and say what the verifier found."""
    verdict = testbed.verify(**testbed.forge(attack=attack, output=f"{scratch.name}/{attack}", **honest))
    kinds = sorted(set(testbed.findings(verdict)["kind"]))
    return {"attack": attack, "verdict": str(verdict.judgement), "findings": ", ".join(kinds)}


# %%
names = ["path-edited", "path-edited-and-fixed", "lines-swapped", "quote-replayed", "signature-other-key"]
names += ["nonce-patched", "pcr-11-extended", "pcr-11-lines-gone", "name-size-huge", "tail-evil"]
pd.DataFrame(map(judge, names)).set_index("attack")

# %% [markdown]
# ## What a verdict does not say
#
# *Trusted* means that the log is authentic and complete as the TPM saw it. Whether the measurer recorded everything
# is another question. The testbed answers it with ground truth: it knows from the image what each container had to
# execute. `promised` is how many entries that demands, and `missed` and `unexpected` are the differences.

# %%
judged = testbed.load("results/reference").verdicts
counts = judged.assign(runs=1, missed=judged["missed"].map(len), unexpected=judged["unexpected"].map(len))
counts.groupby("measurer")[["runs", "promised", "missed", "unexpected"]].sum()
