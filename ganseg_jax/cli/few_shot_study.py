"""How many labels few-shot segmentation saves: the curve of labels against IoU.

python -m experiments.few_shot_study --workdir=W --output=DIR [--labels=LABELS]

W holds a GAN trained on photos whose parts are known. LABELS holds images that it made, with label
maps, as for `experiments.few_shot`; puppets do without, since they can be labelled by rule (nearest
part colour). Networks learned from 1, 5 and 10 of them, and the same network from 1 to 500 labelled
real photos, are measured on the real test photos. Writes DIR/study.json, study.md, study.png,
labelled.png and segmented.png. Networks that are finished are skipped, one that was cut off goes
on; shots, counts and seeds may be added later.
"""

from absl import flags

from ganseg_jax.cli import app, places

WORKDIR = places.define_workdir()
OUTPUT = flags.DEFINE_string("output", None, "Folder to write to.", required=True)
LABELS = flags.DEFINE_string("labels", None, "Folder of labelled images; puppets need none.")
SHOTS = flags.DEFINE_list("shots", ["1", "5", "10"], "Numbers of labelled generated images.")
SUPERVISED = flags.DEFINE_list(
    "supervised", ["1", "10", "100", "500"], "Numbers of labelled real photos."
)
MIXED = flags.DEFINE_list(
    "mixed", [], "Numbers of labelled photos, together with as many labelled generated images."
)
SEEDS = flags.DEFINE_list("seeds", ["0"], "Seeds; each has other labelled photos.")
LAYERS = flags.DEFINE_list(
    "layers", ["mask", "foreground"], "Features: some of mask, foreground, background."
)
HEAD = flags.DEFINE_enum("head", "mlp", ["cnn", "mlp"], "Network on the generator's features.")
HEAD_STEPS = flags.DEFINE_integer("head_steps", 400, "Updates of the head.", lower_bound=1)
NUM_SAMPLES = flags.DEFINE_integer("num_samples", 640, "Generated images for the U-Net.")
NUM_STEPS = flags.DEFINE_integer("num_steps", 450, "Updates of every U-Net.", lower_bound=1)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "Images in each update.", lower_bound=1)
UNET_WIDTH = flags.DEFINE_integer("unet_width", 12, "Channels at full size.", lower_bound=1)
UNET_DEPTH = flags.DEFINE_integer("unet_depth", 3, "Halvings of the U-Net.", lower_bound=1)


def main() -> None:
    from ganseg_jax.studies import few_shot as study

    chosen = study.StudySettings(
        shots=_numbers(SHOTS, 1),
        supervised=_numbers(SUPERVISED, 1),
        mixed=_numbers(MIXED, 1) if MIXED.value else (),
        seeds=_numbers(SEEDS, 0),
        layers=tuple(LAYERS.value),
        head_kind="cnn" if HEAD.value == "cnn" else "mlp",
        head_steps=HEAD_STEPS.value,
        num_samples=NUM_SAMPLES.value,
        num_steps=NUM_STEPS.value,
        batch_size=BATCH_SIZE.value,
        unet_width=UNET_WIDTH.value,
        unet_depth=UNET_DEPTH.value,
    )
    study.run_study(WORKDIR.value, OUTPUT.value, chosen, LABELS.value)


def _numbers(flag: flags.FlagHolder, lowest: int) -> tuple[int, ...]:
    from ganseg_jax.errors import UserError

    try:
        numbers = sorted({int(value) for value in flag.value})
    except ValueError:
        numbers = []
    if not numbers or numbers[0] < lowest:
        given = ",".join(flag.value)
        raise UserError(f"--{flag.name}={given}: give whole numbers from {lowest}, like 1,5,10")
    return tuple(numbers)


if __name__ == "__main__":
    app.run(main)
