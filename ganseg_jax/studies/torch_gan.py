"""GANSeg's training iteration in plain PyTorch, to time ours against on the same machine.

python experiments/comparisons/torch_gan.py [--batch_size=2] [--threads=2] [--check=FOLDER]

Needs torch and numpy only, in an environment of their own; nothing else here imports it. Written
from the paper's equations the direct way: a convolution for each gamma and each beta, grids drawn
again, no layer merged. The structure is that of `configs/celeba_wild.py`, and the state_dict's
names are the published ones, so that `--check=tests/parity/goldens` can show that the same
function is timed. Prints one JSON object.
"""

import argparse
import copy
import json
import math
import os
import statistics
import time
import zlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

SIZES, CHANNELS = (32, 32, 64, 128), (512, 256, 128, 64)
PARTS, POINTS, NOISE, EMBEDDING, HIDDEN, MARGIN = 8, 4, 256, 64, 128, 10


def grid(size: int) -> torch.Tensor:
    """Returns (1, n, n, 2): row and column of the pixels of a stage and its margin."""
    end = 1 + 2 * MARGIN / (size - 1)
    axis = torch.linspace(-end, end, size + 2 * MARGIN)
    return torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)[None]


def grow(x: torch.Tensor, size: int) -> torch.Tensor:
    """Returns features (b, c, n, n) of one stage as the input of the stage of `size`."""
    if x.shape[-1] == size + 2 * MARGIN:
        return x
    x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    return x[..., MARGIN:-MARGIN, MARGIN:-MARGIN]


class Perceptron(nn.Sequential):
    def __init__(self, layers: int, outputs: int):
        hidden = []
        for _ in range(layers):
            block = nn.Module()
            block.model = nn.Sequential(nn.Linear(NOISE, NOISE), nn.LeakyReLU(0.2))
            block.forward = block.model.forward
            hidden.append(block)
        super().__init__(*hidden, nn.Linear(NOISE, outputs))


class Start(nn.Module):
    """Computes sin and cos of a linear map of the differences to `anchors` anchors."""

    def __init__(self, anchors: int):
        super().__init__()
        self.pe = nn.Conv2d(2 * anchors, CHANNELS[0] // 2, 1)

    def forward(self, anchors: torch.Tensor) -> torch.Tensor:
        offsets = anchors[:, None, None] - grid(SIZES[0])[..., None, :]
        x = math.pi * self.pe(offsets.flatten(3).permute(0, 3, 1, 2))
        return torch.cat([x.sin(), x.cos()], 1)


class Spade(nn.Module):
    def __init__(self, channels: int, dense: bool = False):
        super().__init__()

        def layer(n: int, m: int) -> nn.Module:
            return nn.Linear(n, m) if dense else nn.Conv2d(n, m, 3, padding=1)

        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.conv = layer(EMBEDDING, HIDDEN)
        self.conv_gamma = layer(HIDDEN, channels)
        self.conv_beta = layer(HIDDEN, channels)

    def forward(self, x: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        a = F.leaky_relu(self.conv(style), 0.2)
        gamma, beta = self.conv_gamma(a), self.conv_beta(a)
        if gamma.ndim == 2:
            gamma, beta = gamma[..., None, None], beta[..., None, None]
        return self.norm(x) * (1 + gamma) + beta


class SpadeBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        middle = min(inputs, outputs)
        self.spade1 = Spade(inputs)
        self.conv1 = nn.Conv2d(inputs, middle, 3, padding=1)
        self.spade2 = Spade(middle)
        self.conv2 = nn.Conv2d(middle, outputs, 3, padding=1)
        self.has_shortcut = inputs != outputs
        if self.has_shortcut:
            self.spade_shortcut = Spade(inputs)
            self.conv_shortcut = nn.Conv2d(inputs, outputs, 3, padding=1)

    def forward(self, x: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        y = self.conv1(F.leaky_relu(self.spade1(x, style), 0.2))
        y = self.conv2(F.leaky_relu(self.spade2(y, style), 0.2))
        return y + (self.conv_shortcut(self.spade_shortcut(x, style)) if self.has_shortcut else x)


class AdainBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.spade1 = Spade(inputs, dense=True)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)

    def forward(self, x: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        return self.conv1(F.leaky_relu(self.spade1(x, style), 0.2))


class Generator(nn.Module):
    def __init__(self, heatmap: str = "linear", parts: int = PARTS):
        super().__init__()
        self.heatmap = heatmap
        self.keypoints_embedding = nn.Embedding(parts, EMBEDDING)
        self.gen_keypoints_embedding_noise = Perceptron(3, EMBEDDING)
        self.gen_keypoints_layer = Perceptron(4, parts * POINTS * 2)
        self.gen_background_embedding = Perceptron(3, EMBEDDING)
        mask_widths = [CHANNELS[0], *[EMBEDDING] * (len(SIZES) - 1), parts + 1]
        widths = [*CHANNELS, EMBEDDING]
        self.mask_start = Start(parts * POINTS)
        self.mask_spade_blocks = _stages(SpadeBlock, mask_widths)
        self.x_start = Start(parts)
        self.spade_blocks = _stages(SpadeBlock, widths)
        self.bg_start = Start(1)
        self.adain_blocks = _stages(AdainBlock, widths)
        self.conv = nn.Sequential(
            nn.Conv2d(EMBEDDING, EMBEDDING, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(EMBEDDING, 3, 3, padding=1),
        )

    def forward(self, z_point, z_bg_app, z_app, bg_pos) -> dict[str, torch.Tensor]:
        parts = self.keypoints_embedding.weight.shape[0]
        points = torch.tanh(self.gen_keypoints_layer(z_point) / 20).view(-1, parts, POINTS, 2)
        centers = points.mean(2)
        offsets = points - centers[:, :, None]
        if self.heatmap == "linear":
            scale = offsets.abs().mean((2, 3)) + 1e-6
        else:
            scale = offsets.norm(dim=-1).var(-1) + 1e-6
        w = self.gen_keypoints_embedding_noise(z_app)[:, None] * self.keypoints_embedding.weight

        x = self.mask_start(points.flatten(1, 2))
        for size, block in zip(SIZES, self.mask_spade_blocks, strict=True):
            square = (grid(size)[..., None, :] - centers[:, None, None]).square().sum(-1)
            tau = scale[:, None, None]
            if self.heatmap == "linear":
                heat = F.relu(1 - (square + 1e-12).sqrt() / tau)
            else:
                heat = torch.exp(-square / tau)
            style = torch.einsum("bhwk,bke->behw", heat, w)
            x = block(grow(x, size), style)
        crop = slice(MARGIN, -MARGIN)
        masks = x[..., crop, crop].softmax(1)

        y, b = self.x_start(centers), self.bg_start(bg_pos[:, None])
        background = self.gen_background_embedding(z_bg_app)
        for size, block, ground in zip(SIZES, self.spade_blocks, self.adain_blocks, strict=True):
            small = F.interpolate(masks[:, :-1], (size, size), mode="bilinear", align_corners=False)
            small = F.pad(small, [MARGIN] * 4, mode="replicate")
            y = block(grow(y, size), torch.einsum("bkhw,bke->behw", small, w))
            b = ground(grow(b, size), background)
        y, b, share = y[..., crop, crop], b[..., crop, crop], masks[:, -1:]
        image = torch.tanh(self.conv(F.leaky_relu((1 - share) * y + share * b, 0.2)))
        # Torch 2.13 crashes in a convolution's gradient where three channels come last in memory.
        image = image.contiguous()
        return {"image": image, "masks": masks, "points": points, "centers": centers}


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.ModuleList()
        inputs = 3
        for outputs in (64, 128, 256, 512, 512, 512):
            block = nn.Module()
            block.conv_res = nn.Conv2d(inputs, outputs, 1, stride=2)
            block.net = nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, padding=1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(outputs, outputs, 3, padding=1),
                nn.LeakyReLU(0.2),
            )
            block.downsample = nn.Sequential(nn.Conv2d(outputs, outputs, 3, stride=2, padding=1))
            self.conv.append(block)
            inputs = outputs
        self.fc = nn.Sequential(nn.Linear(4 * inputs, 512), nn.LeakyReLU(0.2), nn.Linear(512, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.conv:
            x = (block.downsample(block.net(x)) + block.conv_res(x)) / math.sqrt(2)
        return self.fc(x.flatten(1))[:, 0]


def _stages(block, widths):
    return nn.ModuleList(block(n, m) for n, m in zip(widths, widths[1:], strict=False))


def draw(batch: int) -> list[torch.Tensor]:
    """Draws latents; the background moves sideways only."""
    bg_pos = torch.stack([torch.zeros(batch), torch.rand(batch) * 2 - 1], -1)
    return [*(torch.randn(batch, NOISE) for _ in range(3)), bg_pos]


def penalties(out: dict[str, torch.Tensor]) -> torch.Tensor:
    """Returns concentration (mean over parts and batch, weight 10) and area (released form)."""
    masks, size = out["masks"][:, :-1], out["masks"].shape[-1]
    axis = torch.linspace(-1, 1, size)
    pixels = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)
    square = (pixels - out["centers"][:, :, None, None]).square().sum(-1)
    amount = masks.sum((2, 3))
    concentration = ((masks * square).sum((2, 3)) / (amount + 1e-6)).mean()
    spread = (out["points"] - out["centers"][:, :, None]).abs().mean((2, 3))
    area = F.relu(math.pi * (spread * size / 2) ** 2 - amount).sum(1).mean()
    return 10 * concentration + area


def iteration(generator, discriminator, optimizers, real, penalized: bool) -> None:
    """Updates the discriminator once and the generator once, without gradient penalty."""
    optimizer_g, optimizer_d = optimizers
    batch = real.shape[0]
    with torch.no_grad():
        fake = generator(*draw(batch))["image"]
    discriminator.requires_grad_(True)
    loss = F.softplus(discriminator(fake)).mean() + F.softplus(-discriminator(real)).mean()
    optimizer_d.zero_grad()
    loss.backward()
    optimizer_d.step()

    discriminator.requires_grad_(False)
    out = generator(*draw(batch))
    loss = F.softplus(-discriminator(out["image"])).mean()
    if penalized:
        loss = loss + penalties(out)
    optimizer_g.zero_grad()
    loss.backward()
    optimizer_g.step()


def check(goldens: Path) -> dict[str, float]:
    """Returns relative errors of the k8 generator's golden tensors, evaluation mode."""
    name = "celeba_wild_k8_linear"
    golden = np.load(goldens / f"generator_{name}.npz")
    generator = Generator()
    filled = {}
    for key, value in generator.state_dict().items():
        if f"bn/{key}" in golden:
            x = golden[f"bn/{key}"]
        elif key.endswith("num_batches_tracked"):
            x = np.zeros(value.shape)
        else:
            x = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(value.shape)
            if x.ndim == 1:
                x = 0.1 * x
            elif not key.endswith("embedding.weight"):
                x = x * np.sqrt(2 / (1.04 * np.prod(x.shape[1:])))
        filled[key] = torch.tensor(x).to(value.dtype)
    filled["gen_keypoints_layer.4.weight"] *= torch.tensor(golden["point_head_weight_scale"])
    filled["gen_keypoints_layer.4.bias"] = torch.tensor(golden["point_head_bias"]).float()
    filled["conv.2.weight"] *= torch.tensor(golden["last_conv_weight_scale"])
    generator.load_state_dict(filled)
    inputs = [torch.tensor(golden[f"in_input_noise{i}"]).float() for i in range(3)]
    sideways = torch.tensor([0.0, 1.0])
    inputs.append(torch.tensor(golden["in_bg_trans"]).float()[:, 0] * sideways)
    with torch.no_grad():
        out = generator.eval()(*inputs)
    errors = {}
    for ours, theirs in (("image", "eval_img"), ("masks", "eval_mask")):
        expected = golden[theirs].astype(np.float32)
        got = out[ours][..., ::2, ::2].numpy()
        errors[ours] = float(np.abs(got - expected).max() / np.abs(expected).max())
    return errors


def timed(run, repeats: int) -> float:
    """Returns the median seconds, after one call that is not counted."""
    run()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _typed_path(text: str) -> Path:
    return Path(os.path.expanduser(os.path.expandvars(text)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch_size", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--check", type=_typed_path, help="folder of golden tensors to compare with first"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    result = {"torch": torch.__version__, "batch_size": args.batch_size, "threads": args.threads}
    if args.check:
        result["relative_errors"] = check(args.check)
    torch.manual_seed(0)
    generator, discriminator = Generator(), Discriminator()
    optimizers = [
        torch.optim.Adam(module.parameters(), rate, (0.5, 0.9))
        for module, rate in ((generator, 1e-4), (discriminator, 4e-4))
    ]
    real = torch.rand(args.batch_size, 3, 128, 128) * 2 - 1
    result["iteration_seconds"] = timed(
        lambda: iteration(generator, discriminator, optimizers, real, True), args.repeats
    )
    evaluated, drawn = copy.deepcopy(generator).eval(), draw(args.batch_size)
    with torch.no_grad():
        result["generator_seconds"] = timed(lambda: evaluated(*drawn), args.repeats)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
