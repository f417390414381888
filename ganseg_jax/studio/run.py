"""A run that trains or has trained: how far it is, its curves and pictures, stop and resume."""

import math
import re
import subprocess
import sys
import threading
import time
from typing import Any

from etils import epath

from ganseg_jax import files
from ganseg_jax.config import file as config_file
from ganseg_jax.errors import UserError
from ganseg_jax.files import resolve
from ganseg_jax.jobs.evaluate import trained_stages
from ganseg_jax.jobs.train import TITLES
from ganseg_jax.report import curves
from ganseg_jax.report.measures import humanize
from ganseg_jax.training import process

_PICTURE = re.compile(r"samples_(\d{7,})\.png")
_HOUR = 3600.0
_RATE_ROWS = 20
LOG_FILE = "resumed.log"
ENDED_WELL = (0, 143, -15)
"""Exit codes of a process that has finished, or was asked to end."""


class Run:
    """Shows a workdir's stages, and stops and resumes its training.

    Args:
      workdir: of the run.
    """

    def __init__(self, workdir: epath.PathLike):
        self.workdir = resolve(workdir)
        self._started: subprocess.Popen | None = None
        self._lock = threading.Lock()

    def state(self) -> dict[str, Any]:
        """Returns what the page shows, fit for JSON.

        Returns:
          `stages`, each with `name`, `title`, `step`, `total`, `seconds_left` (None if not known),
          `curves` (name and SVG), `newest` and `hour_before` (pictures, with `step` and `age`);
          `alive`, `finished`, `can_stop`, `can_resume`, and `note`, the end of the resumed run's
          log if it failed.
        """
        config = config_file.load_config(self.workdir)
        stages = [
            self._stage(name, section.num_steps) for name, section in trained_stages(config).items()
        ]
        finished = all(stage["step"] >= stage["total"] for stage in stages)
        recorded, alive = self._process()
        starting = self._starting()
        note = ""
        if self._started is not None and self._started.poll() not in (None, *ENDED_WELL):
            note = self._log_end()
        return {
            "stages": stages,
            "alive": alive or starting,
            "finished": finished and (self.workdir / "report.html").exists(),
            "can_stop": alive or starting,
            "can_resume": not alive and not starting and not finished,
            "note": note,
        }

    def stop(self) -> None:
        """Asks the training to save and end.

        Raises:
          UserError: no training that recorded itself runs on this machine.
        """
        recorded, _ = self._process()
        if process.ask_to_end(recorded):
            return
        if self._starting():
            assert self._started is not None
            self._started.terminate()
        else:
            raise UserError("no training of this workdir runs on this machine")

    def resume(self) -> None:
        """Starts the training again, as a process that outlives this one.

        Raises:
          UserError: it runs already, or its log cannot be written.
        """
        with self._lock:
            recorded, alive = self._process()
            if alive or self._starting():
                raise UserError("the training runs already")
            self._started = start_command(
                "resume",
                [f"--workdir={self.workdir}"],
                self.workdir / LOG_FILE,
                (recorded or {}).get("cwd"),
            )

    def picture(self, stage: str, name: str) -> bytes | None:
        """Returns a picture of a stage's samples; None if there is none of that name."""
        if stage not in TITLES or not _PICTURE.fullmatch(name):
            return None
        path = self.workdir / stage / "samples" / name
        return path.read_bytes() if path.exists() else None

    def _starting(self) -> bool:
        return self._started is not None and self._started.poll() is None

    def _process(self) -> tuple[dict[str, Any] | None, bool]:
        """Returns the newest recorded process, and whether it lives."""
        recorded = process.newest(self.workdir, TITLES)
        return recorded, process.lives(recorded)

    def _stage(self, name: str, total: int) -> dict[str, Any]:
        folder = self.workdir / name
        rows = [r for r in files.read_rows(folder / "metrics.jsonl") if _is_number(r.get("step"))]
        step = int(max((row["step"] for row in rows), default=0))
        rates = [r["steps_per_second"] for r in rows if _is_number(r.get("steps_per_second"))]
        rates = sorted(rates[-_RATE_ROWS:])
        rate = rates[len(rates) // 2] if rates else 0
        left = (total - step) / rate if rate > 0 and step < total else None
        shown = [
            {"name": humanize(key), "svg": curves.curve_svg(key, *points)}
            for key, points in curves.curves(rows).items()
            if key != "steps_per_second"
        ]
        pictures = _pictures(folder / "samples")
        newest = pictures[-1] if pictures else None
        return {
            "name": name,
            "title": TITLES[name].partition(":")[0],
            "step": step,
            "total": total,
            "seconds_left": left,
            "curves": shown,
            "newest": newest,
            "hour_before": _before(pictures),
        }

    def _log_end(self) -> str:
        return log_end(self.workdir / LOG_FILE)


def start_command(
    name: str, arguments: list[str], log: epath.Path, folder: str | None = None
) -> subprocess.Popen:
    """Starts an entry point in a session of its own, with its output in a file.

    Raises:
      UserError: the file cannot be written.
    """
    if folder is not None and not epath.Path(folder).is_dir():
        folder = None
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", f"ganseg_jax.cli.{name}", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                start_new_session=True,
            )
    except OSError as error:
        raise UserError(f"cannot write {log}: {error.strerror or error}") from error


def log_end(path: epath.Path, lines: int = 1) -> str:
    """Returns the last lines of a log."""
    if not path.exists():
        return ""
    text = path.read_bytes()[-4000:].decode(errors="replace")
    found = [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]
    return "\n".join(found[-lines:])


def _pictures(folder: epath.Path) -> list[dict[str, Any]]:
    """Returns the pictures of a stage, oldest first, with their ages in seconds."""
    found, now = [], time.time()
    for path in folder.glob("samples_*.png") if folder.exists() else []:
        if match := _PICTURE.fullmatch(path.name):
            age = max(0.0, now - path.stat().mtime)
            found.append({"file": path.name, "step": int(match[1]), "age": age})
    return sorted(found, key=lambda picture: picture["step"])


def _before(pictures: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Returns the picture an hour older than the newest, or else the first one."""
    if len(pictures) < 2:
        return None
    age = pictures[-1]["age"] + _HOUR
    older = [picture for picture in pictures if picture["age"] >= age]
    return older[-1] if older else pictures[0]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
