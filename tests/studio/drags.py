"""Measures how long a picture takes to follow a pulled point, in a headless Chromium.

python -m tests.studio.drags --pretrained=people
python -m tests.studio.drags --published=FOLDER

The second writes a model of 128 px with the published generator's widths, not trained, into FOLDER
and takes that: its pictures say nothing, but they take as long as those of a trained one.

Each of 200 drags presses a part's large dot, moves it five times within 80 ms, and waits. What
counts is the time from the last movement, as the browser notes it, until the picture with these
points has been put on the screen (the second frame after it was drawn). Then the dot is let go.
Prints one JSON object.
"""

import json
import os
import random
import subprocess
import sys
import time

import numpy as np

from tests.fewshot.chromium import Page

DRAGS = 200
WATCH = """
window.drags = {start: 0, drawn: 0, times: [], drafts: 0};
window.addEventListener("pointermove", (event) => {
  if (event.buttons) { drags.start = event.timeStamp; drags.drawn = studio.sample.drawn; }
}, true);
(function watch() {
  if (drags.start && drags.over && studio.sample.idle() && studio.sample.drawn > drags.drawn) {
    const start = drags.start;
    drags.start = 0;
    requestAnimationFrame(() => {
      drags.drafts += !studio.sample.frame.exact;
      drags.times.push(performance.now() - start);
    });
  }
  requestAnimationFrame(watch);
})();
0
"""


def write_published(folder: str) -> None:
    """Writes a packed model with the published generator, not trained, and a small segmenter."""
    import jax
    import jax.numpy as jnp

    from configs import celeba_wild
    from ganseg_jax import packed, sample_latents
    from ganseg_jax.config import freeze, with_fields
    from ganseg_jax.models import build

    small = {"segmenter.backbone": "resnet18", "segmenter.width": 0.125}
    config = with_fields(freeze(celeba_wild.get_config()), small)
    generator, segmenter = build.build_generator(config), build.build_segmenter(config)
    latents = sample_latents(jax.random.key(0), 1, generator.noise_dim)
    images = jnp.zeros((1, config.image_size, config.image_size, 3))
    key = jax.random.key(0)
    variables = {
        "generator": jax.jit(lambda: generator.init(key, latents, train=False))(),
        "segmenter": jax.jit(lambda: segmenter.init(key, images, train=False))(),
    }
    packed.write(folder, config, jax.device_get(variables))


def measure(model: str) -> dict:
    """Starts a studio and drags."""
    command = [sys.executable, "-m", "experiments.studio", model, "--port=0", "--nobrowser"]
    studio = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert studio.stdout
    url = studio.stdout.readline().split(": ", 1)[1].split(" ")[0]
    rng, loads = random.Random(0), [os.getloadavg()[0]]
    try:
        with Page(url, 1100, 900) as page:
            page.wait_for("window.studio?.page.ready && studio.sample.drawn > 0", 600)
            page.wait_for("!document.querySelector('#gallery .busy')", 600)
            page.evaluate(WATCH)
            parts = len(page.evaluate("studio.sample.points"))
            for number in range(DRAGS):
                drag(page, 1 + number % parts, rng, number + 1)
                if number % 20 == 0:
                    loads.append(os.getloadavg()[0])
            times = np.array(page.evaluate("drags.times"))
            found = {
                "size": page.evaluate("studio.page.state.size"),
                "drags": len(times),
                "median_ms": round(float(np.median(times)), 1),
                "p95_ms": round(float(np.percentile(times, 95)), 1),
                "most_ms": round(float(times.max()), 1),
                "drafts": page.evaluate("drags.drafts"),
                "load": [round(min(loads), 1), round(max(loads), 1)],
                "cores": len(os.sched_getaffinity(0)),
            }
    finally:
        studio.terminate()
        studio.wait(30)
    return found


def drag(page: Page, part: int, rng: random.Random, count: int) -> None:
    x, y = page.evaluate(
        f"""(() => {{ const b = document.querySelector('#handles [data-part="{part}"]"""
        """:not([data-point])').getBoundingClientRect();
        return [b.x + b.width / 2, b.y + b.height / 2]; })()"""
    )
    box = page.evaluate(
        "(() => { const b = document.getElementById('board').getBoundingClientRect();"
        "return [b.x, b.y, b.width]; })()"
    )
    # Towards the middle, so that parts stay in the picture.
    way = [rng.uniform(-20, 20) + (box[0] + box[2] / 2 - x) * 0.05]
    way.append(rng.uniform(-20, 20) + (box[1] + box[2] / 2 - y) * 0.05)
    page.evaluate("drags.over = false")
    page.mouse("mousePressed", x, y)
    for step in range(1, 6):
        if step == 5:
            page.evaluate("drags.over = true")
        page.mouse("mouseMoved", x + way[0] * step / 5, y + way[1] * step / 5)
        time.sleep(0.016)
    page.wait_for(f"drags.times.length >= {count}")
    page.mouse("mouseReleased", x + way[0], y + way[1])


if __name__ == "__main__":
    given = sys.argv[1]
    if given.startswith("--published="):
        place = given.partition("=")[2]
        if not os.path.exists(f"{place}/weights.npz"):
            write_published(place)
        given = f"--workdir={place}"
    print(json.dumps(measure(given)))
