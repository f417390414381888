"""Few-shot part segmentation: from 1 to 10 labelled generated images to a network for photos.

python -m experiments.few_shot --workdir=W --labels=DIR

DIR holds images that the generator of W made, with their latents
(`python -m experiments.sample --workdir=W --for_labelling=10`), and label maps: paint them with
`python -m experiments.label --images=DIR --classes=head,torso,...`, or put masks or what
your labelling tool exports there (LabelMe, COCO, CVAT, Label Studio, VIA, Supervisely, YOLO).
Stages: features of the labelled images, head, auto-shot network, evaluation on the test photos of
W's data set. Stages that have finished are skipped, and one that was cut off resumes. If labels
or generator have changed, the stages are trained again.
Writes W/few_shot/ (metrics.json, report.html).
"""

from absl import flags

from ganseg_jax.cli import app
from ganseg_jax.config import few_shot
from ganseg_jax.errors import UserError

WORKDIR = app.define_workdir()
LABELS = flags.DEFINE_string("labels", None, "Folder of labelled images.", required=True)
OUTPUT = flags.DEFINE_string("output", "few_shot", "Name of the result's folder in the workdir.")
GENERATOR = flags.DEFINE_string(
    "generator", None, "StyleGAN2 checkpoint (.npz, .safetensors, .pt) instead of W's generator."
)
SHOTS = flags.DEFINE_integer("shots", None, "Use this many of the labelled images; default: all.")
CLASSES = flags.DEFINE_list("classes", None, "Class names; default: those that come with labels.")
LAYERS = flags.DEFINE_list("layers", [], "Some of mask, foreground, background; default: all.")
SETTINGS = app.define_settings(
    few_shot.FewShot,
    {
        "head": "head_kind",
        "epochs": "head.epochs",
        "standardize": "head.standardize",
        "num_samples": "auto_shot.num_samples",
        "num_steps": "auto_shot.num_steps",
        "batch_size": "auto_shot.batch_size",
        "unet_width": "unet_width",
        "log_every": "log_every",
        "checkpoint_every": "checkpoint_every",
        "seed": ("head.seed", "auto_shot.seed"),
    },
)
CLASS_MAP = flags.DEFINE_list(
    "class_map", [], "CLASS=PART,...: which part of the data set a class is measured against."
)
STAGES = app.define_stage_choices("head", "auto_shot")


def main() -> None:
    from ganseg_jax.jobs.few_shot import few_shot as run

    pairs = [entry.partition("=")[::2] for entry in CLASS_MAP.value]
    if not all(name and part for name, part in pairs):
        raise UserError("--class_map looks like head=face,torso=2")
    keep, retrain = STAGES.value
    run(
        WORKDIR.value,
        LABELS.value,
        SETTINGS.value,
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
