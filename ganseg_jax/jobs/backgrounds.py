"""Finds the parts of a trained model that paint background, and has them count as background."""

import logging

import jax
from etils import epath

from ganseg_jax import files, loading, parts
from ganseg_jax.config import Config
from ganseg_jax.data import pipeline
from ganseg_jax.evaluation import evidence
from ganseg_jax.files import resolve
from ganseg_jax.segmenter import Segmenter
from ganseg_jax.training import partition

LOG = logging.getLogger(__name__)

FILE = "background.json"
"""In the segmenter's folder: the parts that were found to paint background."""

PHOTOS = 200
"""Training photos that are looked at, at most."""


def settle(config: Config, workdir: epath.PathLike) -> None:
    """Hides the parts that paint background (`parts.Part.hidden`), if the config asks for it.

    What is known of the parts already, such as what a person said of them, stays as it is.

    Args:
      config: of the run.
      workdir: of the run, whose segmenter is trained.
    """
    count, path = config.model.num_parts, parts.file_of(workdir)
    looked = resolve(workdir) / "segmenter" / FILE
    known = looked.exists() or path.exists()
    if not config.segmenter.find_background or count < 2 or known:
        return
    partition.wait_for_all("parts are looked at")
    if jax.process_index() == 0:
        photos = pipeline.load_split(
            *(config.dataset.name, config.dataset.data_dir, "train", config.image_size), PHOTOS
        ).images
        segmenter = loading.load_segmenter(
            workdir, named=False, engine="jax", state=loading.State("segmenter")
        )
        maps = []
        for refine in sorted({False, config.segmenter.refine}):
            segmenter.refine = refine
            maps.append(segmenter(photos))
        found = evidence.background_parts(photos, *maps)
        if found:
            parts.write(workdir, [parts.Part(hidden=n in found) for n in range(1, count + 1)])
            said = ", ".join(map(str, sorted(found)))
            LOG.info("these parts paint background, and count as such: %s (%s)", said, path)
        else:
            LOG.info("no part paints background")
        files.write_json(looked, {"background": sorted(found)})
    partition.wait_for_all("parts were looked at")


def load_measured(config: Config, workdir: epath.PathLike) -> Segmenter:
    """Loads the segmenter that figures are measured with: its parts, less those of the background.

    Unlike `load_segmenter` it neither names nor merges parts, and it always computes with JAX.

    Args:
      config: of the run.
      workdir: of the run.

    Raises:
      UserError: as `load_segmenter` does.
    """
    segmenter = loading.load_segmenter(workdir, named=False, engine="jax")
    segmenter.groups = parts.groups_without(hidden(config, workdir), config.model.num_parts)
    return segmenter


def hidden(config: Config, workdir: epath.PathLike) -> tuple[int, ...]:
    """Returns the numbers, from 1, of the parts that a run counts as background."""
    if not config.segmenter.find_background:
        return ()
    return parts.hidden(parts.read(workdir, config.model.num_parts))
