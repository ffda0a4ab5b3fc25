"""A safetensors file read as if it were a run: what `compare`, analyses and imports take beside runs.

The format does not say which tensors are recorded along steps. `conventions.rows_along_steps` tells by the length of
their first axis; the others are static arrays. The format has no checksums, so none are verified.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ... import files, naming, safetensors_format
from ...blocks.layout import BLOCK_BYTES
from ...conventions import rows_along_steps
from ...dtypes import DTYPES
from ...errors import MalformedFileError, RunNotFoundError, SpecError
from ...safetensors_format import Tensor
from ...selection import Indices
from ...series_spec import Series
from ...spec import RunSpec
from ..source import taken

_MOST_REASONS = 10
"""Of an error that says why no tensor can be a series."""


class SafetensorsFile:
    """One safetensors file, mapped for reading: its tensors in file order, and its metadata.

    left_out: tensor → why no series can hold it. Raises RunNotFoundError if the file cannot be read, and
    MalformedFileError if it is no sound safetensors file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with files.plain_file(path) as file:
                header = safetensors_format.read_header(file)
                self._mapped = np.memmap(file, dtype=np.uint8, mode="r")
        except FileNotFoundError as error:
            raise RunNotFoundError(f"{path}: cannot be read: {error.strerror}") from error
        except MalformedFileError as error:
            raise MalformedFileError(f"{path}: {error}") from error
        self.tensors = header.tensors
        self.left_out = header.left_out
        self.metadata = header.metadata

    def mapped(self, name: str) -> npt.NDArray[Any]:
        """One tensor in its logical dtype, not read yet and not to be written to."""
        tensor = self.tensors[name]
        data = self._mapped[tensor.offset : tensor.offset + tensor.n_bytes]
        return data.view(DTYPES[tensor.dtype]).reshape(tensor.shape)


class SafetensorsSource:
    """A safetensors file as a run; with `like`, its tensors are the series and steps declared there.

    A tensor whose name no series can have is called as an import calls it; one that no series can hold is not there.
    """

    backend = "safetensors"
    is_on_disk = True

    def __init__(self, path: Path, *, like: RunSpec | None = None) -> None:
        self.path = path
        self._file = SafetensorsFile(path)
        self._own_names = {name: own for own, name in naming.names_for(self._file.tensors).items()}
        self._tensors = {name: self._file.tensors[own] for name, own in self._own_names.items()}
        self._spec = (_spec_like(like, self._tensors) if like is not None else None) or self._guess_spec()
        self.static_names = [name for name in self._tensors if name not in self._spec.series]

    def _guess_spec(self) -> RunSpec:
        recorded = _recorded_along_steps(self._tensors)
        if not recorded:
            why = "".join(f"; tensor {name!r} {why}" for name, why in [*self._file.left_out.items()][:_MOST_REASONS])
            raise MalformedFileError(f"{self.path}: no tensor in it has a first axis of steps{why}")
        steps = max(tensor.shape[0] for tensor in recorded.values())
        try:
            return RunSpec({name: _series(tensor, steps) for name, tensor in recorded.items()}, steps)
        except SpecError as error:
            raise MalformedFileError(f"{self.path}: cannot be read as a run: {error}") from error

    @property
    def spec(self) -> RunSpec:
        return self._spec

    @property
    def attrs(self) -> Mapping[str, Any]:
        return {}

    @property
    def recorded_until(self) -> int:
        assert self._spec.steps is not None
        return self._spec.steps

    def static(self, name: str) -> npt.NDArray[Any]:
        return self._file.mapped(self._own_names[name])

    def mapped(self, name: str, start: int, stop: int) -> npt.NDArray[Any]:
        return self._file.mapped(self._own_names[name])[start:stop].view(self._spec.series[name].storage_dtype)

    def block_rows(self, name: str) -> int:
        return max(1, min(256, BLOCK_BYTES // self._spec.series[name].row_bytes))

    def refresh(self) -> None:
        """A file does not grow."""

    def read(self, name: str, rows: Indices, tokens: Indices | None) -> npt.NDArray[Any]:
        return taken(self.mapped(name, 0, self.recorded_until), rows, tokens)

    def close(self) -> None:
        """The mapping goes with this object."""


def _spec_like(like: RunSpec, tensors: Mapping[str, Tensor]) -> RunSpec | None:
    """The declaration of a file that was exported from such a run, or begins as one; None if its rows do not fit."""
    recorded = {name: tensors[name] for name in like.series if name in tensors and tensors[name].shape}
    n_rows = {name: tensor.shape[0] for name, tensor in recorded.items() if tensor.shape[0]}
    try:
        steps = max(int(like.series[name].steps_of(n - 1, n)[0]) + 1 for name, n in n_rows.items())
        if any(like.series[name].rows_before(steps) != tensor.shape[0] for name, tensor in recorded.items()):
            return None
        series = {}
        for name, n in n_rows.items():
            declared = like.series[name].steps
            cut = declared if declared is None or isinstance(declared, int) else declared[:n]
            series[name] = Series(tensors[name].shape[1:], tensors[name].dtype, steps=cut)
        return RunSpec(series, steps)
    except (ValueError, IndexError):  # no rows, more rows than steps declared, or a shape that no series can have
        return None


def _recorded_along_steps(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    lengths = rows_along_steps({name: (tensor.shape, tensor.n_bytes) for name, tensor in tensors.items()})
    return {
        name: tensor
        for name, tensor in tensors.items()
        if tensor.shape[:1] in {(n,) for n in lengths} and _fits(tensor)
    }


def _series(tensor: Tensor, steps: int) -> Series:
    n_rows = tensor.shape[0]
    return Series(tensor.shape[1:], tensor.dtype, steps=None if n_rows == steps else range(n_rows))


def _fits(tensor: Tensor) -> bool:
    """Whether a series can have such rows: none without entries, and none that is too large."""
    try:
        _series(tensor, tensor.shape[0])
    except SpecError:
        return False
    return True
