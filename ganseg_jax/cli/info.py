"""Says what a model is: kind, classes, size, figures, licence, how it was trained.

python -m ganseg_jax.cli.info --model=M

M is a model of the package (people), the folder of a run, of a few-shot result or of a packed
model, or hf://owner/name of a model hub.
"""

from ganseg_jax.cli import app, places

MODEL = places.define_inputs("model", "A model of the package, a folder, or hf://owner/name.")


def main() -> None:
    from ganseg_jax import packed
    from ganseg_jax.errors import UserError
    from ganseg_jax.jobs.info import info

    if not packed.is_model(MODEL.value):
        raise UserError(places.no_model(MODEL.value))
    facts = info(MODEL.value)
    width = max(len(name) for name, _ in facts) + 2
    for name, value in facts:
        print(f"{name:<{width}}{value}")


if __name__ == "__main__":
    app.run(main, uses_jax=False)
