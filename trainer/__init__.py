"""The reference trainer: Thimble 9's training loop, bit for bit, recorded step by step with `trajectory_store`."""

from pathlib import Path

# PyPI's package `trainer` has this file, and a `model.py` as we have: then one of the two packages has lost its own.
if Path(__file__).with_name("trainer.py").exists():
    raise ImportError(
        f"{Path(__file__).parent}: another package `trainer` was installed into the same folder, and each has"
        " overwritten files of the other; install trajectory-store again, in an environment that has no other package"
        " `trainer`",
        name="trainer",
    )
