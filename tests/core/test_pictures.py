"""Asking with pictures: what is begun with, and what each command makes of it."""

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import select

from core import catalog, drawing, receipts, settings
from core.asking import Ask, Reply, picture_number
from core.cards import buttons_of
from core.commands import from_text, press, run
from core.database import files
from core.errors import InvalidOptions, NotAllowed, NotFound, UserError
from core.house import House
from core.lifecycle import State
from core.media import Source
from core.options import Mode, Request, validate
from core.people import Asker
from core.rows import Generation

ANN, BOB = Asker("web", "ann", chat="web:ann"), Asker("web", "bob", chat="web:bob")


def png(width: int = 64, height: int = 64, colour: str = "navy") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(out, "PNG")
    return out.getvalue()


def drawn(house: House, prompt: str = "a fox", who: Asker = ANN, **given: Any) -> Generation:
    """A finished generation whose pictures are really stored."""
    wanted = validate({"prompt": prompt, "seed": 5, **given})
    made = house.generations.submit(wanted, who, f"drawn {prompt} {given}", {"chat": "web"})
    claimed = house.generations.claim(made.id)
    assert claimed
    request = made.request
    results = [
        {"key": house.media.save(made.id, f"{at}.png", png(request.width, request.height)),
         "seed": seed, "width": request.width, "height": request.height}
        for at, seed in enumerate(request.seeds)
    ]  # fmt: skip
    done = house.generations.finish(claimed, results, 2.0)
    assert done
    return done


def say(house: House, line: str, *pictures: Source, who: Asker = ANN, event: str = "") -> Reply:
    name, given, faults = from_text(line)
    ask = Ask(who, (event or line)[-100:], {"chat": "web"}, given, faults, pictures=pictures)
    return run(house, name, ask)


def made(reply: Reply) -> Generation:
    assert reply.generation and reply.fresh, reply.text
    return reply.generation


def held(house: House, generation: int) -> set[str]:
    with house.database.read() as connection:
        return set(
            connection.execute(
                select(files.c.key).where(files.c.generation == generation)
            ).scalars()
        )


def test_a_picture_that_was_drawn_here_brings_its_recipe_along(house: House) -> None:
    old = drawn(house, "a fox", steps=7, guidance=4, negative_prompt="dogs", aspect="3:2")
    new = made(say(house, f"/remix --from {old.id} --tile --strength 0.4 --steps 9"))
    assert new.request.tile, "a flag that stands alone counts beside what is brought along"
    assert new.parent == old.id and new.request.mode == Mode.REMIX
    told = new.request
    assert (told.prompt, told.negative_prompt, told.guidance) == ("a fox", "dogs", 4)
    assert (told.steps, told.strength) == (9, 0.4)
    assert (told.width, told.height) == (old.request.width, old.request.height)
    assert told.sources == (old.results[0]["key"],) and held(house, new.id) == set(told.sources)


def test_what_is_said_of_steps_and_schedule_wins_over_what_is_brought_along(house: House) -> None:
    old = drawn(house, steps=3, sampler="DPM++ 2M Karras")
    usual = catalog.models()["pattern"].steps
    told = made(say(house, f"/remix a hen --from {old.id} --quality 0.5")).request
    assert (told.steps, told.sampler) == (usual // 2, "DPM++ 2M Karras")
    told = made(say(house, f"/remix a hen --from {old.id} --schedule beta")).request
    assert (told.steps, told.sampler) == (3, "DPM++ 2M Beta")
    with pytest.raises(InvalidOptions, match="either steps or a quality"):
        say(house, f"/remix a hen --from {old.id} --quality 0.5 --steps 4")


def test_what_was_escaped_is_not_expanded_where_it_is_brought_along(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "colour.txt").write_text("red\ngreen")
    monkeypatch.setenv("DRAWQUEUE_WILDCARDS", str(tmp_path))
    settings._read.cache_clear()
    # As what was typed with them escaped is kept.
    old = drawn(house, "a {red, blue} fox, __colour__")
    receipt = receipts.read(receipts.notes(old.id, old.request, 5).ours)
    assert receipt
    for line in (
        r"/imagine a \{red, blue\} fox, \__colour__",
        f"/remix --from {old.id}",
        receipt.line(),
    ):
        reply = say(house, line, event=line[:60])
        assert made(reply).request.prompt == old.request.prompt and not reply.others, line
    kept = drawn(house, "a fox", negative_prompt="{cats, dogs}")
    reply = say(house, f"/remix --from {kept.id}")
    assert made(reply).request.negative_prompt == "{cats, dogs}" and not reply.others
    both = made(say(house, f"/blend --from {old.id} {drawn(house, 'an owl').id}"))
    assert both.request.prompt == "a {red, blue} fox, __colour__, an owl"


def test_what_is_sent_along_keeps_its_shape_at_the_models_area(house: House) -> None:
    source = house.uploads.keep(png(900, 300))
    new = made(say(house, "/remix a fox", source))
    assert new.parent is None and new.request.sources == (source.key,)
    assert abs(new.request.width / new.request.height - 3) < 0.1
    assert abs(new.request.width * new.request.height / 256**2 - 1) < 0.1


def test_imagine_with_a_picture_is_remix(house: House) -> None:
    new = made(say(house, "/imagine a fox", house.uploads.keep(png())))
    assert (
        new.request.mode == Mode.REMIX
        and new.request.strength == catalog.USUAL_STRENGTH[Mode.REMIX]
    )


def test_one_of_several_is_named_by_its_place(house: House) -> None:
    old = drawn(house, count=3)
    new = made(say(house, f"/remix a hen --from {old.id}.2"))
    assert new.request.sources == (old.results[1]["key"],)
    with pytest.raises(NotFound, match=f"there is no {old.id}.4"):
        say(house, f"/remix a hen --from {old.id}.4")
    for line in (f"/remix a hen --from {old.id}", f"/vary {old.id}", "/vary", "/upscale"):
        with pytest.raises(UserError, match=f"name one, {old.id}.1 to {old.id}.3"):
            say(house, line)
    assert picture_number("#12.3") == (12, 3) and picture_number("12") == (12, None)
    for odd in ("12.0", "12.10", "twelve", "", "1.2.3", "-1"):
        with pytest.raises(UserError, match="for example 12"):
            picture_number(odd)


def test_one_of_several_is_shown_with_the_others(house: House) -> None:
    old = drawn(house, count=2)
    for number in (f"{old.id}.2", f"#{old.id}.1", str(old.id)):
        assert made(say(house, f"/show {number}", event=number)) == old
    with pytest.raises(NotFound, match=f"has 2 pictures; there is no {old.id}.3"):
        say(house, f"/show {old.id}.3")
    waiting = made(say(house, "/imagine an owl --count 2"))
    assert f"#{waiting.id} " in say(house, f"/show {waiting.id}.1").text
    with pytest.raises(UserError, match="for example 12"):
        say(house, "/show owl")


def test_a_mask_is_the_second_picture(house: House) -> None:
    old = drawn(house)
    mask = house.uploads.keep(png(256, 256, "white"))
    new = made(say(house, f"/inpaint a hen --from {old.id}", mask))
    assert new.request.mode == Mode.INPAINT and new.request.mask == mask.key
    assert new.request.strength == 1 and held(house, new.id) == {old.results[0]["key"], mask.key}


def test_where_nothing_would_be_painted_it_is_told_before(house: House) -> None:
    square, wide = drawn(house), drawn(house, "an owl", width=384, height=256)
    brought = house.uploads.keep(png(1000, 700))
    for line, along in (
        (f"/inpaint a hen --from {square.id} --zoom 1", ()),
        (f"/inpaint a hen --from {square.id} --ar 1:1", ()),
        (f"/inpaint a hen --from {square.id} --width 512 --height 512", ()),
        (f"/inpaint a hen --from {square.id} --zoom 1.01", ()),
        (f"/inpaint a hen --from {wide.id} --ar 3:2", ()),
        ("/inpaint a hen --ar 10:7", (brought,)),
    ):
        with pytest.raises(InvalidOptions, match="Say what to paint: give a mask as a second"):
            say(house, line, *along)
    mask = house.uploads.keep(png(256, 256, "white"))
    for line, along in (
        (f"/inpaint a hen --from {square.id} --zoom 1", (mask,)),
        (f"/inpaint a hen --from {square.id} --zoom 1.5", ()),
        (f"/inpaint a hen --from {square.id} --ar 3:2", ()),
        (f"/inpaint a hen --from {square.id} --zoom 1 --pan left", ()),
        (f"/inpaint a hen --from {wide.id} --ar 1:1", ()),
        (f"/inpaint a hen --from {wide.id} --ar 3:2 --pan up", ()),
    ):
        assert made(say(house, line, *along, event=f"{line} {len(along)}")), line


@pytest.mark.parametrize(
    ("line", "brought", "words"),
    [
        ("/remix a fox", 0, "Which picture?"),
        ("/remix a fox", 2, "/remix takes 1 picture; got 2."),
        ("/inpaint a fox", 1, "white is painted anew"),
        ("/inpaint a fox", 3, "/inpaint takes 2 pictures; got 3."),
        ("/style", 1, "Write what to draw"),
        ("/style a fox", 0, "Which picture?"),
        ("/style a fox", 3, "/style takes 2 pictures; got 3."),
        ("/style a fox --style-strength 2", 1, "“style_strength” must be a number from 0 to 1"),
        ("/remix a fox --sw 0.5", 1, "--style-strength is for /style."),
        ("/imagine a fox --sref twelve", 0, "for example 12"),
        ("/imagine a fox --sref 98", 0, "There is no #98"),
        ("/inpaint a fox --sref 12 --zoom 2", 1, "--sref is for /imagine, /remix and /style."),
        ("/imagine a fox --steps 9 --quality 2", 0, "either steps or a quality"),
        ("/imagine a fox --chaos 20", 0, "pattern knows no --chaos."),
        ("/blend a fox", 1, "/blend takes 2 to 5 pictures; got 1. Send them along"),
        ("/blend a fox", 6, "/blend takes 5 pictures; got 6."),
        ("/imagine a fox --vae nix", 0, "There is no VAE “nix”. For pattern: none."),
        ("/remix a fox --from sent:2", 1, "Say which picture by its number"),
        ("/remix --strength 2", 1, "“strength” must be a number from 0 to 1; got 2."),
        ("/remix --strength 0.5", 1, "Write what to draw"),
        ("/remix a fox --zoom 2", 1, "--zoom is for /inpaint."),
        (
            "/imagine a fox --strength 0.5",
            0,
            "--strength is for /remix, /inpaint, /style and /blend.",
        ),
        ("/remix a fox --hires 2", 1, "--hires does not go with a picture to begin with."),
        ("/imagine a fox --hires 2", 1, "--hires does not go with a picture to begin with."),
        ("/imagine a fox --chaos 20", 1, "--chaos does not go with a picture to begin with."),
        (
            "/style a fox --chaos 20",
            1,
            "--chaos does not go with a picture whose style is taken.",
        ),
        ("/inpaint a fox --pan north", 1, "must be one of left, right, up, down"),
        ("/inpaint a fox --zoom 9", 1, "“zoom” must be a number from 1 to 3; got 9."),
        ("/remix a fox --from twelve", 0, "for example 12"),
        ("/remix a fox --from 99", 0, "There is no #99"),
        ("/imagine a fox --lora nobody", 0, "There is no LoRA “nobody”. For pattern: none."),
        ("/imagine a fox --lora a:9", 0, "a weight from -2 to 2"),
        ("/imagine a fox --hires 8", 0, "“hires” must be a number from 1 to 4"),
        ("/imagine a fox --width 512 --hires 4", 0, "at most 1024 pixels a side; asked: 2048×1024"),
        ("/upscale 99", 0, "There is no #99"),
        ("/upscale 12 3", 0, "“factor” must be one of 2, 4; got 3."),
        ("/vary", 0, "You have nothing to vary."),
    ],
)
def test_what_cannot_be_is_told_in_words(house: House, line: str, brought: int, words: str) -> None:
    pictures = [house.uploads.keep(png(200 + at, 200)) for at in range(brought)]
    with pytest.raises(UserError) as told:
        say(house, line, *pictures)
    assert words in str(told.value)
    assert house.generations.of(ANN) == []


def test_a_mask_without_white_or_of_another_shape_is_refused(house: House) -> None:
    image = house.uploads.keep(png(200, 200))
    with pytest.raises(InvalidOptions, match="no white in it"):
        say(house, "/inpaint a fox", image, house.uploads.keep(png(200, 200, "black")))
    with pytest.raises(InvalidOptions, match=r"another shape \(300×200\) than the .* \(200×200\)"):
        say(house, "/inpaint a fox", image, house.uploads.keep(png(300, 200, "white")))
    # Another size of the same shape is none.
    made(say(house, "/inpaint a fox", image, house.uploads.keep(png(400, 400, "white"))))


def test_another_persons_picture_is_not_begun_with(house: House) -> None:
    theirs = drawn(house, who=BOB)
    for line in (f"/remix a hen --from {theirs.id}", f"/vary {theirs.id}", f"/upscale {theirs.id}"):
        with pytest.raises(NotFound, match="of yours"):
            say(house, line)
    for action in ("subtle", "strong", "up2", "u1", "v1"):
        with pytest.raises(NotAllowed):
            press(house, action, theirs.id, Ask(ANN, action, {}, {}))


def test_a_style_is_that_of_the_last_picture_and_brings_nothing_else_along(house: House) -> None:
    liked = drawn(house, "an owl", steps=3, aspect="3:2")
    alone = made(say(house, f"/style a fox --from {liked.id}")).request
    assert alone.mode == Mode.STYLE and alone.sources == (liked.results[0]["key"],)
    usual = catalog.models()["pattern"]
    assert (alone.prompt, alone.steps) == ("a fox", usual.steps)
    assert alone.width == alone.height == usual.size, "of no picture's shape"
    assert alone.begun == () and alone.strength == 1 and alone.passes == alone.steps
    assert alone.style_strength == catalog.STYLE_STRENGTH

    brought = house.uploads.keep(png(128, 64))
    both = made(say(house, f"/style --from {liked.id} --sw 0.9 --strength 0.3", brought)).request
    assert (both.prompt, both.steps) == ("an owl", 3), "those of what is drawn over"
    assert both.sources == (liked.results[0]["key"], brought.key)
    assert both.begun == both.sources[:1] and (both.width, both.height) == (312, 208)
    assert (both.strength, both.style_strength) == (0.3, 0.9)
    # The other way round, as a page tells it.
    turned = made(say(house, f"/style a cat --from sent:1,{liked.id}", brought)).request
    assert turned.sources == (brought.key, liked.results[0]["key"])
    assert (turned.width, turned.height, turned.steps) == (360, 184, usual.steps)
    card = house.card(house.generations.of(ANN, limit=1)[0])
    assert "style, strength 0.6, style strength 0.6" in card.details


def test_a_prompt_can_name_the_picture_whose_style_is_taken(house: House) -> None:
    liked, crown = drawn(house, "an owl", steps=3), drawn(house, "a crown")
    style, over = liked.results[0]["key"], crown.results[0]["key"]
    brought = house.uploads.keep(png(128, 64))
    for line, along, sources, prompt in (
        (f"/imagine a fox --sref {liked.id}", (), (style,), "a fox"),
        (f"/imagine a fox --sref {liked.id} --from {crown.id}", (), (over, style), "a fox"),
        (f"/imagine a cat --sref {liked.id}", (brought,), (brought.key, style), "a cat"),
        (f"/remix --sref {liked.id} --from {crown.id} --sw 1", (), (over, style), "a crown"),
    ):
        told = made(say(house, line, *along)).request
        assert (told.mode, told.sources, told.prompt) == (Mode.STYLE, sources, prompt), line
    with pytest.raises(NotFound, match="of yours"):
        say(house, f"/imagine a dog --sref {liked.id}", who=BOB)
    checked = drawing.precheck(Mode.TEXT, {"prompt": f"a fox --sref {liked.id}"}, 0)
    assert checked["look"] == str(liked.id)
    # What somebody agreed to is asked once more as it was said.
    asked = say(house, f"/imagine a {{red, green, blue, pink, grey, tan}} fox --sref {liked.id}")
    number = asked.buttons[0].generation
    press(house, "agree", number, Ask(ANN, "yes", {"chat": "web"}, {}))
    six = [one.request for one in house.generations.of(ANN, limit=6)]
    assert {(one.mode, one.sources) for one in six} == {(Mode.STYLE, (style,))}


def test_a_quality_is_so_many_times_the_models_steps(house: House) -> None:
    usual = catalog.models()["pattern"].steps
    for flags, steps in (("", usual), ("--q 0.5", usual // 2), ("--quality 4", usual * 4)):
        assert made(say(house, f"/imagine a fox {flags}")).request.steps == steps


def test_a_blend_takes_the_words_of_all_its_pictures(house: House) -> None:
    fox, owl = drawn(house, steps=3), drawn(house, "an owl", steps=4, count=2)
    told = made(say(house, f"/blend --from {fox.id} {owl.id}.2"))
    assert told.request.mode == Mode.BLEND and told.parent == fox.id
    assert (told.request.prompt, told.request.steps) == ("a fox, an owl", 3)
    assert told.request.sources == (fox.results[0]["key"], owl.results[1]["key"])
    assert held(house, told.id) == set(told.request.sources)
    assert f"blend from #{fox.id}, strength 0.5" in house.card(told).details
    brought = [house.uploads.keep(png(60 + number, 60)) for number in range(5)]
    mute = made(say(house, "/blend", *brought)).request
    assert mute.sources == tuple(one.key for one in brought) and mute.prompt == drawing.BLENDED
    worded = made(say(house, f"/blend a hen --from {fox.id}", brought[0])).request
    assert worded.prompt == "a hen" and worded.style_strength == 0


def test_what_another_model_draws_over_brings_its_words_alone(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = drawn(house, "a fox", steps=7, negative_prompt="dogs", sampler="Heun")
    flux = replace(
        catalog.models()["pattern"], name="flux", family=catalog.FAMILIES["FluxPipeline"],
        sampler="Euler", steps=4,
    )  # fmt: skip
    monkeypatch.setitem(catalog.models(), "flux", flux)
    told = made(say(house, f"/remix --from {old.id} --model flux")).request
    assert (told.prompt, told.negative_prompt, told.steps) == ("a fox", "", 4)
    with pytest.raises(InvalidOptions) as refused:
        say(house, f"/remix --from {old.id} --model flux --no dogs --sampler Heun")
    assert "flux knows no --no." in str(refused.value) and "It has Euler." in str(refused.value)


def test_what_a_model_drew_that_is_gone_brings_its_words_alone(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = drawn(house, "a fox", steps=7, negative_prompt="dogs")
    monkeypatch.setitem(
        catalog.models(), "new", replace(catalog.models()["pattern"], name="new", steps=4)
    )
    monkeypatch.delitem(catalog.models(), "pattern")
    told = made(say(house, f"/remix --from {old.id}")).request
    assert (told.prompt, told.model, told.steps, told.negative_prompt) == ("a fox", "new", 4, "")
    with pytest.raises(InvalidOptions, match=r"no model “pattern”\. On offer: new"):
        say(house, f"/remix --from {old.id} --model pattern")


def test_a_model_that_cannot_says_so(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    old = drawn(house, count=2)
    plain = replace(catalog.models()["pattern"], family=catalog.ANOTHER)
    monkeypatch.setitem(catalog.models(), "pattern", plain)
    able = replace(plain, name="able", family=catalog.STABLE_DIFFUSION)
    for others in ("No model here does.", "Models that do: able."):
        told = f"pattern does not know /remix. {others}"
        for line in ("/remix a fox", f"/remix a fox --from {old.id}.1"):
            with pytest.raises(InvalidOptions, match=re.escape(told)):
                say(house, line, *([] if "--from" in line else [house.uploads.keep(png())]))
        with pytest.raises(InvalidOptions, match=re.escape(told)):
            say(house, f"/vary {old.id}.1")
        monkeypatch.setitem(catalog.models(), "able", able)
    assert [b.action for b in buttons_of(house.generations.get(old.id))] == [
        "u1", "u2", "retry", "reseed",
    ]  # fmt: skip


def test_varying_is_near_or_far_and_has_a_seed_of_its_own(house: House) -> None:
    old = drawn(house, count=2)
    near = made(say(house, f"/vary {old.id}.2"))
    far = made(say(house, f"/vary {old.id}.2 strong"))
    assert 0 < near.request.strength < far.request.strength < 1
    assert near.request.sources == (old.results[1]["key"],) and near.parent == old.id
    assert near.request.count == 2 and len({one.request.seed for one in (old, near, far)}) == 3


def test_a_picture_of_several_that_stay_near_is_drawn_again_alone(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    able = replace(catalog.models()["pattern"], family=catalog.STABLE_DIFFUSION)
    monkeypatch.setitem(catalog.models(), "pattern", able)
    old = drawn(house, count=3, chaos=30)
    assert "chaos 30" in house.card(old).details
    second = press(house, "u2", old.id, Ask(ANN, "u2", {"chat": "web"}, {})).generation
    assert second
    told = second.request
    assert (told.seed, told.subseed, told.chaos, told.count) == (5, 6, 30, 1)
    assert told.seeds == (old.results[1]["seed"],)
    again = press(house, "retry", second.id, Ask(ANN, "again", {"chat": "web"}, {})).generation
    assert again and again.request == told
    other = press(house, "reseed", second.id, Ask(ANN, "other", {"chat": "web"}, {})).generation
    assert other and other.request.subseed == -1 and other.request.seed != 5
    varied = made(say(house, f"/vary {old.id}.2")).request
    assert (varied.chaos, varied.subseed) == (100, -1)


def test_upscaling_says_how_large_and_by_what(house: House) -> None:
    old = drawn(house, count=2)
    large = made(say(house, f"/upscale {old.id}.2 4"))
    told = large.request
    assert (told.width, told.height, told.factor, told.count) == (1024, 1024, 4, 1)
    assert told.upscaler == catalog.LANCZOS and told.seed == old.results[1]["seed"]
    assert f"upscaled 4× from #{old.id} · Lanczos · 1024×1024" == house.card(large).details
    brought = made(say(house, "/upscale", house.uploads.keep(png(300, 200))))
    assert (brought.request.width, brought.request.height) == (600, 400)
    assert house.card(brought).alt == "A picture, made larger."
    with pytest.raises(InvalidOptions, match="8000×8000; 4096 pixels"):
        catalog.upscaled(told, Source("x", 2000, 2000), 4)


def test_a_vary_of_what_was_upscaled_is_as_small_as_it_was(house: House) -> None:
    old = drawn(house)
    large = made(say(house, f"/upscale {old.id}"))
    claimed = house.generations.claim(large.id)
    assert claimed
    key = house.media.save(large.id, "1.png", png(512, 512))
    house.generations.finish(
        claimed, [{"key": key, "seed": 5, "width": 512, "height": 512}], 1.0
    )  # fmt: skip
    near = made(press(house, "subtle", large.id, Ask(ANN, "again", {}, {})))
    assert (near.request.width, near.request.factor, near.request.upscaler) == (256, 1, "")


def test_the_buttons_of_several_pick_and_vary_one(house: House) -> None:
    old = drawn(house, count=3)
    rows = [[one.label for one in house.card(old).buttons if one.row == row] for row in range(3)]
    assert rows == [["U1", "U2", "U3"], ["V1", "V2", "V3"], ["Retry", "🎲 New seed"]]
    picked = made(press(house, "u2", old.id, Ask(ANN, "one", {"chat": "web"}, {})))
    assert picked.state == State.DONE and picked.parent == old.id
    assert [one["key"] for one in picked.results] == [old.results[1]["key"]]
    assert (picked.request.seed, picked.request.count) == (old.results[1]["seed"], 1)
    labels = [one.label for one in house.card(picked).buttons]
    assert labels == [
        "Vary (subtle)", "Vary (strong)", "Upscale 2×", "Upscale 4×", "Retry", "🎲 New seed",
    ]  # fmt: skip
    again = press(house, "u2", old.id, Ask(ANN, "two", {"chat": "web"}, {}))
    assert not again.fresh and f"#{picked.id} shows that picture already" in again.text
    varied = made(press(house, "v3", old.id, Ask(ANN, "three", {"chat": "web"}, {})))
    assert varied.request.sources == (old.results[2]["key"],)
    with pytest.raises(NotFound, match="has 3 pictures"):
        press(house, "u4", old.id, Ask(ANN, "four", {}, {}))


def test_what_another_picked_or_one_deleted_is_picked_again(house: House) -> None:
    ann = Asker("discord", "1", chat="discord:channel:5")
    mod = Asker("discord", "2", moderator=True, chat=ann.chat)
    old = drawn(house, who=ann, count=2)
    theirs = made(press(house, "u2", old.id, Ask(mod, "mod", {}, {})))
    mine = [made(press(house, "u2", old.id, Ask(ann, "first", {}, {})))]
    assert mine[0].id != theirs.id and house.generations.visible(mine[0].id, ann)
    for number in range(2):
        say(house, f"/delete {mine[-1].id}", who=ann)
        mine.append(made(press(house, "u2", old.id, Ask(ann, f"again {number}", {}, {}))))
    assert len({one.id for one in mine}) == 3 and mine[-1].results
    told = press(house, "u2", old.id, Ask(ann, "once more", {}, {}))
    assert f"#{mine[-1].id} shows that picture already" in told.text


def test_a_picked_picture_costs_nothing_and_is_drawn_again_alone(house: House) -> None:
    old = drawn(house, count=3)
    before = house.generations.admission.quota(ANN)
    picked = made(press(house, "u3", old.id, Ask(ANN, "one", {"chat": "web"}, {})))
    assert house.generations.admission.quota(ANN) == before
    again = house.generations.redo(picked.id, ANN, "again")
    assert again.request.seeds == (old.request.seeds[2],)


def test_many_pictures_with_one_to_begin_with_are_asked_about_first(house: House) -> None:
    old = drawn(house)
    asked = say(house, f"/remix {{red, blue, green, grey, black, white}} fox --from {old.id}")
    assert asked.buttons and asked.generation is None
    agreed = press(house, "agree", asked.buttons[0].generation, Ask(ANN, "yes", {}, {}))
    assert agreed.generation and len(agreed.others) == 5
    first = house.generations.get(agreed.generation.id)
    assert first.request.mode == Mode.REMIX and first.parent == old.id
    assert first.request.sources == (old.results[0]["key"],)


def test_what_was_sent_along_and_is_gone_when_agreed_is_told(house: House) -> None:
    source = house.uploads.keep(png())
    asked = say(house, "/remix {red, blue, green, grey, black, white} fox", source)
    house.media.delete(source.key)
    with pytest.raises(UserError, match="not kept any more"):
        press(house, "agree", asked.buttons[0].generation, Ask(ANN, "yes", {}, {}))


def test_keys_are_never_told(house: House) -> None:
    source = house.uploads.keep(png())
    new = made(say(house, "/remix a fox", source))
    assert source.key not in str(house.card(new)) and source.key not in str(new.request.told)


def test_the_options_in_a_prompt_are_checked_from_memory(house: House) -> None:
    assert drawing.precheck(Mode.REMIX, {"prompt": "a fox --strength 0.4"}, 1)["strength"] == "0.4"
    for given, pictures, words in (
        ({"prompt": "a fox --strength 4"}, 1, "from 0 to 1"),
        ({"prompt": "a fox"}, 0, "Which picture?"),
        ({"prompt": "a fox", "model": "nope"}, 1, "On offer"),
    ):
        with pytest.raises(UserError, match=words):
            drawing.precheck(Mode.REMIX, given, pictures)
    assert drawing.precheck(Mode.REMIX, {"source": "12"}, 0)


def test_every_request_is_read_back_as_it_was_written(house: House) -> None:
    new = made(say(house, "/imagine a fox --tile --clip-skip 2 --hires 2", event="whole"))
    assert house.generations.get(new.id).request == new.request
    old = {"prompt": "x", "negative_prompt": "", "width": 8, "height": 8, "steps": 1,
           "guidance": 1.0, "seed": 1, "sampler": "Euler", "model": "m", "count": 1}  # fmt: skip
    assert Request.read(old).mode == Mode.TEXT and Request.read(old).sources == ()
