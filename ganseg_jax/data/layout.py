"""Which images of a folder are photos and which are masks: one rule for all commands.

A photo is any image, unless it is a mask. Masks are found by name, at any depth and in any case:

- in a folder called masks, labels, annotations, SegmentationClass or the like
  (`layout_names.MASK_WORDS`), also with other words (`train_masks`); of several such words the
  folder next to the image counts (`car-parts/images/a.jpg` is a photo);
- beside a photo, as NAME_mask.png, NAME_label.png, mask_NAME.png or the like.

A mask belongs to the photo that has the same name and lies at the same place, if folders called
images, JPEGImages, photos or the like (`layout_names.PHOTO_WORDS`) and the words for masks are left
out of both paths: `train/masks/a.png` to `train/images/a.jpg`, `masks/x/a.png` to `x/a.jpg`.
Further words behind its name (`a_L.png`, `21_manual1.gif`) do not count if the photo has one such
mask only. Where names do not say enough, the pixels decide: a folder `masks` without photos beside
it may hold photos of masks, and so may `face_mask.jpg`. Images that come in pairs with photos, such
as `a.png` beside `a.jpg`, are masks if their pixels alone say so (`layout_pairs`), and so are
files called mask, label or the like where each photo has a folder (`layout_samples`).
Masks that hold one part each are left out (`layout_parts`).
"""

import collections
import dataclasses
import os
import pathlib
from collections.abc import Collection, Iterable, Iterator, Sequence

from etils import epath

from ganseg_jax.data import images, layout_names, layout_pairs, layout_parts, layout_samples
from ganseg_jax.data.annotations.label_studio import BRUSH_FILE
from ganseg_jax.errors import UserError
from ganseg_jax.files import is_remote

ALONE = "a mask without an image"
BRUSH = "a brush mask of Label Studio"
RESULT = "a result of an earlier segmentation"
_SAMPLE = 8
MOST_NAMED = 20


@dataclasses.dataclass(frozen=True)
class Layout:
    """Says what the files of a folder are. Names are paths below it, with slashes.

    Attributes:
      photos: sorted.
      masks: of the photos that have one.
      skipped: (name, reason) of the images and masks that are not used.
      others: number of files that are no images, by ending.
    """

    photos: list[str]
    masks: dict[str, str]
    skipped: list[tuple[str, str]]
    others: dict[str, int]

    def summary(self, root: str = "") -> list[str]:
        """Returns lines that say what each folder was taken for, with counts.

        Args:
          root: what the folder is called, for the lines; "" leaves it out.
        """
        used = set(self.masks.values())
        unused = [name for name, reason in self.skipped if name not in used]
        kinds = {"photo{s}": self.photos, "mask{s}": used, "image{s} left out": unused}
        counts: dict[str, dict[str, int]] = {}
        for kind, names in kinds.items():
            for name in names:
                place = "/".join(filter(None, (root, name.rpartition("/")[0])))
                folder = counts.setdefault(place or ".", dict.fromkeys(kinds, 0))
                folder[kind] += 1
        lines = [
            f"{folder}: {', '.join(_counted(n, kind) for kind, n in found.items() if n)}"
            for folder, found in sorted(counts.items())
        ]
        if len(lines) > MOST_NAMED:
            lines[MOST_NAMED:] = [f"... and {len(lines) - MOST_NAMED} more folders"]
        if self.others:
            named = sorted(self.others.items(), key=lambda item: (-item[1], item[0]))[:MOST_NAMED]
            lines.append(f"no images: {', '.join(f'{n} {ending}' for ending, n in named)} files")
        return lines


def _counted(count: int, what: str) -> str:
    return f"{count} {what.format(s='' if count == 1 else 's')}"


@dataclasses.dataclass
class _Group:
    """Holds images of one folder that are masks, all of them or none.

    Attributes:
      partners: the photos that have the same name.
      certain: whether names alone say that they are masks.
      doubtful: whether names say little, so that sizes must agree too; each has a partner.
    """

    partners: dict[str, list[str]]
    certain: bool = False
    doubtful: bool = False


def find(root: pathlib.Path | epath.Path, source: str | None = None) -> Layout:
    """Finds the photos and masks below a folder; hidden files are left alone.

    Args:
      root: the folder.
      source: what a person gave, for messages; by default the folder.

    Raises:
      UserError: there are no photos; the message says what is there.
    """
    names, skipped, others = [], [], collections.Counter[str]()
    there = files(root)
    results = _folders_of_results(there)
    for name in there:
        if name.startswith(results) and images.is_image(name):
            skipped.append((name, RESULT))
        elif BRUSH_FILE.fullmatch(name.rpartition("/")[2]):
            skipped.append((name, BRUSH))
        elif images.is_image(name):
            names.append(name)
        elif reason := images.refusal(name):
            skipped.append((name, reason))
        else:
            others[pathlib.PurePath(name).suffix.lower() or "nameless"] += 1
    found = []
    for samples in layout_samples.candidates(names):
        if layout_pairs.are_masks(root, samples.partners, named=True):
            found.append(_Group(samples.partners))
            skipped += [(n, samples.others[n]) for n in names if n in samples.others]
            gone = samples.partners.keys() | samples.others.keys()
            names = [name for name in names if name not in gone]
    photos, groups = _candidates(names)
    for group in groups:
        if group.certain or (
            layout_pairs.are_masks(root, group.partners, named=True)
            if group.doubtful
            else _look_like_masks(root, list(group.partners))
        ):
            found.append(group)
        else:
            photos += group.partners
    for pairs in layout_pairs.candidates(photos):
        if layout_pairs.are_masks(root, pairs):
            found.append(_Group(pairs))
            photos = [name for name in photos if name not in pairs]
    outside = _outside_of_images(photos)
    skipped += [(name, "lies outside of the folder images") for name in outside]
    photos = sorted(set(photos) - set(outside))
    every = {mask: partners for group in found for mask, partners in group.partners.items()}
    parts = layout_parts.find(root, every, set(photos))
    skipped += [(name, layout_parts.REASON) for name in parts]
    whole = {mask: partners for mask, partners in every.items() if mask not in parts}
    masks, unused = _assign(whole, set(photos))
    layout = Layout(photos, masks, sorted(skipped + unused), dict(others))
    if not photos:
        seen = f" ({'; '.join(layout.summary())})" if skipped or unused or others else ""
        formats = ", ".join(suffix[1:] for suffix in images.IMAGE_SUFFIXES)
        raise UserError(
            f"{source or root} has no images{seen}: looked for {formats} in all its folders"
        )
    return layout


def skipped_lines(skipped: Collection[tuple[str, str]], where: str) -> list[str]:
    """Returns a line for each file that was left out, the first ones if there are many."""
    lines = [f"skipped {name}: {reason}" for name, reason in list(skipped)[:MOST_NAMED]]
    if len(skipped) > len(lines):
        lines.append(f"... and {len(skipped) - len(lines)} more, {where}")
    return lines


def files(root: pathlib.Path | epath.Path) -> list[str]:
    """Returns all files below a folder but hidden ones, as paths relative to it, sorted."""
    return sorted(_files_of_bucket(epath.Path(root), "") if is_remote(root) else _files(root))


def _files(root: epath.PathLike) -> Iterator[str]:
    for folder, children, names in os.walk(root):
        children[:] = [child for child in children if not _hidden(child)]
        relative = pathlib.Path(folder).relative_to(root)
        yield from ((relative / name).as_posix() for name in names if not _hidden(name))


def _files_of_bucket(folder: epath.Path, above: str) -> Iterator[str]:
    for path in folder.iterdir():
        if _hidden(path.name):
            continue
        if path.is_dir():
            yield from _files_of_bucket(path, f"{above}{path.name}/")
        else:
            yield above + path.name


def _folders_of_results(names: Collection[str]) -> tuple[str, ...]:
    """Returns the folders below the given one, with a slash, to which photos were segmented."""
    folders = {name.removesuffix("parts.json") for name in names if name.endswith("/parts.json")}
    return tuple(f for f in folders if any(name.startswith(f"{f}labels/") for name in names))


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _candidates(names: Sequence[str]) -> tuple[list[str], list[_Group]]:
    """Tells images that are photos for certain from groups of those that may be masks."""
    photos: list[str] = []
    by_folder: dict[str, list[str]] = collections.defaultdict(list)
    by_name: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
    mixed = _mixed_folders(names)
    for name in names:
        word = layout_names.word_of(layout_names.stem_of(name))
        folder = layout_names.mask_folder(name)
        if folder is not None and folder not in mixed:
            by_folder[folder].append(name)
        elif word:
            by_name[name.rpartition("/")[0], word].append(name)
        else:
            photos.append(name)
    index = _Photos(photos)
    groups = [_folder_group(folder, inside, photos, index) for folder, inside in by_folder.items()]
    for (_, word), inside in by_name.items():
        partners = {name: index.of(name) for name in inside}
        _shorten(partners, index)
        far = {name: index.wherever(name) for name in inside if not partners[name]}
        if any(far.values()):
            there = {name: found for name, found in far.items() if found}
            groups.append(_Group(there, doubtful=not word.startswith("mask")))
            inside = [name for name in inside if not far.get(name)]
        # A name that has no photo says something only if it names a mask.
        alone = [name for name in inside if not partners[name]]
        if not word.startswith("mask"):
            photos += alone
        elif alone:
            groups.append(_Group({name: [] for name in alone}))
        for lossless in (True, False):
            paired = {
                name: partners[name]
                for name in inside
                if partners[name] and name.lower().endswith(".png") == lossless
            }
            if paired:
                groups.append(_Group(paired, certain=lossless and word.startswith("mask")))
    return photos, groups


def _folder_group(folder: str, inside: list[str], photos: list[str], index: "_Photos") -> _Group:
    """Finds the photos of a folder's masks: by their places, or else by their names alone."""
    partners = {name: index.of(name) for name in inside}
    _shorten(partners, index)
    if 2 * sum(map(bool, partners.values())) >= len(inside):
        certain = layout_names.names_masks(folder.rpartition("/")[2])
        return _Group(partners, certain=certain)
    above = folder.rpartition("/")[0]
    near = _Photos([name for name in photos if not above or name.startswith(f"{above}/")])
    for name in inside:
        partners[name] = partners[name] or near.wherever(name) or index.wherever(name)
    _shorten(partners, near, anywhere=True)
    return _Group(partners)


def _shorten(partners: dict[str, list[str]], index: "_Photos", *, anywhere: bool = False) -> None:
    """Finds photos of the masks that have a further word behind, such as `a_L.png` of `a.jpg`.

    Where a photo would have several, each holds a part of the truth, and none is taken.
    """
    found: dict[str, list[str]] = {}
    for name in (name for name, known in partners.items() if not known):
        for form in layout_names.shortened(name):
            if photos := index.called(name, form, anywhere=anywhere):
                found[name] = photos
                break
    taken = collections.Counter(photos[0] for photos in found.values())
    partners |= {name: photos for name, photos in found.items() if taken[photos[0]] == 1}


def _assign(
    every: dict[str, list[str]], photos: Collection[str]
) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Gives each photo one mask; returns these, and why others are not used."""
    masks: dict[str, str] = {}
    unused = []
    # Of a.jpg and a.png, the latter has exact values.
    for mask in sorted(
        every,
        key=lambda name: (
            layout_names.rank(name),
            # The page for labelling writes beside the image.
            not any(_folder(name) == _folder(photo) for photo in every[name]),
            not name.lower().endswith("png"),
            name,
        ),
    ):
        partners = [photo for photo in every[mask] if photo in photos]
        free = [photo for photo in partners if photo not in masks]
        if not partners:
            unused.append((mask, ALONE))
        elif not free:
            unused.append((mask, f"{partners[0]} has the mask {masks[partners[0]]}"))
        masks |= dict.fromkeys(free, mask)
    return masks, unused


def _look_like_masks(root: pathlib.Path | epath.Path, names: list[str]) -> bool:
    """Says whether most of a few images look like masks; damaged ones say nothing."""
    votes = []
    for name in names[:: -(-len(names) // _SAMPLE)]:
        try:
            votes.append(images.looks_like_labels((root / name).read_bytes()))
        except (images.ImageError, OSError):
            continue
    return 2 * sum(votes) >= len(votes)


def _outside_of_images(photos: list[str]) -> list[str]:
    """Returns the photos beside a folder `images` at the top that holds most of them."""
    outside = [name for name in photos if name.partition("/")[0].lower() != "images"]
    return outside if 2 * len(outside) <= len(photos) else []


def _mixed_folders(names: Iterable[str]) -> set[str]:
    """Returns the folders named for masks that hold photos too: a.jpg beside a_mask.png."""
    inside: dict[str, list[str]] = collections.defaultdict(list)
    for name in names:
        if (folder := layout_names.mask_folder(name)) is not None:
            inside[folder].append(name)
    mixed = set()
    for folder, found in inside.items():
        named = [n for n in found if layout_names.word_of(layout_names.stem_of(n))]
        index = _Photos(sorted(set(found) - set(named)))
        if any(index.of(name) for name in named):
            mixed.add(folder)
    return mixed


class _Photos:
    """Finds the photos that masks belong to.

    Args:
      names: of the photos.
    """

    def __init__(self, names: Iterable[str]):
        self._places: dict[tuple, list[str]] = {}
        self._stems: dict[str, list[str]] = {}
        loose: dict[tuple, list[str]] = collections.defaultdict(list)
        for name in names:
            place = layout_names.place(name)
            exact, *others = layout_names.photo_forms(name)
            self._places.setdefault((place, exact), []).append(name)
            self._stems.setdefault(exact, []).append(name)
            for form in others:
                loose[place, form].append(name)
        for (place, form), found in loose.items():
            self._places.setdefault((place, form), found)
            self._stems.setdefault(form, []).extend(found)

    def of(self, mask: str) -> list[str]:
        """Returns the photos of a mask's name at its place."""
        forms = layout_names.mask_forms(mask)
        for form in forms:
            if found := self.called(mask, form):
                whole = [n for n in found if pathlib.PurePath(n).name.lower() in forms]
                return whole or found
        return []

    def called(self, mask: str, form: str, *, anywhere: bool = False) -> list[str]:
        """Returns the photos of a name at a mask's place, or in the folder above that."""
        place = layout_names.place(mask)
        found = self._places.get((place, form), [])
        if not found and place and place[-1] == layout_names.squashed(form):
            found = self._places.get((place[:-1], form), [])
        return found or (self._only(place, form) if anywhere else [])

    def wherever(self, mask: str) -> list[str]:
        """Returns the only photo of a mask's name, if there is one, or one in folders like its."""
        for form in layout_names.mask_forms(mask):
            if form in self._stems:
                return self._only(layout_names.place(mask), form)
        return []

    def _only(self, place: tuple, form: str) -> list[str]:
        found = self._stems.get(form, [])
        if len(found) > 1:
            found = [name for name in found if _contains(layout_names.place(name), place)]
        return found if len(found) == 1 else []


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _contains(long: tuple, short: tuple) -> bool:
    """Says whether folders appear in a longer path in the same order."""
    rest = iter(long)
    return all(folder in rest for folder in short)
