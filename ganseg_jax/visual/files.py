"""Writing pictures and pages so that a final name never holds half a file."""

import io
import os
import tempfile
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ganseg_jax.errors import UserError


def encode_png(picture: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """A uint8 picture, (H, W, 3) or (H, W), as the bytes of a PNG file.

    Raises:
        ValueError: where it is something else.
    """
    picture = np.asarray(picture)
    if picture.dtype != np.uint8 or not (picture.ndim == 2 or picture.shape[2:] == (3,)):
        raise ValueError(f"not a uint8 picture: {picture.dtype} of shape {picture.shape}")
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def save_png(path: str | os.PathLike, picture: UInt8[np.ndarray, "h w 3"]) -> None:
    """Writes a uint8 picture, (H, W, 3) or (H, W), as a PNG file, whole or not at all.

    Raises:
        UserError: where the file cannot be written.
    """
    write_whole(path, encode_png(picture))


def write_whole(path: str | os.PathLike, content: bytes | str) -> None:
    """Writes a file under a temporary name beside it, then renames it; makes missing folders.

    Raises:
        UserError: where the folder or the file cannot be written (permission, full disk).
    """
    path = Path(path)
    data = content.encode() if isinstance(content, str) else content
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        # mkstemp makes files that only their owner can read; a report is to be shared.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; "
            "free some space or choose a folder that can be written to"
        ) from error
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
