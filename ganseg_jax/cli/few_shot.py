"""Few-shot part segmentation: from a few labelled images to a network for photos.

python -m experiments.few_shot --workdir=W --labels=DIR

DIR holds images that the generator of W made, with their latents
(`python -m experiments.sample --workdir=W --for_labelling=10`), real photos of any size, or both,
and label maps: paint them with `python -m experiments.label --images=DIR --classes=head,torso,...`,
or put masks or what your labelling tool exports there (LabelMe, COCO, CVAT, Label Studio, VIA,
Supervisely, YOLO).
Stages: features of the labelled generated images, head, auto-shot network, evaluation on the test
photos of W's data set. Labelled photos teach the network directly; from four of them on, the
command measures on photos left out which labels help, and uses those (--photos=auto). Stages that
have finished are skipped, and one that was cut off resumes. If labels, photos or generator have
changed, the stages are trained again.
Writes W/few_shot/ (metrics.json, report.html).
"""

from typing import cast, get_args

from absl import flags

from ganseg_jax.cli import app, places, setting_flags
from ganseg_jax.config import few_shot
from ganseg_jax.errors import UserError

WORKDIR = places.define_workdir()
flags.DEFINE_alias("model", "workdir")
LABELS = places.define_inputs("labels", "Folder of labelled images.")
OUTPUT = flags.DEFINE_string("output", "few_shot", "Name of the result's folder in the workdir.")
GENERATOR = flags.DEFINE_string(
    "generator", None, "StyleGAN2 checkpoint (.pt, .pkl, .npz, ...) instead of W's generator."
)
SHOTS = flags.DEFINE_integer(
    "shots", None, "Use this many of the labelled images; default: all.", lower_bound=1
)
CLASSES = flags.DEFINE_list("classes", None, "Class names; default: those that come with labels.")
LAYERS = flags.DEFINE_list("layers", [], "Some of mask, foreground, background; default: all.")
PRESET = flags.DEFINE_enum(
    "preset",
    "auto",
    list(get_args(few_shot.Preset)),
    "Networks and schedules of what no flag sets: the paper's (hours on a GPU), or small ones "
    "(minutes on two CPU cores); auto takes small ones below 128 px. A folder keeps its own.",
)
SETTINGS = setting_flags.define_settings(
    few_shot.FewShot,
    {
        "head": "head_kind",
        "epochs": "head.epochs",
        "standardize": "head.standardize",
        "num_samples": "auto_shot.num_samples",
        "num_steps": "auto_shot.num_steps",
        "batch_size": "auto_shot.batch_size",
        "learning_rate_schedule": "auto_shot.learning_rate_schedule",
        "unet_width": "unet_width",
        "unet_depth": "unet_depth",
        "log_every": "log_every",
        "checkpoint_every": "checkpoint_every",
        "photos": "photos.use",
        "photo_share": "photos.share",
        "folds": "photos.folds",
        "seed": ("head.seed", "auto_shot.seed"),
    },
    defaults=False,
)
CLASS_MAP = flags.DEFINE_list(
    "class_map", [], "CLASS=PART,...: which part of the data set a class is measured against."
)
STAGES = setting_flags.define_stage_choices("head", "auto_shot")
WATCH = setting_flags.define_watch()


def main() -> None:
    from ganseg_jax.jobs.few_shot import few_shot as run

    pairs = [entry.partition("=")[::2] for entry in CLASS_MAP.value]
    if not all(name and part for name, part in pairs):
        raise UserError("--class_map looks like head=face,torso=2")
    keep, retrain = STAGES.value
    with WATCH.watching():
        run(
            WORKDIR.value,
            LABELS.value,
            SETTINGS.given,
            preset=cast(few_shot.Preset, PRESET.value),
            output=OUTPUT.value,
            generator=GENERATOR.value,
            layers=LAYERS.value,
            shots=SHOTS.value,
            classes=CLASSES.value,
            class_map=dict(pairs),
            keep=keep,
            retrain=retrain,
        )


if __name__ == "__main__":
    app.run(main)
