"""What a page looks like and what it does: the texts of page.css, chart.css and page.js, and the colours in them.

The three lie beside this module as files of their own kind, for editors and reviewers. Their names for colours, such as
`var(--ink)`, are given a meaning here: light, dark, or plain values for a file of one figure.
"""

from functools import cache
from importlib.resources import files

LIGHT = {
    "paper": "#f6f7f9",
    "card": "#ffffff",
    "ink": "#18212c",
    "soft": "#5b6774",
    "rule": "#e3e7ec",
    "accent": "#0b62a3",
    "c1": "#0b62a3",
    "c2": "#c2410c",
    "c3": "#0a7d5c",
    "p0": "#cfd9e4",
    "p1": "#7fb2e5",
    "p2": "#2f9e8f",
    "p3": "#eaa221",
    "p4": "#cf4a12",
}
DARK = {
    "paper": "#0e131a",
    "card": "#161d27",
    "ink": "#e6ebf1",
    "soft": "#9aa7b5",
    "rule": "#283240",
    "accent": "#6cb6f5",
    "c1": "#6cb6f5",
    "c2": "#ff9a5c",
    "c3": "#4fd1a5",
    "p0": "#2c3a4b",
    "p1": "#4b86c6",
    "p2": "#2fa898",
    "p3": "#e8ab3c",
    "p4": "#e4622f",
}


def page_style() -> str:
    """The page's rules: dark if the reader's system is, but never on paper."""
    dark = f"@media screen and (prefers-color-scheme:dark){{:root{{{_variables(DARK)}}}}}"
    return f":root{{color-scheme:light dark;{_variables(LIGHT)}}}{dark}{_text('chart.css')}{_text('page.css')}"


def figure_style() -> str:
    """The rules of a figure in a file of its own: light, and without variables, which drawing programs do not know."""
    rules = _text("chart.css")
    for name, colour in LIGHT.items():
        rules = rules.replace(f"var(--{name})", colour)
    return rules


def page_script() -> str:
    """What a chart says under the pointer, and the switch between axes. The page reads without it."""
    return _text("page.js")


@cache
def _text(name: str) -> str:
    """The text of a file of this package, on a line of its own."""
    return "\n" + files(__package__).joinpath(name).read_text(encoding="utf-8")


def _variables(colours: dict[str, str]) -> str:
    return "".join(f"--{name}:{colour};" for name, colour in colours.items())
