"""The released PyTorch checkpoints, measured as the paper measures, beside the paper's figures.

python -m experiments.published --generator=epoch_29.model --parameters=parameters.json \\
    --segmenter=epoch_9.model --source=FOLDER_OR_TAR --workdir=W
    [--dataset=celeba_aligned] [--data_dir=data] [--inception_checkpoint=FILE]

Converts the files into the stages of a workdir, prepares the data set from --source if it is not
in --data_dir, and measures by the protocols that the paper's figures were made with: in float32
with exact products, on whatever device there is. Prints our row beside the paper's and writes
W/beside_the_paper.md, W/evaluation/ and W/report.html. The same command resumes, and measures
again. FID needs --inception_checkpoint, and then 50,000 samples, which take a GPU or a TPU.
"""

from absl import flags

from ganseg_jax.cli import app, places, setting_flags
from ganseg_jax.config import schema

_GENERATOR = flags.DEFINE_string("generator", None, "Released checkpoint of the GAN.")
_PARAMETERS = flags.DEFINE_string("parameters", None, "The parameters.json beside it.")
_SEGMENTER = flags.DEFINE_string("segmenter", None, "Released checkpoint of the segmenter.")
_DATASET = flags.DEFINE_string(
    "dataset", None, "Which of the paper's data sets; default: the one that the parameters name."
)
_SOURCE = flags.DEFINE_string("source", None, "Folder or tar archive with the original photos.")
_DATA_DIR = flags.DEFINE_string("data_dir", "data", "Folder of the prepared data sets.")
_INCEPTION = flags.DEFINE_string(
    "inception_checkpoint", None, "FID Inception weights; without them FID is not measured."
)
_DINO = flags.DEFINE_string(
    "dino_checkpoint", None, "Weights of a DINO: measure clusterings of its features too."
)
_SETTINGS = setting_flags.define_settings(
    schema.Evaluation,
    {"num_samples": "num_samples", "batch_size": "batch_size", "references": "references"},
    defaults=False,
)
_WORKDIR = places.define_workdir()


def main() -> None:
    from ganseg_jax.jobs import published

    released = published.Released(
        places.required(_GENERATOR), places.required(_PARAMETERS), places.required(_SEGMENTER)
    )
    fields = {
        "dataset.source": _SOURCE.value,
        "dataset.data_dir": _DATA_DIR.value,
        "evaluation.inception_checkpoint": _INCEPTION.value,
        "evaluation.dino_checkpoint": _DINO.value,
    }
    fields = {name: value for name, value in fields.items() if value}
    fields |= {f"evaluation.{name}": value for name, value in _SETTINGS.given.items()}
    published.evaluate(released, _WORKDIR.value, _DATASET.value, fields)


if __name__ == "__main__":
    app.run(main)
