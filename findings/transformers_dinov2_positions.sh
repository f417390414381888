#!/bin/bash
# The same DINOv2 weights are another network in transformers, at any size but that of training.
#
# Expected: `Dinov2Embeddings` of transformers resizes the learnt positions as the published DINOv2
# code does: for networks without registers bicubic with the scale (grid + 0.1) / 37, for those with
# registers to the size of the grid with antialiasing.
# Seen (transformers 5.24.0, torch 2.13.0): with registers it does, to the last bit. Without registers
# it resizes to the size of the grid, without antialiasing and without the 0.1. For photos of 224 px
# (16 x 16 patches instead of 37 x 37) positions of unit variance differ by up to 1.1 from those of
# the published scale. At 518 px nothing is resized and nothing differs. No warning is given.
#
# Exit status: 0 as described, 1 if that has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.13.0 transformers==5.24.0 numpy==2.4.6
cd "$folder"
cat > check.py <<'PY'
import torch
from transformers import Dinov2Config, Dinov2WithRegistersConfig
from transformers.models.dinov2.modeling_dinov2 import Dinov2Embeddings
from transformers.models.dinov2_with_registers.modeling_dinov2_with_registers import (
    Dinov2WithRegistersEmbeddings,
)

PATCH, TRAINED, WIDTH = 14, 37, 8
torch.manual_seed(0)
positions = torch.randn(1, 1 + TRAINED**2, WIDTH)
settings = dict(
    hidden_size=WIDTH,
    image_size=PATCH * TRAINED,
    patch_size=PATCH,
    num_attention_heads=1,
    num_hidden_layers=1,
)
plain = Dinov2Embeddings(Dinov2Config(**settings))
registers = Dinov2WithRegistersEmbeddings(Dinov2WithRegistersConfig(**settings))


@torch.no_grad()
def theirs(module, grid):
    module.position_embeddings.copy_(positions)
    tokens = torch.zeros(1, 1 + grid**2, WIDTH)
    out = module.interpolate_pos_encoding(tokens, PATCH * grid, PATCH * grid)
    return out[:, 1:].clone()


def resized(**how):
    square = positions[:, 1:].reshape(1, TRAINED, TRAINED, WIDTH).permute(0, 3, 1, 2)
    out = torch.nn.functional.interpolate(square, mode="bicubic", **how)
    return out.permute(0, 2, 3, 1).flatten(1, 2)


for grid in (16, TRAINED):
    published = resized(scale_factor=((grid + 0.1) / TRAINED,) * 2)
    if grid == TRAINED:
        published = positions[:, 1:]  # As the published code has it: nothing to resize.
    for name, one, other in (
        ("plain, published scale", theirs(plain, grid), published),
        ("plain, size of the grid", theirs(plain, grid), resized(size=(grid, grid))),
        ("registers, antialiased", theirs(registers, grid), resized(size=(grid, grid), antialias=True)),
    ):
        print(f"{grid} {name}: {float((one - other).abs().max()):.1f}")
PY
seen=$(venv/bin/python check.py)
echo "$seen"
[ "$seen" = "16 plain, published scale: 1.1
16 plain, size of the grid: 0.0
16 registers, antialiased: 0.0
37 plain, published scale: 0.0
37 plain, size of the grid: 0.0
37 registers, antialiased: 0.0" ]
