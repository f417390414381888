"""The published `parameters.json`: which generator it stands for, and the one of a generator."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ganseg_jax.errors import UserError
from ganseg_jax.models.generator import Generator

# Fixed in the published code.
PUBLISHED = {
    "margin": 10,
    "spade_hidden": 128,
    "point_layers": 4,
    "point_divisor": 20.0,
    "grid": "corners",
    "background_shift": "horizontal",
    "use_points": True,
    "separate_background": True,
}
HEATMAPS = {0: ("gaussian", "norm_variance"), 1: ("linear", "mean_abs")}
HEADS = {0: "two_layer", 1: "single"}


def generator_settings(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of `Generator` that a published `parameters.json` stands for.

    Raises:
      UserError: a field is missing or has a value that was never published.
    """
    if "generator_log" in hyperparameters and "n_keypoints" not in hyperparameters:
        raise UserError(
            "parameters: these are the segmenter's; give those of its GAN, which lie in "
            f"{hyperparameters['generator_log']}"
        )
    sizes = _numbers(hyperparameters, "feature_map_sizes")
    image_size = _number(hyperparameters, "image_size")
    if sizes[-1] != image_size:
        raise UserError(
            f"parameters: feature_map_sizes end at {sizes[-1]}, but image_size is {image_size}"
        )
    heatmap, part_scale = _choice(hyperparameters, "use_linear", HEATMAPS)
    return {
        "num_parts": _number(hyperparameters, "n_keypoints"),
        "points_per_part": _number(hyperparameters, "n_per_kp"),
        "noise_dim": _number(hyperparameters, "z_dim"),
        "embedding_dim": _number(hyperparameters, "n_embedding"),
        "stage_sizes": sizes,
        "stage_channels": _numbers(hyperparameters, "feature_map_channels"),
        "heatmap": heatmap,
        "part_scale": part_scale,
        "head": _choice(hyperparameters, "single_final", HEADS),
        **PUBLISHED,
    }


def area_form(hyperparameters: Mapping[str, Any]) -> str:
    """Returns the area loss that a published generator was trained with, "paper" or "released"."""
    return _choice(hyperparameters, "smaller_init_mask", {0: "released", 1: "paper"})


def export_hyperparameters(module: Generator) -> dict[str, Any]:
    """Returns the `parameters.json` of a generator, as far as it describes the network.

    Raises:
      UserError: the generator has a setting that the published code does not know.
    """
    for name, value in PUBLISHED.items():
        if getattr(module, name) != value:
            raise UserError(
                f"model.{name} is {getattr(module, name)!r}; published code knows {value!r} only"
            )
    pair = (module.heatmap, module.part_scale)
    if pair not in HEATMAPS.values():
        known = " and ".join(f"{h} with {s}" for h, s in HEATMAPS.values())
        raise UserError(
            f"model.heatmap {pair[0]!r} with model.part_scale {pair[1]!r}; the published code only "
            f"knows {known}"
        )
    return {
        "z_dim": module.noise_dim,
        "n_keypoints": module.num_parts,
        "n_per_kp": module.points_per_part,
        "n_embedding": module.embedding_dim,
        "use_linear": [key for key, value in HEATMAPS.items() if value == pair][0],
        "image_size": module.image_size,
        "feature_map_sizes": ",".join(map(str, module.stage_sizes)),
        "feature_map_channels": ",".join(map(str, module.stage_channels)),
        "single_final": [key for key, value in HEADS.items() if value == module.head][0],
    }


# The stages that the published code builds whatever its parameters say, by words in `class_name`.
# The last has as many channels as an embedding.
_PUBLISHED_STAGES = {
    ("celeba", "taichi"): (512, 256, 128),
    ("flower", "cub"): (512, 256, 256, 128, 128),
}


def published_class(name: str, module: Generator, state_dict: Mapping[str, Any]) -> str | None:
    """Returns the `class_name` with which the published code rebuilds a generator.

    That code builds fixed stages if the name has a known word in it. For any other name, such as
    "custom", it keeps the hidden layers of each MLP and the middle mask blocks in one shared set of
    weights: of separate ones it would keep the last, without a word.

    Args:
      name: of the data set, which is kept if it will do.
      module: the generator.
      state_dict: as `export_generator` gives it.

    Returns:
      The name, or None if the published code has no network for these weights.
    """
    head, last = tuple(module.stage_channels[:-1]), module.stage_channels[-1]
    fitting = [
        words
        for words, stages in _PUBLISHED_STAGES.items()
        if head == stages and last == module.embedding_dim
    ]
    known = [words for words in _PUBLISHED_STAGES if any(word in name for word in words)]
    if known:
        return name if known[0] in fitting else None
    if _is_shared(state_dict, len(module.stage_channels)):
        return name
    return f"{name}_{fitting[0][0]}" if fitting else None


def _is_shared(state_dict: Mapping[str, Any], stages: int) -> bool:
    """Says whether the layers that the published code may share have equal weights."""
    layers = {
        "gen_keypoints_layer": range(4),
        "gen_keypoints_embedding_noise": range(3),
        "gen_background_embedding": range(3),
        "mask_spade_blocks": range(1, stages - 1),
    }
    groups = [[f"{name}.{i}." for i in numbers] for name, numbers in layers.items()]
    for first, *others in filter(None, groups):
        for key, value in state_dict.items():
            if key.startswith(first):
                same = (state_dict[key.replace(first, other, 1)] for other in others)
                if not all(np.array_equal(value, other) for other in same):
                    return False
    return True


def _field(hyperparameters: Mapping[str, Any], name: str) -> Any:
    if name not in hyperparameters:
        raise UserError(f"parameters: field {name!r} is missing")
    return hyperparameters[name]


def _number(hyperparameters: Mapping[str, Any], name: str) -> int:
    """Reads a whole number, which some files hold as 8.0 or "8"."""
    value = _field(hyperparameters, name)
    try:
        if float(value) == int(float(value)):
            return int(float(value))
    except (TypeError, ValueError, OverflowError):
        pass
    raise UserError(f"parameters: {name} must be a whole number, not {value!r}")


def _numbers(hyperparameters: Mapping[str, Any], name: str) -> tuple[int, ...]:
    """Reads several whole numbers, as a list or as text with commas, in brackets or not."""
    value = _field(hyperparameters, name)
    try:
        several = value.strip("[]() ").split(",") if isinstance(value, str) else value
        numbers = tuple(int(n) for n in several)
    except (TypeError, ValueError):
        numbers = ()
    if not numbers:
        raise UserError(f"parameters: {name} must be numbers with commas, not {value!r}")
    return numbers


def _choice(hyperparameters: Mapping[str, Any], name: str, choices: Mapping[int, Any]) -> Any:
    """Reads a flag, which some files hold as true or "1"."""
    value = _field(hyperparameters, name)
    words = {"true": 1, "false": 0, "1": 1, "0": 0, "1.0": 1, "0.0": 0}
    flag = words.get(str(value).strip().lower(), -1)
    if flag not in choices:
        raise UserError(f"parameters: {name} must be 0 or 1, not {value!r}")
    return choices[flag]
