"""Reading the text of programs compiled for TPUs."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

from ganseg_jax.errors import UserError
from ganseg_jax.studies import compiled, slices

NAME = "Generator.decode/mask_generator/block_1/conv_0/conv_general_dilated"
PENALTY = "jit(update)/cond/branch_1_fun/transpose(jvp(transpose(jvp(Discriminator))))/block_0/mul"


def cycles(count, **others):
    return "backend_config=" + json.dumps({"estimated_cycles": str(count)} | others).replace(
        " ", ""
    )


TEXT = f"""HloModule jit_update

%inside (p: bf16[8]) -> bf16[8] {{
  ROOT %hidden = bf16[8]{{0}} add(%p, %p), {cycles(7000)}
}}

%cheap (p: f32[2]) -> f32[2] {{
  ROOT %c = f32[2]{{0}} copy(%p), {cycles(10)}
}}

%dear (p: f32[2]) -> f32[2] {{
  ROOT %d = f32[2]{{0:T(128)}} fusion(%p), metadata={{op_name="{PENALTY}"}}, {cycles(500)}
}}

%body (p: f32[2]) -> f32[2] {{
  ROOT %e = f32[2]{{0}} copy(%p), {cycles(3)}
}}

ENTRY %main (p: f32[2]) -> f32[2] {{
  %a = (f32[2]{{0:T(8,128)S(1)}}, bf16[4]{{0}}) fusion(%p), kind=kLoop, calls=%inside, \
metadata={{op_name="jit(update)/transpose(jvp(Generator))/{NAME}"}}, {cycles(100)}
  %b = f32[2]{{0}} conditional(%i, %a, %a), branch_computations={{%cheap, %dear}}
  %w = f32[2]{{0}} while(%b), body=%body, {cycles(0, known_trip_count={"n": "5"})}
  ROOT %r = f32[2]{{0}} all-reduce(%w), to_apply=%sum
}}
"""


def test_cycles_of_the_cheapest_and_the_dearest_branches():
    program = compiled.parse(TEXT)
    # Of a fusion its own figure counts, not those of the operations inside.
    assert program.entry == "main"
    assert program.cycles(min) == 100 + 10 + 5 * 3
    assert program.cycles(max) == 100 + 500 + 5 * 3


def test_operations_are_listed_under_the_names_of_modules():
    assert compiled.parse(TEXT).by_name() == [
        ("Discriminator/block_0 (gradient of the penalty)", 500),
        ("Generator/mask_generator/block_1/conv_0 (gradient)", 100),
        ("(copy)", 10 + 15),
    ]


def test_a_missing_compiler_is_one_line(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'pip install "ganseg-jax\[tpu\]"'):
        slices.leave_out_hosts()


@pytest.mark.parametrize(
    "said",
    [
        "the total memory required for HLO temporaries (40.00G) exceeds available HBM (16.00G).",
        "Ran out of memory in memory space hbm. Used 40.00G of 16.00G hbm.",
    ],
)
def test_about_how_many_images_fit_is_said(said):
    from ganseg_jax.cli import compile

    answer = compile._too_large(f"RESOURCE_EXHAUSTED: {said}", "gan.batch_size", 64, 4)
    assert answer == (
        "gan.batch_size=64 does not fit: it needs 40.0 GiB a device of 16.0; about 24 fit"
    )
    answer = compile._too_large(said, "gan.batch_size", 8, 8)
    assert answer.endswith("take bfloat16 or a larger slice")


@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason='needs the compiler for TPUs: pip install "ganseg-jax[tpu]"',
)
@pytest.mark.parametrize(
    ("topology", "num_slices", "devices"),
    [("v5e:2x2", 1, 4), ("v5e:2x2", 2, 8), ("v4:2x2x1", 1, 8), ("v5e:3x7", 1, 0)],
)
def test_compiling_for_a_slice_that_is_not_there(topology, num_slices, devices, tmp_path):
    command = [sys.executable, "-m", "experiments.compile", "--config=configs/tiny.py"]
    command += [f"--topology={topology}", f"--num_slices={num_slices}"]
    done = subprocess.run(
        [*command, f"--hlo={tmp_path / 'hlo.txt'}"],
        cwd=pathlib.Path(__file__).parents[2],
        env=os.environ | {"XLA_FLAGS": ""},
        capture_output=True,
        text=True,
    )
    if not devices:
        assert done.returncode == 2 and "--topology=v5e:3x7" in done.stderr
        assert "Traceback" not in done.stderr
        return
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout.splitlines()[-1])
    assert facts["devices"] == devices and facts["fits"] and facts["batch_size"] == 8
    assert 0 < facts["estimated_ms"] < facts["estimated_ms_with_gradient_penalty"]
    assert facts["collectives"]["all-reduce"]["bytes"] > 0
    assert "ENTRY" in (tmp_path / "hlo.txt").read_text()
