"""File systems that fail: they stop at the n-th durable call, forget what was not synced, tear, reorder, fill up.

`Tape` writes down every durable call of a recording. `FileSystem` plays the calls back up to any of them and lays out
what a process that died there leaves, or what the disk holds after the power went. A folder's entries and a file's
bytes are two things here, as in POSIX: each survives once it was synced, and may or may not before.
"""

import errno
import itertools
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trajectory_store.files import Disk

SECTOR = 16
"""Bytes that a disk writes as a whole: 512 or 4,096 in truth, less here because the recordings are small."""


Left = dict[str, bytes | None]
"""What is below a folder after a crash: path → bytes, None for a folder, each after the one it is in."""


@dataclass(frozen=True)
class Call:
    """One durable call. file: what stands for the inode; path: relative to the root."""

    kind: str
    path: str = ""
    file: int = -1
    offset: int = 0
    data: bytes = b""
    target: str = ""


class Tape(Disk):
    """Does what it is told, waits for nothing, and writes down every call below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls: list[Call] = []
        self._files: dict[int, int] = {}  # inode → number of the file; inodes are used again
        self._n_files = 0
        for path in sorted(root.rglob("*")):
            if path.is_file() and path.name != "lock":
                self._number(path.stat().st_ino)
        self.start = FileSystem.of(root, {path: self._files[path.stat().st_ino] for path in _plain_files(root)})

    def _number(self, inode: int) -> int:
        self._files[inode] = self._n_files
        self._n_files += 1
        return self._files[inode]

    def _file(self, descriptor: int) -> int:
        return self._files[os.fstat(descriptor).st_ino]

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def write(self, descriptor: int, buffers: Sequence[Any], offset: int) -> int:
        data = b"".join(bytes(buffer) for buffer in buffers)
        self.calls.append(Call("write", file=self._file(descriptor), offset=offset, data=data))
        return super().write(descriptor, buffers, offset)

    def sync(self, descriptor: int) -> None:
        self.calls.append(Call("sync", file=self._file(descriptor)))

    def sync_folder(self, folder: Path) -> None:
        self.calls.append(Call("sync_folder", self._relative(folder)))

    def create(self, path: Path) -> int:
        descriptor = super().create(path)
        number = self._number(os.fstat(descriptor).st_ino)
        self.calls.append(Call("create", self._relative(path), number))
        return descriptor

    def make_folder(self, path: Path) -> None:
        super().make_folder(path)
        self.calls.append(Call("make_folder", self._relative(path)))

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        if source.name == "lock":  # its bytes mean nothing
            return
        self.calls.append(Call("rename", self._relative(source), target=self._relative(target)))

    def link(self, source: Path, target: Path) -> None:
        super().link(source, target)
        self.calls.append(Call("link", self._relative(source), target=self._relative(target)))

    def truncate(self, descriptor: int, size: int) -> None:
        super().truncate(descriptor, size)
        self.calls.append(Call("truncate", file=self._file(descriptor), offset=size))

    def allocate(self, descriptor: int, size: int) -> None:
        super().allocate(descriptor, size)
        self.calls.append(Call("truncate", file=self._file(descriptor), offset=size))

    def unlink(self, path: Path) -> None:
        super().unlink(path)
        self.calls.append(Call("unlink", self._relative(path)))

    def remove_tree(self, path: Path) -> None:
        super().remove_tree(path)
        self.calls.append(Call("unlink", self._relative(path)))


@dataclass
class _File:
    now: bytearray = field(default_factory=bytearray)
    stored: bytearray = field(default_factory=bytearray)
    waiting: list[Call] = field(default_factory=list)


_Entry = tuple[str, "_File | _Folder | None", str]
"""(name, what it leads to now or None, the name that goes with it or "")."""


@dataclass(eq=False)
class _Folder:
    now: "dict[str, _File | _Folder]" = field(default_factory=dict)
    stored: "dict[str, _File | _Folder]" = field(default_factory=dict)
    waiting: "list[_Entry]" = field(default_factory=list)


class FileSystem:
    """What is in memory and what is on the disk, after some calls."""

    def __init__(self) -> None:
        self._root = _Folder()
        self._files: dict[int, _File] = {}
        self._moves: list[tuple[_Folder, _Entry, _Folder, _Entry]] = []  # from folder to folder: two entries, one move

    @staticmethod
    def of(root: Path, numbers: dict[Path, int]) -> "FileSystem":
        """What lies below a folder, all of it stored."""
        system = FileSystem()
        for path in sorted(root.rglob("*")):
            if path.is_dir() or path in numbers:
                folder, name = system._parent(path.relative_to(root).as_posix())
                node: _File | _Folder = _Folder()
                if path in numbers:
                    content = path.read_bytes()
                    node = system._files[numbers[path]] = _File(bytearray(content), bytearray(content))
                folder.now[name] = folder.stored[name] = node
        return system

    def do(self, call: Call) -> None:
        """Play one call back."""
        if call.kind in ("write", "truncate"):
            file = self._files[call.file]
            _change(file.now, call)
            file.waiting.append(call)
        elif call.kind == "sync":
            file = self._files[call.file]
            file.stored, file.waiting = bytearray(file.now), []
        elif call.kind == "sync_folder":
            folder = self._folder(call.path)
            self._store_moves(folder)
            folder.stored, folder.waiting = dict(folder.now), []
        else:
            folder, name = self._parent(call.path)
            if call.kind == "rename":
                node = folder.now.pop(name)
                new_folder, new_name = self._parent(call.target)
                new_folder.now[new_name] = node
                if new_folder is folder:
                    folder.waiting.append((new_name, node, name))
                else:  # one name or the other, here too
                    new_folder.waiting.append((new_name, node, ""))
                    folder.waiting.append((name, None, ""))
                    self._moves.append((new_folder, new_folder.waiting[-1], folder, folder.waiting[-1]))
            elif call.kind == "link":
                new_folder, new_name = self._parent(call.target)
                new_folder.now[new_name] = folder.now[name]
                new_folder.waiting.append((new_name, folder.now[name], ""))
            elif call.kind == "unlink":
                del folder.now[name]
                folder.waiting.append((name, None, ""))
            else:
                made: _File | _Folder = _Folder()
                if call.kind == "create":
                    made = self._files[call.file] = _File()
                folder.now[name] = made
                folder.waiting.append((name, made, ""))

    def tear(self, call: Call, n_bytes: int) -> None:
        """Play the first bytes of a write back: the process died, or the disk was full, in the middle of it."""
        self.do(Call("write", file=call.file, offset=call.offset, data=call.data[:n_bytes]))

    def left(self) -> Left:
        """What a process that died leaves: the kernel has everything."""
        return _left(self._root, lambda folder: folder.now, lambda file: bytes(file.now))

    def stored(self) -> Left:
        """What the disk holds when it kept nothing that was not synced."""
        return _left(self._root, lambda folder: folder.stored, lambda file: bytes(file.stored))

    def torn(self, chance: random.Random, sector: int = SECTOR) -> Left:
        """What the disk may hold: of what was not synced each sector, and each name, got there or did not."""

        is_lost = {id(entry): lost for *move, lost in self._chances(chance) for entry in move}

        def entries(folder: _Folder) -> "dict[str, _File | _Folder]":
            kept = dict(folder.stored)
            for entry in folder.waiting:
                name, node, old_name = entry
                if is_lost[id(entry)] if id(entry) in is_lost else chance.random() < 0.5:
                    continue
                kept.pop(old_name, None)
                kept.pop(name, None)
                if node is not None:
                    kept[name] = node
            return kept

        def content(file: _File) -> bytes:
            data = bytearray(file.stored)
            for call in file.waiting:
                for part in _sectors(call, sector):
                    if chance.random() < 0.5:
                        _change(data, part)
            return bytes(data)

        return _left(self._root, entries, content)

    def _chances(self, chance: random.Random) -> "list[tuple[_Entry, _Entry, bool]]":
        return [(new, old, chance.random() < 0.5) for _, new, _, old in self._moves]

    def _store_moves(self, synced: _Folder) -> None:
        """What was moved into or out of a folder is stored with it, in the other folder too."""
        for new_folder, new, folder, old in self._moves:
            if synced in (new_folder, folder):
                new_folder.stored[new[0]] = new[1]  # type: ignore[assignment]
                folder.stored.pop(old[0], None)
                new_folder.waiting = [entry for entry in new_folder.waiting if entry is not new]
                folder.waiting = [entry for entry in folder.waiting if entry is not old]
        self._moves = [move for move in self._moves if synced not in (move[0], move[2])]

    def _folder(self, path: str) -> _Folder:
        folder = self._root
        for name in Path(path).parts:
            below = folder.now[name]
            assert isinstance(below, _Folder)
            folder = below
        return folder

    def _parent(self, path: str) -> tuple[_Folder, str]:
        return self._folder(os.path.dirname(path)), os.path.basename(path)  # noqa: PTH119, PTH120


def _change(data: bytearray, call: Call) -> None:
    if call.kind == "truncate":
        del data[call.offset :]
        data.extend(bytes(call.offset - len(data)))
        return
    data.extend(bytes(max(0, call.offset + len(call.data) - len(data))))
    data[call.offset : call.offset + len(call.data)] = call.data


def _sectors(call: Call, sector: int) -> list[Call]:
    if call.kind == "truncate":
        return [call]
    edges = [0, *range(sector - call.offset % sector, len(call.data), sector), len(call.data)]
    return [
        Call("write", file=call.file, offset=call.offset + start, data=call.data[start:stop])
        for start, stop in itertools.pairwise(edges)
    ]


def _left(
    folder: _Folder, entries: "Callable[[_Folder], dict[str, _File | _Folder]]", content: Callable[[_File], bytes]
) -> Left:
    left: Left = {}
    for name, node in entries(folder).items():
        if isinstance(node, _Folder):
            left[name] = None
            left |= {f"{name}/{below}": data for below, data in _left(node, entries, content).items()}
        else:
            left[name] = content(node)
    return left


def lay_out(left: Left, target: Path) -> None:
    """Put on the real file system what a crash left."""
    target.mkdir()
    for path, data in left.items():
        if data is None:
            (target / path).mkdir()
        else:
            (target / path).write_bytes(data)


def _plain_files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and path.name != "lock"]


class FailingDisk(Disk):
    """Fails its n-th call, and unless `once` every one after it until `mend`, with an error of the operating system.

    A write that fails takes half of its bytes first, as on a disk that fills up. Waits for no sync.
    """

    def __init__(self, fail_at: int, number: int = errno.ENOSPC, *, once: bool = False) -> None:
        self.n_calls = 0
        self._fail_at = fail_at
        self._number = number
        self._is_once = once
        self.is_mended = False

    def mend(self) -> None:
        """There is room again."""
        self.is_mended = True

    def _call(self) -> None:
        self.n_calls += 1
        if self.n_calls >= self._fail_at and not self.is_mended:
            self.is_mended = self._is_once
            raise OSError(self._number, os.strerror(self._number))

    def write(self, descriptor: int, buffers: Sequence[Any], offset: int) -> int:
        try:
            self._call()
        except OSError:
            data = b"".join(bytes(buffer) for buffer in buffers)
            if len(data) > 1:
                os.pwrite(descriptor, data[: len(data) // 2], offset)
            raise
        return super().write(descriptor, buffers, offset)

    def sync(self, descriptor: int) -> None:  # noqa: ARG002
        self._call()

    def sync_folder(self, folder: Path) -> None:  # noqa: ARG002
        self._call()

    def create(self, path: Path) -> int:
        self._call()
        return super().create(path)

    def make_folder(self, path: Path) -> None:
        self._call()
        super().make_folder(path)

    def rename(self, source: Path, target: Path) -> None:
        self._call()
        super().rename(source, target)

    def link(self, source: Path, target: Path) -> None:
        self._call()
        super().link(source, target)

    def truncate(self, descriptor: int, size: int) -> None:
        self._call()
        super().truncate(descriptor, size)

    def allocate(self, descriptor: int, size: int) -> None:
        self._call()
        super().allocate(descriptor, size)

    def unlink(self, path: Path) -> None:
        self._call()
        super().unlink(path)

    def remove_tree(self, path: Path) -> None:
        self._call()
        super().remove_tree(path)
