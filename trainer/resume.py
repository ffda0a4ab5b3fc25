"""Where a run goes on: after the newest checkpoint that is sound, fits this training and is reached by the recording.

Law: nothing is trained over a run that was begun with another configuration, nor in another environment unless told. A
checkpoint that is passed over is said to be, with the reason.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import trajectory_store as ts
from trajectory_store import conventions
from trajectory_store.errors import MalformedFileError, StepNotRecordedError, UsageError

from .checkpoint import CheckpointFile, checkpoints, read_checkpoint, restore
from .config import Config
from .fingerprint import differences, said
from .output import Options
from .recorder import NoRecording, Sink
from .state import TrainingState, fresh

# What may differ between a run and its resume: these leave every recorded bit alone. The device and the threads that
# were resolved are compared as part of the fingerprint.
_FREE_KEYS = {"experiment", "checkpoint_steps", "checkpoint_every", "device", "num_threads"}


@dataclass(frozen=True)
class Resumed:
    """A training that goes on.

    Parameters
    ----------
    state : TrainingState
        Where it stands.
    sink : Sink
        Takes its next frames.
    checkpointed_step : int
        Of the checkpoint that it goes on from; −1 if it starts again at step 0.
    is_new : bool
        Whether no step is recorded.
    """

    state: TrainingState
    sink: Sink
    checkpointed_step: int
    is_new: bool


class Resume:
    """One attempt to go on with the run in a folder.

    Parameters
    ----------
    options : Options
        The folder, and how the run is kept.
    config : Config
        What is trained.
    about : Mapping of str to Any
        What this training says of itself, as a run records it.
    report : Callable
        Is given a line for whatever happens.
    """

    def __init__(
        self, options: Options, config: Config, about: Mapping[str, Any], report: Callable[[str], None]
    ) -> None:
        self._options = options
        self._config = config
        self._about = about
        self._report = report

    def newest(self, state: TrainingState) -> Resumed:
        """Restore the newest usable checkpoint, or start again at step 0 and compare with what is recorded.

        Parameters
        ----------
        state : TrainingState
            A fresh one.

        Returns
        -------
        Resumed
            The state to go on with, and where its frames go.

        Raises
        ------
        UsageError
            The run was begun with another configuration, or in another environment and that was not allowed.
        RunLockedError
            Another process writes the run.
        DamageError
            A step that was synced is damaged.
        """
        options = self._options
        if options.capture:
            with ts.open(options.trajectory) as recorded:
                self._require_same_run(recorded.attrs)
                is_new = len(recorded.steps) == 0
            if is_new:
                self._report(f"{options.out} holds no step yet: starting at step 0")
                return Resumed(state, self._sink_after(-1), -1, is_new=True)
        for file in reversed(checkpoints(options.checkpoints)):
            try:
                self._restore(state, file)
                sink = self._sink_after(file.step)
            except (MalformedFileError, StepNotRecordedError) as error:
                self._report(f"Passing over {file.path.name}: {error}")
                state = fresh(self._config, state.device)
                continue
            self._report(f"Resuming after step {file.step}, from {file.path}")
            return Resumed(state, sink, file.step, is_new=False)
        sink = self._sink_after(-1)
        self._report("No usable checkpoint: starting again at step 0, comparing with what is recorded")
        return Resumed(state, sink, -1, is_new=False)

    def _restore(self, state: TrainingState, file: CheckpointFile) -> None:
        content = read_checkpoint(file.path)
        if content["step"] != file.step or (self._options.capture and self._differing_keys(content["about"])):
            raise MalformedFileError(f"{file.path}: it belongs to another run")
        if not self._options.capture:  # there is no recording that says what run this is
            self._require_same_run(content["about"])
        restore(state, content, file.path)

    def _sink_after(self, step: int) -> Sink:
        if not self._options.capture:
            return NoRecording()
        sink = ts.resume(self._options.trajectory, from_step=step, durability=self._options.durability)
        if sink.recovery.dropped_bytes:
            self._report(f"{self._options.trajectory}: {sink.recovery}")
        return sink

    def _require_same_run(self, recorded: Mapping[str, Any]) -> None:
        out = self._options.out
        if keys := self._differing_keys(recorded):
            was, now = said(recorded, conventions.CONFIG), self._about[conventions.CONFIG]
            listed = ", ".join(f"{key} was {was.get(key)} and is {now[key]}" for key in keys)
            raise UsageError(f"{out}: this run was begun with another configuration: {listed}")
        differing = differences(said(recorded, conventions.FINGERPRINT), self._about[conventions.FINGERPRINT])
        if not differing:
            return
        self._report("The environment differs from the one this run was begun in:")
        for line in differing:
            self._report(f"  {line}")
        if not self._options.allow_different_environment:
            raise UsageError(
                f"{out}: the environment differs ({len(differing)} values), so the steps to come may not be the bits"
                " of an uninterrupted run; go on all the same with --allow-different-environment"
            )

    def _differing_keys(self, recorded: Mapping[str, Any]) -> list[str]:
        was, now = said(recorded, conventions.CONFIG), self._about[conventions.CONFIG]
        return [key for key in now if key not in _FREE_KEYS and was.get(key) != now[key]]
