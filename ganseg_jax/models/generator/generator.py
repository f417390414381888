"""The hierarchical generator of GANSeg: points, then part masks, then the image.

He, Wandt, Rhodin, "GANSeg: Learning to Segment by Unsupervised Hierarchical Image Generation",
CVPR 2022. Where the paper's equations and the authors' released models differ, both are settings.
"""

from collections.abc import Sequence
from typing import Any, Literal

import flax.linen as nn
import flax.struct
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ganseg_jax import geometry, rules
from ganseg_jax.latents import Latents
from ganseg_jax.models.blocks import MLP
from ganseg_jax.models.generator.masks import MaskGenerator
from ganseg_jax.models.generator.painting import BackgroundGenerator, ForegroundGenerator, ImageHead
from ganseg_jax.models.generator.points import (
    PART_SCALES,
    PartEmbeddings,
    PartScale,
    PointGenerator,
    PointLayout,
    part_scales,
)


@flax.struct.dataclass
class GeneratorOutput:
    """Holds what the generator makes; maps are at image size, coordinates (row, col) in [-1, 1].

    Attributes:
      image: in [-1, 1].
      masks: background first, then parts 1..K; sums to 1 over the last axis.
      points: P points of each part.
      part_centers: mean of each part's points.
      part_scales: sigma_k^2 or tau_k, whichever divides the distances in the heatmap.
      part_embeddings: w_k.
      heatmaps: H_k, in [0, 1].
    """

    image: Float[Array, "b s s 3"]
    masks: Float[Array, "b s s m"]
    points: Float[Array, "b k p 2"]
    part_centers: Float[Array, "b k 2"]
    part_scales: Float[Array, "b k"]
    part_embeddings: Float[Array, "b k e"]
    heatmaps: Float[Array, "b s s k"]


class Generator(nn.Module):
    """Generates images, masks and points; `__call__` takes latents, `decode` points and styles.

    Attributes:
      num_parts: K.
      points_per_part: P.
      noise_dim: D, of each latent and of the MLPs' hidden layers.
      embedding_dim: E.
      stage_sizes: map size of each stage, without margin; equal to the one before or twice it.
        The last one is the image size.
      stage_channels: channels that each stage of the foreground and background starts with.
      margin: pixels added on each side of every map.
      spade_hidden: channels between a style and its modulation.
      point_layers: hidden layers of the point MLP (released 4; the paper's 3-layer MLP is 2).
      point_divisor: points = tanh(MLP / divisor).
      heatmap, part_scale: see `geometry` and `part_scales`; released pairs are
        ("linear", "mean_abs") and ("gaussian", "norm_variance"), the paper's ("gaussian", "std").
      grid: "corners" (released) or "centers" (exactly equivariant but for the borders).
      head: "two_layer" or "single" (released Flowers).
      background_shift: "both" (paper) or "horizontal" (released: the row is set to 0).
      use_points: False is the ablation without points.
      separate_background: False is the ablation in which the foreground generator also makes the
        background, as one more part.
      point_spread, point_layout: where part centres lie before training; see `PointGenerator`.
      background_start: lead of the background before training; see `MaskGenerator`.
      dtype: type to compute in; coordinates, heatmaps and softmax stay float32.
    """

    num_parts: int
    points_per_part: int = 4
    noise_dim: int = 256
    embedding_dim: int = 64
    stage_sizes: Sequence[int] = (32, 32, 64, 128)
    stage_channels: Sequence[int] = (512, 256, 128, 64)
    margin: int = 10
    spade_hidden: int = 128
    point_layers: int = 4
    point_divisor: float = 20.0
    heatmap: Literal["gaussian", "linear"] = "linear"
    part_scale: PartScale = "mean_abs"
    grid: geometry.GridKind = "corners"
    head: Literal["two_layer", "single"] = "two_layer"
    background_shift: Literal["both", "horizontal"] = "horizontal"
    use_points: bool = True
    separate_background: bool = True
    point_spread: float = 0.0
    point_layout: PointLayout = "disc"
    background_start: float = 0.0
    dtype: Any = jnp.float32

    @property
    def image_size(self) -> int:
        """Returns S, the side of the images made."""
        return self.stage_sizes[-1]

    def setup(self):
        check_generator_settings(self)
        mlp: dict[str, Any] = {"hidden": self.noise_dim}
        maps: dict[str, Any] = {"stage_sizes": self.stage_sizes, "margin": self.margin}
        maps |= {"grid": self.grid, "dtype": self.dtype}
        levels: dict[str, Any] = {"stage_channels": self.stage_channels}
        levels["out_channels"] = self.embedding_dim
        if self.use_points:
            self.point_generator = PointGenerator(
                self.num_parts,
                self.points_per_part,
                layers=self.point_layers,
                divisor=self.point_divisor,
                spread=self.point_spread,
                layout=self.point_layout,
                **mlp,
            )
        self.embeddings = PartEmbeddings(self.num_parts, self.embedding_dim, **mlp)
        self.background_style = MLP(self.embedding_dim, layers=3, **mlp)
        self.mask_generator = MaskGenerator(
            self.num_parts,
            start_channels=self.stage_channels[0],
            hidden_channels=self.embedding_dim,
            spade_hidden=self.spade_hidden,
            heatmap=self.heatmap,
            background_start=self.background_start if self.separate_background else 0.0,
            use_points=self.use_points,
            **maps,
        )
        self.foreground_generator = ForegroundGenerator(
            spade_hidden=self.spade_hidden, use_points=self.use_points, **levels, **maps
        )
        if self.separate_background:
            self.background_generator = BackgroundGenerator(
                hidden=self.spade_hidden, **levels, **maps
            )
        self.image_head = ImageHead(self.head, dtype=self.dtype)

    @rules.usual(types=False)
    def points(self, z_point: Float[Array, "b d"]) -> Float[Array, "b k p 2"]:
        """Returns the points: level 1 alone."""
        return self.point_generator(z_point)

    @rules.usual(types=False)
    def styles(
        self, z_app: Float[Array, "b d"], z_bg_app: Float[Array, "b d"]
    ) -> tuple[Float[Array, "b k e"], Float[Array, "b e"]]:
        """Returns part embeddings w_k and the background's style."""
        return self.embeddings(z_app), self.background_style(z_bg_app)

    @rules.usual(types=False)
    def decode(
        self,
        points: Float[Array, "b k p 2"],
        part_embeddings: Float[Array, "b k e"],
        background_style: Float[Array, "b e"],
        background_position: Float[Array, "b 2"],
        *,
        train: bool,
    ) -> GeneratorOutput:
        """Makes masks and image from points and styles: levels 2 and 3."""
        backdrop = self.backdrop(background_style, background_position, train=train)
        return self.decode_on(points, part_embeddings, backdrop, train=train)

    @rules.usual(types=False)
    def decode_on(
        self,
        points: Float[Array, "b k p 2"],
        part_embeddings: Float[Array, "b k e"],
        backdrop: Float[Array, "b s s e"] | Float[Array, "b e"],
        *,
        train: bool,
    ) -> GeneratorOutput:
        """Makes masks and image on a `backdrop`, which may be kept while points move."""
        scales = part_scales(points, self.part_scale)
        masks, heatmaps = self.mask_generator(points, scales, part_embeddings, train=train)
        centers = self._centers(points, masks)
        if not self.use_points:
            points = jnp.broadcast_to(centers[:, :, None, :], points.shape)
        image = self.paint_on(masks, centers, part_embeddings, backdrop, train=train)
        return GeneratorOutput(
            image=image,
            masks=masks,
            points=points,
            part_centers=centers,
            part_scales=scales,
            part_embeddings=part_embeddings,
            heatmaps=heatmaps,
        )

    @rules.usual(types=False)
    def masks_of(
        self,
        points: Float[Array, "b k p 2"],
        part_embeddings: Float[Array, "b k e"],
        *,
        train: bool,
    ) -> tuple[Float[Array, "b s s m"], Float[Array, "b k 2"]]:
        """Makes masks and part centres alone: level 2."""
        scales = part_scales(points, self.part_scale)
        masks, _ = self.mask_generator(points, scales, part_embeddings, train=train)
        return masks, self._centers(points, masks)

    def _centers(
        self, points: Float[Array, "b k p 2"], masks: Float[Array, "b s s m"]
    ) -> Float[Array, "b k 2"]:
        if self.use_points:
            return jnp.mean(points, axis=2)
        return geometry.mass_centers(masks[..., 1:], self.grid)

    @rules.usual(types=False)
    def paint(
        self,
        masks: Float[Array, "b s s m"],
        part_centers: Float[Array, "b k 2"],
        part_embeddings: Float[Array, "b k e"],
        background_style: Float[Array, "b e"],
        background_position: Float[Array, "b 2"],
        *,
        train: bool,
    ) -> Float[Array, "b s s 3"]:
        """Paints the image for given masks: level 3."""
        backdrop = self.backdrop(background_style, background_position, train=train)
        return self.paint_on(masks, part_centers, part_embeddings, backdrop, train=train)

    @rules.usual(types=False)
    def backdrop(
        self,
        background_style: Float[Array, "b e"],
        background_position: Float[Array, "b 2"],
        *,
        train: bool,
    ) -> Float[Array, "b s s e"] | Float[Array, "b e"]:
        """Makes the background's features, which depend on neither points nor parts.

        Without a background of its own (`separate_background`) that is its style.
        """
        if not self.separate_background:
            return background_style
        if self.background_shift == "horizontal":
            background_position = background_position * jnp.array([0.0, 1.0])
        return self.background_generator(background_position, background_style, train=train)

    @rules.usual(types=False)
    def paint_on(
        self,
        masks: Float[Array, "b s s m"],
        part_centers: Float[Array, "b k 2"],
        part_embeddings: Float[Array, "b k e"],
        backdrop: Float[Array, "b s s e"] | Float[Array, "b e"],
        *,
        train: bool,
    ) -> Float[Array, "b s s 3"]:
        """Paints the parts on a `backdrop`."""
        if not self.separate_background:
            embeddings = jnp.concatenate([backdrop[:, None], part_embeddings], axis=1)
            return self.image_head(
                self.foreground_generator(part_centers, masks, embeddings, train=train)
            )
        foreground = self.foreground_generator(
            part_centers, masks[..., 1:], part_embeddings, train=train
        )
        share = masks[..., :1].astype(self.dtype)
        return self.image_head((1 - share) * foreground + share * backdrop)

    @rules.usual(types=False)
    def __call__(self, latents: Latents, *, train: bool) -> GeneratorOutput:
        """Makes images, masks and points of a batch of latents; `train` uses batch statistics."""
        if self.use_points:
            points = self.point_generator(latents.z_point)
        else:
            batch = latents.z_point.shape[0]
            points = jnp.zeros((batch, self.num_parts, self.points_per_part, 2), jnp.float32)
        embeddings, background_style = self.styles(latents.z_app, latents.z_bg_app)
        return self.decode(points, embeddings, background_style, latents.u_bg_pos, train=train)


def check_generator_settings(settings: Generator) -> None:
    """Raises ValueError, naming the setting, if the generator cannot be built."""
    sizes, channels = settings.stage_sizes, settings.stage_channels
    if len(sizes) != len(channels) or not sizes:
        raise ValueError(
            f"stage_sizes {tuple(sizes)} and stage_channels {tuple(channels)} must be equally long"
        )
    for small, large in zip(sizes[:-1], sizes[1:], strict=True):
        if large not in (small, 2 * small):
            raise ValueError(
                f"stage_sizes {tuple(sizes)}: {large} is neither {small} nor twice {small}"
            )
    if sizes[0] < 2 or channels[0] % 2:
        raise ValueError("stage_sizes start at 2 or more, stage_channels at an even number")
    least = dict(num_parts=1, points_per_part=1, noise_dim=1, embedding_dim=1, spade_hidden=1)
    for name, minimum in (least | dict(margin=0, point_layers=0)).items():
        if getattr(settings, name) < minimum:
            raise ValueError(f"{name} must be at least {minimum}, not {getattr(settings, name)}")
    if not settings.point_divisor > 0:
        raise ValueError(f"point_divisor must be positive, not {settings.point_divisor}")
    if isinstance(settings.part_scale, str):
        if settings.part_scale not in PART_SCALES:
            raise ValueError(
                f"part_scale must be one of {PART_SCALES} or a number, not {settings.part_scale!r}"
            )
    elif not 0 < np.float32(settings.part_scale) < np.inf:
        raise ValueError(f"part_scale must be positive and finite, not {settings.part_scale}")
    needs_spread = settings.part_scale in ("std", "norm_variance")
    if settings.use_points and needs_spread and settings.points_per_part < 2:
        raise ValueError(f"part_scale {settings.part_scale!r} needs points_per_part of at least 2")
    choices = {
        "heatmap": ("gaussian", "linear"),
        "grid": ("corners", "centers"),
        "head": ("two_layer", "single"),
        "background_shift": ("both", "horizontal"),
    }
    for name, allowed in choices.items():
        if getattr(settings, name) not in allowed:
            raise ValueError(f"{name} must be one of {allowed}, not {getattr(settings, name)!r}")
