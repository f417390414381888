"""The GAN's stage: its state and its step, pure functions of state, batch and keys."""

import dataclasses
import functools
from typing import Any, cast

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
from ganseg_jax.errors import UserError
from ganseg_jax.geometry import GridKind
from ganseg_jax.latents import Latents, sample_latents
from ganseg_jax.models.build import build_discriminator, build_generator
from ganseg_jax.models.discriminator import Discriminator
from ganseg_jax.models.generator import Generator, GeneratorOutput
from ganseg_jax.models.initialise import init_variables
from ganseg_jax.report.sheets import sample_sheet
from ganseg_jax.training import batches, start
from ganseg_jax.training.augmentation import CHANGES, Change, change_images
from ganseg_jax.training.optimizer import adam, flat_norm
from ganseg_jax.training.stage import Schedule, Stage

Metrics = dict[str, Float[Array, ""]]

SHEET_SAMPLES = 16
"""Images in a picture of a stage."""


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
        changes_of(config.gan)
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


def changes_of(settings: GanSettings) -> tuple[Change, ...]:
    """Returns the names in `gan.discriminator_augment`.

    Raises:
      UserError: naming the one that is unknown.
    """
    given = settings.discriminator_augment
    changes = tuple(filter(None, (name.strip() for name in given.split(","))))
    for name in changes:
        if name not in CHANGES:
            raise UserError(
                f"gan.discriminator_augment={given!r}: {name!r} is none of {', '.join(CHANGES)}"
            )
    return cast(tuple[Change, ...], changes)


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


def _every(step: jax.Array, interval: int) -> jax.Array | bool:
    return True if interval == 1 else step % interval == 0


def _discriminator_gradients(
    gan: Gan, params: Any, real: Array, fake: Array, step: jax.Array
) -> tuple[Any, Metrics]:
    """Returns gradients of the discriminator's loss, the penalty's only if the step applies it."""
    s = gan.settings
    # One pass over both: the discriminator treats every image by itself.
    images = jnp.concatenate([real, fake])

    def logits_of(params: Any, images: Array) -> Array:
        logits: Any = gan.discriminator.apply({"params": params}, images)
        return logits

    def adversarial(params: Any) -> tuple[Array, Metrics]:
        real_logits, fake_logits = jnp.split(logits_of(params, images), 2)
        loss = losses.discriminator_adversarial(real_logits, fake_logits)
        return loss, {
            "discriminator": loss,
            "real_logit": jnp.mean(real_logits),
            "fake_logit": jnp.mean(fake_logits),
        }

    def penalty(params: Any) -> Array:
        each = losses.gradient_penalty(
            lambda x: logits_of(params, x), real, s.gradient_penalty.kind
        )
        return s.gradient_penalty.weight * jnp.mean(each)

    gradients, metrics = jax.grad(adversarial, has_aux=True)(params)
    if not s.gradient_penalty.weight:
        return gradients, metrics
    if s.gradient_penalty.interval == 1:
        value, extra = jax.value_and_grad(penalty)(params)
    else:
        value, extra = jax.lax.cond(
            _every(step, s.gradient_penalty.interval),
            jax.value_and_grad(penalty),
            lambda params: (jnp.zeros((), jnp.float32), jax.tree.map(jnp.zeros_like, params)),
            params,
        )
    return jax.tree.map(jnp.add, gradients, extra), metrics | {"gradient_penalty": value}


def without_area(settings: GanSettings) -> GanSettings:
    """Returns the settings without the area loss, for networks without points to say an area."""
    return dataclasses.replace(settings, area=dataclasses.replace(settings.area, weight=0.0))


def generator_penalties(
    settings: GanSettings, output: GeneratorOutput, step: jax.Array, grid: GridKind
) -> Metrics:
    """Returns weighted concentration and area losses of a batch, 0 in steps that skip them."""
    s = settings
    penalties: Metrics = {}
    if s.concentration.weight:
        each = losses.concentration(output.masks, output.part_centers, grid)  # [B, K]
        parts = 1 if s.concentration.reduction == "mean" else each.shape[1]
        weight: float | Array = s.concentration.weight
        if s.concentration.decay_until:
            steps = s.concentration.decay_until - s.concentration.decay_from
            done = jnp.clip((step - s.concentration.decay_from) / steps, 0.0, 1.0)
            weight *= 1.0 + (s.concentration.final_share - 1.0) * done
        applied = jnp.where(_every(step, s.concentration.interval), weight, 0.0)
        penalties["concentration"] = applied * parts * jnp.mean(each)
    if s.area.weight:
        form = (
            dict(points=output.points)
            if s.area.form == "released"
            else dict(heatmaps=output.heatmaps)
        )
        each = losses.area(output.masks, counted_at=s.area.counted_at or None, **form)
        applied = jnp.where(_every(step, s.area.interval), s.area.weight, 0.0)
        penalties["area"] = applied * jnp.mean(jnp.sum(each, axis=1))
    return penalties


def total(terms: Metrics) -> Array:
    """Returns the sum of a loss's terms."""
    return functools.reduce(jnp.add, terms.values())


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
    s, step = gan.settings, state.step
    changes = changes_of(s)

    def generate(params: Any, batch_stats: Any, latents: Latents) -> tuple[GeneratorOutput, Any]:
        variables = {"params": params, "batch_stats": batch_stats}
        output, mutated = gan.generator.apply(
            variables, latents, train=True, mutable=["batch_stats"]
        )
        return output, mutated["batch_stats"]

    def changed(name: str, images: Array) -> Array:
        if not changes:
            return images
        if augment_key is None:
            raise ValueError("discriminator_augment needs augment_key")
        return change_images(prng.stream(augment_key, name), images, changes)

    params, batch_stats = state.generator["params"], state.generator["batch_stats"]

    def forward(params: Any) -> tuple[GeneratorOutput, Any]:
        return generate(params, batch_stats, generator_latents)

    if s.share_fakes:
        output, pull_back, new_stats = jax.vjp(forward, params, has_aux=True)
        fake = output.image
    else:
        output, batch_stats = generate(params, batch_stats, discriminator_latents)
        fake = output.image
        output, pull_back, new_stats = jax.vjp(forward, params, has_aux=True)

    d_params = state.discriminator["params"]
    d_gradients, metrics = _discriminator_gradients(
        gan, d_params, changed("real", real), changed("fake", fake), step
    )
    d_updates, discriminator_opt = gan.discriminator_optimizer.update(
        d_gradients, state.discriminator_opt, d_params
    )
    d_params = optax.apply_updates(d_params, d_updates)

    def generator_loss(output: GeneratorOutput) -> tuple[Array, Metrics]:
        seen = changed("generator", output.image)
        logits: Any = gan.discriminator.apply({"params": d_params}, seen)
        terms = {"generator": losses.generator_adversarial(logits)}
        # Without points nothing says how large a part is to be.
        penalized = s if gan.generator.use_points else without_area(s)
        terms |= generator_penalties(penalized, output, step, gan.generator.grid)
        return total(terms), terms

    cotangent, terms = jax.grad(generator_loss, has_aux=True)(output)
    (g_gradients,) = pull_back(cotangent)
    g_updates, generator_opt = gan.generator_optimizer.update(
        g_gradients, state.generator_opt, params
    )
    generator = {"params": optax.apply_updates(params, g_updates), "batch_stats": new_stats}

    average = state.average
    if average is not None:
        average = optax.incremental_update(generator, average, 1.0 - s.ema_decay)
    metrics |= terms
    metrics |= {
        "generator_gradient_norm": flat_norm(g_gradients),
        "discriminator_gradient_norm": flat_norm(d_gradients),
    }
    state = dataclasses.replace(
        state,
        step=step + 1,
        generator=generator,
        discriminator={"params": d_params},
        generator_opt=generator_opt,
        discriminator_opt=discriminator_opt,
        average=average,
    )
    return state, metrics


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


def sheet_arrays(out: GeneratorOutput) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns what a sheet of samples shows, on the host."""
    image, masks, points, centers = jax.device_get(
        (out.image, out.masks, out.points, out.part_centers)
    )
    return image, masks, points, centers


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


def sheet_latents(config: Config) -> Latents:
    """Returns the latents that all pictures of a run show."""
    key = prng.stream(prng.root_key(config.seed), "sheet")
    return sample_latents(key, SHEET_SAMPLES, config.model.noise_dim)
