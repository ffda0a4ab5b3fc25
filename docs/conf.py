"""How the documentation is built: `sphinx-build -W --keep-going docs build/docs`, without a network."""

import importlib.metadata
import re
from typing import Generic, TypeVar

import numpy.typing
from sphinx import addnodes

project = "trajectory-store"
author = "The trajectory-store authors"
release = importlib.metadata.version("trajectory-store")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon", "sphinx_click"]
highlight_language = "none"  # a block without a language is what a terminal or a file shows
smartquotes = False  # they would make a dash of --json

myst_heading_anchors = 3  # links such as glossary.md#seal work here as they do on a code host

default_role = "py:obj"  # single backticks in a docstring: a link if it names something, otherwise code
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"


class NDArray(Generic[TypeVar("DType")]):
    """Stands for numpy's while the package is imported here: numpy's own is spelled over a line for each parameter."""


class ArrayLike:
    """The same for what numpy can make an array of, a union of ten types."""


numpy.typing.NDArray, numpy.typing.ArrayLike = NDArray, ArrayLike

import trajectory_store as ts  # noqa: E402

_CLASSES = sorted({name for part in (ts, ts.analysis, ts.report) for name in part.__all__ if name[0].isupper()})
PUBLIC_CLASS = re.compile(rf"\b(?:{'|'.join(_CLASSES)})\b")

html_theme = "furo"
html_title = "trajectory-store"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False


def _write_types(_app, _what, _name, _object, _options, lines):
    """Link the public names in a parameter's type and leave its other words alone; runs after napoleon.

    Sphinx would look up each word of a type, and finds the attribute of some class for "shape".
    """
    for at, line in enumerate(lines):
        if (several := re.match(r":(?:ivar|vartype) \w+(?:, \w+)+:", line)) is not None:  # "a" would be the type of "b"
            line = lines[at] = several[0].replace(", ", ",\u200b") + line[several.end() :]
        if (found := re.match(r"(:(?:type|vartype) [^:]+: )([^`]+)$", line)) is not None:
            text = found[2].replace("*", r"\*")
            linked = PUBLIC_CLASS.sub(r"\ :py:obj:`~.\g<0>`\ ", text)
            lines[at] = found[1] + (linked if linked != text else f"*{text}*")


def _escape_bars(_app, _what, _name, _object, _options, lines):
    """A norm such as |m| is no substitution; runs after napoleon."""
    lines[:] = [re.sub(r"(?<![\\`])\|(?![\s-])", r"\\|", line) for line in lines]


def _keep_colons(_app, what, _name, _object, _options, lines):
    """Napoleon takes what stands before a colon in an attribute's first line for a type: give it another one."""
    if what in ("attribute", "data", "property"):
        lines.insert(0, "\\")  # which reads as nothing


def _unlink_words(_app, doctree):
    """A type such as "ndarray of int64, shape (n,)" has words that are no names, but are looked up as such."""
    for node in list(doctree.findall(addnodes.pending_xref)):
        if node.get("reftype") == "class" and node["reftarget"] == "shape":
            node.replace_self(node.children)


def setup(app):
    """Hook them into autodoc, and into what it made."""
    app.connect("doctree-read", _unlink_words)
    app.connect("autodoc-process-docstring", _keep_colons, priority=100)
    app.connect("autodoc-process-docstring", _escape_bars, priority=900)
    app.connect("autodoc-process-docstring", _write_types, priority=900)
