"""GANSeg in JAX/Flax: part segmentation learned from unlabelled photos.

The names below are imported when they are first used, so that `import ganseg_jax` is quick.
"""

from etils import epy as _epy

__version__ = "0.2.0"

with _epy.lazy_api_imports(globals()):
    from ganseg_jax.latents import Latents as Latents
    from ganseg_jax.latents import sample_latents as sample_latents
    from ganseg_jax.loading import load_generator as load_generator
    from ganseg_jax.loading import load_segmenter as load_segmenter
    from ganseg_jax.segmenter import Segmenter as Segmenter
