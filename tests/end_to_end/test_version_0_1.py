"""What version 0.1 wrote still opens, gives the same numbers, and resumes.

`version_0_1.tar.xz` holds a workdir that commit 8d12e08 trained on 30 puppets of 16 px (8 steps of
the GAN, 4 of the segmenter, 4 of self-training, few-shot on 2 samples with its U-Net only), the
model that it packed from it, and in `outputs.npz` what that commit computed: outputs of what it
loads, the generator after 10 steps (resumed from 8), the segmenter after 6 (from 4).
"""

import pathlib
import tarfile

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from ganseg_jax import load_generator, load_segmenter, loading
from ganseg_jax.config import with_fields
from ganseg_jax.config.file import load_config
from ganseg_jax.config.setting import flat
from ganseg_jax.jobs import train
from ganseg_jax.latents import sample_latents

ARCHIVE = pathlib.Path(__file__).parent / "version_0_1.tar.xz"
# Other processors sum in another order.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture
def folder(tmp_path):
    with tarfile.open(ARCHIVE) as tar:
        tar.extractall(tmp_path, filter="data")
    return tmp_path


@pytest.fixture
def outputs(folder):
    return np.load(folder / "outputs.npz")


@pytest.mark.parametrize("name", ["w", "packed"])
def test_generator(name, folder, outputs):
    module, variables = load_generator(folder / name)
    latents = sample_latents(jax.random.key(3), 4, module.noise_dim)
    made = module.apply(variables, latents, train=False)
    for part in ("image", "masks", "points"):
        np.testing.assert_allclose(getattr(made, part), outputs[f"{name}/{part}"], **CLOSE)


@pytest.mark.parametrize("name", ["w", "packed", "w/few_shot"])
def test_segmenter(name, folder, outputs):
    segmenter = load_segmenter(folder / name)
    probabilities = segmenter.probabilities(outputs["photos"])
    np.testing.assert_allclose(probabilities, outputs[f"{name}/probabilities"], **CLOSE)
    assert segmenter.classes == (("background", "head", "torso") if "few" in name else None)


@pytest.mark.parametrize("stage, steps", [("gan", 10), ("segmenter", 6)])
def test_training_resumes(stage, steps, folder, outputs, puppets_dir):
    workdir, field = folder / "w", f"{stage}.num_steps"
    config = load_config(workdir)
    assert flat(config)[field] < steps
    config = with_fields(config, {field: steps, "dataset.data_dir": str(puppets_dir)})

    def parameters():
        if stage == "gan":
            variables = loading.restore_generator(config, workdir)
        else:
            variables = loading.restore_segmenter(config, workdir, state=loading.State("segmenter"))
        return flatten_dict(variables["params"], sep="/")

    before = parameters()
    train.train_stages(config, workdir, [stage], {field})
    after, prefix = parameters(), f"{stage}_{steps}/"
    expected = {n.removeprefix(prefix): x for n, x in outputs.items() if n.startswith(prefix)}
    assert after.keys() == expected.keys()

    # Adam turns rounding of the smallest gradients into whole steps, so single numbers may differ.
    def moved(to):
        return np.concatenate([(to[name] - before[name]).ravel() for name in before])

    ours, theirs = moved(after), moved(expected)
    assert ours @ theirs > 0.99 * np.linalg.norm(ours) * np.linalg.norm(theirs) > 0
