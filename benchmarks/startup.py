"""What a user waits for before anything happens: import, --help, opening a run. python -m benchmarks.startup [RUN]"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import trajectory_store as ts

REPEATS = 9


def milliseconds(work: Callable[[], Any]) -> str:
    """Median, least and most of some runs of `work`."""
    taken = []
    for _ in range(REPEATS):
        before = time.perf_counter()
        work()
        taken.append((time.perf_counter() - before) * 1e3)
    return f"{statistics.median(taken):.1f} ms ({min(taken):.1f} to {max(taken):.1f})"


def in_new_process(code: str) -> Callable[[], Any]:
    """Running a line of Python from nothing."""
    return lambda: subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    """Print a line a thing waited for; the interpreter's own start is the first, to be taken off the others."""
    print("python alone:           ", milliseconds(in_new_process("")))
    print("numpy alone:            ", milliseconds(in_new_process("import numpy")))
    print("import trajectory_store:", milliseconds(in_new_process("import trajectory_store")))
    command = "import sys; sys.argv[1:] = ['--help']; from {} import main; main()"
    print("trajectory-store --help:", milliseconds(in_new_process(command.format("trajectory_store.cli"))))
    print("trainer --help:         ", milliseconds(in_new_process(command.format("trainer.cli"))))
    for path in sys.argv[1:]:
        print(f"open {path}:", milliseconds(lambda path=path: ts.open(path).close()))  # type: ignore[misc]


if __name__ == "__main__":
    main()
