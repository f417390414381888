"""Compares evaluated runs: settings that differ, figures with intervals, and paired tests."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from scipy import stats

from ganseg_jax import files
from ganseg_jax.config import Config
from ganseg_jax.config import file as config_file
from ganseg_jax.errors import UserError, command
from ganseg_jax.evaluation import intervals, protocols
from ganseg_jax.evaluation.intervals import Difference
from ganseg_jax.files import resolve
from ganseg_jax.jobs.evaluate import METRICS, PER_IMAGE
from ganseg_jax.jobs.measure import NO_FIGURES
from ganseg_jax.report.measures import format_interval, format_value, measure_of
from ganseg_jax.report.page import HEADLINES
from ganseg_jax.report.tables import Table, markdown_table

OUTPUT = "compare"
"""Name of the files that are written, without `.json` and `.md`."""

SEED = "seed"


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """Holds what is known of an evaluated run.

    Attributes:
      name: in tables.
      config: its settings.
      figures: by name.
      counts: by the same names.
      ends: of the intervals, by the same names.
      each: figures that can be drawn again, by the same names; empty if an older version
        evaluated it.
      photos: what tells its photos from others; None as before.
    """

    name: str
    config: Config
    figures: Mapping[str, float]
    counts: Mapping[str, int]
    ends: Mapping[str, tuple[float, float]]
    each: Mapping[str, intervals.Figure]
    photos: Any


@dataclasses.dataclass(frozen=True)
class Group:
    """Holds runs that differ in their seeds alone.

    Attributes:
      name: of the first run.
      runs: at least one.
    """

    name: str
    runs: Sequence[Evaluated]

    def values(self, figure: str) -> list[float]:
        """Returns a figure of the runs that have it."""
        return [run.figures[figure] for run in self.runs if figure in run.figures]


def compare(workdirs: Sequence[str], output: epath.PathLike | None = None) -> dict[str, Any]:
    """Compares runs, writes `compare.json` and `compare.md` if asked to, and returns the content.

    Args:
      workdirs: of at least two evaluated runs of one data set.
      output: folder to write to, or None.

    Returns:
      The content of `compare.json`; `table_of` makes a table of it.

    Raises:
      UserError: fewer than two workdirs, one of them twice, one that holds no run or was not
        evaluated, or runs of different photos.
    """
    content = content_of(groups_of(read_all(workdirs)))
    if output is not None:
        files.write_json(resolve(output) / f"{OUTPUT}.json", content)
        _, header, rows = table_of(content)
        text = f"# {' and '.join(run['name'] for run in content['runs'])}\n\n"
        text += markdown_table(header, rows) + "\n" + "\n".join(notes_of(content)) + "\n"
        files.write_whole(resolve(output) / f"{OUTPUT}.md", text)
    return content


def read_all(workdirs: Sequence[str]) -> list[Evaluated]:
    """Reads evaluated runs; errors are those of `compare`."""
    if len(workdirs) < 2:
        raise UserError(f"{len(workdirs)} workdir is given: name two or more that are evaluated")
    places = [str(resolve(workdir)).rstrip("/") for workdir in workdirs]
    for place in places:
        if places.count(place) > 1:
            raise UserError(f"{place} is given twice")
    names = [epath.Path(place).name for place in places]
    short = len(set(names)) == len(names)
    runs = [
        _read(place, name if short else place) for place, name in zip(places, names, strict=True)
    ]
    for run in runs[1:]:
        _check_same_photos(runs[0], run)
    return runs


def groups_of(runs: Sequence[Evaluated]) -> list[Group]:
    """Returns the runs, those that differ in their seeds alone together, in order."""
    grouped: dict[str, list[Evaluated]] = {}
    for run in runs:
        settings = _settings(run)
        settings.pop(SEED)
        grouped.setdefault(json.dumps(settings, sort_keys=True), []).append(run)
    return [Group(group[0].name, group) for group in grouped.values()]


def content_of(groups: Sequence[Group]) -> dict[str, Any]:
    """Returns what `compare.json` holds.

    Returns:
      `runs`, a list with `name`, `workdirs`, `seeds`, `settings` (those that differ), and
      `figures`: for each name `value` with perhaps `low`, `high` and `count`, or, over seeds, the
      mean as `value`, `spread` (of a sample) and `values`; `differences` to the first, by run and
      name: `value`, and perhaps `low`, `high`, `p` and `over` ("images" or "seeds").
    """
    settings = [_settings(group.runs[0]) for group in groups]
    for fields, group in zip(settings, groups, strict=True):
        if len(group.runs) > 1:
            fields[SEED] = [run.config.seed for run in group.runs]
    differing = [
        name for name in settings[0] if any(f[name] != settings[0][name] for f in settings[1:])
    ]
    first = groups[0]
    return {
        "runs": [
            {
                "name": group.name,
                "workdirs": [run.name for run in group.runs],
                "seeds": [run.config.seed for run in group.runs],
                "settings": {name: fields[name] for name in differing},
                "figures": {name: _figure(group, name) for name in _names([group])},
            }
            for group, fields in zip(groups, settings, strict=True)
        ],
        "differences": {
            group.name: {
                name: _difference(first, group, name)
                for name in _names([first])
                if group.values(name)
            }
            for group in groups[1:]
        },
    }


def table_of(content: Mapping[str, Any]) -> Table:
    """Returns one table: a column for each run; settings that differ, figures, differences."""
    runs = content["runs"]
    rows: list[list[str]] = [
        [name, *(_setting(run["settings"][name]) for run in runs)] for name in runs[0]["settings"]
    ]
    names = dict.fromkeys(name for run in runs for name in run["figures"] if "/" not in name)
    first = [name for name in HEADLINES if name in names]
    for name in dict.fromkeys([*first, *names]):
        better = measure_of(name).better
        title = measure_of(name).title + (f" ({better} is better)" if better else "")
        rows.append([title, *(_cell(name, run["figures"].get(name)) for run in runs)])
        found = [content["differences"].get(run["name"], {}).get(name) for run in runs[1:]]
        if better and any(found):
            told = ("" if one is None else _difference_told(name, one) for one in found)
            rows.append([f"  less {runs[0]['name']}", "", *told])
    return "", ["", *(_title(run) for run in runs)], rows


def notes_of(content: Mapping[str, Any]) -> list[str]:
    """Returns what a reader must know of the table, a sentence each."""
    over = {one.get("over") for found in content["differences"].values() for one in found.values()}
    notes = ["Intervals are of 95 %, by drawing the test images again."]
    if "images" in over:
        notes.append("p: paired bootstrap over the same images; it says nothing of other seeds.")
    if "seeds" in over:
        notes.append("± is the standard deviation over the seeds; p there: Welch's t-test.")
    elif any(len(run["seeds"]) > 1 for run in content["runs"]):
        notes.append("± is the standard deviation over the seeds; a test takes two of each run.")
    return notes


def _read(place: str, name: str) -> Evaluated:
    config = config_file.load_config(place)
    path = resolve(place) / METRICS
    if not path.exists():
        raise UserError(
            f"{place} was not evaluated: run `{command('evaluate')}` with --workdir={place}"
        )
    try:
        written = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): evaluate again") from error
    each: Mapping[str, intervals.Figure] = {}
    photos = None
    if (resolve(place) / PER_IMAGE).exists():
        each, photos = intervals.load(resolve(place) / PER_IMAGE)
    figures, counts = protocols.split_counts(written)
    return Evaluated(name, config, figures, counts, intervals.ends_of(written), each, photos)


def _settings(run: Evaluated) -> dict[str, Any]:
    """Returns the settings that decide a run's figures, by name."""
    fields = config_file.deciding_fields(run.config)
    return {name: value for name, value in fields.items() if name not in NO_FIGURES}


def _check_same_photos(one: Evaluated, other: Evaluated) -> None:
    names = one.config.dataset.name, other.config.dataset.name
    if names[0] != names[1]:
        raise UserError(
            f"{one.name} was measured on {names[0]} and {other.name} on {names[1]}: compare runs "
            "of one data set"
        )
    if None not in (one.photos, other.photos) and one.photos != other.photos:
        raise UserError(
            f"{one.name} and {other.name} were measured on different photos of {names[0]}: prepare "
            "it once, give both the same dataset.data_dir, and evaluate again"
        )


def _names(groups: Sequence[Group]) -> list[str]:
    return list(
        dict.fromkeys(name for group in groups for run in group.runs for name in run.figures)
    )


def _figure(group: Group, name: str) -> dict[str, Any]:
    values = group.values(name)
    if len(group.runs) > 1:
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
        return {"value": float(np.mean(values)), "spread": spread, "values": values}
    run, found = group.runs[0], {"value": values[0]}
    if name in run.ends:
        found["low"], found["high"] = run.ends[name]
    return found | ({"count": run.counts[name]} if name in run.counts else {})


def _difference(first: Group, group: Group, name: str) -> dict[str, Any]:
    """Returns how a figure differs: tested over seeds if both have some, else over images."""
    before, after = first.values(name), group.values(name)
    found: dict[str, Any] = {"value": float(np.mean(after) - np.mean(before))}
    if len(first.runs) == len(group.runs) == 1:
        one, other = first.runs[0].each.get(name), group.runs[0].each.get(name)
        if one is not None and other is not None and len(one.each) == len(other.each):
            tested = intervals.difference(one, other)
            return found if tested is None else dataclasses.asdict(tested) | {"over": "images"}
    elif min(len(before), len(after)) > 1 and np.ptp(before) + np.ptp(after) > 0:
        return dataclasses.asdict(_over_seeds(before, after)) | {"over": "seeds"}
    return found


def _over_seeds(before: Sequence[float], after: Sequence[float]) -> Difference:
    """Compares the means of two groups of seeds by Welch's t-test."""
    test = stats.ttest_ind(after, before, equal_var=False)
    low, high = test.confidence_interval(intervals.CONFIDENCE)
    value = float(np.mean(after) - np.mean(before))
    return Difference(value, float(low), float(high), float(test.pvalue))


def _title(run: Mapping[str, Any]) -> str:
    seeds = len(run["seeds"])
    return run["name"] + (f" ({seeds} seeds)" if seeds > 1 else "")


def _setting(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _cell(name: str, figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return "-"
    text = format_value(name, figure["value"])
    if figure.get("spread") is not None:
        return f"{text} ± {format_value(name, figure['spread'])}"
    if "low" in figure:
        return f"{text} [{format_interval(name, (figure['low'], figure['high']))}]"
    return text


def _difference_told(name: str, found: Mapping[str, Any]) -> str:
    text = _signed(name, found["value"])
    if "p" not in found:
        return text
    smallest = 1 / (intervals.RESAMPLES + 1)
    least = found["over"] == "images" and math.isclose(found["p"], smallest)
    p = "p < 0.001" if found["p"] < 0.0005 else f"p {'≤' if least else '='} {found['p']:.3f}"
    low, high = _signed(name, found["low"]), _signed(name, found["high"])
    return f"{text} [{low.removesuffix(' %')} to {high}], {p}"


def _signed(name: str, value: float) -> str:
    return ("+" if value > 0 else "") + format_value(name, value)
