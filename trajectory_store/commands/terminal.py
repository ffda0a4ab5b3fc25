"""What the commands share: the one place that prints, errors as one sentence, a progress bar, JSON.

Law: every text reaches the terminal by way of this module, and whatever a name from a file holds, the terminal obeys
none of it. A line stays one line.
"""

import contextlib
import json
import math
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from ..place import named
from ..plain_text import printable


class _LocalPath(click.Path):
    """A path of this machine as it was typed, "~" replaced; a URL is one of our errors."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return named(super().convert(value, param, ctx))


PATH = _LocalPath()
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def _say_version(ctx: click.Context, _option: click.Parameter, is_asked: bool) -> None:
    if is_asked and not ctx.resilient_parsing:
        from trajectory_store import __version__

        click.echo(f"{ctx.info_name}, version {__version__}")
        ctx.exit()


VERSION = click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_say_version,
    help="Show the version and exit.",
)

EXIT_DIFFERENT = 1
EXIT_ERROR = 2


class OneSentence(click.ClickException):
    """An error of ours on its way to the terminal."""

    exit_code = EXIT_ERROR

    def show(self, file: Any = None) -> None:
        """Print it on stderr."""
        del file
        echo(f"Error: {self.message}", err=True)


class Commands(click.Group):
    """A group that prints its commands' errors as one sentence, lists commands in their order, and stops with its
    pipe."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of adding, not of the alphabet."""
        del ctx
        return list(self.commands)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """As click's."""
        with _plain_usage_errors():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Our errors exit with 2, Ctrl-C with 130, and a reader that went away with 141, silently."""
        from ..errors import TrajectoryError

        try:
            with _plain_usage_errors(), _warnings_as_notes():
                result = super().invoke(ctx)
            sys.stdout.flush()
        except KeyboardInterrupt:
            echo("Interrupted.", err=True)
            ctx.exit(128 + signal.SIGINT)
        except BrokenPipeError:
            # Python flushes stdout again when it exits, which would fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(128 + signal.SIGPIPE)
        except TrajectoryError as error:
            raise OneSentence(str(error)) from error
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise OneSentence(f"{where}{error.strerror or error}") from error
        except MemoryError as error:
            raise OneSentence("there is not enough memory; take a smaller part, or a machine with more") from error
        return result


@contextlib.contextmanager
def _plain_usage_errors() -> Iterator[None]:
    """Make what click prints itself of an argument plain; its messages may have several lines."""
    try:
        yield
    except click.ClickException as error:
        plain = "\n".join(printable(line) for line in error.message.split("\n"))
        error.message = plain  # type: ignore[misc]  # final for subclasses; a new error would lose its kind
        raise


@contextlib.contextmanager
def _warnings_as_notes() -> Iterator[None]:
    """Print a warning as one line on stderr, without the line of code that Python adds."""
    from ..errors import ConventionWarning

    with warnings.catch_warnings():

        def note(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
            echo(f"{'Note' if issubclass(category, ConventionWarning) else 'Warning'}: {message}", err=True)

        warnings.simplefilter("always", ConventionWarning)
        warnings.showwarning = note
        yield


@contextlib.contextmanager
def progress(label: str) -> Iterator[Callable[[int, int], None] | None]:
    """A progress callback that draws a bar on stderr; None if stderr is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    with tqdm(desc=printable(label), unit="B", unit_scale=True, leave=False) as bar:

        def report(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield report


def names(text: str | None) -> list[str]:
    """The names in a comma-separated option."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def echo(*lines: str, err: bool = False) -> None:
    """Print lines, each on one line whatever is in it: what a terminal would obey is escaped."""
    # What the terminal's encoding lacks, such as "×" in ASCII, is escaped too.
    encoding = (sys.stderr if err else sys.stdout).encoding or "utf-8"
    for line in lines:
        click.echo(printable(line).encode(encoding, "backslashreplace").decode(encoding), err=err)


def echo_json(value: Any) -> None:
    """Print a value as JSON: not-a-number and infinities as the strings "NaN", "Infinity", "-Infinity"."""
    echo_json_pieces([json_text(value)])


def echo_json_pieces(pieces: Iterable[str]) -> None:
    """Print one JSON object that comes in pieces of `json_text`, which is plain ASCII whatever is in it."""
    for piece in pieces:
        assert piece.isascii()
        click.echo(piece, nl=False)
    click.echo()


def json_text(value: Any) -> str:
    """A value as JSON, every character outside of printable ASCII escaped."""
    return json.dumps(json_value(value), indent=2, allow_nan=False)


def json_value(value: Any) -> Any:
    """A value all of whose parts JSON can hold."""
    if isinstance(value, Mapping):
        return {str(key): json_value(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_value(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return str(value) if isinstance(value, Path) else value


def width() -> int:
    """Columns of the terminal, or of a page if there is none."""
    return shutil.get_terminal_size((100, 24)).columns
