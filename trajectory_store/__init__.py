"""Record what a model's parameters do at every training step, and slice it lazily by step and by token."""

from . import errors
from .check import Repair, check, repair
from .compare import Comparison, compare
from .export import export_safetensors
from .finding import Finding
from .importing import Imported, import_file, import_hdf5, import_numpy, import_safetensors
from .recording import create, resume
from .run import LazySeries, Run
from .run import open_run as open
from .sink import MemorySink, NullSink, Sink
from .spec import RunSpec, Series

__all__ = [
    "Comparison",
    "Finding",
    "Imported",
    "LazySeries",
    "MemorySink",
    "NullSink",
    "Repair",
    "Run",
    "RunSpec",
    "Series",
    "Sink",
    "check",
    "compare",
    "create",
    "errors",
    "export_safetensors",
    "import_file",
    "import_hdf5",
    "import_numpy",
    "import_safetensors",
    "open",
    "repair",
    "resume",
]
