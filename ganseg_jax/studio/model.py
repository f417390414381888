"""What the page shows of a model: its generator, its segmenter, its parts, as far as they exist."""

import dataclasses
import json
import threading
import time
from typing import Any

from etils import epath

from ganseg_jax import files, hub, loading, packed, parts
from ganseg_jax.errors import UserError
from ganseg_jax.files import resolve
from ganseg_jax.report.palette import palette
from ganseg_jax.segmenter import Segmenter
from ganseg_jax.studio import photos
from ganseg_jax.studio.drawing import Drawing
from ganseg_jax.studio.labelling import Labelling
from ganseg_jax.studio.run import Run

_TIMES = "compile_seconds.json"


class Model:
    """Holds a model and what is known of it.

    Args:
      place: a workdir, a few-shot folder, a packed model or the name of one of the package or a
        hub.

    Raises:
      UserError: there is neither a model nor a run.
    """

    def __init__(self, place: epath.PathLike):
        self.place = place
        self.drawing: Drawing | None = None
        self.segmenter: Segmenter | None = None
        self.problems: dict[str, str] = {}
        self.doing, self._since = "waiting", time.monotonic()
        self._parts: tuple[parts.Part, ...] = ()
        self._lock = threading.Lock()
        found = packed.find(place)
        is_packed, few_shot = found is not None, loading.is_few_shot(found or place)
        if not is_packed and not few_shot and not (resolve(place) / "config.json").exists():
            loading.load_segmenter(place)  # Says so.
        self.run = None if is_packed or few_shot else Run(place)
        source = resolve(place).parent if few_shot and not hub.is_named(place) else place
        self._source, self._few_shot = source, few_shot
        self.labelling = Labelling(source, lambda: loading.load_generator(source))

    @property
    def name(self) -> str:
        """Returns a short name for the page."""
        return packed.short_name(self.place)

    def prepare(self) -> None:
        """Loads and compiles everything; takes long."""
        start, self.problems = time.monotonic(), {}
        self.do("loading")
        try:
            self.segmenter = loading.load_segmenter(self.place, named=False)
        except UserError as error:
            self.problems["segmenter"] = str(error)
        try:
            drawing = Drawing(*loading.load_generator(self._source))
        except UserError as error:
            self.problems["generator"] = str(error)
            drawing = None
        self._read_parts()
        self.do("compiling")
        if drawing is not None:
            drawing.compile()
            self.drawing = drawing
        if self.segmenter is not None:
            size = self.segmenter.image_size or 64
            self._warm(size)
        self._note_time(time.monotonic() - start)
        self.do("")

    def state(self) -> dict[str, Any]:
        """Returns what the page needs to know, fit for JSON."""
        with self._lock:
            known = [dataclasses.asdict(part) for part in self._parts]
        generator = self.drawing.generator if self.drawing else None
        colors = ["#{:02x}{:02x}{:02x}".format(*c) for c in palette(len(known) + 1)]
        return {
            "model": self.name,
            "place": str(self.place),
            "doing": self.doing,
            "doing_seconds": time.monotonic() - self._since,
            "before_seconds": self._times().get(self._key()),
            "problems": self.problems,
            "size": generator.image_size if generator else None,
            "points": generator.points_per_part if generator else None,
            "movable": bool(generator and generator.use_points),
            "grid": generator.grid if generator else None,
            "slow": bool(self.drawing and self.drawing.slow),
            "generator_parts": generator.num_parts if generator else None,
            "segments": self.segmenter is not None,
            "own_parts": self._same_parts(),
            "parts": known,
            "colors": colors,
            "parts_file": str(parts.file_of(self.place)),
            "is_run": self.run is not None,
            "most_bytes": photos.MOST_BYTES,
        }

    def name_parts(self, entries: Any) -> None:
        """Checks and writes what the page calls the parts.

        Raises:
          UserError: it makes no sense, or cannot be written.
        """
        with self._lock:
            known = parts.checked(entries, len(self._parts))
            parts.write(self.place, known)
            self._parts = known
            self.problems.pop("parts", None)

    def _same_parts(self) -> bool:
        """Says whether generator and segmenter have the same parts: not after few-shot training."""
        return not self._few_shot

    def _read_parts(self) -> None:
        if self.segmenter is not None:
            count = self.segmenter.num_classes - 1
        elif (resolve(self.place) / "config.json").exists() and self.run is not None:
            count = loading.config_file.load_config(self.place).model.num_parts
        else:
            return
        classes = self.segmenter.classes if self.segmenter is not None else None
        known = [parts.Part(name) for name in (classes or [""] * (count + 1))[1:]]
        try:
            known = list(parts.read(self.place, count) or known)
        except UserError as error:
            self.problems["parts"] = str(error)
        with self._lock:
            self._parts = tuple(known)

    def _warm(self, size: int) -> None:
        import numpy as np

        assert self.segmenter is not None
        self.segmenter.probabilities_as_seen(np.zeros((1, size, size, 3), np.uint8))

    def do(self, what: str) -> None:
        """Notes what the server is doing, "" for nothing."""
        self.doing, self._since = what, time.monotonic()

    def _key(self) -> str:
        found = packed.find(self.place)
        return str((found or resolve(self.place)).resolve())

    def _times(self) -> dict[str, float]:
        try:
            content = json.loads((parts.user_folder() / _TIMES).read_text())
            return content if isinstance(content, dict) else {}
        except (OSError, ValueError):
            return {}

    def _note_time(self, seconds: float) -> None:
        try:
            times = self._times() | {self._key(): round(seconds, 1)}
            files.write_json(parts.user_folder() / _TIMES, times)
        except UserError:
            pass  # It is only a hint.
