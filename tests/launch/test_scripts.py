"""The scripts of `experiments/launch`, with stand-ins for the programs of clouds and clusters."""

import os
import pathlib
import subprocess

import pytest
import yaml

LAUNCH = pathlib.Path(__file__).parents[2] / "experiments" / "launch"

GCLOUD = """#!/bin/bash
# States and results of runs are lines of files, taken from the top; the last one stays.
echo "$@" >> calls
next() { head -n 1 "$1"; if (($(wc -l < "$1") > 1)); then sed -i 1d "$1"; fi; }
case "$4 $*" in
    describe*) state=$(next states); [[ $state != NONE ]] && echo "$state" ;;
    ssh*experiments.pipeline*) result=$(next runs)
        [[ $result != 2 ]] || echo MISTAKE
        exit "$result" ;;
esac
"""


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Makes programs by name, in a folder that is the first of PATH and the working one."""

    def make(**texts):
        for name, text in texts.items():
            (tmp_path / name).write_text(text)
            (tmp_path / name).chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return make


def bash(script, *arguments, **variables):
    return subprocess.run(
        ["bash", LAUNCH / script, *arguments],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=60,
    )


def queued(tmp_path, programs, states, runs, **variables):
    programs(gcloud=GCLOUD, states="\n".join(states) + "\n", runs="\n".join(runs) + "\n")
    given = ["n", "z", "v6e-8", "configs/celeba_wild.py", "gs://b/run", "--keep=gan"]
    done = bash("tpu_queued.sh", *given, POLL="0", REPOSITORY="r", **variables)
    calls = (tmp_path / "calls").read_text().split("compute tpus queued-resources ")
    return done, [call.split()[0] for call in calls[1:]], "".join(calls)


def test_every_script_is_sound_bash():
    scripts = sorted(LAUNCH.glob("*.sh"))
    assert len(scripts) == 4
    for script in scripts:
        assert subprocess.run(["bash", "-n", script], check=True).returncode == 0


def test_a_preempted_tpu_run_starts_again_until_it_is_finished(tmp_path, programs):
    states = ["NONE", "PROVISIONING", "ACTIVE", "SUSPENDED", "SUSPENDED", "NONE", "ACTIVE"]
    done, calls, text = queued(tmp_path, programs, states, ["1", "0"])
    assert done.returncode == 0, done.stderr
    verbs = [call for call in calls if call != "describe"]
    run = ["create", "ssh", "ssh"]  # Ask, install, run.
    assert verbs == [*run, "delete", *run, "delete"]
    assert "--accelerator-type=v6e-8 --runtime-version=v2-alpha-tpuv6e" in text
    assert "--spot" in text and "--workdir=gs://b/run" in text and "--keep=gan" in text
    assert "--node=all --worker=all" in text


@pytest.mark.parametrize(("result", "code", "runs"), [("2", 2, 1), ("1", 1, 3)])
def test_mistakes_and_repeated_crashes_end_a_tpu_run(tmp_path, programs, result, code, runs):
    done, calls, _ = queued(tmp_path, programs, ["ACTIVE"], [result])
    assert done.returncode == code and "error: " in done.stderr
    assert calls.count("ssh") == 2 * runs and calls[-1] == "delete"


@pytest.mark.parametrize(
    ("code", "early", "again"),
    [(0, "0", False), (2, "0", False), (143, "600", True), (1, "600", False), (1, "0", True)],
)
def test_slurm_jobs_go_back_to_the_queue(tmp_path, programs, code, early, again):
    programs(
        srun=f'#!/bin/bash\necho srun "$@" >> calls\nexit {code}\n',
        scontrol='#!/bin/bash\necho scontrol "$@" >> calls\n',
    )
    done = bash("slurm.sh", "C", "W", "--keep=gan", EARLY=early, SLURM_JOB_ID="7")
    calls = (tmp_path / "calls").read_text().splitlines()
    assert done.returncode == code
    assert "--config=C --workdir=W --keep=gan" in calls[0]
    assert calls[1:] == (["scontrol requeue 7"] if again else [])


def test_the_manifest_restarts_all_but_mistakes():
    manifest = yaml.safe_load((LAUNCH / "gke_jobset.yaml").read_text())
    policy = manifest["spec"]["failurePolicy"]
    assert policy["maxRestarts"] > 1 and policy["rules"][0]["action"] == "FailJobSet"
    (job,) = manifest["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    assert spec["completionMode"] == "Indexed" and spec["completions"] == spec["parallelism"]
    assert spec["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [2]
    command = spec["template"]["spec"]["containers"][0]["command"][-1]
    assert "exec python -m ganseg_jax.cli.pipeline --config=celeba_wild" in command
