"""The `trainer` command in a process that SIGKILLs itself at the n-th durable call of a kind.

    dying_trainer.py CALL N run …

CALL is a regular expression that is searched in `KIND PATH`, such as `rename .*manifest.json$`; a write that is
killed is torn: half of it is there. With N = 0 nothing is killed.
"""

import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from trainer.cli import main
from trajectory_store import files, recording

BLOCK_STEPS = 16
"""Many seals in a short run."""


class DyingDisk(files.Disk):
    """The real file system, on which the process dies at the n-th call that matches; waits for no sync."""

    def __init__(self, call: str, n: int) -> None:
        self._call = re.compile(call)
        self._n_left = n

    def _die_at(self, kind: str, where: Path | int, half: Callable[[], object] = lambda: None) -> None:
        path = where if isinstance(where, Path) else Path(f"/proc/self/fd/{where}").readlink()
        if self._call.search(f"{kind} {path}"):
            self._n_left -= 1
            if self._n_left == 0:
                half()
                os.kill(os.getpid(), signal.SIGKILL)

    def write(self, descriptor: int, buffers: Sequence[Any], offset: int) -> int:
        data = b"".join(bytes(buffer) for buffer in buffers)
        self._die_at("write", descriptor, lambda: os.pwrite(descriptor, data[: len(data) // 2], offset))
        return super().write(descriptor, buffers, offset)

    def sync(self, descriptor: int) -> None:
        self._die_at("sync", descriptor)

    def sync_folder(self, folder: Path) -> None:
        self._die_at("sync_folder", folder)

    def create(self, path: Path) -> int:
        self._die_at("create", path)
        return super().create(path)

    def make_folder(self, path: Path) -> None:
        self._die_at("make_folder", path)
        super().make_folder(path)

    def rename(self, source: Path, target: Path) -> None:
        self._die_at("rename", target)
        super().rename(source, target)

    def truncate(self, descriptor: int, size: int) -> None:
        self._die_at("truncate", descriptor)
        super().truncate(descriptor, size)

    def allocate(self, descriptor: int, size: int) -> None:
        self._die_at("allocate", descriptor)
        super().allocate(descriptor, size)

    def unlink(self, path: Path) -> None:
        self._die_at("unlink", path)
        super().unlink(path)

    def remove_tree(self, path: Path) -> None:
        self._die_at("remove_tree", path)
        super().remove_tree(path)


if __name__ == "__main__":
    files.disk = DyingDisk(sys.argv[1], int(sys.argv[2]))
    recording.block_steps_for = lambda _series: BLOCK_STEPS
    sys.argv[1:3] = []
    main()
