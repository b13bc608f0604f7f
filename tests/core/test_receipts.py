"""The recipe in a picture's file, and how a picture looks."""

import io
import json
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from bots.pictures import fitted, grid
from core import catalog, receipts
from core.asking import Reply
from core.errors import UserError
from core.flags import split_flags
from core.house import House
from core.media import Source
from core.options import Mode, Request, validate
from core.people import Asker
from core.receipts import Known, apart, copied, found, look, nearest, notes, read, sealed
from core.rows import Generation
from tests.core.test_pictures import ANN, BOB, say

REQUEST = Request(
    "a fox, (ünï:1.2) 🦊", "dogs", 128, 96, 20, 3.5, 7, "Euler a", "starter", 2,
    loras=(("blueprint", 0.8),), clip_skip=1, tile=True,
)  # fmt: skip


def noise(seed: int = 1, width: int = 128, height: int = 96) -> Image.Image:
    """A picture of its own: blurred coloured fields."""
    import random

    draw = random.Random(seed)
    small = Image.new("RGB", (6, 6))
    small.putdata([tuple(draw.randrange(256) for _ in range(3)) for _ in range(36)])
    return small.resize((width, height), Image.Resampling.BICUBIC)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def as_asked(receipt: receipts.Receipt | None) -> Any:
    """The options that typing its line asks for."""
    assert receipt
    given, faults = split_flags(receipt.line().removeprefix("/imagine "))
    assert not faults
    return validate({name: value for name, value in given.items() if name != "model"})


def test_the_file_says_how_to_draw_it_again() -> None:
    data = sealed(noise(), 12, REQUEST, 8).png
    receipt = read(found(opened(data)))
    assert receipt and receipt.generation == 12 and not receipt.begun
    again = as_asked(receipt)
    assert (again.prompt, again.negative_prompt, again.seed) == (REQUEST.prompt, "dogs", 8)
    assert (again.width, again.height, again.steps, again.guidance) == (128, 96, 20, 3.5)
    assert (again.sampler, again.lora, again.clip_skip) == ("Euler a", "blueprint:0.8", 1)
    assert again.tile and again.count == 1


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_what_is_saved_anew_keeps_it(kind: str) -> None:
    kept = copied(opened(sealed(noise(), 12, REQUEST, 8).png).info)
    assert kept
    out = io.BytesIO()
    noise().save(out, kind, exif=kept.exif())
    image = opened(out.getvalue())
    assert read(found(image)) == read(kept.ours)
    # As A1111 and its like read it.
    comment = image.getexif().get_ifd(0x8769)[0x9286]
    assert comment.removeprefix(b"UNICODE\0").decode("utf-16-be") == kept.theirs


def test_a_picture_too_large_for_a_chat_keeps_its_recipe() -> None:
    data = sealed(Image.effect_noise((512, 512), 90).convert("RGB"), 12, REQUEST, 8).png
    for limit in (len(data) // 2, len(data) // 8, len(data) // 40):
        name, small = fitted(data, limit)
        assert name.endswith("webp") and len(small) <= limit
        assert read(found(opened(small))) == read(found(opened(data)))


def test_a_picture_without_a_recipe_is_made_smaller_too() -> None:
    out = io.BytesIO()
    Image.effect_noise((256, 256), 90).save(out, "PNG")
    name, small = fitted(out.getvalue(), out.tell() // 4)
    assert name.endswith("webp") and found(opened(small)) == ""


def test_a_grid_carries_the_recipe_of_them_all() -> None:
    cells = [sealed(noise(at), 12, REQUEST, 7 + at).png for at in range(4)]
    receipt = read(found(opened(grid(cells))))
    assert receipt and (receipt.generation, receipt.given["count"]) == (12, 4)
    assert receipt.given["seed"] == 7


def test_others_recipes_are_read() -> None:
    text = (
        "a castle, <lora:ink:0.6> at night\nand day\nNegative prompt: people,\ncars\n"
        "Steps: 25, Sampler: DPM++ 2M Karras, CFG scale: 7.5, Seed: 42, Size: 512x768, "
        'Model hash: abc, Model: "a, b", Clip skip: 2, Version: v1.9'
    )
    again = as_asked(read(text))
    assert again.prompt.split() == ["a", "castle,", "at", "night", "and", "day"]
    assert (again.steps, again.guidance, again.seed, again.clip_skip) == (25, 7.5, 42, 1)
    assert (again.width, again.height, again.sampler) == (512, 768, "DPM++ 2M Karras")
    assert again.lora == "ink:0.6" and "people" in again.negative_prompt


def test_both_recipes_in_a_file_say_the_same() -> None:
    mine, theirs = read(notes(1, REQUEST, 8).ours), read(receipts.parameters(REQUEST.alone(8)))
    assert mine and theirs
    for name in ("prompt", "negative_prompt", "width", "height", "sampler", "lora", "clip_skip"):
        assert mine.given[name] == theirs.given[name], name


def test_an_upscaled_picture_asks_for_the_one_that_was_made_larger(house: House) -> None:
    large = catalog.upscaled(REQUEST.alone(8), Source("k", 128, 96), 4)
    assert (large.width, large.height) == (512, 384)
    told = notes(1, large, 8)
    for text in (told.ours, told.theirs):
        again = as_asked(read(text))
        assert (again.width, again.height, again.seed) == (128, 96, 8), text
    assert "Postprocess upscale by: 4, Postprocess upscaler: Lanczos" in told.theirs
    # As the whole bot says it, of a picture that nobody here has.
    data = sealed(noise(4), 999, replace(large, model="pattern"), 8).png
    line = given_back(house, data).text.splitlines()[-1]
    assert "--width 128 --height 96" in line
    # Its own size alone suits the model, which draws 1024 pixels a side at most.
    wide = replace(large, width=2048, height=2048, factor=4, clip_skip=0, loras=())
    line = read(notes(1, replace(wide, model="pattern"), 8).ours)
    assert line and say(house, line.line(), event="wide").fresh


def test_what_was_drawn_in_a_style_began_with_a_picture() -> None:
    for mode, sources, style, begun in (
        (Mode.TEXT, (), 0.0, False), (Mode.REMIX, ("k",), 0.0, True),
        (Mode.STYLE, ("k",), 0.6, True), (Mode.STYLE, ("k", "l"), 0.6, True),
        (Mode.STYLE, ("k",), 0.0, True),
    ):  # fmt: skip
        told = notes(1, replace(REQUEST, mode=mode, sources=sources, style_strength=style), 8)
        for text in (told.ours, told.theirs):
            assert (receipt := read(text)) and receipt.begun == begun, text


@pytest.mark.parametrize(
    "text",
    [
        "", "hello", "{}", "[]", "null", '{"prompt": 7}', "{" * 5000, "[" * 100_000,
        '{"prompt": "x", "id": "1; DROP"}', '{"prompt": "x", "loras": [[1], 2, {"a": 1}]}',
        '{"prompt": "x", "steps": {"a": 1}, "seed": null, "mode": []}',
        "Steps: 99999999999999999999, Seed: -1", "Steps: 1,", "\nSteps: 1, : , ,: :",
        "x\nNegative prompt:\nSteps: 2, Clip skip: many, Size: 0x0, Seed: ",
    ],
)  # fmt: skip
def test_odd_recipes_break_nothing(text: str) -> None:
    receipt = read(text)
    if receipt:
        assert receipt.line().startswith("/imagine")
        assert receipt.generation is None or receipt.generation > 0


def test_a_copy_looks_like_its_picture_and_another_does_not() -> None:
    for seed in range(5):
        image = noise(seed)
        for quality, scale in ((40, 1.0), (80, 0.5), (80, 2.0)):
            out = io.BytesIO()
            size = int(image.width * scale), int(image.height * scale)
            image.resize(size).save(out, "JPEG", quality=quality)
            assert apart(look(image), look(opened(out.getvalue()))) < receipts.ALIKE
        assert apart(look(image), look(noise(seed + 10))) > 3 * receipts.ALIKE
    known = [Known(seed, look(noise(seed)), 128, 96) for seed in range(5)]
    assert nearest(noise(3), known) == 3
    assert nearest(noise(77), known) is None
    assert nearest(noise(3).resize((96, 96)), known) is None, "of another shape"


@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_copy_of_a_grid_looks_like_its_first(count: int) -> None:
    sheet = opened(grid([sealed(noise(at), 12, REQUEST, at).png for at in range(count)]))
    known = [Known(at, look(noise(at)), 128, 96) for at in range(9)]
    for scale in (0.6, 1, 2):
        copy = sheet.resize((int(sheet.width * scale), int(sheet.height * scale)))
        assert nearest(copy, known) == 0


def finished(house: House, seed: int, who: Asker = ANN, prompt: str = "a fox") -> Generation:
    """A generation whose picture is sealed as a worker does it."""
    made = house.generations.submit(
        validate({"prompt": prompt, "seed": seed}), who, f"finished {seed} {prompt}", {"chat": "w"}
    )
    claimed = house.generations.claim(made.id)
    assert claimed
    picture = sealed(noise(seed), made.id, made.request, seed)
    key = house.media.save(made.id, "1.png", picture.png)
    told = {"key": key, "seed": seed, "width": 128, "height": 96, "look": picture.look}
    done = house.generations.finish(claimed, [told], 1.0)
    assert done
    return done


def given_back(house: House, data: bytes, who: Asker = ANN) -> Reply:
    return say(house, "/identify", house.uploads.keep(data), who=who, event=str(len(data)))


def test_a_picture_given_back_is_known_by_its_file(house: House) -> None:
    finished(house, 1)
    mine = finished(house, 2)
    data = house.media.load(str(mine.results[0]["key"]))
    reply = given_back(house, data)
    assert reply.generation == mine and reply.fresh
    assert "retry" in [button.action for button in house.card(mine).buttons]
    # Once more, with other pixels: what the file says counts.
    out = io.BytesIO()
    kept = copied(opened(data).info)
    assert kept
    noise(50).save(out, "PNG", pnginfo=kept.png())
    assert given_back(house, out.getvalue()).generation == mine


def test_a_copy_without_its_recipe_is_known_by_its_looks(house: House) -> None:
    finished(house, 1)
    mine = finished(house, 2)
    out = io.BytesIO()
    noise(2).resize((90, 68)).save(out, "JPEG", quality=60)
    assert given_back(house, out.getvalue()).generation == mine


def test_anothers_picture_is_told_by_its_file_alone(house: House) -> None:
    theirs = finished(house, 3, BOB, "a secret fox")
    data = house.media.load(str(theirs.results[0]["key"]))
    reply = given_back(house, data)
    assert reply.generation is None and "/imagine a secret fox" in reply.text
    stripped = io.BytesIO()
    noise(3).save(stripped, "PNG")
    with pytest.raises(UserError, match="I do not know that picture"):
        given_back(house, stripped.getvalue())


def test_a_forged_number_shows_nobody_elses_picture(house: House) -> None:
    theirs = finished(house, 3, BOB, "a secret fox")
    forged = json.dumps({"prompt": "a secret fox", "id": theirs.id})
    out = io.BytesIO()
    noise(9).save(out, "PNG", pnginfo=receipts.Notes("x", forged).png())
    assert given_back(house, out.getvalue()).generation is None


def test_what_began_with_another_picture_says_so(house: House) -> None:
    request = replace(REQUEST, mode=Mode.REMIX, sources=("k",), strength=0.5)
    data = sealed(noise(4), 999, request, 8).png
    assert b'"sources"' not in data
    reply = given_back(house, data)
    assert "began with another picture" in reply.text and "--strength" not in reply.text


def test_nothing_sent_is_asked_for(house: House) -> None:
    with pytest.raises(UserError, match="Send one along"):
        say(house, "/identify")
    mine = finished(house, 2)
    assert say(house, f"/info {mine.id}").generation == mine
