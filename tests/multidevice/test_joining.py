"""Processes join as their launchers start them, and a process alone waits for nobody.

Neither TPUs nor clusters are needed: real processes on CPUs get a launcher's variables, and a
server on this machine answers as the metadata server of each host would.
"""

import http.server
import json
import os
import pathlib
import subprocess
import sys
import threading

import pytest

from tests.multidevice import joining

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def metadata_server():
    """The address of a server for all hosts: http://ADDRESS/CASE/HOST/.../ATTRIBUTE."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            _, case, number, *_, attribute = self.path.split("/")
            text = joining.metadata(case, int(number)).get(attribute)
            self.send_response(404 if text is None else 200)
            self.end_headers()
            self.wfile.write((text or "").encode())

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def joined(metadata_server):
    """For each case, what became of its processes."""
    launchers = ("TPU_", "SLURM_", "OMPI_", "KUBERNETES_", "XLA_FLAGS")
    variables = {k: v for k, v in os.environ.items() if not k.startswith(launchers)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.multidevice.joining", metadata_server],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "case", ["tpu_vm", "tpu_vm_slices", "gke", "gke_slices", "srun", "mpirun", "kubernetes"]
)
def test_processes_of_a_launcher_join(joined, case):
    assert joined[case] == ["0 of 2", "1 of 2"]


@pytest.mark.parametrize(
    "case",
    [
        "tpu_vm_of_one_host",
        "tpu_unlisted",
        "tpu_listed_alone",
        "salloc",
        "salloc_interactive_step",
        "kubernetes_no_job",
    ],
)
def test_a_process_alone_waits_for_nobody(joined, case):
    assert joined[case] == ["0 of 1"]


def test_what_jax_cannot_find_is_said_with_the_remedy(joined):
    (said,) = joined["mpirun_5"]
    assert "pip install mpi4py" in said and "--num_processes=1" in said
