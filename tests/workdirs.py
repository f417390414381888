"""Entry points run in this process, and a workdir whose networks are as they were initialised."""

import contextlib
import dataclasses
import importlib
import os
import sys

import jax
import numpy as np
import pytest
from absl import flags

from ganseg_jax import files, loading
from ganseg_jax.config import few_shot as schema
from ganseg_jax.config.file import save_config
from ganseg_jax.data import prepare
from ganseg_jax.data.builders.puppets.builder import Puppets
from ganseg_jax.fewshot import autoshot, train
from ganseg_jax.fewshot.heads import make_head
from ganseg_jax.fewshot.source import Source
from ganseg_jax.models.unet import UNet
from ganseg_jax.training import checkpoint, gan, partition, segmenter
from tests.one_stage import WITH_ONE_STAGE
from tests.tiny_config import config_with


@contextlib.contextmanager
def _imported(name: str, arguments: list[str]):
    """An entry point with its flags parsed; afterwards, other ones may define the same flags."""
    import ganseg_jax.cli.app  # noqa: F401  Its flags are everyone's.

    before = set(flags.FLAGS)
    path = f"ganseg_jax.cli.{name}"
    module = importlib.import_module(path)
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
        del sys.modules[path]


@pytest.fixture
def entry_point():
    """Imports `ganseg_jax.cli.NAME` with flags given as keywords.

    Each call ends the one before.
    """
    with contextlib.ExitStack() as stack:

        def enter(name: str, *overrides: str, **given):
            stack.close()
            arguments = [*(f"--{flag}={value}" for flag, value in given.items()), *overrides]
            return stack.enter_context(_imported(name, arguments))

        yield enter


@pytest.fixture(scope="session")
def puppets_dir(tmp_path_factory):
    """A data folder with 46 puppets, prepared once for all workers."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Puppets, "EXPECTED_COUNTS", {"train": 30, "validation": 6, "test": 10})
        prepare.prepare("puppets", None, shared / "puppets_data")
    return shared / "puppets_data"


def save_checkpoint(state, folder, step=0):
    """Writes a state as the checkpoint of a stage."""
    whole = partition.replicated(partition.make_mesh(jax.local_devices()[:1]))
    checkpoints = checkpoint.Checkpoints(folder / "checkpoints")
    checkpoints.save(step, partition.place(jax.tree.map(np.asarray, state), whole))
    checkpoints.close()


def save_untrained(config, workdir):
    """Writes GAN and segmenter as they begin."""
    save_checkpoint(gan.init_state(gan.Gan.of(config), seed=0), workdir / "gan")
    segmentation = segmenter.Segmentation.of(config)
    save_checkpoint(segmenter.init_state(segmentation, seed=0), workdir / "segmenter")


@pytest.fixture(scope="session")
def workdir(tmp_path_factory):
    """A workdir with checkpoints of both stages, of one generator stage, trained not at all."""
    folder, config = tmp_path_factory.mktemp("workdir"), config_with(**WITH_ONE_STAGE)
    save_config(config, folder)
    save_untrained(config, folder)
    return folder


@pytest.fixture(scope="session")
def few_shot(workdir):
    """The name of a folder in it as `experiments.few_shot` leaves it, trained not at all."""
    generator, variables = loading.load_generator(workdir)
    source, classes = Source.of(generator, ["mask"]), ["background", "round", "long"]
    chosen = schema.FewShot(
        "mlp",
        mlp_hidden=(8, 8),
        unet_width=2,
        unet_depth=2,
        head=schema.Head(epochs=1),
        auto_shot=schema.AutoShot(num_samples=16, num_steps=1),
    )
    folder = workdir / "few_shot"
    content = dataclasses.asdict(chosen) | {
        "classes": classes,
        "images": ["sample_0000"],
        "layers": [layer.path for layer in source.layers],
        "image_size": 16,
    }
    files.write_json(folder / "config.json", content)
    latents = source.sample(variables, jax.random.key(0), 1)
    _, features = jax.eval_shape(source.generate, variables, latents)
    head = make_head("mlp", 3, chosen.mlp_hidden)
    optimizer = train.make_optimizer(chosen.head, 1)
    save_checkpoint(train.init_state(head, optimizer, features, 0), folder / "head", step=1)
    auto_shot = autoshot.init_state(UNet(3, 2, 2), 16, chosen.auto_shot)
    save_checkpoint(auto_shot, folder / "auto_shot", step=1)
    return folder.name
