"""Builds TFDS data sets from what publishers or users provide; see `prepare`."""

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import logging
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds
from absl import logging as absl_logging

from ganseg_jax.data import archives, builders, images, layout, shuffling
from ganseg_jax.data.builders import base
from ganseg_jax.errors import UserError, command
from ganseg_jax.files import is_remote, resolve
from ganseg_jax.quiet import quiet

LOG = logging.getLogger("ganseg_jax.data")
_OWN_PHOTOS = "image_folder"


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Describes a data set that is ready for use.

    Attributes:
      name: the data set's name.
      path: the folder of its files.
      counts: images per split.
      skipped: (file name, reason) of the files that were left out, sorted.
      already: whether it had been there before.
      summary: lines that say what each folder of the source was taken for.
      notes: number of images by what was done to their values, if that is out of the ordinary.
    """

    name: str
    path: pathlib.Path
    counts: dict[str, int]
    skipped: list[tuple[str, str]]
    already: bool
    summary: list[str] = dataclasses.field(default_factory=list)
    notes: dict[str, int] = dataclasses.field(default_factory=dict)

    def report(self) -> list[str]:
        """Returns lines on what was taken for what, and what was left out and why."""
        lines = [*self.summary, *(f"{count} images: {note}" for note, count in self.notes.items())]
        return lines + layout.skipped_lines(
            self.skipped, f"all listed in {self.path / 'metadata.json'}"
        )

    def __str__(self) -> str:
        counts = ", ".join(f"{split} {count}" for split, count in self.counts.items())
        state = "already prepared" if self.already else "prepared"
        skipped = f"; {len(self.skipped)} files skipped" if self.skipped else ""
        return f"{self.name} {state} in {self.path}: {counts} images{skipped}"


def prepare(
    dataset: str,
    source: str | os.PathLike | None,
    data_dir: str | os.PathLike,
    *,
    verify_counts: bool = True,
    progress: bool = False,
    max_megapixels: float = images.MAX_MEGAPIXELS,
) -> Prepared:
    """Builds the data set `dataset` into `data_dir`, unless it is there already.

    A folder of images is built again if its files are no longer those that it was built from, and
    any set if an earlier version of this package built it with other ground truth.
    Everything is written to a temporary folder that is renamed at the end.  Several processes of
    one machine may call this at once: one builds, the others wait.

    Args:
      dataset: name of the data set, see `builders.names`.
      source: folder or tar archive with the publisher's or user's files; not needed for sets that
        are rendered, nor if the set has been prepared before.
      data_dir: where data sets are kept; made if missing.
      verify_counts: whether splits must have the published numbers of images; off in tests only.
      progress: whether to show a progress bar on a terminal.
      max_megapixels: of an image that is not left out.

    Raises:
      UserError: whatever the user can put right, from an unknown name to a full disk.
    """
    builder_class = builders.get(dataset)
    for field, place in (("data_dir", data_dir), ("source", source)):
        if place is not None and is_remote(place):
            raise UserError(
                f"{field}={place} is in a bucket: data sets are read from a disk; copy it to one, "
                "or mount the bucket"
            )
    data_dir = pathlib.Path(resolve(data_dir))
    source = None if source is None else pathlib.Path(resolve(source)).absolute()
    if (ready := _ready(dataset, data_dir, source)) is not None:
        return ready
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with _lock(data_dir, dataset):
            _remove_leftovers(data_dir, dataset)
            if (ready := _ready(dataset, data_dir, source)) is not None:
                return ready
            with (
                _opened(builder_class, dataset, source, data_dir) as folder,
                _set_aside(data_dir, dataset),
            ):
                options: dict[str, Any] = {
                    "verify_counts": verify_counts,
                    "max_megapixels": max_megapixels,
                }
                options |= {"source": folder, "progress": progress, "data_dir": data_dir}
                return _build(builder_class, options, source)
    except OSError as error:
        raise _as_user_error(error, data_dir) from error


def find_prepared(dataset: str, data_dir: str | os.PathLike) -> pathlib.Path | None:
    """Returns the folder of the newest prepared version of `dataset`, or None."""
    folders = pathlib.Path(resolve(data_dir)).glob(f"{dataset}/*/dataset_info.json")
    versions = {}
    for folder in (path.parent for path in folders):
        if tfds.core.Version.is_valid(folder.name):
            versions[tfds.core.Version(folder.name)] = folder
    return versions[max(versions)] if versions else None


def outdated(dataset: str, path: pathlib.Path) -> bool:
    """Says whether a prepared set has the ground truth of an earlier version."""
    return tfds.core.Version(path.name) < builders.get(dataset).VERSION


def refuse_outdated(dataset: str, data_dir: str | os.PathLike) -> None:
    """Refuses a set with the ground truth of an earlier version.

    Raises:
      UserError: it has; the line is the command that prepares it again.
    """
    path = find_prepared(dataset, data_dir)
    if path is not None and outdated(dataset, path):
        raise UserError(
            f"{path} was prepared by an earlier version, whose ground truth differs from the "
            f"published one; prepare it again: {prepare_command(dataset, data_dir)}"
        )


def open_builder(path: pathlib.Path):
    """Opens a prepared data set, without TFDS's notes about it."""
    with quiet(absl_logging.WARNING):
        return tfds.builder_from_directory(path)


def prepare_command(dataset: str, data_dir: str | os.PathLike) -> str:
    """Returns the command line that prepares a data set."""
    needs_source = builders.get(dataset).LAYOUT is not None
    source = " --source=FOLDER_OR_TAR" if needs_source else ""
    return f"{command('prepare_data')} --dataset={dataset}{source} --data_dir={data_dir}"


def _ready(dataset: str, data_dir: pathlib.Path, source: pathlib.Path | None) -> Prepared | None:
    """Returns the prepared set, or None if it has to be built (again)."""
    path = find_prepared(dataset, data_dir)
    if path is None:
        return None
    if outdated(dataset, path):
        if source is None or not source.exists():
            refuse_outdated(dataset, data_dir)
        LOG.info("%s was prepared by an earlier version: preparing it again", path)
        return None
    info = open_builder(path).info
    metadata = info.metadata or {}
    before = metadata.get("source")
    if dataset == _OWN_PHOTOS and source is not None and before != str(source):
        raise UserError(
            f"{path} holds images from {before}; give another --data_dir for {source}, or delete "
            f"{path.parent} first"
        )
    listed = metadata.get("listing")
    # Sets of earlier versions and sets whose source is gone are taken as they are.
    if listed and source is not None and source.exists() and listed != _listing(source):
        LOG.info("%s has changed since it was prepared: preparing it again", source)
        return None
    return _prepared(dataset, path, info, already=True)


def _listing(source: pathlib.Path) -> str:
    """Returns a digest of the names, sizes and times of a source's files."""
    facts = {path: path.stat() for path in (_walk(source) if source.is_dir() else [source])}
    lines = sorted(
        f"{path.relative_to(source).as_posix()} {stat.st_size} {stat.st_mtime_ns}"
        for path, stat in facts.items()
    )
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def _aside(data_dir: pathlib.Path, dataset: str) -> pathlib.Path:
    return data_dir / f".{dataset}.before"


@contextlib.contextmanager
def _set_aside(data_dir: pathlib.Path, dataset: str) -> Iterator[None]:
    """Moves a prepared set away, if there is one; it comes back if the new one fails."""
    place, aside = data_dir / dataset, _aside(data_dir, dataset)
    if find_prepared(dataset, data_dir) is None:
        yield
        return
    place.rename(aside)
    try:
        yield
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        aside.rename(place)
        raise
    shutil.rmtree(aside)


def _build(builder_class, options, source) -> Prepared:
    # Taken first: what is added meanwhile is noticed the next time.
    listing = _listing(source) if source is not None and builder_class.name == _OWN_PHOTOS else None
    try:
        builder = builder_class(**options)
        if source is not None:
            builder.info.metadata["source"] = str(source)
        if listing is not None:
            builder.info.metadata["listing"] = listing
        tfds.display_progress_bar(False)
        scratch_prefix = f".scratch-{builder.name}-"
        scratch_folder = tempfile.TemporaryDirectory(dir=options["data_dir"], prefix=scratch_prefix)
        with scratch_folder as scratch, shuffling.on_disk():
            with contextlib.redirect_stdout(None), quiet(absl_logging.WARNING):
                builder.download_and_prepare(download_dir=scratch)
    except Exception as error:
        # TFDS wraps what builders raise.
        for cause in _chain(error):
            if isinstance(cause, UserError):
                raise UserError(str(cause)) from error
            if isinstance(cause, OSError):
                raise cause from error
        raise
    path = pathlib.Path(builder.data_dir)
    return _prepared(builder.name, path, builder.info, already=False)


def _prepared(dataset: str, path: pathlib.Path, info, already: bool) -> Prepared:
    known = info.metadata or {}
    skipped = [(name, reason) for name, reason in known.get("skipped", ())]
    taken = list(known.get("summary", ())), dict(known.get("notes", {}))
    return Prepared(dataset, path, _counts(info), skipped, already, *taken)


def _counts(info: tfds.core.DatasetInfo) -> dict[str, int]:
    order = {"train": 0, "validation": 1}
    names = sorted(info.splits, key=lambda name: (order.get(name, 2), name))
    return {name: info.splits[name].num_examples for name in names}


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@contextlib.contextmanager
def _lock(data_dir: pathlib.Path, dataset: str) -> Iterator[None]:
    with (data_dir / f".{dataset}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _remove_leftovers(data_dir: pathlib.Path, dataset: str) -> None:
    """Removes what a preparation that was killed has left; the lock makes sure that it is dead."""
    aside = _aside(data_dir, dataset)
    if aside.exists() and find_prepared(dataset, data_dir) is None:
        shutil.rmtree(data_dir / dataset, ignore_errors=True)
        aside.rename(data_dir / dataset)
    shutil.rmtree(aside, ignore_errors=True)
    for pattern in (f"{dataset}/incomplete.*", f".unpacked-{dataset}-*", f".scratch-{dataset}-*"):
        for folder in data_dir.glob(pattern):
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _opened(
    builder_class, dataset: str, source: pathlib.Path | None, data_dir: pathlib.Path
) -> Iterator[pathlib.Path | None]:
    """Gives the folder with the source's files, unpacked if the source is an archive."""
    layout = builder_class.LAYOUT
    if layout is None:
        yield None
        return
    if source is None:
        raise UserError(f"--source is missing: {dataset} is built from {layout}")
    if not source.exists():
        raise UserError(f"--source={source} does not exist; {dataset} is built from {layout}")
    with contextlib.ExitStack() as stack:
        if source.is_dir():
            folder = source
            _check_space(data_dir, sum(f.stat().st_size for f in _walk(source)))
        else:
            _check_space(data_dir, 2 * source.stat().st_size)
            scratch = tempfile.TemporaryDirectory(dir=data_dir, prefix=f".unpacked-{dataset}-")
            folder = pathlib.Path(stack.enter_context(scratch))
            archives.unpack(source, folder)
        try:
            root = base.find_root(folder, builder_class.ROOT_MARKER)
        except FileNotFoundError as error:
            raise UserError(f"{source} has no {error}; {dataset} is built from {layout}") from error
        yield root


def _walk(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _check_space(data_dir: pathlib.Path, needed: int) -> None:
    free = shutil.disk_usage(data_dir).free
    if free < needed:
        raise UserError(
            f"{data_dir} has {free / 2**20:.0f} MiB left and about {needed / 2**20:.0f} MiB are "
            "needed; make room or give another --data_dir"
        )


def _as_user_error(error: OSError, data_dir: pathlib.Path) -> UserError:
    place = error.filename or data_dir
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(f"the disk of {data_dir} is full; make room or give another --data_dir")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return UserError(f"no permission for {place}; change it or give another --data_dir")
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return UserError(f"{place} is a file where a folder is needed; give another --data_dir")
    return UserError(f"{place}: {error.strerror or error}")
