"""Every option that shapes a drawing, asked for on each chat, draws one and the same picture."""

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import select

from core.catalog import STARTER
from core.database import generations
from core.options import Mode, Request, of
from tests.journeys.chats import Everywhere, everywhere

PROMPT = "a (red:1.2) crown::3 a blue background::1"
# By name, as a form tells them: whatever draws from a prompt, but for which pictures it begins
# with, and what excludes another.
OPTIONS: dict[str, Any] = {
    "negative_prompt": "frogs", "aspect": "1:1", "steps": 6, "guidance": 4.5, "seed": 77,
    "sampler": "dpmpp_2s_ancestral", "schedule": "karras", "model": "starter", "count": 2,
    "chaos": 40, "subseed": 5, "lora": "blueprint:0.3", "vae": "other", "clip_skip": 1,
    "tile": True, "hires": 1.25, "priority": "high",
}  # fmt: skip
LEFT = {"prompt", "source", "look", "width", "height", "quality", "repeat", "preset",
        "enhance"}  # fmt: skip


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Everywhere]:
    folder = tmp_path_factory.mktemp("options")
    (folder / "vaes").mkdir()
    shutil.copy(
        STARTER / "vae" / "diffusion_pytorch_model.safetensors",
        folder / "vaes" / "other.safetensors",
    )
    with everywhere(
        folder, DRAWQUEUE_MODEL=f"pattern,{STARTER}", DRAWQUEUE_VAES=str(folder / "vaes"),
        DRAWQUEUE_REUSE="false",
    ) as made:  # fmt: skip
        yield made


def line(names: Any) -> str:
    """The prompt with some of the options as flags."""
    flags = [f"--{name}" if OPTIONS[name] is True else f"--{name} {OPTIONS[name]}"
             for name in names]  # fmt: skip
    return " ".join([PROMPT, *flags])


def drawn(chats: Everywhere) -> list[tuple[Request, list[Path]]]:
    """What was asked for, and the files that came of it, in their order."""
    with chats.drawqueue.database() as database, database.read() as connection:
        rows = connection.execute(
            select(generations.c.request, generations.c.results).order_by(generations.c.id)
        ).all()
    media = chats.drawqueue.home / "media"
    return [
        (Request.read(row.request), [media / str(one["key"]) for one in row.results])
        for row in rows
    ]


def test_each_option_is_here() -> None:
    assert {option.name for option in of(Mode.TEXT)} == OPTIONS.keys() | LEFT


def test_one_line_draws_one_picture_on_all_three(chats: Everywhere) -> None:
    rare = [option.name for option in of(Mode.TEXT) if option.rare and option.name in OPTIONS]
    slash = {name: value for name, value in OPTIONS.items() if name not in rare}
    # Discord's are chosen from what it offers; those that it has no room for are flags there too.
    slash["sampler"] = "DPM++ 2S a"
    chats.discord.command("imagine", prompt=line(rare), **slash)
    chats.discord.card("crown", "done", seconds=120)
    chats.telegram.say("/imagine " + line(OPTIONS))
    chats.telegram.card("crown", "chaos 40 · subseed 5", "done in", seconds=120)
    answer = chats.drawqueue.client.post(
        "/api/jobs", json={"prompt": PROMPT, "parameters": OPTIONS}
    )
    assert answer.status_code == 202, answer.text
    chats.drawqueue.until(answer.json()["id"], "done", seconds=120)
    said = chats.drawqueue.client.post("/api/chat", json={"text": line(OPTIONS)}).json()
    chats.drawqueue.until(said["job"]["id"], "done", seconds=120)

    wishes, files = zip(*drawn(chats), strict=True)
    assert len(wishes) == 4 and len(set(wishes)) == 1, "understood alike"
    wish = wishes[0]
    assert (wish.sampler, wish.vae, wish.loras) == (
        "DPM++ 2S a Karras", "other", (("blueprint", 0.3),),
    )  # fmt: skip
    assert (wish.chaos, wish.subseed, wish.clip_skip, wish.tile) == (40, 5, 1, True)
    seen = [[np.asarray(Image.open(path)) for path in paths] for paths in files]
    for others in seen[1:]:
        for one, other in zip(seen[0], others, strict=True):
            assert one.shape == (160, 160, 3) and np.array_equal(one, other), "bit for bit"
    assert not np.array_equal(*seen[0])
    notes = Image.open(io.BytesIO(files[0][1].read_bytes())).info
    told = json.loads(notes["drawqueue"])
    assert (told["seed"], told["subseed"], told["chaos"], told["count"]) == (77, 6, 40, 1)
    for words in (
        "Sampler: DPM++ 2S a Karras", "Variation seed: 6", "Variation seed strength: 0.4",
        "VAE: other", "Clip skip: 2", "Tiling: True", "Hires upscale: 1.25", "<lora:blueprint:0.3>",
    ):  # fmt: skip
        assert words in notes["parameters"]
