"""Lists the verbs of the console script `ganseg`: each is an entry point under a short name."""

import dataclasses
import importlib.util


@dataclasses.dataclass(frozen=True)
class Verb:
    """Describes a verb.

    Attributes:
      name: what is typed.
      module: the entry point of `ganseg_jax.cli` that it runs, with that module's flags.
      usage: what follows the name.
      summary: what it does, in a line.
      example: what follows the name in an example.
    """

    name: str
    module: str
    usage: str
    summary: str
    example: str


_ALL = (
    Verb("check", "check", "FOLDER", "look at photos before training", "PHOTOS"),
    Verb(
        "train",
        "train",
        "FOLDER [--minutes=30 | --size=64] [--parts=6] [--out=DIR]",
        "learn to segment photos, measure, write a report; resumes",
        "PHOTOS --minutes=30 --out=mymodel",
    ),
    Verb(
        "segment",
        "segment",
        "INPUT... --model=M [--out=DIR]",
        "find the parts in photos and videos",
        "PHOTOS --model=people --out=parts",
    ),
    Verb(
        "sample", "sample", "--model=M [--out=DIR]", "generate images with their masks",
        "--model=people --num=16 --out=samples",
    ),
    Verb(
        "label", "label", "FOLDER --classes=A,B,...", "paint label maps in the browser",
        "mymodel/to_label --classes=head,torso,legs",
    ),
    Verb(
        "teach", "few_shot", "LABELS --workdir=W", "learn parts of your own from a few labels",
        "mymodel/to_label --workdir=mymodel",
    ),
    Verb("info", "info", "M", "say what a model is", "people"),
    Verb("export", "export", "M --format=F --out=FILE", "take a model away",
         "people --format=onnx --out=people.onnx"),
    Verb("push", "push", "M OWNER/NAME [--private] [--dry_run]", "publish a model on a model hub",
         "mymodel me/mymodel"),
    Verb("studio", "studio", "M", "a page to play with a model", "people"),
    Verb("doctor", "doctor", "", "find what is wrong with this machine", ""),
    Verb("completion", "completion", "bash|zsh|fish", "print shell completion", "bash"),
)  # fmt: skip


def verbs() -> dict[str, Verb]:
    """Returns the verbs by name, without those whose entry point is not there."""
    return {
        verb.name: verb
        for verb in _ALL
        if importlib.util.find_spec(f"ganseg_jax.cli.{verb.module}") is not None
    }
