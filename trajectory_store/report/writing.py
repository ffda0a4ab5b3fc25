"""Where a report goes: the page and the figures, each written whole or not at all."""

from pathlib import Path

from ..atomic import put
from ..errors import RunExistsError
from ..files import make_folders
from ..place import to_write
from ..words import FigureForm
from .drawing import renderer
from .figures import svg_files
from .findings import Findings
from .page import page


def refuse_existing(path: Path, figures: Path | None, *, form: FigureForm = "svg", overwrite: bool) -> None:
    """Raise if something is where a report is to be written: before the work, not after it.

    Parameters
    ----------
    path : Path
        Where the page goes.
    figures : Path or None
        The folder that the figures go to, if any.
    form : {"svg", "png"}
        The form of the figures' files.
    overwrite : bool
        Whether files may be replaced; a folder never is.

    Raises
    ------
    RunExistsError
        Something is there.
    """
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
    """Write the page, in place of a file that is there.

    Parameters
    ----------
    found : Findings
        What `findings` returned.
    path : Path
        The file. Folders above it are made.

    Returns
    -------
    int
        Its size in bytes.

    Raises
    ------
    StorageError
        The disk refuses; the file is the old one, or none.
    """
    target = to_write(path)
    # A string from elsewhere may hold half of a surrogate pair, which UTF-8 cannot.
    text = page(found).encode("utf-8", errors="replace")
    make_folders(target.parent, sync=False)
    put(target, text, sync=False)
    return len(text)


def write_figures(found: Findings, folder: Path, *, form: FigureForm = "svg") -> list[str]:
    """Write every figure as a file into a folder, which is made.

    Parameters
    ----------
    found : Findings
        What `findings` returned.
    folder : Path
        The folder.
    form : {"svg", "png"}
        The files' form; "png" has 300 dpi and needs the extra `plots`.

    Returns
    -------
    list of str
        The files' names.

    Raises
    ------
    UsageError
        There is no such form, or resvg-py is missing.
    StorageError
        The disk refuses.
    """
    render = renderer(form)
    target = to_write(folder)
    make_folders(target, sync=False)
    files = {f"{Path(name).stem}.{form}": text for name, text in svg_files(found).items()}
    for name, text in files.items():
        put(target / name, render(text), sync=False)
    return list(files)
