"""How a model is trained; nothing heavy is imported."""

from __future__ import annotations

import math
from dataclasses import dataclass

OPTIMIZERS = ("adam", "sgd")
SCHEDULES = ("cosine", "constant", "step")
RATES = {"adam": 1e-3, "sgd": 5e-2}
AUXILIARY = 0.3
"""Weight of the loss of every output but the first (Szegedy et al., Going Deeper with Convolutions, section 5)"""


@dataclass(frozen=True)
class TrainOptions:
    """`rate` None is `RATES` of the optimizer. `patience` is how many epochs without a lower validation loss end the
    training; 0 means never."""

    epochs: int = 10
    batch: int = 32
    optimizer: str = "adam"
    rate: float | None = None
    schedule: str = "cosine"
    patience: int = 5
    seed: int = 0

    def rate_at(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0.

        "cosine" falls to nothing after the last epoch; "step" is a tenth after half and a hundredth after three
        quarters of the epochs.
        """
        first = RATES[self.optimizer] if self.rate is None else self.rate
        done = epoch / self.epochs
        if self.schedule == "cosine":
            return first * 0.5 * (1.0 + math.cos(math.pi * done))
        if self.schedule == "step":
            return first * (0.01 if done >= 0.75 else 0.1 if done >= 0.5 else 1.0)
        return first
