"""The web page with a model in it: in a browser where there is one, with the real runtime."""

import base64
import io
import json
import os
import re
import tarfile

import numpy as np
import pytest
from PIL import Image

import ganseg_jax
from ganseg_jax.errors import UserError
from ganseg_jax.export.formats import export
from tests.export.photos import photos
from tests.fewshot.chromium import Page, find_chromium

RUNTIME = os.environ.get("ONNXRUNTIME_WEB", "")
"""The file that `npm pack onnxruntime-web@1.30.0` writes: 33 MB, so that tests do not fetch it."""

DROP = """(() => {
  const given = new DataTransfer();
  for (const [name, text] of %s)
    given.items.add(new File([Uint8Array.from(atob(text), c => c.charCodeAt(0))], name));
  document.dispatchEvent(new DragEvent("drop", { dataTransfer: given, cancelable: true }));
})()"""


def package(folder, *left_out):
    """A small npm package with the names of the real one's files."""
    contents = {
        "package.json": json.dumps({"version": "1.2.3"}).encode(),
        "dist/ort.wasm.bundle.min.mjs": b"export const env = {};",
        "dist/ort-wasm-simd-threaded.wasm": b"\0asm",
    }
    with tarfile.open(folder / "runtime.tgz", "w:gz") as archive:
        for name, content in contents.items():
            if name not in left_out:
                info = tarfile.TarInfo(f"package/{name}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return folder / "runtime.tgz"


def test_everything_is_inside_and_nothing_is_fetched(tmp_path):
    page, card = export(
        "people", "page", tmp_path / "people.html", onnxruntime_web=package(tmp_path)
    )
    text = page.read_text()
    assert "{{" not in text and "1.2.3" in text and card.name == "people.md"
    assert not re.search(r"(src|href)\s*=|https?://|fetch\(", text)
    assert "connect-src 'none'" in text
    facts = json.loads(re.search(r'id="facts">(.*?)</script>', text)[1])
    assert facts["classes"][0] == "background" and len(facts["colors"]) == 7


def test_a_missing_runtime_is_answered_with_where_it_comes_from(tmp_path):
    with pytest.raises(UserError, match="needs onnxruntime-web: give .*npm pack onnxruntime-web@"):
        export("people", "page", tmp_path / "people.html")
    for given in (tmp_path / "none.tgz", tmp_path, package(tmp_path, "package.json")):
        with pytest.raises(UserError, match="is not onnxruntime-web"):
            export("people", "page", tmp_path / "people.html", onnxruntime_web=given)


@pytest.mark.skipif(find_chromium() is None, reason="no Chromium is installed")
@pytest.mark.skipif(not RUNTIME, reason="ONNXRUNTIME_WEB names no file of npm pack")
def test_dropped_photos_are_segmented_as_they_are_here(tmp_path):
    file, _ = export("people", "page", tmp_path / "people.html", onnxruntime_web=RUNTIME)
    images = photos(2, 90, 70)
    given = []
    for name, image in zip(("a.png", "b.png"), images, strict=True):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        given.append([name, base64.b64encode(buffer.getvalue()).decode()])
    given.insert(1, ["notes.txt", base64.b64encode(b"no photo").decode()])
    with Page(f"file://{file}") as page:
        page.wait_for("document.getElementById('status').textContent === 'Ready.'", 120)
        page.evaluate(DROP % json.dumps(given))
        page.wait_for("window.segmented.length === 2", 120)
        seen = [page.evaluate(f"Array.from(window.segmented[{i}].labels)") for i in range(2)]
    expected = ganseg_jax.load_segmenter("people")(images)
    assert (np.reshape(seen, expected.shape) == expected).mean() > 0.999
