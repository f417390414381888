#!/bin/bash
# TFDS writes data sets without TensorFlow, until a split's records outgrow 1 GiB.
#
# Expected: a builder that writes ArrayRecord files and gets its images as encoded bytes needs no
# TensorFlow, whatever its size: small sets of the same builder are prepared without it.
# Seen (tensorflow-datasets 4.9.10): up to `shuffle.MAX_MEM_BUFFER_SIZE` the records of a split are
# sorted in memory. With one byte more they are moved to bucket files, which are opened with
# tf.io.gfile: the preparation ends in ModuleNotFoundError, when most of its work is done.
# The limit is lowered here, so that a few records are enough.
#
# Exit status: 0 as described, 1 if that has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    tensorflow-datasets==4.9.10 array-record==0.8.3
cd "$folder"
cat > check.py <<'PY'
import tempfile

import tensorflow_datasets as tfds
from tensorflow_datasets.core import shuffle


class Texts(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version("1.0.0")
    url_infos = None

    def _info(self):
        features = tfds.features.FeaturesDict({"text": tfds.features.Text()})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": ((str(i), {"text": "x" * 1000}) for i in range(20))}

    def _generate_examples(self):
        raise NotImplementedError


def outcome(limit):
    shuffle.MAX_MEM_BUFFER_SIZE = limit
    with tempfile.TemporaryDirectory() as folder:
        try:
            Texts(data_dir=folder, file_format="array_record").download_and_prepare()
        except Exception as error:
            return type(error).__name__
    return "prepared"


seen = {limit: outcome(limit) for limit in (1 << 30, 10_000)}
print("tensorflow-datasets", tfds.__version__, seen)
raise SystemExit(seen != {1 << 30: "prepared", 10_000: "ModuleNotFoundError"})
PY
"$folder/venv/bin/python" check.py
