"""GANSeg in JAX/Flax: part segmentation learned from unlabelled photos.

The names here are imported when they are first used, so that `import ganseg_jax` is quick.
"""

from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Latents": "latents",
    "sample_latents": "latents",
    "Segmenter": "loading",
    "load_generator": "loading",
    "load_segmenter": "loading",
}

__all__ = sorted([*_HOMES, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ganseg_jax' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"ganseg_jax.{_HOMES[name]}"), name)
