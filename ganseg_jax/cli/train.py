"""Learns to segment a folder of photos: settings that fit, GAN, segmenter, evaluation, report.

python -m ganseg_jax.cli.train --photos=FOLDER_OR_TAR --workdir=W [--minutes=30 | --size=64]

The photos should show one kind of thing; a few hundred are enough. With --minutes (30 if no --size
is given), a few steps are measured on this device, and image size and number of steps are chosen
to fit. With --size the usual number of steps is made, however long that takes. The same command
resumes what was interrupted. After a tenth of the GAN's steps it looks for known failures, says
what it sees, and starts once again with other settings if it must. Writes W/report.html;
W/plan.json says what was chosen. Every setting of configs/README.md can be given with --set.
"""

from absl import flags

from ganseg_jax.cli import app, config_flag, places, processes, setting_flags

PHOTOS = places.define_inputs("photos", "Folder of photos, or a tar archive.")
MINUTES = flags.DEFINE_float("minutes", None, "Time for everything.", lower_bound=0.1)
SIZE = flags.DEFINE_integer("size", None, "Image size in pixels: 32, 64, 128.", lower_bound=16)
PARTS = flags.DEFINE_integer("parts", None, "Number of parts; 6 if not given.", lower_bound=1)
WORKDIR = places.define_output("trained", "Folder of the run.", name="workdir")
LAYOUT = flags.DEFINE_enum(
    "layout", None, ["disc", "column", "row"],
    "How parts begin: a disc in the middle, a column for things that stand upright, or a row; left "
    "out, short trainings choose (below 15 minutes, the photos' shape).",
)  # fmt: skip
SET = flags.DEFINE_multi_string("set", [], "FIELD=VALUE: any setting, such as gan.batch_size=16.")
STAGES = setting_flags.define_stage_choices()
WATCH = setting_flags.define_watch()


def main() -> None:
    from ganseg_jax.config.schema import Config
    from ganseg_jax.config.setting import parsed
    from ganseg_jax.errors import UserError
    from ganseg_jax.jobs.own_photos import Asked, train_on

    if processes.several():
        raise UserError("train is for one process: start several with ganseg_jax.cli.pipeline")
    fields = {}
    for entry in SET.value:
        name, equals, text = entry.partition("=")
        if not equals:
            raise UserError(f"--set={entry} must look like --set=FIELD=VALUE")
        fields[name] = parsed(name, text, Config)
    asked = Asked(PHOTOS.value, MINUTES.value, SIZE.value, PARTS.value, LAYOUT.value, fields)
    with WATCH.watching():
        train_on(
            asked,
            WORKDIR.value,
            lambda argument: config_flag.named("image_folder", argument),
            *STAGES.value,
        )
    print(f"report: {WORKDIR.value}/report.html")


if __name__ == "__main__":
    app.run(main)
