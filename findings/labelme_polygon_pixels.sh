#!/bin/bash
# LabelMe's own label maps make each polygon a row and a column larger, and fill the holes of groups.
#
# Expected: a square whose corners are (2, 2) and (10, 10) covers its area, 8 x 8 pixels, as the same
# polygon does in COCO's tools; two squares that share an edge cover as many pixels as one square of
# both; a ring inside another of the same group is a hole.
# Seen (labelme 6.3.1, pycocotools 2.0.11): `labelme.utils.shapes_to_label` paints 81 pixels,
# `pycocotools` 64. Of two squares with a common edge, whichever is listed later has the edge's
# pixels (16 x 8 pixels become 17 x 9 in all). Rings of a group are painted one over the other: the
# inner one is no hole, whatever `group_id` says.
#
# Exit status: 0 as described, 1 if that has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    labelme==6.3.1 pycocotools==2.0.11
cd "$folder"
cat > check.py <<'PY'
import numpy as np
from labelme import utils
from pycocotools import mask as coco


def square(left, top, right, bottom, label="a", group=None):
    points = [[left, top], [right, top], [right, bottom], [left, bottom]]
    return {"label": label, "shape_type": "polygon", "group_id": group, "points": points}


def labels(*shapes):
    numbers = {"_background_": 0, "a": 1, "b": 2}
    return np.asarray(utils.shapes_to_label((24, 24, 3), shapes, numbers)[0])


one = square(2, 2, 10, 10)
rle = coco.merge(coco.frPyObjects([sum(one["points"], [])], 24, 24))
print("labelme", (labels(one) == 1).sum(), "pycocotools", int(coco.area(rle)))
pair = one, square(10, 2, 18, 10, "b")
for shapes in (pair, pair[::-1]):
    found = labels(*shapes)
    print("a", (found == 1).sum(), "b", (found == 2).sum())
ring = labels(square(2, 2, 18, 18, group=1), square(6, 6, 12, 12, group=1))
print("in the hole", ring[9, 9])
PY
seen=$(QT_QPA_PLATFORM=offscreen venv/bin/python check.py 2> errors || { cat errors >&2; exit 1; })
echo "$seen"
[ "$seen" = "labelme 81 pycocotools 64
a 72 b 81
a 81 b 72
in the hole 1" ]
