"""Which products accelerators may round, and that rounding moves no point, mask or centre."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganseg_jax import forward, geometry, loading, losses, refinement
from ganseg_jax.models.build import build_generator, build_segmenter
from ganseg_jax.models.initialise import init_variables
from ganseg_jax.precision import of_products
from ganseg_jax.studies import programs
from ganseg_jax.training import gan, harness, partition
from tests.tiny_config import config_with

EXACT = ("point_generator", "start/offsets", "start/hwi,nic->hwc")
"""Modules whose products are exact whatever the setting."""


def products(lowered):
    """(where our code asked for it, precision) of each product and convolution of a program."""
    found = []

    def visit(operation):
        for region in operation.regions:
            for block in region.blocks:
                for inner in block.operations:
                    name = inner.operation.name
                    if name in ("stablehlo.dot_general", "stablehlo.convolution"):
                        kind = str(inner.attributes["precision_config"])
                        where = re.search(r'"(jit[^"]*)"', str(inner.location))
                        found.append(
                            (where[1] if where else "", re.findall(r"precision (\w+)", kind))
                        )
                    visit(inner.operation)

    visit(lowered.compiler_ir("stablehlo").operation)
    return found


@pytest.mark.parametrize("setting", ["default", "high"])
def test_the_setting_decides_for_networks_and_not_for_coordinates(setting):
    config = config_with(precision=setting)
    lowered = harness.lower(gan.outline(config), partition.make_mesh(jax.devices()[:1]))
    found = products(lowered)
    # JAX's own resizing, of the masks, has no name of ours.
    exact = [kinds for where, kinds in found if not where or any(name in where for name in EXACT)]
    others = [kinds for where, kinds in found if where and not any(name in where for name in EXACT)]
    assert len(exact) > 10 and len(others) > 50
    assert all(kinds == ["HIGHEST", "HIGHEST"] for kinds in exact)
    assert all(kinds == [setting.upper()] * 2 for kinds in others)


def test_measures_of_maps_are_exact():
    maps = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
    photos = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
    for function, shapes in (
        (geometry.mass_centers, [maps]),
        (lambda x: geometry.resize_bilinear(x, 5, 9), [maps]),
        (refinement.refine, [photos, maps]),
    ):
        found = products(jax.jit(function).lower(*shapes))
        assert found and all(kinds == ["HIGHEST", "HIGHEST"] for _, kinds in found)


def rounded(function):
    """Computes as a TPU does: the factors of each product that may be rounded are bfloat16."""

    def factors(equation, values):
        precision = equation.params.get("precision")
        exact = precision is not None and jax.lax.Precision.HIGHEST in tuple(precision)
        if equation.primitive.name in ("dot_general", "conv_general_dilated") and not exact:
            return [x.astype(jnp.bfloat16).astype(x.dtype) for x in values]
        return values

    def run(jaxpr, constants, *args):
        known = dict(zip(jaxpr.constvars, constants, strict=True))
        known |= dict(zip(jaxpr.invars, args, strict=True))
        for equation in jaxpr.eqns:
            values = [
                x.val if isinstance(x, jax.extend.core.Literal) else known[x]
                for x in equation.invars
            ]
            inner = equation.params.get("jaxpr") or equation.params.get("call_jaxpr")
            if equation.primitive.name == "cond":  # The forms for platforms: the last is TPUs' own.
                inner, values = equation.params["branches"][-1], values[1:]
            if inner is not None and equation.primitive.name not in ("while", "scan"):
                results = run(inner.jaxpr, inner.consts, *values)
            else:
                results = equation.primitive.bind(*factors(equation, values), **equation.params)
                results = results if equation.primitive.multiple_results else [results]
            known |= dict(zip(equation.outvars, results, strict=True))
        return [
            x.val if isinstance(x, jax.extend.core.Literal) else known[x] for x in jaxpr.outvars
        ]

    def call(*args):
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*args)
        flat = run(closed.jaxpr, closed.consts, *jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shape), flat)

    return call


def test_rounding_emulates_a_tpu():
    x = jnp.full((2, 2), 1 + 2**-10)
    assert float(rounded(jnp.matmul)(x, x)[0, 0]) == 2.0
    with of_products("highest"):
        assert float(rounded(jnp.matmul)(x, x)[0, 0]) > 2.0


@pytest.mark.parametrize("setting", ["default", "highest"])
def test_rounding_moves_no_point_heatmap_or_centre(setting):
    config = config_with(image_size=32, model__num_parts=4)
    generator = build_generator(config)
    latents, _ = gan.example_inputs(gan.Gan.of(config))
    keys = iter(jax.random.split(jax.random.key(1), 10))
    latents = jax.tree.map(lambda x: jax.random.normal(next(keys), x.shape), latents)
    variables = init_variables(generator, 3, latents, train=True)

    def generate(variables, latents):
        with of_products(setting):
            out = generator.apply(variables, latents, train=False)
        return (
            out,
            geometry.mass_centers(out.masks),
            losses.concentration(out.masks, out.part_centers),
        )

    (exact, centers, _), (found, moved, _) = (
        jax.jit(f)(variables, latents) for f in (generate, rounded(generate))
    )
    for name in ("points", "part_centers", "part_scales", "heatmaps"):
        np.testing.assert_allclose(getattr(found, name), getattr(exact, name), atol=2e-7)
    changed = float(np.abs(found.image - exact.image).max())
    print(setting, changed, np.abs(found.masks - exact.masks).max(), np.abs(moved - centers).max())
    if setting == "highest":
        assert changed < 1e-5
        np.testing.assert_allclose(found.masks, exact.masks, atol=1e-6)
        np.testing.assert_allclose(moved, centers, atol=1e-6)
    else:
        assert changed > 1e-5  # The networks' products were rounded.
        # A hundredth of a pixel.
        np.testing.assert_allclose(moved, centers, atol=0.01 * 2 / 31)
        np.testing.assert_allclose(found.masks, exact.masks, atol=0.01)


@pytest.mark.parametrize("setting", ["default", "highest"])
def test_photos_are_segmented_at_the_precision_for_evaluation(setting):
    config = config_with(evaluation__precision=setting)
    network = build_segmenter(config)
    size = config.image_size
    image = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    variables = init_variables(network, 0, image, train=False)
    made = loading._segmenter(config, network, variables, "jax")
    photos = jax.ShapeDtypeStruct(image.shape, jnp.uint8)
    lowered = forward.predict.lower(network, False, made.precision, None, variables, photos)
    kinds = [kinds for where, kinds in products(lowered) if "DeepLabV3" in where]
    assert len(kinds) > 20 and all(each == [setting.upper()] * 2 for each in kinds)
    for what in ("segmenter", "generator"):  # Those that are measured and compiled are the same.
        program = programs.LOWER[what](config, partition.make_mesh(jax.devices()[:1]))
        kinds = [kinds for where, kinds in products(program) if where]
        assert (["DEFAULT"] * 2 in kinds) == (setting == "default")
