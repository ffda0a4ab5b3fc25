"""Record what a model's parameters do at every training step, and slice it lazily by step and by token."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import errors
from .backends.memory.sink import MemorySink, NullSink
from .backends.recovery import Recovery
from .backends.sink import Sink
from .moved import install as _install_old_names
from .recording import create, resume
from .run import LazySeries, Run
from .run import open_run as open
from .series_spec import Series
from .spec import RunSpec
from .words import Backend, Codec, Durability

if TYPE_CHECKING:
    from . import analysis, notebook, report
    from .backends.finding import Finding
    from .checking import Repair, check, repair
    from .comparison import Comparison, compare
    from .export import export_safetensors
    from .importing import Imported, import_file, import_hdf5, import_numpy, import_safetensors, import_torch

__version__ = "0.1.0"

_install_old_names()

__all__ = [
    "Backend",
    "Codec",
    "Comparison",
    "Durability",
    "Finding",
    "Imported",
    "LazySeries",
    "MemorySink",
    "NullSink",
    "Recovery",
    "Repair",
    "Run",
    "RunSpec",
    "Series",
    "Sink",
    "__version__",
    "analysis",
    "check",
    "compare",
    "create",
    "errors",
    "export_safetensors",
    "import_file",
    "import_hdf5",
    "import_numpy",
    "import_safetensors",
    "import_torch",
    "notebook",
    "open",
    "repair",
    "report",
    "resume",
]

_LATE = {
    "backends.finding": ("Finding",),
    "checking": ("Repair", "check", "repair"),
    "comparison": ("Comparison", "compare"),
    "export": ("export_safetensors",),
    "importing": ("Imported", "import_file", "import_hdf5", "import_numpy", "import_safetensors", "import_torch"),
}
_LATE_MODULES = ("analysis", "notebook", "report")
"""Imported when they are first asked for: a trainer that records needs none of them."""


def __getattr__(name: str) -> Any:
    if name in _LATE_MODULES:
        return import_module(f".{name}", __name__)
    for module, names in _LATE.items():
        if name in names:
            globals()[name] = value = getattr(import_module(f".{module}", __name__), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
