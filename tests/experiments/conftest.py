"""Entry points run in this process, and a workdir whose networks are as they were initialised."""

import contextlib
import importlib
import sys

import jax
import numpy as np
import pytest
from absl import flags

from configs import tiny
from ganseg_jax import settings
from ganseg_jax.training import checkpoint, gan, partition, segmenter


@contextlib.contextmanager
def _imported(name: str, arguments: list[str]):
    """An entry point with its flags parsed; afterwards, other ones may define the same flags."""
    import experiments.app  # noqa: F401  Its flags are everyone's.

    before = set(flags.FLAGS)
    module = importlib.import_module(f"experiments.{name}")
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
        del sys.modules[f"experiments.{name}"]


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
    settings.save_config(config, folder)
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
