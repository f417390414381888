"""The model card that goes with each exported model, in Markdown, as model hubs show it."""

import dataclasses
import importlib.metadata
import json
from collections.abc import Mapping

_LICENCES = {
    *("mit", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "unlicense", "gpl-3.0", "agpl-3.0"),
    *("cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0"),
}
"""As hubs call them."""

FIGURES = (
    "foreground_iou",
    "landmark_error",
    "part_nmi",
    "part_ari",
    "foreground_nmi",
    "foreground_ari",
)
"""Of `metrics.json`: those of the segmenter."""

TAGS = ("image-segmentation", "part-segmentation", "ganseg", "jax")
"""By which hubs find a model."""


@dataclasses.dataclass(frozen=True)
class Facts:
    """Holds what a card says about a model.

    Attributes:
      name: of the model.
      data: of which data set it was made, in words.
      classes: names, background first.
      image_size: side of the square that photos are resized to, in pixels; None for none.
      network: in words.
      refined: whether masks are brought to the edges of each photo's colours.
      figures: of `metrics.json`, as far as it was measured.
      licence: of the model.
      versions: packages that it was written with, by name.
    """

    name: str
    data: str
    classes: tuple[str, ...]
    image_size: int | None
    network: str
    refined: bool
    figures: Mapping[str, float]
    licence: str
    versions: Mapping[str, str]


def versions(*packages: str) -> dict[str, str]:
    """Returns the installed versions of packages."""
    return {name: importlib.metadata.version(name) for name in packages}


def licence_lines(licence: str) -> list[str]:
    """Returns a licence as the front matter of a card names it."""
    known = "-".join(licence.lower().split())
    if known in _LICENCES:
        return [f"license: {known}"]
    return ["license: other", f"license_name: {json.dumps(licence, ensure_ascii=False)}"]


def card(facts: Facts, content: str, loading: str, picture: str = "") -> str:
    """Returns a model card.

    Args:
      facts: about the model.
      content: what the files hold, in Markdown.
      loading: Python that loads them.
      picture: file of a picture beside the card, if there is one.
    """
    size = f"{facts.image_size} x {facts.image_size} pixels"
    seen = f"Photos of any size are resized to {size}" if facts.image_size else "Any size is fine"
    refined = (
        "Its masks are brought to the edges of each photo's colours."
        if facts.refined
        else "Its masks are the network's own; nothing is refined."
    )
    rows = [f"| {i} | {name} |" for i, name in enumerate(facts.classes)]
    written = ", ".join(f"{name} {version}" for name, version in facts.versions.items())
    return "\n".join(
        [
            "---",
            "library_name: ganseg_jax",
            "pipeline_tag: image-segmentation",
            *licence_lines(facts.licence),
            "tags:",
            *(f"- {tag}" for tag in TAGS),
            "---",
            f"# {facts.name}",
            "",
            "Finds the parts of an object in photos. It was trained by ganseg_jax.",
            "",
            *([f"![Generated images and their parts]({picture})", ""] if picture else []),
            content,
            "",
            "## Data",
            "",
            f"{facts.data} It knows no other kind of photo: it will mark parts in any photo, also "
            "where there is no such object.",
            "",
            f"{seen}, without keeping the aspect ratio. Network: {facts.network}. {refined}",
            "",
            "## Classes",
            "",
            "| label | class |",
            "| --- | --- |",
            *rows,
            "",
            "## Figures",
            "",
            *_figures(facts.figures),
            "",
            "## Load it",
            "",
            "```python",
            loading.strip(),
            "```",
            "",
            "## Licence",
            "",
            f"{facts.licence}. The photos that it was trained on have terms of their own.",
            "",
            f"Written with {written}.",
            "",
        ]
    )


def _figures(figures: Mapping[str, float]) -> list[str]:
    """Returns the lines of a table of the main figures."""
    measured = [
        f"| {name.replace('_', ' ')} | {figures[name]:.4g} |" for name in FIGURES if name in figures
    ]
    return ["| measure | value |", "| --- | --- |", *measured] if measured else ["Not measured."]
