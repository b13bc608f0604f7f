"""How well the starter model follows a prompt: `python -m worker.training.evaluate`.

Background: the nearest of the twelve colours to the median of the picture's border. Noun: a small
classifier that was trained on painted pictures alone and never saw the generator's; its own
accuracy on painted pictures it did not train on is printed beside.
"""

import argparse
import json
import time
from pathlib import Path
from random import Random

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from torch.nn.functional import cross_entropy, interpolate

from core.catalog import models
from worker.training import sprites
from worker.training.autoencoder import SIZE
from worker.training.loop import train
from worker.training.scenes import COLOURS, Plan, held_out, paint
from worker.training.sprites import NOUNS
from worker.training.starter import HOME, MODEL

CODES = list(NOUNS)


class Classifier(torch.nn.Module):
    """Which of the nouns a picture shows: (N, 3, 128, 128) in -1…1 to (N, nouns)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[torch.nn.Module] = []
        for narrow, wide in ((3, 24), (24, 48), (48, 96), (96, 128)):
            layers += [
                torch.nn.Conv2d(narrow, wide, 3, stride=2, padding=1),
                torch.nn.BatchNorm2d(wide),
                torch.nn.ReLU(),
            ]
        self.body = torch.nn.Sequential(*layers)
        self.out = torch.nn.Linear(128 * 4, len(CODES))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Logits."""
        seen = self.body(interpolate(pictures, 64, mode="area"))
        return self.out(torch.nn.functional.adaptive_max_pool2d(seen, 2).flatten(1))


def _painted(assets: Path, number: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = Random(seed)
    pixels, nouns = [], []
    for _ in range(number):
        code = rng.choice(CODES)
        asked = Plan(((code, ""),), rng.choice(list(COLOURS)))
        pixels.append(paint(asked, rng, assets, SIZE, SIZE))
        nouns.append(CODES.index(code))
    stacked = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
    return stacked.float() / 127.5 - 1, torch.tensor(nouns)


def classifier(assets: Path, home: Path) -> Classifier:
    """The judge of nouns, trained once on painted pictures with noise, blur and shifts."""
    torch.manual_seed(5)
    judge = Classifier()
    pictures, nouns = _painted(assets, 8_000, seed=11)

    def loss_at(step: int) -> torch.Tensor:
        draw = torch.Generator().manual_seed(step)
        rows = torch.randint(len(pictures), (64,), generator=draw)
        batch = pictures[rows]
        small = int(torch.randint(28, 129, (), generator=draw))
        batch = interpolate(interpolate(batch, small, mode="area"), SIZE, mode="bilinear")
        shift = [int(torch.randint(-6, 7, (), generator=draw)) for _ in range(2)]
        batch = torch.roll(batch, shift, (2, 3))
        batch = batch + 0.15 * torch.randn(batch.shape, generator=draw)
        return cross_entropy(judge(batch), nouns[rows])

    train("judge", home, judge, loss_at, 1500, rate=2e-3)
    judge.eval()
    return judge


def background(picture: np.ndarray) -> str:
    """The colour name nearest to the median of a uint8 picture's border."""
    edge = 6
    border = np.concatenate(
        [picture[:edge].reshape(-1, 3), picture[-edge:].reshape(-1, 3),
         picture[:, :edge].reshape(-1, 3), picture[:, -edge:].reshape(-1, 3)]
    )  # fmt: skip
    middle = np.median(border, axis=0)
    return min(COLOURS, key=lambda name: float(((middle - COLOURS[name]) ** 2).sum()))


def prompts(number: int, unseen: bool, seed: int = 0) -> list[tuple[str, str, str]]:
    """(prompt, sprite code, colour) of pairs that training never saw, or of pairs that it did."""
    pairs = [(c, b) for c in CODES for b in COLOURS if held_out(c, b) == unseen]
    chosen = Random(seed).sample(pairs, number)
    return [(f"a {NOUNS[c][0]} on a {b} background", c, b) for c, b in chosen]


def measure(
    pipe: StableDiffusionPipeline,
    judge: Classifier,
    unseen: bool,
    number: int,
    steps: int,
    guidance: float,
) -> dict[str, float]:
    """Shares right: background, noun (first guess), noun (five guesses); seconds a picture."""
    right = np.zeros(3)
    began = time.monotonic()
    for index, (prompt, code, colour) in enumerate(prompts(number, unseen)):
        picture = pipe(
            prompt, num_inference_steps=steps, generator=torch.Generator().manual_seed(index),
            guidance_scale=guidance,
        ).images[0]  # fmt: skip
        pixels = np.asarray(picture)
        with torch.inference_mode():
            seen = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
            best = judge(seen)[0].topk(5).indices.tolist()
        wanted = CODES.index(code)
        right += (background(pixels) == colour, best[0] == wanted, wanted in best)
    seconds = (time.monotonic() - began) / number
    names = ("background", "noun", "noun_in_five")
    return {n: round(float(v), 3) for n, v in zip(names, right / number, strict=True)} | {
        "seconds": round(seconds, 3)
    }


def main() -> None:
    """Print the figures as JSON."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--model", type=Path, default=MODEL)
    asked.add_argument("--home", type=Path, default=HOME)
    asked.add_argument("--number", type=int, default=100)
    asked.add_argument("--threads", type=int, default=2)
    asked.add_argument("--guidance", type=float, default=models()["starter"].guidance)
    given = asked.parse_args()
    torch.set_num_threads(given.threads)
    assets = sprites.fetch(given.home)
    judge = classifier(assets, given.home)
    pictures, nouns = _painted(assets, 500, seed=12)
    with torch.inference_mode():
        own = float((judge(pictures).argmax(1) == nouns).float().mean())
    pipe = StableDiffusionPipeline.from_pretrained(given.model)
    pipe.set_progress_bar_config(disable=True)
    parts = pipe, judge
    figures = {
        "judge on painted pictures": round(own, 3),
        "pairs never seen, 20 steps": measure(*parts, True, given.number, 20, given.guidance),
        "pairs seen, 20 steps": measure(*parts, False, given.number, 20, given.guidance),
        "pairs never seen, 4 steps": measure(*parts, True, given.number, 4, given.guidance),
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
