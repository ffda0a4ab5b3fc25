"""Record what a model's parameters do at every training step, and slice it lazily by step and by token."""

from . import errors
from .recording import create, resume
from .run import LazySeries, Run
from .run import open_run as open
from .sink import MemorySink, NullSink, Sink
from .spec import RunSpec, Series

__all__ = [
    "LazySeries",
    "MemorySink",
    "NullSink",
    "Run",
    "RunSpec",
    "Series",
    "Sink",
    "create",
    "errors",
    "open",
    "resume",
]
