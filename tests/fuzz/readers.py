"""Valid files of every kind that is read, and the reader of each."""

import io
import pickle
import shutil
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from ganseg_jax.data import images, prepare
from ganseg_jax.errors import UserError
from ganseg_jax.fewshot.labels import read_labels
from ganseg_jax.interop import torch_ganseg, torch_stylegan2, weights
from tests.data import annotated
from tests.interop import torch_files
from tests.interop.nvidia_goldens import GOLDENS, shapes, weight

SIDES = (21, 30)


class Reader(NamedTuple):
    """Says how one kind of file is made and read.

    Attributes:
      make: gives a whole file, or the files of a folder, by name.
      read: reads them in a folder and checks what it got; raises `UserError` or `ImageError`.
      writes: whether reading them writes a data set beside the folder.
    """

    make: Callable[[], dict[str, bytes]]
    read: Callable[[Path], None]
    writes: bool = False


def encoded(array, kind, mode=None, **options):
    buffer = io.BytesIO()
    image = Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(buffer, kind, **options)
    return buffer.getvalue()


def _colours(channels=3):
    noise = np.random.default_rng(0).integers(0, 256, (3, 4, channels), np.uint8)
    return np.kron(noise, np.ones((7, 8, 1), np.uint8))[:, : SIDES[1]]


def _labels(values):
    return np.kron(np.array(values), np.ones((7, 10), int))


def _turned(orientation=6):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _deep_png(colour_type, bits):
    """Returns a PNG of colours, or of grey values, of few or many bits: Pillow writes none."""
    height, width = SIDES
    channels = {0: 1, 2: 3}[colour_type]
    line = bytes(1 + -(-width * channels * bits // 8))
    rows = [bytes((0, *((i + j) % 251 for j in range(len(line) - 1)))) for i in range(height)]
    parts = [
        (b"IHDR", width.to_bytes(4) + height.to_bytes(4) + bytes((bits, colour_type, 0, 0, 0))),
        (b"IDAT", zlib.compress(b"".join(rows))),
        (b"IEND", b""),
    ]
    data = b"\x89PNG\r\n\x1a\n"
    for name, content in parts:
        data += len(content).to_bytes(4) + name + content
        data += zlib.crc32(name + content).to_bytes(4)
    return data


def _frames(kind):
    first, *more = [Image.fromarray(np.roll(_colours(), i, 0)) for i in range(3)]
    buffer = io.BytesIO()
    first.save(buffer, kind, save_all=True, append_images=more)
    return buffer.getvalue()


def _tiff_of_floats(channels):
    shape = (*SIDES, channels) if channels > 1 else SIDES
    floats = np.linspace(0, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    return cv2.imencode(".tiff", floats)[1].tobytes()


def _heic():
    import pillow_heif

    pillow_heif.register_heif_opener()
    return encoded(_colours(), "HEIF")


PHOTOS = {
    "jpg": lambda: encoded(_colours(), "JPEG"),
    "jpg, progressive, turned": lambda: encoded(
        _colours(), "JPEG", None, progressive=True, exif=_turned()
    ),
    "jpg of inks": lambda: encoded(_colours(), "JPEG", "CMYK"),
    "png": lambda: encoded(_colours(), "PNG"),
    "png, indexed": lambda: encoded(_colours(), "PNG", "P", transparency=0),
    "png, transparent": lambda: encoded(_colours(4), "PNG"),
    "png of 16 bits": lambda: encoded(np.arange(630, dtype=np.uint16).reshape(SIDES), "PNG"),
    "png of 3 times 16 bits": lambda: _deep_png(2, 16),
    "webp": lambda: encoded(_colours(), "WEBP"),
    "webp, lossless": lambda: encoded(_colours(4), "WEBP", None, lossless=True),
    "bmp": lambda: encoded(_colours(), "BMP"),
    "tif": lambda: encoded(_colours(), "TIFF", None, compression="tiff_lzw"),
    "tif of 16 bits": lambda: encoded(np.arange(630, dtype=np.uint16).reshape(SIDES), "TIFF"),
    "tif of a float": lambda: _tiff_of_floats(1),
    "tif of floats": lambda: _tiff_of_floats(3),
    "gif": lambda: _frames("GIF"),
    "ppm": lambda: encoded(_colours(), "PPM"),
    "avif": lambda: encoded(_colours(), "AVIF"),
    "heic": _heic,
}

MASKS = {
    "grey": lambda: encoded(np.uint8(_labels([[0, 1, 2], [2, 0, 255], [1, 1, 0]])), "PNG"),
    "black and white": lambda: encoded(np.uint8(255 * _labels([[0, 1, 0], [0, 1, 0]])), "PNG"),
    "1 bit": lambda: encoded(np.uint8(255 * _labels([[0, 1, 0], [0, 1, 0]])), "PNG", "1"),
    "2 bits": lambda: _deep_png(0, 2),
    "4 bits": lambda: _deep_png(0, 4),
    "16 bits": lambda: encoded(np.uint16(_labels([[0, 1, 2], [2, 0, 65535]])), "PNG"),
    "32 bits": lambda: encoded(np.int32(_labels([[0, 1, 2], [2, 0, -1]])), "TIFF"),
    "indexed": lambda: annotated.indexed(
        _labels([[0, 1, 2], [2, 0, 255]]), [(i, 7 * i % 256, 31 * i % 256) for i in range(256)]
    ),
    "colours of PASCAL VOC": lambda: encoded(
        np.uint8([(0, 0, 0), (128, 0, 0), (0, 128, 0)])[_labels([[0, 1, 2], [2, 0, 1]])], "PNG"
    ),
    "alpha": lambda: encoded(
        np.uint8([(0, 0, 0, 0), (255, 255, 255, 255)])[_labels([[0, 1], [1, 0]])], "PNG"
    ),
    "grey and alpha": lambda: encoded(np.uint8(_labels([[0, 1], [1, 2]])), "PNG", "LA"),
    "gif": lambda: encoded(np.uint8(_labels([[0, 1, 2], [2, 0, 1]])), "GIF"),
    "bmp": lambda: encoded(np.uint8(_labels([[0, 1, 2], [2, 0, 1]])), "BMP"),
}  # fmt: skip

CONTENT = {
    "g_ema": {"a.weight": np.arange(12, dtype=np.float32).reshape(3, 4), "b": np.ones((2, 1, 3))},
    "step": np.int64(3) * np.ones((), np.int64),
}


class _Runs:
    """Is a pickle that would write a file in the current folder if it were run."""

    def __reduce__(self):
        return exec, ("open('was_run', 'w').close()",)


def _npz(compressed):
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **weights.flatten(CONTENT))
    return buffer.getvalue()


def _nvidia():
    arrays = {name: weight(name, shape) for name, shape in shapes(4, 0, most=2).items()}
    return torch_files.pickled({"G_ema": torch_files.Network("Generator", arrays)})


WEIGHTS = {
    "npz": (".npz", lambda: _npz(False)),
    "npz, compressed": (".npz", lambda: _npz(True)),
    "safetensors": (".safetensors", lambda: weights.encode("x.safetensors", CONTENT)),
    "PyTorch": (".pt", lambda: torch_files.archive(CONTENT)),
    "PyTorch's own": (".pt", lambda: (GOLDENS / "torch_2_13.pt").read_bytes()),
    "PyTorch before 1.6": (".pt", lambda: (GOLDENS / "torch_2_13_stream.pt").read_bytes()),
    "pickle": (".pkl", lambda: pickle.dumps(CONTENT, 4)),
    "pickle of protocol 2": (".pkl", lambda: pickle.dumps(CONTENT, 2)),
    "pickle with code": (".pkl", lambda: pickle.dumps(CONTENT | {"x": _Runs()}, 4)),
    "pickle of NVIDIA": (".pkl", _nvidia),
}


def _read_photo(folder):
    data = (folder / "photo").read_bytes()
    for read in (images.upright_size, images.looks_like_labels, images.open_photo):
        read(data)
    stored = images.stored_image(data)
    assert images.decode_rgb(stored.data).shape == (stored.height, stored.width, 3)


def _read_mask(folder):
    labels = annotated.read_label_map((folder / "mask").read_bytes())
    assert labels.dtype == np.uint8 and labels.ndim == 2


def _read_labels(folder):
    found = read_labels(folder)
    assert found.labels.shape == (1, *annotated.SIZE)
    assert set(np.unique(found.labels)) <= {*range(len(found.classes)), 255}


def _read_weights(suffix):
    def read(folder):
        content = weights.read(folder / f"weights{suffix}")
        for load in (torch_stylegan2.load_generator, torch_ganseg.load_discriminator):
            try:
                load(content)
            except UserError as error:
                assert len(str(error).splitlines()) == 1

    return read


def _photos():
    kinds = {"jpg": "JPEG", "png": "PNG", "gif": "GIF", "bmp": "BMP"}
    pictures = {f"{k}.{k}": encoded(np.roll(_colours(), len(k), 0), v) for k, v in kinds.items()}
    return pictures | {f"a{i}.png": encoded(np.roll(_colours(), i, 1), "PNG") for i in range(9)}


def _archive(kind):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{kind}") as archive:
        for name, data in _photos().items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return {"photos.tar": buffer.getvalue()}


def _prepare(name):
    """Returns a reader that leaves a data set of all images that were not skipped, or nothing."""

    def read(folder):
        place = folder.parent / "prepared"
        shutil.rmtree(place, ignore_errors=True)
        try:
            made = prepare.prepare("image_folder", folder / name, place)
        except UserError:
            left = [path for path in place.rglob("*") if path.is_file() and path.suffix != ".lock"]
            assert not left, left
            raise
        found = prepare.open_builder(prepare.find_prepared("image_folder", place))
        for split in (split for split, count in made.counts.items() if count):
            # As training reads them; OpenCV, which TFDS takes, refuses some that Pillow reads.
            records = found.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
            assert len(records) == made.counts[split]
            for record in records:
                assert images.decode_rgb(record["image"]).ndim == 3

    return read


def _annotations(tool):
    def make():
        contents = annotated.TOOLS[tool]()
        return {n: c.encode() if isinstance(c, str) else c for n, c in contents.items()}

    return make


PREPARED = {
    "a folder": (".", _photos),
    **{
        f"tar{'.' * bool(k)}{k}": ("photos.tar", lambda k=k: _archive(k))
        for k in ("", "gz", "xz", "bz2")
    },
}

READERS = {
    **{f"photo: {k}": Reader(lambda m=m: {"photo": m()}, _read_photo) for k, m in PHOTOS.items()},
    **{f"mask: {k}": Reader(lambda m=m: {"mask": m()}, _read_mask) for k, m in MASKS.items()},
    **{f"labels: {k}": Reader(_annotations(k), _read_labels) for k in annotated.TOOLS},
    **{
        f"weights: {k}": Reader(lambda s=s, m=m: {f"weights{s}": m()}, _read_weights(s))
        for k, (s, m) in WEIGHTS.items()
    },
    **{f"prepared: {k}": Reader(m, _prepare(n), True) for k, (n, m) in PREPARED.items()},
}
