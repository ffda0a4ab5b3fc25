"""One page that shows what a run did: figures, tables and their numbers, in a single HTML file.

found = report.findings(run)                 # one pass
report.write_page(found, Path("report.html"))
report.figures(found)                        # the same figures, which a notebook shows
report.svg_files(found)                      # each as an SVG
report.write_figures(found, Path("figures"), form="png")   # or as files, as PNG with the extra `plots`
"""

from .drawing import renderer
from .figures import Figure, figures, svg_files
from .findings import Findings, findings
from .page import page
from .writing import refuse_existing, write_figures, write_page

__all__ = [
    "Figure",
    "Findings",
    "figures",
    "findings",
    "page",
    "refuse_existing",
    "renderer",
    "svg_files",
    "write_figures",
    "write_page",
]
