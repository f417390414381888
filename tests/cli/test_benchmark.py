import json

import jax
import pytest

from ganseg_jax.config import schema, with_fields
from ganseg_jax.errors import UserError
from tests.one_stage import ONE_STAGE, WITH_ONE_STAGE
from tests.tiny_config import config_with

KEYS = {
    "what",
    "batch_size",
    "dtype",
    "image_size",
    "device",
    "num_devices",
    "seconds_per_step",
    "images_per_second",
    "compile_seconds",
    "flops_per_step",
    "peak_memory_bytes",
    "communication_bytes",
    "matrix_flops_per_second",
    "utilization",
}


@pytest.fixture(autouse=True)
def cache_setting():
    """The benchmark turns the compilation cache off; the other tests keep theirs."""
    before = jax.config.jax_enable_compilation_cache
    yield
    jax.config.update("jax_enable_compilation_cache", before)


@pytest.fixture
def benchmark(entry_point, monkeypatch, capsys):
    """Runs the benchmark of tiny; returns the lines it printed."""

    def run(what, overrides=(), **given):
        given = {"config": "configs/tiny.py", "what": what, "steps": 2, **given}
        smaller = {f"config.{name}": value for name, value in ONE_STAGE.items()}
        module = entry_point("benchmark", **given, **smaller, **dict(overrides))
        if what != "generator":  # Once is enough to measure it.
            monkeypatch.setattr(module, "matrix_flops_per_second", lambda dtype: 1e9)
        module.main()
        return capsys.readouterr().out.splitlines()

    return run


@pytest.mark.parametrize("what", ["generator", "segmenter", "segmenter_step"])
def test_last_line_is_one_json_object(benchmark, what):
    result = json.loads(benchmark(what, batch_size=4)[-1])
    assert result.keys() == KEYS
    assert (result["what"], result["batch_size"], result["dtype"]) == (what, 4, "float32")
    assert result["images_per_second"] == pytest.approx(4 / result["seconds_per_step"])
    used = result["flops_per_step"] / result["seconds_per_step"] / result["num_devices"]
    assert result["matrix_flops_per_second"] >= 1e6
    assert result["utilization"] == pytest.approx(used / result["matrix_flops_per_second"])
    assert result["compile_seconds"] > 0 and result["peak_memory_bytes"] > 0


def test_gan_step_and_its_profile(benchmark, tmp_path):
    result = json.loads(benchmark("gan_step", batch_size=4, profile=tmp_path)[-1])
    more = {"gradient_penalty", "seconds_with_gradient_penalty", "mean_seconds_per_step"}
    assert result.keys() == KEYS | more
    assert result["gradient_penalty"] is False
    assert result["seconds_per_step"] > 0 and result["peak_memory_bytes"] > 0
    assert result["communication_bytes"] > 0
    assert list(tmp_path.rglob("*.xplane.pb"))


def test_gradient_penalty_is_counted_only_where_every_step_has_it(monkeypatch):
    from ganseg_jax.studies import benchmark_cases as cases

    # Counting needs no compiled program.
    monkeypatch.setattr(cases, "_compile", lambda lowered, options: (None, 0.0))
    monkeypatch.setattr(cases, "_peak_memory", lambda program: None)
    monkeypatch.setattr(cases, "_communication", lambda program: None)

    def counted(**penalty):
        fields = {f"gan.gradient_penalty.{name}": value for name, value in penalty.items()}
        config = with_fields(config_with(**WITH_ONE_STAGE), fields)
        case = cases.BUILDERS["gan_step"](config)
        return case.flops, case.facts["gradient_penalty"]

    never, sometimes, always = counted(weight=0.0), counted(interval=4), counted(interval=1)
    assert never == sometimes and never[1] is False
    assert always[1] is True and always[0] > 1.03 * never[0]


def test_the_mean_step_is_that_over_the_penalty_interval(entry_point, monkeypatch):
    from ganseg_jax.studies import benchmark_cases as cases

    module = entry_point("benchmark", config="configs/tiny.py", what="gan_step")
    monkeypatch.setattr(
        module, "seconds_per_step", lambda case, steps: 3.0 if case.prepare is slow else 1.0
    )

    def slow():
        pass

    case = cases.Case(lambda: None, prepare_penalized=slow, penalty_interval=4)
    seconds = module.seconds_per_step(case, 2)
    found = module.penalized_seconds(case, seconds, 2)
    # Three steps of one second and one of three.
    assert found == {"seconds_with_gradient_penalty": 3.0, "mean_seconds_per_step": 1.5}
    assert module.penalized_seconds(cases.Case(lambda: None), seconds, 2) == {}


@pytest.mark.parametrize("interval", [3, 1])
def test_penalized_steps_have_the_gradient_penalty(monkeypatch, interval):
    from ganseg_jax.studies import benchmark_cases as cases

    seen = []

    class Program:
        def __call__(self, root, constants, state, batch):
            seen.append(int(state.step))
            return state, {}

    monkeypatch.setattr(cases, "_compile", lambda lowered, options: (Program(), 0.0))
    monkeypatch.setattr(cases, "_peak_memory", lambda program: None)
    monkeypatch.setattr(cases, "_communication", lambda program: None)
    config = config_with(
        **WITH_ONE_STAGE,
        gan__gradient_penalty__interval=interval,
        gan__concentration__interval=2,
        gan__area__interval=1,
    )
    case = cases.BUILDERS["gan_step"](config)
    case.prepare()
    case.run()
    if interval == 1:
        assert case.prepare_penalized is None and seen == [2]
        return
    case.prepare_penalized()
    case.run()
    without, with_penalty = seen
    assert without % 3 and without % 2 == 0
    assert with_penalty % 3 == 0 and with_penalty % 2 == 0
    assert case.penalty_interval == 3


@pytest.mark.parametrize("cache", ["none", "host"])
def test_input_pipeline(benchmark, puppets_dir, cache):
    given = {"config.dataset.data_dir": puppets_dir, "config.dataset.cache": cache}
    result = json.loads(benchmark("input_pipeline", given, batch_size=4)[-1])
    assert result.keys() == KEYS | {"num_threads", "cache"}
    assert result["images_per_second"] == pytest.approx(4 / result["seconds_per_step"])
    assert result["flops_per_step"] is None and result["utilization"] is None


def test_steps_have_both_generator_penalties_and_not_the_gradient_penalty():
    from ganseg_jax.studies.benchmark_cases import step_with_penalties as chosen

    def intervals(gradient, concentration, area, weight=1.0):
        return schema.Gan(
            gradient_penalty=schema.GradientPenalty(interval=gradient, weight=weight),
            concentration=schema.Concentration(interval=concentration),
            area=schema.Area(interval=area),
        )

    assert chosen(intervals(16, 2, 2)) == (2, False)
    assert chosen(intervals(3, 2, 3)) == (6, True)  # 6, 12, ...: all multiples of 3.
    assert chosen(intervals(4, 2, 3)) == (6, False)
    assert chosen(intervals(6, 2, 3)) == (6, True)
    assert chosen(intervals(12, 2, 3)) == (6, False)
    assert chosen(intervals(1, 1, 1)) == (1, True)
    assert chosen(intervals(1, 1, 1, weight=0.0)) == (1, False)


def test_table_measures_other_batch_sizes_and_types(entry_point, monkeypatch, capsys):
    module = entry_point(
        "benchmark", config="configs/tiny.py", what="generator", batch_size=16, table=True
    )

    def measure(what, batch_size, dtype):
        if batch_size == 32:
            return {"batch_size": batch_size, "dtype": dtype, "error": "out of memory"}
        row = dict.fromkeys(KEYS)
        row |= {"batch_size": batch_size, "dtype": dtype, "what": what}
        return row | {"seconds_per_step": batch_size / 1000, "images_per_second": 1000.0}

    monkeypatch.setattr(module, "measure", measure)
    module.main()
    *table, last = capsys.readouterr().out.splitlines()
    asked = json.loads(last)
    assert (asked["batch_size"], asked["dtype"]) == (16, "float32")
    # The tests' four devices leave 4, 8, 16 and 32.
    rows = [line.split()[:3] for line in table]
    assert rows[0] == ["dtype", "batch", "ms/step"]
    for first, dtype in ((1, "bfloat16"), (5, "float32")):
        times = [["4", "4.00"], ["8", "8.00"], ["16", "16.00"], ["32", "out"]]
        assert rows[first : first + 4] == [[dtype, *row] for row in times]


def test_a_batch_that_does_not_fit_is_named(entry_point, monkeypatch):
    module = entry_point("benchmark", config="configs/tiny.py", what="generator", batch_size=8)

    def fail(config):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes")

    monkeypatch.setitem(module.benchmark_cases.BUILDERS, "generator", fail)
    with pytest.raises(UserError, match="--batch_size=8 does not fit"):
        module.main()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batch_size": 0}, "--batch_size=0"),
        ({"steps": 0}, "--steps=0"),
        ({"batch_size": 6}, "gan.batch_size=6 cannot be split"),
    ],
)
def test_flags_that_make_no_sense(entry_point, given, message):
    module = entry_point("benchmark", config="configs/tiny.py", what="gan_step", **given)
    with pytest.raises(UserError, match=message):
        module.main()


def test_a_missing_config_is_named(entry_point):
    with pytest.raises(UserError, match="--config"):
        entry_point("benchmark", what="generator").main()
