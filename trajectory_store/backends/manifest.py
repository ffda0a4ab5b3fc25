"""The commit point of a run: one small JSON file, replaced atomically, that says what is sealed.

What the manifest does not name does not exist, except the journal's tail. docs/format.md, "Manifest", has the layout.
"""

import json
import os
from dataclasses import dataclass, field, replace
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
from .declaration import FORMAT_VERSION, Declaration
from .writer_lock import WriterLock

FILE_NAME = "manifest.json"
MAX_DECLARED_BYTES = 1 << 26
"""What the file may take before the first step, with attrs and all that is declared."""
MAX_BYTES = 1 << 27
"""What the file may take with every block: what was declared leaves room for more than a million."""
_MAX_BLOCK_STEPS = 1 << 20


@dataclass(frozen=True)
class Manifest:
    """Everything about a run but its arrays.

    sealed_until: every due step < this is sealed. blocks: for each series, its sealed
    blocks in order.
    """

    declaration: Declaration
    static: dict[str, StaticArray] = field(default_factory=dict)
    sealed_until: int = 0
    blocks: dict[str, tuple[Block, ...]] = field(default_factory=dict)

    @property
    def spec(self) -> RunSpec:
        """What is recorded."""
        return self.declaration.spec

    @property
    def backend(self) -> Backend:
        """How rows are kept."""
        return self.declaration.backend

    @property
    def block_steps(self) -> int:
        """Steps that are compressed together."""
        return self.declaration.block_steps

    @property
    def codec(self) -> Codec:
        """How blocks are compressed."""
        return self.declaration.codec

    @property
    def attrs(self) -> dict[str, Any]:
        """What the author says about the run."""
        return self.declaration.attrs

    @property
    def has_blocks(self) -> bool:
        """Whether frames are sealed into blocks; if not, rows stay where they are written."""
        return self.declaration.has_blocks

    def layout(self, name: str) -> Layout:
        """How one series lies in its blocks."""
        return self.declaration.layouts[name]

    def sealed_rows(self, name: str) -> int:
        """How many rows of a series are sealed."""
        return self.spec.series[name].rows_before(self.sealed_until)

    def with_sealed(self, sealed_until: int, blocks: dict[str, tuple[Block, ...]]) -> "Manifest":
        """The manifest that commits these blocks."""
        return replace(self, sealed_until=sealed_until, blocks=blocks)

    def store(self, run_folder: Path, *, sync: bool = True) -> None:
        """Commit: replace the manifest of the run in one step; with `sync` it is synced."""
        body = self._body()
        if (n_bytes := _file_bytes(body)) > MAX_BYTES:
            raise UsageError(
                f"{run_folder}: a manifest of {n_bytes:,} bytes is above the limit of {MAX_BYTES:,} bytes;"
                " this run cannot be sealed further: go on in a new one with fewer attrs or a larger block_steps"
            )
        atomic.put(run_folder / FILE_NAME, _framed(*body), sync=sync)

    @property
    def file_bytes(self) -> int:
        """Bytes of the file that would commit this."""
        return _file_bytes(self._body())

    def _body(self) -> tuple[bytes, ...]:
        """The parts of the manifest's object."""
        changing = {
            "static": {name: array.to_json() for name, array in self.static.items()},
            "sealed_until": self.sealed_until,
            "blocks": {n: [_listed(block) for block in blocks] for n, blocks in self.blocks.items()},
        }
        return b"{", self.declaration.members, b",", json.dumps(changing, separators=(",", ":"))[1:].encode()


# The file is one JSON object, and the checksum is that of the bytes between the fixed parts around them.
_PREFIX = b'{"crc32c":'
_MIDDLE = b',"manifest":'
_SUFFIX = b"}\n"
_FRAME_BYTES = len(_PREFIX + b'"00000000"' + _MIDDLE + _SUFFIX)


def _file_bytes(body: tuple[bytes, ...]) -> int:
    return sum(map(len, body)) + _FRAME_BYTES


def _framed(*body: bytes) -> bytes:
    """The file's content around a body, which is given in parts: one that has large attrs is copied only once."""
    crc = 0
    for part in body:
        crc = crc32c(part, crc)
    return b"".join((_PREFIX, b'"%08x"' % crc, _MIDDLE, *body, _SUFFIX))


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
    if data != _framed(body):
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
        if name in spec.series:
            raise SpecError(f"{name!r} names both a series and a static array")
        static[name] = StaticArray.from_json(array)
    block_steps = _bounded(value["block_steps"], 1, _MAX_BLOCK_STEPS)
    manifest = Manifest(
        Declaration(spec, value["backend"], block_steps, value["codec"], _object(value["attrs"])),
        static,
        _bounded(value["sealed_until"], 0, MAX_STEPS + 1),
        {name: tuple(_block(block) for block in blocks) for name, blocks in value["blocks"].items()},
    )
    manifest.declaration.check()
    for name in spec.series if manifest.has_blocks else ():
        n_blocks = -(-manifest.sealed_rows(name) // manifest.layout(name).block_rows)
        if len(manifest.blocks.get(name, ())) != n_blocks:
            raise SpecError(f"series {name!r} has {len(manifest.blocks.get(name, ()))} blocks, expected {n_blocks}")
    return manifest


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
