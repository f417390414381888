"""A supervised network for landmarks, and how much generated parts tell about landmarks."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np

LOG = logging.getLogger("ganseg_jax.supervised_landmarks")

BATCH_SIZE = 64
LEARNING_RATE = 2e-3
MIRRORED = (1, 0, 2, 4, 3)
"""The landmark that each one is in the mirror image: eyes, nose, corners of the mouth."""

Predict = Callable[[np.ndarray], np.ndarray]
"""uint8 images (N, S, S, 3) to landmarks (N, L, 2), (row, col) in pixels."""


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
            predicted: Any = network.apply(variables, pixels)
            return jnp.mean(jnp.abs(predicted - truth)) / size

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
    for index, shift in enumerate(rng.integers(-reach, reach + 1, (len(images), 2))):
        images[index] = np.roll(images[index], shift, (0, 1))
        landmarks[index] += shift
    return images, landmarks


def error(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Returns the mean distance as a share of each photo's distance between the eyes."""
    from ganseg_jax.evaluation import landmarks

    return landmarks.landmark_error(predicted, truth, landmarks.interocular_distance(truth))


def generate(
    generator: Any, variables: Any, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Generates uint8 images, and their parts' centres (N, K, 2), (row, col) in pixels."""
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
    """Measures how much of the landmarks in generated images their parts' centres tell.

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
