"""Training of an auto-encoder, in place of GAN and segmenter, from a config and a workdir."""

import logging
from typing import Any

import jax
import numpy as np
from clu import parameter_overview

from ganseg_jax import prng
from ganseg_jax.config import Config
from ganseg_jax.data import pipeline
from ganseg_jax.models.autoencoder import MaskReader
from ganseg_jax.report.sheets import sample_sheet
from ganseg_jax.training import autoencoder, loop, partition, photos, stages
from ganseg_jax.training.gan import to_unit_range

LOG = logging.getLogger(__name__)

NAME = "autoencoder"


def train_autoencoder(config: Config, workdir: str) -> autoencoder.AutoEncoderState:
    """Trains the auto-encoder, or goes on with it; see `loop.run` for what it writes and raises.

    Steps, batch, intervals, Adam and penalties are those of `config.gan`.
    """
    autoencoding = autoencoder.AutoEncoding.of(config)
    mesh = partition.make_mesh()
    partition.check_batch_size(config.gan.batch_size, mesh, "gan.batch_size")
    stages.ensure_data(config)
    stages.check_set_size(config, "gan")
    on_devices = config.dataset.cache == "device"
    place_photos = photos.on_devices if on_devices else photos.from_host
    source = place_photos(config, mesh, config.gan.batch_size)
    whole = partition.replicated(mesh)
    root = partition.place_key(prng.root_key(config.seed), whole)
    state = partition.place(autoencoder.init_state(autoencoding, config.seed), whole)
    count = parameter_overview.count_parameters(state.autoencoder["params"])
    LOG.info("%s: %s parameters", NAME, f"{count:,}")

    def draw_and_step(root: jax.Array, state: Any, given: Any) -> Any:
        return autoencoder.step(autoencoding, root, state, source.draw(given, state.step))

    step = jax.jit(
        draw_and_step,
        in_shardings=(whole, whole, source.sharding),
        out_shardings=whole,
        donate_argnums=1,
    )
    step = partition.compile_together(step, root, state, source.example)
    dataset, network = config.dataset, autoencoding.network
    shown = pipeline.load_split(
        dataset.name, dataset.data_dir, "train", config.image_size, stages.SHEET_SAMPLES
    ).images
    reconstruct = jax.jit(lambda v, x: network.apply(v, to_unit_range(x), train=False))

    def draw(state: autoencoder.AutoEncoderState) -> np.ndarray:
        out = jax.device_get(reconstruct(state.autoencoder, shown))
        return sample_sheet(
            out.image,
            out.masks,
            out.points,
            out.part_centers,
            grid=network.generator.grid,
            photos=shown,
        )

    stage = loop.Stage(
        name=NAME,
        **stages.schedule(config.gan),
        step=lambda state, given: step(root, state, given),
        state=state,
        data=source.data,
        to_batch=source.to_argument,
        draw=draw,
    )
    return loop.run(stage, workdir)


def restore_reader(config: Config, workdir: str) -> tuple[MaskReader, Any]:
    """The trained auto-encoder as a segmenter: module and variables, on the host.

    Raises:
      UserError: where none was trained in the workdir.
    """
    autoencoding = autoencoder.AutoEncoding.of(config)
    like = autoencoder.init_state(autoencoding, config.seed)
    state = jax.device_get(stages.restore_state(NAME, like, workdir))
    return MaskReader(autoencoding.network), MaskReader.variables_of(state.autoencoder)
