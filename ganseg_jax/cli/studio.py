"""Opens a local page for a model: samples, photos, names of parts, training, labelling.

python -m experiments.studio --workdir=W
python -m experiments.studio --workdir=W --few_shot=few_shot
python -m experiments.studio --pretrained=people

The page is served on 127.0.0.1 alone, at an address with a token that only its user knows; nothing
leaves the machine. Names of parts are kept with the model, and `experiments.segment` uses them.
"""

import webbrowser

from absl import flags
from etils import epath

from ganseg_jax.cli import app, places

MODEL = places.define_model()
FEW_SHOT = flags.DEFINE_string(
    "few_shot", None, "Folder of the workdir that experiments.few_shot wrote: use its network."
)
PORT = flags.DEFINE_integer("port", None, "Port on 127.0.0.1; 0 takes a free one. Usually 8417.")
BROWSER = flags.DEFINE_bool("browser", True, "Open the page in the default browser.")


def main() -> None:
    from ganseg_jax.errors import UserError

    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError('the studio needs: pip install "ganseg-jax[studio]"') from error
    from ganseg_jax.studio import server
    from ganseg_jax.studio.model import Model

    place = MODEL()
    if FEW_SHOT.value:
        place = str(epath.Path(place) / FEW_SHOT.value)
    model = Model(place)
    listening = server.listen(PORT.value)
    token = server.token_of_user()
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/{token}/"
    print(f"{model.name}: {url} (Ctrl+C ends)", flush=True)
    if BROWSER.value:
        webbrowser.open(url)
    server.server_of(model, listening, token).run(sockets=[listening])


if __name__ == "__main__":
    app.run(main)
