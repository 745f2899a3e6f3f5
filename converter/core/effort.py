"""How much of a proof's time may go into samples: a heavy model is compared on fewer, never on fewer than three.

The time of one inference is measured, then the samples are chosen. What is not saved: every batch size, float64 and the
controls.
"""

from __future__ import annotations

from dataclasses import dataclass

FEWEST, MOST = 3, 8
FIXED, PER_RUN = 24, 7
"""What does not depend on the number of samples, as a number of inferences: in all, and for each runtime.

In all: the first runs 4, two samples in float64 10, the controls 4, the tensors of the layers in files 6. For each
runtime: a single sample and a batch of three, the latency, and preparing the file.
"""

HEAVY = 0.15
"""Seconds of an inference above which two samples are not run where one shows the same."""

CELLS, EXACT_SECONDS = 1000, 3.0
"""Values of the smallest output from which its noise is known well, and seconds that float64 may take otherwise."""


@dataclass(frozen=True)
class Effort:
    """The number of `samples`, or if None as many as `seconds` of inference allow, in `runs` runtimes."""

    samples: int | None = None
    seconds: float = 4.0
    runs: int = 3

    @property
    def most(self) -> int:
        """How many samples to draw."""
        return self.samples or MOST

    def chosen(self, one: float) -> int:
        """The number of samples of which one takes `one` seconds."""
        if self.samples is not None:
            return self.samples
        left = self.seconds / max(one, 1e-6) - FIXED - PER_RUN * self.runs
        return int(min(MOST, max(FEWEST, left // (2 + self.runs))))

    def heavy(self, one: float) -> bool:
        """Whether only one sample is run in float64 and for the controls, because one takes long: `one` seconds."""
        return self.samples is None and one > HEAVY

    def exact(self, one: float, cells: int, samples: int) -> int:
        """How many samples to run in float64, which takes about three times as long as `one`.

        Two are enough where an output has many `cells` for each: the noise is then known well. Otherwise all, if cheap.
        """
        cheap = int(EXACT_SECONDS / (3 * max(one, 1e-6)))
        if self.heavy(one) and cells >= CELLS:
            return 1
        return min(samples, 2 if 2 * cells >= CELLS else max(2, cheap))

    def forecast(self, samples: int, one: float) -> float:
        """About how many seconds of inference the proof takes."""
        return one * (FIXED + PER_RUN * self.runs + (2 + self.runs) * samples)
