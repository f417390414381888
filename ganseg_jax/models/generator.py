"""The hierarchical generator of GANSeg: points, then part masks, then the image.

He, Wandt, Rhodin, "GANSeg: Learning to Segment by Unsupervised Hierarchical Image Generation",
CVPR 2022. Where the paper's equations and the authors' released models differ, both are settings.
"""

from collections.abc import Sequence
from typing import Any, Literal

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ganseg_jax import geometry
from ganseg_jax.latents import Latents
from ganseg_jax.models.blocks import (
    MLP,
    AdaINConvBlock,
    ModulatedResBlock,
    StyleMap,
    conv,
    dense,
    leaky_relu,
    standard_normal,
)

PART_SCALES = ("std", "norm_variance", "mean_abs")
PartScale = Literal["std", "norm_variance", "mean_abs"] | float


@flax.struct.dataclass
class GeneratorOutput:
    """What the generator makes; maps are at image size, coordinates (row, col) in [-1, 1].

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
    masks: Float[Array, "b s s k+1"]
    points: Float[Array, "b k p 2"]
    part_centers: Float[Array, "b k 2"]
    part_scales: Float[Array, "b k"]
    part_embeddings: Float[Array, "b k e"]
    heatmaps: Float[Array, "b s s k"]


def part_scales(points: Float[Array, "b k p 2"], kind: PartScale) -> Float[Array, "b k"]:
    """Extent of each part, in the form that its heatmap divides distances by.

    Args:
      points: (row, col) of the P points of each part.
      kind: "std", the paper's eq. 1, returned squared (sigma_k^2): sum of squared distances to
        the part centre over (P - 1)^2; "norm_variance" (released, Gaussian heatmap): unbiased
        variance of the distances to the centre + 1e-6; "mean_abs" (released, linear heatmap):
        mean absolute deviation over points and coordinates + 1e-6; a number: that number.
    """
    if isinstance(kind, int | float):
        return jnp.full(points.shape[:2], kind, jnp.float32)
    count = points.shape[2]
    offsets = points - jnp.mean(points, axis=2, keepdims=True)  # [B, K, P, 2]
    if kind == "mean_abs":
        return jnp.mean(jnp.abs(offsets), axis=(2, 3)) + 1e-6
    squared = jnp.sum(jnp.square(offsets), axis=-1)  # [B, K, P]
    if kind == "std":
        # A floor well below a pixel: P coinciding points would divide by zero.
        return jnp.sum(squared, axis=-1) / (count - 1) ** 2 + 1e-6
    if kind == "norm_variance":
        # The root's gradient is infinite where a point lies exactly on the centre.
        distances = jnp.sqrt(jnp.maximum(squared, 1e-12))
        return jnp.var(distances, axis=-1, ddof=1) + 1e-6
    raise ValueError(
        f"part_scale must be 'std', 'norm_variance', 'mean_abs' or a number, not {kind!r}"
    )


class OffsetEncoding(nn.Module):
    """[sin(pi FC(d)), cos(pi FC(d))] of the differences d between given positions and each pixel.

    The positions' part and the pixels' part of the linear layer are added, so that the differences
    themselves (2 numbers for each position and pixel) are never stored.
    """

    channels: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, positions: Float[Array, "b n 2"], grid: Float[Array, "h w 2"]
    ) -> Float[Array, "b h w c"]:
        batch, count = positions.shape[:2]
        layer = dense(self.channels // 2, name="offsets")
        from_positions = layer(positions.reshape(batch, 2 * count))  # [B, C/2]
        kernel = layer.variables["params"]["kernel"].reshape(count, 2, -1)
        from_pixels = jnp.einsum("hwi,nic->hwc", grid, kernel)
        phase = jnp.pi * (from_positions[:, None, None, :] - from_pixels)
        return jnp.concatenate([jnp.sin(phase), jnp.cos(phase)], axis=-1).astype(self.dtype)


class LearnedStart(nn.Module):
    """A learned constant in place of the encoding (the paper's ablation without points)."""

    channels: int
    size: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, batch: int) -> Float[Array, "b n n c"]:
        shape = (self.size, self.size, self.channels)
        start = self.param("start", standard_normal, shape, jnp.float32)
        return jnp.broadcast_to(start, (batch, *shape)).astype(self.dtype)


def unread_pixels(size: int, next_size: int | None, margin: int) -> int:
    """Pixels on each side of a stage's result that nothing reads: its blocks leave them out."""
    if next_size is None:
        return margin
    return 0 if next_size == size else geometry.unread_by_upsampling(margin)


def stage_margins(sizes: Sequence[int], margin: int) -> tuple[int, ...]:
    """Pixels by which each stage's result reaches beyond the image, on each side.

    Args:
      sizes: of the image in each stage, in pixels.
      margin: what the stages begin with, in pixels.
    """
    following = [*sizes[1:], None]
    return tuple(
        margin - unread_pixels(n, m, margin) for n, m in zip(sizes, following, strict=True)
    )


def to_next_stage(x: Array, size: int, next_size: int | None, margin: int) -> Array:
    """Between stages, from a map without its `unread_pixels`: upsample where the size doubles."""
    if next_size in (None, size):
        return x
    unread = geometry.unread_by_upsampling(margin)
    return geometry.crop(geometry.upsample_2x(x), margin - 2 * unread)


class PointGenerator(nn.Module):
    """Level 1: z_point to the K parts' P points each, tanh(MLP / divisor), always float32."""

    num_parts: int
    points_per_part: int
    hidden: int
    layers: int
    divisor: float

    @nn.compact
    def __call__(self, z_point: Float[Array, "b d"]) -> Float[Array, "b k p 2"]:
        count = self.num_parts * self.points_per_part
        out = MLP(2 * count, self.hidden, self.layers, name="mlp")(z_point)
        points = jnp.tanh(out / self.divisor)
        return points.reshape(-1, self.num_parts, self.points_per_part, 2)


class PartEmbeddings(nn.Module):
    """w_k = w_k^const * MLP_app(z_app), elementwise."""

    num_parts: int
    features: int
    hidden: int
    layers: int = 3

    @nn.compact
    def __call__(self, z_app: Float[Array, "b d"]) -> Float[Array, "b k e"]:
        shape = (self.num_parts, self.features)
        constant = self.param("constant", standard_normal, shape, jnp.float32)
        dynamic = MLP(self.features, self.hidden, self.layers, name="mlp")(z_app)
        return constant * dynamic[:, None, :]


class MaskGenerator(nn.Module):
    """Level 2: points to part masks.

    Returns the masks (background first) and the heatmaps, at image size.
    """

    num_parts: int
    stage_sizes: Sequence[int]
    start_channels: int
    hidden_channels: int
    margin: int
    spade_hidden: int
    heatmap: Literal["gaussian", "linear"]
    grid: geometry.GridKind
    use_points: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        points: Float[Array, "b k p 2"],
        scales: Float[Array, "b k"],
        embeddings: Float[Array, "b k e"],
        *,
        train: bool,
    ) -> tuple[Float[Array, "b s s k+1"], Float[Array, "b s s k"]]:
        batch = embeddings.shape[0]
        centers = jnp.mean(points, axis=2)
        make_heatmaps = {
            "gaussian": geometry.gaussian_heatmaps,
            "linear": geometry.linear_heatmaps,
        }[self.heatmap]
        grids = {n: geometry.pixel_grid(n, self.margin, self.grid) for n in self.stage_sizes}
        heatmaps = {n: make_heatmaps(grid, centers, scales) for n, grid in grids.items()}

        first = self.stage_sizes[0]
        if self.use_points:
            start = OffsetEncoding(self.start_channels, dtype=self.dtype, name="start")
            x = start(points.reshape(batch, -1, 2), grids[first])
        else:
            start = LearnedStart(
                self.start_channels, first + 2 * self.margin, dtype=self.dtype, name="start"
            )
            x = start(batch)
        last = len(self.stage_sizes) - 1
        for i, size in enumerate(self.stage_sizes):
            following = self.stage_sizes[i + 1] if i < last else None
            block = ModulatedResBlock(
                self.hidden_channels if i < last else self.num_parts + 1,
                self.spade_hidden,
                unread_pixels(size, following, self.margin),
                dtype=self.dtype,
                name=f"block_{i}",
            )
            if self.use_points:
                style = StyleMap(heatmaps[size], embeddings)
            else:
                style = jnp.mean(embeddings, axis=1)
            x = block(x, style, train=train)
            x = to_next_stage(x, size, following, self.margin)
        masks = jax.nn.softmax(x.astype(jnp.float32), axis=-1)
        return masks, geometry.crop(heatmaps[self.stage_sizes[-1]], self.margin)


class ForegroundGenerator(nn.Module):
    """Level 3, foreground: masks and embeddings to the feature map F, at image size."""

    stage_sizes: Sequence[int]
    stage_channels: Sequence[int]
    out_channels: int
    margin: int
    spade_hidden: int
    grid: geometry.GridKind
    use_points: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        part_centers: Float[Array, "b k 2"],
        masks: Float[Array, "b s s m"],
        embeddings: Float[Array, "b m e"],
        *,
        train: bool,
    ) -> Float[Array, "b s s e"]:
        sizes, margin = self.stage_sizes, self.margin
        if self.use_points:
            start = OffsetEncoding(self.stage_channels[0], dtype=self.dtype, name="start")
            x = start(part_centers, geometry.pixel_grid(sizes[0], margin, self.grid))
        else:
            start = LearnedStart(
                self.stage_channels[0], sizes[0] + 2 * margin, dtype=self.dtype, name="start"
            )
            x = start(masks.shape[0])
        resized = {
            n: geometry.pad_edges(geometry.resize_bilinear(masks, n, n), margin) for n in set(sizes)
        }
        outputs = [*self.stage_channels[1:], self.out_channels]
        for i, size in enumerate(sizes):
            following = sizes[i + 1] if i + 1 < len(sizes) else None
            unread = unread_pixels(size, following, margin)
            block = ModulatedResBlock(
                outputs[i], self.spade_hidden, unread, dtype=self.dtype, name=f"block_{i}"
            )
            x = block(x, StyleMap(resized[size], embeddings), train=train)
            x = to_next_stage(x, size, following, margin)
        return x


class BackgroundGenerator(nn.Module):
    """Level 3, background: position and style to the feature map B, at image size."""

    stage_sizes: Sequence[int]
    stage_channels: Sequence[int]
    out_channels: int
    margin: int
    hidden: int
    grid: geometry.GridKind
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, position: Float[Array, "b 2"], style: Float[Array, "b e"], *, train: bool
    ) -> Float[Array, "b s s e"]:
        sizes, margin = self.stage_sizes, self.margin
        start = OffsetEncoding(self.stage_channels[0], dtype=self.dtype, name="start")
        x = start(position[:, None, :], geometry.pixel_grid(sizes[0], margin, self.grid))
        outputs = [*self.stage_channels[1:], self.out_channels]
        for i, size in enumerate(sizes):
            following = sizes[i + 1] if i + 1 < len(sizes) else None
            unread = unread_pixels(size, following, margin)
            block = AdaINConvBlock(
                outputs[i], self.hidden, unread, dtype=self.dtype, name=f"block_{i}"
            )
            x = block(x, style, train=train)
            x = to_next_stage(x, size, following, margin)
        return x


class ImageHead(nn.Module):
    """tanh(head(LeakyReLU(features))): two 3x3 convolutions, or a single 1x1."""

    kind: Literal["two_layer", "single"]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b s s e"]) -> Float[Array, "b s s 3"]:
        x = leaky_relu(x)
        if self.kind == "two_layer":
            x = leaky_relu(conv(x.shape[-1], dtype=self.dtype, name="conv_0")(x))
            x = conv(3, dtype=self.dtype, name="conv_1")(x)
        else:
            x = conv(3, kernel_size=1, dtype=self.dtype, name="conv_0")(x)
        return jnp.tanh(x.astype(jnp.float32))


class Generator(nn.Module):
    """The whole generator; `__call__` takes latents, `decode` takes points and styles.

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
    dtype: Any = jnp.float32

    @property
    def image_size(self) -> int:
        """S, the side of the images made."""
        return self.stage_sizes[-1]

    def setup(self):
        check_generator_settings(self)
        mlp = dict(hidden=self.noise_dim)
        maps = dict(stage_sizes=self.stage_sizes, margin=self.margin, grid=self.grid)
        maps["dtype"] = self.dtype
        levels = dict(stage_channels=self.stage_channels, out_channels=self.embedding_dim)
        if self.use_points:
            self.point_generator = PointGenerator(
                self.num_parts,
                self.points_per_part,
                layers=self.point_layers,
                divisor=self.point_divisor,
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

    def points(self, z_point: Float[Array, "b d"]) -> Float[Array, "b k p 2"]:
        """Level 1 alone."""
        return self.point_generator(z_point)

    def styles(
        self, z_app: Float[Array, "b d"], z_bg_app: Float[Array, "b d"]
    ) -> tuple[Float[Array, "b k e"], Float[Array, "b e"]]:
        """Part embeddings w_k and the background's style."""
        return self.embeddings(z_app), self.background_style(z_bg_app)

    def decode(
        self,
        points: Float[Array, "b k p 2"],
        part_embeddings: Float[Array, "b k e"],
        background_style: Float[Array, "b e"],
        background_position: Float[Array, "b 2"],
        *,
        train: bool,
    ) -> GeneratorOutput:
        """Levels 2 and 3: from points and styles to masks and image."""
        centers = jnp.mean(points, axis=2)
        scales = part_scales(points, self.part_scale)
        masks, heatmaps = self.mask_generator(points, scales, part_embeddings, train=train)
        if not self.use_points:
            centers = geometry.mass_centers(masks[..., 1:], self.grid)
            points = jnp.broadcast_to(centers[:, :, None, :], points.shape)
        image = self.paint(
            masks, centers, part_embeddings, background_style, background_position, train=train
        )
        return GeneratorOutput(
            image=image,
            masks=masks,
            points=points,
            part_centers=centers,
            part_scales=scales,
            part_embeddings=part_embeddings,
            heatmaps=heatmaps,
        )

    def paint(
        self,
        masks: Float[Array, "b s s k+1"],
        part_centers: Float[Array, "b k 2"],
        part_embeddings: Float[Array, "b k e"],
        background_style: Float[Array, "b e"],
        background_position: Float[Array, "b 2"],
        *,
        train: bool,
    ) -> Float[Array, "b s s 3"]:
        """Level 3: the image for given masks."""
        if not self.separate_background:
            embeddings = jnp.concatenate([background_style[:, None], part_embeddings], axis=1)
            return self.image_head(
                self.foreground_generator(part_centers, masks, embeddings, train=train)
            )
        foreground = self.foreground_generator(
            part_centers, masks[..., 1:], part_embeddings, train=train
        )
        if self.background_shift == "horizontal":
            background_position = background_position * jnp.array([0.0, 1.0])
        background = self.background_generator(background_position, background_style, train=train)
        share = masks[..., :1].astype(self.dtype)
        return self.image_head((1 - share) * foreground + share * background)

    def __call__(self, latents: Latents, *, train: bool) -> GeneratorOutput:
        """Images, masks and points of a batch of latents; `train` uses batch statistics."""
        if self.use_points:
            points = self.point_generator(latents.z_point)
        else:
            batch = latents.z_point.shape[0]
            points = jnp.zeros((batch, self.num_parts, self.points_per_part, 2))
        embeddings, background_style = self.styles(latents.z_app, latents.z_bg_app)
        return self.decode(points, embeddings, background_style, latents.u_bg_pos, train=train)


def check_generator_settings(settings: Generator) -> None:
    """Raises ValueError naming the setting that cannot be built."""
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
    elif not settings.part_scale > 0:
        raise ValueError(f"part_scale must be positive, not {settings.part_scale}")
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
