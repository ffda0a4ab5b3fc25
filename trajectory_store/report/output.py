"""Where a report goes: the page and the figures, each written whole or not at all."""

from pathlib import Path

from ..errors import RunExistsError
from ..files import make_folders, put
from ..words import FigureForm
from .drawing import renderer
from .figures import svg_files
from .findings import Findings
from .page import page


def refuse_existing(path: Path, figures: Path | None, *, form: FigureForm = "svg", overwrite: bool) -> None:
    """Raise RunExistsError where something is in the way, before the work and not after it."""
    if path.is_dir():
        raise RunExistsError(f"{path}: a folder is there; name a file to write")
    if figures is not None and figures.exists() and not figures.is_dir():
        raise RunExistsError(f"{figures}: not a folder; name another for the figures")
    if overwrite:
        return
    taken = [path] if path.exists() else sorted(figures.glob(f"*.{form}"))[:1] if figures is not None else []
    for one in taken:
        raise RunExistsError(f"{one}: already there; give another name, or --overwrite to replace it")


def write_page(found: Findings, path: Path) -> int:
    """Write the page, replacing what is there; returns its size in bytes."""
    # A string from elsewhere may hold half of a surrogate pair, which UTF-8 cannot.
    text = page(found).encode("utf-8", errors="replace")
    make_folders(path.parent, sync=False)
    put(path, text, sync=False)
    return len(text)


def write_figures(found: Findings, folder: Path, *, form: FigureForm = "svg") -> list[str]:
    """Write every figure as a file of that form into a folder, which is made; returns the files' names.

    Raises UsageError on another form, and on "png" without resvg-py.
    """
    render = renderer(form)
    make_folders(folder, sync=False)
    files = {f"{Path(name).stem}.{form}": text for name, text in svg_files(found).items()}
    for name, text in files.items():
        put(folder / name, render(text), sync=False)
    return list(files)
