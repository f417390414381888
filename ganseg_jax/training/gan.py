"""The GAN's stage: its state and its step, pure functions of state, batch and keys."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from ganseg_jax import losses, pixels, prng
from ganseg_jax.config import Config
from ganseg_jax.config.schema import Gan as GanSettings
from ganseg_jax.data import pipeline
from ganseg_jax.latents import Latents, sample_latents
from ganseg_jax.models.build import build_discriminator, build_generator
from ganseg_jax.models.discriminator import Discriminator
from ganseg_jax.models.generator import Generator, GeneratorOutput
from ganseg_jax.models.initialise import init_variables
from ganseg_jax.report.sheets import sample_sheet
from ganseg_jax.training import batches, start
from ganseg_jax.training.augmentation import Change, change_images, changes_of
from ganseg_jax.training.gan_losses import (
    Metrics,
    discriminator_gradients,
    generator_penalties,
    total,
    without_area,
)
from ganseg_jax.training.optimizer import adam, flat_norm
from ganseg_jax.training.sheet import sheet_arrays, sheet_latents
from ganseg_jax.training.stage import Schedule, Stage


@dataclasses.dataclass(frozen=True)
class Gan:
    """Holds the two networks and how they are trained.

    Attributes:
      generator: of the images.
      discriminator: of the images.
      settings: `config.gan`.
      flat_adam: keep Adam's moments as one vector (see `optimizer.adam`).
    """

    generator: Generator
    discriminator: Discriminator
    settings: GanSettings = GanSettings()
    flat_adam: bool = True

    @classmethod
    def of(cls, config: Config) -> "Gan":
        """Returns the networks and settings of a config.

        Raises:
          UserError: naming the field that does not fit.
        """
        changes_of(config.gan.discriminator_augment)
        return cls(
            build_generator(config),
            build_discriminator(config),
            config.gan,
            flat_adam=not config.partition.fsdp,
        )

    @property
    def generator_optimizer(self) -> optax.GradientTransformation:
        """Returns the generator's Adam."""
        s = self.settings
        return adam(s.learning_rate_generator, s.beta1, s.beta2, self.flat_adam)

    @property
    def discriminator_optimizer(self) -> optax.GradientTransformation:
        """Returns the discriminator's Adam."""
        s = self.settings
        return adam(s.learning_rate_discriminator, s.beta1, s.beta2, self.flat_adam)


@flax.struct.dataclass
class GanState:
    """Holds everything that training changes; no keys.

    Attributes:
      step: updates done so far.
      generator: {"params", "batch_stats"}.
      discriminator: {"params"}.
      generator_opt: state of the generator's Adam.
      discriminator_opt: state of the discriminator's Adam.
      average: exponential moving average of `generator`, or None if `ema_decay` is 0.
    """

    step: jax.Array
    generator: Any
    discriminator: Any
    generator_opt: Any
    discriminator_opt: Any
    average: Any = None

    @property
    def sampling_variables(self) -> Any:
        """Returns the generator's variables to sample with: the average if there is one."""
        return self.generator if self.average is None else self.average


def example_inputs(gan: Gan) -> tuple[Latents, jax.ShapeDtypeStruct]:
    """Returns the shapes of the two networks' inputs, at a batch of 2."""
    g = gan.generator
    latents = jax.eval_shape(lambda: sample_latents(jax.random.key(0), 2, g.noise_dim))
    return latents, jax.ShapeDtypeStruct((2, g.image_size, g.image_size, 3), jnp.float32)


def init_state(gan: Gan, seed: int) -> GanState:
    """Returns the state before the first step, as host arrays."""
    latents, images = example_inputs(gan)
    generator = init_variables(gan.generator, seed, latents, train=True)
    discriminator = init_variables(gan.discriminator, seed, images)
    return state_from_variables(gan, generator, discriminator)


def generator_shapes(config: Config) -> Any:
    """Returns the shapes of a generator's variables."""
    gan = Gan.of(config)
    latents, _ = example_inputs(gan)
    return jax.eval_shape(lambda: init_variables(gan.generator, config.seed, latents, train=True))


def networks_of(state: GanState) -> dict[str, Any]:
    """Returns the variables of a state's networks by their names, the average among them."""
    networks = {"generator": state.generator, "discriminator": state.discriminator}
    return networks if state.average is None else networks | {"average": state.average}


def network_shapes(config: Config) -> dict[str, Any]:
    """Returns the shapes of `networks_of` a config's state."""
    shapes: GanState = jax.eval_shape(lambda: init_state(Gan.of(config), config.seed))
    return networks_of(shapes)


def begin_from(config: Config, state: GanState) -> tuple[GanState, dict[str, Any]]:
    """Returns the state before the first step with the weights of `gan.init_from`, and whence.

    Raises:
      UserError: they cannot be read or do not fit.
    """
    networks, facts = start.networks_from("gan", config, networks_of(state), network_shapes)
    begun = state_from_variables(Gan.of(config), networks["generator"], networks["discriminator"])
    return dataclasses.replace(begun, average=networks.get("average")), facts


def check_start(config: Config) -> None:
    """Raises `UserError` if `gan.init_from` cannot be read or does not fit."""
    if config.gan.init_from:
        start.networks_from("gan", config, network_shapes(config), network_shapes)


def state_from_variables(gan: Gan, generator: Any, discriminator: Any) -> GanState:
    """Returns a state of step 0 around given variables (converted checkpoints, for example)."""
    return GanState(
        step=jnp.zeros((), jnp.int32),
        generator=generator,
        discriminator=discriminator,
        generator_opt=gan.generator_optimizer.init(generator["params"]),
        discriminator_opt=gan.discriminator_optimizer.init(discriminator["params"]),
        average=generator if gan.settings.ema_decay else None,
    )


def update(
    gan: Gan,
    state: GanState,
    real: Float[Array, "b s s 3"],
    discriminator_latents: Latents,
    generator_latents: Latents,
    augment_key: jax.Array | None = None,
) -> tuple[GanState, Metrics]:
    """Updates the discriminator, then the generator, on given latents.

    The generator runs in training mode in both, so its running averages move in both. With
    `share_fakes` the discriminator's update reuses the generator update's forward pass, and
    `discriminator_latents` are unused.

    Args:
      gan: networks and settings.
      state: before the step.
      real: images in [-1, 1].
      discriminator_latents: of the fakes that the discriminator learns from.
      generator_latents: of the fakes that the generator learns from.
      augment_key: of `discriminator_augment`; unused if that is empty.

    Returns:
      The state after the step, and the step's scalars: every loss term times its weight.
    """
    changed = functools.partial(
        _changed, changes_of(gan.settings.discriminator_augment), augment_key
    )
    drawn = _draw(gan, state.generator, discriminator_latents, generator_latents)
    seen = changed("real", real), changed("fake", drawn.fake)
    discriminator, told_apart = _update_discriminator(gan, state, *seen)

    def seen_by_discriminator(images: Array) -> Array:
        logits: Any = gan.discriminator.apply(
            {"params": discriminator.params}, changed("generator", images)
        )
        return logits

    generator, terms = _update_generator(gan, state, drawn, seen_by_discriminator)
    variables = {"params": generator.params, "batch_stats": drawn.batch_stats}
    average = state.average
    if average is not None:
        average = optax.incremental_update(variables, average, 1.0 - gan.settings.ema_decay)
    norms = {
        "generator_gradient_norm": flat_norm(generator.gradients),
        "discriminator_gradient_norm": flat_norm(discriminator.gradients),
    }
    state = dataclasses.replace(
        state,
        step=state.step + 1,
        generator=variables,
        discriminator={"params": discriminator.params},
        generator_opt=generator.optimizer,
        discriminator_opt=discriminator.optimizer,
        average=average,
    )
    return state, told_apart | terms | norms


class _Drawn(NamedTuple):
    """Holds what the generator draws in an update.

    Attributes:
      fake: images that the discriminator learns from.
      output: what the generator learns from.
      pull_back: cotangent of `output` -> (gradient of the generator's parameters,).
      batch_stats: running averages after both passes, or the one.
    """

    fake: Array
    output: GeneratorOutput
    pull_back: Callable[[Any], tuple[Any]]
    batch_stats: Any


def _draw(
    gan: Gan, variables: Any, discriminator_latents: Latents, generator_latents: Latents
) -> _Drawn:
    """Runs the generator in training mode: for each network, or once if fakes are shared."""
    params, batch_stats = variables["params"], variables["batch_stats"]

    def generate(params: Any, latents: Latents) -> tuple[GeneratorOutput, Any]:
        output, mutated = gan.generator.apply(
            {"params": params, "batch_stats": batch_stats},
            latents,
            train=True,
            mutable=["batch_stats"],
        )
        return output, mutated["batch_stats"]

    if not gan.settings.share_fakes:
        for_discriminator, batch_stats = generate(params, discriminator_latents)
    output, pull_back, batch_stats = jax.vjp(
        lambda params: generate(params, generator_latents), params, has_aux=True
    )
    fake = output.image if gan.settings.share_fakes else for_discriminator.image
    return _Drawn(fake, output, pull_back, batch_stats)


def _changed(changes: tuple[Change, ...], key: jax.Array | None, name: str, images: Array) -> Array:
    """Returns images as the discriminator sees them; `name` is a stream of the key."""
    if not changes:
        return images
    if key is None:
        raise ValueError("discriminator_augment needs augment_key")
    return change_images(prng.stream(key, name), images, changes)


class _Updated(NamedTuple):
    """Holds a network after its update, and the gradients that made it."""

    params: Any
    optimizer: Any
    gradients: Any


def _update_discriminator(
    gan: Gan, state: GanState, real: Array, fake: Array
) -> tuple[_Updated, Metrics]:
    """Updates the discriminator on images as it sees them; returns its loss's terms too."""
    params = state.discriminator["params"]
    gradients, terms = discriminator_gradients(
        gan.discriminator, gan.settings, params, real, fake, state.step
    )
    updates, optimizer = gan.discriminator_optimizer.update(
        gradients, state.discriminator_opt, params
    )
    return _Updated(optax.apply_updates(params, updates), optimizer, gradients), terms


def _update_generator(
    gan: Gan, state: GanState, drawn: _Drawn, logits_of: Callable[[Array], Array]
) -> tuple[_Updated, Metrics]:
    """Updates the generator by what the discriminator says now; returns its loss's terms too."""
    s, params = gan.settings, state.generator["params"]

    def loss(output: GeneratorOutput) -> tuple[Array, Metrics]:
        terms = {"generator": losses.generator_adversarial(logits_of(output.image))}
        # Without points nothing says how large a part is to be.
        penalized = s if gan.generator.use_points else without_area(s)
        terms |= generator_penalties(penalized, output, state.step, gan.generator.grid)
        return total(terms), terms

    cotangent, terms = jax.grad(loss, has_aux=True)(drawn.output)
    (gradients,) = drawn.pull_back(cotangent)
    updates, optimizer = gan.generator_optimizer.update(gradients, state.generator_opt, params)
    return _Updated(optax.apply_updates(params, updates), optimizer, gradients), terms


def step(
    gan: Gan,
    root: jax.Array,
    state: GanState,
    batch: dict[str, Array],
    batch_sharding: jax.sharding.Sharding | None = None,
) -> tuple[GanState, Metrics]:
    """Updates on a batch of photos; all randomness is folded from `root` and the step.

    Args:
      gan: networks and settings (static).
      root: `prng.root_key(seed)`.
      state: before the step.
      batch: {"image": uint8 (B, S, S, 3)}.
      batch_sharding: how the fakes are split over the devices (static); None to leave it open.
    """
    real = pixels.to_unit_range(batch["image"])

    def draw(scope: str) -> Latents:
        keys = prng.streams(prng.step_key(root, state.step, scope))
        latents = sample_latents(keys, real.shape[0], gan.generator.noise_dim)
        if batch_sharding is None:
            return latents
        # Nothing else ties the generator's update to the split batch: each device would do it all.
        return jax.lax.with_sharding_constraint(latents, batch_sharding)

    augment_key = prng.step_key(root, state.step, "discriminator_augment")
    return update(gan, state, real, draw("discriminator"), draw("generator"), augment_key)


def outline(config: Config) -> Stage:
    """Returns the stage that trains a config's GAN, as far as it is known without photos.

    Raises:
      UserError: naming the field that does not fit.
    """
    gan = Gan.of(config)

    def update_on(
        root: jax.Array, constants: Any, state: GanState, batch: Any, split: jax.sharding.Sharding
    ) -> tuple[GanState, Metrics]:
        return step(gan, root, state, batch, split)

    return Stage(
        name="gan",
        schedule=Schedule.of(config.gan),
        seed=config.seed,
        init=lambda: init_state(gan, config.seed),
        begin=functools.partial(begin_from, config) if config.gan.init_from else None,
        step=update_on,
        batch=("gan.batch_size", config.gan.batch_size),
        batches=batches.shapes_of_photos(config.image_size, config.gan.batch_size),
        derived=False,
        whole=("generator", "discriminator"),
        fsdp=config.partition.fsdp,
        precision=config.precision,
        rare_every=config.gan.gradient_penalty.interval,
        retry=config.gan.on_nonfinite == "retry",
    )


def declare(config: Config) -> Stage:
    """Returns the stage that trains a config's GAN on prepared photos.

    Raises:
      UserError: naming the field that does not fit.
    """
    gan, latents, dataset = Gan.of(config), sheet_latents(config), config.dataset

    def view(constants: Any, state: GanState) -> GeneratorOutput:
        output: Any = gan.generator.apply(state.sampling_variables, latents, train=False)
        return output

    def picture(out: GeneratorOutput) -> np.ndarray:
        grid = gan.generator.grid
        return sample_sheet(*sheet_arrays(out), grid=grid)

    return dataclasses.replace(
        outline(config),
        batches=batches.photos(config, config.gan.batch_size, "gan.batch_size"),
        inputs={"photos": pipeline.fingerprint(dataset.name, dataset.data_dir)},
        view=view,
        picture=picture,
    )
