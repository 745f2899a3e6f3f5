"""The files of a training that is under way: the last epoch and the best one, so that it can go on after a stop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from converter.core.errors import InputError, OutputError, UsageError
from converter.core.foreign import Facts, Json, KerasModel
from converter.core.jsonable import Fields, dumps, plain, read_json
from converter.core.text import one_line

LAST, BEST, STATE = "last.weights.h5", "best.weights.h5", "state.json"
MAX_BYTES = 16 << 20


@dataclass(frozen=True)
class Progressed:
    """What is known after some epochs: a record for each, and the index of the best one, -1 before the first."""

    epochs: tuple[Facts, ...] = ()
    best: int = -1
    plan: Mapping[str, Json] = field(default_factory=dict)

    @property
    def waited(self) -> int:
        """How many epochs have not been better than the best one."""
        return len(self.epochs) - 1 - self.best


class Store:
    """The directory of a training. `plan` is what must be the same for a training to go on."""

    def __init__(self, directory: Path, plan: Mapping[str, Json]) -> None:
        self.directory = directory
        self.plan: Json = plain(plan)

    def exists(self) -> bool:
        """Whether a training was stopped here."""
        return (self.directory / STATE).is_file()

    def begin(self) -> Progressed:
        """The state before the first epoch; an older one is removed. Raises OutputError."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self.remove()
        except OSError as error:
            raise OutputError(f"{self.directory}: cannot be written: {error.strerror or error}") from error
        return Progressed(plan=self.plan)

    def resume(self, model: KerasModel) -> Progressed:
        """The state of a stopped training, whose last weights are loaded into `model`, optimizer included.

        Raises UsageError if there is none or it had another plan, InputError if it is damaged.
        """
        path = self.directory / STATE
        if not path.is_file():
            raise UsageError(f"--resume: no stopped training in {self.directory}\nleave --resume out to begin")
        fields = Fields(read_json(path, MAX_BYTES, "the state of a training"), str(path))
        plan = fields.get("plan", dict)
        changed = sorted(key for key in {*plan, *self.plan} if plan.get(key) != self.plan.get(key))
        if changed:
            raise UsageError(
                f"--resume: the stopped training in {self.directory} has another {', '.join(changed)}\n"
                "give the same options and data, or begin again with --force"
            )
        try:
            model.load_weights(self.directory / LAST)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"{self.directory / LAST}: cannot be loaded: {one_line(error)}\nbegin again with --force"
            ) from error
        epochs = tuple(dict(each.value) for each in fields.items("epochs"))
        return Progressed(epochs, fields.get("best", int), plan)

    def save(self, model: KerasModel, state: Progressed) -> None:
        """Keep the weights after the last epoch of `state`, and as the best ones if they are. Raises OutputError."""
        try:
            if state.waited == 0:
                self._weights(model, BEST)
            self._weights(model, LAST)
            temporary = self.directory / f"{STATE}.partial"
            temporary.write_text(dumps(state), encoding="ascii")
            temporary.replace(self.directory / STATE)
        except (OSError, RuntimeError) as error:  # h5py raises RuntimeError where a disk is full while it closes a file
            raise OutputError(
                f"{self.directory}: epoch {len(state.epochs)} cannot be saved: {one_line(error)}\n"
                "make room, and go on with --resume"
            ) from error

    def _weights(self, model: KerasModel, name: str) -> None:
        temporary = self.directory / f"partial.{name}"
        model.save_weights(temporary, overwrite=True)
        temporary.replace(self.directory / name)

    def load_best(self, model: KerasModel) -> None:
        """Load the weights of the best epoch into `model`."""
        model.load_weights(self.directory / BEST)

    def remove(self) -> None:
        """Remove the files of a training that has ended."""
        for name in (STATE, LAST, BEST):
            (self.directory / name).unlink(missing_ok=True)
            (self.directory / f"partial.{name}").unlink(missing_ok=True)
