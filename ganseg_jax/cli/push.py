"""Publishes a model on a model hub, such as huggingface.co.

python -m ganseg_jax.cli.push --model=M --to=owner/name

Weights, settings, names of parts, an ONNX graph, a picture and a model card go there. Afterwards
`hf://owner/name` stands for the model wherever a model is named, such as
`ganseg segment PHOTOS --model=hf://owner/name`.

It needs `pip install "ganseg-jax[hub]"` and a token that may write: `hf auth login`, or HF_TOKEN.
HF_ENDPOINT names another hub.
"""

import logging

from absl import flags

from ganseg_jax.cli import app, places
from ganseg_jax.errors import UserError

LOG = logging.getLogger("ganseg_jax.push")
MODEL = places.define_inputs("model", "What to push: a model of the package, or a folder.", True)
TO = flags.DEFINE_string("to", None, "owner/name on the hub. The flag's name may be left out.")
PRIVATE = flags.DEFINE_bool("private", False, "Make a repository that only its owner sees.")
DRY_RUN = flags.DEFINE_bool("dry_run", False, "Say what would be pushed, and send nothing.")
LICENCE = flags.DEFINE_string("licence", "", "Of the model, for its card, such as MIT.")


def main() -> None:
    from ganseg_jax import hub, packed
    from ganseg_jax.jobs.push import push

    place, target = _given()
    if not packed.is_model(place):
        raise UserError(places.no_model(place))
    pushed = push(place, target, PRIVATE.value, DRY_RUN.value, LICENCE.value)
    for name, size in pushed.sizes.items():
        LOG.info("%-22s%8.3f MB", name, size / 1e6)
    if not pushed.address:
        LOG.info("nothing was sent (--dry_run)")
        return
    place = f"{hub.SCHEME}{target.removeprefix(hub.SCHEME)}"
    LOG.info("%s: `ganseg segment PHOTOS --model=%s`", pushed.address, place)


def _given() -> tuple[str, str]:
    values = [*MODEL.values, *([TO.value] if TO.value else [])]
    if len(values) != 2:
        raise UserError(
            "give a model and a name on the hub: `ganseg push people owner/name`"
            + (f"; there is {', '.join(values)}" if len(values) > 2 else "")
        )
    return values[0], values[1]


if __name__ == "__main__":
    app.run(main)
