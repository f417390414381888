"""A web page with a model in it, which segments photos offline through onnxruntime-web."""

import base64
import gzip
import html
import json
import tarfile
from importlib import resources

from etils import epath

from ganseg_jax import files
from ganseg_jax.errors import UserError
from ganseg_jax.report.palette import palette
from ganseg_jax.segmenter import Segmenter

PACKAGE = "onnxruntime-web@1.30.0"
"""What the page was tested with; later versions are likely to do as well."""

_RUNTIME, _WASM = "dist/ort.wasm.bundle.min.mjs", "dist/ort-wasm-simd-threaded.wasm"
_MANIFEST = "package.json"


def page(model: bytes, segmenter: Segmenter, title: str, runtime: epath.PathLike) -> bytes:
    """Returns the page.

    Args:
      model: the ONNX file.
      segmenter: it was written from.
      title: of the page.
      runtime: the npm package onnxruntime-web: its folder, or the .tgz of `npm pack`.

    Raises:
      UserError: the package is not there or incomplete.
    """
    code, wasm, manifest = _read(runtime)
    count = segmenter.num_classes
    names = segmenter.classes or ("background", *(f"part {i}" for i in range(1, count)))
    colors = palette(count) if segmenter.colors is None else segmenter.colors
    size = segmenter.image_size
    note = f"It looks at {size} x {size} pixels of each." if size else ""
    values = {
        "title": html.escape(title),
        "version": html.escape(str(json.loads(manifest)["version"])),
        "note": note,
        # "<" could end the element that holds it.
        "facts": json.dumps({"classes": names, "colors": colors.tolist()}).replace("<", "\\u003c"),
        "runtime": _packed(code),
        "wasm": _packed(wasm),
        "model": _packed(model),
    }
    text = resources.files("ganseg_jax.export").joinpath("page.html").read_text()
    for name, value in values.items():
        text = text.replace("{{" + name + "}}", value)
    return text.encode()


def _packed(data: bytes) -> str:
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()


def _read(runtime: epath.PathLike) -> list[bytes]:
    """Returns code, WebAssembly and manifest of the npm package."""
    path = files.resolve(runtime)
    hint = f"give --onnxruntime_web=FILE, the file that `npm pack {PACKAGE}` writes"
    if not str(runtime):
        raise UserError(f"the page needs onnxruntime-web: {hint}")
    wanted = (_RUNTIME, _WASM, _MANIFEST)
    try:
        if path.is_dir():
            return [(path / name).read_bytes() for name in wanted]
        with tarfile.open(path) as archive:
            found = [archive.extractfile(f"package/{name}") for name in wanted]
            return [file.read() for file in found if file is not None]
    except (OSError, KeyError, tarfile.TarError) as error:
        raise UserError(f"{runtime} is not onnxruntime-web ({error}): {hint}") from error
