"""Runs entry points: parses their flags, starts JAX, and answers a user's mistakes."""

import logging
import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from absl import app, flags
from absl import logging as absl_logging

from ganseg_jax.cli import config_flag, helping, mistakes, places, processes, startup
from ganseg_jax.errors import Stopped, UserError


def _log_plainly() -> None:
    """Prints our lines without decoration; of the libraries', only warnings."""
    absl_logging.use_absl_handler()
    absl_logging.set_verbosity(absl_logging.WARNING)
    # Orbax prints tracebacks of failures that it also raises, and that we name in one line.
    absl_logging.get_absl_handler().addFilter(lambda record: "orbax" not in record.pathname)
    ours = logging.getLogger("ganseg_jax")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    ours.handlers, ours.propagate = [handler], False
    ours.setLevel(logging.INFO)


def run(
    main: Callable[[], None],
    prepare: Callable[[], None] = lambda: None,
    uses_jax: bool | Callable[[], bool] = True,
) -> None:
    """Runs an entry point; a user's mistake ends it with one line and exit code 2.

    Args:
      main: reads its flags, which have been parsed by then.
      prepare: what comes before JAX starts.
      uses_jax: False leaves JAX, which takes seconds to import, and the process flags alone; it
        may be a function, which is asked after `prepare`.
    """

    def guarded(argv: list[str]) -> None:
        if len(argv) > 1 and not places.takes_arguments():
            _fail(f"unexpected argument {argv[1]!r}: flags look like --name=value")
        _log_plainly()
        if line := config_flag.missing():
            _fail(line)
        try:
            places.check_writable()
            if len(argv) > 1:
                places.take_arguments(argv[1:])
            prepare()
            with_jax = uses_jax() if callable(uses_jax) else uses_jax
            if with_jax:
                startup.start()
            main()
            if with_jax:
                processes.finish()
        except UserError as error:
            _fail(str(error))
        except ImportError as error:
            if "gcsfs" not in str(error):
                raise
            _fail('gs:// needs gcsfs: pip install "ganseg-jax[gcs]"')
        except Stopped as stopped:
            _fail(str(stopped), code=stopped.code, kind="")  # As asked: no error.
        except KeyboardInterrupt:
            _fail("interrupted", code=130, kind="")
        except Exception as error:
            if not processes.several():
                raise
            if line := processes.loss(error):
                _fail(line, code=processes.LOST)
            # The others wait for this one, and end only once it has.
            traceback.print_exc()
            processes.part()
            _end(1)

    try:
        app.run(guarded, flags_parser=_parse_flags)
    except (AttributeError, KeyError, ValueError, TypeError, OSError) as error:
        if _PARSED or _raised_by_config_file(error):
            raise
        _fail(mistakes.of_config_field(error))


def _raised_by_config_file(error: Exception) -> bool:
    """Says whether the file itself is wrong, so that the traceback says most."""
    frames = traceback.extract_tb(error.__traceback__)
    return os.path.abspath(frames[-1].filename) == os.path.abspath(config_flag.file_given())


_PARSED: list[bool] = []


def _parse_flags(argv: list[str]) -> list[str]:
    if asked := {"-h", "-help", "--help", "--helpshort", "--helpfull"} & set(argv[1:]):
        print(helping.page(startup.SHARED, whole="--helpfull" in asked))
        _end(0)
    flags.FLAGS.set_gnu_getopt(True)  # Arguments and flags may stand in any order.
    try:
        sys.argv = config_flag.written_out(argv)  # Where ml_collections looks for --config.FIELD.
        remaining = flags.FLAGS(sys.argv)
    except UserError as error:
        _fail(str(error))
    except flags.Error as error:
        if isinstance(error, flags.UnrecognizedFlagError):
            _fail(mistakes.of_name(error))
        _fail(mistakes.of_config(str(error)) or mistakes.of_value(" ".join(str(error).split())))
    _PARSED.append(True)
    return remaining


def _fail(message: str, code: int = 2, kind: str = "error: ") -> NoReturn:
    print(f"{kind}{message}", file=sys.stderr, flush=True)
    if code != processes.LOST:
        processes.part()
    _end(code)


def _end(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: threads of a half-started run must not keep the process alive.
    os._exit(code)
