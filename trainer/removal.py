"""What a run removes from its folder: what was left unfinished there, and the files of the run that it replaces.

Law: the run's recording is open, so its lock is held and nobody else writes here.
"""

from trajectory_store import files

from .checkpoint import checkpoints
from .output import Options, leftovers


def remove_leftovers(options: Options) -> None:
    """Remove what a killed process was writing or replacing.

    Parameters
    ----------
    options : Options
        Whose output folder.
    """
    for path in leftovers(options):
        with files.storage_errors("remove", path):
            (files.disk.remove_tree if path.is_dir() else files.disk.unlink)(path)


def remove_replaced(options: Options) -> None:
    """Remove the files of the run that this one replaces.

    After its recording, never before: until that is gone an error leaves the old run whole. Before the first step,
    also after a kill in between: a later resume would take the old run's checkpoints for this one's.

    Parameters
    ----------
    options : Options
        Whose output folder.
    """
    stale = [file.path for file in checkpoints(options.checkpoints)]
    with files.storage_errors("replace", options.out):
        for path in (*stale, *(path for path in (options.metadata, options.exported) if path.is_file())):
            files.disk.unlink(path)
        if stale:  # without it: they may come back after power loss
            files.disk.sync_folder(options.checkpoints)
