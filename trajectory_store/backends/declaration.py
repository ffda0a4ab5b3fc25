"""What is declared of a run before its first step. It never changes, so it is encoded once for all seals."""

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..blocks.layout import Layout
from ..errors import SpecError, UsageError
from ..spec import RunSpec
from ..words import Backend, Codec

FORMAT_VERSION = 1
_MAX_TILE_BYTES = 1 << 30
_MAX_ATTRS_DEPTH = 100


@dataclass(frozen=True)
class Declaration:
    """What a run records, how it is kept, and what its author says about it."""

    spec: RunSpec
    backend: Backend
    block_steps: int
    codec: Codec
    attrs: dict[str, Any] = field(default_factory=dict)

    @property
    def has_blocks(self) -> bool:
        """Whether frames are sealed into blocks; if not, rows stay where they are written."""
        return self.backend == "zarr"

    @cached_property
    def layouts(self) -> dict[str, Layout]:
        """How each series lies in its blocks."""
        return {name: Layout(name, s, self.block_steps, self.codec) for name, s in self.spec.series.items()}

    @cached_property
    def members(self) -> bytes:
        """The first members of the manifest's object, without the braces around them."""
        declared = {
            "format": "trajectory-store",
            "version": FORMAT_VERSION,
            "backend": self.backend,
            "block_steps": self.block_steps,
            "codec": self.codec,
            "spec": self.spec.to_json(),
            "attrs": self.attrs,
        }
        return json.dumps(declared, separators=(",", ":"), allow_nan=False)[1:-1].encode()

    @cached_property
    def indented_attrs(self) -> bytes:
        """The attrs as a member of an object that is indented by two spaces, which is how a zarr.json has them."""
        return json.dumps(self.attrs, indent=2).replace("\n", "\n  ").encode()

    def check(self) -> None:
        """Raise SpecError unless the backend can keep this, and any reader can hold one chunk of it."""
        if not self.has_blocks:
            if self.spec.steps is None:
                raise SpecError(
                    "backend 'memmap' reserves the whole run's space, so it needs steps=; 'zarr' does without"
                )
            return
        for layout in self.layouts.values():
            if layout.decoded_tile_bytes > _MAX_TILE_BYTES:
                raise SpecError(
                    f"series {layout.name!r}: {layout.block_rows:,} rows make chunks of {layout.decoded_tile_bytes:,}"
                    f" bytes, above the limit of {_MAX_TILE_BYTES:,}; take a smaller block_steps, or split its first"
                    " axis"
                )


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


def _depth_is_above(most: int, value: Any) -> bool:
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(most == 0 or _depth_is_above(most - 1, one) for one in below)
