"""Reads damaged files one after the other and watches what each reading does."""

import faulthandler
import io
import json
import os
import random
import re
import resource
import sys
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from ganseg_jax.data.images import ImageError
from ganseg_jax.errors import UserError
from tests.data.annotated import mutated_json
from tests.fuzz.readers import READERS
from tests.fuzzing import mutations

_RUNS = (
    "exec os.system os.exec os.fork os.posix_spawn os.spawn os.startfile subprocess.Popen "
    "socket.connect pickle.find_class ctypes.dlopen"
).split()
"""Events of Python that show code being run or programs being started."""

_MAKERS = ("collections", "dataclasses", "typeguard", "beartype", "jaxtyping")
"""Packages that make functions of their own text."""


class Watch:
    """Notes what Python does while a file is read: code that is run, files that are written."""

    def __init__(self):
        self.on, self.seen, self.allowed = False, [], "/dev/null"
        sys.addaudithook(self._note)

    def _note(self, event, arguments):
        if not self.on:
            return
        if event == "exec":
            name = getattr(arguments[0], "co_filename", "")
            maker = sys._getframe(1).f_globals.get("__name__", "").partition(".")[0]
            if os.path.exists(name) or name.startswith("<frozen") or maker in _MAKERS:
                return  # A module that is imported, or a function that is made.
        if event == "open":
            if isinstance(arguments[0], int) or self.allowed in str(arguments[0]):
                return
            mode, flags = arguments[1] or "", arguments[2] or 0
            if set(mode) & set("wax+") or flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self.seen.append(f"{event} {arguments[0]}")
        elif event in _RUNS:
            self.seen.append(f"{event} {arguments[0]!r:.60}")


def damaged(files: dict[str, bytes], count: int, seed: int) -> Iterator[dict[str, bytes]]:
    """Yields copies of a folder's files, one of them damaged.

    Half of them are damaged in what the format's own checks do not see: a value of JSON, a word or
    number of other text, chunks of a PNG and members of an archive, whose checksums are right.
    """
    draw = random.Random(seed)
    for number in range(count):
        name, seed_here = draw.choice(sorted(files)), seed * 1_000_003 + number
        inside = draw.random() < 0.5
        yield files | {name: _damaged(name, files[name], draw, seed_here, inside)}


def _damaged(name: str, data: bytes, draw: random.Random, seed: int, inside: bool) -> bytes:
    if inside and name.endswith(".json"):
        return json.dumps(mutated_json(json.loads(data), draw)).encode()
    if inside and name.endswith((".xml", ".csv", ".txt", ".yaml", ".yml")):
        words = re.split(r"([\w.-]+)", data.decode())
        words[draw.randrange(1, len(words), 2)] = draw.choice(_ODD_WORDS)
        return "".join(words).encode()
    if inside and data[:2] == b"PK":
        return _archive(data, draw, seed)
    (result,) = mutations(data, 1, seed)
    if inside and result[:8] != _PNG:
        place = draw.randrange(len(data))
        return data[:place] + bytes([draw.randrange(256)]) + data[place + 1 :]
    return _with_checksums(result) if inside else result


_PNG = b"\x89PNG\r\n\x1a\n"
_ODD_WORDS = "0 -1 1e99 nan inf 99999999999999999999 x \0 ü 0.5 65536 ../x &lt; {} []".split(" ")


def _archive(data: bytes, draw: random.Random, seed: int) -> bytes:
    """Returns an archive with a damaged member."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as before, zipfile.ZipFile(made, "w") as after:
        chosen = draw.choice(before.namelist())
        for name in before.namelist():
            content = before.read(name)
            after.writestr(name, next(mutations(content, 1, seed)) if name == chosen else content)
    return made.getvalue()


def _with_checksums(data: bytes) -> bytes:
    """Returns a damaged PNG whose chunks have the right checksums."""
    made, place = bytearray(data), 8
    while place + 12 <= len(made):
        end = place + 8 + int.from_bytes(made[place : place + 4])
        made[end : end + 4] = zlib.crc32(made[place + 4 : end]).to_bytes(4)
        place = end + 4
    return bytes(made)


def answers(kind: str, count: int, seed: int, folder: Path, watch: Watch, limit: int = 0) -> dict:
    """Reads damaged copies of one kind of file.

    Args:
      kind: one of `READERS`.
      count: number of copies.
      seed: of the damage.
      folder: empty; an image of the labels is made in it.
      watch: of this process.
      limit: seconds after which a reading ends the process; 0 for none.

    Returns:
      Counts of files that were read, and that were refused in one line; the most seconds that one
      took; and up to ten faults, each with the number of its copy. The folder holds the last copy.
    """
    make, read, writes = READERS[kind]
    whole, result = make(), {"read": 0, "refused": 0, "slowest": 0.0, "faults": []}
    _write(folder, whole)
    watch.allowed = str(folder.parent / "prepared") if writes else os.devnull
    Image.init()  # What reading may need is imported before it is watched.
    try:
        read(folder)
    except (UserError, ImageError) as error:
        result["whole_is_refused"] = str(error)[:100]
    except Exception as error:  # noqa: BLE001
        result["faults"].append(f"the whole file: {type(error).__name__}: {error}")
    for number, files in enumerate(damaged(whole, count, seed)):
        _write(folder, files)
        names = sorted(os.listdir(folder))
        watch.seen, watch.on = [], True
        if limit:
            print(f"copy {number}", file=sys.stderr)
            faulthandler.dump_traceback_later(limit, exit=True)
        start, fault = time.perf_counter(), ""
        try:
            read(folder)
            result["read"] += 1
        except (UserError, ImageError) as error:
            result["refused"] += 1
            lines = str(error).splitlines()
            fault = "" if len(lines) == 1 and lines[0].strip() else f"answer of {len(lines)} lines"
        except Exception as error:  # noqa: BLE001  (any other is a fault)
            fault = f"{type(error).__name__}: {error}"
        watch.on = False
        faulthandler.cancel_dump_traceback_later()
        result["slowest"] = max(result["slowest"], time.perf_counter() - start)
        if watch.seen:
            fault += f" did {', '.join(watch.seen[:3])}"
        if sorted(os.listdir(folder)) != names:
            fault += " left files"
        if fault and len(result["faults"]) < 10:
            result["faults"].append(f"copy {number}: {fault.strip()[:200]}")
    return result


def _write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def peak_megabytes() -> float:
    """Returns the most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
