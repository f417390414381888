"""Which launcher is recognised, which devices a process takes, and what is said at the end."""

import pytest

from ganseg_jax.cli import processes

STEP = {"SLURM_STEP_NODELIST": "a", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}


@pytest.mark.parametrize(
    ("variables", "launcher"),
    [
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, None),  # A batch script without srun.
        ({"SLURM_NTASKS": "4"} | STEP, "SLURM"),
        ({"SLURM_NTASKS": "1"} | STEP, None),
        ({"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "1"} | STEP, None),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, "GKE"),
        ({"TPU_WORKER_HOSTNAMES": "localhost", "TPU_ML_PLATFORM": "JAX"}, None),
        ({"TPU_WORKER_HOSTNAMES": "a", "MEGASCALE_NUM_SLICES": "2"}, "GKE"),
        ({"TPU_ML_PLATFORM": "JAX"}, "Cloud TPU VM"),
        ({"TPU_ML_PLATFORM": "JAX", "TPU_SKIP_MDS_QUERY": "1"}, None),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "Open MPI"),
        ({"KUBERNETES_SERVICE_HOST": "a", "JOB_COMPLETION_INDEX": "0"}, "Kubernetes"),
        ({"KUBERNETES_SERVICE_HOST": "a"}, None),
        ({}, None),
    ],
)
def test_only_tasks_that_were_started_are_joined(variables, launcher):
    assert processes.launcher(variables) == launcher


@pytest.mark.parametrize(
    ("variables", "choice"),
    [
        ({}, []),
        ({"SLURM_STEP_TASKS_PER_NODE": "1(x2)"}, []),
        ({"SLURM_STEP_TASKS_PER_NODE": "8(x2)"}, None),
        ({"SLURM_STEP_TASKS_PER_NODE": "8(x2)", "SLURM_GPUS_PER_TASK": "1"}, []),
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "4"}, None),
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "1"}, []),
        ({"JAX_LOCAL_DEVICE_IDS": "2"}, None),
    ],
)
def test_a_process_takes_all_gpus_of_its_host_unless_it_shares_it(variables, choice):
    assert processes.device_choice(variables) == choice


@pytest.mark.parametrize(
    ("number", "joined", "words", "code"),
    [
        (6, True, "lost another process", 1),
        (6, False, "not all processes were there", 1),
        (9, True, "memory was too small", 137),
        (15, True, "SIGTERM", 143),
    ],
)
def test_the_end_of_a_process_is_explained(number, joined, words, code):
    message, given = processes._ending(number, joined)
    assert words in message and given == code and "\n" not in message
