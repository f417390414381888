"""Segments photos with a trained segmenter.

python -m experiments.segment --workdir=W --input=PHOTOS --output=DIR
python -m experiments.segment --workdir=W --few_shot=few_shot --input=PHOTOS --output=DIR
python -m experiments.segment --pretrained=people --input=PHOTOS [--output=DIR]

The second takes the network that `experiments.few_shot` trained in W/few_shot, the third a model
that comes with the package. PHOTOS is a folder, a tar archive or one photo. Results go to
./segmented unless --output is given. For a photo `a.jpg` (folders below --input are kept) it writes

  labels/a.png     label map at the photo's own size, an indexed PNG: 0 background, 1 ... K parts
  overlays/a.png   the parts over the photo, at most 512 px a side
  sheet.png        the first photos side by side, bare and with their parts
  parts.json       {"photos": {"a.jpg": {"height", "width", "parts": [{"part": 1,
                   "center": [row, col], "area": A}, ...]}}, "skipped": {name: reason}};
                   with --few_shot each part has its "name", which sheet.png shows too

With --format, label maps are written as labelling tools read them too, with the parts' names, so
that a person can correct them: `coco/annotations.coco.json` (run lengths), `cvat/annotations.xml`
(masks), `label_studio/tasks.json` (brush predictions), `labelme/a.json` (polygons; a ring inside
another of its group is a hole, which LabelMe's own converters fill).

Centres are centres of mass of the parts' probabilities, in pixels of the photo; areas count pixels
of the label map. Photos are read as for training: turned as the camera noted, transparency put on
white, masks (folders such as `masks/`, files such as `NAME_mask.png`) and hidden files left alone.
Where `a.jpg` and `a.png` lie in one folder their results are named `a.jpg.png` and `a.png.png`.
"""

from absl import flags

from ganseg_jax.cli import app
from ganseg_jax.config import schema

MODEL = app.define_model()
INPUT = flags.DEFINE_string(
    "input", None, "A folder or tar archive of photos, or one photo.", required=True
)
OUTPUT = flags.DEFINE_string("output", "segmented", "Folder to write to.")
FEW_SHOT = flags.DEFINE_string(
    "few_shot", None, "Folder of the workdir that experiments.few_shot wrote: use its network."
)
FORMAT = flags.DEFINE_list(
    "format",
    [],
    "Formats of labelling tools to write too: coco, cvat, label_studio, labelme.",
)
REFINE = flags.DEFINE_bool(
    "refine",
    None,
    "Bring masks to the edges of each photo's colours; left out, as the model's config says.",
)
SETTINGS = app.define_settings(schema.Dataset, {"max_megapixels": "max_megapixels"})


def main() -> None:
    import jax

    from ganseg_jax.data.annotations.export import FORMATS
    from ganseg_jax.data.folder import open_photos
    from ganseg_jax.errors import UserError
    from ganseg_jax.jobs.segment import segment_folder
    from ganseg_jax.loading import few_shot_config, load_segmenter

    for name in FORMAT.value:
        if name not in FORMATS:
            raise UserError(f"--format={name} is not known: give some of {', '.join(FORMATS)}")
    few_shot = None if FEW_SHOT.value is None else app.few_shot_folder(FEW_SHOT.value)
    # Before anything slow: most mistakes are made here.
    with open_photos(INPUT.value, OUTPUT.value) as photos:
        if few_shot is not None:
            few_shot_config(few_shot)  # Says so if there is none.
        segmenter = load_segmenter(few_shot or MODEL())
        if REFINE.value is not None:
            segmenter.refine = REFINE.value
        if jax.process_index() == 0:
            segment_folder(
                segmenter, photos, OUTPUT.value, SETTINGS.value.max_megapixels, FORMAT.value
            )


if __name__ == "__main__":
    app.run(main)
