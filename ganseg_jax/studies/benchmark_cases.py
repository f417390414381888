"""What `experiments.benchmark` measures: programs as training and inference run them."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass
class Case:
    """Describes something that can be run step by step.

    Attributes:
      run: does one step and returns when it is done.
      prepare: makes the next step ready; not measured.
      prepare_penalized: makes a step with the gradient penalty ready, where most are without it.
      penalty_interval: each how many-th step is such a one.
      compile_seconds: None if nothing is compiled.
      flops: of a step over all devices, None if not known.
      peak_memory: bytes on one device, None if not known.
      communication: bytes that collectives of a step put together, None if nothing is compiled.
      burst: steps that are only meaningful as a mean, because workers finish them together.
      facts: more entries of the result.
    """

    run: Callable[[], Any]
    prepare: Callable[[], Any] = lambda: None
    prepare_penalized: Callable[[], Any] | None = None
    penalty_interval: int = 1
    compile_seconds: float | None = None
    flops: float | None = None
    peak_memory: int | None = None
    communication: int | None = None
    burst: int = 1
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)


def step_with_penalties(gan_settings: Any) -> tuple[int, bool]:
    """Returns a step with both generator penalties, and whether the gradient penalty is in it too.

    It is only where the intervals leave no step without it.
    """
    s = gan_settings
    both = math.lcm(s.concentration.interval, s.area.interval)
    if not s.gradient_penalty.weight:
        return both, False
    for step in range(both, both * s.gradient_penalty.interval + 1, both):
        if step % s.gradient_penalty.interval:
            return step, False
    return both, True


def _gan_step(config: Any) -> Case:
    import numpy as np

    from ganseg_jax.config import with_fields
    from ganseg_jax.training import gan, partition

    networks, s = gan.Gan.of(config), config.gan
    whole, split, root = _places("gan.batch_size", s.batch_size)
    number, penalized = step_with_penalties(s)
    state = partition.place(gan.init_state(networks, config.seed), whole)
    batch = partition.place({"image": _photos(config, s.batch_size)}, split)
    counted = lowered = _lower("gan_step", config)
    if not penalized and s.gradient_penalty.weight:
        # XLA counts the dearer branch, that with the penalty; most steps take the other one.
        without = with_fields(config, {"gan.gradient_penalty.weight": 0.0})
        counted = _lower("gan_step", without)

    def at(number: int, state: gan.GanState) -> gan.GanState:
        return dataclasses.replace(state, step=partition.place(np.int32(number), whole))

    prepare = [functools.partial(at, number)]
    if s.gradient_penalty.weight and not penalized:
        every = math.lcm(s.concentration.interval, s.area.interval, s.gradient_penalty.interval)
        prepare.append(functools.partial(at, every))
    case = _stepping(lowered, counted, state, lambda state: (root, (), state, batch), *prepare)
    case.penalty_interval = s.gradient_penalty.interval
    case.facts["gradient_penalty"] = penalized
    return case


def _segmenter_step(config: Any) -> Case:
    from ganseg_jax.training import partition, segmenter

    networks = segmenter.Segmentation.of(config)
    whole, _, root = _places("segmenter.batch_size", config.segmenter.batch_size)
    teacher = partition.place(_generator_variables(config), whole)
    state = partition.place(segmenter.init_state(networks, config.seed), whole)
    lowered = _lower("segmenter_step", config)
    return _stepping(lowered, lowered, state, lambda state: (root, teacher, state, ()))


def _generator(config: Any) -> Case:
    from ganseg_jax import latents
    from ganseg_jax.training import partition

    size = config.gan.batch_size
    whole, split, root = _places("gan.batch_size", size)
    variables = partition.place(_generator_variables(config), whole)
    drawn = partition.place(latents.sample_latents(root, size, config.model.noise_dim), split)
    return _repeating(_lower("generator", config), variables, drawn)


def _segmenter(config: Any) -> Case:
    from ganseg_jax.training import partition, segmenter

    networks, size = segmenter.Segmentation.of(config), config.segmenter.batch_size
    whole, split, _ = _places("segmenter.batch_size", size)
    variables = partition.place(segmenter.init_state(networks, config.seed).segmenter, whole)
    photos = partition.place(_photos(config, size), split)
    return _repeating(_lower("segmenter", config), variables, photos)


def _lower(what: str, config: Any) -> Any:
    from ganseg_jax.studies import programs
    from ganseg_jax.training import partition

    return programs.LOWER[what](config, partition.make_mesh())


def _input_pipeline(config: Any) -> Case:
    import jax

    from ganseg_jax.data import pipeline
    from ganseg_jax.jobs.begin import prepare_data

    prepare_data(config)
    dataset = config.dataset
    data = pipeline.train_iterator(
        dataset.name,
        dataset.data_dir,
        image_size=config.image_size,
        batch_size=config.gan.batch_size,
        seed=config.seed,
        augment=dataset.augment,
        num_threads=dataset.num_threads,
        cache=dataset.cache,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    if dataset.cache == "host":
        # The first epoch decodes; what counts are those after it.
        count = pipeline.split_sizes(dataset.name, dataset.data_dir)["train"]
        for _ in range(-(-count // config.gan.batch_size)):
            next(data)
    # Each thread makes a whole batch, so batches come in bursts; warm-up empties the buffer.
    facts = {"num_threads": dataset.num_threads, "cache": dataset.cache}
    return Case(lambda: next(data), burst=2 * max(1, dataset.num_threads), facts=facts)


def _places(field: str, batch_size: int) -> tuple[Any, Any, Any]:
    """Returns the sharding of replicated values, that of batches, and the root key."""
    from ganseg_jax import prng
    from ganseg_jax.training import partition

    mesh = partition.make_mesh()
    partition.check_batch_size(field, batch_size, mesh)
    whole = partition.replicated(mesh)
    return whole, partition.batch_split(mesh), partition.place_key(prng.root_key(0), whole)


def _photos(config: Any, batch_size: int) -> Any:
    import numpy as np

    shape = (batch_size, config.image_size, config.image_size, 3)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def _generator_variables(config: Any) -> Any:
    from ganseg_jax.training import gan

    return gan.init_state(gan.Gan.of(config), config.seed).generator


def _stepping(
    lowered: Any,
    counted: Any,
    state: Any,
    arguments: Callable[[Any], tuple],
    prepare: Callable[[Any], Any] = lambda state: state,
    prepare_penalized: Callable[[Any], Any] | None = None,
) -> Case:
    """Returns a program from state to state; `counted` is the one whose operations are counted."""
    import jax

    from ganseg_jax.training import partition, work

    program, compile_seconds = _compile(lowered, partition.compiler_options(partition.make_mesh()))

    def step() -> None:
        nonlocal state
        state, metrics = program(*arguments(state))
        jax.block_until_ready((state, metrics))

    def ready(prepare: Callable[[Any], Any]) -> None:
        nonlocal state
        state = jax.block_until_ready(prepare(state))

    return Case(
        step,
        functools.partial(ready, prepare),
        functools.partial(ready, prepare_penalized) if prepare_penalized else None,
        compile_seconds=compile_seconds,
        flops=work.flops(counted),
        peak_memory=_peak_memory(program),
        communication=_communication(program),
    )


def _repeating(lowered: Any, *arguments: Any) -> Case:
    """Returns a program that is given the same arguments each time."""
    import jax

    from ganseg_jax.training import work

    program, compile_seconds = _compile(lowered)
    return Case(
        lambda: jax.block_until_ready(program(*arguments)),
        compile_seconds=compile_seconds,
        flops=work.flops(lowered),
        peak_memory=_peak_memory(program),
        communication=_communication(program),
    )


def _compile(lowered: Any, options: dict[str, Any] | None = None) -> tuple[Any, float]:
    start = time.perf_counter()
    program = lowered.compile(compiler_options=options)
    return program, time.perf_counter() - start


def _peak_memory(program: Any) -> int | None:
    analysis = program.memory_analysis()
    return getattr(analysis, "peak_memory_in_bytes", 0) or None


def _communication(program: Any) -> int:
    from ganseg_jax.studies import communication

    return sum(traffic.bytes for traffic in communication.communication(program).values())


BUILDERS: dict[str, Callable[[Any], Case]] = {
    "gan_step": _gan_step,
    "generator": _generator,
    "segmenter": _segmenter,
    "segmenter_step": _segmenter_step,
    "input_pipeline": _input_pipeline,
}
"""What can be measured, by its name on the command line."""
