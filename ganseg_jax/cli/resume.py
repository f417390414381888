"""Continues a run with the settings that its workdir has, to its report.

python -m experiments.resume --workdir=W
"""

import functools

from ganseg_jax.cli import app, config_flag, places

WORKDIR = places.define_workdir()


def main() -> None:
    from ganseg_jax.config.file import load_config
    from ganseg_jax.jobs import own_photos
    from ganseg_jax.jobs.train import run_all

    asked = own_photos.asked_before(WORKDIR.value)
    if asked is not None:  # Its config may be that of the first tenth.
        named = functools.partial(config_flag.named, "image_folder")
        own_photos.train_on(asked, WORKDIR.value, named)
    else:
        run_all(load_config(WORKDIR.value), WORKDIR.value)


if __name__ == "__main__":
    app.run(main)
