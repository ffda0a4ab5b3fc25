"""`trajectory-store check`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from . import terminal

if TYPE_CHECKING:
    from ..checking import Repair


@click.command("check")
@click.argument("run", type=terminal.PATH)
@click.option("--repair", "is_repairing", is_flag=True, help="Cut the torn tail that a crash left, and nothing else.")
@terminal.JSON
def command(run: Path, is_repairing: bool, as_json: bool) -> None:
    """Verify every stored byte of RUN, also while it is being written.

    Exits 0 if the run is sound, 1 if something was found, and 2 if it could not be checked. --repair cuts what is torn,
    says what that loses, and checks again. It cuts nothing if a step that was synced is damaged.
    """
    from ..checking import check, repair

    done = repair(run) if is_repairing else None
    n_found, findings = 0, []
    with terminal.progress("Checking") as report:
        for finding in check(run, progress=report) if done is None else done.findings:
            n_found += 1
            if as_json:
                findings.append(finding.to_json())
            else:
                terminal.echo(str(finding))
    if as_json:
        terminal.echo_json({"sound": n_found == 0, "findings": findings, "repair": _repair_json(done)})
    else:
        if done is not None:
            terminal.echo(*_repaired(done))
        terminal.echo(f"{n_found} finding{'s' * (n_found != 1)}" if n_found else "Sound")
    if n_found:
        click.get_current_context().exit(terminal.EXIT_DIFFERENT)


def _repair_json(done: "Repair | None") -> "dict[str, object] | None":
    if done is None:
        return None
    return {
        "kept_until": done.recovery.kept_until,
        "dropped_steps": list(done.recovery.dropped_steps),
        "dropped_bytes": done.recovery.dropped_bytes,
        "removed": [str(path) for path in done.removed],
    }


def _repaired(done: "Repair") -> list[str]:
    removed = [f"removed {path}, a write that did not finish" for path in done.removed]
    return [str(done.recovery).capitalize(), *removed]
