"""The page of all settings: `python -m ganseg_jax.config.reference > configs/README.md`."""

from ganseg_jax.config.schema import Config
from ganseg_jax.config.setting import Leaf, leaves

CHANGES = {"never": "no", "steps": "if given explicitly", "anytime": "yes"}

INTRODUCTION = """# Settings

Every field of a config, made by `python -m ganseg_jax.config.reference > configs/README.md`. On the
command line a field is `--config.NAME=VALUE`. "Later" says whether a workdir may be continued with
another value than it was begun with.
"""


def page() -> str:
    """Returns the page as Markdown: a table for each section of the config."""
    sections: dict[str, list[str]] = {}
    for name, leaf in leaves(Config).items():
        sections.setdefault(name.rpartition(".")[0], []).append(_row(name, leaf))
    tables = [
        f"## {section or 'The run'}\n\n| Field | Default | Values | Later | What it does |\n"
        "| --- | --- | --- | --- | --- |\n" + "\n".join(rows) + "\n"
        for section, rows in sections.items()
    ]
    return "\n".join([INTRODUCTION, *tables])


def _row(name: str, leaf: Leaf) -> str:
    facts = leaf.setting
    cells = (
        f"`{name}`",
        f"`{leaf.default!r}`",
        _values(leaf),
        CHANGES[facts.change],
        facts.doc.replace("|", "\\|").replace("\n", " "),
    )
    return f"| {' | '.join(cells)} |"


def _values(leaf: Leaf) -> str:
    """Returns the type or the choices, the bounds, and the unit."""
    facts = leaf.setting
    if leaf.choices:
        words = [", ".join(f"`{choice!r}`" for choice in leaf.choices)]
    else:
        words = [leaf.type.__name__ if isinstance(leaf.type, type) else str(leaf.type)]
        words[0] = words[0].replace("|", "\\|")
    bounds = (("at least", facts.minimum), ("above", facts.above), ("below", facts.below))
    words += [f"{word} {bound}" for word, bound in bounds if bound is not None]
    return ", ".join([*words, *([facts.unit] if facts.unit else [])])


if __name__ == "__main__":
    print(page(), end="")
