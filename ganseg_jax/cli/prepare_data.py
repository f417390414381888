"""Builds a data set for training.

python -m experiments.prepare_data --dataset=NAME --source=FOLDER_OR_TAR --data_dir=D

A set that is already there is left as it is.  Without a fitting --source the answer says what the
set is built from and where that is published.
"""

import sys

from absl import flags

from ganseg_jax.cli import app, places, setting_flags
from ganseg_jax.config import schema
from ganseg_jax.data import builders

_DATASET = flags.DEFINE_string("dataset", None, f"Which data set: {', '.join(builders.names())}.")
_SOURCE = flags.DEFINE_string("source", None, "Folder or tar archive with the original files.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where data sets are kept.")
_SETTINGS = setting_flags.define_settings(schema.Dataset, {"max_megapixels": "max_megapixels"})


def main() -> None:
    from ganseg_jax.data import prepare

    dataset, data_dir = places.required(_DATASET), places.required(_DATA_DIR)
    prepared = prepare.prepare(
        dataset,
        _SOURCE.value,
        data_dir,
        progress=True,
        max_megapixels=_SETTINGS.value.max_megapixels,
    )
    for line in [] if prepared.already else prepared.report():
        print(line, file=sys.stderr)
    print(prepared)


if __name__ == "__main__":
    app.run(main, uses_jax=False)
