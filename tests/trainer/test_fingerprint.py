"""The fingerprint of the code changes with what is computed, and with nothing else."""

import ast
import hashlib
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import Result

import trainer as package
import trajectory_store
from trainer import fingerprint
from trainer.canonical import canonical
from trainer.fingerprint import COMPUTING, code_hash, differences

Run = Callable[..., Result]

OF_BYTES = Path(__file__).parent / "golden" / "code"
"""The modules as they were when runs recorded the hash of their bytes."""

RECORDED = "41014417eec6c4cffa7812514e3706e5da6da8c1a647565f45ab5c1d3800e11e"
"""What those runs recorded."""

SAME = {
    "comment": ("x = 1", "x = 1  # one"),
    "layout": ("f(a, b)", "f(\n    a,\n    b,\n)"),
    "spelling": ("x = 'a' \"b\" + f(0x10, 1_000.0)", "x = ('ab' + f(16, 1e3))"),
    "docstring of a module": ('"""One."""\nx = 1', '"""Another."""\nx = 1'),
    "docstring of a class": (
        "class A(B):\n    def f(self): return 1",
        'class A(B):\n    "A."\n    def f(self): return 1',
    ),
    "docstring of a function": ("def f(): return 1", 'def f():\n    "One."\n    return 1'),
    "docstring of a field": ("class A:\n    x: int = 1", 'class A:\n    x: int = 1\n    "One."'),
    "a body of nothing": ("class A(P):\n    def f(self): ...", 'class A(P):\n    def f(self):\n        "Do."'),
    "pass": ("def f(): pass", 'def f():\n    "Nothing."'),
    "annotation of a parameter": ("def f(x, *y, z=1, **k): return x", "def f(x: int, *y: A, z: B=1, **k: C): return x"),
    "annotation of a result": ("async def f(): return 1", "async def f() -> int: return 1"),
    "annotation of a property": (
        "class A:\n    @property\n    def f(self): return 1",
        "class A:\n    @property\n    def f(self) -> int: return 1",
    ),
    "annotation of a variable": ("def f():\n    x = 1", "def f():\n    x: int = 1"),
    "annotation of an attribute": (
        "class A:\n    def f(self): self.x = 1",
        "class A:\n    def f(self): self.x: int = 1",
    ),
    "annotation of a declaration": ("def f():\n    x: int", "def f():\n    x: str"),
    "order of imports": ("import b\nfrom a import c\nc(b)", "from a import c\nimport b\nc(b)"),
    "order of names": ("from a import c, d\nc(d)", "from a import d, c\nc(d)"),
    "imports of one module": ("from a import c, d\nc(d)", "from a import c\nfrom a import d\nc(d)"),
    "import for an annotation": (
        "def f(x): return x",
        "from collections.abc import Iterator\nimport numpy.typing as npt\n"
        "def f(x: Iterator[npt.NDArray]) -> Iterator: return x",
    ),
    "name for an annotation": (
        "import torch\nx = f(torch)",
        "import torch\nfrom torch import Tensor\nx: Tensor = f(torch)",
    ),
    "import while types are checked": (
        "x = 1",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a import B\nx = 1",
    ),
    "the branch when no types are checked": (
        "import typing\nif typing.TYPE_CHECKING:\n    x = 1\nelse:\n    x = 2",
        "x = 2",
    ),
}

OTHER = {
    "number": ("x = 1", "x = 2"),
    "type of a number": ("x = 1", "x = 1.0"),
    "true and one": ("x = 1", "x = True"),
    "last bit of a float": ("x = 0.1", "x = 0.10000000000000002"),
    "bytes and text": ("x = b'a'", "x = 'a'"),
    "text": ("x = 'a'", "x = 'b'"),
    "text that looks like code": ("x = 'a)'", "x = 'a'"),
    "operator": ("x = a + b", "x = a - b"),
    "comparison": ("x = a < b", "x = a <= b"),
    "grouping": ("x = a + b + c", "x = a + (b + c)"),
    "keyword": ("f(x=1)", "f(y=1)"),
    "default": ("def f(x: int = 1): ...", "def f(x: int = 2): ..."),
    "order of statements": ("a()\nb()", "b()\na()"),
    "statement in a branch": ("if a:\n    b()\nc()", "if a:\n    b()\n    c()"),
    "name that is imported": ("from a import b as x\nx()", "from a import c as x\nx()"),
    "module that is imported": ("from a import x\nx()", "from b import x\nx()"),
    "module run for itself": ("import a\nx = 1", "x = 1"),
    "module run for a name of it": ("from a import b\nx = 1", "x = 1"),
    "import behind a call": ("import a\nb()\nimport c", "import a\nimport c\nb()"),
    "future": ("x = 1", "from __future__ import annotations\nx = 1"),
    "exported name": ("from a import b\n__all__ = ['b']", "from a import c as b\n__all__ = ['b']"),
    "star": ("from a import *", "from b import *"),
    "field": ("@dataclass\nclass A:\n    x: int = 1", "@dataclass\nclass A:\n    x = 1"),
    "kind of a field": ("class A:\n    x: int = 1", "class A:\n    x: ClassVar[int] = 1"),
    "field without a default": ("class A:\n    x: int\n    y: int", "class A:\n    y: int\n    x: int"),
    "annotation that a decorator may read": ("@register\ndef f(x: int): ...", "@register\ndef f(x: str): ..."),
    "annotation that is read": ("x: int = 1\nf(__annotations__)", "x: str = 1\nf(__annotations__)"),
    "docstring that is read": ('"a"\nf(__doc__)', '"b"\nf(__doc__)'),
    "source that is read": ("import inspect  # a", "import inspect  # b"),
    "declaration": ("def f():\n    x: int\n    return x", "def f():\n    return x"),
    "decorator": ("class A:\n    @property\n    def f(self): ...", "class A:\n    def f(self): ..."),
    "base": ("class A(B): ...", "class A(C): ..."),
    "part of an f-string": ("x = f'{a:>{b}}'", "x = f'{a:<{b}}'"),
    "conversion in an f-string": ("x = f'{a!r}'", "x = f'{a!s}'"),
    "unpacking": ("f(*a)", "f(a)"),
    "no default": ("def f(*, x): ...", "def f(*, x=None): ..."),
    "None as a key": ("x = {**a}", "x = {None: a}"),
    "key of a dictionary": ("x = {**a, 1: 2}", "x = {1: 2, **a}"),
    "asynchronous": ("async def f(): return 1", "def f(): return 1"),
    "pattern": ("match a:\n    case None: b()", "match a:\n    case True: b()"),
}


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME)
def test_what_computes_nothing_is_left_out(one: str, other: str) -> None:
    """Two spellings of one computation have one form."""
    assert canonical(one) == canonical(other)


@pytest.mark.parametrize(("one", "other"), OTHER.values(), ids=OTHER)
def test_what_computes_is_kept(one: str, other: str) -> None:
    """Two computations have two forms."""
    assert canonical(one) != canonical(other)


GOLDEN = '''
"""Every kind of thing whose syntax tree has ever differed between versions of Python."""
from __future__ import annotations
import os.path, a.b as c
from . import d
from .e import f as g, unused
@decorated(1, *x, k=-2.5, **y)
class A(B[int], metaclass=M):
    field: int = 0xFFFF_FFFF_FFFF_FFFF_FFFF
    def method(self, p, /, q: int = 1, *r, s, t=None, **u) -> None:
        "Docstring."
        self.z: float = 1e-3 + 1j * 1e999
        return f"a{p!r:>{q}}b" "c" f"{s=}{t:}" 'é\\U0001f600\\ud800' rf"\\{u}", b"\\xff"
async def h():
    async for i, *j in k:
        async with l as m, n: await o
    return [p async for p in q if r if not s], {t: u for t in v}, {w for w in x}, (y for y in z)
def generator():
    global a1; nonlocal_ = lambda a2, *, a3=...: (yield a2)
    del a1[1:2, ::3, ...], a4.b
    x = y = z @ w // 2 ** -3; x <<= 1; x: int
    if (n := 10) > 5 <= 6 is not None not in [*a5] and (b5 or not c5): raise E from e
    elif True: assert a6, "message"
    else:
        while 1:
            try: continue
            except (A, B) as error: break
            else: pass
            finally: yield from a7
    match a8:
        case {"k": [1, -2.0, *_], **rest} | P(q, r=None) | "s" as t if u: return {**v, 1: {2, 3}}
'''


def test_the_form_is_the_same_in_every_python() -> None:
    """Recorded once (and found with Python 3.11, 3.12, 3.13 and 3.14): a run goes on under a newer Python."""
    assert canonical("x: int = f(1.5, b'a', y=None)  # one") == (
        "Module(body=[Assign(targets=[Name(id='x')],value=Call(args=[0x1.8000000000000p+0,b'a'],func=Name(id='f'),"
        "keywords=[keyword(arg='y',value=None)]))])"
    )
    assert (
        hashlib.sha256(canonical(GOLDEN).encode()).hexdigest()
        == "cc704068b019f02d2bd4d6cc3f3f7343c6488c323113f71864b829b140a9c6f8"
    )


@pytest.mark.parametrize("of", [package, trajectory_store], ids=["trainer", "store"])
def test_formatting_leaves_the_form(of: ModuleType) -> None:
    """A module written anew from its syntax tree, without comments and with another layout, has the same form."""
    n_modules = 0
    for path in sorted(Path(str(of.__file__)).parent.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        form = canonical(source)
        if form != source:  # it does not read itself
            assert form == canonical(ast.unparse(ast.parse(source))), path
            n_modules += 1
    assert n_modules > 20


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A folder with the modules as they were when old runs were recorded."""
    folder = tmp_path / "code"
    folder.mkdir()
    for name in COMPUTING:
        shutil.copy(OF_BYTES / f"{name}.py.txt", folder / f"{name}.py")
    return folder


def rewritten(folder: Path) -> None:
    """Other comments, docstrings, layout and annotations, and not one byte of it as before."""
    for name in COMPUTING:
        path = folder / f"{name}.py"
        source = re.sub(r'"""', '"""Said otherwise. ', path.read_text(encoding="utf-8"), count=1)
        source = source.replace(" -> None:", ":").replace("import torch\n", "import torch  # the library\n", 1)
        path.write_text(f"# A comment.\n{source}\n\n# The end.\n", encoding="utf-8")


CHANGES = {
    "constant": ("model", "std=0.02", "std=0.03"),
    "operator": ("model", "hidden_dim * 4", "hidden_dim + 4"),
    "argument": ("loop", "dtype=torch.bfloat16", "dtype=torch.float16"),
    "order": ("state", "    torch.manual_seed(config.random_seed)\n    random.seed(config.random_seed)\n", ""),
    "condition": ("loop", "while state.step < config.total_steps:", "while state.step <= config.total_steps:"),
}


def test_the_recorded_value_is_of_these_bytes(copied: Path) -> None:
    """What old runs recorded is the hash of the bytes, and stands for the form of the same files."""
    content = b"".join((copied / f"{name}.py").read_bytes() for name in COMPUTING)

    assert hashlib.sha256(content).hexdigest() == RECORDED
    assert differences({"bits": {"code": RECORDED}}, {"bits": {"code": code_hash(copied)}}) == []


def test_the_modules_compute_what_they_computed_for_old_runs(copied: Path) -> None:
    """A tripwire. Who changes what they compute gives up the resume of every run so far, and deletes this test."""
    assert code_hash(Path(package.__file__).parent) == code_hash(copied)


@pytest.mark.parametrize(("module", "old", "new"), CHANGES.values(), ids=CHANGES)
def test_another_computation_has_another_hash(copied: Path, module: str, old: str, new: str) -> None:
    """A constant, an operator, an argument, a statement: each changes it."""
    before = code_hash(copied)
    path = copied / f"{module}.py"
    source = path.read_text(encoding="utf-8")
    assert old in source
    path.write_text(source.replace(old, new), encoding="utf-8")

    assert before != code_hash(copied)


def in_annotations(tree: ast.AST) -> set[ast.AST]:
    """Every node of an annotation of a function or a variable."""
    roots = [node.annotation for node in ast.walk(tree) if isinstance(node, ast.arg | ast.AnnAssign)]
    roots += [node.returns for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return {node for root in roots if root is not None for node in ast.walk(root)}


def changed(node: ast.AST) -> Iterator[None]:
    """Change a number, an operator, an attribute, a keyword or a comparison in place, and change it back."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        node.value, number = node.value + 1, node.value
        yield
        node.value = number
    elif isinstance(node, ast.BinOp | ast.AugAssign):
        node.op, kept = ast.Pow(), node.op
        yield
        node.op = kept
    elif isinstance(node, ast.Compare):
        node.ops, kept_ops = [ast.NotIn() for _ in node.ops], node.ops
        if type(kept_ops[0]) is not ast.NotIn:
            yield
        node.ops = kept_ops
    elif isinstance(node, ast.Attribute):
        node.attr += "_"
        yield
        node.attr = node.attr[:-1]
    elif isinstance(node, ast.keyword) and node.arg is not None:
        node.arg += "_"
        yield
        node.arg = node.arg[:-1]


def test_every_change_of_what_is_computed_counts(copied: Path) -> None:
    """Each number, operator, comparison, attribute and keyword in the modules, changed alone, changes the form."""
    n_changes = 0
    for name in COMPUTING:
        source = (copied / f"{name}.py").read_text(encoding="utf-8")
        form = canonical(source)
        tree = ast.parse(source)
        ignored = in_annotations(tree)
        for node in (node for node in ast.walk(tree) if node not in ignored):
            for _ in changed(node):
                assert form != canonical(ast.unparse(tree)), ast.dump(node)
                n_changes += 1
        assert form == canonical(ast.unparse(tree))
    assert n_changes > 400


def resume_after(
    change: Callable[[Path], object],
    copied: Path,
    out: Path,
    run_tiny: Run,
    monkeypatch: pytest.MonkeyPatch,
    *options: str,
) -> Result:
    """Record with the hash of the bytes, change the code, resume."""
    with monkeypatch.context() as then:
        then.setattr(fingerprint, "code_hash", lambda _folder: RECORDED)
        assert run_tiny(out, *options, checkpoint_steps="0,9").exit_code == 0
    change(copied)
    monkeypatch.setattr(fingerprint, "_FOLDER", copied)
    return run_tiny(out, "--resume", *options, checkpoint_steps="0,9")


@pytest.mark.parametrize("options", [[], ["--no-capture"]], ids=["recorded", "unrecorded"])
def test_an_old_run_goes_on_after_a_comment(
    copied: Path, tmp_path: Path, run_tiny: Run, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    """What it recorded, in the recording or in a checkpoint alone, is the hash of bytes that are no longer there."""
    result = resume_after(rewritten, copied, tmp_path / "out", run_tiny, monkeypatch, *options)

    assert result.exit_code == 0, result.output
    assert "environment differs" not in result.output


@pytest.mark.parametrize("options", [[], ["--no-capture"]], ids=["recorded", "unrecorded"])
def test_an_old_run_is_refused_after_another_computation(
    copied: Path, tmp_path: Path, run_tiny: Run, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    """A constant that changed is an environment that differs, as before."""

    def change(folder: Path) -> None:
        rewritten(folder)
        path = folder / "model.py"
        path.write_text(path.read_text(encoding="utf-8").replace("std=0.02", "std=0.03"), encoding="utf-8")

    result = resume_after(change, copied, tmp_path / "out", run_tiny, monkeypatch, *options)

    assert result.exit_code == 2
    assert "code: " in result.output
    assert "the environment differs (1 values)" in result.output


@pytest.mark.parametrize("recorded", ["0" * 64, 7, None, ["ast-1"]])
def test_any_other_recorded_value_differs(recorded: object) -> None:
    """A hash of bytes that is not in the table, and whatever else a file may hold there."""
    assert len(differences({"bits": {"code": recorded}}, {"bits": {"code": "ast-1:0"}})) == 1
