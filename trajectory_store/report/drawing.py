"""The forms in which a chart becomes a file: the same drawing as SVG, or rendered as PNG."""

from collections.abc import Callable

from ..errors import UsageError
from ..words import FigureForm, check_word
from .style import figure_style

PIXELS_A_UNIT = 2.5
"""880 units become 2,200 pixels: 300 dpi over 186 mm, the width of a journal's page."""


def standalone(chart: str) -> str:
    """A chart's SVG with its own rules, on a white ground: what a file needs and a page has."""
    at = chart.index("</title>") + len("</title>")
    ground = f'<style>{figure_style()}</style><rect width="100%" height="100%" fill="#ffffff"/>'
    return chart[:at] + ground + chart[at:]


def renderer(form: FigureForm) -> Callable[[str], bytes]:
    """Return what turns a figure's SVG into the bytes of a file.

    Parameters
    ----------
    form : {"svg", "png"}
        The file's form; "png" has 300 dpi and needs the extra `plots`.

    Returns
    -------
    callable
        Takes the SVG's text, and returns bytes.

    Raises
    ------
    UsageError
        There is no such form, or resvg-py is missing.
    """
    check_word("figure format", form, FigureForm)
    return _encoded if form == "svg" else _png_renderer()


def _encoded(svg: str) -> bytes:
    # A string from elsewhere may hold half of a surrogate pair, which UTF-8 cannot.
    return svg.encode("utf-8", errors="replace")


def _png_renderer() -> Callable[[str], bytes]:
    try:
        import resvg_py
    except ImportError as error:
        raise UsageError('figures as PNG need resvg-py; install "trajectory-store[plots]", or take SVG') from error

    def render(svg: str) -> bytes:
        # A heat map's pixels stay squares of their own colours, none made up between them: a quarter of the bytes, too.
        drawn = resvg_py.svg_to_bytes(
            svg_string=_encoded(svg).decode(), zoom=PIXELS_A_UNIT, image_rendering="optimize_speed"
        )
        return bytes(drawn)

    return render
