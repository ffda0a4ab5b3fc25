"""Colours and rules, light and dark, of the page and of a figure on its own."""

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

CHART = """
.chart text{font:12.5px system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif;fill:var(--ink)}
.chart .tick{fill:var(--soft);font-size:11.5px}
.chart .label{fill:var(--soft)}
.chart .name{font-weight:600}
.chart .grid{stroke:var(--rule);fill:none}
.chart .axis,.chart .tickmark{stroke:var(--soft);fill:none}
.chart .leader{stroke:var(--soft);stroke-width:.6;fill:none;opacity:.6}
.chart .line{fill:none;stroke-width:1.8;stroke-linejoin:round}
.chart .thin{stroke-width:1.3}
.chart .band{opacity:.2;stroke:none}
.chart .swatch{stroke:var(--soft);stroke-width:.5}
.chart .area{stroke:none}
.chart .line.c1{stroke:var(--c1)}.chart .line.c2{stroke:var(--c2)}.chart .line.c3{stroke:var(--c3)}
.chart .band.c1,.chart .area.c1,.chart text.c1{fill:var(--c1)}
.chart .area.c2{fill:var(--c2)}.chart .area.c3{fill:var(--c3)}
.chart text.c2{fill:var(--c2)}.chart text.c3{fill:var(--c3)}
.chart .phase0{fill:var(--p0)}.chart .phase1{fill:var(--p1)}.chart .phase2{fill:var(--p2)}
.chart .phase3{fill:var(--p3)}.chart .phase4{fill:var(--p4)}
.chart .line.group0{stroke:var(--c1)}.chart .line.group1{stroke:var(--c3)}.chart .line.group2{stroke:var(--c2)}
.chart .dot.group0,.chart text.group0{fill:var(--c1)}.chart .dot.group1,.chart text.group1{fill:var(--c3)}
.chart .dot.group2,.chart text.group2{fill:var(--c2)}
.chart .ring{fill:var(--card);stroke-width:1.5}
.chart .ring.group0{stroke:var(--c1)}.chart .ring.group1{stroke:var(--c3)}.chart .ring.group2{stroke:var(--c2)}
"""

_PAGE = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
main{max-width:1000px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:30px;line-height:1.2;margin:0 0 4px;overflow-wrap:anywhere}
h2{font-size:19px;line-height:1.3;margin:0}
p{margin:4px 0 0}
.soft,figcaption{color:var(--soft)}
.lead{font-size:17px;margin:10px 0 20px;max-width:46em}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(112px,1fr));gap:10px;margin:0 0 18px;padding:0}
.tiles div{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:9px 12px}
.tiles dt{color:var(--soft);font-size:13px}
.tiles dd{margin:0;font-size:19px;white-space:nowrap;font-weight:650;font-variant-numeric:tabular-nums}
.card{background:var(--card);border:1px solid var(--rule);border-radius:12px;padding:18px 20px;margin:0 0 18px}
figure{margin:0}
.head{display:flex;gap:12px;justify-content:space-between;align-items:flex-start;flex-wrap:wrap}
figcaption{font-size:14.5px;max-width:52em;margin:4px 0 8px}
.plot{position:relative}
svg.chart{display:block;width:100%;height:auto;touch-action:pan-y}
.narrow,.log{display:none}
.is-log .log{display:block}.is-log .linear{display:none}
.scale{display:none;border:1px solid var(--rule);border-radius:8px;overflow:hidden;flex:none}
.has-script .scale{display:inline-flex}
.scale button{font:inherit;font-size:13px;padding:4px 11px;border:0;background:none;color:var(--soft);cursor:pointer}
.scale button[aria-pressed=true]{background:var(--accent);color:var(--card)}
.tip{position:absolute;pointer-events:none;background:var(--card);color:var(--ink);border:1px solid var(--soft);
border-radius:8px;padding:6px 10px;font-size:13px;line-height:1.45;white-space:nowrap;z-index:2;
box-shadow:0 3px 12px #0003;font-variant-numeric:tabular-nums}
.tip[hidden]{display:none}
.tip b{display:block}
.cross{stroke:var(--ink);stroke-width:1;opacity:.5}
.tables{display:grid;grid-template-columns:repeat(auto-fit,minmax(290px,1fr));gap:8px 34px}
table{border-collapse:collapse;width:100%;font-size:14.5px;font-variant-numeric:tabular-nums}
caption{text-align:left;font-weight:600;padding:10px 0 4px}
th{font-weight:500;color:var(--soft);text-align:right}
td,th{padding:3px 10px 3px 0;border-bottom:1px solid var(--rule);text-align:right}
th.text,td.text{text-align:left;overflow-wrap:anywhere}
td code,td bdi{white-space:pre-wrap;font-family:ui-monospace,SFMono-Regular,Menlo,"Noto Sans Mono",monospace}
summary{cursor:pointer;font-weight:600;font-size:17px}
details table td{vertical-align:top}
footer{color:var(--soft);font-size:13.5px}
@media (max-width:640px){
main{padding:18px 10px 40px}h1{font-size:25px}.card{padding:14px 12px}
.narrow{display:block}.wide{display:none}
.tiles{grid-template-columns:repeat(2,1fr)}.tiles dd{font-size:18px}
}
@media print{
body{background:#fff;font-size:12px}main{max-width:none;padding:0}.narrow{display:none}.wide{display:block}
.card,.tiles div{border-color:#ccc;break-inside:avoid}.scale,.tip{display:none!important}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}
}
"""


def page_style() -> str:
    """The page's rules; dark where the reader's system is, never on paper."""
    dark = f"@media screen and (prefers-color-scheme:dark){{:root{{{_variables(DARK)}}}}}"
    return f":root{{color-scheme:light dark;{_variables(LIGHT)}}}{dark}{CHART}{_PAGE}"


def figure_style() -> str:
    """The rules of a figure in a file of its own: light, and without variables, which drawing programs do not know."""
    rules = CHART
    for name, colour in LIGHT.items():
        rules = rules.replace(f"var(--{name})", colour)
    return rules


def _variables(colours: dict[str, str]) -> str:
    return "".join(f"--{name}:{colour};" for name, colour in colours.items())
