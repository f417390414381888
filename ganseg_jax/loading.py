"""Every way to load a trained network: `load_generator`, `load_segmenter`.

Networks come from a run's workdir, a few-shot folder or a packed model, which a model hub may have
(`hf://owner/name`). Nothing is drawn, and only
the weights that are asked for are read.
"""

import json
from typing import TYPE_CHECKING, Any

from etils import epath

from ganseg_jax import packed, parts, runtime
from ganseg_jax.config import Config
from ganseg_jax.config import file as config_file
from ganseg_jax.config.convert import from_mapping
from ganseg_jax.config.few_shot import FewShot
from ganseg_jax.config.states import NEWEST, State, Weights, part_of
from ganseg_jax.errors import UserError, command
from ganseg_jax.files import resolve
from ganseg_jax.graph.kinds import DeepLab, Network, UNet
from ganseg_jax.segmenter import Deferred, Engine, Segmenter

if TYPE_CHECKING:  # What needs JAX imports it itself: a packed model segments without.
    import flax.linen as nn

    from ganseg_jax.models.autoencoder import MaskReader
    from ganseg_jax.models.generator import Generator

Variables = Any
"""{"params": ..., "batch_stats": ...} of numpy arrays."""


def load_generator(
    workdir: epath.PathLike, *, step: int | None = None, weights: Weights | None = None
) -> "tuple[Generator, Variables]":
    """Loads a generator: `(module, variables)`, for `module.apply(variables, latents, ...)`.

    Args:
      workdir: of a run; or a packed model: its folder, the name of one of the package, or
        `hf://owner/name` of one of a hub.
      step: of the GAN's checkpoint; None for the newest.
      weights: "averaged" or "raw"; by default the average if there is one.

    Raises:
      UserError: nothing was trained there, or there is no such state.
    """
    from ganseg_jax.models import build

    place = packed.find(workdir)
    if is_few_shot(place or workdir):
        raise UserError(
            f"{workdir} is a few-shot result, which draws nothing: give the run's folder"
        )
    state = State("gan", step, weights)
    if place is not None:
        _check_only(workdir, state)
        config, variables = packed.load(place, "generator")
        return build.build_generator(config), variables
    config = config_file.load_config(workdir)
    if config.model.kind != "gan":
        raise UserError(
            f"{workdir} holds an auto-encoder, which draws nothing: give the workdir of a GAN"
        )
    return build.build_generator(config), restore_generator(config, workdir, state)


def _check_only(workdir: epath.PathLike, state: State) -> None:
    """Raises `UserError` if one of several states is asked for where there is but one."""
    if state.step is not None or state.weights is not None:
        raise UserError(f"{workdir} is no run's folder: it has one state of its weights, no others")


def load_segmenter(
    workdir: epath.PathLike,
    named: bool = True,
    engine: Engine | None = None,
    *,
    state: State = NEWEST,
) -> Segmenter:
    """Loads a segmenter; an auto-encoder's masks serve as one.

    Args:
      workdir: of a run; the folder that `experiments.few_shot` wrote (`W/few_shot`), for its U-Net;
        or a packed model: its folder, the name of one of the package (`"people"`), or one of a hub,
        `"hf://owner/name"` or `"hf://owner/name@revision"`.
      named: whether its parts are those that a person made of them (`ganseg_jax.parts`): named,
        merged, left out; else they are the network's.
      engine: what computes; by default onnxruntime on a CPU, if it and onnx are installed and the
        network is DeepLab or U-Net in float32, else JAX.
      state: of a run's networks, such as `State("segmenter", step=4000)`.

    Raises:
      UserError: none was trained there, a few-shot one is not finished, what is known of the
        parts does not fit, there is no such state, or a hub does not give the model.
    """
    segmenter = _load_segmenter(workdir, engine, state)
    known = parts.read(workdir, segmenter.num_classes - 1) if named else None
    if known is not None:
        made = parts.classes_of(known)
        segmenter.classes, segmenter.colors, segmenter.groups = made.names, made.colors, made.groups
    return segmenter


def _load_segmenter(workdir: epath.PathLike, engine: Engine | None, state: State) -> Segmenter:
    place = packed.find(workdir)
    if is_few_shot(place or workdir):
        _check_only(workdir, state)
        return _few_shot_segmenter(place or workdir, engine)
    if place is not None:
        _check_only(workdir, state)
        config, variables = packed.load(place, "segmenter")
        return _segmenter(config, _deeplab(config), variables, engine)
    config = config_file.load_config(workdir)
    if config.model.kind != "gan":
        reader, variables = restore_mask_reader(config, workdir, state)
        return _segmenter(config, reader, variables, engine)
    variables = restore_segmenter(config, workdir, state)
    return _segmenter(config, _deeplab(config), variables, engine)


def _deeplab(config: Config) -> Deferred:
    def make() -> "nn.Module":
        from ganseg_jax.models import build

        return build.build_segmenter(config)

    s = config.segmenter
    network = DeepLab(s.output_stride, s.atrous_rates, s.stem_pool)
    in_float32 = config.dtype == "float32"
    return Deferred(make, config.model.num_parts + 1, network if in_float32 else None)


def _segmenter(
    config: Config, module: "nn.Module | Deferred", variables: Variables, engine: Engine | None
) -> Segmenter:
    refine, precision = config.segmenter.refine, config.evaluation.precision
    network = module.network if isinstance(module, Deferred) else None
    return Segmenter(
        module,
        variables,
        config.image_size,
        refine=refine,
        precision=precision,
        engine=_engine(engine, network),
    )


def _engine(wanted: Engine | None, network: Network | None) -> Engine:
    """Returns what computes a network that is, if it can be, written as such a graph."""
    if wanted is not None:
        return wanted
    fits = network is not None and runtime.is_installed() and runtime.is_for_cpus()
    return "onnxruntime" if fits else "jax"


def restore_generator(config: Config, workdir: epath.PathLike, state: State = NEWEST) -> Variables:
    """Reads the variables that the workdir's generator samples with: its average if there is one.

    Args:
      config: of the run.
      workdir: of the run.
      state: which one.

    Raises:
      UserError: there is no GAN in the workdir, it has no such state, or does not fit the config.
    """
    import jax

    from ganseg_jax import latents
    from ganseg_jax.models import build

    module = build.build_generator(config)
    inputs = jax.eval_shape(lambda: latents.sample_latents(jax.random.key(0), 2, module.noise_dim))
    like = _shapes(module, inputs, train=False)
    return restore(workdir, "gan", part_of(config, "gan", state.weights), like, state.step)


def restore_segmenter(config: Config, workdir: epath.PathLike, state: State = NEWEST) -> Variables:
    """Reads the variables of the workdir's segmenter.

    Args:
      config: of the run.
      workdir: of the run.
      state: which one; by default that of self-training if the workdir has begun with it.

    Raises:
      UserError: there is no segmenter in the workdir, it has no such state, or does not fit the
        config.
    """
    from ganseg_jax.models import build

    like = _shapes(build.build_segmenter(config), _images(config), train=False)
    begun = (resolve(workdir) / "self_training" / "checkpoints").exists()
    stage = state.stage or ("self_training" if begun else "segmenter")
    return restore(workdir, stage, part_of(config, stage, state.weights), like, state.step)


def restore_mask_reader(
    config: Config, workdir: epath.PathLike, state: State = NEWEST
) -> "tuple[MaskReader, Variables]":
    """Reads the workdir's auto-encoder as a segmenter: module and variables.

    Raises:
      UserError: there is none in the workdir, or it does not fit the config.
    """
    from ganseg_jax.models import build
    from ganseg_jax.models.autoencoder import MaskReader

    network = build.build_autoencoder(config)
    like = _shapes(network, _images(config), train=False)
    part = part_of(config, "autoencoder", state.weights)
    variables = restore(workdir, "autoencoder", part, like, state.step)
    return MaskReader(network), MaskReader.variables_of(variables)


def restore(
    workdir: epath.PathLike, stage: str, part: str, like: Any, step: int | None = None
) -> Any:
    """Reads a part of the state of a stage: of its checkpoint of a step, or of the newest.

    Raises:
      UserError: the stage was never begun, has no such checkpoint, or does not fit.
    """
    from ganseg_jax import checkpoints  # Imports orbax, which packed models do without.

    folder = resolve(workdir) / stage / "checkpoints"
    if not folder.exists():
        name = "train_segmenter" if stage == "self_training" else f"train_{stage}"
        raise UserError(
            f"{workdir} has no {stage} checkpoint yet: run `{command(name)}` "
            f"with --workdir={workdir}"
        )
    found = checkpoints.read(folder, {part: like}, step)
    if found is None:
        raise UserError(f"{folder} holds no complete checkpoint: train the {stage} stage first")
    return found[1][part]


def is_few_shot(folder: epath.PathLike) -> bool:
    """Says whether `experiments.few_shot` wrote this folder, finished or not."""
    path = resolve(folder) / "config.json"
    return path.exists() and "auto_shot" in json.loads(path.read_text())


def few_shot_config(folder: epath.PathLike) -> tuple[FewShot, dict[str, Any]]:
    """Returns the settings of a few-shot folder, and its facts: "classes", "layers", and the like.

    Raises:
      UserError: it holds no few-shot result.
    """
    if not is_few_shot(folder):
        raise UserError(f"{folder} holds no few-shot result: run `{command('few_shot')}` first")
    content = json.loads((resolve(folder) / "config.json").read_text())
    known = FewShot.__dataclass_fields__.keys()
    settings = {name: value for name, value in content.items() if name in known}
    facts = {name: value for name, value in content.items() if name not in known}
    return from_mapping(FewShot, settings, missing="before"), facts


def restore_few_shot(
    folder: epath.PathLike, stage: str, name: str, like: dict[str, Any], num_steps: int
) -> dict[str, Any]:
    """Reads parts of the state of a finished few-shot stage.

    Args:
      folder: of the few-shot result.
      stage: "head" or "auto_shot".
      name: of its network, for messages.
      like: the wanted parts by path, with the shapes to expect.
      num_steps: updates after which it is finished.

    Raises:
      UserError: the stage is not finished, or does not fit.
    """
    from ganseg_jax import checkpoints

    found = checkpoints.read(resolve(folder) / stage / "checkpoints", like)
    step = found[0] if found else 0
    if found is None or step < num_steps:
        raise UserError(
            f"the {name} in {folder} is not finished ({step} of {num_steps} steps): "
            f"repeat `{command('few_shot')}` with the same arguments, and it resumes"
        )
    return found[1]


def _few_shot_segmenter(folder: epath.PathLike, engine: Engine | None) -> Segmenter:
    """Loads the U-Net of a few-shot folder.

    Photos are resized to the size of the generator's images, on which it was trained. It also runs
    at each photo's own size (set `image_size = None`), best between half and twice that size, which
    its augmentation covered.
    """
    settings, facts = few_shot_config(folder)
    classes, size = facts["classes"], facts["image_size"]

    def make() -> "nn.Module":
        from ganseg_jax.models.unet import UNet

        return UNet(len(classes), settings.unet_width, settings.unet_depth)

    if packed.weights_file(resolve(folder)) is not None:
        variables = packed.variables_of(resolve(folder), "segmenter")
    else:
        import jax
        import jax.numpy as jnp

        like = _shapes(make(), jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32), train=False)
        steps, name = settings.auto_shot.num_steps, "auto-shot network"
        state = restore_few_shot(folder, "auto_shot", name, {"variables": like}, steps)
        variables = state["variables"]
    network = UNet(settings.unet_depth)
    return Segmenter(
        Deferred(make, len(classes), network),
        variables,
        image_size=size,
        classes=classes,
        engine=_engine(engine, network),
    )


def _shapes(module: "nn.Module", inputs: Any, **options: Any) -> Any:
    import jax

    return jax.eval_shape(lambda x: module.init(jax.random.key(0), x, **options), inputs)


def _images(config: Config) -> Any:
    import jax
    import jax.numpy as jnp

    return jax.ShapeDtypeStruct((2, config.image_size, config.image_size, 3), jnp.float32)
