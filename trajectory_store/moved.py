"""Modules that have another place since the package has folders: their old names lead to them, with a warning.

Only what is in `trajectory_store.__all__` and in `trajectory_store.analysis` is promised. But scripts were written
against the old names too, and need not break for that.
"""

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

PLACES = {
    "bit_planes": "codec.bit_planes",
    "block_file": "blocks.block_file",
    "chunks": "blocks.layout",
    "commit_log": "backends.memmap.commit_log",
    "compiled": "codec.compiled",
    "conversion": "importing.conversion",
    "dataset": "run.dataset",
    "finding": "backends.finding",
    "foreign": "importing.foreign",
    "foreign_hdf5": "importing.hdf5_file",
    "foreign_numpy": "importing.numpy_file",
    "journal_writer": "journal.writer",
    "kernels": "codec.kernels",
    "manifest": "backends.manifest",
    "memmap_file": "backends.memmap.row_file",
    "memmap_sink": "backends.memmap.sink",
    "memmap_source": "backends.memmap.source",
    "motion": "codec.motion",
    "record": "journal.record",
    "recovery": "backends.recovery",
    "reopening": "run.pickling",
    "safetensors_source": "backends.safetensors.source",
    "segment": "journal.segment",
    "sink": "backends.sink",
    "source": "backends.source",
    "spare": "journal.spare",
    "static": "blocks.static_array",
    "temporal": "codec.temporal",
    "tensors": "run.tensors",
    "tile_cache": "blocks.tile_cache",
    "tile_job": "blocks.tile_job",
    "tiles": "codec.tile_codecs",
    "whole_block": "blocks.loaded_block",
    "writer_lock": "backends.writer_lock",
    "zarr_codec": "codec.zarr_plugin",
    "zarr_metadata": "backends.zarr.metadata",
    "zarr_sink": "backends.zarr.sink",
    "zarr_source": "backends.zarr.source",
    "zstd": "codec.zstd",
}
"""Old name → new place, both below the package."""


class _Moved(MetaPathFinder, Loader):
    """Finds a module under its old name. It is asked last, so it costs nothing if names are current."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        package, _, name = fullname.rpartition(".")
        return ModuleSpec(fullname, self) if package == __package__ and name in PLACES else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        place = PLACES[spec.name.rpartition(".")[2]]
        warnings.warn(
            f"{spec.name} is {__package__}.{place} now; what only this package uses may move again",
            DeprecationWarning,
            stacklevel=2,
        )
        module = import_module(f".{place}", __package__)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """The module is there already; the import has only given it the old name's spec."""
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


def install() -> None:
    """Let `import` find the old names; harmless if called twice."""
    if not any(isinstance(finder, _Moved) for finder in sys.meta_path):
        sys.meta_path.append(_Moved())
