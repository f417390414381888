"""Writes a trained segmenter in a format for programs that know nothing of this package.

python -m experiments.export --pretrained=people --format=onnx --output=people.onnx
python -m experiments.export --workdir=W --format=stablehlo --output=DIR
python -m experiments.export --workdir=W/few_shot --format=onnx --output=parts.onnx

  onnx         one graph from photo bytes to labels and probabilities, of any number and size of
               photos; for onnxruntime and others
  stablehlo    the same as a program of jax.export, for CPUs, GPUs and TPUs in one file
  page         a web page, one file, that segments the photos dropped on it, offline; needs
               --onnxruntime_web=FILE, which `npm pack onnxruntime-web@1.30.0` writes
  safetensors  weights in float32 and config.json, which load_segmenter and load_generator open
  folder       the same in float16: a packed model

Resizing, normalisation and, where the model uses it, refinement are in the first three. A model
card goes with each: README.md in a folder, NAME.md beside a file NAME. ONNX and the page
need onnx, StableHLO flatbuffers: pip install "ganseg-jax[export]".
"""

import logging

from absl import flags

from ganseg_jax.cli import app, places

LOG = logging.getLogger("ganseg_jax.export")
MODEL = places.define_model()
FORMAT = flags.DEFINE_enum(
    "format", "onnx", ["onnx", "stablehlo", "page", "safetensors", "folder"], "What to write."
)
OUTPUT = places.define_output(
    None, "A file that ends with .onnx, .stablehlo or .html; else a folder.", folder=False
)
LICENCE = flags.DEFINE_string("licence", "", "Of the model, for its card, such as MIT.")
REFINE = flags.DEFINE_bool(
    "refine", None, "Bring masks to the edges of each photo's colours; left out, as in the config."
)

ONNXRUNTIME_WEB = flags.DEFINE_string(
    "onnxruntime_web", "", "The npm package onnxruntime-web, a folder or .tgz; for the page."
)


def main() -> None:
    from ganseg_jax.export.formats import export

    output = places.required(OUTPUT)
    paths = export(
        MODEL(), FORMAT.value, output, LICENCE.value, REFINE.value, ONNXRUNTIME_WEB.value
    )
    for path in paths:
        LOG.info("%s: %.2f MB", path, path.stat().length / 1e6)


if __name__ == "__main__":
    app.run(main)
