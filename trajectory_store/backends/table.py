"""The backends there are, and what each does: the one place that asks which backend a run has."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from .. import words
from ..progress import Meter
from ..words import Durability
from . import manifest as manifests
from .finding import Finding
from .manifest import Manifest
from .memmap import sink as memmap_sink
from .memmap.run_files import run_files as memmap_files
from .memmap.source import MemmapSource
from .recovery import Recovery
from .sink import StoredSink
from .source import Source
from .writer_lock import WriterLock
from .zarr import sink as zarr_sink
from .zarr.run_files import run_files as zarr_files
from .zarr.source import ZarrSource


class Check(Protocol):
    """One walk over a run, for what is wrong with it."""

    def findings(self) -> Iterator[Finding]:
        """Everything that is wrong, in the order in which a reader would need it."""


class Backend(Protocol):
    """How a run is kept."""

    def create(self, folder: Path, manifest: Manifest, static: Mapping[str, npt.NDArray[Any]]) -> None:
        """Fill an empty folder with a run of no steps."""

    def open_sink(self, folder: Path, lock: WriterLock, *, durability: Durability) -> StoredSink:
        """Open a run, which is locked, to record it."""

    def open_source(self, folder: Path) -> Source:
        """Open a run to read it."""

    def files(self, folder: Path, manifest: Manifest) -> set[Path]:
        """Every file that a run has, or has once a seal that was begun is done."""

    def recover(self, folder: Path, manifest: Manifest) -> Recovery:
        """Cut what a crash left behind the last whole frame of a run that nobody writes."""

    def check(self, folder: Path, manifest: Manifest, meter: Meter, *, is_live: bool) -> Check:
        """A walk over a run; with `is_live` another process writes it."""


class _Zarr:
    def create(self, folder: Path, manifest: Manifest, static: Mapping[str, npt.NDArray[Any]]) -> None:
        zarr_sink.create(folder, manifest, static)

    def open_sink(self, folder: Path, lock: WriterLock, *, durability: Durability) -> StoredSink:
        return zarr_sink.ZarrSink(folder, durability=durability, lock=lock)

    def open_source(self, folder: Path) -> Source:
        return ZarrSource(folder)

    def files(self, folder: Path, manifest: Manifest) -> set[Path]:
        return zarr_files(folder, manifest)

    def recover(self, folder: Path, manifest: Manifest) -> Recovery:
        from .zarr.recovery import recover_journal

        return recover_journal(folder, manifest).recovery

    def check(self, folder: Path, manifest: Manifest, meter: Meter, *, is_live: bool) -> Check:
        from .zarr.check import ZarrCheck

        return ZarrCheck(folder, manifest, meter, is_live=is_live)


class _Memmap:
    def create(self, folder: Path, manifest: Manifest, static: Mapping[str, npt.NDArray[Any]]) -> None:
        memmap_sink.create(folder, manifest, static)

    def open_sink(self, folder: Path, lock: WriterLock, *, durability: Durability) -> StoredSink:
        return memmap_sink.MemmapSink(folder, durability=durability, lock=lock)

    def open_source(self, folder: Path) -> Source:
        return MemmapSource(folder)

    def files(self, folder: Path, manifest: Manifest) -> set[Path]:
        del manifest
        return memmap_files(folder)

    def recover(self, folder: Path, manifest: Manifest) -> Recovery:
        from .memmap.recovery import recover_rows

        return recover_rows(folder, manifest).recovery

    def check(self, folder: Path, manifest: Manifest, meter: Meter, *, is_live: bool) -> Check:
        from .memmap.check import MemmapCheck

        return MemmapCheck(folder, manifest, meter, is_live=is_live)


BACKENDS: dict[words.Backend, Backend] = {"zarr": _Zarr(), "memmap": _Memmap()}
"""By the name that a manifest has."""


def run_files(folder: Path) -> set[Path]:
    """Every file that the run in a folder has now, or has once a seal that was begun is done."""
    manifest = manifests.load(folder)
    return BACKENDS[manifest.backend].files(folder, manifest)
