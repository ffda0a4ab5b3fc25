"""The commit point of a run: one small JSON file, replaced atomically, that says what is sealed.

What the manifest does not name does not exist, except the journal's tail. docs/format.md, "Manifest", has the layout.
"""

import json
import os
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

from .. import atomic, files
from ..blocks.block import Block
from ..blocks.layout import Layout
from ..blocks.static_array import StaticArray
from ..checksum import crc32c
from ..codec.tile_codecs import check_codec_name
from ..errors import DamageError, FormatVersionError, RunNotFoundError, SpecError, UsageError
from ..folders import moved_aside
from ..series_spec import MAX_STEPS
from ..spec import RunSpec, check_name
from ..words import Backend, Codec
from .writer_lock import WriterLock

FILE_NAME = "manifest.json"
FORMAT_VERSION = 1
MAX_DECLARED_BYTES = 1 << 26
"""What the file may take before the first step, with attrs and all that is declared."""
MAX_BYTES = 1 << 27
"""What the file may take with every block: what was declared leaves room for more than a million."""
_MAX_BLOCK_STEPS = 1 << 20
_MAX_TILE_BYTES = 1 << 30
_MAX_ATTRS_DEPTH = 100


@dataclass(frozen=True)
class Manifest:
    """Everything about a run but its arrays.

    sealed_until: every due step < this is sealed. blocks: for each series, its sealed
    blocks in order.
    """

    spec: RunSpec
    backend: Backend
    block_steps: int
    codec: Codec
    attrs: dict[str, Any] = field(default_factory=dict)
    static: dict[str, StaticArray] = field(default_factory=dict)
    sealed_until: int = 0
    blocks: dict[str, tuple[Block, ...]] = field(default_factory=dict)

    @property
    def has_blocks(self) -> bool:
        """Whether frames are sealed into blocks; if not, rows stay where they are written."""
        return self.backend == "zarr"

    def layout(self, name: str) -> Layout:
        """How one series lies in its blocks."""
        return self._layouts[name]

    @cached_property
    def _layouts(self) -> dict[str, Layout]:
        return {name: Layout(name, s, self.block_steps, self.codec) for name, s in self.spec.series.items()}

    def sealed_rows(self, name: str) -> int:
        """How many rows of a series are sealed."""
        return self.spec.series[name].rows_before(self.sealed_until)

    def with_sealed(self, sealed_until: int, blocks: dict[str, tuple[Block, ...]]) -> "Manifest":
        """The manifest that commits these blocks."""
        return replace(self, sealed_until=sealed_until, blocks=blocks)

    def store(self, run_folder: Path, *, sync: bool = True) -> None:
        """Commit: replace the manifest of the run in one step; with `sync` it is synced."""
        body = self._body()
        if len(body) > MAX_BYTES - _FRAME_BYTES:
            raise UsageError(
                f"{run_folder}: a manifest of {len(body):,} bytes is above the limit of {MAX_BYTES:,} bytes;"
                " this run cannot be sealed further: go on in a new one with fewer attrs or a larger block_steps"
            )
        atomic.put(run_folder / FILE_NAME, _PREFIX + b'"%08x"' % crc32c(body) + _MIDDLE + body + _SUFFIX, sync=sync)

    @property
    def file_bytes(self) -> int:
        """Bytes of the file that would commit this."""
        return len(self._body()) + _FRAME_BYTES

    def _body(self) -> bytes:
        return json.dumps(self._to_json(), separators=(",", ":"), allow_nan=False).encode()

    def _to_json(self) -> dict[str, Any]:
        return {
            "format": "trajectory-store",
            "version": FORMAT_VERSION,
            "backend": self.backend,
            "block_steps": self.block_steps,
            "codec": self.codec,
            "spec": self.spec.to_json(),
            "attrs": self.attrs,
            "static": {name: array.to_json() for name, array in self.static.items()},
            "sealed_until": self.sealed_until,
            "blocks": {n: [_listed(block) for block in blocks] for n, blocks in self.blocks.items()},
        }


# The file is one JSON object, and the checksum is that of the bytes between the fixed parts around them.
_PREFIX = b'{"crc32c":'
_MIDDLE = b',"manifest":'
_SUFFIX = b"}\n"
_FRAME_BYTES = len(_PREFIX + b'"00000000"' + _MIDDLE + _SUFFIX)


def identity(run_folder: Path) -> tuple[int, ...] | None:
    """What changes whenever the manifest is replaced; None if there is none."""
    try:
        status = (run_folder / FILE_NAME).stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size


def is_there(run_folder: Path) -> bool:
    """Whether a folder has a manifest of ours, sound or not. Other programs have a file of that name too."""
    try:
        with files.open_plain(run_folder / FILE_NAME) as file:
            return file.read(len(_PREFIX)) == _PREFIX
    except OSError:
        return False


def load(run_folder: Path) -> Manifest:
    """The manifest of the run in a folder.

    Raises RunNotFoundError if there is none, DamageError if it fails its checksum or makes no sense, and
    FormatVersionError if a newer version of this package wrote it.
    """
    path = run_folder / FILE_NAME
    try:
        with files.plain_file(path) as file:
            n_bytes = os.fstat(file.fileno()).st_size
            if n_bytes > MAX_BYTES:
                raise DamageError(f"{path}: {n_bytes:,} bytes are more than a manifest can have")
            data = file.read(n_bytes)
    except files.NotPlainError as error:
        raise RunNotFoundError(f"{run_folder}: not a run; its {FILE_NAME} is {error.strerror}") from error
    except FileNotFoundError as error:
        gone = aside(run_folder) or f"not a run; it has no {FILE_NAME}"
        raise RunNotFoundError(f"{run_folder}: {gone}") from error
    body_start = len(_PREFIX) + len(b'"00000000"') + len(_MIDDLE)
    body = data[body_start : -len(_SUFFIX)]
    expected = _PREFIX + b'"%08x"' % crc32c(body) + _MIDDLE + body + _SUFFIX
    if data != expected:
        raise DamageError(f"{path}: fails its checksum; restore it from a copy")
    try:
        return _from_json(json.loads(body))
    except FormatVersionError as error:
        raise FormatVersionError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
        raise DamageError(f"{path}: not a manifest: {error}") from error


def aside(run_folder: Path) -> str:
    """Where the run is that an overwrite, killed halfway, moved out of a folder that is gone; "" where none did."""
    with files.storage_errors("open", run_folder):
        moved = [] if run_folder.exists() else moved_aside(run_folder)
    if any(WriterLock.is_held(path) for path in moved):
        return "another process is replacing this run at this moment; try again"
    names = " or ".join(path.name for path in moved)
    return f"an overwrite was interrupted and left the run as {names} beside it; rename that back" if moved else ""


def _from_json(value: dict[str, Any]) -> Manifest:
    if value["format"] != "trajectory-store":
        raise ValueError(f"format {value['format']!r}")
    if value["version"] != FORMAT_VERSION:
        raise FormatVersionError(
            f"format version {value['version']!r}, while this package reads version {FORMAT_VERSION}; upgrade it"
        )
    spec = RunSpec.from_json(value["spec"])
    if value["backend"] not in get_args(Backend):
        raise ValueError(f"backend {value['backend']!r}")
    check_codec_name(value["codec"])
    static = {}
    for name, array in value["static"].items():
        check_name(name)
        static[name] = StaticArray.from_json(array)
    manifest = Manifest(
        spec,
        value["backend"],
        _bounded(value["block_steps"], 1, _MAX_BLOCK_STEPS),
        value["codec"],
        _object(value["attrs"]),
        static,
        _bounded(value["sealed_until"], 0, MAX_STEPS + 1),
        {name: tuple(_block(block) for block in blocks) for name, blocks in value["blocks"].items()},
    )
    check_declaration(manifest)
    for name in spec.series if manifest.has_blocks else ():
        n_blocks = -(-manifest.sealed_rows(name) // manifest.layout(name).block_rows)
        if len(manifest.blocks.get(name, ())) != n_blocks:
            raise SpecError(f"series {name!r} has {len(manifest.blocks.get(name, ()))} blocks, expected {n_blocks}")
    return manifest


def check_declaration(manifest: Manifest) -> None:
    """Raise SpecError unless its backend can keep what is declared, and any reader can hold one chunk of it."""
    if not manifest.has_blocks:
        if manifest.spec.steps is None:
            raise SpecError("backend 'memmap' reserves the whole run's space, so it needs steps=; 'zarr' does without")
        return
    for layout in map(manifest.layout, manifest.spec.series):
        if layout.decoded_tile_bytes > _MAX_TILE_BYTES:
            raise SpecError(
                f"series {layout.name!r}: {layout.block_rows:,} rows make chunks of {layout.decoded_tile_bytes:,}"
                f" bytes, above the limit of {_MAX_TILE_BYTES:,}; take a smaller block_steps, or split its first axis"
            )


def _block(value: Any) -> Block:
    n_bytes, crc, index_crc = value
    return Block(_bounded(n_bytes, 0, 1 << 62), int(crc, 16), int(index_crc, 16))


def _listed(block: Block) -> list[Any]:
    return [block.n_bytes, f"{block.crc32:08x}", f"{block.index_crc32c:08x}"]


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r:.40} is not an object")
    return value


def _bounded(value: Any, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"{value!r} is not a number from {least} to {most}")
    return value


def _depth_is_above(most: int, value: Any) -> bool:
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(most == 0 or _depth_is_above(most - 1, one) for one in below)


def checked_attrs(attrs: Any) -> dict[str, Any]:
    """`attrs` as the manifest will give them back; UsageError unless they are a JSON object, and not too deep a one.

    JSON is read and written by recursion. How deep it can go depends on who calls: what fits here might not where the
    run is opened.
    """
    try:
        copy = json.loads(json.dumps(dict(attrs or {}), allow_nan=False))
        if _depth_is_above(_MAX_ATTRS_DEPTH, copy):
            raise ValueError(f"they are nested more than {_MAX_ATTRS_DEPTH} deep")
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"attrs must be a dictionary that JSON can hold: {error}") from error
    assert isinstance(copy, dict)
    return copy
