"""Few-shot part segmentation: from 1 to 10 labelled generated images to a network for photos.

python -m experiments.few_shot --workdir=W --labels=DIR

DIR holds images that the generator of W made, with their latents
(`python -m experiments.sample --workdir=W --for_labelling=10`), and label maps: paint them with
`python -m experiments.label --images=DIR --classes=head,torso,...`, or put indexed PNGs, LabelMe
or COCO files there. Stages: features of the labelled images, head, auto-shot network, evaluation
on the test photos of W's data set. Finished stages are skipped, one that was cut off goes on.
Writes W/few_shot/ (metrics.json, report.html).
"""

from absl import flags

from ganseg_jax.cli import app

WORKDIR = app.define_workdir()
LABELS = flags.DEFINE_string("labels", None, "Folder of labelled images.", required=True)
OUTPUT = flags.DEFINE_string("output", "few_shot", "Name of the result's folder in the workdir.")
GENERATOR = flags.DEFINE_string(
    "generator", None, "StyleGAN2 checkpoint (.npz, .safetensors, .pt) instead of W's generator."
)
SHOTS = flags.DEFINE_integer("shots", None, "Use this many of the labelled images; default: all.")
CLASSES = flags.DEFINE_list("classes", None, "Class names; default: those that come with labels.")
LAYERS = flags.DEFINE_list("layers", [], "Some of mask, foreground, background; default: all.")
HEAD = flags.DEFINE_enum(
    "head",
    "auto",
    ["auto", "cnn", "mlp"],
    "Network on the features; auto: mlp, which sees single pixels, for images below 128 px.",
)
EPOCHS = flags.DEFINE_integer("epochs", 1000, "Epochs of the head.")
STANDARDIZE = flags.DEFINE_boolean(
    "standardize", True, "Standardise the features' channels over the labelled images."
)
NUM_SAMPLES = flags.DEFINE_integer("num_samples", 5000, "Generated images for the U-Net.")
NUM_STEPS = flags.DEFINE_integer("num_steps", 20_000, "Updates of the U-Net.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 16, "Images in each update of the U-Net.")
UNET_WIDTH = flags.DEFINE_integer("unet_width", 64, "Channels of the U-Net at full size.")
LOG_EVERY = flags.DEFINE_integer("log_every", 100, "Steps between lines of progress.")
CHECKPOINT_EVERY = flags.DEFINE_integer("checkpoint_every", 1000, "Steps between checkpoints.")
SEED = flags.DEFINE_integer("seed", 0, "Of every random choice.")


def main() -> None:
    from ganseg_jax.config import few_shot as schema
    from ganseg_jax.jobs import few_shot as run

    settings = schema.FewShot(
        head_kind=HEAD.value,
        unet_width=UNET_WIDTH.value,
        log_every=LOG_EVERY.value,
        checkpoint_every=CHECKPOINT_EVERY.value,
        head=schema.Head(epochs=EPOCHS.value, standardize=STANDARDIZE.value, seed=SEED.value),
        auto_shot=schema.AutoShot(
            num_samples=NUM_SAMPLES.value,
            num_steps=NUM_STEPS.value,
            batch_size=BATCH_SIZE.value,
            seed=SEED.value,
        ),
    )
    run.few_shot(
        WORKDIR.value,
        LABELS.value,
        settings,
        output=OUTPUT.value,
        generator=GENERATOR.value,
        layers=LAYERS.value,
        shots=SHOTS.value,
        classes=CLASSES.value,
    )


if __name__ == "__main__":
    app.run(main)
