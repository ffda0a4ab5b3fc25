"""One training run's folder: begin it or go on with it, record every step, finish it.

Law: `output.check_out` has passed before any of this begins. Every step taken is recorded and flushed before a
checkpoint is written, so a checkpoint of step k implies that the recording has step k.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

import trajectory_store as ts
from trajectory_store import conventions, files
from trajectory_store.commands import terminal
from trajectory_store.sizes import format_bytes

from . import budget, checkpoint
from .batches import Batches
from .capture import capture_on
from .config import Config, rolling_interval
from .data import TrainingData
from .fingerprint import take_fingerprint
from .loop import train
from .metadata import write_metadata
from .output import Options
from .plan import plan_lines
from .recorder import NoRecording, Recorder, Sink
from .removal import remove_leftovers, remove_replaced
from .resume import Resume
from .rows import captured_tokens, declared_series, token_text
from .state import TrainingState, fresh

Report = Callable[[str], None]


class RunFolder:
    """A training and the folder that records it.

    Parameters
    ----------
    config : Config
        What is trained.
    data : TrainingData
        What it is trained on.
    device : str
        "cpu", "cuda" or "mps".
    options : Options
        The folder, and how the run is kept; `check_out` has passed.
    report : Callable
        Is given each line to print.
    """

    def __init__(self, config: Config, data: TrainingData, device: str, options: Options, report: Report) -> None:
        self._config = config
        self._options = options
        self._report = report
        self._masks = data.masks
        self._batches = Batches(data.tokens, seq_len=config.seq_len, batch_size=config.batch_size)
        self._tokens = captured_tokens(config, data.masks)
        self._token_text = token_text(self._tokens, data.strings)
        self._series = declared_series(config, len(self._tokens)) if options.capture else {}
        self._capture = capture_on(device, config.series if options.capture else (), self._tokens)
        self.state = fresh(config, device)
        self._about: dict[str, Any] = {
            conventions.PRESET: options.preset,
            conventions.CONFIG: config.to_json(),
            conventions.FINGERPRINT: take_fingerprint(self.state.optimizer, device, data.hashes),
        }
        self._rolling_steps, self._rolling_seconds = rolling_interval(config.checkpoint_every)
        self._checkpointed_at = time.monotonic()
        self._checkpointed_step = -1
        self._is_new = False  # no step is recorded
        self._is_open = False  # the recording was begun or resumed

    @property
    def is_begun(self) -> bool:
        """Whether the folder holds this run, and not one that it was to replace: a resume goes on with it."""
        return self._is_open or (self._options.is_recorded and not self._options.overwrite)

    def print_plan(self, data: TrainingData) -> None:
        """Say, as the notebook does, what is about to be trained, on what.

        Parameters
        ----------
        data : TrainingData
            What was given at the beginning.
        """
        optimizer = self._about[conventions.FINGERPRINT]["bits"]["optimizer"]
        for line in plan_lines(self._config, data, self.state, self._batches, optimizer=optimizer):
            self._report(line)

    def require_room(self) -> None:
        """Print what the run will need, and raise if there is no room for it."""
        needs = budget.estimate(
            self._config,
            self._series,
            self._options.out,
            backend=self._options.backend,
            device=self.state.device,
            checkpoint_bytes=checkpoint.estimated_bytes(self.state),
            with_export=self._options.export,
        )
        for line in needs.lines():
            self._report(line)
        needs.require_room(self._options.out)

    def record(self, should_stop: Callable[[], bool]) -> bool:
        """Train and record to the end, or until told to stop.

        Parameters
        ----------
        should_stop : Callable
            Asked after each step; if it says so, a checkpoint is written and the training ends.

        Returns
        -------
        bool
            Whether the run is complete.

        Raises
        ------
        StorageError
            The disk refuses; every step before is recorded.
        ReplayMismatchError
            A resume computed other bits than are recorded.
        """
        options, config = self._options, self._config
        sink = self._resume() if options.resume else self._begin()
        state = self.state
        with Recorder(self._capture, sink) as recorder:
            self._is_open = True
            if self._is_new:
                remove_replaced(options)
            remove_leftovers(options)
            files.make_folders(options.checkpoints)
            if self._checkpointed_step < 0:  # no checkpoint to go on from, so step 0 itself is to be recorded
                recorder.take(state)
                self._checkpoint_where_due(recorder)
            self._report(f"\nStarting training for {config.total_steps} steps...")
            self._report(f"Checkpoints at: {list(config.checkpoint_steps)}")
            with tqdm(total=config.total_steps, initial=state.step, desc="Training", disable=None) as progress:

                def on_step(_state: TrainingState) -> bool:
                    recorder.take(state)
                    self._checkpoint_where_due(recorder)
                    shown = {"loss": f"{recorder.last_loss:.4f}", "epoch": state.place.epoch}
                    progress.set_postfix(shown, refresh=False)
                    progress.update(1)
                    if should_stop() and state.step < config.total_steps:
                        if self._checkpointed_step != state.step:
                            self._save(recorder, checkpoint.rolling_path(options.checkpoints, state.step))
                        return False
                    return True

                train(state, self._batches, config, on_step)
        if state.step < config.total_steps:
            return False
        self._finish()
        return True

    def _begin(self) -> Sink:
        options = self._options
        files.make_folders(options.out)
        self._is_new = True
        if not options.capture:
            return NoRecording()
        return ts.create(
            options.trajectory,
            self._series,
            steps=self._config.total_steps + 1,
            backend=options.backend,
            static=self._static(),
            attrs={**self._about, **self._token_text},
            durability=options.durability,
            overwrite=options.overwrite,
        )

    def _resume(self) -> Sink:
        options = self._options
        if options.capture and not options.is_recorded:
            self._report(f"{options.out} holds nothing yet: starting at step 0")
            return self._begin()
        resumed = Resume(options, self._config, self._about, self._report).newest(self.state)
        self.state, self._checkpointed_step = resumed.state, resumed.checkpointed_step
        self._is_new = resumed.is_new
        return resumed.sink

    def _static(self) -> dict[str, Any]:
        static = {conventions.DEAD_MASK: self._masks.dead_mask, conventions.DEAD_INDICES: self._masks.dead_indices}
        if self._config.capture_rows != "dead":
            static[conventions.CAPTURED_INDICES] = self._tokens
        return static

    def _checkpoint_where_due(self, recorder: Recorder) -> None:
        step, folder = self.state.step, self._options.checkpoints
        if step in self._config.checkpoint_steps:
            self._save(recorder, checkpoint.checkpoint_path(folder, step))
            self._report(f"Saved checkpoint at step {step}")
        elif step and (
            (self._rolling_steps and step % self._rolling_steps == 0)
            or (self._rolling_seconds and time.monotonic() - self._checkpointed_at >= self._rolling_seconds)
        ):
            self._save(recorder, checkpoint.rolling_path(folder, step))

    def _save(self, recorder: Recorder, path: Path) -> None:
        recorder.flush()
        checkpoint.save_checkpoint(path, self.state, self._about)
        self._checkpointed_at = time.monotonic()
        self._checkpointed_step = self.state.step

    def _finish(self) -> None:
        options, state = self._options, self.state
        if options.export:
            with terminal.progress("Exporting") as progress:
                # Over what a kill during the end of an earlier attempt may have left.
                ts.export_safetensors(
                    options.trajectory, options.exported, dtype="uint16", overwrite=True, progress=progress
                )
        write_metadata(
            options.metadata, self._config, state, self._series, dead_count=self._masks.dead_count, about=self._about
        )
        self._report(f"\nTraining complete. Final loss: {state.loss.item():.4f}")
        self._report(f"Completed {state.place.epoch} epochs")
        if options.capture:
            raw = sum(s.row_bytes * s.rows_before(self._config.total_steps + 1) for s in self._series.values())
            stored = files.folder_bytes(options.trajectory)
            self._report(
                f"Recorded {options.trajectory}: {format_bytes(stored)} on disk for {format_bytes(raw)} raw"
                f" ({raw / stored:.1f} : 1)"
            )
        if options.export:
            self._report(f"Saved trajectory data to {options.exported}")
            self._report(f"File size: {format_bytes(options.exported.stat().st_size)}")
        self._report(f"Saved {options.metadata}")
