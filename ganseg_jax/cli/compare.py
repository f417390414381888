"""Compares evaluated runs of one data set in one table.

python -m experiments.compare W1 W2 ... [--output=DIR]

Prints the settings that differ, the figures with their 95 % intervals, and how each run differs
from the first, tested image by image. Runs that differ in their seeds alone are put together: mean
and spread, tested over the seeds. With --output it also writes compare.json and compare.md.
"""

from ganseg_jax.cli import app, places

WORKDIRS = places.define_inputs("workdirs", "Folders of evaluated runs.", several=True)
OUTPUT = places.define_output(None, "Folder for compare.json and compare.md.")


def main() -> None:
    from ganseg_jax.jobs import compare as job
    from ganseg_jax.report.tables import plain_table

    content = job.compare(WORKDIRS.values, OUTPUT.value)
    print(plain_table(job.table_of(content)).lstrip("\n"), end="\n\n")
    for note in job.notes_of(content):
        print(note)


if __name__ == "__main__":
    app.run(main, uses_jax=False)
