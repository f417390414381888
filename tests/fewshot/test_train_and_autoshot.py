"""Training of heads, augmentation, the auto-shot network's training."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ganseg_jax.config import few_shot as schema
from ganseg_jax.config import flat
from ganseg_jax.fewshot import autoshot, heads, train
from ganseg_jax.models.unet import UNet
from ganseg_jax.pixels import resize_labels


def run_head(settings, steps, labels, maps):
    head = heads.CNNHead(3, channels=(8, 8), dilations=(1, 2, 1))
    optimizer = train.make_optimizer(settings, len(labels))
    state = train.init_state(head, optimizer, maps, settings.seed)
    losses = []
    for _ in range(steps):
        state, loss = train.train_step(
            head, optimizer, state, maps, jnp.asarray(labels), jax.random.key(0)
        )
        losses.append(float(loss))
    return head, state, losses


@pytest.fixture(scope="module")
def task():
    """Classes that a linear function of two maps tells apart."""
    keys = jax.random.split(jax.random.key(0), 3)
    maps = (jax.random.normal(keys[0], (2, 8, 8, 4)), jax.random.normal(keys[1], (2, 4, 4, 3)))
    score = maps[0] @ jax.random.normal(keys[2], (4, 3))
    return maps, np.argmax(score, axis=-1).astype(np.int32)


def test_head_learns_and_repeats_itself(task):
    maps, labels = task
    settings = schema.Head(learning_rate=1e-2, weight_decay=0.0)
    head, state, losses = run_head(settings, 120, labels, maps)
    logits = head.apply({"params": state.params}, maps)
    assert np.mean(np.argmax(logits, -1) == labels) > 0.95
    assert np.mean(losses[-10:]) < 0.3 * np.mean(losses[:10])
    again = run_head(settings, 5, labels, maps)[2]
    np.testing.assert_array_equal(again, losses[:5])


def test_every_epoch_visits_every_image(task):
    maps, labels = task
    # Only the second image is labelled, so steps on the first have no loss.
    labels = np.stack([np.full_like(labels[0], train.UNLABELLED), labels[1]])
    settings = schema.Head(learning_rate=0.0, weight_decay=0.0)
    losses = np.array(run_head(settings, 20, labels, maps)[2]).reshape(10, 2)
    assert ((losses == 0).sum(axis=1) == 1).all()
    assert 0 < (losses[:, 0] == 0).sum() < 10  # not always in the same order


def test_an_update_on_the_whole_set_follows_the_mean_over_all_labelled_pixels(task):
    maps, labels = task
    labels = np.array(labels)
    labels[1, :6] = train.UNLABELLED  # So images do not count alike.
    settings = schema.Head(learning_rate=0.5, weight_decay=0.0)
    assert settings.steps_per_epoch(7) == 7
    assert dataclasses.replace(settings, whole_set=True).steps_per_epoch(7) == 1
    head = heads.CNNHead(3, channels=(8, 8), dilations=(1, 2, 1))
    optimizer = optax.sgd(settings.learning_rate)
    state = train.init_state(head, optimizer, maps, 0)

    @jax.value_and_grad
    def expected(params):
        log_p = jax.nn.log_softmax(head.apply({"params": params}, maps))
        there = labels != train.UNLABELLED
        return -jnp.mean(log_p[there][jnp.arange(there.sum()), labels[there]])

    loss, gradients = expected(state.params)
    wanted = jax.tree.map(lambda x, g: x - 0.5 * g, state.params, gradients)
    after, found = train.train_step(
        head, optimizer, state, maps, jnp.asarray(labels), jax.random.key(0), whole_set=True
    )
    assert found == pytest.approx(float(loss), rel=1e-5) and after.step == 1
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), after.params, wanted
    )


def test_presets_give_way_to_what_is_given():
    small, large = (schema.settings_for(size, "auto", {}) for size in (127, 128))
    assert flat(small) == flat(schema.FewShot()) | schema.SMALL | {"head_kind": "mlp"}
    assert large == dataclasses.replace(schema.FewShot(), head_kind="cnn")
    given = {"auto_shot.num_steps": 7, "unet_width": 5}
    chosen = schema.settings_for(64, "published", given)
    assert flat(chosen) == flat(schema.FewShot()) | given | {"head_kind": "mlp"}
    assert schema.settings_for(256, "small", given).head.whole_set
    assert schema.settings_for(256, "small", given).auto_shot.num_steps == 7


def test_cosine_takes_the_rate_from_the_whole_to_nothing():
    settings = schema.AutoShot(
        learning_rate_schedule="cosine", num_steps=8, weight_decay=0.0, learning_rate=0.5
    )
    optimizer, params = autoshot.make_optimizer(settings), jnp.zeros(2)
    state, rates = optimizer.init(params), []
    for _ in range(9):
        updates, state = optimizer.update(jnp.array([0.1, 0.1]), state, params, value=1.0)
        rates.append(float(-updates[0]))
    expected = [0.25 * (1 + np.cos(np.pi * n / 8)) for n in range(9)]
    np.testing.assert_allclose(rates, expected, rtol=1e-4, atol=1e-6)


def test_unlabelled_pixels_do_not_count():
    logits = jax.random.normal(jax.random.key(0), (1, 2, 2, 3))
    labels = jnp.array([[[0, 255], [2, 255]]])
    log_p = jax.nn.log_softmax(logits)
    expected = -(log_p[0, 0, 0, 0] + log_p[0, 1, 0, 2]) / 2
    np.testing.assert_allclose(train.cross_entropy(logits, labels), expected, rtol=1e-6)
    assert train.cross_entropy(logits, jnp.full((1, 2, 2), 255)) == 0


def test_learning_rate_falls_in_stairs_and_decay_is_in_the_gradient():
    settings = schema.Head(weight_decay=0.5, decay_every=2)
    optimizer = train.make_optimizer(settings, steps_per_epoch=3)
    params = jnp.array([2.0])
    state = optimizer.init(params)
    steps = []
    for _ in range(14):
        # A gradient that the decay outweighs: Adam's steps are its sign times the rate.
        updates, state = optimizer.update(jnp.array([-0.5]), state, params)
        steps.append(float(updates[0]))
    expected = [-1e-3] * 6 + [-9e-4] * 6 + [-8.1e-4] * 2
    np.testing.assert_allclose(steps, expected, rtol=1e-4)


def test_labels_are_resized_to_the_nearest_pixel():
    labels = np.arange(16).reshape(1, 4, 4)
    np.testing.assert_array_equal(resize_labels(labels, 2, 2)[0], [[5, 7], [13, 15]])
    twice = resize_labels(labels, 8, 8)[0]
    np.testing.assert_array_equal(twice, labels[0].repeat(2, 0).repeat(2, 1))


def picture():
    image = jax.random.normal(jax.random.key(1), (1, 8, 8, 1))
    return jax.image.resize(image, (1, 16, 16, 1), "bilinear")


def warp(matrix, shift, x):
    return autoshot.warp(x, jnp.array([matrix], jnp.float32), jnp.array([shift], jnp.float32))


def test_warp_moves_turns_and_mirrors():
    x = picture()
    identity = [[1, 0], [0, 1]]
    np.testing.assert_allclose(warp(identity, [0, 0], x), x, atol=1e-6)
    np.testing.assert_allclose(warp([[1, 0], [0, -1]], [0, 0], x), x[:, :, ::-1], atol=1e-5)
    quarter = warp([[0, 1], [-1, 0]], [0, 0], x)
    np.testing.assert_allclose(quarter[0], np.rot90(x[0]), atol=1e-5)
    # 2 / 16 is one pixel; what comes in is mirrored at the border.
    moved = warp(identity, [2 / 16, 0], x)
    np.testing.assert_allclose(moved[:, :-1], x[:, 1:], atol=1e-5)
    np.testing.assert_allclose(moved[:, -1], x[:, -1], atol=1e-5)
    half = warp([[2, 0], [0, 2]], [0, 0], x)
    means = x.reshape(1, 8, 2, 8, 2, 1).mean((2, 4))
    np.testing.assert_allclose(half[:, 4:12, 4:12], means, atol=1e-5)


def test_random_transforms_stay_within_the_settings():
    settings = schema.Augmentation()
    matrix, shift = jax.jit(lambda k: autoshot.random_transforms(k, 4000, settings))(
        jax.random.key(0)
    )
    determinant = np.linalg.det(matrix)
    assert 0.45 < np.mean(determinant < 0) < 0.55  # mirrored
    factor = 1 / np.sqrt(np.abs(determinant))
    assert 0.5 <= factor.min() < 0.52 and 1.9 < factor.max() <= 2.0 + 1e-5
    unmirrored = np.array(matrix[determinant > 0])
    angle = np.rad2deg(np.arctan2(unmirrored[:, 1, 0], unmirrored[:, 0, 0]))
    assert -10.01 <= angle.min() < -9.5 and 9.5 < angle.max() <= 10.01
    # The point that the output's origin comes from, back in the output's units.
    moved = -np.linalg.solve(matrix, np.array(shift)[..., None])[..., 0]
    assert 0.95 < np.abs(moved).max() <= 1.0001


def test_image_and_labels_are_changed_alike():
    labels = jax.nn.one_hot(jax.random.randint(jax.random.key(0), (6, 16, 16), 0, 3), 3)
    image, changed = jax.jit(
        lambda key: autoshot.augment(key, labels, labels, schema.Augmentation())
    )(jax.random.key(1))
    np.testing.assert_allclose(image, changed, atol=1e-6)
    np.testing.assert_allclose(np.sum(changed, -1), 1, atol=1e-5)
    assert np.abs(changed - labels).max() > 0.5


def test_optimizer_clips_and_falls_on_a_plateau():
    settings = schema.AutoShot(
        num_samples=4, batch_size=2, patience=3, weight_decay=0.0, min_learning_rate=2e-5
    )
    optimizer = autoshot.make_optimizer(settings)
    params = jnp.zeros(2)
    state = optimizer.init(params)
    # Clipping by value makes a gradient of (5, 0.05) one of (0.1, 0.05).
    plain = optax.adam(settings.learning_rate)
    wanted, _ = plain.update(jnp.array([0.1, 0.05]), plain.init(params))
    updates, state = optimizer.update(jnp.array([5.0, 0.05]), state, params, value=1.0)
    np.testing.assert_allclose(updates, wanted, rtol=1e-5)
    rates = []
    for _ in range(60):
        updates, state = optimizer.update(jnp.array([0.1, 0.1]), state, params, value=1.0)
        rates.append(float(-updates[0]))
    assert rates[0] > 9e-4
    assert any(5e-5 < rate < 2e-4 for rate in rates)
    np.testing.assert_allclose(rates[-1], 2e-5, rtol=0.05)


def test_unet_learns_soft_labels():
    """Bright pixels are class 1; the network must find that under augmentation."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 4, 4, 1)).repeat(4, 1).repeat(4, 2).repeat(3, 3)
    bright = (images[..., :1] > 127) * 255
    labels = np.concatenate([255 - bright, bright], -1).astype(np.uint8)
    settings = schema.AutoShot(num_samples=40, batch_size=4, learning_rate=1e-2)
    network = UNet(2, width=4, depth=2)
    state = autoshot.init_state(network, 16, settings)
    losses = []
    for _ in range(40):
        state, loss = autoshot.train_step(network, settings, state, images.astype(np.uint8), labels)
        losses.append(float(loss))
        # Before the first epoch's end too, or the training loop would not save it.
        assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    assert np.mean(losses[-5:]) < 0.5 * losses[0]
    assert int(state.step) == 40
