"""What labels would give on faces, and how much generated parts tell about generated landmarks.

python -m experiments.comparisons.supervised_landmarks --workdir=W [--steps=2000] [--seed=0]

For comparison only; nothing else sees a label. Trains a small convolutional network on the
landmarks of the training photos of W's set, at W's image size, and measures it on the other
splits. Then it looks for landmarks in images of W's generator: how far from them are those that a
linear regression from the parts' centres, fitted on half of the images, gives for the other half?
Where generated parts say much and the segmenter's on photos little, the step from generated images
to photos loses it; if generated parts say little, the GAN has to learn more. The last line
printed is a JSON object; errors are shares of the distance between the eyes.
"""

import json

import numpy as np
from absl import flags

from ganseg_jax.cli import app, places

WORKDIR = places.define_workdir()
STEPS = flags.DEFINE_integer("steps", 2_000, "Updates of the network, of 64 photos each.")
SEED = flags.DEFINE_integer("seed", 0, "Of the network, its batches, and the latents.")

GENERATED = 2_000


def main() -> None:
    from ganseg_jax import loading
    from ganseg_jax.config import file as config_file
    from ganseg_jax.data import pipeline
    from ganseg_jax.errors import UserError
    from ganseg_jax.studies import supervised_landmarks as study

    config = config_file.load_config(WORKDIR.value)
    dataset = config.dataset
    if dataset.name != "faces_mtfl":
        raise UserError(f"{WORKDIR.value} is of {dataset.name}: a run of faces_mtfl is needed")
    if STEPS.value < 1:
        raise UserError(f"--steps={STEPS.value} must be at least 1")
    train, held_out, test = (
        pipeline.load_split(dataset.name, dataset.data_dir, split, config.image_size)
        for split in ("train", "landmark_test", "test")
    )

    def landmarks(split: pipeline.Split) -> np.ndarray:
        assert split.landmarks is not None  # faces_mtfl is always prepared with them.
        return split.landmarks

    predict = study.fit(train.images, landmarks(train), STEPS.value, SEED.value)
    figures = {
        "image_size": config.image_size,
        "supervised_held_out": study.error(predict(held_out.images), landmarks(held_out)),
        "supervised_test": study.error(predict(test.images), landmarks(test)),
    }
    images, centers = study.generate(*loading.load_generator(WORKDIR.value), GENERATED, SEED.value)
    figures |= study.explained(centers, predict(images))
    print(json.dumps(figures))


if __name__ == "__main__":
    app.run(main)
