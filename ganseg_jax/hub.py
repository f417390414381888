"""Models of a model hub, named `hf://owner/name` or `hf://owner/name@revision`.

They are packed models (`ganseg_jax.packed`) that huggingface_hub fetches into its cache, and that
are there without a network afterwards. `HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME` and `HF_HUB_OFFLINE`
are obeyed. Only weights and settings are fetched; no code is in them. A process asks for a model
once, so that weights and settings are always of the same revision.
"""

import functools
import hashlib
import json
import os
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

from etils import epath

from ganseg_jax.errors import UserError

SCHEME = "hf://"
_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_LOG_IN = "run `hf auth login`, or set HF_TOKEN"


class Named(NamedTuple):
    """Holds what a name says.

    Attributes:
      repository: "owner/name".
      revision: a branch, a tag or a commit.
    """

    repository: str
    revision: str


def is_named(place: epath.PathLike) -> bool:
    """Says whether a place is a hub's."""
    return str(place).startswith(SCHEME)


def named(place: epath.PathLike) -> Named:
    """Returns what the name of a place says.

    Raises:
      UserError: it is none.
    """
    repository, at, revision = str(place).removeprefix(SCHEME).strip("/").partition("@")
    if not is_named(place) or not _NAME.fullmatch(repository) or (at and not revision):
        raise UserError(f"{place}: give {SCHEME}owner/name or {SCHEME}owner/name@revision")
    return Named(repository, revision or "main")


@functools.cache
def fetch(place: str, needed: Sequence[Sequence[str]], wanted: Sequence[str]) -> epath.Path:
    """Returns the folder in the cache that holds a model's files; what is missing is fetched.

    Args:
      place: `hf://owner/name` or `hf://owner/name@revision`.
      needed: of each of these, one file must be there; the first that is there is fetched. The
        first one decides the revision.
      wanted: files that are fetched if they are there.

    Raises:
      UserError: there is no such model, it is no packed model, a file is damaged, or the hub cannot
        be reached and the cache has not got it.
    """
    repository, revision = named(place)
    folder = None
    for names in needed:
        path = _first(place, repository, revision, names)
        if path.endswith(".json") and not _is_ours(path):
            raise UserError(f"{place} is no model of ganseg_jax: its {names[0]} is another's")
        folder = epath.Path(path).parent
        revision = folder.name  # The commit's: what is fetched next belongs to it.
    for name in wanted:
        try:
            _file(place, repository, revision, name)
        except UserError:
            if not hub().constants.HF_HUB_OFFLINE:
                raise  # Else it was not in what somebody has put into the cache.
    assert folder is not None
    return folder


def _first(place: str, repository: str, revision: str, names: Sequence[str]) -> str:
    """Returns the path of the first of these files that the model has."""
    failure = UserError(f"{place} is no model of ganseg_jax: it has no {' or '.join(names)}")
    for name in names:
        try:
            if path := _file(place, repository, revision, name):
                return path
        except UserError as error:
            failure = error
    raise failure


def _file(place: str, repository: str, revision: str, name: str) -> str | None:
    """Returns the path of a file in the cache, None if the model has not got it."""
    library = hub()
    try:
        path = None
        if _COMMIT.fullmatch(revision):
            path = library.try_to_load_from_cache(repository, name, revision=revision)
            if path is not None and not isinstance(path, str):
                return None  # Noted when it was asked for.
        if path is None:
            path = library.hf_hub_download(
                repository, name, revision=revision, library_name="ganseg_jax"
            )
    except library.errors.RemoteEntryNotFoundError:
        return None
    except Exception as error:  # Each version of the library has its HTTP client's own ones.
        explain(error, place)
    _check(path, place)
    return str(path)


def _is_ours(path: str) -> bool:
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and (
        "auto_shot" in content or {"gan", "segmenter", "image_size"} <= content.keys()
    )


def _check(path: str, place: str) -> None:
    """Checks a file against the digest that is its name in the cache.

    It is the SHA-256 of a large file and git's SHA-1 of a small one. Where the disk knows no links,
    names are other ones and nothing is checked.

    Raises:
      UserError: they differ.
    """
    digest = os.path.basename(os.readlink(path)) if os.path.islink(path) else ""
    if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", digest):
        return
    with open(path, "rb") as file:
        data = file.read()
    seen = hashlib.sha256() if len(digest) == 64 else hashlib.sha1(b"blob %d\0" % len(data))
    seen.update(data)
    if seen.hexdigest() != digest:
        blob = os.path.realpath(path)
        raise UserError(
            f"{place}: {os.path.basename(path)} is not what was published, since its digest is "
            f"another one: remove {blob}, and it is fetched again"
        )


def hub() -> Any:
    """Returns the library.

    Raises:
      UserError: it is not installed.
    """
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ImportError as error:
        raise UserError(f'{SCHEME} needs huggingface_hub: pip install "ganseg-jax[hub]"') from error
    return huggingface_hub


def explain(error: Exception, place: str) -> NoReturn:
    """Raises what a failure of the library means to a user.

    Args:
      error: the failure.
      place: what was asked for, `hf://owner/name@revision`.

    Raises:
      UserError: always.
    """
    library = hub()
    known, constants = library.errors, library.constants
    repository, revision = named(place)
    page, status = f"{constants.ENDPOINT}/{repository}", _status(error)
    if isinstance(error, known.GatedRepoError):
        line = f"is gated: accept its terms at {page} and {_LOG_IN}"
    elif isinstance(error, known.RepositoryNotFoundError):
        line = (
            f"is not there, or it is private: see {page} for the name; for a private one {_LOG_IN}"
        )
    elif isinstance(error, known.RevisionNotFoundError):
        line = f"has no revision {revision!r}: see {page}/tree/main for branches and tags"
    elif status == 401:
        line = f"cannot be had with this token, which {constants.ENDPOINT} refuses: {_LOG_IN}"
    elif status == 403:
        tokens = f"{constants.ENDPOINT}/settings/tokens"
        line = f"may not be read or written with this token: make one at {tokens} that may"
    elif constants.HF_HUB_OFFLINE:
        line = "is not in the cache, and HF_HUB_OFFLINE forbids to ask for it: unset it once"
    elif "xet" in str(error).lower():
        line = (
            f"cannot be had or sent by Xet from {constants.ENDPOINT}, which may not know it: set "
            f"HF_HUB_DISABLE_XET=1 ({_first_line(error)})"
        )
    elif status is None and isinstance(error, known.LocalEntryNotFoundError):
        cause = _first_line(error.__cause__ or error)
        line = f"is not in the cache, and {constants.ENDPOINT} cannot be reached ({cause})"
    else:
        line = f"cannot be had from {constants.ENDPOINT}: {_first_line(error)}"
    raise UserError(f"{place} {line}") from error


def _status(error: BaseException | None) -> int | None:
    """Returns the code of the answer that a failure, or its cause, comes from."""
    while error is not None:
        code = getattr(getattr(error, "response", None), "status_code", None)
        if code is not None:
            return int(code)
        error = error.__cause__
    return None


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
