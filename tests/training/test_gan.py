"""The GAN's step against the same update written out, and what it may and may not change."""

import dataclasses
import functools
import math

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from ganseg_jax import losses, prng
from ganseg_jax.latents import sample_latents
from ganseg_jax.models.generator import GeneratorOutput
from ganseg_jax.models.generator.points import spread_start
from ganseg_jax.training import gan, measured
from ganseg_jax.training.gan_losses import generator_penalties
from ganseg_jax.training.progress import NO_LOSSES
from tests.training.small import BATCH, GENERATOR, SIZE, assert_equal, differ, photos, small_gan

PLAIN = small_gan()
SHARED = small_gan(
    share_fakes=True,
    ema_decay=0.75,
    gradient_penalty__kind="r1",
    gradient_penalty__interval=1,
    area__form="paper",
    concentration__reduction="sum",
)


def run(networks, seed, steps):
    """States before and after each step, and each step's scalars."""
    step = _compiled(networks)
    states, scalars = [gan.init_state(networks, 0)], []
    for i in range(steps):
        state, values = step(prng.root_key(seed), states[-1], photos(i))
        states.append(jax.device_get(state))
        scalars.append(jax.device_get(values))
    return states, scalars


@functools.cache
def _compiled(networks):
    return jax.jit(functools.partial(gan.step, networks))


@pytest.fixture(scope="module")
def plain():
    return run(PLAIN, 0, 5)


@pytest.fixture(scope="module")
def shared():
    return run(SHARED, 0, 2)


def written_out(networks, state, real, discriminator_latents, generator_latents):
    """Gradients of both updates as the specification states them, one after the other."""
    s, module, critic = networks.settings, networks.generator, networks.discriminator

    def generate(params, stats, latents):
        variables = {"params": params, "batch_stats": stats}
        return module.apply(variables, latents, train=True, mutable=["batch_stats"])

    params, stats = state.generator["params"], state.generator["batch_stats"]
    if s.share_fakes:
        discriminator_latents = generator_latents
    fake, moved = generate(params, stats, discriminator_latents)
    if not s.share_fakes:
        stats = moved["batch_stats"]

    def discriminator_loss(critic_params):
        judge = functools.partial(critic.apply, {"params": critic_params})
        loss = losses.discriminator_adversarial(judge(real), judge(fake.image))
        penalty = jnp.mean(losses.gradient_penalty(judge, real, s.gradient_penalty.kind))
        return loss + s.gradient_penalty.weight * penalty

    critic_gradients = jax.grad(discriminator_loss)(state.discriminator["params"])
    updates, _ = networks.discriminator_optimizer.update(critic_gradients, state.discriminator_opt)
    critic_params = jax.tree.map(jnp.add, state.discriminator["params"], updates)

    def generator_loss(params):
        out, moved = generate(params, stats, generator_latents)
        logits = critic.apply({"params": critic_params}, out.image)
        concentration = losses.concentration(out.masks, out.part_centers)
        reduce = jnp.mean if s.concentration.reduction == "mean" else jnp.sum
        form = {"points": out.points} if s.area.form == "released" else {"heatmaps": out.heatmaps}
        terms = {
            "generator": losses.generator_adversarial(logits),
            "concentration": s.concentration.weight * jnp.mean(reduce(concentration, axis=1)),
            "area": s.area.weight * jnp.mean(jnp.sum(losses.area(out.masks, **form), axis=1)),
        }
        return sum(terms.values()), (terms, moved["batch_stats"])

    gradients, (terms, stats) = jax.grad(generator_loss, has_aux=True)(params)
    return critic_gradients, gradients, terms, stats


@pytest.mark.parametrize(("networks", "runs"), [(PLAIN, "plain"), (SHARED, "shared")])
def test_first_step_is_the_update_written_out(networks, runs, request):
    states, scalars = request.getfixturevalue(runs)
    before, after = states[0], states[1]
    root = prng.root_key(0)
    latents = [
        sample_latents(prng.streams(prng.step_key(root, 0, scope)), BATCH, GENERATOR.noise_dim)
        for scope in ("discriminator", "generator")
    ]
    real = photos(0)["image"] / np.float32(127.5) - 1
    by_hand = jax.jit(functools.partial(written_out, networks))(before, real, *latents)
    critic_gradients, gradients, terms, stats = jax.device_get(by_hand)
    for expected, optimizer in (
        (critic_gradients, after.discriminator_opt),
        (gradients, after.generator_opt),
    ):
        # Adam's first moment after one step is half of the gradient (beta1 = 0.5).
        expected = np.asarray(jax.flatten_util.ravel_pytree(expected)[0])
        moment = 2 * np.asarray(first_moment(optimizer))
        np.testing.assert_allclose(moment, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    for name, value in terms.items():
        assert scalars[0][name] == pytest.approx(value, rel=1e-4), name
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
        after.generator["batch_stats"],
        stats,
    )


def first_moment(optimizer_state):
    """The one vector that Adam's first moments are."""
    return next(s.mu for s in jax.tree.leaves(optimizer_state, is_leaf=lambda s: hasattr(s, "mu")))


def test_terms_are_added_in_every_nth_step(plain):
    scalars = plain[1]
    told = {name for name in scalars[0] if not name.endswith(NO_LOSSES)}
    assert told == set(measured.LOSSES["gan"])
    assert [s["gradient_penalty"] > 0 for s in scalars] == [True, False, False, True, False]
    assert [s["concentration"] > 0 for s in scalars] == [True, False, True, False, True]
    assert all(s["area"] == 0 for s in scalars[1::2])
    assert all(np.isfinite(list(s.values())).all() for s in scalars)


def test_both_networks_and_the_running_averages_move(plain):
    states, _ = plain
    for before, after in zip(states[:-1], states[1:], strict=True):
        assert after.step == before.step + 1
        for get in (
            lambda s: s.generator["params"],
            lambda s: s.discriminator["params"],
            lambda s: s.generator["batch_stats"],
        ):
            assert differ(get(before), get(after))
        rate = PLAIN.settings.learning_rate_generator
        moved = jax.tree.map(
            lambda a, b: np.abs(a - b).max(), before.generator["params"], after.generator["params"]
        )
        # One update of Adam and no more: beta1, beta2 = 0.5, 0.9 allow a few learning rates.
        assert max(jax.tree.leaves(moved)) < 3 * rate
    assert states[0].average is None and states[0].sampling_variables is states[0].generator


def test_average_follows_the_generator(shared):
    states, _ = shared
    assert_equal(states[0].average, states[0].generator)
    for before, after in zip(states[:-1], states[1:], strict=True):
        expected = jax.tree.map(lambda a, g: 0.75 * a + 0.25 * g, before.average, after.generator)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
            after.average,
            expected,
        )
        assert after.sampling_variables is after.average


def test_two_runs_are_bit_identical_and_another_seed_differs(plain):
    again, scalars = run(PLAIN, 0, 2)
    assert_equal(again[2], plain[0][2])
    assert_equal(scalars, plain[1][:2])
    other, _ = run(PLAIN, 1, 1)
    assert differ(other[1].generator, plain[0][1].generator)


def test_first_state_is_decided_by_the_seed():
    assert_equal(gan.init_state(PLAIN, 3), gan.init_state(PLAIN, 3))
    assert differ(gan.init_state(PLAIN, 3).generator, gan.init_state(PLAIN, 4).generator)
    assert gan.init_state(PLAIN, 3).step == 0


def output_with(concentration__at, size=SIZE):
    """One part, one pixel of mask at a corner, its centre in the middle."""
    masks = np.zeros((2, size, size, 3), np.float32)
    masks[..., 0] = 1
    masks[:, 0, 0] = concentration__at
    return GeneratorOutput(
        image=None,
        masks=masks,
        points=np.float32([[[[0.5, 0.5], [-0.5, -0.5]], [[0, 0], [0, 0]]]] * 2),
        part_centers=np.zeros((2, 2, 2), np.float32),
        part_scales=None,
        part_embeddings=None,
        heatmaps=np.full((2, size, size, 2), 0.25, np.float32),
    )


FALLING = dict(
    concentration__weight=3.0,
    concentration__final_share=1 / 3,
    concentration__decay_from=2,
    concentration__decay_until=6,
)


@pytest.mark.parametrize(
    ("settings", "step", "expected"),
    [
        # Part 1 lies sqrt(2) from its centre, part 2 is empty.
        (dict(concentration__weight=3.0), 0, {"concentration": 3.0}),
        (dict(concentration__weight=3.0), 1, {"concentration": 0.0}),
        (dict(concentration__weight=3.0, concentration__interval=1), 1, {"concentration": 3.0}),
        (
            dict(concentration__weight=3.0, concentration__reduction="sum"),
            2,
            {"concentration": 6.0},
        ),
        (dict(concentration__weight=0.0), 0, {}),
        # Before it falls, half of the way from 3 to 1, and after its end.
        (FALLING, 2, {"concentration": 3.0}),
        (FALLING, 4, {"concentration": 2.0}),
        (FALLING, 20, {"concentration": 1.0}),
        # Discs of radius 0.5 * 8 / 2 pixels; one pixel of part 1 is there.
        (dict(area__weight=2.0), 0, {"area": 2 * (np.pi * 4 - 1)}),
        (dict(area__weight=2.0), 3, {"area": 0.0}),
        # Heatmaps of 16 pixels each, counted at twice the size.
        (
            dict(area__weight=1.0, area__form="paper", area__counted_at=16),
            0,
            {"area": 4 * (15 + 16)},
        ),
    ],
)
def test_generator_penalties_by_hand(settings, step, expected):
    off = {"concentration__weight": 0.0, "area__weight": 0.0}
    output = output_with(np.float32([0, 1, 0]))
    penalties = generator_penalties(small_gan(**off | settings).settings, output, step, "corners")
    assert penalties.keys() == expected.keys()
    for name, value in expected.items():
        assert penalties[name] == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize("form", ["released", "paper"])
def test_without_points_only_the_area_loss_is_left_out(form):
    networks = small_gan(area__form=form)
    networks = dataclasses.replace(
        networks, generator=dataclasses.replace(GENERATOR, use_points=False)
    )
    step = functools.partial(gan.step, networks)
    state = gan.init_state(networks, 0)
    _, scalars = jax.eval_shape(step, prng.root_key(0), state, photos(0))
    assert "concentration" in scalars and "area" not in scalars


def test_part_centres_start_on_places_of_a_disc():
    generator = dataclasses.replace(GENERATOR, point_divisor=20.0)
    networks = dataclasses.replace(PLAIN, generator=generator)
    spread = dataclasses.replace(PLAIN, generator=generator.clone(point_spread=0.4))
    latents = sample_latents(jax.random.key(0), 512, networks.generator.noise_dim)
    centers = {}
    for name, chosen in {"close": networks, "spread": spread}.items():
        variables = gan.init_state(chosen, 3).generator
        points = chosen.generator.apply(variables, latents.z_point, method="points")
        centers[name] = np.mean(points, axis=(0, 2))  # [K, 2]
    places = spread_start(networks.generator.num_parts, 0.4)
    np.testing.assert_allclose(centers["spread"] - centers["close"], places, atol=0.05)


@pytest.mark.parametrize("count", [*range(1, 10), 12, 24, 32])
def test_places_are_apart_and_alike_left_and_right(count):
    places = spread_start(count, 0.5)
    assert places.shape == (count, 2) and np.abs(places).max() <= 0.5 + 1e-9
    mirrored = places * [1, -1]
    between = np.linalg.norm(places[:, None] - mirrored[None], axis=-1)
    np.testing.assert_allclose(between.min(0), 0, atol=1e-9)
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1)[~np.eye(count, dtype=bool)]
    assert count == 1 or apart.min() > 0.5 * math.sqrt(1 / count)
    if count == 5:  # the centre, top, right, bottom, left
        expected = [[0, 0], [-0.5, 0], [0, 0.5], [0.5, 0], [0, -0.5]]
        np.testing.assert_allclose(places, expected, atol=1e-9)


def test_places_of_a_column():
    np.testing.assert_allclose(spread_start(3, 0.5, "column"), [[-0.5, 0], [0, 0], [0.5, 0]])
    np.testing.assert_allclose(spread_start(1, 0.5, "column"), [[0, 0]])


def test_masks_start_as_background():
    networks = small_gan(background_start=4.0)
    latents = sample_latents(jax.random.key(0), 64, networks.generator.noise_dim)
    shares = []
    for chosen in (PLAIN, networks):
        variables = gan.init_state(chosen, 3).generator
        output, _ = PLAIN.generator.apply(variables, latents, train=True, mutable=["batch_stats"])
        shares.append(np.asarray(output.masks[..., 0]))
    expected = 1 / (1 + np.exp(-4) * (1 - shares[0]) / shares[0])
    np.testing.assert_allclose(shares[1], expected, rtol=1e-3)
