"""Starts processes as launchers do, with their variables, and prints which of them join.

python -m tests.multidevice.joining http://METADATA_SERVER

Imports JAX once and forks for each process, which then costs half a second instead of three. Prints
one JSON object: case -> for each process, its index and the number of processes, or its mistake.
"""

import json
import os
import socket
import sys
import types
from unittest import mock

from absl import flags

from ganseg_jax.cli import processes, startup
from ganseg_jax.errors import UserError

HOST = "127.0.0.1"

SLICES = {"MEGASCALE_NUM_SLICES": "2", "MEGASCALE_COORDINATOR_ADDRESS": f"{HOST}:8080"}
TPU = {"TPU_ML_PLATFORM": "JAX"}
KUBERNETES = {"KUBERNETES_SERVICE_HOST": HOST, "HOSTNAME": "localhost"}
SLURM = {"SLURM_JOB_ID": "77", "SLURM_STEP_NODELIST": f"{HOST},b", "SLURM_NTASKS": "2"}
OPEN_MPI = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "0"}

CASES = {
    "tpu_vm": [TPU, TPU],
    "tpu_vm_of_one_host": [TPU],
    "tpu_vm_slices": [TPU, TPU],
    "tpu_unlisted": [TPU],
    "tpu_listed_alone": [TPU | {"TPU_PROCESS_ADDRESSES": "local"}],
    "gke": [
        TPU | {"TPU_WORKER_HOSTNAMES": f"{HOST},{HOST}", "TPU_WORKER_ID": str(i)} for i in range(2)
    ],
    "gke_slices": [
        TPU | SLICES | {"TPU_WORKER_HOSTNAMES": HOST, "TPU_WORKER_ID": "0"}
        | {"MEGASCALE_SLICE_ID": str(i)}
        for i in range(2)
    ],
    "srun": [SLURM | {"SLURM_PROCID": str(i), "SLURM_LOCALID": "0"} for i in range(2)],
    "salloc": [{"SLURM_JOB_ID": "77", "SLURM_NTASKS": "4"}],
    "salloc_interactive_step": [
        SLURM | {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_STEP_NUM_TASKS": "1"}
    ],
    "mpirun": [
        OPEN_MPI
        | {"OMPI_COMM_WORLD_RANK": str(i), "OMPI_MCA_orte_hnp_uri": f"4096.0;tcp://{HOST}:1"}
        for i in range(2)
    ],
    "mpirun_5": [OPEN_MPI | {"OMPI_COMM_WORLD_RANK": "0"}],
    "kubernetes": [KUBERNETES | {"JOB_COMPLETION_INDEX": str(i)} for i in range(2)],
    "kubernetes_no_job": [KUBERNETES],
}  # fmt: skip
"""For each case, the variables of each process."""

ENDPOINTS = {
    "tpu_vm": ",".join([f"unknown:unknown:{HOST}"] * 2),
    "tpu_vm_of_one_host": f"unknown:unknown:{HOST}",
    "tpu_vm_slices": HOST,
}


def metadata(case: str, number: int) -> dict[str, str]:
    """What the metadata server of a host answers, by attribute; others are not found."""
    several = case == "tpu_vm_slices"
    environment = SLICES | {"MEGASCALE_SLICE_ID": str(number)} if several else {}
    answers = {"tpu-env": "\n".join(f"{k}: '{v}'" for k, v in environment.items())}
    if case in ENDPOINTS:
        answers["worker-network-endpoints"] = ENDPOINTS[case]
        answers["agent-worker-number"] = str(0 if case == "tpu_vm_slices" else number)
    return answers


def pretend(case: str) -> None:
    """Replaces what is not here: TPU chips, which JAX looks for at its import, and Kubernetes."""
    from jax._src.clusters import cloud_tpu_cluster, cluster, k8s_cluster

    if case.startswith(("tpu", "gke")):
        cloud_tpu_cluster.running_in_cloud_tpu_vm = cluster.running_in_cloud_tpu_vm = True
        os.environ.pop("TPU_SKIP_MDS_QUERY", None)  # JAX sets it at its import, without chips.
        cloud_tpu_cluster.time = mock.Mock(time=cloud_tpu_cluster.time.time)
        mock.patch("time.sleep").start()
    if case == "kubernetes":
        owner = types.SimpleNamespace(controller=True, kind="Job")
        meta = types.SimpleNamespace(
            labels={"job-name": "train"}, owner_references=[owner], name="train"
        )
        spec = types.SimpleNamespace(subdomain="pods", parallelism=2)
        thing = types.SimpleNamespace(metadata=meta, spec=spec)
        server = mock.MagicMock()
        server.client.CoreV1Api().list_namespaced_pod.return_value.items = [thing]
        server.client.BatchV1Api().read_namespaced_job.return_value = thing
        sys.modules["kubernetes"] = server
        k8s_cluster.K8sCluster._namespace = classmethod(lambda cls: "default")
        mock.patch("socket.gethostbyname", return_value=HOST).start()


def start(case: str, number: int, variables: dict[str, str], server: str, port: int) -> str:
    """Starts one process as entry points do; returns what became of it."""
    os.environ.update(variables)
    os.environ["GCE_METADATA_IP"] = f"{server.removeprefix('http://')}/{case}/{number}"
    os.environ["JAX_COORDINATOR_PORT"] = str(port)
    if case == "kubernetes":  # The name of its first pod means nothing here.
        os.environ["JAX_COORDINATOR_ADDRESS"] = f"{HOST}:{port}"
    pretend(case)
    try:
        startup.start()
    except UserError as error:
        return str(error)
    import jax

    return f"{jax.process_index()} of {jax.process_count()}"


def fork(*arguments) -> tuple[int, int]:
    """Runs `start` in a process of its own; returns its number and where its answer is read."""
    reading, writing = os.pipe()
    if child := os.fork():
        os.close(writing)
        return child, reading
    try:
        os.write(writing, start(*arguments).encode())
        import jax

        jax.distributed.shutdown()
    finally:
        os._exit(0)


def main(server: str) -> None:
    flags.FLAGS(["joining"])
    processes.JOIN_SECONDS = 30
    import jax  # noqa: F401

    started = {}
    for case, variants in CASES.items():
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = probe.getsockname()[1]
        started[case] = [
            fork(case, number, variables, server, port) for number, variables in enumerate(variants)
        ]
        for child, _ in started[case]:
            os.waitpid(child, 0)
    answers = {
        case: [os.read(reading, 10000).decode() for _, reading in forked]
        for case, forked in started.items()
    }
    print(json.dumps(answers))


if __name__ == "__main__":
    main(sys.argv[1])
