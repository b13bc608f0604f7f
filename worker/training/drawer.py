"""The starter model's tokenizer, text encoder and UNet, and how they learn to draw latents."""

import copy
import string
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from rich.progress import track
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch.nn.functional import mse_loss
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from worker.training.autoencoder import SIZE, difference, psnr, show
from worker.training.loop import restored, train
from worker.training.scenes import caption, paint, plan

LENGTH = 48
START, END = "<|startoftext|>", "<|endoftext|>"
# (width, height) in pixels, pictures, variety: one thing in the middle first, everything later.
SHARES = {
    "plain": (SIZE, SIZE, 12_000, 0.0),
    "full": (SIZE, SIZE, 38_000, 1.0),
    "wide": (160, 96, 3_000, 1.0),
    "tall": (96, 160, 3_000, 1.0),
}
WORDINGS = 4
PROMPTS = (
    "a red crown on a blue background",
    "a lighthouse in a storm",
    "a crab on a purple background",
    "a cat and a dog in a meadow",
    "three strawberries on a yellow background",
    "a rocket in space",
    "a castle at sunset",
    "a penguin in the snow",
    "an octopus under water",
    "a cactus in the desert",
    "an owl at night",
    "a sailboat on the left, turquoise background",
    "a big donut on a pink background",
    "a small ladybug on a green background",
    "two balloons on an orange background",
    "a robot on a gray background, pixel art",
    "a teddy bear, pencil sketch",
    "a guitar on a red background, black and white",
    "a blue dragon on a yellow background",
    "a house in the snow",
    "a unicorn in a field of flowers",
    "a pizza next to a hamburger on a brown background",
    "a green car in the desert",
    "a butterfly on a black background",
)


# --- words


def make_tokenizer(home: Path) -> CLIPTokenizer:
    """A byte-pair tokenizer in CLIP's shape, learned from the captions, some 1,200 tokens."""
    kept = home / "tokenizer"
    if not kept.is_dir():
        rng = Random(3)
        corpus = [caption(plan(rng), rng) for _ in range(40_000)]
        learned = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=END))
        learned.normalizer = normalizers.Lowercase()
        learned.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation(),
             pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )  # fmt: skip
        letters = sorted(pre_tokenizers.ByteLevel.alphabet())
        learned.train_from_iterator(
            corpus,
            trainers.BpeTrainer(
                vocab_size=1400,
                min_frequency=3,
                initial_alphabet=letters,
                end_of_word_suffix="</w>",
            ),
        )
        merges = [tuple(pair) for pair in _merges(learned)]
        # CLIP's order: letters, letters that end a word, merges, the two marks.
        words = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(m) for m in merges)]
        vocab = {word: index for index, word in enumerate(dict.fromkeys([*words, START, END]))}
        CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=LENGTH).save_pretrained(kept)
    return CLIPTokenizer.from_pretrained(kept)


def _merges(learned: Tokenizer) -> list[list[str]]:
    import json

    merges = json.loads(learned.to_str())["model"]["merges"]
    return [m.split(" ") if isinstance(m, str) else m for m in merges]


def tokens(tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    """Token ids, padded as the pipelines do: (len(texts), LENGTH)."""
    return tokenizer(
        texts, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt"
    ).input_ids


def _with_unknown_words(text: str, rng: Random) -> str:
    """Now and then a word the model can't know, so that such words do no harm."""
    if rng.random() < 0.12:
        word = "".join(rng.choices(string.ascii_lowercase, k=rng.randint(3, 9)))
        parts = text.split(" ")
        parts.insert(rng.choice((0, len(parts))), word)
        return " ".join(parts)
    return text


# --- latents


@dataclass(frozen=True)
class Share:
    """Pictures of one shape as latents (N, 4, h, w) and WORDINGS captions each (N, W, LENGTH)."""

    latents: torch.Tensor
    captions: torch.Tensor

    def draw(self, number: int, draw: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Some latents, and token ids of one wording each."""
        rows = torch.randint(len(self.latents), (number,), generator=draw)
        wording = torch.randint(WORDINGS, (number,), generator=draw)
        return self.latents[rows].float(), self.captions[rows, wording].long()


class _Painted(torch.utils.data.Dataset):
    def __init__(self, assets: Path, name: str) -> None:
        self.assets, self.name = assets, name
        self.width, self.height, self.number, self.variety = SHARES[name]

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> tuple[torch.Tensor, list[str]]:
        rng = Random(f"{self.name} {index}")
        asked = plan(rng, self.variety)
        pixels = torch.from_numpy(paint(asked, rng, self.assets, self.width, self.height))
        texts = [_with_unknown_words(caption(asked, rng), rng) for _ in range(WORDINGS)]
        return pixels.permute(2, 0, 1), texts


def make_latents(
    assets: Path, home: Path, vae: AutoencoderKL, tokenizer: CLIPTokenizer
) -> dict[str, Share]:
    """Paint, caption and encode every share, once."""
    shares = {}
    for name in SHARES:
        kept = home / f"latents-{name}.pt"
        if not kept.exists():
            painted = _Painted(assets, name)
            loader = torch.utils.data.DataLoader(
                painted, batch_size=50, num_workers=2, collate_fn=_collate
            )
            latents, captions = [], []
            for pixels, texts in track(loader, f"latents, {name}"):
                with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
                    spread = vae.encode(pixels.float() / 127.5 - 1).latent_dist
                latents.append(spread.mode().half())
                flat = [text for wordings in texts for text in wordings]
                captions.append(tokens(tokenizer, flat).short().view(-1, WORDINGS, LENGTH))
            torch.save((torch.cat(latents), torch.cat(captions)), kept)
        shares[name] = Share(*torch.load(kept, weights_only=True))
    return shares


def _collate(rows: list[tuple[torch.Tensor, list[str]]]) -> tuple[torch.Tensor, list[list[str]]]:
    return torch.stack([row[0] for row in rows]), [row[1] for row in rows]


def normalise(vae: AutoencoderKL, shares: dict[str, Share]) -> dict[str, Share]:
    """Fold each channel's mean and spread into the VAE; returns the latents with 0 and 1."""
    latents = shares["full"].latents.float()
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    with torch.no_grad():
        vae.quant_conv.weight[:4].div_(std[:, None, None, None])
        vae.quant_conv.bias[:4].sub_(mean).div_(std)
        vae.quant_conv.bias[4:].sub_(2 * std.log())
        into = vae.post_quant_conv
        into.bias.add_(into.weight[:, :, 0, 0] @ mean)
        into.weight.mul_(std[None, :, None, None])
    mean, std = mean[None, :, None, None], std[None, :, None, None]
    return {
        name: Share(((share.latents.float() - mean) / std).half(), share.captions)
        for name, share in shares.items()
    }


# --- drawing


def make_scheduler() -> DPMSolverMultistepScheduler:
    """DPM++ 2M on the schedule the model learns: v-prediction, near-zero terminal SNR."""
    scheduler = DPMSolverMultistepScheduler(
        beta_start=0.00085,
        beta_end=0.025,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        steps_offset=1,
    )
    # Other samplers take their settings from this one's file: DDIM and DDPM clip unless told not
    # to, and PNDM needs its warm-up steps left out.
    scheduler.register_to_config(clip_sample=False, set_alpha_to_one=False, skip_prk_steps=True)
    return scheduler


class Drawer(torch.nn.Module):
    """UNet and text encoder, and the head that keeps the words tied to what they look like."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        wide = 160
        self.text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=wide,
                intermediate_size=480,
                num_hidden_layers=3,
                num_attention_heads=4,
                max_position_embeddings=LENGTH,
                projection_dim=wide,
                hidden_act="gelu",
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
        self.unet = UNet2DConditionModel(
            sample_size=SIZE // 8,
            block_out_channels=(64, 128, 208),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            cross_attention_dim=wide,
            attention_head_dim=4,
            norm_num_groups=16,
        )
        self.head = torch.nn.Sequential(
            torch.nn.Linear(wide, 768), torch.nn.GELU(), torch.nn.Linear(768, 4 * 16 * 16)
        )

    def guess(self, words: torch.Tensor) -> torch.Tensor:
        """The mean latent of what the words describe: (N, 4, 16, 16)."""
        return self.head(words.mean(1)).view(-1, 4, 16, 16)


class Batches:
    """What is seen at each step: plain pictures first, then more and more of everything."""

    def __init__(self, shares: dict[str, Share], size: int, steps: int) -> None:
        self.shares, self.size, self.steps = shares, size, steps

    def at(self, step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Generator]:
        """Latents, token ids and the generator to draw noise with."""
        draw = torch.Generator().manual_seed(step)
        share = step / self.steps
        plain = min(0.75, max(0.15, 0.75 - (share - 0.15) * 1.6))
        if share > 0.6 and step % 8 in (3, 6):
            chosen = self.shares["wide" if step % 8 == 3 else "tall"]
            return *chosen.draw(self.size, draw), draw
        first = round(self.size * plain)
        parts = [
            self.shares["plain"].draw(first, draw),
            self.shares["full"].draw(self.size - first, draw),
        ]
        return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts]), draw


# Noise levels in proportion to how often each is practised: nouns are decided in the middle,
# and the finest steps are learned anyway.
_DENSITY = np.where(np.arange(1000) < 150, 0.6, np.where(np.arange(1000) < 350, 1.0, 1.6))
_REACHED = np.cumsum(_DENSITY) / _DENSITY.sum()


def moments(number: int, draw: torch.Generator) -> torch.Tensor:
    """Time steps spread evenly over the practised distribution: (number,), 0–999."""
    even = (torch.arange(number) + torch.rand(number, generator=draw)) / number
    even = even[torch.randperm(number, generator=draw)]
    return torch.from_numpy(np.searchsorted(_REACHED, even.numpy())).clamp(max=999)


def train_drawer(
    home: Path, shares: dict[str, Share], tokenizer: CLIPTokenizer, vae: AutoencoderKL,
    steps: int, warm_up_steps: int = 500, size: int = 48,
) -> Drawer:  # fmt: skip
    """Train text encoder and UNet; returns the averaged weights."""
    torch.manual_seed(0)
    drawer = Drawer(tokenizer)

    def words_alone(step: int) -> torch.Tensor:
        draw = torch.Generator().manual_seed(step)
        latents, ids = shares["full" if step % 3 else "plain"].draw(192, draw)
        return mse_loss(drawer.guess(drawer.text(ids).last_hidden_state), latents)

    train("words", home, drawer, words_alone, warm_up_steps, rate=1e-3)

    average = copy.deepcopy(drawer).requires_grad_(False)
    scheduler = make_scheduler()
    kept = scheduler.alphas_cumprod
    empty = tokens(tokenizer, [""])
    batches = Batches(shares, size, steps)

    def loss_at(step: int) -> torch.Tensor:
        latents, ids, draw = batches.at(step)
        dropped = torch.rand(len(ids), generator=draw) < 0.1
        ids[dropped] = empty
        noise = torch.randn(latents.shape, generator=draw)
        when = moments(len(latents), draw)
        if step > steps * 0.93:
            # At the end, with little noise, other pictures' captions: what is seen already is to
            # weigh more than what is said, as image to image at low strength expects.
            astray = (when < 320) & (torch.rand(len(ids), generator=draw) < 0.5)
            ids[astray] = ids.roll(1, 0)[astray]
            dropped |= astray  # They tell nothing of these pictures.
        signal = kept[when].sqrt()[:, None, None, None]
        hiss = (1 - kept[when]).sqrt()[:, None, None, None]
        wanted = signal * noise - hiss * latents
        with torch.autocast("cpu", torch.bfloat16):
            words = drawer.text(ids).last_hidden_state
            seen = drawer.unet(signal * latents + hiss * noise, when, words).sample
            loss = mse_loss(seen.float(), wanted)
            if latents.shape[-1] == latents.shape[-2]:
                guessed = drawer.guess(words).float()
                loss = loss + 0.1 * mse_loss(guessed[~dropped], latents[~dropped])
        return loss

    def look(step: int) -> None:
        grid(pipeline(vae, average, tokenizer), home / f"grid-{step}.png", steps=12)

    train("drawer", home, drawer, loss_at, steps, rate=1.2e-3, ema=average, look=look)
    return average


def train_decoder(
    assets: Path, home: Path, vae: AutoencoderKL, drawer: Drawer, share: Share, steps: int
) -> None:
    """Train the decoder alone, on latents as the UNet leaves them.

    Half of each batch has a little noise; the other half is what the UNet guesses from a noisy
    latent in one step, so that the decoder learns to draw its soft shapes crisply.
    """
    number = 6_000
    painted = _Painted(assets, "full")
    if restored("decoder", home, vae, steps):
        return
    for part in (vae.decoder, vae.post_quant_conv):
        part.requires_grad_(True)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.Subset(painted, range(number)), batch_size=50, num_workers=2,
        collate_fn=_collate,
    )  # fmt: skip
    pool = torch.cat([pixels for pixels, _ in track(loader, "pictures for the decoder")])
    kept = make_scheduler().alphas_cumprod

    def loss_at(step: int) -> torch.Tensor:
        draw = torch.Generator().manual_seed(step)
        rows = torch.randint(number, (8,), generator=draw)
        clean = share.latents[rows].float()
        noise = torch.randn(clean.shape, generator=draw)
        when = torch.randint(40, 320, (4,), generator=draw)
        signal = kept[when].sqrt()[:, None, None, None]
        hiss = (1 - kept[when]).sqrt()[:, None, None, None]
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            noisy = signal * clean[:4] + hiss * noise[:4]
            words = drawer.text(share.captions[rows[:4], 0].long()).last_hidden_state
            guess = signal * noisy - hiss * drawer.unet(noisy, when, words).sample.float()
        latents = torch.cat([guess, clean[4:] + 0.06 * noise[4:]])
        with torch.autocast("cpu", torch.bfloat16):
            seen = vae.decode(latents).sample
        return difference(seen.float(), pool[rows].float() / 127.5 - 1)

    def look(step: int) -> None:
        print(f"decoder after {step} steps: {psnr(vae, pool[-32:]):.2f} dB")
        show(vae, pool[-12:], home / f"decoder-{step}.png")

    train("decoder", home, vae, loss_at, steps, rate=8e-4, look=look, flat=0.3)
    vae.requires_grad_(False)


def pipeline(
    vae: AutoencoderKL, drawer: Drawer, tokenizer: CLIPTokenizer
) -> StableDiffusionPipeline:
    """The parts as the pipeline everybody loads."""
    made = StableDiffusionPipeline(
        vae=vae,
        text_encoder=drawer.text,
        tokenizer=tokenizer,
        unet=drawer.unet,
        scheduler=make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    made.set_progress_bar_config(disable=True)
    return made


def grid(pipe: StableDiffusionPipeline, path: Path, steps: int = 20) -> None:
    """Write the 24 fixed prompts' pictures, six a row."""
    pictures = [
        pipe(
            prompt, num_inference_steps=steps, guidance_scale=3.0, width=SIZE, height=SIZE,
            generator=torch.Generator().manual_seed(7),
        ).images[0]
        for prompt in PROMPTS
    ]  # fmt: skip
    sheet = Image.new("RGB", (6 * SIZE, len(PROMPTS) // 6 * SIZE))
    for index, picture in enumerate(pictures):
        sheet.paste(picture, (index % 6 * SIZE, index // 6 * SIZE))
    sheet.save(path)
