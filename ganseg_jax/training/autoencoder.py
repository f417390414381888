"""State and training step of the auto-encoders: pure functions of state and batch."""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from ganseg_jax import prng
from ganseg_jax.config import Config
from ganseg_jax.config.schema import Gan as GanSettings
from ganseg_jax.models.autoencoder import AutoEncoder
from ganseg_jax.models.build import build_autoencoder
from ganseg_jax.models.initialise import init_variables
from ganseg_jax.training.gan import generator_penalties, to_unit_range, without_area
from ganseg_jax.training.optimizer import adam, flat_norm

Metrics = dict[str, Float[Array, ""]]


@dataclasses.dataclass(frozen=True)
class AutoEncoding:
    """Holds the auto-encoder and how it is trained: with the GAN's penalties and generator's Adam.

    With "masks" the area loss is left out, as there are no points that say how large a part is.
    """

    network: AutoEncoder
    settings: GanSettings

    @classmethod
    def of(cls, config: Config) -> "AutoEncoding":
        """Returns the network and settings of a config.

        Raises:
          UserError: naming the field that does not fit.
        """
        return cls(build_autoencoder(config), config.gan)

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """Returns the network's Adam."""
        s = self.settings
        return adam(s.learning_rate_generator, s.beta1, s.beta2)


@flax.struct.dataclass
class AutoEncoderState:
    """Everything that training changes.

    Attributes:
      step: updates done so far.
      autoencoder: {"params", "batch_stats"}.
      optimizer: state of Adam.
    """

    step: jax.Array
    autoencoder: Any
    optimizer: Any


def init_state(autoencoding: AutoEncoding, seed: int) -> AutoEncoderState:
    """The state before the first step, as host arrays."""
    size = autoencoding.network.image_size
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    variables = init_variables(autoencoding.network, seed, images, train=False)
    return AutoEncoderState(
        step=jnp.zeros((), jnp.int32),
        autoencoder=variables,
        optimizer=autoencoding.optimizer.init(variables["params"]),
    )


def update(
    autoencoding: AutoEncoding,
    state: AutoEncoderState,
    images: Float[Array, "b s s 3"],
    dropout_key: jax.Array,
) -> tuple[AutoEncoderState, Metrics]:
    """One update on images in [-1, 1]: mean squared error plus the generator's two penalties.

    Returns:
      The state after the step, and the step's scalars: every loss term times its weight.
    """
    settings, network = autoencoding.settings, autoencoding.network
    if network.kind == "masks":
        settings = without_area(settings)

    def loss_of(params: Any) -> tuple[Array, tuple[Any, Metrics]]:
        output, mutated = network.apply(
            {"params": params, "batch_stats": state.autoencoder["batch_stats"]},
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": dropout_key},
        )
        terms = {"reconstruction": jnp.mean(jnp.square(output.image - images))}
        terms |= generator_penalties(settings, output, state.step, network.generator.grid)
        return sum(terms.values()), (mutated["batch_stats"], terms)

    params = state.autoencoder["params"]
    gradients, (batch_stats, terms) = jax.grad(loss_of, has_aux=True)(params)
    updates, optimizer = autoencoding.optimizer.update(gradients, state.optimizer, params)
    state = state.replace(
        step=state.step + 1,
        autoencoder={"params": optax.apply_updates(params, updates), "batch_stats": batch_stats},
        optimizer=optimizer,
    )
    return state, terms | {"gradient_norm": flat_norm(gradients)}


def step(
    autoencoding: AutoEncoding,
    root: jax.Array,
    state: AutoEncoderState,
    batch: dict[str, Array],
) -> tuple[AutoEncoderState, Metrics]:
    """One training step on a batch of photos.

    Args:
      autoencoding: network and settings (static).
      root: `prng.root_key(seed)`.
      state: before the step.
      batch: {"image": uint8 (B, S, S, 3)}.
    """
    key = prng.step_key(root, state.step, "autoencoder")
    images = to_unit_range(batch["image"])
    return update(autoencoding, state, images, prng.stream(key, "dropout"))
