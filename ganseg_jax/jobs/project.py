"""Projects folders of photos into a generator's latent space: reconstructions, parts, latents."""

import concurrent.futures
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jaxtyping import Float, Int, UInt8

from ganseg_jax.data import images
from ganseg_jax.data.folder import Photo, open_photos, read_photo
from ganseg_jax.errors import UserError
from ganseg_jax.fewshot import projection
from ganseg_jax.fewshot.results import Head
from ganseg_jax.fewshot.samples import save_latents
from ganseg_jax.fewshot.source import Source, latents_to_arrays
from ganseg_jax.files import write_json
from ganseg_jax.geometry import resize_bilinear
from ganseg_jax.pixels import to_uint8, to_unit_range
from ganseg_jax.report import overlays
from ganseg_jax.report.classes import Classes, usual
from ganseg_jax.report.legend import with_legend
from ganseg_jax.report.png import save_label_png, save_png
from ganseg_jax.report.sheets import default_scale, sheet

SHEET_PHOTOS = 48


@dataclasses.dataclass(frozen=True)
class Reconstructions:
    """Holds photos and what the generator makes of their latents.

    Attributes:
      photos: at the generator's size.
      images: generated.
      labels: class of every pixel by the head, or by GANSeg's own masks; None without either.
      errors: mean squared error in [-1, 1].
      latents: named arrays with a row for each photo; the noise maps of StyleGAN2 among them,
        as `noise/NAME`.
    """

    photos: UInt8[np.ndarray, "n s s 3"]
    images: UInt8[np.ndarray, "n s s 3"]
    labels: Int[np.ndarray, "n s s"] | None
    errors: Float[np.ndarray, " n"]
    latents: dict[str, np.ndarray]


def reconstruct(
    source: Source,
    variables: Any,
    photos: UInt8[np.ndarray, "n s s 3"],
    settings: projection.ProjectionSettings,
    *,
    head: Head | None = None,
    batch_size: int = 8,
    progress: Callable[[int, float], None] = lambda steps, loss: None,
    **options: Any,
) -> Reconstructions:
    """Projects photos, a batch at a time.

    Args:
      source: the generator.
      variables: its variables.
      photos: of the generator's size.
      settings: see `ProjectionSettings`.
      head: labels the reconstructions from their features.
      batch_size: photos at a time; the last batch is padded.
      progress: called with the steps done of all `batches * settings.num_steps`, and the loss.
      options: further arguments of `projection.project`.
    """
    batch_size = min(batch_size, len(photos))
    finish = jax.jit(lambda v, latents: _finish(source, head, v, latents))
    names = [field.name for field in dataclasses.fields(Reconstructions)]
    rows = []
    for start in range(0, len(photos), batch_size):
        chosen = photos[np.minimum(np.arange(start, start + batch_size), len(photos) - 1)]
        targets = to_unit_range(jnp.asarray(chosen))
        done = start // batch_size * settings.num_steps
        latents, found = projection.project(
            source,
            variables,
            targets,
            settings,
            report=functools.partial(_shifted, progress, done),
            **options,
        )
        images, labels = finish(found, latents)
        arrays = latents_to_arrays(latents)
        if source.is_stylegan2:
            arrays |= {f"noise/{name}": x for name, x in found["noise"].items()}
        error = jnp.mean(jnp.square(jnp.clip(images, -1, 1) - targets), axis=(1, 2, 3))
        made = (chosen, to_uint8(images), labels, error, arrays)
        row = jax.tree.map(np.asarray, dict(zip(names, made, strict=True)))
        rows.append(jax.tree.map(lambda x, start=start: x[: len(photos) - start], row))
    return Reconstructions(**jax.tree.map(lambda *x: np.concatenate(x), *rows))


def _shifted(progress: Callable[[int, float], None], done: int, step: int, loss: float) -> None:
    progress(done + step, loss)


def _finish(source: Source, head: Head | None, variables: Any, latents: Any) -> tuple:
    """Returns images in [-1, 1] and labels, or None."""
    if head is not None:
        images, features = source.generate(variables, latents)
        logits: Any = head.module.apply({"params": head.params}, features)
        return images, jnp.argmax(resize_bilinear(logits, *images.shape[1:3]), -1)
    if source.is_stylegan2:
        return source.images(variables, latents), None
    out: Any = source.module.apply(variables, latents, train=False)
    return out.image, jnp.argmax(out.masks, -1)


def read_folder(
    folder: epath.PathLike,
    output: epath.PathLike,
    size: int,
    max_megapixels: float = images.MAX_MEGAPIXELS,
) -> tuple[list[str], UInt8[np.ndarray, "n s s 3"], dict[str, str], list[str]]:
    """Returns names and photos of a folder at one size, why others were left out, and a summary.

    Args:
      folder: a folder or tar archive of photos, or a photo.
      output: the folder to write to, which must not lie in it.
      size: of the photos, in pixels.
      max_megapixels: of a photo that is not left out.

    Raises:
      UserError: there is none, or none can be read.
    """

    def read_one(name: str) -> Photo | str:
        return read_photo(found.root / name, name, size, max_megapixels)

    with (
        open_photos(folder, output) as found,
        concurrent.futures.ThreadPoolExecutor(8) as pool,
    ):
        read = list(pool.map(read_one, found.names))
    skipped = {n: r for n, r in zip(found.names, read, strict=True) if isinstance(r, str)}
    good = [photo for photo in read if not isinstance(photo, str)]
    if not good:
        name, reason = next(iter(skipped.items()))
        raise UserError(f"no photo in {found.source} can be read ({name}: {reason})")
    photos = np.stack([photo.small for photo in good])
    names = [photo.name for photo in good]
    return names, photos, found.skipped | skipped, found.summary


def write(
    output: epath.Path,
    names: list[str],
    made: Reconstructions,
    skipped: dict[str, str],
    classes: Classes | None = None,
) -> None:
    """Writes reconstructions, label maps, sheet, errors, and latents last.

    Raises:
      UserError: a file cannot be written.
    """
    labels = made.labels
    if labels is not None:
        classes = classes or usual(int(labels.max(initial=0)) + 1)
        labels = classes.of_labels(labels)
    for i, name in enumerate(names):
        save_png(output / "reconstructions" / f"{name}.png", made.images[i])
        if labels is not None and classes is not None:
            save_label_png(output / "labels" / f"{name}.png", labels[i], classes.colors)
    scale = default_scale(made.photos.shape[1])
    shown = slice(0, SHEET_PHOTOS)
    photos, images = (overlays.enlarge(x[shown], scale) for x in (made.photos, made.images))
    rows = {"photo": photos, "reconstruction": images}
    if labels is not None and classes is not None:
        enlarged = overlays.enlarge(labels[shown], scale)
        rows["parts"] = overlays.overlay_labels(photos, enlarged, classes.colors)
    picture = sheet(rows, names=names[shown])
    if classes is not None:
        picture = with_legend(picture, classes.names, classes.colors)
    save_png(output / "sheet.png", picture)
    content = {
        "photos": {n: {"squared_error": float(e)} for n, e in zip(names, made.errors, strict=True)},
        "skipped": skipped,
    }
    write_json(output / "projection.json", content, indent=1, ensure_ascii=False)
    save_latents(output, names, made.latents)
