"""Writing files so that a final name never holds half of one."""

import os
import tempfile
from pathlib import Path

from ganseg_jax.errors import UserError


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
