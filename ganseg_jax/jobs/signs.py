"""Looks at a young GAN for failures that are known, without labels."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from jaxtyping import Float

from ganseg_jax import files, prng
from ganseg_jax.config import Config
from ganseg_jax.files import resolve
from ganseg_jax.latents import sample_latents
from ganseg_jax.loading import load_generator
from ganseg_jax.precision import EXACT, of_products

SAMPLES = 64

COVERS, STILL, ONE, WON = 0.15, 0.01, 0.85, 8.0
"""From where on the figures of `figures_of` are a failure.

Measured after a tenth (300 steps at 32 px, one seed). People and horses that train well: border
0.028 and 0.000, movement 0.073 and 0.068, largest part 0.21 and 0.27, lead 1.8 and 1.2. Horses
whose parts begin all over the image, with no lead for the background: border 0.218. Horses with ten
times the discriminator's learning rate: lead -2.5 million, border 0.365, largest part 0.81. The
limits of movement and largest part were crossed by no training; they stand far from what is well.
"""


@dataclasses.dataclass(frozen=True)
class Sign:
    """Describes a failure that shows.

    Attributes:
      name: "covers_background", "still", "one_part" or "discriminator_won".
      what: what is seen, with its figure.
      remedy: what is done about it, in words.
      fields: settings that are changed for a new start; empty if nothing helps but more photos.
    """

    name: str
    what: str
    remedy: str
    fields: dict[str, Any]


def figures_of(
    masks: Float[np.ndarray, "n s s c"],
    centers: Float[np.ndarray, "n k 2"],
    rows: Sequence[Mapping[str, Any]],
) -> dict[str, float]:
    """Measures what the signs are seen by.

    Args:
      masks: of generated images, background first.
      centers: of their parts, in [-1, 1].
      rows: of `metrics.jsonl`.

    Returns:
      `border`, the share of the outermost pixels that the part which takes most of them takes;
      `movement`, how far the part that moves most is spread over images (standard deviation, in
      half images); `largest`, the share of the foreground of the largest part; `lead`, by how
      many logits the discriminator tells photos from images, the mean of the newest third.
    """
    labels = masks.argmax(-1)
    parts = masks.shape[-1] - 1
    edge = np.ones(labels.shape[1:], bool)
    edge[1:-1, 1:-1] = False
    border = [float((labels == part)[:, edge].mean()) for part in range(1, parts + 1)]
    areas = np.array([(labels == part).sum() for part in range(1, parts + 1)], float)
    newest = list(rows)[-max(1, len(rows) // 3) :]
    leads = [row["real_logit"] - row["fake_logit"] for row in newest if "real_logit" in row]
    return {
        "border": max(border),
        "movement": float(centers.std(0).max()),
        "largest": float(areas.max() / max(areas.sum(), 1)),
        "lead": float(np.mean(leads)) if leads else 0.0,
    }


def signs_of(figures: Mapping[str, float], config: Config) -> list[Sign]:
    """Returns the failures that figures show, the gravest first."""
    gan, found = config.gan, []
    if abs(figures["lead"]) > WON:
        found.append(
            Sign(
                "discriminator_won",
                "the discriminator has won or run away: its answers for photos and images lie "
                f"{abs(figures['lead']):.3g} logits apart",
                "its learning rate is halved",
                {"gan.learning_rate_discriminator": gan.learning_rate_discriminator / 2},
            )
        )
    if figures["border"] > COVERS:
        found.append(
            Sign(
                "covers_background",
                f"a part covers {100 * figures['border']:.0f} % of the images' border",
                "parts begin nearer to the middle, and the background leads by more",
                {
                    "gan.background_start": gan.background_start + 2.0,
                    "gan.point_spread": gan.point_spread / 2,
                },
            )
        )
    if config.model.num_parts > 1 and figures["largest"] > ONE:
        found.append(
            Sign(
                "one_part",
                f"one part is {100 * figures['largest']:.0f} % of the foreground",
                "parts begin further apart",
                {"gan.point_spread": min(0.9, max(0.25, 1.5 * gan.point_spread))},
            )
        )
    if figures["movement"] < STILL:
        found.append(
            Sign(
                "still",
                f"no part moves: the liveliest by {figures['movement']:.3f} of half an image",
                "points begin with more freedom",
                {"model.point_divisor": config.model.point_divisor / 2},
            )
        )
    return found


def look(config: Config, workdir: epath.PathLike) -> dict[str, float]:
    """Returns the figures of the GAN that a workdir holds now."""
    generator, variables = load_generator(workdir)
    latents = sample_latents(
        prng.stream(prng.root_key(config.seed), "signs"), SAMPLES, generator.noise_dim
    )

    @jax.jit
    def masks_of(variables: Any, latents: Any) -> Any:
        with of_products(EXACT):
            out: Any = generator.apply(variables, latents, train=False)
        return out.masks, out.part_centers

    masks, centers = jax.device_get(masks_of(variables, latents))
    rows = files.read_rows(resolve(workdir) / "gan" / "metrics.jsonl")
    return figures_of(masks, centers, rows)
