"""Python source without what changes no number: the form from which the fingerprint of code is taken.

Law: two sources of one form compute the same. These are left out:

- layout, comments, docstrings, other bare constants and `pass`;
- annotations of functions and of variables, `if TYPE_CHECKING:`, and names that are imported for annotations alone;
- the order of imports that follow each other. (It could decide which of two libraries is loaded first, but the
  trainer's commands load torch, numpy and the store before the modules whose form is taken.)

The rest stays, also what might well change nothing: names, messages, the order of statements. Annotations stay in the
body of a class, because they make the fields of a dataclass, and on a function with a decorator that may read them. A
module that reads its own text, docstrings or annotations stays as it is, letter for letter.

The form is written here, not by `ast.dump`: what that prints differs between versions of Python.
"""

import ast
from collections.abc import Iterator
from itertools import groupby
from typing import Any

_SELF_READING = {
    *("__annotations__", "__annotate__", "__code__", "__doc__", "_getframe", "annotationlib", "get_type_hints"),
    *("inspect", "jit", "linecache", "singledispatch", "singledispatchmethod"),
}
"""A module that says one of these may read what would be left out."""

_BLIND_DECORATORS = {"classmethod", "contextmanager", "property", "setter", "staticmethod"}
"""Decorators that read no annotation."""

_TYPING_MODULES = {"collections.abc", "numpy.typing", "types", "typing", "typing_extensions"}
"""Modules that compute nothing when they are imported."""

_TYPE_CHECKING = {"TYPE_CHECKING", "typing.TYPE_CHECKING"}
"""Conditions that are false whenever a program runs."""

_MEANINGLESS = {"ctx", "kind", "simple", "type_comment", "type_ignores"}
"""Fields of syntax nodes that follow from the others, or that nothing reads."""


def canonical(source: str) -> str:
    """Give the form of a module's source, the same in every version of Python that can parse it.

    Parameters
    ----------
    source : str
        The whole module.

    Returns
    -------
    str
        Its form; the source itself if the module may read itself.

    Raises
    ------
    SyntaxError
        This Python cannot parse it.
    """
    tree = ast.parse(source)
    if not _SELF_READING.isdisjoint(_words(tree)):
        return source
    tree = _Computation().visit(tree)
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}  # as in `__all__`
    return _form(tree, names | texts)


class _Computation(ast.NodeTransformer):
    """Takes away what computes nothing. A body that becomes empty is left empty: the tree is only written out."""

    _is_in_class = False

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_Pass(self, node: ast.Pass) -> None:
        del node

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.AST]:
        self.generic_visit(node)
        return list(node.orelse) if ast.unparse(node.test) in _TYPE_CHECKING else node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if self._is_in_class:
            return self.generic_visit(node)
        del node.annotation
        self.generic_visit(node)
        # Without a value it is a declaration, which makes the name local to its function.
        return node if node.value is None else ast.Assign([node.target], node.value)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._visit_inside(node, is_in_class=True)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._visit_function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._visit_function(node)

    def _visit_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        if all(_last_name(decorator) in _BLIND_DECORATORS for decorator in node.decorator_list):
            node.returns = None
            for argument in ast.walk(node.args):
                if isinstance(argument, ast.arg):
                    argument.annotation = None
        return self._visit_inside(node, is_in_class=False)

    def _visit_inside(self, node: ast.AST, *, is_in_class: bool) -> ast.AST:
        outside, self._is_in_class = self._is_in_class, is_in_class
        self.generic_visit(node)
        self._is_in_class = outside
        return node


def _words(tree: ast.AST) -> Iterator[str]:
    """Every name, attribute and part of an imported name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield from node.name.split(".")
        elif isinstance(node, ast.ImportFrom):
            yield from (node.module or "").split(".")


def _last_name(node: ast.AST) -> str | None:
    """`c` of `a.b.c`; None of what is no such path."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else None


def _form(value: Any, used: set[Any]) -> str:
    if isinstance(value, ast.Constant):
        return _constant(value.value)
    if isinstance(value, ast.JoinedStr):
        return f"JoinedStr({_list(_merged(value.values), used)})"
    if isinstance(value, ast.AST):
        fields = ((name, getattr(value, name, None)) for name in sorted(value._fields) if name not in _MEANINGLESS)
        # What is not there is left out, because a newer Python has fields that an older one has not.
        written = (f"{name}={_form(field, used)}" for name, field in fields if field is not None and field != [])
        return f"{type(value).__name__}({','.join(written)})"
    if isinstance(value, list):
        return _list(value, used)
    return "absent" if value is None else _constant(value)  # in a list: no default, or the key of `**`


def _list(values: list[Any], used: set[Any]) -> str:
    parts: list[str] = []
    for are_imports, group in groupby(values, lambda one: isinstance(one, (ast.Import, ast.ImportFrom))):
        if are_imports:
            parts += sorted({line for node in group for line in _imported(node, used)})
        else:
            parts += [_form(one, used) for one in group]
    return f"[{','.join(parts)}]"


def _imported(node: ast.Import | ast.ImportFrom, used: set[Any]) -> Iterator[str]:
    """The modules that an import statement runs, and the names that it binds, as far as they are used."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            name = alias.asname or alias.name.partition(".")[0]
            if alias.name not in _TYPING_MODULES or name in used:
                yield f"import({alias.name})"
            if name in used:
                yield f"import({alias.name},{name})"
        return
    module = "." * node.level + (node.module or "")
    names = [alias for alias in node.names if (alias.asname or alias.name) in used or alias.name == "*"]
    if module not in _TYPING_MODULES or names:
        yield f"import({module})"
    # After `from .` or `from __future__` a name runs a module, or changes how this one is compiled, used or not.
    for alias in node.names if node.module in (None, "__future__") else names:
        yield f"import({module},{alias.name},{alias.asname or alias.name})"


def _merged(values: list[ast.expr]) -> list[ast.expr]:
    """The parts of an f-string, texts that follow each other as one: Python 3.12 cuts them elsewhere than 3.11."""
    parts: list[ast.expr] = []
    for value in values:
        last = parts[-1] if parts else None
        if not isinstance(value, ast.Constant) or not isinstance(value.value, str):
            parts.append(value)
        elif isinstance(last, ast.Constant) and isinstance(last.value, str):
            parts[-1] = ast.Constant(last.value + value.value)
        elif value.value:
            parts.append(value)
    return parts


def _constant(value: Any) -> str:
    """A constant, exactly, by a spelling that no version of Python or Unicode changes."""
    if isinstance(value, complex):
        return f"complex({value.real.hex()},{value.imag.hex()})"
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, int) and not isinstance(value, bool):
        return hex(value)  # `repr` refuses more than 4,300 digits
    return ascii(value)
