"""Checkpoints: the whole state of a training in one file, written atomically, trusted only after it validated.

Sparse checkpoints (`checkpoint_step_00100.pt`) have the notebook's keys and stay; a rolling one
(`rolling_step_00150.pt`) goes as soon as a newer checkpoint of either kind is whole.
Law: a file is a zip archive of stored members, each under a CRC-32, and is loaded with `weights_only=True`. After a
load the model, the moments and every generator equal the file's bits and dtypes, or an error is raised: torch's own
`load_state_dict` would cast in silence.
"""

import io
import pickle
import random
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trajectory_store import atomic, files
from trajectory_store.errors import MalformedFileError, UsageError

from .batches import Place
from .state import TrainingState

_NAME = re.compile(r"(checkpoint|rolling)_step_(\d{5,12})\.pt")


@dataclass(frozen=True, order=True)
class CheckpointFile:
    """A checkpoint's place in a folder; files order by step, at the same step the sparse one last.

    Parameters
    ----------
    step : int
        Updates made.
    is_sparse : bool
        Whether it stays; a rolling one goes.
    path : Path
        The file.
    """

    step: int
    is_sparse: bool
    path: Path


def checkpoint_path(folder: Path, step: int) -> Path:
    """Give the place of the sparse checkpoint of a step.

    Parameters
    ----------
    folder : Path
        Of checkpoints.
    step : int
        Updates made.

    Returns
    -------
    Path
        The file, there or not.
    """
    return folder / f"checkpoint_step_{step:05d}.pt"


def rolling_path(folder: Path, step: int) -> Path:
    """Give the place of the rolling checkpoint of a step.

    Parameters
    ----------
    folder : Path
        Of checkpoints.
    step : int
        Updates made.

    Returns
    -------
    Path
        The file, there or not.
    """
    return folder / f"rolling_step_{step:05d}.pt"


def is_checkpoint(path: Path, folder: Path) -> bool:
    """Say whether a path is named as a checkpoint in a folder.

    Parameters
    ----------
    path : Path
        The file, there or not.
    folder : Path
        Of checkpoints.

    Returns
    -------
    bool
        Whether it is.
    """
    return path.parent == folder and _NAME.fullmatch(path.name) is not None


def checkpoints(folder: Path) -> list[CheckpointFile]:
    """List the files of a folder that are called checkpoints, sound or not.

    Parameters
    ----------
    folder : Path
        It may be missing.

    Returns
    -------
    list of CheckpointFile
        By increasing step, the rolling one of a step before the sparse one.
    """
    if not folder.is_dir():
        return []
    found = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted(CheckpointFile(int(m[2]), m[1] == "checkpoint", path) for m, path in found if m and path.is_file())


def save_checkpoint(path: Path, state: TrainingState, about: Mapping[str, Any]) -> None:
    """Write a training's whole state into one file, and remove rolling checkpoints that it makes needless.

    Parameters
    ----------
    path : Path
        It appears whole and synced, or stays as it was.
    state : TrainingState
        Model, optimizer, place in the data; every generator of this process is saved with it.
    about : Mapping of str to Any
        Plain values to keep beside it.

    Raises
    ------
    StorageError
        The disk refuses.
    """
    content: dict[str, Any] = {
        # The notebook's keys …
        "step": state.step,
        "model_state_dict": state.model.state_dict(),
        "optimizer_state_dict": state.optimizer.state_dict(),
        "rng_state": torch.get_rng_state(),
        # … and what going on from here needs.
        "loss": state.loss.item(),
        "epoch": state.place.epoch,
        "consumed_batches": state.place.consumed,
        "epoch_rng_state": state.place.epoch_rng,
        "python_rng_state": _python_rng(),
        "numpy_rng_state": _numpy_rng(),
        "about": dict(about),
    }
    if state.device == "cuda":
        content["cuda_rng_state"] = torch.cuda.get_rng_state_all()
    if state.device == "mps":
        content["mps_rng_state"] = torch.mps.get_rng_state()
    # In memory first: an error while torch writes an archive would leave its C++ writer in an undefined state.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    atomic.put(path, buffer.getbuffer())
    for older in checkpoints(path.parent):
        if not older.is_sparse and older.path != path and older.step <= state.step:
            with files.storage_errors("remove", older.path):
                files.disk.unlink(older.path)


def estimated_bytes(state: TrainingState) -> int:
    """Estimate how large a checkpoint is: parameters and two moments, with some overhead.

    Parameters
    ----------
    state : TrainingState
        Of the training.

    Returns
    -------
    int
        Bytes.
    """
    return 3 * sum(p.numel() * p.element_size() for p in state.model.parameters()) + 100_000


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint, its checksums verified. No code in it is run.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    dict of str to Any
        Its content, tensors on the CPU; every key that a resume needs is there with a value of its kind.

    Raises
    ------
    MalformedFileError
        The file is damaged, is missing, or is no checkpoint of a resumable run.
    """
    try:
        _check_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except MalformedFileError:
        raise
    except pickle.UnpicklingError as error:
        raise MalformedFileError(f"{path}: holds something else than tensors and plain values") from error
    except _LOADING_ERRORS as error:
        raise MalformedFileError(f"{path}: not a sound checkpoint: {_first_line(error)}") from error
    missing = _KINDS.keys() - content.keys() if isinstance(content, dict) else _KINDS.keys()
    if missing:
        raise MalformedFileError(f"{path}: not a checkpoint of a resumable run: {', '.join(sorted(missing))} missing")
    for key, kind in _KINDS.items():
        if not isinstance(content[key], kind):
            raise MalformedFileError(f"{path}: {key} is a {type(content[key]).__name__}")
    checked: dict[str, Any] = content
    return checked


def restore(state: TrainingState, content: Mapping[str, Any], path: Path) -> None:
    """Bring a fresh state, and every generator of this process, to where a checkpoint was written.

    Parameters
    ----------
    state : TrainingState
        Changed in place; useless after an error.
    content : Mapping of str to Any
        What `read_checkpoint` returned.
    path : Path
        Where it comes from, for the message.

    Raises
    ------
    MalformedFileError
        It does not fit this training, or a value changed as torch loaded it.
    """
    try:
        _restore_model(state, content["model_state_dict"])
        _restore_optimizer(state.optimizer, content["optimizer_state_dict"], content["step"])
        _restore_generators(state.device, content)
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
        if isinstance(error, UsageError):
            raise
        raise MalformedFileError(f"{path}: does not fit this training: {_first_line(error)}") from error
    state.step, state.loss = content["step"], torch.tensor(content["loss"])
    state.place = Place(content["epoch"], content["consumed_batches"], content["epoch_rng_state"])


# What zipfile and torch raise on a file that is not what they expect.
_LOADING_ERRORS = (
    OSError,
    EOFError,
    RuntimeError,  # NotImplementedError too
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
    zipfile.BadZipFile,
)

_KINDS: dict[str, Any] = {
    "step": int,
    "model_state_dict": dict,
    "optimizer_state_dict": dict,
    "rng_state": Tensor,
    "loss": float,
    "epoch": int,
    "consumed_batches": int,
    "epoch_rng_state": (Tensor, type(None)),
    "python_rng_state": list,
    "numpy_rng_state": list,
    "about": dict,
}


def _check_archive(path: Path) -> None:
    """Read every member against its CRC, which torch itself does not."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        size = path.stat().st_size
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise MalformedFileError(f"{path}: damaged checkpoint: a compressed member, which torch does not write")
        if sum(member.file_size for member in members) > size:
            raise MalformedFileError(f"{path}: damaged checkpoint: its members are larger than the file")
        damaged = archive.testzip()
    if damaged is not None:
        raise MalformedFileError(f"{path}: damaged checkpoint: {damaged} fails its checksum")


def _restore_model(state: TrainingState, saved: Mapping[str, Any]) -> None:
    current = state.model.state_dict()
    if saved.keys() != current.keys():
        raise ValueError("other parameters")
    for name, tensor in current.items():
        if saved[name].shape != tensor.shape or saved[name].dtype != tensor.dtype:
            raise ValueError(f"{name} is {saved[name].dtype} {tuple(saved[name].shape)}")
    state.model.load_state_dict(saved)
    _require_equal(dict(_tensors(saved)), dict(_tensors(state.model.state_dict())))


def _restore_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any], step: int) -> None:
    parameters = optimizer.param_groups[0]["params"]
    if set(saved["state"]) != (set(range(len(parameters))) if step else set()):
        raise ValueError("the optimizer's state is not one entry a parameter")
    for number, entry in saved["state"].items():
        for name in ("exp_avg", "exp_avg_sq"):
            if entry[name].shape != parameters[number].shape:
                raise ValueError(f"{name} of parameter {number} has shape {tuple(entry[name].shape)}")
        if set(entry) != {"step", "exp_avg", "exp_avg_sq"} or float(entry["step"]) != step:
            raise ValueError(f"the optimizer's state of parameter {number} is not Adam's at step {step}")
    if saved["param_groups"] != optimizer.state_dict()["param_groups"]:
        raise ValueError("the optimizer was set otherwise")
    optimizer.load_state_dict(saved)
    _require_equal(dict(_tensors(saved)), dict(_tensors(optimizer.state_dict())))


def _restore_generators(device: str, content: Mapping[str, Any]) -> None:
    version, words, gauss = content["python_rng_state"]
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, cached = content["numpy_rng_state"]
    np.random.set_state((name, np.asarray(keys, dtype=np.uint32), position, has_gauss, cached))
    if device == "cuda":
        torch.cuda.set_rng_state_all(content["cuda_rng_state"])
    if device == "mps":
        torch.mps.set_rng_state(content["mps_rng_state"])
    if content["epoch_rng_state"] is not None:
        torch.set_rng_state(content["epoch_rng_state"])  # refuses what is no generator's state, before it is needed
    torch.set_rng_state(content["rng_state"])


def _tensors(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _tensors(inner, f"{name}.{key}")


def _require_equal(saved: dict[str, Tensor], loaded: dict[str, Tensor]) -> None:
    for name, tensor in saved.items():
        found = loaded[name]
        # Bytes, so that −0 and NaN payloads count.
        if found.dtype != tensor.dtype or not torch.equal(_bytes(found), _bytes(tensor)):
            raise ValueError(f"{name.lstrip('.')} changed as it was loaded ({tensor.dtype} → {found.dtype})")


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8)


def _python_rng() -> list[Any]:
    version, words, gauss = random.getstate()
    return [version, list(words), gauss]


def _numpy_rng() -> list[Any]:
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return [str(name), [int(key) for key in keys], int(position), int(has_gauss), float(cached)]


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
