"""What the pictures of a stage in training show."""

import jax
import numpy as np

from ganseg_jax import prng
from ganseg_jax.config import Config
from ganseg_jax.latents import Latents, sample_latents
from ganseg_jax.models.generator import GeneratorOutput

SHEET_SAMPLES = 16
"""Images in a picture of a stage."""


def sheet_latents(config: Config) -> Latents:
    """Returns the latents that all pictures of a run show."""
    key = prng.stream(prng.root_key(config.seed), "sheet")
    return sample_latents(key, SHEET_SAMPLES, config.model.noise_dim)


def sheet_arrays(out: GeneratorOutput) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns what a sheet of samples shows, on the host."""
    image, masks, points, centers = jax.device_get(
        (out.image, out.masks, out.points, out.part_centers)
    )
    return image, masks, points, centers
