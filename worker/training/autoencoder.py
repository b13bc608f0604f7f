"""The starter model's VAE: 128 px pictures to 16x16x4 latents and back."""

from pathlib import Path
from random import Random

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch.nn.functional import avg_pool2d

from worker.training.loop import restored, train
from worker.training.scenes import paint, plan

SIZE = 128
POOL = 6000


def fresh() -> AutoencoderKL:
    """A VAE that begins near the identity, which saves it most of the first half of training."""
    vae = AutoencoderKL(
        block_out_channels=(16, 32, 64, 160),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=SIZE,
        scaling_factor=1.0,
    )
    with torch.no_grad():
        for name, part in vae.named_modules():
            if not isinstance(part, torch.nn.Conv2d):
                continue
            same = torch.eye(part.out_channels, part.in_channels)
            if name.endswith("conv_shortcut"):
                part.weight.mul_(0.3)[:, :, 0, 0].add_(same)
                part.bias.zero_()
            elif name.endswith("downsamplers.0.conv"):
                part.weight.mul_(0.3)[:, :, :2, :2].add_(same[..., None, None] / 4)
                part.bias.zero_()
            elif name.endswith("upsamplers.0.conv"):
                part.weight.mul_(0.3)[:, :, 1, 1].add_(same)
                part.bias.zero_()
            elif name.endswith(".conv2"):
                part.weight.mul_(0.2)
        vae.quant_conv.weight[4:].mul_(0.1)
        vae.quant_conv.bias[4:].fill_(-6.0)
    return vae


def pictures(assets: Path, number: int, seed: int) -> torch.Tensor:
    """Painted pictures of every kind: uint8, (number, 3, 128, 128)."""
    rng = Random(seed)
    painted = np.empty((number, SIZE, SIZE, 3), np.uint8)
    for index in range(number):
        painted[index] = paint(plan(rng), rng, assets, SIZE, SIZE)
    return torch.from_numpy(painted).permute(0, 3, 1, 2).contiguous()


def difference(seen: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """L1 + 2 MSE + 0.4 multi-scale gradient differences: edges count as much as areas."""
    loss = (seen - wanted).abs().mean() + 2 * ((seen - wanted) ** 2).mean()
    for scale in (1, 2, 4):
        a, b = (avg_pool2d(x, scale) if scale > 1 else x for x in (seen, wanted))
        loss = loss + 0.4 * ((a - b).diff(dim=-1).abs().mean() + (a - b).diff(dim=-2).abs().mean())
    return loss


def psnr(vae: AutoencoderKL, painted: torch.Tensor) -> float:
    """Decibels of the reconstruction of uint8 pictures."""
    with torch.no_grad():
        wanted = painted.float() / 127.5 - 1
        seen = vae.decode(vae.encode(wanted).latent_dist.mode()).sample.clamp(-1, 1)
    return float(-10 * torch.log10((((seen - wanted) / 2) ** 2).mean()))


def train_vae(assets: Path, home: Path, steps: int) -> AutoencoderKL:
    """Train encoder and decoder together; crops of 64 px first, whole pictures at the end."""
    torch.manual_seed(0)
    vae = fresh()
    if restored("vae", home, vae, steps):
        return vae
    pool = pictures(assets, POOL, seed=1)
    unseen = pictures(assets, 32, seed=2)

    def loss_at(step: int) -> torch.Tensor:
        side = 64 if step < steps * 0.7 else SIZE
        draw = torch.Generator().manual_seed(step)
        rows = torch.randint(POOL, (32 if side == 64 else 8,), generator=draw)
        batch = pool[rows]
        if side < SIZE:
            y, x = (int(torch.randint(0, SIZE - side + 1, (), generator=draw)) for _ in range(2))
            batch = batch[..., y : y + side, x : x + side]
        wanted = batch.float() / 127.5 - 1
        with torch.autocast("cpu", torch.bfloat16):
            seen, spread = _round_trip(vae, wanted)
        return difference(seen.float(), wanted) + 5e-5 * spread.kl().mean() / (side / 8) ** 2

    def look(step: int) -> None:
        print(f"VAE after {step} steps: {psnr(vae, unseen):.2f} dB")
        show(vae, unseen[:12], home / f"vae-{step}.png")

    train("vae", home, vae, loss_at, steps, rate=1.5e-3, look=look)
    return vae


def _round_trip(vae: AutoencoderKL, wanted: torch.Tensor) -> tuple[torch.Tensor, object]:
    spread = vae.encode(wanted).latent_dist
    return vae.decode(spread.sample()).sample, spread


def show(vae: AutoencoderKL, painted: torch.Tensor, path: Path) -> None:
    """Write pictures above their reconstructions."""
    with torch.no_grad():
        seen = vae.decode(vae.encode(painted.float() / 127.5 - 1).latent_dist.mode()).sample
    seen = ((seen.clamp(-1, 1) + 1) * 127.5).round().byte()
    rows = [torch.cat(list(x), dim=-1) for x in (painted, seen)]
    Image.fromarray(torch.cat(rows, dim=-2).permute(1, 2, 0).numpy()).save(path)
