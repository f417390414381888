"""What the names of folders and files say: photo or mask, at which place, of which photo.

The words are those that public data sets and labelling tools use; see `layout` for the rule.
"""

import functools
import os
import pathlib
import re
from collections.abc import Iterable, Iterator

from ganseg_jax.data import images

PHOTO_WORDS = {
    *("images", "image", "imgs", "img", "photos", "photo", "pictures", "pics", "rgb", "rgbs"),
    *("inputs", "input", "frames", "jpg", "jpgs", "jpeg", "originals", "original", "orig"),
    *("leftimg8bit", "stills", "stillsraw"),
}
"""In a folder's name: it holds photos."""

_GUESSES = ("pred", "preds", "prediction", "predictions", "predicted", "annotated")

MASK_WORDS = {
    *("masks", "mask", "msk", "labels", "label", "labeled", "labelled", "lab", "labelmaps"),
    *("labelmap", "labelids", "annotations", "annotation", "annots", "annot", "annos", "anno"),
    *("ann", "anns", "segmentations", "segmentation", "segs", "seg", "segm", "segmaps"),
    *("groundtruth", "groundtruths", "gt", "gts", "gtfine", "gtcoarse", "trimaps", "trimap"),
    *("mattes", "matte", "matting", "alphas", "alpha", "targets", "target", "silhouettes"),
    *("stuffthingmaps", "parsing", "parse", "labeltrainids", "manual", "semantic", "panoptic"),
    *("colormaps", "bitmasks", "segmentationclass", "segmentationobject", "segmentationclassaug"),
    # Words for much else too: what they hold is looked at in any case.
    *(_WEAK := ("instances", "instance", "parts", "categories", "category", "human", *_GUESSES)),
    *(_OVERLAYS := ("visualization", "visualizations", "overlays")),
}
"""In a folder's name: it holds masks, whatever other words are there."""

_DRAWN = {*_OVERLAYS, "visualization", "overlay", "overlaid", "viz", "vis"}

_PLAIN = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
_SPLITS = _PLAIN | {"training": "train", "valid": "validation", "testing": "test"}
_NOISE = {"dir", "class", "object", "all", "png", "aug", "raw", "full", "ids"}
_GLUED = ("masks", "mask", "annotations", "annots", "annot", "labels")  # As in CamVid's trainannot.
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_]+")

_FRONT = (
    r"masks?|labels?|lab|segmentation|segm?|gt|semantic|instance|panoptic|semantic.segmentation"
)
_FRONT = rf"(instance_segmentation|semantic_segmentation|instance[_\-. ]\d+|{_FRONT})"
_BEHIND = (
    r"masks?|labels?|labelmap|segmentation|segm?|gt|gtfine|ground[_\-. ]?truth|matte"
    r"|trimap|labelids|labeltrainids|instanceids|instancetrainids|annotation|semantic"
    r"|pred|prediction"
)
_BETWEEN = r"[_\-. ]"
_AFFIXED = re.compile(
    rf"((?P<front>{_FRONT})({_BETWEEN}|(?=\d)))?(?P<stem>.+?)(({_BETWEEN})+(?P<behind>{_BEHIND}))?",
    re.IGNORECASE,
)
_OF_A_PHOTO = re.compile(
    rf"((images?|img|rgb){_BETWEEN}?(?=\d))?(?P<stem>.+?)"
    rf"({_BETWEEN}(images?|img|rgb|sat|org|orig|original|photo|leftimg8bit|rgb_anon"
    r"|training|test|0000))?",
    re.IGNORECASE,
)
_LAST_WORD = re.compile(
    r"(?P<stem>.*[^_\-. ])[_\-. ]+((masks?|parts)[_\-. ]\d+|(?=[^_\-. ]*[a-z])[^_\-. ]+)"
)
_NUMBERED = re.compile(r".+[_\-. ](?P<word>masks?|parts)[_\-. ]\d+", re.IGNORECASE)
_SECONDARY = {
    *(
        "object",
        "objects",
        "instance",
        "instances",
        "instanceids",
        "color",
        "colour",
        "colors",
        "trimap",
    ),
    *("visualization", "visualizations", "viz", "polygon", "human", "categories", "rgb"),
    *("overlays", "panoptic", "2nd", "gray", "fg", "parts", "superpixels", "colormaps"),
    *_GUESSES,
}
_PRIMARY = {"manual", "semantic", "bin", "1st"}


def stem_of(name: str) -> str:
    """Returns a path's last part without ending."""
    return pathlib.PurePath(name).stem


def _words(name: str) -> list[str]:
    """Returns the words of a name, in lower case; a capital or a digit begins one too."""
    name = re.sub(r"ground[_\-. ]?truth", "Groundtruth", name, flags=re.IGNORECASE)
    return [word.lower() for word in _WORD.findall(name)]


def squashed(name: str) -> str:
    """Returns a name's words and numbers, in lower case and with nothing between them."""
    return "".join(_words(name))


@functools.cache
def role(folder: str) -> tuple[str, str]:
    """Returns what a folder's name says that it holds, "mask", "photo" or "", and what else."""
    words = _words(folder)
    if "with" in words[1:]:  # Of "frames with annotations", it holds the former.
        words = words[: words.index("with", 1)]
    whole = "".join(words)
    for kind, known in (("mask", MASK_WORDS), ("photo", PHOTO_WORDS)):
        if whole in known:
            return kind, ""
    for kind, known in (("mask", MASK_WORDS), ("photo", PHOTO_WORDS)):
        if any(word in known for word in words):
            both = MASK_WORDS | PHOTO_WORDS | _NOISE
            return kind, "".join(word for word in words if word not in both)
    for ending in _GLUED:
        if whole.endswith(ending):
            return "mask", whole.removesuffix(ending)
    return "", whole or folder


def mask_folder(name: str) -> str | None:
    """Returns the folder above an image that says that it is a mask, if the nearest that says."""
    parts = name.split("/")[:-1]
    for depth in range(len(parts), 0, -1):
        kind, _ = role(parts[depth - 1])
        if kind:
            return "/".join(parts[:depth]) if kind == "mask" else None
    return None


def names_masks(folder: str) -> bool:
    """Says whether a folder's name is nothing but a word for masks."""
    words = set(_words(folder))
    return words <= MASK_WORDS | _NOISE and not words <= {*_WEAK, *_OVERLAYS, *_NOISE}


def place(name: str) -> tuple[str, ...]:
    """Returns the folders of an image, without what they say about photos and masks."""
    return tuple(filter(None, (role(part)[1] for part in name.split("/")[:-1])))


def splits_of(photos: Iterable[str]) -> dict[str, str | None]:
    """Returns the split that each photo's topmost folder names, those called images left out.

    Folders that hold all photos are left out too, and the year of `train2017` is. Words that may
    mean something else, such as `valid`, count only beside a folder for training.
    """
    places = {name: place(name) for name in photos}
    shared = os.path.commonprefix(list(places.values()))
    depth = next((i for i, word in enumerate(shared) if _year_off(word) in _SPLITS), len(shared))
    tops = {name: [_year_off(word) for word in p[depth : depth + 1]] for name, p in places.items()}
    known = _SPLITS if any(_SPLITS.get(*top) == "train" for top in tops.values() if top) else _PLAIN
    return {name: known.get(*top) if top else None for name, top in tops.items()}


def _year_off(word: str) -> str:
    return re.sub(r"(?<=\D)20\d\d$", "", word)


def word_of(stem: str) -> str:
    """Returns the word for masks in a file's name, without its number, or ""."""
    if numbered := _NUMBERED.fullmatch(stem):
        return numbered["word"].lower()
    found = _AFFIXED.fullmatch(stem)
    return ((found["front"] or found["behind"] or "") if found else "").lower()


def kind_of_stem(name: str) -> str:
    """Returns what a file's whole name is a word for: "mask", "overlay", "photo" or ""."""
    words = set(_words(stem_of(name)))
    if words & _DRAWN and words <= _DRAWN | MASK_WORDS | PHOTO_WORDS:
        return "overlay"
    if words and words <= MASK_WORDS:
        return "mask"
    return "photo" if words and words <= PHOTO_WORDS else ""


def is_numbered(name: str) -> bool:
    """Says whether a file is one of a photo's numbered masks: a_mask_1.png."""
    return bool(_NUMBERED.fullmatch(stem_of(name)))


def rank(name: str) -> int:
    """Returns which of a photo's masks is taken: classes before instances, colours and the like."""
    words = set(_words(name)) | set(re.split(r"[/_\-. ]", name.lower()))
    return 2 * len(words & _SECONDARY) - len(words & _PRIMARY)


def photo_forms(name: str) -> list[str]:
    """Returns the names by which masks may call a photo, without ending."""
    stem = stem_of(name).lower()
    found = _OF_A_PHOTO.fullmatch(stem)
    return list(dict.fromkeys([stem, *([found["stem"]] if found else [])]))


def mask_forms(name: str) -> list[str]:
    """Returns the names that a mask's photo may have, without ending: the likeliest first."""
    forms = [stem_of(name)]
    if images.is_image(forms[0]):  # a.jpg.png
        forms.append(stem_of(forms[0]))
    for form in forms:
        found = _AFFIXED.fullmatch(form)
        if found and (found["front"] or found["behind"]) and found["stem"] not in forms:
            forms.append(found["stem"])
            if images.is_image(found["stem"]):  # a.jpg_mask.png
                forms.append(stem_of(found["stem"]))
    return [form.lower() for form in forms]


def shortened(name: str) -> Iterator[str]:
    """Yields a mask's name without its last words, whatever they are; numbers are no words."""
    for form in mask_forms(name):
        while found := _LAST_WORD.fullmatch(form):
            form = found["stem"]
            yield stem_of(form) if images.is_image(form) else form
