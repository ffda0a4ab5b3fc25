"""Every error this package raises on purpose, grouped by what a caller would do about it.

    TrajectoryError
    ├── UsageError            fix the call                                   (ValueError)
    │   ├── SpecError             a declaration of series that cannot be recorded
    │   ├── FrameError            a frame that does not fit its declaration
    │   ├── LossyCastError        a value whose bits would change            (TypeError)
    │   ├── StepOrderError        a step repeated, skipped or out of order
    │   ├── ForkedSinkError       a sink used in another process than it was made in
    │   └── SelectionError        an index this package does not understand  (IndexError)
    ├── NotFoundError         look elsewhere
    │   ├── RunNotFoundError      no run, or no readable file, at this path  (FileNotFoundError)
    │   ├── SeriesNotFoundError   no series of this name                     (KeyError)
    │   └── StepNotRecordedError  the run does not have this step            (IndexError)
    ├── DamageError           restore or repair; undamaged blocks stay readable
    │   └── MalformedFileError    a file from outside that breaks its format
    ├── ReplayMismatchError   a replayed step differs from the recorded one
    ├── BusyError             wait, or choose another path
    │   ├── RunLockedError        another process writes this run
    │   └── RunExistsError        the output is already there                (FileExistsError)
    ├── StorageError          make room or give permission, then go on       (OSError)
    └── FormatVersionError    use a newer version of this package

    ConventionWarning         a static array or attribute was not used       (UserWarning)

A message is one sentence that says what, where, found, expected and remedy, whichever apply.
"""


class TrajectoryError(Exception):
    """The base of every error below; the command line prints it and exits with 2."""

    def __str__(self) -> str:
        # KeyError would print the message's repr and OSError would look for an errno.
        return str(self.args[0]) if self.args else ""


class UsageError(TrajectoryError, ValueError):
    """The call is wrong; nothing was written."""


class SpecError(UsageError):
    """A declaration of series that cannot be recorded."""


class FrameError(UsageError):
    """A frame that does not fit its declaration: a missing or unknown series, a wrong shape."""


class LossyCastError(UsageError, TypeError):
    """A value whose bits would change if it were stored as the declared dtype."""


class StepOrderError(UsageError):
    """A step that is repeated, skipped or out of order."""


class ForkedSinkError(UsageError):
    """A sink used in a process that was forked from the one that made it, which goes on writing the run."""


class SelectionError(UsageError, IndexError):
    """An index that is not numpy's basic indexing with at most one list or mask."""


class NotFoundError(TrajectoryError):
    """What was asked for is not there."""


class RunNotFoundError(NotFoundError, FileNotFoundError):
    """No run, or no readable file, at this path."""


class SeriesNotFoundError(NotFoundError, KeyError):
    """The run has no series of this name."""


class StepNotRecordedError(NotFoundError, IndexError):
    """The run does not have this step; a step that was not recorded is never read as zeros."""


class DamageError(TrajectoryError):
    """Stored bytes that fail their checksum or break their format."""


class MalformedFileError(DamageError):
    """A file from outside (safetensors, HDF5, checkpoint) that breaks its own format."""


class ReplayMismatchError(TrajectoryError):
    """A step appended again after a resume differs from the one recorded before."""


class BusyError(TrajectoryError):
    """The path is taken."""


class RunLockedError(BusyError):
    """Another process writes this run."""


class RunExistsError(BusyError, FileExistsError):
    """The output is already there and was not touched."""


class StorageError(TrajectoryError, OSError):
    """The disk is full, a permission is missing or a device failed; what was recorded stays."""


class FormatVersionError(TrajectoryError):
    """The run was written by a newer version of this package."""


class ConventionWarning(UserWarning):
    """A static array or an attribute has a name that means something, and does not fit the rows; it was not used."""
