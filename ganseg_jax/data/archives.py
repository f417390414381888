"""Tar archives of photos and data sets."""

import lzma
import pathlib
import tarfile
import zlib

from ganseg_jax.errors import UserError


def unpack(archive: pathlib.Path, folder: pathlib.Path) -> None:
    """Unpacks a tar archive, packed further or not, into a folder.

    Raises:
      UserError: it is none, is cut off, or has members that lie outside of it.
    """
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    except tarfile.ReadError as error:
        raise UserError(
            f"{archive} is neither a folder nor a complete tar archive; unpack it and give the "
            "folder instead"
        ) from error
    # ValueError: of damaged names and numbers.
    except (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error, ValueError) as error:
        raise UserError(f"{archive} cannot be unpacked: {error}") from error
