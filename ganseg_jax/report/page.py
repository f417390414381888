"""The report of a run: one HTML page with everything inside it, readable without a network."""

import base64
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources

import numpy as np
from etils import epath

from ganseg_jax.files import write_whole
from ganseg_jax.report import hardware
from ganseg_jax.report.curves import curve_svg, curves
from ganseg_jax.report.measures import (
    format_interval,
    format_number,
    format_value,
    humanize,
    measure_of,
)
from ganseg_jax.report.png import encode_png
from ganseg_jax.report.tables import Table

HEADLINES = (
    "foreground_iou",
    "foreground_nmi",
    "part_nmi",
    "landmark_error",
    "taichi_mae",
    "mean_iou",
    "mirror_agreement",
    "parts_present",
    "border_share",
    "sliced_wasserstein",
    "fid",
)
"""Figures that a page shows large, the most telling first."""


@dataclass
class Report:
    """Holds what a report says; every field but the title may be empty and is then left out.

    Attributes:
      title: heading of the page.
      lead: one or two sentences below it.
      summary: (label, value) rows: what was trained on what, sizes, settings, time, device.
      metrics: figures by name (see `ganseg_jax.report.measures`).
      counts: by the same names, on how many samples a figure was measured.
      intervals: by the same names, the ends of a figure's 95 % interval.
      comparison: table of the main figures beside those of references.
      curves: by stage, the rows of its metrics log: dicts with `step` and scalars.
      figures: (caption, picture), the most telling first; the picture as PNG bytes or uint8 (H, W,
        3). The caption's first sentence is its heading.
      tables: (caption, header, rows). Numbers are aligned right; a row whose first cell starts
        with '*' is our own and stands out (the star is not shown).
      config: settings of the run, nested; shown folded in, one line for each field.
    """

    title: str
    lead: str = ""
    summary: Sequence[tuple[str, object]] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    comparison: Table | None = None
    curves: Mapping[str, Sequence[dict]] = field(default_factory=dict)
    figures: Sequence[tuple[str, bytes | np.ndarray]] = ()
    tables: Sequence[Table] = ()
    config: Mapping | str = field(default_factory=dict)


def write_report(path: epath.PathLike, report: Report) -> None:
    """Writes the page to `path`, whole or not at all.

    Raises:
      UserError: the file cannot be written.
    """
    write_whole(path, render_report(report))


def render_report(report: Report) -> str:
    """Returns the page as HTML: style, curves and pictures inside, no script, no link outside.

    It shows first what people came for: the first picture, the main figures, the other pictures.
    The rest is folded in.
    """
    style = resources.files("ganseg_jax.report").joinpath("page.css").read_text("utf-8")
    title = html.escape(report.title)
    sections = [
        _figures(report.figures[:1], ""),
        _tiles(report.metrics, report.intervals),
        _table(*report.comparison) if report.comparison else "",
        _figures(report.figures[1:], "Pictures"),
        *(_folded(table[0], _table("", *table[1:])) for table in report.tables),
        _folded("All figures", _metrics(report.metrics, report.counts, report.intervals)),
        _folded("Training curves", _curves(report.curves)),
        _folded("How the hardware was used", _hardware(report.curves)),
        _folded("The run", _summary(report.summary)),
        _folded("All settings of the run", _config(report.config)),
    ]
    lead = f'<p class="lead">{html.escape(report.lead)}</p>' if report.lead else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title>\n<style>\n{style}</style></head>\n<body><main>\n"
        f"<header><h1>{title}</h1>{lead}</header>\n"
        + "\n".join(section for section in sections if section)
        + "\n<footer>Written by ganseg_jax.</footer>\n</main></body></html>\n"
    )


Intervals = Mapping[str, tuple[float, float]]


def _tiles(metrics: Mapping[str, float], intervals: Intervals) -> str:
    shown = [name for name in HEADLINES if name in metrics][:4]

    def between(name: str) -> str:
        if name not in intervals:
            return ""
        return f'<span class="between">95 %: {_text(format_interval(name, intervals[name]))}</span>'

    tiles = (
        f'<div class="card tile"><b>{_text(format_value(name, metrics[name]))}</b>'
        f"<span>{_text(measure_of(name).title)}</span>{between(name)}</div>"
        for name in shown
    )
    return f'<div class="tiles">{"".join(tiles)}</div>' if shown else ""


def _summary(rows: Sequence[tuple[str, object]]) -> str:
    if not rows:
        return ""
    entries = "".join(
        f"<div><dt>{_text(label)}</dt><dd>{_cell(value)}</dd></div>" for label, value in rows
    )
    return f'<dl class="card">{entries}</dl>'


def _metrics(metrics: Mapping[str, float], counts: Mapping[str, int], intervals: Intervals) -> str:
    if not metrics:
        return ""
    rows = []
    for name, value in metrics.items():
        measure = measure_of(name)
        count = format_number(counts[name]) if name in counts else ""
        between = format_interval(name, intervals[name]) if name in intervals else ""
        better = f'<br><span class="better">{measure.better} is better</span>'
        rows.append(
            f'<tr><td><span class="name">{_text(measure.title)}</span>'
            f"{better if measure.better else ''}</td>"
            f'<td class="number name">{_text(format_value(name, value))}</td>'
            f'<td class="number">{_text(between)}</td>'
            f'<td class="number">{count}</td>'
            f'<td class="note">{_text(measure.explanation)}</td></tr>'
        )
    return (
        '<div class="card scroll"><table class="measures">'
        '<thead><tr><th>Measure</th><th class="number">Value</th>'
        '<th class="number">95 % interval</th><th class="number">Samples</th>'
        f"<th>What it says</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _table(caption: str, header: Sequence[str], rows: Sequence[Sequence]) -> str:
    columns = range(len(header))
    numeric = [
        any(_is_number(row[column]) for row in rows if column < len(row)) for column in columns
    ]

    decimals = [_decimals(row[column] for row in rows if column < len(row)) for column in columns]

    def cell(column, value):
        if _is_number(value) and np.isfinite(value):
            return f"{float(value):,.{decimals[column]}f}"
        return _cell(value)

    def tag(kind, column, text):
        css = ' class="number"' if numeric[column] else ""
        return f"<{kind}{css}>{text}</{kind}>"

    head = "".join(tag("th", column, _text(name)) for column, name in enumerate(header))
    body = []
    for row in rows:
        ours = bool(row) and str(row[0]).startswith("*")
        cells = [str(row[0]).removeprefix("*").strip(), *row[1:]] if ours else row
        line = "".join(tag("td", column, cell(column, value)) for column, value in enumerate(cells))
        css = ' class="ours"' if ours else ""
        body.append(f"<tr{css}>{line}</tr>")
    return (
        f"<section>{f'<h2>{_text(caption)}</h2>' if caption else ''}"
        f'<div class="card scroll"><table class="rows"><thead><tr>{head}</tr>'
        f"</thead><tbody>{''.join(body)}</tbody></table></div></section>"
    )


def _figures(figures: Sequence[tuple[str, bytes | np.ndarray]], heading: str) -> str:
    if not figures:
        return ""
    parts = []
    for caption, picture in figures:
        data = picture if isinstance(picture, bytes) else encode_png(picture)
        encoded = base64.b64encode(data).decode()
        name, stop, rest = caption.partition(". ")
        text = f'<div class="name">{_text(name)}</div>'
        if stop and rest:
            text += f'<div class="note">{_text(rest)}</div>'
        parts.append(
            f'<figure class="card"><figcaption>{text}</figcaption><div class="scroll">'
            f'<img alt="{_text(caption)}" src="data:image/png;base64,{encoded}"></div></figure>'
        )
    title = f"<h2>{heading}</h2>" if heading else ""
    return f"<section>{title}{''.join(parts)}</section>"


def _curves(stages: Mapping[str, Sequence[dict]]) -> str:
    parts = []
    for stage, rows in stages.items():
        charts = []
        for name, (steps, values) in curves(rows).items():
            last = f"{format_number(float(values[-1]))} at step {int(steps[-1]):,}"
            charts.append(
                f'<div class="card curve"><header><span>{_text(humanize(name))}</span>'
                f"<span>{last}</span></header>{curve_svg(name, steps, values)}</div>"
            )
        if charts:
            heading = f"<h3>{_text(humanize(stage))}</h3>"
            parts.append(f'{heading}<div class="curves">{"".join(charts)}</div>')
    return "".join(parts)


def _hardware(stages: Mapping[str, Sequence[dict]]) -> str:
    sentences = {stage: hardware.sentences(rows) for stage, rows in stages.items()}
    parts = [
        f"<h3>{_text(humanize(stage))}</h3><p>{_text(' '.join(said))}</p>"
        for stage, said in sentences.items()
        if said
    ]
    return f'<div class="card">{"".join(parts)}</div>' if parts else ""


def _config(config: Mapping | str) -> str:
    if isinstance(config, str):
        config = json.loads(config) if config.strip() else {}
    if not config:
        return ""
    rows = "".join(
        f'<tr><td class="code">{_text(name)}</td><td class="code">{_text(value)}</td></tr>'
        for name, value in _flatten(config)
    )
    return f'<div class="card scroll"><table class="settings"><tbody>{rows}</tbody></table></div>'


def _folded(title: str, content: str) -> str:
    """Returns content that is hidden until its title is clicked, or "" if there is none."""
    if not content:
        return ""
    return f"<details><summary>{_text(title)}</summary>{content}</details>"


def _flatten(config: Mapping, prefix: str = "") -> list[tuple[str, str]]:
    rows = []
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            rows += _flatten(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", json.dumps(value, default=str, ensure_ascii=False)))
    return rows


def _decimals(values: Iterable) -> int:
    """Returns the decimals that a column's numbers need if rounded to five significant digits."""
    numbers = [f"{value:.5g}" for value in values if _is_number(value) and np.isfinite(value)]
    return max((len(text.partition(".")[2]) for text in numbers if "e" not in text), default=0)


def _is_number(value) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _cell(value) -> str:
    if value is None:
        return "\u2013"
    if _is_number(value):
        plain = value.item() if isinstance(value, np.number) else value
        return format_number(plain) if np.isfinite(plain) else "\u2013"
    return _text(value)


def _text(value) -> str:
    return html.escape(str(value))
