"""What labels would give on faces, and how much generated parts tell about generated landmarks.

python -m experiments.comparisons.supervised_landmarks --workdir=W [--steps=2000] [--seed=0]

For comparison only; nothing else sees a label. Trains a small convolutional network on the
landmarks of the training photos of W's set, at W's image size, and measures it on the other
splits. Then it looks for landmarks in images of W's generator: how far from them are those that a
linear regression from the parts' centres, fitted on half of the images, gives for the other half?
Where generated parts say much and the segmenter's on photos little, the step from generated images
to photos loses it; where generated parts say little, the GAN has to learn more. The last line
printed is a JSON object; errors are shares of the distance between the eyes.
"""

import json
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import flags

from ganseg_jax.cli import app

LOG = logging.getLogger("ganseg_jax.supervised_landmarks")
WORKDIR = app.define_workdir()
STEPS = flags.DEFINE_integer("steps", 2_000, "Updates of the network, of 64 photos each.")
SEED = flags.DEFINE_integer("seed", 0, "Of the network, its batches, and the latents.")

BATCH_SIZE = 64
GENERATED = 2_000
LEARNING_RATE = 2e-3
MIRRORED = (1, 0, 2, 4, 3)
"""The landmark that each one is in the mirror image: eyes, nose, corners of the mouth."""

Predict = Callable[[np.ndarray], np.ndarray]
"""uint8 images (N, S, S, 3) to landmarks (N, L, 2), (row, col) in pixels."""


def main() -> None:
    from ganseg_jax import loading
    from ganseg_jax.config import file as config_file
    from ganseg_jax.data import pipeline
    from ganseg_jax.errors import UserError

    config = config_file.load_config(WORKDIR.value)
    dataset = config.dataset
    if dataset.name != "faces_mtfl":
        raise UserError(f"{WORKDIR.value} is of {dataset.name}: a run of faces_mtfl is needed")
    if STEPS.value < 1:
        raise UserError(f"--steps={STEPS.value} must be at least 1")
    train, held_out, test = (
        pipeline.load_split(dataset.name, dataset.data_dir, split, config.image_size)
        for split in ("train", "landmark_test", "test")
    )
    predict = fit(train.images, train.landmarks, STEPS.value, SEED.value)
    figures = {
        "image_size": config.image_size,
        "supervised_held_out": error(predict(held_out.images), held_out.landmarks),
        "supervised_test": error(predict(test.images), test.landmarks),
    }
    images, centers = generate(*loading.load_generator(WORKDIR.value), GENERATED, SEED.value)
    figures |= explained(centers, predict(images))
    print(json.dumps(figures))


def fit(images: np.ndarray, landmarks: np.ndarray, steps: int, seed: int) -> Predict:
    """Trains on uint8 images (N, S, S, 3) and landmarks (N, 5, 2), (row, col) in pixels.

    Photos are mirrored and shifted by up to an eighth of their side at random.
    """
    import jax
    import jax.numpy as jnp
    import optax
    from flax import linen as nn
    from tqdm import tqdm

    size = images.shape[1]
    mean = landmarks.mean(0)

    class Network(nn.Module):
        @nn.compact
        def __call__(self, pixels: jax.Array) -> jax.Array:
            from ganseg_jax.pixels import to_unit_range

            x = to_unit_range(pixels)
            for width in (24, 48, 96, 128):
                x = nn.relu(nn.GroupNorm(8)(nn.Conv(width, (3, 3))(x)))
                x = nn.avg_pool(x, (2, 2), (2, 2))
            x = nn.relu(nn.Dense(128)(x.reshape(len(x), -1)))
            # Outputs near 0 are landmarks near their mean.
            moved = nn.Dense(mean.size)(x).reshape(-1, *mean.shape)
            return mean + 0.1 * size * moved

    network = Network()
    variables = network.init(jax.random.key(seed), jnp.zeros((1, size, size, 3), jnp.uint8))
    optimizer = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, steps))

    @jax.jit
    def update(variables: Any, state: Any, pixels: jax.Array, truth: jax.Array):
        def loss(variables: Any) -> jax.Array:
            return jnp.mean(jnp.abs(network.apply(variables, pixels) - truth)) / size

        updates, state = optimizer.update(jax.grad(loss)(variables), state)
        return optax.apply_updates(variables, updates), state

    state = optimizer.init(variables)
    rng = np.random.default_rng(seed)
    for _ in tqdm(range(steps), desc="supervised network", disable=None):
        chosen = rng.choice(len(images), BATCH_SIZE)
        batch = vary(images[chosen], landmarks[chosen], rng)
        variables, state = update(variables, state, *batch)

    apply = jax.jit(network.apply)

    def predict(pixels: np.ndarray) -> np.ndarray:
        starts = range(0, len(pixels), 250)
        return np.concatenate([apply(variables, pixels[i : i + 250]) for i in starts])

    return predict


def vary(
    images: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Mirrors half of the images and shifts all, around the border, with their landmarks."""
    images, landmarks = images.copy(), landmarks.copy()
    size = images.shape[1]
    for i in np.flatnonzero(rng.random(len(images)) < 0.5):
        images[i] = images[i, :, ::-1]
        landmarks[i] = np.stack([landmarks[i, :, 0], size - landmarks[i, :, 1]], -1)[[*MIRRORED]]
    reach = size // 8
    for i, shift in enumerate(rng.integers(-reach, reach + 1, (len(images), 2))):
        images[i] = np.roll(images[i], shift, (0, 1))
        landmarks[i] += shift
    return images, landmarks


def error(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Mean distance as a share of each photo's distance between the eyes."""
    from ganseg_jax.evaluation import landmarks

    return landmarks.landmark_error(predicted, truth, landmarks.interocular_distance(truth))


def generate(
    generator: Any, variables: Any, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Generated images, uint8, and their parts' centres (N, K, 2), (row, col) in pixels."""
    import jax

    from ganseg_jax import prng
    from ganseg_jax.evaluation import landmarks
    from ganseg_jax.latents import sample_latents
    from ganseg_jax.pixels import to_uint8

    apply = jax.jit(lambda latents: generator.apply(variables, latents, train=False))
    images, centers = [], []
    for key in jax.random.split(prng.root_key(seed), -(-count // 100)):
        made = apply(sample_latents(key, 100, generator.noise_dim))
        images.append(to_uint8(made.image))
        centers.append(landmarks.part_centers(np.asarray(made.masks)))
    return np.concatenate(images)[:count], np.concatenate(centers)[:count]


def explained(centers: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """How much of the landmarks found in generated images their parts' centres tell.

    Args:
      centers: (N, K, 2).
      found: (N, L, 2), of the same images; the first two are the eyes.

    Returns:
      `generated_mean` and `generated_regressed`: errors, on the second half of the images, of
      the first half's mean and of a regression (with bias) fitted there, as shares of the mean
      distance between the eyes; `row_correlation`, `col_correlation`: of the parts' mean
      position with the landmarks'.
    """
    from ganseg_jax.evaluation import landmarks

    half = len(found) // 2
    unit = float(landmarks.interocular_distance(found).mean())
    mean = np.broadcast_to(found[:half].mean(0), found[half:].shape)
    regressed = landmarks.regress_landmarks(centers[:half], found[:half], centers[half:], bias=True)
    row, col = (
        float(np.corrcoef(centers.mean(1)[:, axis], found.mean(1)[:, axis])[0, 1])
        for axis in (0, 1)
    )
    return {
        "generated_mean": landmarks.landmark_error(mean, found[half:], unit),
        "generated_regressed": landmarks.landmark_error(regressed, found[half:], unit),
        "row_correlation": row,
        "col_correlation": col,
    }


if __name__ == "__main__":
    app.run(main)
