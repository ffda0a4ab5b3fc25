"""Turns an index as text, such as "100:200:10, [1, 5, 9]", into what numpy takes. Nothing in the text is ever run."""

import ast
from typing import Any

from ..errors import SelectionError


def parse_index(text: str) -> Any:
    """The key that `array[text]` would use. An empty text takes everything.

    Ints, slices, an ellipsis and lists of ints, separated by commas. Raises SelectionError on anything else.
    """
    if not text.strip():
        return ...
    try:
        tree = ast.parse(f"_[{text.strip()}]", mode="eval").body
        # Otherwise "0][1" would be two indices, and "0] + [1" a sum.
        if not (isinstance(tree, ast.Subscript) and isinstance(tree.value, ast.Name) and tree.value.id == "_"):
            raise ValueError
        return _key(tree.slice)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise SelectionError(
            f"index {text!r}: write it as for numpy, such as 5000, or -1, or :, 17, or 100:200:10, [1, 5, 9]"
        ) from error


def _key(node: ast.expr) -> Any:
    if isinstance(node, ast.Tuple):
        return tuple(_part(part) for part in node.elts)
    return _part(node)


def _part(node: ast.expr) -> Any:
    if isinstance(node, ast.Slice):
        return slice(*(None if bound is None else _number(bound) for bound in (node.lower, node.upper, node.step)))
    if isinstance(node, ast.List):
        return [_number(element) for element in node.elts]
    if isinstance(node, ast.Constant) and node.value is ...:
        return ...
    return _number(node)


def _number(node: ast.expr) -> int:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_number(node.operand)
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    raise ValueError
