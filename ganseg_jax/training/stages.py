"""The two stages of the method, from a config and a workdir."""

import functools
import logging
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from clu import parameter_overview
from etils import epath
from jax.sharding import Mesh, NamedSharding

from ganseg_jax import checkpoints as checkpoint
from ganseg_jax import prng
from ganseg_jax.config import Config
from ganseg_jax.data import pipeline, prepare
from ganseg_jax.errors import UserError
from ganseg_jax.interop import torch_deeplab
from ganseg_jax.latents import sample_latents
from ganseg_jax.report.sheets import sample_sheet, segmentation_sheet
from ganseg_jax.training import gan, loop, partition, photos, segmenter, self_training

LOG = logging.getLogger(__name__)

SHEET_SAMPLES = 16


def ensure_data(config: Config) -> None:
    """Prepares the config's data set where that needs nothing but `dataset.source`.

    Raises:
      UserError: where it is not prepared and no source is given.
    """
    dataset = config.dataset
    if jax.process_index() == 0:
        prepared = prepare.prepare(
            dataset.name, dataset.source or None, dataset.data_dir, progress=True
        )
        if not prepared.already:
            LOG.info("%s", prepared)
    partition.wait_for_all("data prepared")


def train_gan(config: Config, workdir: str) -> gan.GanState:
    """Trains the GAN, or goes on with it; see `loop.run` for what it writes and raises."""
    networks = gan.Gan.of(config)
    retry, on_devices = config.gan.on_nonfinite == "retry", config.dataset.cache == "device"
    mesh = partition.make_mesh()
    partition.check_batch_size(config.gan.batch_size, mesh, "gan.batch_size")
    ensure_data(config)
    check_set_size(config, "gan")
    place_photos = photos.on_devices if on_devices else photos.from_host
    source = place_photos(config, mesh, config.gan.batch_size)
    whole = partition.replicated(mesh)
    root = _root(config, whole)
    state = gan.init_state(networks, config.seed)
    shardings = state_shardings(config, state, mesh)
    state = partition.place(state, shardings)
    for name in ("generator", "discriminator"):
        count = parameter_overview.count_parameters(getattr(state, name)["params"])
        LOG.info("%s: %s parameters", name, f"{count:,}")
    step = gan_program(networks, source, shardings, mesh)
    step = partition.compile_together(step, root, state, source.example)
    generator, latents = networks.generator, sheet_latents(config)
    sample = jax.jit(
        lambda variables: generator.apply(variables, latents, train=False), out_shardings=whole
    )

    def draw(state: gan.GanState) -> np.ndarray:
        out = jax.device_get(sample(state.sampling_variables))
        return sample_sheet(out.image, out.masks, out.points, out.part_centers, grid=generator.grid)

    def refolded(fold: int) -> Any:
        root = _root(config, whole, fold)
        return lambda state, given: step(root, state, given)

    stage = loop.Stage(
        name="gan",
        **schedule(config.gan),
        step=refolded(0),
        refolded=refolded,
        retry=retry,
        state=state,
        data=source.data,
        to_batch=source.to_argument,
        draw=draw,
    )
    return loop.run(stage, workdir)


def gan_program(
    networks: gan.Gan, source: photos.Photos, shardings: Any, mesh: Mesh
) -> Callable[..., Any]:
    """The jitted step (root key, state, what `source` gives) -> (state, scalars).

    Args:
      networks: networks and settings.
      source: of the photos.
      shardings: of the state: one for all of it, or one for each leaf.
      mesh: the devices.
    """
    whole, split = partition.replicated(mesh), partition.batch_split(mesh)

    def step(root: jax.Array, state: gan.GanState, given: Any) -> tuple[gan.GanState, gan.Metrics]:
        if not isinstance(shardings, NamedSharding):
            state = state.replace(
                generator=partition.gathered(state.generator, mesh),
                discriminator=partition.gathered(state.discriminator, mesh),
            )
        return gan.step(networks, root, state, source.draw(given, state.step), split)

    return jax.jit(
        step,
        in_shardings=(whole, shardings, source.sharding),
        out_shardings=(shardings, whole),
        donate_argnums=1,
    )


def train_segmenter(config: Config, workdir: str) -> segmenter.SegmenterState:
    """Trains the segmenter on the workdir's generator, or goes on with it."""
    networks = segmenter.Segmentation.of(config)
    retry = config.segmenter.on_nonfinite == "retry"
    mesh = partition.make_mesh()
    partition.check_batch_size(config.segmenter.batch_size, mesh, "segmenter.batch_size")
    whole, split = partition.replicated(mesh), partition.batch_split(mesh)
    teacher = partition.place(restore_generator(config, workdir), whole)
    root = _root(config, whole)
    state = segmenter.init_state(networks, config.seed)
    if config.segmenter.backbone_checkpoint:
        from ganseg_jax.interop import weights

        _, backbone = torch_deeplab.load_backbone(
            weights.read(config.segmenter.backbone_checkpoint)
        )
        variables = torch_deeplab.with_backbone(state.segmenter, backbone)
        state = segmenter.state_from_variables(networks, variables)
    shardings = state_shardings(config, state, mesh)
    state = partition.place(state, shardings)

    def update(root: jax.Array, teacher: Any, state: segmenter.SegmenterState) -> Any:
        if not isinstance(shardings, NamedSharding):
            state = state.replace(segmenter=partition.gathered(state.segmenter, mesh))
        return segmenter.step(networks, root, teacher, split, state)

    step = jax.jit(
        update,
        in_shardings=(whole, whole, shardings),
        out_shardings=(shardings, whole),
        donate_argnums=2,
    )
    step = partition.compile_together(step, root, teacher, state)
    latents = sheet_latents(config)

    @functools.partial(jax.jit, out_shardings=whole)
    def predict(teacher: Any, variables: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        samples = networks.generator.apply(teacher, latents, train=False)
        logits = networks.segmenter.apply(variables, samples.image, train=False)
        return samples.image, jnp.argmax(logits, -1), jnp.argmax(samples.masks, -1)

    def draw(state: segmenter.SegmenterState) -> np.ndarray:
        images, predicted, masks = jax.device_get(predict(teacher, state.segmenter))
        images = np.round((images + 1) * 127.5).clip(0, 255).astype(np.uint8)
        return segmentation_sheet(images, predicted, masks)

    def refolded(fold: int) -> Any:
        root = _root(config, whole, fold)
        return lambda state, _: step(root, teacher, state)

    stage = loop.Stage(
        name="segmenter",
        **schedule(config.segmenter),
        step=refolded(0),
        refolded=refolded,
        retry=retry,
        state=state,
        draw=draw,
    )
    return loop.run(stage, workdir)


def restore_generator(config: Config, workdir: str) -> Any:
    """The trained generator's variables, to sample with, on the host.

    Raises:
      UserError: where there is no finished or unfinished GAN in the workdir.
    """
    networks = gan.Gan.of(config)
    state = restore_state("gan", gan.init_state(networks, config.seed), workdir)
    return jax.device_get(state.sampling_variables)


def restore_segmenter(config: Config, workdir: str, self_trained: bool = True) -> Any:
    """The trained segmenter's variables, on the host.

    Args:
      config: of the run.
      workdir: of the run.
      self_trained: those after self-training, where the workdir has begun with it.
    """
    state = segmenter.init_state(segmenter.Segmentation.of(config), config.seed)
    if self_trained and (epath.Path(workdir) / self_training.NAME / "checkpoints").exists():
        networks = self_training.of_config(config)
        whole = self_training.state_from_variables(networks, state.segmenter)
        state = restore_state(self_training.NAME, whole, workdir).student
    else:
        state = restore_state("segmenter", state, workdir)
    return jax.device_get(state.segmenter)


def restore_state(stage: str, like: Any, workdir: str) -> Any:
    """The newest state of a stage, of the shapes of `like`, on one device.

    Raises:
      UserError: where the stage was never begun, or its checkpoints do not fit.
    """
    folder = epath.Path(workdir) / stage / "checkpoints"
    if not folder.exists():
        raise UserError(
            f"{workdir} has no {stage} checkpoint yet: run `python -m experiments.train_{stage}` "
            f"with --workdir={workdir}"
        )
    checkpoints = checkpoint.Checkpoints(folder)
    whole = partition.replicated(partition.make_mesh(jax.local_devices()[:1]))
    restored = checkpoints.restore(partition.place(like, whole))
    checkpoints.close()
    if restored is None:
        raise UserError(f"{folder} holds no complete checkpoint: train the {stage} stage first")
    return restored[1]


def state_shardings(config: Config, state: Any, mesh: Mesh) -> Any:
    """Of a stage's state: one for all of it or, with `partition.fsdp`, one for each leaf."""
    if config.partition.fsdp:
        return partition.fully_sharded(state, mesh)
    return partition.replicated(mesh)


def _root(config: Config, sharding: Any, fold: int = 0) -> jax.Array:
    return partition.place_key(prng.root_key(config.seed, fold), sharding)


def sheet_latents(config: Config) -> Any:
    """The latents that all sheets of a run show."""
    key = prng.stream(prng.root_key(config.seed), "sheet")
    return sample_latents(key, SHEET_SAMPLES, config.model.noise_dim)


def schedule(section: Any) -> dict[str, int]:
    """The fields of `loop.Stage` that a stage's section of the config holds."""
    names = ("num_steps", "checkpoint_every", "log_every", "sample_every")
    return {name: getattr(section, name) for name in names}


def check_set_size(config: Config, section: str) -> None:
    """Raises `UserError` where a stage's batch has more photos than there are to train on."""
    count = pipeline.split_sizes(config.dataset.name, config.dataset.data_dir)["train"]
    batch_size = getattr(config, section).batch_size
    if count < batch_size:
        raise UserError(
            f"{section}.batch_size={batch_size} is larger than the {count} "
            f"training images of {config.dataset.name}: choose at most {count}, or add images"
        )
