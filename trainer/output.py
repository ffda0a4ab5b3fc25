"""Where a run goes: the places in its folder, and whether the folder may be begun, gone on with or replaced.

    OUT/trajectory/                        the recording, of `trajectory_store`
    OUT/checkpoints/                       sparse ones that stay, and at most one rolling one
    OUT/metadata.json                      written when the run is complete
    OUT/<preset>_trajectory.safetensors    with --export

Law: looking never touches; a folder that is not a run's is never written into. A folder is a run's because of what its
files hold: the names alone are the notebook's too, and other programs'.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path

import trajectory_store as ts
from trajectory_store import atomic, conventions, files, folders
from trajectory_store.errors import (
    MalformedFileError,
    RunExistsError,
    RunNotFoundError,
    TrajectoryError,
    UsageError,
)

from .checkpoint import checkpoints, is_checkpoint, read_checkpoint
from .presets import PRESETS


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a run is kept, none of which changes what it computes.

    Parameters
    ----------
    out : Path
        The output folder.
    preset : str, optional
        The configuration's name, which names the exported file.
    resume : bool, optional
        Whether to go on with the run that is there.
    overwrite : bool, optional
        Whether to replace it.
    backend : {"zarr", "memmap"}, optional
        How it is recorded: "zarr" or "memmap".
    durability : {"process", "power", "none"}, optional
        What a recorded step survives: "process", "power" or "none".
    export : bool, optional
        Whether to write the notebook's safetensors file at the end.
    capture : bool, optional
        Whether to record at all.
    allow_different_environment : bool, optional
        Whether to resume although bits may differ from there on.
    """

    out: Path
    preset: str = "demo"
    resume: bool = False
    overwrite: bool = False
    backend: ts.Backend = "zarr"
    durability: ts.Durability = "process"
    export: bool = False
    capture: bool = True
    allow_different_environment: bool = False

    @property
    def trajectory(self) -> Path:
        """The recording's folder."""
        return self.out / "trajectory"

    @property
    def is_recorded(self) -> bool:
        """Whether there is a recording, in its place or moved aside by an overwrite that was killed."""
        return self.trajectory.exists() or bool(folders.moved_aside(self.trajectory))

    @property
    def checkpoints(self) -> Path:
        """The checkpoints' folder."""
        return self.out / "checkpoints"

    @property
    def metadata(self) -> Path:
        """The metadata's file."""
        return self.out / "metadata.json"

    @property
    def exported(self) -> Path:
        """The exported file."""
        return self._exported(self.preset)

    @property
    def exports(self) -> set[Path]:
        """The exported files of all presets: an earlier attempt may have been given another one."""
        return {self._exported(preset) for preset in (self.preset, *PRESETS)}

    def _exported(self, preset: str) -> Path:
        return self.out / f"{preset.replace('-', '_')}_trajectory.safetensors"


def check_out(options: Options) -> None:
    """Raise unless the output folder can be begun in, gone on with or replaced, as asked; touch nothing.

    Parameters
    ----------
    options : Options
        The folder, and what is to be done with it.

    Raises
    ------
    UsageError
        The options contradict each other, or the kind of run that is there.
    RunExistsError
        Something is there that is not to be replaced.
    RunNotFoundError
        There is no run to go on with.
    """
    if options.resume and options.overwrite:
        raise UsageError("--resume goes on with a run and --overwrite replaces it: give one of them")
    if options.export and not options.capture:
        raise UsageError("--export needs a recording: leave --no-capture out")
    out = options.out
    if options.resume:
        _check_resumed(options)
    elif out.is_dir():
        if all(_is_nobodys(path, options) for path in out.iterdir()):
            return
        if not (_is_recorded_by_trainer(options) or _is_saved_by_trainer(options)):
            raise RunExistsError(
                f"{out}: the output folder is there already; choose another, because `trainer run` wrote no sound run"
                " into it"
            )
        if not options.overwrite:
            raise RunExistsError(
                f"{out}: the output folder is there already; go on with it (--resume) or replace it (--overwrite)"
            )
        if options.is_recorded and not options.capture:
            raise RunExistsError(
                f"{out}: a run that is not recorded does not replace one that is; choose another folder"
            )
    elif out.exists() or out.is_symlink():
        raise RunExistsError(f"{out}: is there and is not a folder; choose another")


def _check_resumed(options: Options) -> None:
    out = options.out
    if not out.is_dir():
        raise RunNotFoundError(f"{out}: there is no run to resume; start one without --resume")
    if options.is_recorded:
        if not options.capture:
            raise UsageError(f"{out}: this run is recorded; resume it without --no-capture")
    elif _is_saved_by_trainer(options):
        if options.capture:
            raise UsageError(f"{out}: this run is not recorded; resume it with --no-capture, or start it again")
    elif not all(_is_nobodys(path, options) for path in _entries(out, options.checkpoints)):
        raise RunNotFoundError(f"{out}: there is no run in this folder to resume")


def leftovers(options: Options) -> list[Path]:
    """List what a killed process was writing or replacing in the output folder.

    Only the names that a run writes there count, and only as what it makes of them: a file, or the recording's folder.
    Whatever else is in the folder belongs to somebody else.

    Parameters
    ----------
    options : Options
        Whose output folder; it may be missing.

    Returns
    -------
    list of Path
        Files and folders that may be removed while the recording's lock is held.
    """
    written = (path for path in _entries(options.out, options.checkpoints) if _is_leftover(path, options))
    return [*folders.moved_aside(options.trajectory), *written]


def _entries(out: Path, checkpoints_folder: Path) -> list[Path]:
    """What is in the output folder and in its folder of checkpoints."""
    outer, inner = (list(folder.iterdir()) if folder.is_dir() else [] for folder in (out, checkpoints_folder))
    return [*(path for path in outer if path != checkpoints_folder or not path.is_dir()), *inner]


def _is_nobodys(path: Path, options: Options) -> bool:
    return _is_leftover(path, options) or path.name == files.FOLDER_VIEW


def _is_leftover(path: Path, options: Options) -> bool:
    whole = atomic.partial_of(path)
    if whole is None or path.is_symlink():
        return False
    if whole == options.trajectory:
        return path.is_dir()
    is_ours = whole == options.metadata or whole in options.exports or is_checkpoint(whole, options.checkpoints)
    return is_ours and path.is_file()


def _is_recorded_by_trainer(options: Options) -> bool:
    """Whether the recording, in its place or moved aside, says that `trainer run` made it."""
    for folder in (options.trajectory, *folders.moved_aside(options.trajectory)):
        with contextlib.suppress(TrajectoryError), ts.open(folder) as recorded:
            if {conventions.PRESET, conventions.CONFIG, conventions.FINGERPRINT} <= recorded.attrs.keys():
                return True
    return False


def _is_saved_by_trainer(options: Options) -> bool:
    """Whether a checkpoint is this trainer's: the notebook's, of the same names, are not, and nothing replaces them."""
    for file in reversed(checkpoints(options.checkpoints)):
        with contextlib.suppress(MalformedFileError):
            read_checkpoint(file.path)
            return True
    return False
