# %% [markdown]
# # From a training run to its figures
#
# Trains a tiny language model for 1,500 steps, records the embedding row of every dead token at every step, and asks
# when the rows stop moving. It takes two to four minutes on two cores, and needs `pip install
# "trajectory-store[train,fast,plots]"`. The script and the notebook of the same name are the same cells.

# %%
import subprocess
import sys
from pathlib import Path

import numpy as np

import trajectory_store as ts
from trajectory_store import analysis, report
from trajectory_store.notebook import bar

# %%
folder = Path("demo/findings")  # everything that is made goes there
settings = {"total_steps": 1_500, "learning_rate": 1e-3, "weight_decay": 0.0}  # Crucible's, at a batch of 8

# %% [markdown]
# ## Train and record
#
# The data folder holds a text, its tokenizer, and which tokens never occur in the text. `trainer` is the reference
# trainer; any training loop records as much with `ts.create` and `sink.append`.


# %%
def command(*arguments):
    subprocess.run([sys.executable, "-m", *map(str, arguments)], check=True)


data, recorded = folder / "data", folder / "run"
if not data.exists():
    command("trainer", "prepare", data)
options = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
command("trainer", "run", "--preset", "demo", "--data", data, "--out", recorded, "--overwrite", *options)

# %% [markdown]
# ## Look
#
# A run opens at once, whatever its size, and reads what is indexed: here four weights of one token, every 250 steps.

# %%
run = ts.open(recorded / "trajectory")
print(run)
print(run["W"][::250, 17, :4])

# %% [markdown]
# ## Ask
#
# Several analyses share one pass. A token's freeze onset is the last step at which any bit of its row changed.

# %%
onset, still, cloud = analysis.scan(
    run, [analysis.FreezeOnset(), analysis.StillRuns(), analysis.CloudOf()], progress=bar("Analyzing")
)
first, last = run["W"].steps[[0, -1]]
print(f"Steps {first:,} to {last:,}; the first token froze at {onset.min():,}, the last move was at {onset.max():,}.")
print(f"Half of the tokens made their last move by step {np.median(onset):,.0f}.")
print(f"Nothing moved at {still.n_still:,} steps, nor in the last {still.winter:,}.")
print(f"The centre went {cloud.net:.3f} from where it began, {cloud.efficiency:.0%} of its way.")

# %% [markdown]
# ## Draw
#
# One page with everything, and each figure as a file: `form="svg"` for what can scale, `"png"` for what cannot.

# %%
found = report.findings(run, tokenizer=data / "tokenizer.json")
report.write_page(found, folder / "report.html")
names = report.write_figures(found, folder / "figures", form="png")
print(f"{folder / 'report.html'}, {', '.join(names)}")

# %%
{figure.name: figure for figure in report.figures(found)}["heat-map"]  # a notebook shows it
