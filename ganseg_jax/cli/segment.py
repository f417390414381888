"""Segments photos and videos with a trained segmenter.

python -m experiments.segment --workdir=W --input=PHOTOS --output=DIR
python -m experiments.segment --workdir=W --few_shot=few_shot --input=PHOTOS --output=DIR
python -m experiments.segment --pretrained=people --input=PHOTOS [--output=DIR]

PHOTOS is a photo, a folder, a tar archive, a pattern such as 'a/*.jpg', a video, or several of
these. - stands for standard input: a photo, or names of files, one a line. A model is a run's
folder, the folder that `experiments.few_shot` wrote, a packed model, or the name of a model of the
package. Results go to ./segmented unless --output is given. For a photo `a.jpg` (folders below the
input are kept) it writes

  labels/a.png     label map at the photo's own size, an indexed PNG: 0 background, 1 ... K parts
  overlays/a.png   the parts over the photo, at most 512 px a side
  sheet.png        the first photos side by side, bare and with their parts
  parts.json       {"photos": {"a.jpg": {"height", "width", "parts": [{"part": 1,
                   "center": [row, col], "area": A}, ...]}}, "skipped": {name: reason}};
                   parts of a few-shot network have their "name"
  parts.csv        the same, a row for each part of each photo
  a_parts.mp4      of a video `a.mp4`: its frames with the parts over them; a_parts.csv: centres and
                   areas in each frame

With --format=cutouts each part is cut out as `cutouts/a.jpg/part_1.png`, transparent around. The
other formats are label maps as labelling tools read them, with the parts' names, so that a person
can correct them: `coco/annotations.coco.json` (run lengths), `cvat/annotations.xml` (masks),
`label_studio/tasks.json` (brush predictions), `labelme/a.json` (polygons; a ring inside another of
its group is a hole, which LabelMe's own converters fill), `supervisely/ann/a.jpg.json` (bitmaps),
`via/via_project.json` and `yolo/a.txt` (a polygon for each piece; thin cuts lead to its holes).

Centres are centres of mass of the parts' probabilities, in pixels of the photo; areas count pixels
of the label map. Photos are read as for training: turned as the camera noted, transparency put on
white, masks (folders such as `masks/`, files such as `NAME_mask.png`) and hidden files left alone.
JPEGs of more than 1,536 pixels are decoded at a half, quarter or eighth of their size, which is six
times as fast and changes some pixels in ten thousand at borders; their label maps have full size.
Where `a.jpg` and `a.png` lie in one folder their results are named `a.jpg.png` and `a.png.png`, and
their entries in parts.json have that name as "file". With --watch a result keeps its name if a
photo of the same name comes later.
"""

import contextlib
import functools
import pathlib
import sys
import tempfile

from absl import flags

from ganseg_jax.cli import app, places, processes, setting_flags, startup
from ganseg_jax.config import schema

INPUT = places.define_inputs(
    "input", "Photos, folders of photos, patterns, videos, or - for standard input.", several=True
)
MODEL = places.define_model()
OUTPUT = places.define_output("segmented", "Folder to write to.")
FORMAT = flags.DEFINE_list(
    "format",
    [],
    "What to write too: coco, cvat, label_studio, labelme, supervisely, via, yolo, cutouts.",
)
WATCH = flags.DEFINE_bool("watch", False, "Wait for more photos in the folder; Ctrl+C ends.")
FEW_SHOT = flags.DEFINE_string(
    "few_shot", None, "Folder of the workdir that experiments.few_shot wrote: use its network."
)
REFINE = flags.DEFINE_bool(
    "refine",
    None,
    "Bring masks to the edges of each photo's colours; left out, as the model's config says.",
)
SETTINGS = setting_flags.define_settings(schema.Dataset, {"max_megapixels": "max_megapixels"})


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        _segment(pathlib.Path(folder))


def _check_formats() -> None:
    """Raises `UserError` if a format is not known, or cannot be written of photos that arrive."""
    from ganseg_jax.config.setting import nearest
    from ganseg_jax.data.annotations.export import FORMATS, is_of_each
    from ganseg_jax.errors import UserError
    from ganseg_jax.jobs.outputs import CUTOUTS

    known = (*FORMATS, CUTOUTS)
    for name in FORMAT.value:
        if name not in known:
            raise UserError(
                f"--format={name} is not known: give some of {', '.join(known)}"
                f"{nearest(name, known)}"
            )
    together = [name for name in FORMAT.value if name in FORMATS and not is_of_each(name)]
    if WATCH.value and together:
        raise UserError(
            f"--format={together[0]} is one file for all photos: segment again without --watch "
            "once they are there"
        )


def _segment(scratch: pathlib.Path) -> None:
    from ganseg_jax import packed
    from ganseg_jax.data import gather
    from ganseg_jax.errors import UserError
    from ganseg_jax.jobs.arriving import segment_arriving
    from ganseg_jax.jobs.familiar import warning
    from ganseg_jax.jobs.segment import segment_folder
    from ganseg_jax.jobs.video import segment_video
    from ganseg_jax.loading import few_shot_config, load_segmenter

    _check_formats()
    place = None if FEW_SHOT.value is None else places.few_shot_folder(FEW_SHOT.value)
    # Before anything slow: most mistakes are made here.
    given = INPUT.values
    if "-" in given:
        read = gather.from_stream(sys.stdin.buffer.read(), scratch)
        given = [*(name for name in given if name != "-"), *read]
    inputs = gather.sort(given)
    if WATCH.value and (len(inputs.sources) != 1 or inputs.videos):
        raise UserError("--watch takes one folder")
    if inputs.videos and not inputs.sources and FORMAT.value:
        print("note: --format is for photos; videos have none", file=sys.stderr)
    with gather.opened([] if WATCH.value else inputs.sources, OUTPUT.value) as found:
        if place is not None:
            few_shot_config(place)  # Says so if there is none.
        model = place or MODEL()
        segmenter = load_segmenter(model)
        if REFINE.value is not None:
            segmenter.refine = REFINE.value
        if not processes.is_first():
            return
        segment = functools.partial(
            segment_folder,
            segmenter,
            output=OUTPUT.value,
            max_megapixels=SETTINGS.value.max_megapixels,
            formats=FORMAT.value,
        )
        if WATCH.value:
            with contextlib.suppress(KeyboardInterrupt):
                segment_arriving(
                    inputs.sources[0],
                    OUTPUT.value,
                    lambda photos, before: segment(photos, before=before),
                )
        if found is not None:
            content = segment(found)
            line = None if place else warning(content, packed.about(model), "this model")
            if line:
                print(line, file=sys.stderr)
    for video in inputs.videos:
        segment_video(segmenter, video, OUTPUT.value)


if __name__ == "__main__":
    app.run(main, uses_jax=lambda: startup.inference_needs_jax(MODEL()))
