"""Looks at photos before training: what is there, what is odd, how long training takes here.

python -m ganseg_jax.cli.check --photos=FOLDER_OR_TAR [--output=check]

Prints counts, sizes, shapes, near-duplicates, what cannot be read, and what would be trained with
what settings. How long that takes on this device is measured by a few steps of each stage. Writes

  contact_sheet.png   photos from all over the folder
  check.json          {"photos": {name: [height, width]}, "skipped": {name: reason},
                      "near_duplicates": [[name, name, ...], ...], "layout", "masks"}
"""

import json

from absl import flags

from ganseg_jax.cli import app, config_flag, places, setting_flags
from ganseg_jax.config import schema

PHOTOS = places.define_inputs("photos", "Folder of photos, or a tar archive.")
OUTPUT = places.define_output("check", "Folder to write to.")
PARTS = flags.DEFINE_integer("parts", 6, "Number of parts that would be trained.", lower_bound=1)
SIZE = flags.DEFINE_integer("size", 64, "Image size to measure, in pixels.", lower_bound=16)
TIME = flags.DEFINE_bool("time", True, "Measure how long training would take.")
SETTINGS = setting_flags.define_settings(schema.Dataset, {"max_megapixels": "max_megapixels"})


def main() -> None:
    from etils import epath

    from ganseg_jax import files
    from ganseg_jax.errors import command
    from ganseg_jax.jobs import budget
    from ganseg_jax.jobs import check as job

    checked = job.check(PHOTOS.value, SETTINGS.value.max_megapixels)
    output = epath.Path(OUTPUT.value)
    job.save_contact_sheet(checked, output / "contact_sheet.png")
    files.write_whole(output / "check.json", json.dumps(checked.content(), indent=1) + "\n")
    for line in checked.lines(SIZE.value):
        print(line)
    print(f"contact sheet: {output / 'contact_sheet.png'}")
    print(
        f"would train {PARTS.value} parts at {SIZE.value} px; short trainings choose how they "
        f"begin (--layout of `{command('train')}` says it instead)"
    )
    if TIME.value:
        config = config_flag.named("image_folder", f"parts={PARTS.value},size={SIZE.value}")
        speed = budget.measure(config)
        times = speed.seconds(config)
        each = ", ".join(f"{name} {budget.minutes_told(t)}" for name, t in times.items())
        print(f"measured here: {budget.told(speed)}")
        print(
            f"the usual number of steps takes about {budget.minutes_told(sum(times.values()))} "
            f"here ({each}), and some minutes for preparing and evaluation"
        )


if __name__ == "__main__":
    app.run(main)
