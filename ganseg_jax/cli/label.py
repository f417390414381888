"""Opens a page in the browser on which label maps are painted.

python -m experiments.label --images=W/to_label --classes=head,torso,arms,legs

Label maps are saved beside the images as NAME_mask.png (indexed PNG), the class names in
classes.json; `experiments.few_shot --labels=W/to_label` reads both. The page is served on
127.0.0.1 alone.
"""

import webbrowser

from absl import flags

from ganseg_jax.cli import app, places

IMAGES = places.define_inputs("images", "Folder with the images to label.")
CLASSES = flags.DEFINE_list(
    "classes", None, "Names of the classes without the background; else those of classes.json."
)
PORT = flags.DEFINE_integer("port", 0, "Port on 127.0.0.1; 0 takes a free one.")
BROWSER = flags.DEFINE_bool("browser", True, "Open the page in the default browser.")


def main() -> None:
    from ganseg_jax.fewshot.labeller.server import LabellerServer

    with LabellerServer(IMAGES.value, CLASSES.value, PORT.value) as server:
        print(f"{len(server.images)} images to label at {server.url} (Ctrl+C ends)", flush=True)
        if BROWSER.value:
            webbrowser.open(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print(f"label maps are in {server.directory}")


if __name__ == "__main__":
    app.run(main)
