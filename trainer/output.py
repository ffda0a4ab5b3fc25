"""Where a run goes: the places in its folder, and whether the folder may be begun, gone on with or replaced.

    OUT/trajectory/                        the recording, of `trajectory_store`
    OUT/checkpoints/                       sparse ones that stay, and at most one rolling one
    OUT/metadata.json                      written when the run is complete
    OUT/<preset>_trajectory.safetensors    with --export

Law: looking never touches; a folder that is not a run's is never written into.
"""

from dataclasses import dataclass
from pathlib import Path

from trajectory_store import files
from trajectory_store.errors import RunExistsError, RunNotFoundError, UsageError

from .checkpoint import checkpoints


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a run is kept, none of which changes what it computes."""

    out: Path
    preset: str = "demo"
    resume: bool = False
    overwrite: bool = False
    backend: str = "zarr"
    durability: str = "process"
    export: bool = False
    capture: bool = True
    allow_different_environment: bool = False

    @property
    def trajectory(self) -> Path:
        """The recording's folder."""
        return self.out / "trajectory"

    @property
    def is_recorded(self) -> bool:
        """Whether there is a recording, be it where an overwrite that was killed moved it."""
        return self.trajectory.exists() or bool(files.moved_aside(self.trajectory))

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
        return self.out / f"{self.preset.replace('-', '_')}_trajectory.safetensors"


def check_out(options: Options) -> None:
    """Raise unless the output folder can be begun, or gone on with; touches nothing."""
    if options.resume and options.overwrite:
        raise UsageError("--resume goes on with a run and --overwrite replaces it: give one of them")
    if options.export and not options.capture:
        raise UsageError("--export needs a recording: leave --no-capture out")
    out, is_recorded = options.out, options.is_recorded
    is_saved = bool(checkpoints(options.checkpoints))
    if options.resume:
        _check_resumed(options, is_recorded=is_recorded, is_saved=is_saved)
    elif out.is_dir():
        remedy = "go on with it (--resume) or replace it (--overwrite)" if is_recorded or is_saved else "choose another"
        if not all(map(is_leftover, out.iterdir())) and not (options.overwrite and (is_recorded or is_saved)):
            raise RunExistsError(f"{out}: the output folder is there already; {remedy}")
        if is_recorded and not options.capture:
            raise RunExistsError(
                f"{out}: a run that is not recorded does not replace one that is; choose another folder"
            )
    elif out.exists() or out.is_symlink():
        raise RunExistsError(f"{out}: is there and is not a folder; choose another")


def _check_resumed(options: Options, *, is_recorded: bool, is_saved: bool) -> None:
    out = options.out
    if not out.is_dir():
        raise RunNotFoundError(f"{out}: there is no run to resume; start one without --resume")
    if is_recorded and not options.capture:
        raise UsageError(f"{out}: this run is recorded; resume it without --no-capture")
    if is_saved and options.capture and not is_recorded:
        raise UsageError(f"{out}: this run is not recorded; resume it with --no-capture, or start it again")
    foreign = [path for path in out.iterdir() if path != options.checkpoints and not is_leftover(path)]
    if foreign and not (is_recorded or is_saved):
        raise RunNotFoundError(f"{out}: there is no run in this folder to resume")


def is_leftover(path: Path) -> bool:
    """Whether a killed process was writing something under this name."""
    return path.name.startswith(".") and path.suffix == ".partial"
