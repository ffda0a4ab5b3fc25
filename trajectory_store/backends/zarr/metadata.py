"""Every zarr.json of a run. All of it follows from the manifest."""

import json

from ...blocks.static_array import STATIC_FOLDER
from ...blocks.zarr_json import zarr_group
from ..manifest import Manifest

_ZARR_JSON = "zarr.json"
_MOST_ROWS = 1 << 49


def sealed_until_of(content: bytes, relative: str, manifest: Manifest) -> int:
    """Up to where a seal had sealed whose metadata has this content, as far as the arrays' lengths tell; 0 if not.

    The rest of the content is for the caller to compare: it follows from the answer.
    """
    names = list(manifest.spec.series) if relative == _ZARR_JSON else [relative.removesuffix(f"/{_ZARR_JSON}")]
    try:
        root = json.loads(content)
        nodes = root["consolidated_metadata"]["metadata"] if relative == _ZARR_JSON else {names[0]: root}
        n_rows = {name: nodes[name]["shape"][0] for name in names}
        last_rows = [(manifest.spec.series[name], n - 1) for name, n in n_rows.items() if 0 < n < _MOST_ROWS]
        return max((int(series.steps_at([row])[0]) + 1 for series, row in last_rows), default=0)
    except (ValueError, TypeError, KeyError, IndexError, RecursionError, OverflowError):
        return 0


def metadata_paths(manifest: Manifest) -> list[str]:
    """Where each zarr.json lies in the run's folder; the root's last."""
    static = [STATIC_FOLDER, *(f"{STATIC_FOLDER}/{name}" for name in manifest.static)] if manifest.static else []
    return [*(f"{node}/{_ZARR_JSON}" for node in [*static, *manifest.spec.series]), _ZARR_JSON]


def zarr_metadata(manifest: Manifest) -> dict[str, bytes]:
    """Path → content, the root's last.

    The root repeats the others as consolidated metadata, so that a Zarr reader sees every array grow in one step and
    need not list the folder, where our own files are.
    """
    nodes: dict[str, bytes] = {}
    if manifest.static:
        nodes[STATIC_FOLDER] = zarr_group(b"{}", {})
    for name, array in manifest.static.items():
        nodes[f"{STATIC_FOLDER}/{name}"] = array.zarr_json(name)
    for name in manifest.spec.series:
        nodes[name] = manifest.layout(name).zarr_json(manifest.sealed_rows(name))
    contents = {f"{path}/{_ZARR_JSON}": content for path, content in nodes.items()}
    if manifest.static:
        below = {name: nodes[f"{STATIC_FOLDER}/{name}"] for name in manifest.static}
        contents[f"{STATIC_FOLDER}/{_ZARR_JSON}"] = zarr_group(b"{}", below)
    contents[_ZARR_JSON] = zarr_group(manifest.declaration.indented_attrs, nodes)
    return contents
