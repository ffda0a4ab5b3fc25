"""Begin a recording, or go on with one: what a trainer calls."""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from . import place
from .backends import manifest as manifests
from .backends.claim import claim, rank_hint
from .backends.declaration import Declaration, checked_attrs
from .backends.growth import check_growth
from .backends.manifest import Manifest
from .backends.sink import SinkContext, StepCursor, StoredSink
from .backends.table import BACKENDS
from .backends.writer_lock import WriterLock
from .blocks.layout import block_steps_for
from .blocks.static_array import StaticArray, checked_static
from .codec.tile_codecs import check_codec_name
from .dtypes import dtype_name
from .errors import ReplayMismatchError, StepNotRecordedError, TrajectoryError, UsageError
from .folders import remove_filling
from .ownership import NotCopied, require_process
from .run import Run, open_run
from .series_spec import Series
from .spec import RunSpec, check_new_names
from .words import Backend, Codec, Durability, check_word


def create(
    path: str | os.PathLike[str],
    series: Mapping[str, Series],
    *,
    steps: int | None = None,
    backend: Backend = "zarr",
    static: Mapping[str, Any] | None = None,
    attrs: Mapping[str, Any] | None = None,
    codec: Codec = "temporal",
    block_steps: int | None = None,
    durability: Durability = "process",
    overwrite: bool = False,
) -> StoredSink:
    """Begin a run in a folder, and return the sink that fills it.

    Parameters
    ----------
    path : str or PathLike
        The run's folder, which appears whole or not at all.
    series : Mapping of str to Series
        What is recorded, by name.
    steps : int, optional
        How many steps there will be, step 0 included. The backend "memmap" needs to know.
    backend : {"zarr", "memmap"}
        How rows are kept: compressed in blocks, or as they are in one safetensors file of its final size.
    static : Mapping of str to array_like, optional
        Arrays that are known before step 0, by name.
    attrs : Mapping of str to Any, optional
        What the author says about the run; anything that JSON can hold.
    codec : {"temporal", "portable"}
        How blocks are compressed by "zarr". "portable" is larger, and can be read without this package.
    block_steps : int, optional
        Steps that are compressed together, from 1 to 65536. More of them are smaller on disk, and slower to read one
        step of. By default as many as make good blocks.
    durability : {"process", "power", "none"}
        What a step survives whose `append` returned: the death of the process, or also the loss of power. With "none",
        `flush` and seals do not sync either.
    overwrite : bool
        Replace a run that is already there.

    Returns
    -------
    StoredSink
        What frames are appended to. It is a context manager, for one thread.

    Raises
    ------
    UsageError
        An option or a declaration is wrong; as SpecError if it is about a series.
    RunExistsError
        Something is at `path`, or was left beside it by an overwrite that was killed.
    StorageError
        The disk refuses. Nothing is left behind.

    Examples
    --------
    >>> with ts.create("mine", {"W": ts.Series((2, 3), "float32"), "loss": ts.Series((), "float32")}) as sink:
    ...     for step in range(5):
    ...         sink.append(step, W=np.full((2, 3), step, dtype=np.float32), loss=1 / (step + 1))
    >>> with ts.open("mine") as run:
    ...     run["W"][3, 0]
    array([3., 3., 3.], dtype=float32)
    """
    where = place.to_write(path)
    spec = RunSpec(series, steps)
    check_word("backend", backend, Backend)
    check_word("durability", durability, Durability)
    check_codec_name(codec)
    if block_steps is None:
        block_steps = block_steps_for(list(spec.series.values()))
    if isinstance(block_steps, bool) or not isinstance(block_steps, (int, np.integer)) or not 1 <= block_steps <= 65536:
        raise UsageError(f"block_steps={block_steps!r}: expected an int from 1 to 65536")
    arrays = checked_static(static, spec.series)
    check_new_names([*spec.series, *arrays])
    declaration = Declaration(spec, backend, int(block_steps), codec, checked_attrs(attrs))
    declaration.check()
    manifest = Manifest(declaration)
    declared = {name: StaticArray(array.shape, dtype_name(array.dtype), 0) for name, array in arrays.items()}
    check_growth(where, replace(manifest, static=declared, blocks=dict.fromkeys(spec.series, ())))
    lock: WriterLock | None = None
    try:
        with claim(where, overwrite=overwrite) as folder:
            BACKENDS[backend].create(folder, manifest, arrays)
            lock = WriterLock(folder)  # before it is in its place, where others may take it
        return BACKENDS[backend].open_sink(where, lock, durability=durability)
    except BaseException:
        if lock is not None:
            lock.release()
        raise


def resume(
    path: str | os.PathLike[str], from_step: int | None = None, *, durability: Durability = "process"
) -> StoredSink:
    """Open a run to go on recording it: after its last step, or after an earlier one.

    Parameters
    ----------
    path : str or PathLike
        The run's folder.
    from_step : int, optional
        Go on after this step, −1 for the beginning. Later steps that are already recorded are expected again, and
        compared bit for bit.
    durability : {"process", "power", "none"}
        As for `create`.

    Returns
    -------
    StoredSink
        What frames are appended to. What a crash left is recovered first: a torn tail is cut, and the sink's `recovery`
        says what was kept and dropped. With `from_step`, `append` raises ReplayMismatchError at the first difference.

    Raises
    ------
    RunNotFoundError
        There is no run.
    StepNotRecordedError
        The run ends before `from_step`.
    RunLockedError
        Another process writes it.
    UsageError
        An option is wrong.
    DamageError
        Steps that were synced are damaged.

    Examples
    --------
    >>> with ts.create("mine", {"loss": ts.Series((), "float32")}) as sink:
    ...     sink.append(0, loss=2.0)
    >>> with ts.resume("mine") as sink:
    ...     sink.next_step
    1
    """
    where = place.local(path)
    check_word("durability", durability, Durability)
    if from_step is not None and (
        isinstance(from_step, bool) or not isinstance(from_step, (int, np.integer)) or from_step < -1
    ):
        raise UsageError(f"from_step={from_step!r:.80}: expected an int, −1 for the beginning, or None")
    manifests.load(where)  # or a file `lock` would be made where there is no run
    with rank_hint():
        lock = WriterLock(where)
    try:
        remove_filling(where)
        sink = _open_sink(where, lock, durability)
    except BaseException:
        lock.release()
        raise
    if from_step is None:
        return sink
    try:
        return _replaying(where, sink, from_step)
    except BaseException:  # or the error's traceback would keep the sink, and its lock
        with contextlib.suppress(TrajectoryError):
            sink.close()
        raise


def _replaying(where: Path, sink: StoredSink, from_step: int) -> "ReplaySink":
    first = sink.spec.next_due(from_step + 1)
    if sink.next_step is not None and (first is None or first > sink.next_step):
        raise StepNotRecordedError(
            f"{where}: cannot go on after step {from_step}: the run ends before step {sink.next_step}"
        )
    return ReplaySink(sink, open_run(where), first)


class ReplaySink(NotCopied, SinkContext):
    """Compares the frames that its run already has, and hands the later ones to the run's sink."""

    def __init__(self, sink: StoredSink, recorded: Run, first_step: int | None) -> None:
        self._process = os.getpid()
        self._sink = sink
        self._recorded = recorded
        self._replayed_until = sink.next_step  # None: the run is complete
        self._cursor = StepCursor(sink.spec, first_step)
        self.recovery = sink.recovery

    @property
    def spec(self) -> RunSpec:
        """What is recorded."""
        return self._sink.spec

    @property
    def next_step(self) -> int | None:
        """The step that `append` expects; None once every declared step is there."""
        return self._sink.next_step if self._is_replayed else self._cursor.next_step

    @property
    def _is_replayed(self) -> bool:
        """Whether every recorded step was compared, so that the sink takes the next one."""
        if self._replayed_until is None or self._cursor.next_step is None:
            return False
        return self._cursor.next_step >= self._replayed_until

    def append(self, step: int, /, **values: Any) -> None:
        """Compare a step that is recorded, record one that is not.

        Raises ReplayMismatchError if a bit differs from what is recorded; the recording stays as it is.
        """
        require_process(self._process, self._recorded.path)
        if self._is_replayed:
            self._sink.append(step, **values)
        else:
            self._cursor.check(step)
            self._compare(step, values)
            self._cursor.advance()

    def _compare(self, step: int, values: Mapping[str, Any]) -> None:
        for name, row in self.spec.frame(step, values).items():
            recorded = self._recorded[name].bits.at_step(step)
            found = row.view(recorded.dtype)
            if (differs := recorded != found).any():
                where = tuple(int(i) for i in np.unravel_index(int(np.argmax(differs)), differs.shape))
                raise ReplayMismatchError(
                    f"{self._recorded.path}: step {step} of series {name!r} was replayed differently:"
                    f" {np.count_nonzero(differs):,} of {differs.size:,} elements, the first at {where},"
                    f" recorded {int(recorded[where]):#x}, replayed {int(found[where]):#x};"
                    " the training is not deterministic here, or runs in another environment"
                )

    def flush(self) -> int | None:
        """Make every recorded frame survive power loss; returns the last step that was appended or compared."""
        last_step = self._sink.flush()
        return last_step if self._is_replayed else self._cursor.last_step

    def close(self) -> None:
        """Close the run's sink."""
        try:
            self._sink.close()
        finally:
            self._recorded.close()


def _open_sink(path: Path, lock: WriterLock, durability: Durability) -> StoredSink:
    """The sink of the run at a path that is locked, so that it is the run that it was."""
    return BACKENDS[manifests.load(path).backend].open_sink(path, lock, durability=durability)
