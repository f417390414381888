"""What every entry point shares: flags, start-up, and answers to mistakes."""

import collections
import contextlib
import ctypes
import difflib
import glob
import importlib.util
import logging
import os
import pathlib
import re
import sys
import traceback
import typing
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from absl import app, flags
from absl import logging as absl_logging
from etils import epath

from ganseg_jax import files
from ganseg_jax.cli import helping, processes
from ganseg_jax.config.schema import STAGES, Config
from ganseg_jax.config.setting import Leaf, check, leaves, nearest, with_fields
from ganseg_jax.errors import Stopped, UserError
from ganseg_jax.files import expand

_PACKAGE = pathlib.Path(__file__).parents[1]

# In an installed package below it, in a checkout beside it.
_CONFIGS = next(
    folder for folder in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if folder.is_dir()
)

_COORDINATOR = flags.DEFINE_string(
    "coordinator_address", None, "host:port of the first process, for several processes."
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Number of processes.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Number of this process, from 0.")
_CACHE = flags.DEFINE_string(
    "compilation_cache",
    os.environ.get("JAX_COMPILATION_CACHE_DIR")
    or os.path.join(
        os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "ganseg_jax", "xla"
    ),
    "Folder that keeps compiled programs from run to run; empty for none.",
)


class ConfigFlag:
    """Gives the config of --config with its overrides."""

    def __init__(self) -> None:
        from ml_collections import config_flags

        self._holder = config_flags.DEFINE_config_file(
            "config", None, "Experiment, a file of configs/.", lock_config=True
        )

    @property
    def value(self) -> Config:
        """Returns the checked config.

        Raises:
          UserError: it is not given, or a field makes no sense.
        """
        if (config := self.optional) is None:
            raise UserError(f"--config is missing: give one of {', '.join(_known_configs())}")
        return config

    @property
    def optional(self) -> Config | None:
        """Returns the checked config, or None if it is not given.

        Raises:
          UserError: a field makes no sense.
        """
        from ganseg_jax.config import freeze

        if self._holder.value is None:
            return None
        for name, times in collections.Counter(self._overrides()).items():
            kind = leaves(Config)[name].type if name in leaves(Config) else None
            if times > 1 and typing.get_origin(kind) is tuple:
                # ml_collections would put the values behind each other.
                raise UserError(f"--config.{name} is given {times} times: give it once")
        return freeze(self._holder.value)

    @staticmethod
    def _overrides() -> list[str]:
        return re.findall(r"(?:^|\s)--?config\.([\w.]+)", " ".join(sys.argv))

    @property
    def given(self) -> set[str]:
        """Returns the names of the fields that the command line sets."""
        return set(self._overrides())


def define_config() -> ConfigFlag:
    """Defines --config, whose overrides are --config.field=value."""
    return ConfigFlag()


def required(flag: flags.FlagHolder) -> Any:
    """Returns the value of a flag that must be given.

    Raises:
      UserError: it is not.
    """
    if not flag.value:
        raise UserError(f"--{flag.name} is missing; see --help")
    return flag.value


def _known_configs() -> list[str]:
    """Returns what --config may name: the files of configs/ if that is here, else their names."""
    here = sorted(glob.glob("configs/[!_]*.py"))
    return here or sorted(path.stem for path in _CONFIGS.glob("[!_]*.py"))


def _expand_path(argument: str) -> str:
    """Returns --flag=~/folder or --flag=$FOLDER as shells leave it, with these replaced."""
    flag, equals, value = argument.partition("=")
    if not argument.startswith("-"):  # The value of the flag before it.
        return expand(argument)
    try:
        return f"{flag}{equals}{expand(value)}"
    except UserError as error:
        raise UserError(f"{flag}={error}") from error


def _find_config(argument: str) -> str:
    """Returns --config=FILE[:arg] with the package's own file if FILE is the name of one.

    `puppets`, `puppets.py` and `configs/puppets.py` name it from any folder; a file that exists
    comes first.
    """
    flag, _, value = argument.partition("=")
    file, colon, rest = value.partition(":")
    own = _CONFIGS / f"{os.path.basename(file).removesuffix('.py')}.py"
    named = os.path.dirname(file) in ("", "configs")
    if flag not in ("--config", "-config") or os.path.isfile(file) or not named:
        return argument
    return f"{flag}={own}{colon}{rest}" if own.is_file() else argument


def config_named(name: str, argument: str = "") -> Config:
    """Returns a config of `configs/` with its argument, from whatever folder.

    Raises:
      UserError: the argument makes no sense.
    """
    from ganseg_jax.config import freeze

    spec = importlib.util.spec_from_file_location(name, _CONFIGS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    try:
        return freeze(module.get_config(argument))
    except ValueError as error:
        raise UserError(str(error)) from error


def define_workdir(required: bool = True):
    """Defines --workdir."""
    holder = flags.DEFINE_string("workdir", None, "Folder of the run; buckets (gs://) work too.")
    if required:
        flags.mark_flag_as_required("workdir")
    return holder


class StageChoices:
    """Gives the stages of --keep and --retrain."""

    def __init__(self, names: tuple[str, ...]):
        self._names = names
        self._flags = [
            flags.DEFINE_list("keep", [], f"Of {', '.join(names)}: keep even if inputs changed."),
            flags.DEFINE_list("retrain", [], "Of these: train again from the start."),
        ]

    @property
    def value(self) -> tuple[list[str], list[str]]:
        """Returns the names of the stages to keep and to train again.

        Raises:
          UserError: a name is no stage's.
        """
        for flag in self._flags:
            for name in flag.value:
                if name not in self._names:
                    known = ", ".join(self._names)
                    hint = nearest(name, self._names)
                    raise UserError(f"--{flag.name}: {name!r} is none of {known}{hint}")
        return self._flags[0].value, self._flags[1].value


def define_stage_choices(*names: str) -> StageChoices:
    """Defines --keep and --retrain; the stages are those of a run by default."""
    return StageChoices(names or STAGES)


class WatchFlags:
    """Gives what --profile_steps and --wandb ask to see of trainings."""

    def __init__(self) -> None:
        self._profile = flags.DEFINE_string(
            "profile_steps", None, "FIRST:LAST, steps of each stage to trace with JAX's profiler."
        )
        self._wandb = flags.DEFINE_string(
            "wandb", "", "Project of Weights & Biases to write metrics and pictures to as well."
        )

    def watching(self) -> "contextlib.AbstractContextManager[None]":
        """Returns a block whose trainings are watched so.

        Raises:
          UserError: the range of steps makes no sense, or, at its start, wandb is not installed.
        """
        from ganseg_jax.training import watch

        text = self._profile.value
        steps = None if text is None else watch.steps_of(text)
        return watch.watching(watch.Watch(steps, self._wandb.value))


def define_watch() -> WatchFlags:
    """Defines --profile_steps and --wandb."""
    return WatchFlags()


class SettingFlags:
    """Gives the settings of a schema that have flags."""

    def __init__(
        self, schema: type, names: Mapping[str, str | tuple[str, ...]], defaults: bool = True
    ):
        self._schema, self._names, self._defaults = schema, names, defaults
        known = leaves(schema)
        self._flags = {
            flag: self._define(flag, known[fields if isinstance(fields, str) else fields[0]])
            for flag, fields in names.items()
        }

    def _define(self, flag: str, leaf: Leaf) -> flags.FlagHolder:
        doc, default = leaf.setting.doc, leaf.default if self._defaults else None
        if leaf.choices:
            return flags.DEFINE_enum(flag, default, list(leaf.choices), doc)
        if leaf.type is bool:
            return flags.DEFINE_boolean(flag, default, doc)
        define = flags.DEFINE_integer if leaf.type is int else flags.DEFINE_float
        return define(flag, default, doc)

    @property
    def given(self) -> dict[str, Any]:
        """Returns the settings whose flags have a value, by dotted name.

        Raises:
          UserError: naming a flag whose value breaks a limit.
        """
        chosen: dict[str, Any] = {}
        for flag, fields in self._names.items():
            value = self._flags[flag].value
            if value is not None:
                names = (fields,) if isinstance(fields, str) else fields
                chosen |= dict.fromkeys(names, value)
        try:
            check(with_fields(self._schema(), chosen))
        except UserError as error:
            name = str(error).partition("=")[0]
            flag = next(f for f, fields in self._names.items() if name in fields)
            raise UserError(f"--{flag}{str(error).removeprefix(name)}") from error
        return chosen

    @property
    def value(self) -> Any:
        """Returns an instance of the schema; settings without a flag have their defaults.

        Raises:
          UserError: naming a flag whose value breaks a limit.
        """
        return with_fields(self._schema(), self.given)


def define_settings(
    schema: type, names: Mapping[str, str | tuple[str, ...]], defaults: bool = True
) -> SettingFlags:
    """Defines flags with type, meaning and choices of a schema's settings.

    Args:
      schema: a class of settings.
      names: flag -> the setting that it sets, or several.
      defaults: flags that are not given have the schema's defaults, else no value.
    """
    return SettingFlags(schema, names, defaults)


def define_model() -> Callable[[], str]:
    """Defines --model, --workdir and --pretrained, one of which is needed.

    Returns:
      What gives the place of the model, checked as far as that is quick.
    """
    model = flags.DEFINE_string(
        "model",
        None,
        "A trained model: a model of the package (people), or the folder of a run, of a few-shot "
        "result or of a packed model.",
    )
    workdir = define_workdir(required=False)
    name = flags.DEFINE_string("pretrained", None, "A model of the package in place of a workdir.")
    if not _takes_arguments():
        _INPUTS[:] = [ModelArgument(model)]

    def place() -> str:
        from ganseg_jax import packed

        given = [flag for flag in (model, workdir, name) if flag.value]
        if len(given) != 1:
            which = " and ".join(f"--{flag.name}" for flag in given)
            raise UserError(
                f"{which} name two models: give one"
                if given
                else f"which model? Give --model={packed.names()[0]}, which comes with the "
                "package, or --model=WORKDIR"
            )
        if name.value:
            return str(packed.named(name.value))
        if model.value and not packed.is_model(model.value):
            raise UserError(no_model(model.value))
        return str(given[0].value)

    return place


def few_shot_folder(name: str) -> epath.Path:
    """Returns the folder of --workdir that --few_shot names.

    Raises:
      UserError: the name is empty, or there is no workdir.
    """
    if not name.strip():
        raise UserError("--few_shot is empty: name a folder of the workdir (--few_shot=few_shot)")
    if flags.FLAGS["workdir"].value is None:
        raise UserError(f"--few_shot={name} is a folder of a workdir: give --workdir with it")
    return epath.Path(flags.FLAGS["workdir"].value) / name


def no_model(name: str) -> str:
    """Returns what to say of a model that is not there."""
    from ganseg_jax import packed

    own = packed.names()
    return (
        f"--model={name} is neither a model of the package ({', '.join(own)}) nor a folder with a "
        f"config.json{nearest(name, [*own, *_models_here()])}"
    )


def _models_here() -> list[str]:
    """Returns the folders that hold models here and in workdirs/."""
    return sorted(
        os.path.dirname(p) for p in (*glob.glob("*/config.json"), *glob.glob("*/*/config.json"))
    )


class Inputs:
    """Gives the values of a flag that arguments without a name fill too."""

    def __init__(self, name: str, doc: str, several: bool):
        self.several = several
        self.flag = (flags.DEFINE_multi_string if several else flags.DEFINE_string)(
            name, None, f"{doc} The flag's name may be left out."
        )
        self._arguments: list[str] = []

    def take(self, arguments: list[str]) -> None:
        """Takes the command line's arguments without a name."""
        self._arguments = [
            argument if argument == "-" else expand(argument) for argument in arguments
        ]

    @property
    def values(self) -> list[str]:
        """Returns what was given, with and without the flag's name.

        Raises:
          UserError: nothing was given, or more than one value if there may be one.
        """
        given = self.flag.value or []
        values = [*([given] if isinstance(given, str) else given), *self._arguments]
        if not values:
            raise UserError(f"--{self.flag.name} is missing; see --help")
        if len(values) > 1 and not self.several:
            raise UserError(
                f"unexpected argument {values[-1]!r}: --{self.flag.name} is {values[0]} already, "
                "and other flags look like --name=value"
            )
        return values

    @property
    def value(self) -> str:
        """Returns the first of `values`."""
        return self.values[0]


class ModelArgument:
    """Lets an argument without a name stand for --model where nothing else takes such ones."""

    def __init__(self, flag: flags.FlagHolder):
        self.flag = flag

    def take(self, arguments: list[str]) -> None:
        """Takes the command line's argument without a name.

        Raises:
          UserError: there are several, or --model is given too.
        """
        if len(arguments) > 1 or self.flag.value:
            raise UserError(
                f"unexpected argument {arguments[-1]!r}: one model is taken, and other flags look "
                "like --name=value"
            )
        flags.FLAGS["model"].value = arguments[0]


_INPUTS: list[Inputs | ModelArgument] = []


def define_inputs(name: str, doc: str, several: bool = False) -> Inputs:
    """Defines a flag whose name may be left out; the last one defined takes such arguments."""
    inputs = Inputs(name, doc, several)
    _INPUTS[:] = [inputs]
    return inputs


_FILES: list[str] = []
"""Names of output flags whose value may be a file."""


def define_output(
    default: str | None, doc: str, name: str = "output", folder: bool = True
) -> flags.FlagHolder:
    """Defines --output, or a flag of another name, and --out for it.

    Args:
      default: its value if it is not given.
      doc: what it is.
      name: of the flag.
      folder: whether it must be a folder.
    """
    holder = flags.DEFINE_string(name, default, doc)
    _FILES[:] = [] if folder else [name]
    flags.DEFINE_alias("out", name)
    return holder


def _check_places() -> None:
    """Raises `UserError` if what is to be written to is a file or may not be written to."""
    known = flags.FLAGS
    if "out" in known and not _FILES and (place := known["out"].value) is not None:
        files.check_writable(place, "--output" if "output" in known else "--out")
    elif "workdir" in known and (place := known["workdir"].value) and os.path.isfile(place):
        raise UserError(f"--workdir={place} is a file: give a folder")


def start(watched: bool = True) -> None:
    """Joins the processes and turns the compilation cache on; call before using JAX.

    Args:
      watched: see `processes.join`.

    Raises:
      UserError: only some of the three process flags are given, or the other processes cannot be
        joined.
    """
    use_fast_cpu_convolutions()
    import jax

    processes.join(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value, watched)
    # Programs that CPUs take from the cache do not keep to one order of collectives.
    unordered = jax.process_count() > 1 and jax.default_backend() == "cpu"
    cache = None if unordered else _CACHE.value or None
    jax.config.update("jax_compilation_cache_dir", cache)
    if cache:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    if jax.default_backend() == "cpu":
        keep_freed_memory()
    if jax.process_index():
        logging.getLogger("ganseg_jax").setLevel(logging.ERROR)


def inference_needs_jax(place: str) -> bool:
    """Says whether segmenting with the model of a place takes JAX, or several processes do it.

    Packed models do without on a CPU (`loading.load_segmenter`).
    """
    from ganseg_jax import loading, packed, runtime

    if any(flag.value is not None for flag in (_COORDINATOR, _NUM_PROCESSES, _PROCESS_ID)):
        return True
    if not runtime.is_installed() or not runtime.is_for_cpus() or processes.launcher(os.environ):
        return True
    found = packed.find(place)
    return found is None or loading.load_segmenter(found).engine != "onnxruntime"


def use_fast_cpu_convolutions() -> None:
    """Has XLA's CPU backend compute convolutions with Eigen; call before JAX makes a backend.

    The library that it takes by default is slower: the GAN's step of `configs/puppets.py` by a
    fifth on two AVX2 cores (experiments/results/speed). A choice in `XLA_FLAGS` is left alone.
    """
    import jaxlib

    given, flag = os.environ.get("XLA_FLAGS", ""), "--xla_cpu_experimental_ynn_fusion_type"
    # An older XLA does not know the value, and ends the process.
    known = tuple(map(int, jaxlib.__version__.split(".")[:2])) >= (0, 10)
    if known and flag not in given:
        os.environ["XLA_FLAGS"] = f"{given} {flag}=-individual_convolution".strip()


def keep_freed_memory() -> bool:
    """Has the C library keep freed memory for what comes next; says whether it can.

    Each step asks for the same large blocks again. By default every one of them is given back to
    the system, which clears its pages before it hands them out again: up to a sixth of a small
    training's time (experiments/results/speed).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # Not glibc.
        return False
    trim_threshold, most_mapped = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h.
    return bool(mallopt(trim_threshold, 2**31 - 1) and mallopt(most_mapped, 0))


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
        if len(argv) > 1 and not _takes_arguments():
            _fail(f"unexpected argument {argv[1]!r}: flags look like --name=value")
        _log_plainly()
        _check_config()
        try:
            _check_places()
            if len(argv) > 1:
                _INPUTS[0].take(argv[1:])
            prepare()
            with_jax = uses_jax() if callable(uses_jax) else uses_jax
            if with_jax:
                start()
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
        _fail(_flag_mistake(error))


def _takes_arguments() -> bool:
    return bool(_INPUTS) and _INPUTS[0].flag.name in flags.FLAGS


def _check_config() -> None:
    """Ends the program where --config names no file that can be read."""
    if "config" not in flags.FLAGS or not flags.FLAGS["config"].present:
        return
    file = _config_file()
    if file and not os.path.exists(file):
        known = _known_configs()
        near = difflib.get_close_matches(file, known, 1)
        hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"
        _fail(f"--config: there is no file {file}{hint}")


def _config_file() -> str:
    given = next((arg for arg in _joined(sys.argv) if arg.startswith("--config=")), "")
    return _find_config(_expand_path(given)).partition("=")[2].partition(":")[0]


def _raised_by_config_file(error: Exception) -> bool:
    """Says whether the file itself is wrong, so that the traceback says most."""
    frames = traceback.extract_tb(error.__traceback__)
    return os.path.abspath(frames[-1].filename) == os.path.abspath(_config_file())


_PARSED: list[bool] = []


def _joined(argv: list[str]) -> list[str]:
    """Returns the arguments with `--config FILE` as `--config=FILE`."""
    joined: list[str] = []
    for argument in argv:
        if joined and joined[-1] in ("--config", "-config"):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _parse_flags(argv: list[str]) -> list[str]:
    if asked := {"-h", "-help", "--help", "--helpshort", "--helpfull"} & set(argv[1:]):
        print(helping.page(_SHARED, whole="--helpfull" in asked))
        _end(0)
    flags.FLAGS.set_gnu_getopt(True)  # Arguments and flags may stand in any order.
    try:
        remaining = flags.FLAGS([_find_config(_expand_path(arg)) for arg in _joined(argv)])
    except UserError as error:
        _fail(str(error))
    except flags.Error as error:
        if isinstance(error, flags.UnrecognizedFlagError):
            _fail(_unknown_flag(error))
        _fail(_config_mistake(str(error)) or _value_mistake(" ".join(str(error).split())))
    _PARSED.append(True)
    return remaining


def _unknown_flag(error: flags.UnrecognizedFlagError) -> str:
    near = difflib.get_close_matches(error.flagname, list(flags.FLAGS), 1)
    return f"there is no flag --{error.flagname}" + (f"; did you mean --{near[0]}?" if near else "")


def _value_mistake(text: str) -> str:
    """Returns what Python says of a number that is none in words that everyone knows."""
    found = re.fullmatch(
        r"flag (--[\w.]+)=(.*): (invalid literal for int|could not convert).*", text
    )
    if found is None:
        return text
    wanted = "a whole number" if "int" in found[3] else "a number"
    return f"{found[1]}={found[2]} must be {wanted}"


def _config_mistake(text: str) -> str:
    """Returns what a config file raised, out of ml_collections' message, or ""."""
    if "Traceback" not in text:
        return ""
    kind, _, message = text.strip().splitlines()[-1].partition(": ")
    if kind == "ValueError":  # An argument behind the file's name, which the message explains.
        return f"--config: {message}"
    return text.strip()  # A mistake in the file itself: the traceback says where.


def _flag_mistake(error: Exception) -> str:
    """Returns one line for what ml_collections raises while it reads a config."""
    text = " ".join(str(error).strip("\"'").split())
    text = text.replace("\\n", " ").replace("\\'", "'")
    name = (re.findall(r"\w+", text) or [""])[0]
    fields = re.findall(r"--config\.([\w.]+)", " ".join(sys.argv))
    unknown = next((field for field in fields if name in field.split(".")), None)
    if isinstance(error, (AttributeError, KeyError)) and unknown:
        near = re.search(r'Did you mean "(\w+)"', text)
        return f"--config.{unknown}: there is no {name}" + (
            f"; did you mean {near.group(1)}?" if near else ""
        )
    return f"{text} (in --config.{fields[0]})" if len(fields) == 1 else text


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


_SHARED = frozenset(flags.FLAGS)
"""The flags of every entry point, and those of libraries."""
