"""The generator: every setting, masks, gradients, and what depends on which latent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganseg_jax import geometry, sample_latents
from ganseg_jax.models.generator import Generator, check_generator_settings
from ganseg_jax.models.generator.points import part_scales
from ganseg_jax.models.initialise import init_variables

BATCH, PARTS, POINTS, NOISE, EMBEDDING = 3, 3, 4, 5, 8
BASE = dict(
    num_parts=PARTS,
    points_per_part=POINTS,
    noise_dim=NOISE,
    embedding_dim=EMBEDDING,
    stage_sizes=(4, 8),
    stage_channels=(6, 4),
    margin=2,
    spade_hidden=4,
    point_divisor=2.0,
)
LATENTS = sample_latents(jax.random.key(0), BATCH, NOISE)


def make(**settings):
    """A generator, its variables, and its compiled evaluation."""
    module = Generator(**BASE | settings)
    variables = init_variables(module, 0, LATENTS, train=True)
    return module, variables, jax.jit(lambda v, z: module.apply(v, z, train=False))


@pytest.fixture(scope="module")
def base():
    return make()


@pytest.fixture(scope="module")
def output(base):
    return base[2](base[1], LATENTS)


# Each setting at least once with each value; together in few, as compiling takes the time.
VARIANTS = {
    "paper": dict(
        heatmap="gaussian",
        part_scale="std",
        grid="centers",
        background_shift="both",
        point_layers=2,
    ),
    "flowers": dict(heatmap="gaussian", part_scale="norm_variance", head="single"),
    "fixed-scale": dict(heatmap="gaussian", part_scale=0.00725, points_per_part=1, num_parts=1),
    "six-stages": dict(stage_sizes=(4, 4, 8, 8, 16, 16), stage_channels=(6, 6, 4, 4, 2, 2)),
    "one-stage": dict(stage_sizes=(12,), stage_channels=(4,), margin=0),
    "no-points": dict(use_points=False),
    "no-background": dict(separate_background=False),
    "neither": dict(use_points=False, separate_background=False, grid="centers"),
    "bfloat16": dict(dtype=jnp.bfloat16),
}


@pytest.mark.parametrize("name", ["base", *VARIANTS])
def test_shapes_ranges_and_gradients(name, base):
    """One compilation gives the outputs, and gradients for a random weighting of them."""
    settings = VARIANTS.get(name, {})
    module = Generator(**BASE | settings)
    variables = init_variables(module, 0, LATENTS, train=True)
    size, parts = module.image_size, module.num_parts

    @jax.jit
    def run(params):
        def loss(params):
            out = module.apply(variables | {"params": params}, LATENTS, train=False)
            weights = jax.random.normal(jax.random.key(1), out.masks.shape)
            return jnp.sum(jnp.square(out.image - 0.3)) + jnp.sum(out.masks * weights), out

        return jax.grad(loss, has_aux=True)(params)

    gradients, out = run(variables["params"])
    shapes = {field: value.shape for field, value in vars(out).items()}
    assert shapes == {
        "image": (BATCH, size, size, 3),
        "masks": (BATCH, size, size, parts + 1),
        "points": (BATCH, parts, module.points_per_part, 2),
        "part_centers": (BATCH, parts, 2),
        "part_scales": (BATCH, parts),
        "part_embeddings": (BATCH, parts, EMBEDDING),
        "heatmaps": (BATCH, size, size, parts),
    }
    assert all(value.dtype == jnp.float32 for value in vars(out).values())
    assert np.abs(out.image).max() <= 1 and np.ptp(out.image) > 0.01
    np.testing.assert_allclose(np.sum(out.masks, -1), 1, atol=1e-5)
    assert out.masks.min() >= 0 and np.ptp(out.masks) > 0.01
    assert out.heatmaps.min() >= 0 and out.heatmaps.max() <= 1
    np.testing.assert_allclose(out.part_centers, np.mean(out.points, 2), atol=1e-6)
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.isfinite(gradient).all(), path
        assert np.abs(gradient).max() > 0, path


def test_outputs_are_those_of_the_definitions(base, output):
    module, variables, _ = base
    np.testing.assert_allclose(output.part_scales, part_scales(output.points, "mean_abs"))
    grid = geometry.pixel_grid(module.image_size)
    heatmaps = geometry.linear_heatmaps(grid, output.part_centers, output.part_scales)
    np.testing.assert_allclose(output.heatmaps, heatmaps, atol=1e-5)
    assert output.heatmaps.max() > 0.1
    constant = variables["params"]["embeddings"]["constant"]
    ratio = output.part_embeddings / constant  # MLP(z_app), the same for all parts.
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :1], ratio.shape), rtol=1e-4)


def test_point_divisor_divides_before_the_tanh(base, output):
    module, variables, _ = base
    wide = module.clone(point_divisor=1.0).apply(variables, LATENTS.z_point, method="points")
    np.testing.assert_allclose(
        np.arctanh(output.points), np.arctanh(wide) / 2, rtol=1e-2, atol=1e-4
    )


def test_part_scales_by_hand():
    points = np.float32([[[[0.0, 0.0], [0.6, 0.8], [-0.6, -0.8]]]])  # Distances 0, 1, 1.
    expected = {"std": 2 / 4, "norm_variance": 1 / 3, "mean_abs": 1.4 / 3, 0.002: 0.002}
    for kind, value in expected.items():
        assert part_scales(points, kind) == pytest.approx(value, abs=2e-6)


@pytest.mark.parametrize("kind", ["std", "norm_variance", "mean_abs"])
def test_part_scales_of_coinciding_points_are_differentiable(kind):
    slope = jax.grad(lambda p: jnp.sum(jnp.sqrt(part_scales(p, kind))))(jnp.zeros((1, 1, 4, 2)))
    assert np.isfinite(slope).all()


def changed(base, before, **latents):
    """Names of the outputs that other values of some latents change."""
    _, variables, apply = base
    after = apply(variables, LATENTS.replace(**latents))
    names = vars(before).keys()
    return {n for n in names if not np.array_equal(getattr(before, n), getattr(after, n))}


OTHER = sample_latents(jax.random.key(1), BATCH, NOISE)


def test_each_output_depends_on_its_latents_alone(base, output):
    points = {"points", "part_centers", "part_scales", "heatmaps"}
    assert changed(base, output) == set()
    assert changed(base, output, z_point=OTHER.z_point) == points | {"masks", "image"}
    assert changed(base, output, z_app=OTHER.z_app) == {"part_embeddings", "masks", "image"}
    assert changed(base, output, z_bg_app=OTHER.z_bg_app) == {"image"}
    assert changed(base, output, u_bg_pos=OTHER.u_bg_pos) == {"image"}


def test_horizontal_shift_ignores_the_row(base, output):
    row_moved = LATENTS.u_bg_pos.at[:, 0].set(OTHER.u_bg_pos[:, 0])
    assert changed(base, output, u_bg_pos=row_moved) == set()
    module, variables, _ = base
    apply = jax.jit(lambda v, z: module.clone(background_shift="both").apply(v, z, train=False))
    both = (module, variables, apply)
    assert changed(both, apply(variables, LATENTS), u_bg_pos=row_moved) == {"image"}


def test_without_points_the_pose_latent_changes_nothing():
    without = make(use_points=False)
    out = without[2](without[1], LATENTS)
    assert changed(without, out, z_point=OTHER.z_point) == set()
    assert "point_generator" not in without[1]["params"]
    centers = geometry.mass_centers(out.masks[..., 1:])
    np.testing.assert_allclose(out.part_centers, centers, atol=1e-6)


def test_without_separate_background_its_position_changes_nothing():
    without = make(separate_background=False)
    out = without[2](without[1], LATENTS)
    assert "background_generator" not in without[1]["params"]
    assert changed(without, out, u_bg_pos=OTHER.u_bg_pos) == set()
    assert changed(without, out, z_bg_app=OTHER.z_bg_app) == {"image"}


def test_background_shows_where_the_background_mask_is(base):
    """(1 - M_bg) F + M_bg B: with no parts the foreground is not seen, and the other way round."""
    module, variables, _ = base
    points = module.apply(variables, LATENTS.z_point, method="points")
    embeddings, style = module.apply(variables, LATENTS.z_app, LATENTS.z_bg_app, method="styles")
    other_style = module.apply(variables, OTHER.z_app, OTHER.z_bg_app, method="styles")[1]

    @jax.jit
    def paint(background_share, embeddings, style):
        size = module.image_size
        share = jnp.full((BATCH, size, size, 1), background_share)
        parts = jnp.broadcast_to((1 - share) / PARTS, (BATCH, size, size, PARTS))
        masks = jnp.concatenate([share, parts], -1)
        centers = jnp.mean(points, 2)
        arguments = (masks, centers, embeddings, style, LATENTS.u_bg_pos)
        return module.apply(variables, *arguments, train=False, method="paint")

    np.testing.assert_array_equal(paint(1.0, embeddings, style), paint(1.0, 2 * embeddings, style))
    assert (paint(1.0, embeddings, style) != paint(1.0, embeddings, other_style)).any()
    parts_only = paint(0.0, embeddings, style)
    np.testing.assert_array_equal(parts_only, paint(0.0, embeddings, other_style))
    assert (parts_only != paint(0.0, 2 * embeddings, style)).any()


def test_training_uses_the_batch_evaluation_the_running_averages(base, output):
    module, variables, apply = base
    train = jax.jit(lambda v, z: module.apply(v, z, train=True, mutable=["batch_stats"]))
    trained, mutated = train(variables, LATENTS)
    mixed = jax.tree.map(lambda a, b: jnp.concatenate([a[:1], b[1:]]), LATENTS, OTHER)
    # The first image keeps its latents; in training the others' show in it all the same.
    np.testing.assert_array_equal(apply(variables, mixed).image[0], output.image[0])
    assert (train(variables, mixed)[0].image[0] != trained.image[0]).any()
    np.testing.assert_array_equal(trained.points, output.points)
    for path, before in jax.tree_util.tree_leaves_with_path(variables["batch_stats"]):
        after = mutated["batch_stats"]
        for key in path:
            after = after[key.key]
        assert np.isfinite(after).all() and (after != before).any(), path


def test_decode_is_the_second_half_of_call(base, output):
    module, variables, _ = base
    embeddings, style = module.apply(variables, LATENTS.z_app, LATENTS.z_bg_app, method="styles")
    arguments = (output.points, embeddings, style, LATENTS.u_bg_pos)
    decoded = jax.jit(lambda v: module.apply(v, *arguments, train=False, method="decode"))(
        variables
    )
    np.testing.assert_allclose(decoded.image, output.image, atol=1e-4)
    np.testing.assert_allclose(decoded.masks, output.masks, atol=1e-4)


def test_bfloat16_is_close_and_keeps_coordinates_exact(base, output):
    module, variables, _ = base
    half = jax.jit(lambda v: module.clone(dtype=jnp.bfloat16).apply(v, LATENTS, train=False))
    out = half(variables)
    np.testing.assert_allclose(out.points, output.points, atol=1e-6)
    np.testing.assert_allclose(out.heatmaps, output.heatmaps, atol=1e-5)
    assert 0 < np.abs(out.image - output.image).mean() < 0.1


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        (dict(stage_channels=(6,)), "equally long"),
        (dict(stage_sizes=()), "equally long"),
        (dict(stage_sizes=(4, 12)), "12 is neither 4 nor twice 4"),
        (dict(stage_sizes=(8, 4)), "4 is neither 8 nor twice 8"),
        (dict(stage_channels=(5, 4)), "even number"),
        (dict(num_parts=0), "num_parts must be at least 1, not 0"),
        (dict(points_per_part=0), "points_per_part must be at least 1, not 0"),
        (dict(margin=-1), "margin must be at least 0, not -1"),
        (dict(noise_dim=0), "noise_dim must be at least 1, not 0"),
        (dict(embedding_dim=0), "embedding_dim must be at least 1, not 0"),
        (dict(spade_hidden=0), "spade_hidden must be at least 1, not 0"),
        (dict(point_divisor=0.0), "point_divisor must be positive, not 0"),
        (dict(part_scale="std", points_per_part=1), "'std' needs points_per_part of at least 2"),
        (dict(part_scale="size"), "part_scale must be .* not 'size'"),
        (dict(part_scale=-0.1), "part_scale must be positive and finite, not -0.1"),
        (dict(heatmap="round"), "heatmap must be one of .* not 'round'"),
        (dict(grid="middles"), "grid must be one of"),
        (dict(head="three"), "head must be one of"),
        (dict(background_shift="vertical"), "background_shift must be one of"),
    ],
)
def test_bad_settings_are_named(setting, named):
    with pytest.raises(ValueError, match=named):
        check_generator_settings(Generator(**BASE | setting))


def test_a_published_generator_has_the_published_size():
    """Shapes alone, nothing computed: CelebA-in-the-wild with 8 parts."""
    module = Generator(num_parts=8)
    latents = jax.eval_shape(lambda: sample_latents(jax.random.key(0), 1, 256))
    out, variables = jax.eval_shape(
        lambda z: module.init_with_output(jax.random.key(0), z, train=True), latents
    )
    assert out.image.shape == (1, 128, 128, 3)
    start = variables["params"]["mask_generator"]["start"]["offsets"]["kernel"]
    assert start.shape == (2 * 8 * 4, 256)
    last = variables["params"]["mask_generator"]["block_3"]["conv_1"]["kernel"]
    assert last.shape == (3, 3, 9, 9)
