"""The page: one HTML file that asks nobody for anything; a run's texts are escaped, and only our script may run."""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from .. import conventions
from ..sizes import format_bytes
from . import heatmap
from .figures import Figure, figures
from .findings import Findings, raw_bytes, stored_bytes
from .frame import NARROW, WIDE
from .style import page_script, page_style
from .tokens import visible

_N_ROWS = 12


def page(found: Findings) -> str:
    """Make the report as one HTML document, which needs no other file and no network.

    Parameters
    ----------
    found : Findings
        What `findings` returned.

    Returns
    -------
    str
        The document. The same run gives the same text.
    """
    drawn = figures(found)
    body = "".join(
        [
            _head(found),
            _tiles(found),
            *(_card(figure) for figure in drawn),
            _movers(found),
            _about(found),
            "<footer>Made by trajectory-store from the recorded bits.</footer>",
        ]
    )
    hover = {"charts": {figure.name: figure.hover for figure in drawn}, "palette": heatmap.palette()}
    title = escape(run_title(found))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy()}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}: report</title><style>{page_style()}</style></head><body><main>{body}</main>"
        f'<script type="application/json" id="hover">{json_for_script(hover)}</script>'
        f"<script>{page_script()}</script></body></html>\n"
    )


def run_title(found: Findings) -> str:
    """What the run's author called it, else its folder's name."""
    return conventions.title(found.run.attrs) or found.run.path.resolve().name


def json_for_script(value: Any) -> str:
    """JSON that may stand in a script element: nothing in it can end the element or begin a comment."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _policy() -> str:
    """No network, and no script but ours, whatever a token's string may say."""
    digest = base64.b64encode(hashlib.sha256(page_script().encode()).digest()).decode("ascii")
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def _head(found: Findings) -> str:
    first, last = found.domain
    lead = (
        f"{found.n_tokens:,} tokens of {found.series.shape[2]:,} dimensions, recorded at every step from"
        f" {first - 1:,} to {last:,}."
    )
    moving = found.onset[found.onset > 0]
    if len(moving):
        lead += (
            f" The first token froze at step {moving.min():,}, half of them by step {found.frozen_at(0.5):,};"
            f" the last move is at step {moving.max():,}."
        )
    else:
        lead += " No token moved."
    return f'<h1>{escape(run_title(found))}</h1><p class="lead">{escape(lead)}</p>'


def _tiles(found: Findings) -> str:
    raw, stored = raw_bytes(found.run), stored_bytes(found.run)
    first, last = found.domain
    tiles = [
        ("steps", f"{last - first + 2:,}"),
        ("tokens", f"{found.n_tokens:,}"),
        ("recorded", format_bytes(raw)),
        ("on disk", format_bytes(stored)),
        ("ratio", f"{raw / stored:,.1f} : 1" if stored else "–"),
        ("median freeze", f"{found.frozen_at(0.5):,}"),
    ]
    if found.loss is not None:
        tiles.append(("last loss", f"{found.loss[1][-1]:.4g}"))
    cells = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in tiles)
    return f'<dl class="tiles">{cells}</dl>'


def _card(figure: Figure) -> str:
    def drawn(size_name: str) -> str:
        size = WIDE if size_name == "wide" else NARROW
        axes = (("linear", False), ("log", True)) if figure.has_log else (("linear", False),)
        inner = "".join(f'<div class="{axis}">{figure.draw(size, is_log)}</div>' for axis, is_log in axes)
        return f'<div class="{size_name}">{inner}</div>'

    switch = (
        '<span class="scale" role="group" aria-label="step axis">'
        '<button type="button" value="linear" aria-pressed="true">linear</button>'
        '<button type="button" value="log" aria-pressed="false">log</button></span>'
        if figure.has_log
        else ""
    )
    return (
        f'<section class="card" id="{figure.name}"><figure><div class="head"><h2>{escape(figure.title)}</h2>{switch}'
        f"</div><figcaption>{escape(figure.note)}</figcaption>"
        f'<div class="plot" data-chart="{figure.name}">{drawn("wide")}{drawn("narrow")}'
        '<div class="tip" hidden></div></div></figure></section>'
    )


def _movers(found: Findings) -> str:
    order = np.argsort(found.onset, kind="stable")
    n = min(_N_ROWS, max(1, len(order) // 2))
    strings = "" if found.names is not None else " Name a tokenizer to see their strings."
    return (
        '<section class="card" id="movers"><h2>First and last to freeze</h2>'
        f'<p class="soft">Tokens by the step of their last move, and at how many steps each moved.{strings}</p>'
        f'<div class="tables">{_token_table(found, "The first", order[:n])}'
        f"{_token_table(found, 'The last', order[::-1][:n])}</div></section>"
    )


def _token_table(found: Findings, caption: str, rows: Sequence[int] | np.ndarray[Any, Any]) -> str:
    heads = '<th class="text">string</th>' if found.names is not None else ""
    lines = []
    for row in np.asarray(rows).tolist():
        string = f'<td class="text"><bdi>{escape(visible(found.names[row]))}</bdi></td>' if found.names else ""
        lines.append(
            f"<tr><td>{found.ids[row]}</td>{string}<td>{found.onset[row]:,}</td><td>{found.motion.moves[row]:,}</td></tr>"
        )
    return (
        f"<table><caption>{caption} {len(lines)}</caption><thead><tr><th>token</th>{heads}<th>last move</th>"
        f"<th>moves</th></tr></thead><tbody>{''.join(lines)}</tbody></table>"
    )


def _about(found: Findings) -> str:
    run = found.run
    facts = [("run", str(run.path)), ("backend", run.source.backend)]
    facts += [
        (f"series {name}", f"{run[name].spec.dtype}, {' × '.join(f'{n:,}' for n in run[name].shape)}") for name in run
    ]
    tables = [_facts("The recording", facts)]
    attrs = {key: value for key, value in run.attrs.items() if isinstance(value, Mapping)}
    plain = [
        (key, _text(value)) for key, value in run.attrs.items() if key not in attrs and key != conventions.TOKEN_TEXT
    ]
    tables += [_facts("Attributes", plain)] if plain else []
    tables += [_facts(key.capitalize(), list(_flat(value))) for key, value in attrs.items()]
    return f'<section class="card"><details><summary>What was run</summary>{"".join(tables)}</details></section>'


def _facts(caption: str, facts: Sequence[tuple[str, str]]) -> str:
    lines = "".join(
        f'<tr><td class="text">{escape(name)}</td><td class="text">{escape(value)}</td></tr>' for name, value in facts
    )
    return f"<table><caption>{escape(caption)}</caption><tbody>{lines}</tbody></table>"


def _flat(value: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for key, one in value.items():
        if isinstance(one, Mapping) and one:
            yield from _flat(one, f"{before}{key}.")
        else:
            yield f"{before}{key}", _text(one)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
