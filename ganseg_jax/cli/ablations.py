"""The paper's ablations: the same config without one thing at a time, several seeds each.

python -m experiments.ablations --config=configs/X.py --workdir=W
    [--settings=full,no_points,...] [--seeds=0,1,2] [--settings_file=FILE.json]

With --settings_file, settings of your own instead of the paper's:
    {"divisor_10": {"description": "point divisor 10", "fields": {"model.point_divisor": 10}}, ...}

Runs go to W/<setting>/seed_<n>/; finished ones are skipped, one that was cut off resumes. Writes
W/ablations.json, W/ablations.md (mean and spread over the seeds) and W/ablations.png. Several
machines may share W, each with settings of its own; the last call writes all that is there.
"""

from absl import flags

from ganseg_jax.cli import app, config_flag, places

CONFIG = config_flag.define()
WORKDIR = places.define_workdir()
SETTINGS = flags.DEFINE_list("settings", [], "Names of settings; default: all of them.")
SETTINGS_FILE = flags.DEFINE_string("settings_file", None, "JSON: settings other than the paper's.")
SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of each setting's runs.")


def main() -> None:
    from ganseg_jax.errors import UserError
    from ganseg_jax.studies import ablations

    if not SEEDS.value or not all(seed.isdecimal() for seed in SEEDS.value):
        raise UserError(f"--seeds={','.join(SEEDS.value)} must be whole numbers, such as 0,1,2")
    seeds = [int(seed) for seed in SEEDS.value]
    known = None
    if SETTINGS_FILE.value:
        known = ablations.read_settings(SETTINGS_FILE.value, CONFIG.value)
    summary = ablations.run_ablations(CONFIG.value, WORKDIR.value, SETTINGS.value, seeds, known)
    print(ablations.table_of(summary))


if __name__ == "__main__":
    app.run(main)
