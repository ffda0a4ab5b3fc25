"""What the bits of a training depend on besides its configuration, and how two environments differ.

`bits` changes the numbers: a resume under another value is refused unless told. `about` is kept for the reader only.
"""

import hashlib
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import _default_to_fused_or_foreach

from .canonical import canonical

# The modules that compute; a change in the command line or in a message leaves the bits alone.
COMPUTING = ("batches", "capture", "loop", "model", "ring", "rows", "state")
_FOLDER = Path(__file__).parent

# What runs recorded before `code_hash` took the canonical form: the SHA-256 of the files' bytes, one after the other in
# the order above. Of the files with these bytes the value now is the one beside it, so such a run goes on for as long
# as the modules compute what they computed then.
_CODE_OF_BYTES = {
    "41014417eec6c4cffa7812514e3706e5da6da8c1a647565f45ab5c1d3800e11e": (
        "ast-1:bb3c144f77c4db959bc6b6421baf503b52ef66dbebc427862ade8180f8a1ecb7"
    ),
}


def sha256_of(path: Path) -> str:
    """Hash a file.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    str
        Its SHA-256, in hexadecimal.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def take_fingerprint(optimizer: torch.optim.Optimizer, device: str, data_hashes: Mapping[str, str]) -> dict[str, Any]:
    """Describe the environment in which this training runs.

    Parameters
    ----------
    optimizer : Optimizer
        Which of torch's loops it will run is asked of it.
    device : str
        "cpu", "cuda" or "mps".
    data_hashes : Mapping of str to str
        File name to SHA-256 of what is trained on.

    Returns
    -------
    dict of str to Any
        Plain values: "bits", which decide the numbers, and "about", which do not.
    """
    return {
        "bits": {
            "torch": str(torch.__version__),  # a class of its own, which a checkpoint would not load
            "device": device,
            "device_name": _device_name(device),
            "system": f"{platform.system()} {platform.machine()}",
            "threads": torch.get_num_threads(),
            "optimizer": f"{type(optimizer).__name__} {_implementation(optimizer)}",
            "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
            **(_cuda() if device == "cuda" else {"cpu_capability": torch.backends.cpu.get_cpu_capability()}),
            "data": dict(data_hashes),
            "code": code_hash(_FOLDER),
        },
        "about": {
            "python": platform.python_version(),
            "platform": platform.platform(),
            **{name: _version(name) for name in ("numpy", "tokenizers", "safetensors", "zarr", "trajectory-store")},
        },
    }


def code_hash(folder: Path) -> str:
    """Hash what the modules in a folder compute: a comment leaves it as it is.

    The tag before it names the rules of the canonical form; other rules need another tag.

    Parameters
    ----------
    folder : Path
        It holds the modules that compute.

    Returns
    -------
    str
        The tag, a colon and a SHA-256 in hexadecimal.
    """
    form = "\n".join(f"{name}:{canonical((folder / f'{name}.py').read_text(encoding='utf-8'))}" for name in COMPUTING)
    return f"ast-1:{hashlib.sha256(form.encode()).hexdigest()}"


def differences(recorded: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """List the values under "bits" in which two fingerprints differ.

    Parameters
    ----------
    recorded : Mapping of str to Any
        What a run recorded, perhaps before the fingerprint of code was what it is now.
    current : Mapping of str to Any
        What is now.

    Returns
    -------
    list of str
        `name: recorded → current`, one line a value.
    """
    then, now = (_flat(fingerprint.get("bits")) for fingerprint in (recorded, current))
    if "code" in then:
        then["code"] = _CODE_OF_BYTES.get(str(then["code"]), then["code"])
    return [
        f"{key}: {then.get(key, 'not recorded')} → {now.get(key, 'not recorded')}"
        for key in sorted(then.keys() | now.keys())
        if then.get(key) != now.get(key)
    ]


def said(attrs: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """Give what a run's attributes hold under some keys, one below the other.

    Parameters
    ----------
    attrs : Mapping of str to Any
        Attributes of a run that anybody may have recorded.
    *keys : str
        The way to the value.

    Returns
    -------
    Mapping of str to Any
        The value; empty if it is no mapping.
    """
    at: Any = attrs
    for key in keys:
        at = at.get(key) if isinstance(at, Mapping) else None
    return at if isinstance(at, Mapping) else {}


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {prefix: value} if prefix else {}
    return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{prefix} {key}".strip()).items()}


def _implementation(optimizer: torch.optim.Optimizer) -> str:
    """Which of torch's AdamW loops runs: they round bf16 at different places."""
    group = optimizer.param_groups[0]
    if group.get("fused"):
        return "fused"
    _, foreach = _default_to_fused_or_foreach(group["params"], differentiable=False, use_fused=False)
    return "foreach" if (foreach if group.get("foreach") is None else group["foreach"]) else "for-loop"


def _device_name(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    if sys.platform == "linux" and info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cuda() -> dict[str, Any]:
    return {
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
    }


def _version(package: str) -> str:
    try:
        return str(version(package))
    except PackageNotFoundError:
        return "unknown"
