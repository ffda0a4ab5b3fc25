"""The zarr.json documents of groups and arrays, Zarr v3 core specification."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np


def document(value: dict[str, Any]) -> bytes:
    """The content of a zarr.json."""
    return json.dumps(value, indent=2).encode() + b"\n"


def zarr_group(attributes: bytes, nodes: Mapping[str, bytes]) -> bytes:
    """The zarr.json of a group with the zarr.json of every node below it, as zarr-python consolidates them.

    It is put together of texts, because most of them stay the same while a run grows. `attributes` is a member of the
    group, so its lines but the first are indented by two spaces.
    """
    metadata = _indented({name: content.removesuffix(b"\n") for name, content in nodes.items()})
    inline = _indented({"kind": b'"inline"', "must_understand": b"false", "metadata": metadata})
    consolidated = inline.replace(b"\n", b"\n  ")
    return b"".join((_GROUP, attributes, b',\n  "consolidated_metadata": ', consolidated, b"\n}\n"))


_GROUP = b'{\n  "zarr_format": 3,\n  "node_type": "group",\n  "attributes": '


def _indented(members: Mapping[str, bytes]) -> bytes:
    """The object of these members, which are encoded, laid out as by `json.dumps` with an indent of two spaces."""
    if not members:
        return b"{}"
    lines = b",\n".join(json.dumps(name).encode() + b": " + text for name, text in members.items())
    return b"{\n  " + lines.replace(b"\n", b"\n  ") + b"\n}"


def zarr_array(
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    chunk_shape: tuple[int, ...],
    codecs: list[dict[str, Any]],
    dimension_names: tuple[str, ...],
    attributes: dict[str, Any],
) -> dict[str, Any]:
    """The zarr.json of an array, Zarr v3 core specification."""
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk_shape)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": False if dtype.kind == "b" else 0 if dtype.kind in "iu" else 0.0,
        "codecs": codecs,
        "attributes": attributes,
        "dimension_names": list(dimension_names),
        "storage_transformers": [],
    }
