"""Record what a model's parameters do at every training step, and slice it lazily by step and by token."""

from . import errors
from .compare import Comparison, compare
from .export import export_safetensors
from .recording import create, resume
from .run import LazySeries, Run
from .run import open_run as open
from .sink import MemorySink, NullSink, Sink
from .spec import RunSpec, Series

__all__ = [
    "Comparison",
    "LazySeries",
    "MemorySink",
    "NullSink",
    "Run",
    "RunSpec",
    "Series",
    "Sink",
    "compare",
    "create",
    "errors",
    "export_safetensors",
    "open",
    "resume",
]
