"""The progress of a run: what a resumed run needs in addition to weights and optimizer."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Progress:
    """`epoch` and `position` (steps done in it) name the next batch. epoch_sums: see `metrics.EpochSums`."""

    step: int = 0
    epoch: int = 0
    position: int = 0
    best_score: float | None = None
    best_epoch: int | None = None
    best_step: int | None = None
    skipped_steps: int = 0
    logged_lines: int = 0
    seconds: float = 0.0
    epoch_sums: Mapping[str, float] = field(default_factory=dict)
    history: tuple[dict[str, Any], ...] = ()

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Progress":
        """The progress in a checkpoint's JSON."""
        return cls(**{**values, "history": tuple(values["history"])})

    def after_step(self, *, skipped: bool = False) -> "Progress":
        """After one more optimizer step, applied or skipped."""
        return replace(
            self, step=self.step + 1, position=self.position + 1, skipped_steps=self.skipped_steps + int(skipped)
        )

    def after_epoch(self, line: dict[str, Any], seconds: float) -> "Progress":
        """At the start of the next epoch; `line` is this one's entry in the history."""
        return replace(
            self,
            epoch=self.epoch + 1,
            position=0,
            epoch_sums={},
            history=(*self.history, line),
            seconds=self.seconds + seconds,
        )

    def at_epoch_start(self) -> "Progress":
        """Back at the start of the current epoch."""
        return replace(self, step=self.step - self.position, position=0, epoch_sums={})

    def validated(self, numbers: Mapping[str, Any]) -> "Progress":
        """With validation numbers in the last epoch's entry; updates the best epoch by mAP, or without people by mA.

        Without a score (no query has a match in the validation split), the latest epoch is the best.
        """
        history = (*self.history[:-1], {**self.history[-1], **numbers})
        score = numbers["validation_mAP"] if "validation_mAP" in numbers else numbers["validation_mA"]
        if self.best_score is not None and (score is None or score <= self.best_score):
            return replace(self, history=history)
        return replace(self, history=history, best_score=score, best_epoch=self.epoch, best_step=self.step)


class Clock:
    """Measures time and speed from the position at which an epoch was started or resumed."""

    def __init__(self, position: int) -> None:
        self._first, self._begun = position, time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._begun

    def steps_per_second(self, position: int) -> float:
        """Speed of the steps since then."""
        return (position - self._first) / self.seconds
