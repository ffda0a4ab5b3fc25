"""The door of the command `trainer`, outside of the package `trainer`, because Python may find another one.

PyPI has a package `trainer` too. Where both are installed, each has overwritten files of the other, and whichever
`trainer/__init__.py` came last runs as soon as anything of the package is imported. So this looks first.
"""

import importlib.util
import sys
from pathlib import Path

_REMEDY = "install trajectory-store again, in an environment that has no other package `trainer`"


def main() -> None:
    """Run the command, or say in one sentence that the package `trainer` is not ours and exit with 2."""
    problem = _problem(Path(__file__).with_name("trainer"))
    if problem is None:
        try:
            from trainer.cli import main as command
        except ImportError as error:
            if error.name != "trainer":
                raise
            problem = error.msg  # our own `trainer/__init__.py` found the other's files beside it
    if problem is not None:
        print(f"Error: {problem}", file=sys.stderr)
        sys.exit(2)
    command()


def _problem(ours: Path) -> str | None:
    """What is wrong with the package that `import trainer` would run; None if it is the one in `ours`. Runs nothing."""
    init = ours / "__init__.py"
    if not init.is_file() or "trajectory_store" not in init.read_text(encoding="utf-8", errors="replace"):
        return f"{ours}: another package `trainer` was installed over this one, or removed with files of it; {_REMEDY}"
    spec = importlib.util.find_spec("trainer")
    found = spec.origin if spec is not None else None
    if found is None or Path(found).resolve() != init.resolve():
        return f"{found}: another package `trainer` hides the one in {ours}; {_REMEDY}"
    return None


if __name__ == "__main__":
    main()
