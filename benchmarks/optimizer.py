"""Whether AdamW's other series follow from the gradients: python -m benchmarks.optimizer RUN [STEP …]

RUN recorded W, m, v and g and names its hyperparameters, as `trainer run --preset thimble-8` does. From the row before
and this step's g (for W: m and v) each series is computed by torch's own bfloat16 operations; printed is the share of
values that come out bit for bit. Formulas: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", algorithm 2.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import trajectory_store as ts

N_STEPS = 64


@dataclass(frozen=True)
class AdamW:
    """The hyperparameters, as a run's configuration names them."""

    learning_rate: float
    weight_decay: float
    beta1: float
    beta2: float
    epsilon: float

    def moments(self, m: torch.Tensor, v: torch.Tensor, g: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """m and v after a step with the gradient `g`."""
        v = (v * self.beta2).addcmul_(g, g, value=1 - self.beta2)
        return torch.lerp(m, g, 1 - self.beta1), v

    def weights(self, w: torch.Tensor, m: torch.Tensor, v: torch.Tensor, step: int) -> torch.Tensor:
        """W after update `step`, whose moments are m and v."""
        step_size = self.learning_rate / (1 - self.beta1**step)
        denominator = (v.sqrt() / (1 - self.beta2**step) ** 0.5).add_(self.epsilon)
        return (w * (1 - self.learning_rate * self.weight_decay)).addcdiv(m, denominator, value=-step_size)


def shares(run: ts.Run, step: int, adamw: AdamW) -> dict[str, float]:
    """The share of values of m, v and W that follow bit for bit, over `N_STEPS` updates from update `step` on."""
    stop = min(step + N_STEPS, run["g"].shape[0])
    rows = {name: tensor(run[name].bits[step - 1 : stop]) for name in ("W", "m", "v", "g")}
    same = dict.fromkeys(("m", "v", "W"), 0)
    for at in range(1, stop - step + 1):
        m, v = adamw.moments(rows["m"][at - 1], rows["v"][at - 1], rows["g"][at])
        w = adamw.weights(rows["W"][at - 1], rows["m"][at], rows["v"][at], step + at - 1)
        for name, value in (("m", m), ("v", v), ("W", w)):
            same[name] += int((value.view(torch.int16) == rows[name][at].view(torch.int16)).sum())
    return {name: n / rows["W"][1:].numel() for name, n in same.items()}


def tensor(bits: Any) -> torch.Tensor:
    """Bit patterns as torch's bfloat16."""
    return torch.from_numpy(np.ascontiguousarray(bits).view(np.int16)).view(torch.bfloat16)


def main() -> None:
    """Print a line a start."""
    with ts.open(Path(sys.argv[1])) as run:
        adamw = AdamW(**{name: float(run.attrs["config"][name]) for name in AdamW.__dataclass_fields__})
        n = run["g"].shape[0]
        for step in [int(s) for s in sys.argv[2:]] or sorted({1, *range(N_STEPS, n - N_STEPS, max(1, n // 5))}):
            figures = shares(run, step, adamw)
            print(f"updates {step} to {step + N_STEPS - 1}: " + ", ".join(f"{k} {s:.2%}" for k, s in figures.items()))


if __name__ == "__main__":
    main()
