#!/bin/bash
# Pillow 13 gives other bytes than Pillow 12 for tall images that are made smaller.
#
# Expected: the same image resized with the same filter has the same bytes in every version (so that
# a network that is trained with one sees the same photos with another), unless the notes say so; and
# what order rows and columns are resized in does not depend on the image's aspect.
# Seen (Pillow 12.3.0, 13.0.0; bilinear, RGB to 64 x 64): with 12.3.0 columns are resized first, then,
# after rounding to bytes, the rows. With 13.0.0 rows are first if the image is made shorter and its
# height + 64 is more than twice its width. 200 x 65 pixels of noise: a fifth of the bytes differ, by 1.
# 65 x 200 pixels: none. Programs that repeat Pillow's arithmetic (exported models) need both orders.
#
# Exit status: 0 as described, 1 if that has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat > resize.py <<'PY'
import sys

import numpy as np
import PIL
from PIL import Image

for height, width in ((200, 65), (300, 183), (300, 182), (300, 181), (65, 200)):
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    small = Image.fromarray(noise).resize((64, 64), Image.Resampling.BILINEAR)
    np.save(f"{PIL.__version__}_{height}_{width}.npy", np.asarray(small))
PY
cat > compare.py <<'PY'
import numpy as np

for size in ("200_65", "300_183", "300_182", "300_181", "65_200"):
    before, after = (np.load(f"{version}_{size}.npy").astype(int) for version in ("12.3.0", "13.0.0"))
    away = abs(before - after)
    print(size, "differ" if away.any() else "equal", "by", away.max())
PY
for version in 12.3.0 13.0.0; do
    "${PYTHON:-python3}" -m venv "venv_$version"
    "venv_$version/bin/pip" install --quiet --disable-pip-version-check "pillow==$version" numpy==2.4.6
    "venv_$version/bin/python" resize.py
done
seen=$("venv_13.0.0/bin/python" compare.py)
echo "$seen"
[ "$seen" = "200_65 differ by 1
300_183 equal by 0
300_182 equal by 0
300_181 differ by 1
65_200 equal by 0" ]
