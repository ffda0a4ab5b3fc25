"""The `trajectory-store` command: parse, call, print, exit code.

0 is done or equal, 1 a difference or damage, 2 wrong use or an error with one sentence on stderr.

To add a command: write `commands/<name>.py` with a click command called `command`, and put <name> into COMMANDS. A
command's module imports click, `words` and `commands.terminal` at its top and all else, numpy included, inside of
functions, so that `--help` answers at once. It may raise any of our errors: the group prints them and exits with 2. It
exits with 1 through `click.get_current_context().exit(1)`. Long work takes its callback from
`terminal.progress("Exporting")`.
"""

import importlib

import click

from .commands import terminal

COMMANDS = ("info", "slice", "export", "check", "compare", "import_file", "analyze", "report")
"""Modules of `commands`, in the order in which the help lists them."""


@click.group(cls=terminal.Commands, context_settings={"help_option_names": ["-h", "--help"]})
@terminal.VERSION
def main() -> None:
    """Look into what a training run recorded at every step, take it out, and compare it bit for bit.

    A RUN is a run's folder; most commands take a safetensors file too.
    """


for _name in COMMANDS:
    main.add_command(importlib.import_module(f".commands.{_name}", __package__).command)
