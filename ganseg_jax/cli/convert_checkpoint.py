"""Published PyTorch checkpoints to workdirs, and back.

python -m experiments.convert_checkpoint --kind=gan --input=epoch_29.model \\
    --parameters=parameters.json --workdir=W
python -m experiments.convert_checkpoint --kind=segmenter --input=epoch_9.model --workdir=W
python -m experiments.convert_checkpoint --kind=gan --export=epoch_29.model \\
    --parameters=parameters.json --workdir=W

The workdir then holds finished stages, which evaluate, sample and segment open, and which train
further with a larger number of steps. Only writing files of PyTorch (.model, .pt, .pth) needs torch
installed.
"""

from typing import Any

from absl import flags
from etils import epath

from ganseg_jax.cli import app, places

_KIND = flags.DEFINE_enum("kind", None, ["gan", "segmenter"], "What the checkpoint holds.")
_INPUT = flags.DEFINE_string("input", None, "Weight file to make a workdir of.")
_PARAMETERS = flags.DEFINE_string(
    "parameters", None, "The published parameters.json of a GAN: read, or written with --export."
)
_EXPORT = flags.DEFINE_string("export", None, "Weight file to write from the workdir.")
_WORKDIR = places.define_workdir()
flags.mark_flag_as_required("kind")


def main() -> None:
    from ganseg_jax.errors import UserError

    if bool(_INPUT.value) == bool(_EXPORT.value):
        raise UserError("give either --input=FILE or --export=FILE")
    if _KIND.value == "gan" and not _PARAMETERS.value:
        raise UserError("--parameters=parameters.json is missing; a GAN's settings are in it")
    if _EXPORT.value:
        _export()
    else:
        _import()


def _import() -> None:
    from ganseg_jax.config import Config
    from ganseg_jax.config import file as config_file
    from ganseg_jax.interop import weights
    from ganseg_jax.jobs import convert as workdir

    target = _WORKDIR.value
    content = weights.read(_INPUT.value)
    known = (epath.Path(target) / "config.json").exists()
    config = config_file.load_config(target) if known else Config()
    if _KIND.value == "gan":
        parts = {
            name: weights.section(content, name, _INPUT.value)
            for name in ("generator", "discriminator")
        }
        workdir.import_gan(
            config, parts, workdir.read_parameters(places.required(_PARAMETERS)), target
        )
    else:
        workdir.import_segmenter(config, workdir.segmenter_from(content), target)
    print(f"{_INPUT.value} is now the {_KIND.value} of {target}")


def _export() -> None:
    from ganseg_jax.interop import weights
    from ganseg_jax.jobs import convert as workdir

    if _KIND.value == "gan":
        content, hyperparameters = workdir.export_gan(_WORKDIR.value)
        weights.write(_EXPORT.value, content)
        _write_parameters(places.required(_PARAMETERS), hyperparameters)
    else:
        weights.write(_EXPORT.value, {"detector": workdir.export_segmenter(_WORKDIR.value)})
    print(f"the {_KIND.value} of {_WORKDIR.value} is now in {_EXPORT.value}")


def _write_parameters(path: str, hyperparameters: dict[str, Any]) -> None:
    from ganseg_jax import files

    files.write_json(path, hyperparameters)


if __name__ == "__main__":
    app.run(main)
