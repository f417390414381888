"""Which images of a folder are photos and which are masks: one rule for all commands.

A photo is any image, unless it is a mask. Masks are found by name, at any depth and in any case:

- in a folder called masks, labels, annotations, SegmentationClass or the like (`MASK_WORDS`), also
  with another word before or behind (`train_masks`); of several such words the folder next to the
  image counts (`car-parts/images/a.jpg` is a photo);
- beside a photo, as NAME_mask.png, NAME_label.png, mask_NAME.png or the like.

A mask belongs to the photo that has the same name and lies at the same place, if folders called
images, JPEGImages, photos or the like (`PHOTO_WORDS`) and the words for masks are left out of both
paths: `train/masks/a.png` to `train/images/a.jpg`, `masks/x/a.png` to `x/a.jpg`. Where names do not
say enough, the pixels decide: a folder `masks` without photos beside it may hold photos of masks,
and so may `face_mask.jpg`.
"""

import collections
import dataclasses
import functools
import os
import pathlib
import re
from collections.abc import Collection, Iterable, Sequence

from ganseg_jax.data import images
from ganseg_jax.errors import UserError

PHOTO_WORDS = {
    *("images", "image", "imgs", "img", "jpegimages", "photos", "photo", "pictures", "pics"),
    *("rgb", "rgbs", "inputs", "input", "frames", "jpg", "jpgs", "jpeg", "originals"),
    *("leftimg8bit",),
}
MASK_WORDS = {
    *("masks", "mask", "labels", "label", "labelmaps", "labelmap", "labelids", "annotations"),
    *("annotation", "annots", "annot", "segmentations", "segmentation", "segs", "seg", "segmaps"),
    *("segmentationclass", "segmentationclassaug", "segmentationclassraw", "segmentationobject"),
    *("groundtruth", "groundtruths", "gt", "gts", "gtfine", "gtcoarse", "trimaps", "trimap"),
    *("mattes", "matte", "alphas", "alpha", "targets", "target", "silhouettes", "pngmasks"),
    *("segmentationclasspng", "segmentationclassvisualization", "segmentationobjectpng"),
    *(
        "segmentationobjectvisualization",
        "maskpng",
        "instances",
        "instanceids",
        "labeltrainids",
        "parts",
        "partmasks",
    ),
}
_GLUED = ("masks", "mask", "annotations", "annots", "annot", "labels")  # As in CamVid's trainannot.
_SECONDARY = ("object", "instance", "color", "colour", "trimap", "visual", "polygon", "human")
_PLAIN = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
_SPLITS = _PLAIN | {"training": "train", "valid": "validation", "testing": "test"}
_BETWEEN = re.compile(r"[_\-. ]+")
_FILE_WORDS = "masks?|labels?|labelmap|seg|segm|segmentation|gt|gtfine|groundtruth|matte|trimap"
_AFFIXED = re.compile(
    rf"((?P<front>mask|label|seg|gt)[_\-. ])?(?P<stem>.+?)"
    rf"([_\-. ](?P<behind>{_FILE_WORDS}|labelids|labeltrainids|instanceids|annotation))?",
    re.IGNORECASE,
)
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

    def summary(self) -> list[str]:
        """Returns lines that say what each folder was taken for, with counts."""
        used = set(self.masks.values())
        unused = [name for name, reason in self.skipped if name not in used]
        kinds = {"photos": self.photos, "masks": used, "images left out": unused}
        counts: dict[str, dict[str, int]] = {}
        for kind, names in kinds.items():
            for name in names:
                folder = counts.setdefault(name.rpartition("/")[0] or ".", dict.fromkeys(kinds, 0))
                folder[kind] += 1
        lines = [
            f"{folder}: {', '.join(f'{n} {kind}' for kind, n in found.items() if n)}"
            for folder, found in sorted(counts.items())
        ]
        if len(lines) > MOST_NAMED:
            lines[MOST_NAMED:] = [f"... and {len(lines) - MOST_NAMED} more folders"]
        if self.others:
            named = sorted(self.others.items(), key=lambda item: (-item[1], item[0]))[:MOST_NAMED]
            lines.append(f"no images: {', '.join(f'{n} {ending}' for ending, n in named)} files")
        return lines


@dataclasses.dataclass
class _Group:
    """Holds images of one folder that are masks, all of them or none.

    Attributes:
      partners: the photos that have the same name.
      certain: whether names alone say that they are masks.
      rank: which group's masks are taken first where a photo has several.
    """

    partners: dict[str, list[str]]
    certain: bool = False
    rank: int = 0


def find(root: pathlib.Path) -> Layout:
    """Finds the photos and masks below a folder; hidden files are left alone.

    Raises:
      UserError: there are no photos; the message says what is there.
    """
    names, skipped, others = [], [], collections.Counter[str]()
    for name in files(root):
        if images.is_image(name):
            names.append(name)
        elif reason := images.refusal(name):
            skipped.append((name, reason))
        else:
            others[pathlib.PurePath(name).suffix.lower() or "nameless"] += 1
    photos, groups = _candidates(names)
    found = []
    for group in groups:
        if group.certain or _look_like_masks(root, list(group.partners)):
            found.append(group)
        else:
            photos += group.partners
    outside = _outside_of_images(photos)
    skipped += [(name, "lies outside of the folder images") for name in outside]
    photos = sorted(set(photos) - set(outside))
    masks, unused = _assign(found)
    layout = Layout(photos, masks, sorted(skipped + unused), dict(others))
    if not photos:
        there = f" ({'; '.join(layout.summary())})" if skipped or unused or others else ""
        formats = ", ".join(suffix[1:] for suffix in images.IMAGE_SUFFIXES)
        raise UserError(f"{root} has no images{there}: looked for {formats} in all its folders")
    return layout


def skipped_lines(skipped: Collection[tuple[str, str]], where: str) -> list[str]:
    """Returns a line for each file that was left out, the first ones if there are many."""
    lines = [f"skipped {name}: {reason}" for name, reason in list(skipped)[:MOST_NAMED]]
    if len(skipped) > len(lines):
        lines.append(f"... and {len(skipped) - len(lines)} more, {where}")
    return lines


def files(root: pathlib.Path) -> list[str]:
    """Returns all files below a folder but hidden ones, as paths relative to it, sorted."""
    found = []
    for folder, children, names in os.walk(root):
        children[:] = [c for c in children if not c.startswith(".") and c != "__MACOSX"]
        relative = pathlib.Path(folder).relative_to(root)
        found += [(relative / name).as_posix() for name in names if not name.startswith(".")]
    return sorted(found)


def splits_of(photos: Iterable[str]) -> dict[str, str | None]:
    """Returns the split that each photo's topmost folder names, those called images left out.

    Words that may mean something else, such as `valid`, count only beside a folder for training.
    """
    tops = {name: _place(name)[:1] for name in photos}
    known = _SPLITS if any(_SPLITS.get(*top) == "train" for top in tops.values() if top) else _PLAIN
    return {name: known.get(*top) if top else None for name, top in tops.items()}


def _candidates(names: Sequence[str]) -> tuple[list[str], list[_Group]]:
    """Tells images that are photos for certain from groups of those that may be masks."""
    photos: list[str] = []
    by_folder: dict[str, list[str]] = collections.defaultdict(list)
    by_name: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
    mixed = _mixed_folders(names)
    for name in names:
        word = _word_of(_stem(name))
        if (folder := _mask_folder(name)) is not None and folder not in mixed:
            by_folder[folder].append(name)
        elif word:
            by_name[name.rpartition("/")[0], word].append(name)
        else:
            photos.append(name)
    places = _places(photos)
    groups = [_folder_group(folder, inside, photos, places) for folder, inside in by_folder.items()]
    for (_, word), inside in by_name.items():
        partners = {name: _partners(name, places) for name in inside}
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


def _folder_group(
    folder: str, inside: list[str], photos: list[str], places: dict[tuple, list[str]]
) -> _Group:
    """Finds the photos of a folder's masks: by their places, or else by their names alone."""
    last = folder.rpartition("/")[2].lower()
    rank = sum(word in last for word in _SECONDARY)
    partners = {name: _partners(name, places) for name in inside}
    if 2 * sum(map(bool, partners.values())) >= len(inside):
        return _Group(partners, certain="".join(_words(last)) in MASK_WORDS, rank=rank)
    above = folder.rpartition("/")[0]
    near = _by_stem(name for name in photos if not above or name.startswith(f"{above}/"))
    for name in inside:
        found = partners[name] or next((near[f] for f in _forms(name) if f in near), [])
        partners[name] = found if len(found) == 1 else []
    return _Group(partners, rank=rank)


def _assign(groups: list[_Group]) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Gives each photo one mask; returns these, and why others are not used."""
    masks: dict[str, str] = {}
    unused = []
    for group in sorted(groups, key=lambda group: (group.rank, min(group.partners))):
        # Of a.jpg and a.png, the latter has exact values.
        for mask in sorted(
            group.partners,
            key=lambda name: (not name.lower().endswith("png"), _is_secondary(name), name),
        ):
            partners = group.partners[mask]
            free = [photo for photo in partners if photo not in masks]
            if not partners:
                unused.append((mask, "a mask without an image"))
            elif not free:
                unused.append((mask, f"{partners[0]} has the mask {masks[partners[0]]}"))
            masks |= dict.fromkeys(free, mask)
    return masks, unused


def _look_like_masks(root: pathlib.Path, names: list[str]) -> bool:
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


def _words(name: str) -> list[str]:
    return [word for word in _BETWEEN.split(name.lower()) if word]


@functools.cache
def _role(folder: str) -> tuple[bool, str]:
    """Says whether a folder's name is one for masks, and what else it says."""
    words = _words(folder)
    whole = "".join(words)
    if whole in MASK_WORDS or whole in PHOTO_WORDS:
        return whole in MASK_WORDS, ""
    for known in (MASK_WORDS, PHOTO_WORDS):
        for word, rest in ((words[-1:], words[:-1]), (words[:1], words[1:])):
            if rest and word[0] in known:
                base = "" if "".join(rest) in PHOTO_WORDS else "_".join(rest)
                return known is MASK_WORDS, base
    for ending in _GLUED:
        if whole.endswith(ending):
            return True, whole.removesuffix(ending)
    return False, folder.lower()


def _mask_folder(name: str) -> str | None:
    """Returns the folder above an image that says that it is a mask, if the nearest that says."""
    parts = name.split("/")[:-1]
    for depth in range(len(parts), 0, -1):
        is_mask, rest = _role(parts[depth - 1])
        if is_mask:
            return "/".join(parts[:depth])
        if rest != parts[depth - 1].lower():  # It says that it holds photos.
            return None
    return None


def _mixed_folders(names: Iterable[str]) -> set[str]:
    """Returns the folders named for masks that hold photos too: a.jpg beside a_mask.png."""
    inside: dict[str, list[str]] = collections.defaultdict(list)
    for name in names:
        if (folder := _mask_folder(name)) is not None:
            inside[folder].append(name)
    mixed = set()
    for folder, found in inside.items():
        places = _places(name for name in found if not _word_of(_stem(name)))
        if any(_word_of(_stem(name)) and _partners(name, places) for name in found):
            mixed.add(folder)
    return mixed


def _is_secondary(name: str) -> bool:
    """Says whether a mask's name is one of instances, colours and the like: others go before it."""
    return any(word in _stem(name).lower() for word in _SECONDARY)


def _place(name: str) -> tuple[str, ...]:
    """Returns the folders of an image, without what they say about photos and masks."""
    return tuple(filter(None, (_role(part)[1] for part in name.split("/")[:-1])))


def _stem(name: str) -> str:
    return pathlib.PurePath(name).stem


def _word_of(stem: str) -> str:
    """Returns the word for masks in a file's name, or ""."""
    found = _AFFIXED.fullmatch(stem)
    return ((found["front"] or found["behind"] or "") if found else "").lower()


def _forms(mask: str) -> list[str]:
    """Returns the names that a mask's photo may have, without ending: the likeliest first."""
    forms = [_stem(mask)]
    if images.is_image(forms[0]):  # a.jpg.png
        forms.append(_stem(forms[0]))
    for form in forms:
        found = _AFFIXED.fullmatch(form)
        if found and (found["front"] or found["behind"]) and found["stem"] not in forms:
            forms.append(found["stem"])
    return [form.lower() for form in forms]


def _by_stem(photos: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = collections.defaultdict(list)
    for name in photos:
        found[_stem(name).lower().removesuffix("_leftimg8bit")].append(name)
    return found


def _places(photos: Iterable[str]) -> dict[tuple, list[str]]:
    found: dict[tuple, list[str]] = collections.defaultdict(list)
    for name in photos:
        found[_place(name), _stem(name).lower().removesuffix("_leftimg8bit")].append(name)
    return found


def _partners(mask: str, places: dict[tuple, list[str]]) -> list[str]:
    place = _place(mask)
    near = [places[place, form] for form in _forms(mask) if (place, form) in places]
    exact = [n for photos in near for n in photos if pathlib.PurePath(n).name == _stem(mask)]
    return exact or (near[0] if near else [])
