"""What `experiments.few_shot` left in its folder F, ready for use: the U-Net and the head."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
from etils import epath

from ganseg_jax import prng
from ganseg_jax.checkpoints import Checkpoints
from ganseg_jax.config import few_shot as schema
from ganseg_jax.errors import UserError
from ganseg_jax.fewshot import autoshot, train
from ganseg_jax.fewshot.features import named_layers
from ganseg_jax.fewshot.heads import MLPHead, make_head, on_raw_features
from ganseg_jax.fewshot.source import LARGEST_MAP, Source
from ganseg_jax.loading import Segmenter
from ganseg_jax.models.unet import UNet


@dataclasses.dataclass(frozen=True)
class Head:
    """A trained few-shot head.

    Attributes:
      module: from features to logits.
      params: its parameters.
      classes: names, background first.
      source: the generator with the layers that the head reads.
    """

    module: nn.Module
    params: Any
    classes: tuple[str, ...]
    source: Source


def is_result(folder: str | Path) -> bool:
    """Whether `experiments.few_shot` wrote this folder, be it finished or not."""
    path = epath.Path(folder) / "config.json"
    return path.exists() and "auto_shot" in json.loads(path.read_text())


def load_segmenter(folder: str | Path) -> Segmenter:
    """The U-Net that was trained in F, as `ganseg_jax.Segmenter` with the class names.

    Photos are resized to the size of the generator's images, on which it was trained. It also
    runs at each photo's own size (set `image_size = None`), best between half and twice that size,
    which its augmentation covered.

    Raises:
      UserError: nothing was trained there, or training is not finished.
    """
    config = _config(folder)
    network = UNet(len(config["classes"]), config["unet_width"], config["unet_depth"])
    chosen = dict(config["auto_shot"])
    augmentation = dict(chosen.pop("augmentation"))
    augmentation["scale"] = tuple(augmentation["scale"])
    settings = schema.AutoShot(**chosen, augmentation=schema.Augmentation(**augmentation))
    size = config["image_size"]
    like = autoshot.init_state(network, size, settings)
    state = _restore(folder, "auto_shot", "auto-shot network", like, settings.num_steps)
    return Segmenter(network, state.variables, image_size=size, classes=config["classes"])


def load_head(folder: str | Path, module: nn.Module, variables: Any) -> Head:
    """The head that was trained in F on features of the generator `module`.

    Raises:
      UserError: nothing was trained there, training is not finished, or it was on the features
        of another generator.
    """
    config = _config(folder)
    layers = tuple(layer for layer in named_layers(module) if layer.path in config["layers"])
    if [layer.path for layer in layers] != config["layers"]:
        raise UserError(f"the head in {folder} was trained on features of another generator")
    source = Source(module, layers, max_size=LARGEST_MAP)
    latents = source.sample(variables, prng.root_key(0), 1)
    _, features = jax.eval_shape(source.generate, variables, latents)
    head = make_head(
        config["head_kind"], len(config["classes"]), config.get("mlp_hidden", MLPHead.hidden)
    )
    settings, shots = schema.Head(**config["head"]), len(config["images"])
    optimizer = train.make_optimizer(settings, shots)
    like = train.init_state(head, optimizer, features, settings.seed)
    state = _restore(folder, "head", "head", like, settings.epochs * shots)
    params = on_raw_features(config["head_kind"], state.params, state.statistics)
    return Head(head, params, tuple(config["classes"]), source)


def _config(folder: str | Path) -> dict[str, Any]:
    if not is_result(folder):
        raise UserError(
            f"{folder} holds no few-shot result: run `python -m experiments.few_shot` first"
        )
    return json.loads((epath.Path(folder) / "config.json").read_text())


def _restore(folder: str | Path, stage: str, name: str, like: Any, num_steps: int) -> Any:
    path = epath.Path(folder) / stage / "checkpoints"
    restored = None
    if path.exists():  # Otherwise it would be made.
        checkpoints = Checkpoints(path)
        restored = checkpoints.restore(like)
        checkpoints.close()
    step = restored[0] if restored else 0
    if step < num_steps:
        raise UserError(
            f"the {name} in {folder} is not finished ({step} of {num_steps} steps): "
            "give `python -m experiments.few_shot` the same arguments again, and it goes on"
        )
    return restored[1]
