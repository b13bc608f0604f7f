"""Make the starter model: `make starter-model`, or `python -m worker.training.starter`.

Sprites, VAE, latents, UNet and text encoder, then the decoder once more; each stage resumes where
it was cut off, and its sample grids lie beside its checkpoints. Some two and a half hours of two
cores; nothing is fetched but the sprites.
"""

import argparse
from pathlib import Path

import torch
from PIL import Image

from worker.training import sprites
from worker.training.autoencoder import train_vae
from worker.training.drawer import (
    grid,
    make_latents,
    make_tokenizer,
    normalise,
    pipeline,
    train_decoder,
    train_drawer,
)

HOME = Path.home() / ".cache" / "drawqueue" / "starter"
MODEL = Path(__file__).parent.parent / "starter_model"


def main() -> None:
    """Run every stage that is not done yet and write the model's folder."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--home", type=Path, default=HOME, help="checkpoints, sprites and grids")
    asked.add_argument("--out", type=Path, default=MODEL, help="the model's folder")
    asked.add_argument("--threads", type=int, default=2)
    asked.add_argument("--vae-steps", type=int, default=2000)
    asked.add_argument("--drawer-steps", type=int, default=7_700)
    asked.add_argument("--decoder-steps", type=int, default=1200)
    given = asked.parse_args()
    torch.set_num_threads(given.threads)
    assets = sprites.fetch(given.home)

    tokenizer = make_tokenizer(given.home)
    vae = train_vae(assets, given.home, given.vae_steps).eval().requires_grad_(False)
    raw = make_latents(assets, given.home, vae, tokenizer)
    shares = normalise(vae, raw)
    drawer = train_drawer(given.home, shares, tokenizer, vae, given.drawer_steps)
    train_decoder(assets, given.home, vae, drawer, shares["full"], given.decoder_steps)

    made = pipeline(vae, drawer, tokenizer)
    grid(made, given.home / "grid.png")
    # Half precision on disk. The text encoder stays whole: transformers loads what lies there,
    # diffusers loads whole numbers, and a mix of the two does not run.
    made.unet.half()
    made.vae.half()
    made.save_pretrained(given.out)
    Image.open(given.home / "grid.png").save(given.out / "samples.webp", quality=88)
    print(f"The model lies in {given.out}, its 24 pictures in samples.webp there.")


if __name__ == "__main__":
    main()
