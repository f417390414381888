"""Finds which of a folder's images an annotation is of: one rule for the files of all tools.

Tools name an image by its path, or by a part of it: from the folder given, from one above or below
it, or from another machine; with backslashes, as a web address, with a hash in front
(`<hash>-NAME`, Label Studio) or behind (`NAME_png.rf.<hash>`, Roboflow), with another ending.

An image that has the name counts more than one that has it without ending, and that more than one
that has it without hashes, or in another case with other signs between the words. Of several images
with the name, the folders decide, without what they say about photos and masks (`labels/a/x.png` is
of `images/a/x.jpg`):

1. The whole path, from the annotation file's folder or one above it. Folders that begin all names
   of a file (`/home/ann/set7/`) may be left out. What fits most of the file's names is taken.
2. The longest end of the path that both have.
3. The folder that is nearest to the annotation file.

What remains is refused: the message names the images. Where two names are of one image, the better
one has it, and the other is of an image that is not there.
"""

import collections
import contextlib
import dataclasses
import functools
import os
from collections.abc import Collection, Iterable, Mapping, Sequence

from etils import epath

from ganseg_jax.data import images
from ganseg_jax.data.annotations import name_forms
from ganseg_jax.data.annotations.name_forms import Folders, Path
from ganseg_jax.errors import UserError
from ganseg_jax.files import is_remote


@dataclasses.dataclass(frozen=True)
class _Fit:
    """Says how well an image fits a name; `place` is compared first.

    Attributes:
      place: how well its folders do: larger is better.
      near: number of folders above both it and the annotation file.
      level: how much of the name it has, 0 for all.
      consumed: whether it has all folders that the name has.
      contrary: whether the name has folders that are not the image's.
    """

    place: tuple[int, ...]
    near: int
    level: int
    consumed: bool
    contrary: bool

    def worth(self) -> tuple:
        """Returns what is larger for the better one."""
        return self.place, self.near, -self.level


@dataclasses.dataclass
class _Reference:
    """Holds a name that an annotation gives to an image.

    Attributes:
      path: what it says.
      levels: by the images that it may be of, how much of the name they have.
      flat: whether its folders say nothing about the image's.
      whole: whether it has an ending, where files of different tools differ in that.
      fits: how well the images fit it that do so best: several if it does not say which.
    """

    path: Path
    levels: dict[str, int]
    flat: bool = False
    whole: bool = False
    fits: dict[str, _Fit] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Claim:
    """Says which image a file is of that has the name of its image.

    Attributes:
      images: paths; none if there is no image of that name, several if the name may mean each.
      lost: why it is of none although there are images of that name, or "".
    """

    images: tuple[str, ...] = ()
    lost: str = ""


class Names:
    """Finds images by the names that annotations give them.

    Args:
      paths: of the images below the folder, with slashes.
      root: the folder.
    """

    def __init__(self, paths: Iterable[str], root: epath.PathLike = "."):
        self._root = epath.Path(root)
        whole = str(root) if is_remote(root) else os.path.abspath(root)
        self._above = name_forms.place(Path.of(f"{whole}/x").folders)
        self._paths = {path: Path.of(path) for path in paths}
        self._places = {
            path: name_forms.place(parts.folders) for path, parts in self._paths.items()
        }
        self._at: dict[Folders, dict[str, None]] = {}
        for path, place in self._places.items():
            self._at.setdefault(place, {})[path] = None
        self._levels_of: dict[str, tuple[dict[str, int], bool]] = {}
        self._tables: dict[str, dict[str, list[str]]] = {}
        for path, parts in self._paths.items():
            for table, key in name_forms.of_image(parts.last):
                self._tables.setdefault(table, {}).setdefault(key, []).append(path)

    def find(
        self, name: str, file: epath.PathLike, among: Collection[str] | None = None
    ) -> str | None:
        """Returns the path of the image that a file calls by a name, or None if there is none.

        Args:
          name: what the file says.
          file: the annotation file.
          among: the only images that it may be.

        Raises:
          UserError: it may be each of several images; they are named.
        """
        return self.find_all([name], file, among=among)[0]

    def find_all(
        self,
        names: Sequence[str],
        file: epath.PathLike,
        lengths: Sequence[int | None] | None = None,
        among: Collection[str] | None = None,
    ) -> list[str | None]:
        """Returns the images that a file calls by these names; see `find`.

        Args:
          names: all that the file has, since they are understood together.
          file: the annotation file.
          lengths: of the images' files in bytes, where the file says so: they decide between images
            that a name does not tell apart.
          among: see `find`.
        """
        near = self._folders_of(file)
        references = [self._reference(name, among) for name in names]
        for reference, length in zip(references, lengths or [None] * len(names), strict=True):
            if length is not None and len(reference.levels) > 1:
                right = [path for path in reference.levels if self._length(path) == length]
                if len(right) == 1:
                    reference.levels = {right[0]: reference.levels[right[0]]}
        bases = [near[:depth] for depth in range(len(near), -1, -1)]
        self._settle(references, bases, [near] * len(names))
        _give_to_the_better(references)
        for name, reference in zip(names, references, strict=True):
            if len(reference.fits) > 1:
                raise self._ambiguous(file, name, list(reference.fits))
        return [next(iter(reference.fits), None) for reference in references]

    def of_files(self, files: Collection[epath.Path]) -> dict[epath.Path, Claim]:
        """Returns which images files are of that are named after them, as `x.txt` is of `x.jpg`.

        Args:
          files: all files of one ending, since they are understood together.
        """
        folders = [self._folders_of(file) for file in files]
        references = [
            self._reference("/".join([*above, epath.Path(file).stem]), decode=False)
            for above, file in zip(folders, files, strict=True)
        ]
        for reference, file in zip(references, files, strict=True):
            json = epath.Path(file).suffix.lower() == ".json"
            reference.whole = json and images.is_image(reference.path.last)
        self._settle(references, [()], folders)
        _give_to_the_better(references)
        owners = {
            next(iter(reference.fits)): file
            for reference, file in zip(references, files, strict=True)
            if len(reference.fits) == 1
        }
        claims = {}
        for reference, file in zip(references, files, strict=True):
            lost = ""
            if reference.levels and not reference.fits:
                lost = "its image is not there"
                if len(reference.levels) == 1 and (path := next(iter(reference.levels))) in owners:
                    lost += f", or labelled by {owners[path]}"
            claims[file] = Claim(tuple(reference.fits), lost)
        return claims

    def only(self, claim: Claim, file: epath.PathLike) -> str:
        """Returns the image that a file is of.

        Raises:
          UserError: its name does not say which that is.
        """
        if len(claim.images) > 1:
            raise self.unclear(file, claim.images)
        return claim.images[0]

    def unclear(
        self, file: epath.PathLike, paths: Sequence[str], ending: str | None = None
    ) -> UserError:
        """Returns the error of a file that by its name may be of each of these images.

        Args:
          file: the file.
          paths: the images.
          ending: what its name has behind that of its image; by default what begins with the dot.
        """
        file = epath.Path(file)
        whole = f"{self._last(paths[0])}{ending or file.suffix}"
        if self._one_folder(paths):
            remedy = f"say which by its whole name, such as {whole}"
        else:
            above = "/".join(self._paths[paths[0]].folders) or "that of the first"
            remedy = f"put it into the folder of its image (such as {above})"
        return UserError(f"{file} may be of {self._choice(paths)}: {remedy}")

    def _ambiguous(self, file: epath.PathLike, name: str, paths: Sequence[str]) -> UserError:
        whole = self._last(paths[0]) if self._one_folder(paths) else paths[0]
        how = "ending" if self._one_folder(paths) else "folder"
        return UserError(
            f"{file}: {name!r} may be {self._choice(paths)}: write it with its {how}, such as "
            f"{whole!r}"
        )

    def _choice(self, paths: Sequence[str]) -> str:
        more = f" (or {len(paths) - 2} more)" if len(paths) > 2 else ""
        return f"{self._root / paths[0]} or {self._root / paths[1]}{more}"

    def _one_folder(self, paths: Sequence[str]) -> bool:
        return self._paths[paths[0]].folders == self._paths[paths[1]].folders

    def _last(self, path: str) -> str:
        return path.rpartition("/")[2]

    def _folders_of(self, file: epath.PathLike) -> Folders:
        with contextlib.suppress(ValueError):
            return Path.of(str(epath.Path(file).relative_to(self._root))).folders
        return ()

    def _length(self, path: str) -> int:
        return int((self._root / path).stat().length)

    def _reference(
        self, name: str, among: Collection[str] | None = None, decode: bool = True
    ) -> _Reference:
        written = Path.of(name.strip())
        plain = Path.of(name_forms.decoded(name.strip())) if decode else written
        # A sign such as % may belong to the image's name.
        last = written.last if written.last in self._tables.get("name", {}) else plain.last
        if last not in self._levels_of:
            self._levels_of[last] = self._levels(last)
        levels, hashed = self._levels_of[last]
        if among is not None:
            levels = {path: level for path, level in levels.items() if path in among}
        return _Reference(plain, levels, flat=hashed or plain.folders[:2] == ("data", "upload"))

    def _levels(self, last: str) -> tuple[dict[str, int], bool]:
        """Returns how much of a name images have, and whether a hash was left out of it."""
        levels: dict[str, int] = {}
        hashed = False
        for group in name_forms.of_reference(last):
            for level, (table, key) in group:
                for path in self._tables.get(table, {}).get(key, []):
                    levels.setdefault(path, level)
            if levels:
                break
            # Tools that add hashes put all images into one folder.
            hashed = name_forms.is_hashed(last)
        return levels, hashed

    def _settle(
        self, references: list[_Reference], bases: Sequence[Folders], near: Sequence[Folders]
    ) -> None:
        """Finds the images that fit each reference best, given all others of the same file."""
        known = [r for r in references if r.levels and not r.flat]
        base, strip = self._view(known, bases)
        sure = False
        for reference, beside in zip(references, near, strict=True):
            if not reference.levels:
                continue
            fit = functools.partial(self._fit, reference, base, strip, beside)
            # Whole paths are better than all others, but for whole names.
            fits = {path: fit(path) for path in self._exact(reference, base, strip)}
            best = max(fits.values(), key=_Fit.worth, default=None)
            if best is None or best.level > 1 or reference.flat:
                sufficient = 1 if best is not None and not reference.flat else 3
                others = [path for path, level in reference.levels.items() if level <= sufficient]
                fits |= {path: fit(path) for path in others}
                best = max(fits.values(), key=_Fit.worth)
            reference.fits = {
                path: fit
                for path, fit in fits.items()
                if fit.worth() == best.worth()
                # Its whole name is worth as much as the other's folders.
                or (fit.level <= 1 < best.level and fit.consumed)
            }
            own = name_forms.place(reference.path.folders[strip:])
            sure = sure or bool(best.place[0] and own and not reference.flat)
        for reference in references if sure else ():
            if all(fit.contrary for fit in reference.fits.values()):
                reference.fits = {}

    def _view(
        self, references: Sequence[_Reference], bases: Sequence[Folders]
    ) -> tuple[Folders, int]:
        """Returns from which folder most names are whole paths, and without how many folders."""
        shared = os.path.commonprefix([reference.path.folders for reference in references])
        views = [(base, strip) for strip in range(len(shared) + 1) for base in bases]
        return max(
            views,
            key=lambda view: sum(bool(self._exact(r, *view)) for r in references),
        )

    def _exact(self, reference: _Reference, base: Folders, strip: int) -> list[str]:
        """Returns the images whose paths the name is, but for words for photos and masks."""
        place = name_forms.place(name_forms.joined(base, reference.path.folders[strip:]))
        there: Mapping[str, object] = self._at.get(place, {})
        few, many = sorted((there, reference.levels), key=len)
        return [path for path in few if path in many]

    def _fit(
        self, reference: _Reference, base: Folders, strip: int, near: Folders, path: str
    ) -> _Fit:
        level, own = reference.levels[path], self._paths[path].folders
        above = len(os.path.commonprefix([near, own]))
        if reference.flat:
            return _Fit((0,), above, level, consumed=True, contrary=False)
        named, place = reference.path.folders, self._places[path]
        name_place, view = name_forms.place(named), name_forms.joined(base, named[strip:])
        exact = 2 if view == own else int(name_forms.place(view) == place)
        shared = name_forms.shared_end(name_place, (*self._above, *place))
        consumed = shared == len(name_place)
        end = int(consumed or shared >= len(place))
        return _Fit(
            (exact, shared, end, name_forms.shared_end(named, own)),
            above,
            level,
            consumed=consumed,
            contrary=not exact and not shared and bool(name_place),
        )


def _give_to_the_better(references: Sequence[_Reference]) -> None:
    """Takes images from references that fit them less well than others do.

    `x.json` and `x.jpg.json` are of different tools: only their folders are compared.
    """
    claims: dict[str, list[_Reference]] = collections.defaultdict(list)
    for reference in references:
        if len(reference.fits) == 1:
            claims[next(iter(reference.fits))].append(reference)

    def better(other: _Fit, one: _Fit, *, alike: bool) -> bool:
        if alike and other.place == one.place:
            return other.level < one.level
        return other.place > one.place

    def lost(reference: _Reference, path: str) -> bool:
        return any(
            better(other.fits[path], reference.fits[path], alike=other.whole == reference.whole)
            for other in claims.get(path, ())
        )

    beaten = [r for r in references if r.fits and all(lost(r, path) for path in r.fits)]
    for reference in beaten:
        reference.fits = {}
