"""Images to label, the page for painting them, and few-shot training from what was painted."""

import dataclasses
import subprocess
import threading
from collections.abc import Callable, Sequence
from typing import Any

from etils import epath

from ganseg_jax import files, packed, prng
from ganseg_jax.errors import UserError
from ganseg_jax.fewshot import samples
from ganseg_jax.fewshot.labeller.folder import LabelFolder
from ganseg_jax.fewshot.labels import CLASSES_FILE, check_classes, classes_json
from ganseg_jax.fewshot.source import Source
from ganseg_jax.files import resolve, write_whole
from ganseg_jax.models.generator import Generator
from ganseg_jax.studio.run import ENDED_WELL, log_end, start_command

FOLDER, RESULT, LOG_FILE = "to_label", "few_shot", "few_shot.log"
MOST_IMAGES = 50


@dataclasses.dataclass
class Labelling:
    """Holds the labels of a model.

    Attributes:
      place: workdir of a run, or a packed model.
      load: gives generator and variables; may take long.
    """

    place: epath.PathLike
    load: Callable[[], tuple[Generator, Any]]

    def __post_init__(self) -> None:
        self._opened: LabelFolder | None = None
        self._training: subprocess.Popen | None = None
        self._lock = threading.Lock()

    @property
    def folder(self) -> epath.Path:
        """Returns the folder of the images; that of a packed model is in the current folder."""
        if packed.find(self.place) is None:
            return resolve(self.place) / FOLDER
        return epath.Path(f"{packed.short_name(self.place)}_{FOLDER}").resolve()

    def state(self) -> dict[str, Any]:
        """Returns what the page shows, fit for JSON.

        Returns:
          `folder`; `count` and `labelled`, numbers of images; `classes`; `can_train`; of a training
          started from here `training` and `line`, the newest of its output; `finished`, whether a
          few-shot result is there.
        """
        opened, problem = None, ""
        if self.folder.exists():
            try:
                opened = self.opened()
            except UserError as error:
                problem = str(error)
        images = opened.overview()["images"] if opened else []
        labelled = sum(image["labelled"] for image in images)
        is_run = packed.find(self.place) is None
        running = self._training is not None and self._training.poll() is None
        failed = self._training is not None and self._training.poll() not in (None, *ENDED_WELL)
        return {
            "folder": str(self.folder),
            "count": len(images),
            "labelled": labelled,
            "classes": opened.classes if opened else [],
            "problem": problem,
            "is_run": is_run,
            "can_train": is_run and labelled > 0 and not running,
            "training": running,
            "failed": failed,
            "line": log_end(self._log()) if running or failed else "",
            "finished": is_run and (resolve(self.place) / RESULT / "report.html").exists(),
            "result": str(resolve(self.place) / RESULT) if is_run else "",
        }

    def make(self, count: int, classes: Sequence[str], seed: int = 0) -> None:
        """Writes images to label.

        Raises:
          UserError: a value makes no sense, there are such images already, or nothing can be
            written there.
        """
        if type(count) is not int or not 1 <= count <= MOST_IMAGES:
            raise UserError(f"give a number of images from 1 to {MOST_IMAGES}")
        check_classes(classes)
        generator, variables = self.load()
        key = prng.root_key(seed)
        samples.write_samples(self.folder, Source.of(generator), variables, key, count)
        write_whole(self.folder / CLASSES_FILE, classes_json(classes))

    def opened(self) -> LabelFolder:
        """Returns the folder, ready to be painted in.

        Raises:
          UserError: there are no images, or their classes are not known.
        """
        with self._lock:
            if self._opened is None or not self._opened.directory.exists():
                self._opened = LabelFolder(str(self.folder), None)
            return self._opened

    def train(self) -> None:
        """Starts few-shot training from the labels.

        Raises:
          UserError: it runs already, or nothing is labelled.
        """
        with self._lock:
            if self._training is not None and self._training.poll() is None:
                raise UserError("few-shot training runs already")
            if packed.find(self.place) is not None:
                raise UserError("few-shot training needs the workdir of a run")
            arguments = [f"--workdir={resolve(self.place)}", f"--labels={self.folder}"]
            self._training = start_command("few_shot", arguments, self._log())

    def stop(self) -> None:
        """Asks a few-shot training that was started from here to end.

        Raises:
          UserError: there is none.
        """
        if self._training is None or self._training.poll() is not None:
            raise UserError("no few-shot training was started here")
        self._training.terminate()

    def _log(self) -> epath.Path:
        if files.is_remote(self.place):
            raise UserError("few-shot training from here needs a workdir on a disk")
        return resolve(self.place) / LOG_FILE
