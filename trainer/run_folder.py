"""One training run's folder: begin it or go on with it, record every step, finish it.

Law: `output.check_out` has passed before any of this begins. Every step taken is recorded and flushed before a
checkpoint is written, so a checkpoint of step k implies that the recording has step k.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

import trajectory_store as ts
from trajectory_store import conventions, files
from trajectory_store.errors import (
    MalformedFileError,
    StepNotRecordedError,
    UsageError,
)

from . import budget, checkpoint
from .batches import Batches
from .capture import capture_on
from .config import Config, rolling_interval
from .data import TrainingData
from .fingerprint import differences, take_fingerprint
from .loop import train
from .metadata import write_metadata
from .output import Options, leftovers
from .recorder import NoRecording, Recorder, Sink
from .rows import captured_tokens, declared_series, token_text
from .state import TrainingState, fresh

Report = Callable[[str], None]

# What may differ between a run and its resume: these leave every recorded bit alone. The device and the threads that
# were resolved are compared as part of the fingerprint.
_FREE_KEYS = {"experiment", "checkpoint_steps", "checkpoint_every", "device", "num_threads"}


class RunFolder:
    """A training and the folder that records it."""

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

    def record(self, should_stop: Callable[[], bool]) -> bool:
        """Train and record to the end, or until `should_stop`; returns whether the run is complete."""
        options, config = self._options, self._config
        sink = self._resume() if options.resume else self._begin()
        state = self.state
        with Recorder(self._capture, sink) as recorder:
            self._is_open = True
            if self._is_new:
                self._remove_replaced()
            self._clear_partial_files()
            files.make_folders(options.checkpoints)
            if self._checkpointed_step < 0:  # no checkpoint to go on from, so step 0 itself is to be recorded
                recorder.take(state)
                self._checkpoint_where_due(recorder)
            self._report(f"\nStarting training for {config.total_steps} steps...")
            self._report(f"Checkpoints at: {list(config.checkpoint_steps)}")
            with self._progress() as progress:

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

    def print_plan(self, data: TrainingData) -> None:
        """Say, as the notebook does, what is about to be trained, on what."""
        config, state = self._config, self.state
        weight = state.model.embedding.weight
        implementation = self._about["fingerprint"]["bits"]["optimizer"]
        for line in (
            f"Using device: {state.device}",
            f"Random seed set to {config.random_seed}",
            f"Loaded tokenizer with vocab size {config.vocab_size}",
            f"Dead tokens: {self._masks.dead_count}",
            f"Live tokens: {config.vocab_size - self._masks.dead_count}",
            f"Dataset: {self._batches.sequence_count} sequences of length {config.seq_len}",
            f"Total tokens: {self._batches.sequence_count * config.seq_len:,}",
            f"Model parameters: {sum(p.numel() for p in state.model.parameters()):,}",
            f"Embedding shape: {weight.shape}",
            f"Optimizer: {implementation}",
            f"  lr={config.learning_rate}, weight_decay={config.weight_decay}",
            f"  betas=({config.beta1}, {config.beta2}), eps={config.epsilon}",
        ):
            self._report(line)
        if data.misplaced_count:
            self._report(f"Note: {data.misplaced_count} of the dead tokens do occur in the corpus")

    def require_room(self) -> None:
        """Print what the run will need, and raise where there is no room for it."""
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
        """Restore the newest checkpoint that is sound and that the recording reaches; return the sink after it."""
        options = self._options
        if options.capture and not options.is_recorded:
            self._report(f"{options.out} holds nothing yet: starting at step 0")
            return self._begin()
        if options.capture:
            with ts.open(options.trajectory) as recorded:
                self._require_same_run(recorded.attrs)
                self._is_new = len(recorded.steps) == 0
        if self._is_new:
            self._report(f"{options.out} holds no step yet: starting at step 0")
            return self._sink_after(-1)
        for file in reversed(checkpoint.checkpoints(options.checkpoints)):
            try:
                self._restore(file)
                sink = self._sink_after(file.step)
            except (MalformedFileError, StepNotRecordedError) as error:
                self._report(f"Passing over {file.path.name}: {error}")
                self.state = fresh(self._config, self.state.device)
                continue
            self._checkpointed_step = file.step
            self._report(f"Resuming after step {file.step}, from {file.path}")
            return sink
        sink = self._sink_after(-1)
        self._report("No usable checkpoint: starting again at step 0, comparing with what is recorded")
        return sink

    def _restore(self, file: checkpoint.CheckpointFile) -> None:
        content = checkpoint.read_checkpoint(file.path)
        if content["step"] != file.step or (self._options.capture and self._differing_keys(content["about"])):
            raise MalformedFileError(f"{file.path}: it belongs to another run")
        if not self._options.capture:  # there is no recording that says what run this is
            self._require_same_run(content["about"])
        checkpoint.restore(self.state, content, file.path)

    def _sink_after(self, step: int) -> Sink:
        if not self._options.capture:
            return NoRecording()
        sink = ts.resume(self._options.trajectory, from_step=step, durability=self._options.durability)
        if sink.recovery.dropped_bytes:
            self._report(f"{self._options.trajectory}: {sink.recovery}")
        return sink

    def _require_same_run(self, recorded: Mapping[str, Any]) -> None:
        """Raise unless this configuration and environment are those the run was begun with."""
        out = self._options.out
        if keys := self._differing_keys(recorded):
            was, now = recorded.get("config", {}), self._about["config"]
            listed = ", ".join(f"{key} was {was.get(key)} and is {now[key]}" for key in keys)
            raise UsageError(f"{out}: this run was begun with another configuration: {listed}")
        differing = differences(recorded.get("fingerprint", {}), self._about["fingerprint"])
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
        was, now = recorded.get("config", {}), self._about["config"]
        return [key for key in now if key not in _FREE_KEYS and was.get(key) != now[key]]

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
            self._export()
        write_metadata(
            options.metadata, self._config, state, self._series, dead_count=self._masks.dead_count, about=self._about
        )
        self._report(f"\nTraining complete. Final loss: {state.loss.item():.4f}")
        self._report(f"Completed {state.place.epoch} epochs")
        if options.capture:
            raw = sum(s.row_bytes * s.rows_before(self._config.total_steps + 1) for s in self._series.values())
            stored = sum(path.stat().st_size for path in options.trajectory.rglob("*") if path.is_file())
            self._report(
                f"Recorded {options.trajectory}: {budget.human(stored)} on disk for {budget.human(raw)} raw"
                f" ({raw / stored:.1f} : 1)"
            )
        if options.export:
            self._report(f"Saved trajectory data to {options.exported}")
            self._report(f"File size: {budget.human(options.exported.stat().st_size)}")
        self._report(f"Saved {options.metadata}")

    def _export(self) -> None:
        with tqdm(desc="Exporting", unit="B", unit_scale=True, disable=None) as progress:

            def report(done: int, total: int) -> None:
                progress.total = total
                progress.update(done - progress.n)

            # Over what a kill during the end of an earlier attempt may have left.
            ts.export_safetensors(
                self._options.trajectory, self._options.exported, dtype="uint16", overwrite=True, progress=report
            )

    def _remove_replaced(self) -> None:
        """Remove the files of the run that this one replaces.

        After its recording, never before: until that is gone an error leaves the old run whole. Before the first step,
        also after a kill in between: a later resume would take the old run's checkpoints for this one's.
        """
        options = self._options
        stale = [file.path for file in checkpoint.checkpoints(options.checkpoints)]
        with files.storage_errors("replace", options.out):
            for path in (*stale, *(path for path in (options.metadata, options.exported) if path.is_file())):
                files.disk.unlink(path)
            if stale:  # without it: they may come back after power loss
                files.disk.sync_folder(options.checkpoints)

    def _clear_partial_files(self) -> None:
        """Remove what a killed process was writing or replacing; the recording's lock is held, so nobody else is."""
        for path in leftovers(self._options):
            with files.storage_errors("remove", path):
                (files.disk.remove_tree if path.is_dir() else files.disk.unlink)(path)

    @contextlib.contextmanager
    def _progress(self) -> Iterator["tqdm[Any]"]:
        with tqdm(total=self._config.total_steps, initial=self.state.step, desc="Training", disable=None) as progress:
            yield progress
