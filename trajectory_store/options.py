"""Options that a function hands on: a wrong one is refused in one sentence that names the right ones."""

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from .errors import UsageError

P = ParamSpec("P")
R = TypeVar("R")


def takes(options: type) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function whose `**options` are those of the TypedDict `options`.

    Without it a misspelled option is a TypeError about a function that the caller never called.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        parameters = inspect.signature(function).parameters.values()
        named = {one.name for one in parameters if one.kind is not one.VAR_KEYWORD}
        known = [*(one.name for one in parameters if one.kind is one.KEYWORD_ONLY), *options.__annotations__]

        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            for name in kwargs:
                if name not in named and name not in known:
                    raise UsageError(f"{function.__name__} has no option {name!r}; it takes {', '.join(known)}")
            return function(*args, **kwargs)

        return checked

    return decorate
