"""Self-training of a workdir's segmenter on the training photos, from a config and a workdir."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from ganseg_jax import prng
from ganseg_jax.config import Config
from ganseg_jax.data import pipeline
from ganseg_jax.report.sheets import segmentation_sheet
from ganseg_jax.training import loop, partition, photos, self_training, stages
from ganseg_jax.training.gan import to_unit_range


def self_train(config: Config, workdir: str) -> self_training.SelfTrainingState:
    """Goes on training the trained segmenter, on photos too; see `loop.run`.

    Raises:
      UserError: as `loop.run` does, and where there is no segmenter to begin with.
    """
    networks = self_training.of_config(config)
    retry = config.self_training.on_nonfinite == "retry"
    on_devices = config.dataset.cache == "device"
    batch_size, mesh = config.self_training.batch_size, partition.make_mesh()
    partition.check_batch_size(batch_size, mesh, "self_training.batch_size")
    stages.ensure_data(config)
    stages.check_set_size(config, self_training.NAME)
    source = (photos.on_devices if on_devices else photos.from_host)(config, mesh, batch_size)
    whole, split = partition.replicated(mesh), partition.batch_split(mesh)
    generator = partition.place(stages.restore_generator(config, workdir), whole)
    trained = stages.restore_segmenter(config, workdir, self_trained=False)
    state = self_training.state_from_variables(networks, trained)
    shardings = stages.state_shardings(config, state, mesh)
    state = partition.place(state, shardings)

    def update(
        root: jax.Array, generator: Any, state: self_training.SelfTrainingState, given: Any
    ) -> Any:
        drawn = source.draw(given, state.step)["image"]
        if not isinstance(shardings, NamedSharding):
            segmenter = partition.gathered(state.student.segmenter, mesh)
            state = state.replace(
                student=state.student.replace(segmenter=segmenter),
                teacher=partition.gathered(state.teacher, mesh),
            )
        refine = config.self_training.refine_labels
        return self_training.step(
            networks, root, generator, split, state, drawn, refine_labels=refine
        )

    step = jax.jit(
        update,
        in_shardings=(whole, whole, shardings, source.sharding),
        out_shardings=(shardings, whole),
        donate_argnums=2,
    )
    root = partition.place_key(prng.root_key(config.seed), whole)
    step = partition.compile_together(step, root, generator, state, source.example)
    dataset = config.dataset
    shown = pipeline.load_split(
        dataset.name, dataset.data_dir, "train", config.image_size, stages.SHEET_SAMPLES
    ).images

    @functools.partial(jax.jit, out_shardings=whole)
    def predict(variables: Any) -> jax.Array:
        logits = networks.segmenter.apply(variables, to_unit_range(shown), train=False)
        return jnp.argmax(logits, -1)

    def draw(state: self_training.SelfTrainingState) -> np.ndarray:
        return segmentation_sheet(shown, jax.device_get(predict(state.student.segmenter)))

    def refolded(fold: int) -> Any:
        root = partition.place_key(prng.root_key(config.seed, fold), whole)
        return lambda state, given: step(root, generator, state, given)

    stage = loop.Stage(
        name=self_training.NAME,
        **stages.schedule(config.self_training),
        step=refolded(0),
        refolded=refolded,
        retry=retry,
        state=state,
        data=source.data,
        to_batch=source.to_argument,
        draw=draw,
    )
    return loop.run(stage, workdir)
