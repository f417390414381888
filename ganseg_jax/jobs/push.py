"""Publishes a model on a model hub, from which `load_segmenter("hf://owner/name")` opens it."""

import dataclasses
import pathlib
import tempfile
from typing import Any, NamedTuple

from etils import epath

from ganseg_jax import files, hub, loading, packed, parts, runtime
from ganseg_jax.errors import UserError
from ganseg_jax.export import formats
from ganseg_jax.export.card import card, versions
from ganseg_jax.jobs.sample import draw_picture
from ganseg_jax.report.png import save_png

CARD, GRAPH, PICTURE = "README.md", "segmenter.onnx", "samples.png"
_OURS = (
    packed.WEIGHTS,
    packed.SAFETENSORS,
    "config.json",
    packed.PART_NAMES,
    packed.ABOUT,
    packed.METRICS,
    GRAPH,
    PICTURE,
)
_ANYBODYS = {".gitattributes", CARD, "LICENSE", "LICENSE.md"}
_PICTURES = 8

_LOAD = """
import ganseg_jax
import numpy as np

segment = ganseg_jax.load_segmenter("{place}")
labels = segment(np.zeros((1, 300, 200, 3), np.uint8))  # RGB bytes, any number and size.
"""


class Pushed(NamedTuple):
    """Says what was published, or would be.

    Attributes:
      sizes: of the files, in bytes, by name.
      address: of the page; "" if nothing was sent.
    """

    sizes: dict[str, int]
    address: str


def push(
    place: epath.PathLike,
    target: str,
    private: bool = False,
    dry_run: bool = False,
    licence: str = "",
) -> Pushed:
    """Writes a model into a repository of a hub, which is made if it is not there.

    Weights (float32), settings, names of parts, what was measured, an ONNX graph if it can be had,
    a picture if there is a generator, and a model card go there in one commit; what an earlier push
    left and this one has not is removed.

    Args:
      place: what `load_segmenter` takes.
      target: "owner/name".
      private: make a repository that only its owner sees.
      dry_run: send nothing.
      licence: of the model, for the card.

    Raises:
      UserError: there is no model or it cannot be exported, the name is none, there is no token or
        it may not write there, the repository holds something else, or the hub cannot be reached.
    """
    address = f"{hub.SCHEME}{target.removeprefix(hub.SCHEME)}"
    repository = hub.named(address).repository
    if "@" in address:
        raise UserError(f"{target}: a model is pushed to owner/name, without a revision")
    api = None if dry_run else _logged_in(address)
    with tempfile.TemporaryDirectory() as scratch:
        folder = epath.Path(scratch)
        _write(place, f"{hub.SCHEME}{repository}", folder, licence)
        sizes = {path.name: path.stat().length for path in sorted(folder.iterdir())}
        if api is None:
            return Pushed(sizes, "")
        try:
            url = _send(api, repository, folder, private)
        except UserError:
            raise
        except Exception as error:  # Each version of the library has its HTTP client's own ones.
            hub.explain(error, address)
    hub.fetch.cache_clear()  # What was asked for before is another revision.
    return Pushed(sizes, url)


def _logged_in(address: str) -> Any:
    """Returns the hub, of which somebody is known to be a user.

    Raises:
      UserError: there is no token, it is not valid, or the hub cannot be reached.
    """
    library = hub.hub()
    api = library.HfApi(library_name="ganseg_jax")
    try:
        api.whoami()
    except library.errors.LocalTokenNotFoundError as error:
        raise UserError(
            f"{address}: pushing needs a token that may write: run `hf auth login`, or set HF_TOKEN"
        ) from error
    except Exception as error:
        hub.explain(error, address)
    return api


def _write(place: epath.PathLike, address: str, folder: epath.Path, licence: str) -> None:
    """Writes all files of the repository into a folder."""
    formats.write_weights(place, "safetensors", folder)
    segmenter = loading.load_segmenter(place, engine="jax")
    content = [
        f"`{packed.SAFETENSORS}` (float32) and `config.json` hold weights and settings, which "
        "`load_segmenter` and `ganseg segment --model` open.",
    ]
    used = versions("numpy", "safetensors")
    if runtime.is_installed():
        try:
            graph, opset = formats.onnx_bytes(segmenter)
        except UserError:  # Of a kind that no graph can be made of.
            pass
        else:
            files.write_whole(folder / GRAPH, graph)
            used |= versions("onnx")
            content.append(
                f"`{GRAPH}` (opset {opset}) is for programs that have only onnxruntime: from photo "
                "bytes, `images`, uint8 (N, H, W, 3), to `labels`, int32 (N, H, W), and "
                "`probabilities`, float32 (N, H, W, C)."
            )
    few_shot = loading.is_few_shot(packed.find(place) or place)
    if not few_shot:  # Those draw nothing.
        generator, variables = loading.load_generator(place)
        classes = parts.shown_as(place, generator.num_parts + 1)
        save_png(folder / PICTURE, draw_picture(generator, variables, _PICTURES, classes))
    facts = formats.facts_of(place, segmenter, licence, used)
    facts = dataclasses.replace(facts, name=hub.named(address).repository.split("/")[1])
    picture, example = "" if few_shot else PICTURE, _LOAD.format(place=address)
    text = card(facts, "\n\n".join(content), example, picture)
    files.write_whole(folder / CARD, text)


def _send(api: Any, repository: str, folder: epath.Path, private: bool) -> str:
    """Commits the files of a folder; returns the address of the page.

    Raises:
      UserError: the repository holds something else, or anybody may read it who should not.
    """
    library = hub.hub()
    address = str(api.create_repo(repository, private=private or None, exist_ok=True))
    there = api.model_info(repository)
    names = {file.rfilename for file in there.siblings or ()}
    if private and not there.private:
        raise UserError(f"{address} is public already: see {address}/settings, then push again")
    if names - _ANYBODYS and not _holds_ours(repository, names):
        raise UserError(
            f"{address} holds something else ({min(names - _ANYBODYS)}): push to another name"
        )
    paths = [pathlib.Path(path) for path in folder.iterdir()]
    written = {path.name for path in paths}
    operations = [library.CommitOperationAdd(path.name, path) for path in sorted(paths)]
    operations += [
        library.CommitOperationDelete(name) for name in sorted(names & set(_OURS) - written)
    ]
    api.create_commit(
        repository,
        operations,
        commit_message="Push a model with ganseg_jax",
        parent_commit=there.sha,
    )
    return address


def _holds_ours(repository: str, names: set[str]) -> bool:
    if "config.json" not in names:
        return False
    try:
        hub.fetch(f"{hub.SCHEME}{repository}", (("config.json",),), ())
    except UserError:
        return False
    return True
