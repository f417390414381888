"""Builds a data set for training: `python -m experiments.prepare_data --dataset=NAME ...`."""

import sys

from absl import app, flags

from ganseg_jax.data import builders, prepare
from ganseg_jax.errors import UserError

_DATASET = flags.DEFINE_string("dataset", None, f"Which data set: {', '.join(builders.names())}.")
_SOURCE = flags.DEFINE_string("source", None, "Folder or tar archive with the original files.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where data sets are kept.")
_MOST_NAMED = 20


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}; settings are given as --name=value")
    for flag in (_DATASET, _DATA_DIR):
        if not flag.value:
            raise UserError(f"--{flag.name} is missing; see --help")
    prepared = prepare.prepare(_DATASET.value, _SOURCE.value, _DATA_DIR.value, progress=True)
    if not prepared.already:
        for name, reason in prepared.skipped[:_MOST_NAMED]:
            print(f"skipped {name}: {reason}", file=sys.stderr)
        if len(prepared.skipped) > _MOST_NAMED:
            print(
                f"... and {len(prepared.skipped) - _MOST_NAMED} more, all listed in "
                f"{prepared.path / 'metadata.json'}",
                file=sys.stderr,
            )
    print(prepared)


def _parse(argv: list[str]) -> list[str]:
    try:
        return app.parse_flags_with_usage(argv) if "--help" in argv else flags.FLAGS(argv)
    except flags.Error as error:
        raise UserError(str(error)) from error


if __name__ == "__main__":
    try:
        app.run(main, flags_parser=_parse)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
