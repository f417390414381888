"""Training of a few-shot head on the features of one to ten labelled images.

optimizer = make_optimizer(settings, settings.steps_per_epoch(len(labels)))
state = init_state(head, optimizer, features, settings.seed)
for _ in range(settings.epochs * settings.steps_per_epoch(len(labels))):
    state, loss = train_step(head, optimizer, state, features, labels, order_key)
"""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, UInt8

from ganseg_jax import prng
from ganseg_jax.config import few_shot as schema
from ganseg_jax.fewshot.features import (
    ChannelStatistics,
    Features,
    largest,
    standardize,
    statistics,
    unit_statistics,
)
from ganseg_jax.models.initialise import init_variables
from ganseg_jax.pixels import UNLABELLED, resize_labels
from ganseg_jax.training.stage import Schedule, Stage


def cross_entropy(logits: Float[Array, "b h w c"], labels: Int[Array, "b h w"]) -> Float[Array, ""]:
    """Returns the mean over the labelled pixels; 0 if there are none."""
    labelled = labels != UNLABELLED
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(labelled, labels, 0))
    return jnp.sum(losses * labelled) / jnp.maximum(jnp.sum(labelled), 1)


def make_optimizer(settings: schema.Head, steps_per_epoch: int) -> optax.GradientTransformation:
    """Returns Adam with weight decay in the gradient and a learning rate that falls in stairs."""
    schedule = optax.exponential_decay(
        settings.learning_rate,
        transition_steps=settings.decay_every * steps_per_epoch,
        decay_rate=settings.decay,
        staircase=True,
    )
    return optax.chain(optax.add_decayed_weights(settings.weight_decay), optax.adam(schedule))


@flax.struct.dataclass
class HeadState:
    """Holds what changes from step to step, and what the features were standardised by.

    Attributes:
      step: updates done so far.
      params: of the head on standardised features (see `heads.on_raw_features`).
      optimizer: Adam's state.
      statistics: of the raw features; stays as it is.
    """

    step: Int[Array, ""]
    params: Any
    optimizer: Any
    statistics: ChannelStatistics


@functools.partial(jax.jit, static_argnames=("head", "optimizer", "whole_set"), donate_argnums=2)
def train_step(
    head: nn.Module,
    optimizer: optax.GradientTransformation,
    state: HeadState,
    features: Features,
    labels: Int[Array, "n h w"],
    order_key: jax.Array,
    whole_set: bool = False,
) -> tuple[HeadState, Float[Array, ""]]:
    """Updates on one image, or on all; every epoch visits the images in an order of its own.

    The features of all images stay on the device. Steps are not rolled into one `lax.scan`: there
    XLA computes the convolutions' weight gradients about ten times slower on CPUs, and elsewhere
    a step is long compared with its launch.

    Returns:
      The new state, and the loss before the step.
    """
    count = labels.shape[0]
    if whole_set:
        maps, truth = list(features), labels
    else:
        order = jax.random.permutation(jax.random.fold_in(order_key, state.step // count), count)
        index = order[state.step % count]
        maps = [jax.lax.dynamic_slice_in_dim(x, index, 1) for x in features]
        truth = jax.lax.dynamic_slice_in_dim(labels, index, 1)

    def loss_of(params):
        logits: Any = head.apply({"params": params}, maps)
        return cross_entropy(logits, truth)

    loss, gradients = jax.value_and_grad(loss_of)(state.params)
    updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.params)
    params = optax.apply_updates(state.params, updates)
    return HeadState(state.step + 1, params, optimizer_state, state.statistics), loss


def init_state(
    head: nn.Module,
    optimizer: optax.GradientTransformation,
    features: Features,
    seed: int,
    by: ChannelStatistics | None = None,
) -> HeadState:
    """Returns the state before the first step; only the shapes of `features` are used.

    Without `by`, their statistics, the features are taken as they are.
    """
    shapes = [jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype) for x in features]
    variables = init_variables(head, seed, shapes)
    params = jax.tree.map(jnp.asarray, variables["params"])
    by = unit_statistics(features) if by is None else by
    return HeadState(jnp.int32(0), params, jax.jit(optimizer.init)(params), by)


def declare(
    settings: schema.FewShot,
    head: nn.Module,
    features: Features,
    labels: UInt8[np.ndarray, "n h w"],
    made_from: Mapping[str, Any],
) -> Stage:
    """Returns the stage that trains the head on the features of labelled images.

    Args:
      settings: of few-shot segmentation.
      head: the network.
      features: raw, of all labelled images.
      labels: class of every pixel, at any size.
      made_from: what features and labels are made from; see `training.inputs`.
    """
    chosen, count = settings.head, settings.head.steps_per_epoch(len(labels))
    by = None
    if chosen.standardize:
        by = jax.jit(statistics)(features)
        features = jax.jit(standardize, donate_argnums=0)(features, by)
    targets = np.int32(resize_labels(labels, *largest(features)))
    optimizer = make_optimizer(chosen, count)
    order_key = prng.stream(prng.root_key(chosen.seed), "order")

    def step(root: Any, constants: Any, state: HeadState, batch: Any, split: Any) -> Any:
        state, loss = train_step(
            head, optimizer, state, *constants, order_key, whole_set=chosen.whole_set
        )
        return state, {"loss": loss}

    return Stage(
        name="head",
        schedule=Schedule(
            num_steps=chosen.epochs * count,
            checkpoint_every=settings.checkpoint_every,
            log_every=settings.log_every,
            sample_every=settings.checkpoint_every,
        ),
        seed=chosen.seed,
        init=lambda: init_state(head, optimizer, features, chosen.seed, by),
        step=step,
        constants=(features, targets),
        inputs=made_from,
        parallel=False,
    )
