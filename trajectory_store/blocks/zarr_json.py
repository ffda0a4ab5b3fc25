"""The zarr.json documents of groups and arrays, Zarr v3 core specification."""

from typing import Any

import numpy as np


def zarr_group(attributes: dict[str, Any], nodes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The zarr.json of a group with the zarr.json of every node below it, as zarr-python consolidates them."""
    return {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": attributes,
        "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": nodes},
    }


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
