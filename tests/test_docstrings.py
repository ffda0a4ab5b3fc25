"""Public docstrings are numpydoc, and say of a signature what is true."""

import builtins
import doctest
import importlib
import inspect
import pkgutil
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Literal, get_args, get_origin, is_typeddict

import numpy as np
import pytest
from numpydoc.docscrape import get_doc_object
from numpydoc.validate import validate

import trainer
import trajectory_store as ts
from trainer.fingerprint import COMPUTING
from trainer.recorder import Sink
from trajectory_store import analysis, errors, notebook, report
from trajectory_store.analysis.phases import Scheme
from trajectory_store.analysis.scanning import Accumulator, Analysis

ROOT = Path(__file__).parents[1]
CHECKS = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["numpydoc_validation"]["checks"])


def trainer_modules() -> list[ModuleType]:
    """The reference trainer's, but for those that compute, which are the notebook's, and the commands."""
    names = {found.name for found in pkgutil.iter_modules(trainer.__path__)} - {*COMPUTING, "cli", "__main__"}
    return [importlib.import_module(f"trainer.{name}") for name in sorted(names)]


def defined(module: ModuleType) -> list[str]:
    """Functions and classes that a module defines, and not those that it imports."""
    found = {name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__}
    return sorted(name for name in found if isinstance(getattr(module, name), type | FunctionType))


DOORS: dict[ModuleType, list[str]] = {
    ts: [name for name in ts.__all__ if not isinstance(getattr(ts, name), ModuleType)],
    analysis: [name for name in analysis.__all__ if name != "lattice"],
    analysis.lattice: [name for name, value in vars(analysis.lattice).items() if inspect.isfunction(value)],
    report: report.__all__,
    errors: [name for name, value in vars(errors).items() if isinstance(value, type)],
    notebook: ["bar"],
    **{module: defined(module) for module in trainer_modules()},
}
"""Where a user finds names, and which."""


METHODS = (FunctionType, classmethod, staticmethod, property)
PROTOCOLS = (ts.Sink, Analysis, Accumulator, Scheme, Sink)
"""What they ask of a method is said once, there."""


def public() -> Iterator[tuple[str, Any]]:
    """(dotted name, object) of everything that a user meets and that needs a docstring of its own."""
    promised = {name for protocol in PROTOCOLS for name in vars(protocol) if not name.startswith("_")}
    for door, names in DOORS.items():
        for name in names:
            value = getattr(door, name)
            if not isinstance(value, (type, FunctionType)) or name.startswith("_"):
                continue
            yield f"{door.__name__}.{name}", value
            if isinstance(value, type) and not issubclass(value, errors.TrajectoryError):
                for member, found in vars(value).items():
                    is_said_elsewhere = member in promised and value not in PROTOCOLS
                    if not member.startswith("_") and not is_said_elsewhere and isinstance(found, METHODS):
                        yield f"{door.__name__}.{name}.{member}", found


def flaws(value: Any) -> list[str]:
    """What is wrong with one docstring, a sentence each."""
    if not inspect.getdoc(value):
        return ["it has no docstring"]
    document = get_doc_object(value)
    found = [f"{code}: {said}" for code, said in validate(document)["errors"] if code in CHECKS]
    if isinstance(value, type):
        # numpydoc knows no dataclasses: what a field is may be said of a parameter or of an attribute.
        found = [flaw for flaw in found if not flaw.startswith(("PR01", "PR02", "PR03"))]
        said = {
            name.strip()
            for part in ("Parameters", "Attributes")
            for entry in document[part]
            for name in entry.name.split(",")
        }
        meant = {name for name in _parameters(value) if not name.startswith("_")}
        found += [f"{name!r} is not described" for name in sorted(meant - said)]
        found += [f"{name!r} is described and does not exist" for name in sorted(said - meant - set(dir(value)))]
    for entry in document["Parameters"]:
        annotation = getattr(value, "__annotations__", {}).get(entry.name)
        if get_origin(annotation) is Literal and re.findall(r'"([^"]+)"', entry.type) != list(get_args(annotation)):
            found.append(f"{entry.name!r} takes other words than {entry.type}")
    for entry in document["Raises"]:
        kind = entry.type or entry.name
        if not hasattr(errors, kind) and not hasattr(builtins, kind):
            found.append(f"it raises {kind!r}, which does not exist")
    return found


def _parameters(kind: type) -> list[str]:
    if kind in PROTOCOLS:
        return []
    if is_typeddict(kind):
        return list(kind.__annotations__)
    try:
        return list(inspect.signature(kind).parameters)
    except ValueError:  # an exception
        return []


PUBLIC = dict(public())


@pytest.mark.parametrize("dotted", PUBLIC)
def test_a_public_docstring_is_numpydoc(dotted: str) -> None:
    """Sections as numpydoc has them, parameters as the signature has them, errors that exist."""
    assert flaws(PUBLIC[dotted]) == []


@pytest.mark.parametrize(
    "dotted", [dotted for dotted, value in PUBLIC.items() if ">>>" in (inspect.getdoc(value) or "")]
)
def test_an_example_in_a_docstring_runs(dotted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it shows is what comes out. `np`, `ts` and `analysis` are imported, and it runs in an empty folder."""
    monkeypatch.chdir(tmp_path)
    names = {"np": np, "ts": ts, "analysis": analysis}
    said: list[str] = []
    shown = doctest.DocTestParser().get_doctest(inspect.getdoc(PUBLIC[dotted]) or "", names, dotted, None, None)

    doctest.DocTestRunner().run(shown, out=said.append)

    assert "".join(said) == ""


def test_flaws_are_seen() -> None:
    """A wrong parameter and an error that does not exist are found."""

    def scale(factor: float, how: Literal["up", "down"]) -> float:
        """Multiply.

        Parameters
        ----------
        multiple : float
            Of what.
        how : {"up", "sideways"}
            In which direction.

        Raises
        ------
        NoSuchError
            Never.
        """
        return factor if how == "up" else -factor

    found = " ".join(flaws(scale))
    for part in ("PR01", "PR02", "RT01", "NoSuchError", "other words"):
        assert part in found
