"""Make the shipped LoRA, "blueprint": `python -m worker.training.lora`, after the starter model.

White outlines on blue, learned by rank 8 on the UNet's attention; say "blueprint" in the prompt.
"""

import argparse
from pathlib import Path
from random import Random

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch.nn.functional import mse_loss

from worker.training import sprites
from worker.training.autoencoder import SIZE
from worker.training.drawer import moments, tokens
from worker.training.loop import train
from worker.training.scenes import caption, outline, paint, plan
from worker.training.starter import HOME, MODEL

PAPER = np.array((24, 74, 168), np.float32) / 255
PICTURES = 2_000


def blueprint(pixels: np.ndarray) -> np.ndarray:
    """A uint8 picture as white lines on blue."""
    line = outline(pixels.astype(np.float32) / 255)[..., None]
    return ((PAPER * (1 - line) + line) * 255).astype(np.uint8)


def main() -> None:
    """Train and write the adapter."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--model", type=Path, default=MODEL)
    asked.add_argument("--home", type=Path, default=HOME)
    asked.add_argument("--threads", type=int, default=2)
    asked.add_argument("--steps", type=int, default=600)
    given = asked.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    assets = sprites.fetch(given.home)
    pipe = StableDiffusionPipeline.from_pretrained(given.model)
    pipe.unet.requires_grad_(False)
    pipe.unet.add_adapter(
        LoraConfig(
            r=8, lora_alpha=8, init_lora_weights="gaussian",
            target_modules=["to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out"],
        )
    )  # fmt: skip

    rng = Random(21)
    drawn, texts = [], []
    for _ in range(PICTURES):
        asked_for = plan(rng, 0.4)
        drawn.append(blueprint(paint(asked_for, rng, assets, SIZE, SIZE)))
        texts.append(f"{caption(asked_for, rng)}, blueprint")
    with torch.inference_mode():
        pixels = torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2)
        latents = torch.cat(
            [pipe.vae.encode(some.float() / 127.5 - 1).latent_dist.mode()
             for some in pixels.split(50)]
        )  # fmt: skip
        ids = tokens(pipe.tokenizer, texts)
        words = torch.cat([pipe.text_encoder(some).last_hidden_state for some in ids.split(100)])
    latents, words = latents.clone(), words.clone()
    kept = pipe.scheduler.alphas_cumprod

    def loss_at(step: int) -> torch.Tensor:
        draw = torch.Generator().manual_seed(step)
        rows = torch.randint(PICTURES, (24,), generator=draw)
        clean = latents[rows]
        noise = torch.randn(clean.shape, generator=draw)
        when = moments(len(rows), draw)
        signal = kept[when].sqrt()[:, None, None, None]
        hiss = (1 - kept[when]).sqrt()[:, None, None, None]
        with torch.autocast("cpu", torch.bfloat16):
            seen = pipe.unet(signal * clean + hiss * noise, when, words[rows]).sample
        return mse_loss(seen.float(), signal * noise - hiss * clean)

    train("lora", given.home, pipe.unet, loss_at, given.steps, rate=2e-3)
    pipe.unet.half()
    StableDiffusionPipeline.save_lora_weights(
        given.model / "loras",
        get_peft_model_state_dict(pipe.unet),
        weight_name="blueprint.safetensors",
    )


if __name__ == "__main__":
    main()
