"""Entry points run in this process, and a workdir whose networks are as they were initialised."""

import contextlib
import dataclasses
import importlib
import json
import sys

import jax
import numpy as np
import pytest
from absl import flags

from configs import tiny
from ganseg_jax import checkpoints as checkpoint
from ganseg_jax import loading as inference
from ganseg_jax.config import file as config_file
from ganseg_jax.fewshot import autoshot, pipeline, train
from ganseg_jax.fewshot.heads import make_head
from ganseg_jax.fewshot.source import Source
from ganseg_jax.files import write_whole
from ganseg_jax.models import build as settings
from ganseg_jax.models.unet import UNet
from ganseg_jax.training import gan, partition, segmenter


@contextlib.contextmanager
def _imported(name: str, arguments: list[str]):
    """An entry point with its flags parsed; afterwards, other ones may define the same flags."""
    import ganseg_jax.cli.app  # noqa: F401  Its flags are everyone's.

    before = set(flags.FLAGS)
    module = importlib.import_module(f"ganseg_jax.cli.{name}")
    try:
        with pytest.MonkeyPatch.context() as patch:
            # Overrides of the config are looked for there.
            patch.setattr(sys, "argv", [name, *arguments])
            flags.FLAGS(sys.argv)
        yield module
    finally:
        flags.FLAGS.unparse_flags()
        for flag in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, flag)
        del sys.modules[f"ganseg_jax.cli.{name}"]


@pytest.fixture
def entry_point():
    """Imports experiments.NAME with flags given as keywords; each call ends the one before."""
    with contextlib.ExitStack() as stack:

        def enter(name: str, **given):
            stack.close()
            arguments = [f"--{flag}={value}" for flag, value in given.items()]
            return stack.enter_context(_imported(name, arguments))

        yield enter


@pytest.fixture(scope="session")
def workdir(tmp_path_factory):
    """A workdir with checkpoints of both stages of configs/tiny.py, trained not at all."""
    folder = tmp_path_factory.mktemp("workdir")
    config = tiny.get_config()
    config_file.save_config(config, folder)
    states = {
        "gan": gan.init_state(settings.build_gan(config), seed=0),
        "segmenter": segmenter.init_state(settings.build_segmentation(config), seed=0),
    }
    whole = partition.replicated(partition.make_mesh(jax.local_devices()[:1]))
    for stage, state in states.items():
        checkpoints = checkpoint.Checkpoints(folder / stage / "checkpoints")
        checkpoints.save(0, partition.place(jax.tree.map(np.asarray, state), whole))
        checkpoints.close()
    return folder


@pytest.fixture(scope="session")
def few_shot(workdir):
    """The name of a folder in it as `experiments.few_shot` leaves it, trained not at all."""
    generator, variables = inference.load_generator(workdir)
    source, classes = Source.of(generator, ["mask"]), ["background", "round", "long"]
    chosen = pipeline.FewShotSettings(
        "mlp",
        mlp_hidden=(8, 8),
        unet_width=2,
        unet_depth=2,
        head=train.HeadSettings(epochs=1),
        auto_shot=autoshot.AutoShotSettings(num_samples=16, num_steps=1),
    )
    folder = workdir / "few_shot"
    content = dataclasses.asdict(chosen) | {
        "classes": classes,
        "images": ["sample_0000"],
        "layers": [layer.path for layer in source.layers],
        "image_size": 16,
    }
    write_whole(folder / "config.json", json.dumps(content))
    latents = source.sample(variables, jax.random.key(0), 1)
    _, features = jax.eval_shape(source.generate, variables, latents)
    optimizer = train.make_optimizer(chosen.head, 1)
    states = {
        "head": train.init_state(make_head("mlp", 3, chosen.mlp_hidden), optimizer, features, 0),
        "auto_shot": autoshot.init_state(UNet(3, 2, 2), 16, chosen.auto_shot),
    }
    for stage, state in states.items():
        checkpoints = checkpoint.Checkpoints(folder / stage / "checkpoints")
        checkpoints.save(1, state)
        checkpoints.close()
    return folder.name
