"""Packs a run into a small folder."""

from etils import epath

from ganseg_jax import loading, packed, parts
from ganseg_jax.config.file import load_config
from ganseg_jax.errors import UserError
from ganseg_jax.files import resolve, write_whole


def pack(workdir: epath.PathLike, output: epath.PathLike) -> int:
    """Packs a run's generator and segmenter; returns the size of the weights in bytes.

    Raises:
      UserError: the run is not finished, or the folder cannot be written.
    """
    config = load_config(workdir)
    if config.model.kind != "gan":
        raise UserError(f"{workdir} holds an auto-encoder; only GANs and segmenters are packed")
    variables = {
        "generator": loading.restore_generator(config, workdir),
        "segmenter": loading.restore_segmenter(config, workdir),
    }
    size = packed.write(output, config, variables)
    known = parts.read(workdir, config.model.num_parts)
    if known is not None:
        parts.write(output, known)
    measured = resolve(workdir) / "evaluation" / packed.METRICS
    if measured.exists():  # For the card of an exported model.
        write_whole(resolve(output) / packed.METRICS, measured.read_bytes())
    return size
