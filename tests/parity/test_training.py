"""Three training iterations from converted weights, against the published training code's losses.

Adam's first steps are the signs of the gradients, so that rounding noise grows from iteration to
iteration: the first is compared to 1e-3, the last to 5 %.
"""

import json

import jax
import numpy as np

from ganseg_jax.interop import torch_ganseg
from ganseg_jax.latents import Latents
from ganseg_jax.training import gan
from tests.parity import fill

NAME = "celeba_wild_k8_linear"

# Our scalars, which are weighted, with the golden losses and their published weights.
TERMS = {
    "discriminator": ("disc_loss", 1.0),
    "gradient_penalty": ("gradient_penalty", 1.0),
    "generator": ("gen_adversarial", 1.0),
    "concentration": ("concentration", 10.0),
    "area": ("area", 1.0),
}
# Terms that an iteration leaves out; the golden file has their values all the same.
LEFT_OUT = {1: {"concentration", "area", "gradient_penalty"}, 2: {"gradient_penalty"}}
TOLERANCES = (1e-3, 2e-2, 5e-2)
# The generator fools the discriminator of the last iteration completely: its loss is 1e-8.
FLOOR = 1e-6


def latents(golden, prefix):
    return Latents(
        z_point=golden[f"{prefix}_input_noise0"],
        z_bg_app=golden[f"{prefix}_input_noise1"],
        z_app=golden[f"{prefix}_input_noise2"],
        u_bg_pos=golden[f"{prefix}_bg_trans"][:, 0],
    )


def published_start(golden):
    """Generator and discriminator before the first iteration."""
    hyperparameters = json.loads(str(fill.golden(f"generator_{NAME}")["hyperparameters"]))
    generator = fill.fill(fill.shapes(f"state_dict_shapes:generator/{NAME}"))
    generator["gen_keypoints_layer.4.weight"] *= np.float32(12)
    generator["gen_keypoints_layer.4.bias"] = golden["point_head_bias"]
    generator["conv.2.weight"] *= np.float32(0.2)
    discriminator = fill.fill(fill.shapes("state_dict_shapes:discriminator"))
    discriminator["fc.2.weight"] *= np.float32(0.01)
    return (
        torch_ganseg.load_generator(generator, hyperparameters),
        torch_ganseg.load_discriminator(discriminator),
    )


def compiled(networks, *arguments):
    """The update as fast code: unlike the other tests, this one computes much."""
    update = jax.jit(lambda *arguments: gan.update(networks, *arguments), donate_argnums=0)
    return update.lower(*arguments).compile({"xla_backend_optimization_level": 1})


def test_three_iterations():
    golden = fill.golden("training_celeba_wild_k8")
    (generator, g_variables), (discriminator, d_variables) = published_start(golden)
    networks = gan.Gan(generator, discriminator, gan.GanSettings(batch_size=4))
    state = gan.state_from_variables(networks, g_variables, d_variables)
    update = None
    for i, tolerance in enumerate(TOLERANCES):
        real = fill.nhwc(golden[f"real{i}"])
        given = (state, real, latents(golden, f"d{i}"), latents(golden, f"g{i}"))
        update = update or compiled(networks, *given)
        state, metrics = update(*given)
        for name, (key, weight) in TERMS.items():
            left_out = name in LEFT_OUT.get(i, ())
            expected = 0.0 if left_out else weight * float(golden[key][i])
            got = float(metrics[name])
            print(f"iteration {i} {name}: {got:.6g}, published {expected:.6g}")
            assert abs(got - expected) <= tolerance * abs(expected) + FLOOR, (i, name)
    exported = torch_ganseg.export_generator(generator, jax.device_get(state.generator))
    norms = json.loads(str(golden["final_norms"]))
    for key, norm in norms.items():
        got = np.linalg.norm(exported[key].astype(np.float64))
        assert abs(got - norm) <= 0.01 * norm, (key, got, norm)
