"""Counting what a program sends, and the arithmetic of the estimate."""

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from ganseg_jax.studies.communication import Traffic, communication
from ganseg_jax.training import partition

COUNT = 4


def compiled(body, shape, dtype, given, wanted):
    mesh = partition.make_mesh(jax.devices()[:COUNT])
    shardings = [NamedSharding(mesh, PartitionSpec(*axes)) for axes in (given, wanted)]
    return (
        jax.jit(body, in_shardings=shardings[0], out_shardings=shardings[1])
        .lower(jax.ShapeDtypeStruct(shape, dtype))
        .compile()
    )


def test_sums_over_the_devices_are_counted():
    program = compiled(lambda x: jnp.sum(x, axis=0), (8, 100), jnp.float32, ("data",), ())
    assert communication(program) == {"all-reduce": Traffic(1, 400)}


def test_gathers_are_counted():
    program = compiled(lambda x: x * 2, (8, 50), jnp.uint8, ("data",), ())
    assert communication(program) == {"all-gather": Traffic(1, 400)}


def test_nothing_is_sent_on_one_device():
    assert communication(jax.jit(jnp.sum).lower(jnp.ones(8)).compile()) == {}


class Text:
    """A program of which only the text is known."""

    def __init__(self, text):
        self._text = text

    def as_text(self):
        return self._text


def test_other_ways_of_writing_collectives():
    text = """
  %a = (f32[64]{0}, /*index=1*/bf16[2,3]{1,0}, pred[]) all-reduce(%x, %y, %z), to_apply=%add
  %b = f32[10]{0} reduce-scatter(%x), replica_groups=[1,4]<=[4], dimensions={0}
  %c = f32[10]{0} reduce-scatter(%x), replica_groups={{0,1},{2,3}}, dimensions={0}
  %d = (f32[5]{0}, f32[20]{0}) all-gather-start(f32[5]{0} %x), dimensions={0}
  %e = f32[20]{0} all-gather-done(%d)
  %f = f32[7]{0} all-reduce-start(%x), to_apply=%add
  %g = f32[7]{0} all-reduce-done(%f)
"""
    assert communication(Text(text)) == {
        "all-reduce": Traffic(2, 64 * 4 + 6 * 2 + 1 + 28, 1),
        "reduce-scatter": Traffic(2, 160 + 80),
        "all-gather": Traffic(1, 80, 1),
    }
