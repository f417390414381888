"""The auto-encoders' stage, in place of GAN and segmenter: state and step."""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from ganseg_jax import pixels, prng
from ganseg_jax.config import Config
from ganseg_jax.config.schema import Gan as GanSettings
from ganseg_jax.data import pipeline
from ganseg_jax.models.autoencoder import AutoEncoder
from ganseg_jax.models.build import build_autoencoder
from ganseg_jax.models.generator import GeneratorOutput
from ganseg_jax.models.initialise import init_variables
from ganseg_jax.report.sheets import sample_sheet
from ganseg_jax.training.batches import photos
from ganseg_jax.training.gan_losses import generator_penalties, total, without_area
from ganseg_jax.training.optimizer import adam, flat_norm
from ganseg_jax.training.sheet import SHEET_SAMPLES, sheet_arrays
from ganseg_jax.training.stage import Schedule, Stage

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
    """Holds everything that training changes.

    Attributes:
      step: updates done so far.
      autoencoder: {"params", "batch_stats"}.
      optimizer: state of Adam.
    """

    step: jax.Array
    autoencoder: Any
    optimizer: Any


def init_state(autoencoding: AutoEncoding, seed: int) -> AutoEncoderState:
    """Returns the state before the first step, as host arrays."""
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
    """Updates on images in [-1, 1]: mean squared error plus the generator's two penalties.

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
        return total(terms), (mutated["batch_stats"], terms)

    params = state.autoencoder["params"]
    gradients, (batch_stats, terms) = jax.grad(loss_of, has_aux=True)(params)
    updates, optimizer = autoencoding.optimizer.update(gradients, state.optimizer, params)
    state = dataclasses.replace(
        state,
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
    """Updates on a batch of photos.

    Args:
      autoencoding: network and settings (static).
      root: `prng.root_key(seed)`.
      state: before the step.
      batch: {"image": uint8 (B, S, S, 3)}.
    """
    key = prng.step_key(root, state.step, "autoencoder")
    images = pixels.to_unit_range(batch["image"])
    return update(autoencoding, state, images, prng.stream(key, "dropout"))


def declare(config: Config) -> Stage:
    """Returns the stage that trains a config's auto-encoder on prepared photos.

    Number of updates, batch, intervals, Adam and penalties are those of `config.gan`.

    Raises:
      UserError: naming the field that does not fit.
    """
    autoencoding, dataset = AutoEncoding.of(config), config.dataset
    network = autoencoding.network
    shown = pipeline.load_split(
        dataset.name, dataset.data_dir, "train", config.image_size, SHEET_SAMPLES
    ).images

    def view(constants: Any, state: AutoEncoderState) -> GeneratorOutput:
        images = pixels.to_unit_range(jnp.asarray(shown))
        output: Any = network.apply(state.autoencoder, images, train=False)
        return output

    def picture(out: GeneratorOutput) -> np.ndarray:
        return sample_sheet(*sheet_arrays(out), grid=network.generator.grid, photos=shown)

    return Stage(
        name="autoencoder",
        schedule=Schedule.of(config.gan),
        seed=config.seed,
        init=lambda: init_state(autoencoding, config.seed),
        step=lambda root, constants, state, batch, split: step(autoencoding, root, state, batch),
        batch=("gan.batch_size", config.gan.batch_size),
        batches=photos(config, config.gan.batch_size, "gan.batch_size"),
        inputs={"photos": pipeline.fingerprint(dataset.name, dataset.data_dir)},
        derived=False,
        view=view,
        picture=picture,
        retry=config.gan.on_nonfinite == "retry",
    )
