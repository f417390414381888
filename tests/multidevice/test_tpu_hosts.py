"""The hosts of a Cloud TPU pod join, as README's command starts them.

Neither TPUs nor their metadata server are needed: two processes on CPUs believe to have TPU chips,
and a server on this machine answers as the metadata server of each would.
"""

import http.server
import os
import pathlib
import subprocess
import sys
import threading

import pytest

ROOT = pathlib.Path(__file__).parents[2]

# JAX looks for TPU chips while it is imported; libtpu is needed for them and is not installed here.
PRETEND = """
import os, sys, types
import importlib.util
chips = types.ModuleType("jax._src.hardware_utils")
source = importlib.util.find_spec("jax").submodule_search_locations[0] + "/_src/hardware_utils.py"
exec(open(source).read(), chips.__dict__)
chips.num_available_tpu_chips_and_device_id = lambda: (4, chips.TpuVersion.v4)
sys.modules["jax._src.hardware_utils"] = chips
libtpu = types.ModuleType("libtpu")
libtpu.__spec__ = importlib.util.spec_from_loader("libtpu", None)
libtpu.get_library_path = lambda: ""
libtpu.configure_library_path = lambda: None
sys.modules["libtpu"] = libtpu
"""

WORKER = """
from absl import flags
from ganseg_jax.cli import app
flags.FLAGS(["worker"])
app.start()
import jax
print(jax.process_index(), jax.process_count())
"""


def metadata_server(answers: dict[str, str]):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            text = answers.get(self.path.rpartition("/")[2])
            self.send_response(404 if text is None else 200)
            self.end_headers()
            self.wfile.write((text or "").encode())

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def start_host(tmp_path, number: int, answers: dict[str, str]) -> subprocess.Popen:
    server = metadata_server(answers | {"agent-worker-number": str(number)})
    (tmp_path / "sitecustomize.py").write_text(PRETEND)
    left_out = ("TPU_", "SLURM_", "OMPI_", "XLA_FLAGS")
    variables = {k: v for k, v in os.environ.items() if not k.startswith(left_out)}
    variables |= {
        "JAX_PLATFORMS": "cpu",
        "GCE_METADATA_IP": f"127.0.0.1:{server.server_port}",
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
    }
    return subprocess.Popen(
        [sys.executable, "-c", WORKER],
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("count", [1, 2])
def test_hosts_of_a_pod_join(tmp_path, count):
    endpoints = ",".join(["unknown:unknown:127.0.0.1"] * count)
    answers = {"worker-network-endpoints": endpoints, "accelerator-type": "v5e", "tpu-env": ""}
    hosts = [start_host(tmp_path, number, answers) for number in range(count)]
    results = [host.communicate(timeout=120) for host in hosts]
    said = [out.split() for out, _ in results]
    assert said == [[str(number), str(count)] for number in range(count)], results
