"""Starts the GAN's training again and again, and kills it at random moments.

python -m tests.end_to_end.killing KILLS MORE WORKDIR FLAGS_OF_TRAIN_GAN...

Imports everything once and forks for each start, which then takes a second instead of ten. Every
fourth start or so is killed while it initialises and restores, the others after up to MORE new
steps and some hundredths of a second, in which they take steps, write checkpoints, or both. Prints
the last step seen before each kill, 0 while starting.
"""

import os
import pathlib
import random
import signal
import sys
import time

import ganseg_jax.jobs.train  # noqa: F401  So that no start needs to import it.
from ganseg_jax.cli import app, train_gan
from ganseg_jax.files import read_rows


def start(arguments: list[str]) -> int:
    """Forks a process that trains; returns its id."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        sys.argv = ["train_gan", *arguments]
        app.run(train_gan.main)
        code = 0
    except SystemExit as end:
        code = end.code or 0
    finally:
        os._exit(code)


def kill_at_a_random_moment(draws: random.Random, more: int, metrics: pathlib.Path, arguments):
    """Returns the step that the killed process had logged last, 0 for none."""
    while_starting, steps, wait = draws.random() < 0.25, draws.randint(1, more), draws.random()
    began, seen = time.time(), 0
    process = start(arguments)
    if while_starting:
        time.sleep(2 * wait)
    else:
        taken = 0
        while taken < steps:
            time.sleep(0.005)
            if os.waitpid(process, os.WNOHANG)[0]:
                sys.exit("training ended by itself")
            rows = read_rows(metrics)
            taken = sum(row["time"] > began for row in rows)
            seen = rows[-1]["step"] if taken else 0
        time.sleep(0.01 * more * wait)
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    if not os.WIFSIGNALED(status):
        sys.exit("training ended before it was killed")
    return seen


def main() -> None:
    kills, more, workdir = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    arguments = [f"--workdir={workdir}", *sys.argv[4:]]
    metrics = pathlib.Path(workdir) / "gan" / "metrics.jsonl"
    draws = random.Random(kills)
    seen = [kill_at_a_random_moment(draws, more, metrics, arguments) for _ in range(kills)]
    print(f"killed {kills} times, at steps", *seen)


if __name__ == "__main__":
    main()
