"""Writes a model in a format for others, with its card.

`onnx` and `stablehlo` hold everything from photo bytes to labels, and `page` is a web page that
does it; `safetensors` and `folder` hold weights and settings, for this package.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from etils import epath

from ganseg_jax import __version__, files, loading, packed, parts
from ganseg_jax.config import file as config_file
from ganseg_jax.config import flat
from ganseg_jax.config.convert import nested
from ganseg_jax.errors import UserError
from ganseg_jax.export.card import Facts, card, versions
from ganseg_jax.segmenter import Segmenter

FORMATS = ("onnx", "stablehlo", "page", "safetensors", "folder")

_ENDINGS = {"onnx": ".onnx", "stablehlo": ".stablehlo", "page": ".html"}
"""Of the formats that are one file."""

_DEEPLAB, _UNET = "DeepLab", "U-Net"

_ONNX = """
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("{file}")
photos = np.zeros((1, 300, 200, 3), np.uint8)  # RGB bytes, any number and size.
labels, probabilities = session.run(["labels", "probabilities"], {{"images": photos}})
"""
_STABLEHLO = """
import jax
import numpy as np

segment = jax.export.deserialize(open("{file}", "rb").read())
photos = np.zeros((1, 300, 200, 3), np.uint8)  # RGB bytes, any number and size.
labels, probabilities = segment.call(photos)
"""
_FOLDER = """
import ganseg_jax
import numpy as np

segment = ganseg_jax.load_segmenter("{file}")
labels = segment(np.zeros((1, 300, 200, 3), np.uint8))  # RGB bytes, any number and size.
"""


def export(
    place: epath.PathLike,
    kind: str,
    output: epath.PathLike,
    licence: str = "",
    refine: bool | None = None,
    onnxruntime_web: epath.PathLike = "",
) -> list[epath.Path]:
    """Writes a model and its card.

    Args:
      place: what `load_segmenter` takes.
      kind: one of `FORMATS`.
      output: a file with the format's ending, whose card gets the same name with ".md"; else a
        folder, which gets a README.md.
      licence: of the model, for the card.
      refine: bring masks to the edges of each photo's colours; None for what the config says.
      onnxruntime_web: the npm package, for `page`; see there.

    Returns:
      The files that were written.

    Raises:
      UserError: there is no model, it cannot be written in this format, a package is missing, or
        the output cannot be written.
    """
    if kind not in FORMATS:
        raise UserError(f"--format={kind} is not known: give one of {', '.join(FORMATS)}")
    output = files.resolve(output)
    ending = _ENDINGS.get(kind)
    if ending and output.suffix == ending:
        target, card_path = output, output.with_suffix(".md")
    else:
        if output.exists() and not output.is_dir():
            hint = f", or a name that ends with {ending}" if ending else ""
            raise UserError(f"{output} is a file: give a folder{hint}")
        target, card_path = output / f"segmenter{ending or ''}", output / "README.md"
    if not ending and refine is not None:
        raise UserError(
            f"--format={kind} keeps the config's refinement: load_segmenter(...).refine changes it"
        )
    if not ending:
        content = write_weights(place, kind, output)
        segmenter = loading.load_segmenter(output, engine="jax")
        written, example = content, _FOLDER.format(file=output.name)
        text = f"Weights and settings: {', '.join(f'`{path.name}`' for path in written)}."
        used = versions("numpy")
    else:
        segmenter = loading.load_segmenter(place, engine="jax")
        if refine is not None:
            segmenter.refine = refine
        if kind == "page":
            name = packed.short_name(place)
            text, example, used, data = _page(segmenter, target.name, name, onnxruntime_web)
        else:
            text, example, used, data = _WRITERS[kind](segmenter, target.name)
        files.write_whole(target, data)
        written = [target]
    facts = facts_of(place, segmenter, licence, used)
    files.write_whole(card_path, card(facts, text, example))
    return [*written, card_path]


def facts_of(
    place: epath.PathLike, segmenter: Segmenter, licence: str, used: Mapping[str, str]
) -> Facts:
    """Returns what the card says about a model."""
    found = packed.find(place)
    folder = found or files.resolve(place)
    if loading.is_few_shot(folder):
        taught = loading.few_shot_config(folder)[1]
        generated, photos = len(taught["images"]), len(taught.get("photos_used", []))
        data = f"{photos} labelled photos. " if photos else ""
        data += (
            f"{generated} labelled images of a generator, and images that it drew."
            if generated
            else ""
        )
        refined, network = False, f"{_UNET}, trained for few-shot segmentation"
    else:
        config = config_file.load_config(folder)
        data = (
            f"Images that a generator drew after it was trained on the data set "
            f"`{config.dataset.name}` without any labels, {config.model.num_parts} parts."
        )
        network = f"{_DEEPLAB}, {config.segmenter.backbone} of width {config.segmenter.width:g}"
        if config.model.kind != "gan":
            network = "an auto-encoder's masks"
        refined = segmenter.refine
    own = found is not None and found in map(packed.named, packed.names())
    parts = range(1, segmenter.num_classes)
    return Facts(
        name=packed.short_name(place),
        data=data,
        classes=segmenter.classes or ("background", *(f"part {i}" for i in parts)),
        image_size=segmenter.image_size,
        network=network,
        refined=refined,
        figures=_figures(folder),
        licence=licence or ("MIT" if own else "Not stated: ask who made the model"),
        versions={"ganseg_jax": __version__, **used},
    )


Written = tuple[str, str, dict[str, str], bytes]
"""What the file holds, in words; how to load it; packages it was written with; its bytes."""


def _onnx(segmenter: Segmenter, name: str) -> Written:
    data, opset = onnx_bytes(segmenter)
    text = (
        f"`{name}` is an ONNX graph (opset {opset}, batch normalisation folded, dynamic batch and "
        "size). Input: `images`, uint8 (N, H, W, 3), RGB. Outputs: `labels`, int32 (N, H, W), and "
        "`probabilities`, float32 (N, H, W, C). OpenVINO computes in bfloat16 unasked on some "
        "processors, which changes up to 1 % of the labels: set `INFERENCE_PRECISION_HINT` to f32."
    )
    return text, _ONNX.format(file=name), versions("onnx"), data


def onnx_bytes(segmenter: Segmenter) -> tuple[bytes, int]:
    """Returns the ONNX file of a segmenter, and its opset.

    Raises:
      UserError: onnx is not installed, or the network is neither DeepLab nor U-Net.
    """
    network, variables = segmenter.graph_of()
    try:
        from ganseg_jax.graph import nodes
        from ganseg_jax.graph.segmenter import for_photos
    except ImportError as error:
        raise UserError('ONNX needs the package onnx: pip install "ganseg-jax[export]"') from error
    facts = {"producer": f"ganseg_jax {__version__}"}
    if segmenter.classes:
        facts["classes"] = json.dumps(segmenter.classes)
    settings = segmenter.image_size, segmenter.refine, segmenter.groups
    model = for_photos(network, variables, *settings, facts)
    return model.SerializeToString(), nodes.OPSET


def _stablehlo(segmenter: Segmenter, name: str) -> Written:
    from ganseg_jax.export import stablehlo

    text = (
        f"`{name}` is a program of `jax.export`, StableHLO for {', '.join(stablehlo.PLATFORMS)}, "
        "with the weights in it. It takes uint8 (N, H, W, 3), RGB, of any N, H and W, and returns "
        "labels, int32 (N, H, W), and probabilities, float32 (N, H, W, C). It needs jax and "
        "flatbuffers. JAX keeps such files readable for half a year at least."
    )
    data = stablehlo.artefact(segmenter)
    return text, _STABLEHLO.format(file=name), versions("jax", "flatbuffers"), data


def _page(segmenter: Segmenter, file: str, title: str, runtime: epath.PathLike) -> Written:
    from ganseg_jax.export import page

    text = (
        f"`{file}` is a web page that segments the photos dropped on it. The model and "
        "onnxruntime-web (MIT licence) are in it, and it needs no network."
    )
    data = page.page(onnx_bytes(segmenter)[0], segmenter, title, runtime)
    return text, f"# Open {file} in a browser, and drop photos on it.", versions("onnx"), data


_WRITERS: dict[str, Callable[[Segmenter, str], Written]] = {
    "onnx": _onnx,
    "stablehlo": _stablehlo,
}


def write_weights(place: epath.PathLike, kind: str, output: epath.Path) -> list[epath.Path]:
    """Writes weights and settings, and what else is known of a model.

    Args:
      place: what `load_segmenter` takes.
      kind: "folder", in half precision, or "safetensors", in float32.
      output: folder to write to.

    Returns:
      The files that were written.

    Raises:
      UserError: there is no model, it is an auto-encoder, or the folder cannot be written.
    """
    name = packed.WEIGHTS if kind == "folder" else packed.SAFETENSORS
    found = packed.find(place)
    folder = found or files.resolve(place)
    segmenter = loading.load_segmenter(place, named=False, engine="jax")
    variables: dict[str, Any] = {"segmenter": segmenter.host_variables}
    if loading.is_few_shot(folder):
        settings = json.loads((folder / "config.json").read_text())
    else:
        config = config_file.load_config(folder)
        if config.model.kind != "gan":
            raise UserError(f"{place} holds an auto-encoder: export it as stablehlo")
        settings = nested(flat(packed.anonymous(config)))
        variables["generator"] = loading.load_generator(place)[1]
    files.write_whole(output / name, packed.encode(name, variables))
    files.write_json(output / "config.json", settings)
    written = [output / name, output / "config.json"]
    if (known := parts.read(place, segmenter.num_classes - 1)) is not None:
        written.append(parts.write(output, known))
    for name, content in ((packed.METRICS, _figures(folder)), (packed.ABOUT, packed.about(place))):
        if content:
            files.write_json(output / name, content)
            written.append(output / name)
    return written


def _figures(folder: epath.Path) -> dict[str, float]:
    """Returns what was measured of the model in a folder, empty if nothing was."""
    measured: dict[str, float] = {}
    for path in (folder / packed.METRICS, folder / "evaluation" / packed.METRICS):
        if path.exists():
            measured = json.loads(path.read_text())
    return measured
