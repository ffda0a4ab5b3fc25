"""One page that shows what a run did: figures, tables and their numbers, in a single HTML file.

found = report.findings(run)                 # one pass
report.write_page(found, Path("report.html"))
report.svg_files(found)                      # the same figures, each an SVG
report.write_figures(found, Path("figures"), form="png")   # or as files, as PNG with the extra `plots`
"""

from .drawing import renderer
from .figures import svg_files
from .findings import Findings, findings
from .output import refuse_existing, write_figures, write_page
from .page import page

__all__ = ["Findings", "findings", "page", "refuse_existing", "renderer", "svg_files", "write_figures", "write_page"]
