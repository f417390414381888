"""The head that `experiments.few_shot` left in its folder F, ready for use."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from etils import epath

from ganseg_jax import prng
from ganseg_jax.errors import UserError
from ganseg_jax.fewshot.features import ChannelStatistics, named_layers
from ganseg_jax.fewshot.heads import kind_of, make_head, on_raw_features
from ganseg_jax.fewshot.source import LARGEST_MAP, Source
from ganseg_jax.loading import few_shot_config, restore_few_shot


@dataclasses.dataclass(frozen=True)
class Head:
    """Holds a trained few-shot head.

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


def has_head(folder: epath.PathLike) -> bool:
    """Says whether a head belongs to a few-shot folder: one that learned from photos has none."""
    settings, facts = few_shot_config(folder)
    alone = bool(facts.get("photos_used")) and settings.photos.use == "alone"
    return bool(facts["images"]) and not alone


def load_head(folder: epath.PathLike, module: nn.Module, variables: Any) -> Head:
    """Loads the head that was trained in F on features of the generator `module`.

    Raises:
      UserError: nothing was trained there, training is not finished, or it was on the features
        of another generator.
    """
    settings, facts = few_shot_config(folder)
    if not has_head(folder):
        raise UserError(f"{folder} has no head: its U-Net learned from labelled photos alone")
    layers = tuple(layer for layer in named_layers(module) if layer.path in facts["layers"])
    if [layer.path for layer in layers] != facts["layers"]:
        raise UserError(f"the head in {folder} was trained on features of another generator")
    source = Source(module, layers, max_size=LARGEST_MAP)
    latents = source.sample(variables, prng.root_key(0), 1)
    _, features = jax.eval_shape(source.generate, variables, latents)
    head = make_head(kind_of(settings), len(facts["classes"]), settings.mlp_hidden)
    params = jax.eval_shape(lambda x: head.init(jax.random.key(0), x), features)["params"]
    channels = [jax.ShapeDtypeStruct(x.shape[-1:], jnp.float32) for x in features]
    like = {"params": params, "statistics/mean": channels, "statistics/deviation": channels}
    steps = settings.head.epochs * settings.head.steps_per_epoch(len(facts["images"]))
    state = restore_few_shot(folder, "head", "head", like, steps)
    by = ChannelStatistics(tuple(state["statistics/mean"]), tuple(state["statistics/deviation"]))
    params = on_raw_features(kind_of(settings), state["params"], by)
    return Head(head, params, tuple(facts["classes"]), source)
