"""Discord's pictures, end to end: brought along, pointed at, picked from a grid, enlarged."""

import base64
import io
import os
import signal
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from PIL import Image, ImageDraw
from redis import Redis
from sqlalchemy import select

from bots.pictures import GAP
from core.database import generations
from tests.journeys.chats import ANN, BOB, CHANNEL, Discord, on_discord

SIDE = 256
MOST_MB = 2
# How large a file is that was said to be small.
LIE = 64 << 20
Spec = dict[str, Any]


@pytest.fixture(scope="module")
def discord(
    new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Discord]:
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "loras").mkdir()
    for name in ("blueprint", "watercolour"):
        (folder / "loras" / f"{name}.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    with on_discord(
        folder, DATABASE_URL=new_database(), DRAWQUEUE_UPLOAD_MB=str(MOST_MB),
        DRAWQUEUE_FETCH_HOSTS="127.0.0.1", DRAWQUEUE_LORAS=str(folder / "loras"),
    ) as made:  # fmt: skip
        # These stories are about pictures; how fast one may write is another's.
        made.door.post("/control/limits", json={"messages": [50, 5.0], "webhooks": [50, 2.0]})
        yield made


def halves(size: tuple[int, int] = (300, 200)) -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", size, "red")
    ImageDraw.Draw(image).rectangle((size[0] // 2, 0, *size), fill="blue")
    return image


def spec(image: Image.Image, kind: str = "PNG", name: str = "", **how: Any) -> Spec:
    """A picture as a person's client sends it."""
    out = io.BytesIO()
    image.save(out, kind, **how)
    return raw(out.getvalue(), name or f"picture.{kind.lower()}")


def raw(data: bytes, name: str = "picture.png") -> Spec:
    return {"filename": name, "content_b64": base64.b64encode(data).decode()}


def bomb(width: int, height: int) -> bytes:
    """A small PNG of so many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((width // 8 + 1) * height), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def newest(card: Spec) -> Spec:
    return dict(card["versions"][-1])


def number_of(card: Spec) -> int:
    return int(details(card).split()[0].strip("#"))


def details(card: Spec) -> str:
    return str(newest(card)["embeds"][0]["footer"]["text"])


def picture(card: Spec) -> Image.Image:
    (file,) = newest(card)["attachments"]
    return Image.open(io.BytesIO(httpx.get(file["url"]).content)).convert("RGB")


def labels(card: Spec) -> list[list[str]]:
    return [[one["label"] for one in row["components"]] for row in newest(card)["components"]]


def alike(one: Image.Image, other: Image.Image) -> bool:
    """Whether two pictures show the same, but for rounding."""
    if one.size != other.size:
        return False
    pairs = zip(one.tobytes(), other.convert("RGB").tobytes(), strict=True)
    return max(abs(a - b) for a, b in pairs) <= 3


def imagine(discord: Discord, prompt: str, **options: Any) -> Spec:
    discord.command("imagine", prompt=prompt, **options)
    return discord.card(prompt, "done in")


def child(discord: Discord, *words: str) -> Spec:
    """The newest finished card whose details say these words."""

    def find() -> Spec | None:
        for message in reversed(discord.messages()):
            shown = message["versions"][-1]
            told = str([one.get("footer") for one in shown["embeds"]])
            if "done in" in shown["content"] and all(word in told for word in words):
                return message
        return None

    return dict(discord.until(find))


def press(discord: Discord, card: Spec, label: str, user: str = ANN) -> str:
    return discord.press(card["id"], label, user)


def menu(discord: Discord, name: str, message: str, user: str = ANN) -> str:
    answer = discord.door.post("/control/command", json={
        "name": name, "type": 3, "target_id": message, "user_id": user, "channel_id": CHANNEL,
    })  # fmt: skip
    assert answer.status_code == 200, answer.text
    return str(answer.json()["interaction_id"])


def opened(discord: Discord, message: str, user: str = ANN) -> Spec:
    """The modal that “Remix this” shows."""
    asked = menu(discord, "Remix this", message, user)
    told = discord.until(
        lambda: found if (found := discord.interaction(asked))["ack_type"] else None
    )
    assert told["ack_type"] == 9, discord.answers(asked)
    return dict(told)


def submit(discord: Discord, modal: Spec, **values: str) -> str:
    answer = discord.door.post(
        "/control/modal", json={"interaction_id": modal["id"], "values": values}
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["interaction_id"])


def write(discord: Discord, user: str = BOB, **what: Any) -> str:
    answer = discord.door.post(
        "/control/message", json={"user_id": user, "channel_id": CHANNEL, **what}
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def refused(discord: Discord, asked: str, *words: str) -> None:
    """One answer, to the asker alone, once nobody thinks any more."""

    def spoken() -> bool:
        told = discord.answers(asked)
        return bool(told) and not any(one["loading"] for one in told)

    discord.until(spoken)
    told = discord.only_answer(asked)
    assert told["ephemeral"] and all(word in told["content"] for word in words), told["content"]


def stored(discord: Discord, number: int) -> Image.Image:
    """What was kept of the picture that a generation begins with."""
    with discord.drawqueue.database() as database, database.read() as connection:
        wanted = select(generations.c.request).where(generations.c.id == number)
        (key,) = connection.execute(wanted).scalar_one()["sources"]
    return Image.open(discord.drawqueue.home / "media" / key)


@pytest.fixture(scope="module")
def four(discord: Discord) -> Spec:
    """A grid of four pictures that differ."""
    return imagine(discord, "a grid of four", count=4, seed=7)


# Brought along


def test_remix_begins_with_what_is_attached(discord: Discord) -> None:
    asked = discord.command(
        "remix", prompt="a kept one --strength 0", image=spec(halves((300, 200)))
    )
    card = discord.card("a kept one", "done in")
    assert discord.interaction(asked)["acked"] < 3
    assert "remix, strength 0" in details(card)
    shown = picture(card)
    assert abs(shown.width / shown.height - 1.5) < 0.1
    middle = shown.height // 2
    assert shown.getpixel((10, middle)) == (254, 0, 0) or shown.getpixel((10, middle)) == (
        255,
        0,
        0,
    )
    assert shown.getpixel((shown.width - 10, middle))[2] > 250  # type: ignore[index]


def test_inpaint_leaves_what_is_black_in_the_mask(discord: Discord) -> None:
    mask = Image.new("L", (300, 200), 0)
    ImageDraw.Draw(mask).rectangle((150, 0, 300, 200), fill=255)
    discord.command(
        "inpaint", prompt="half a new one", image=spec(halves()), mask=spec(mask, name="mask.png")
    )
    shown = picture(discord.card("half a new one", "done in"))
    left = {shown.getpixel((x, y)) for x in (5, 60) for y in (5, 90, 150)}
    right = {shown.getpixel((shown.width - x, y)) for x in (9, 60) for y in (5, 90, 150)}
    assert left == {(255, 0, 0)}
    assert len(right) > 1 and (0, 0, 255) not in right


def test_a_style_is_taken_alone_or_for_a_picture(discord: Discord) -> None:
    teal = Image.new("RGB", (64, 64), "teal")
    discord.command("style", prompt="wholly teal --sw 1", style=spec(teal))
    alone = discord.card("wholly teal", "done in")
    assert "style, style strength 1" in details(alone)
    assert alike(picture(alone), teal.resize(picture(alone).size))
    discord.command(
        "style", prompt="kept halves --strength 0", image=spec(halves()), style=spec(teal)
    )
    both = picture(discord.card("kept halves", "done in"))
    assert alike(both, halves(both.size)), "it lies over the first"


def test_a_blend_is_of_what_is_attached_and_named(discord: Discord, four: Spec) -> None:
    black, white = (spec(Image.new("RGB", (64, 64), colour)) for colour in ("black", "white"))
    discord.command("blend", prompt="grey --strength 0", image1=black, image2=white)
    grey = picture(discord.card("grey", "done in"))
    assert alike(grey, Image.new("RGB", grey.size, (128, 128, 128)))
    discord.command("blend", image3=white, source=f"{number_of(four)}.2")
    assert "strength 0.5" in details(child(discord, f"blend from #{number_of(four)}"))
    refused(discord, discord.command("blend", image1=black), "/blend takes 2 to 5 pictures; got 1.")


def test_upscale_takes_what_is_attached(discord: Discord) -> None:
    discord.command("upscale", image=spec(halves((90, 60))), factor="4")
    card = child(discord, "upscaled 4×", "360×240")
    assert picture(card).size == (360, 240)
    assert labels(card) == [["Vary (subtle)", "Vary (strong)", "🖌 Paint"]]


def rotated() -> Spec:
    """A phone's picture: lying on its side, with a note to turn it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return spec(halves((120, 60)), "JPEG", exif=exif, quality=95)


def animated() -> Spec:
    frames = [Image.new("RGB", (80, 40), colour) for colour in ("lime", "black", "white")]
    return spec(frames[0], "GIF", save_all=True, append_images=frames[1:])


@pytest.mark.parametrize(("name", "given", "size", "colour"), [
    ("animated", animated(), (80, 40), (0, 255, 0)),
    ("cmyk", spec(Image.new("CMYK", (50, 50), (0, 255, 255, 0)), "JPEG"), (50, 50), (255, 0, 0)),
    ("rotated", rotated(), (60, 120), (255, 0, 0)),
    ("misnamed", spec(halves((40, 40)), "WEBP", "picture.png", lossless=True), (40, 40),
     (255, 0, 0)),
])  # fmt: skip
def test_every_kind_of_picture_is_taken_upright_and_still(
    discord: Discord, name: str, given: Spec, size: tuple[int, int], colour: tuple[int, int, int]
) -> None:
    discord.command("remix", prompt=f"an {name} one", image=given)
    kept = stored(discord, number_of(discord.card(f"an {name} one", "done in")))
    assert kept.size == size and kept.mode == "RGB" and kept.format == "PNG"
    found = kept.getpixel((size[0] // 4, 3))
    assert all(abs(a - b) < 12 for a, b in zip(found, colour, strict=True)), found  # type: ignore[arg-type]


NOISE = os.urandom(int(MOST_MB * 1.1e6))
BAD = {
    "text": ({"image": raw(b"hello, I am no picture")}, "I cannot read that as a picture."),
    "empty": ({"image": raw(b"")}, "That file is empty."),
    "bomb": ({"image": raw(bomb(20_000, 10_000))}, "hundreds of megapixels; 50 is the most"),
    "cut": ({"image": raw(NOISE[:10])}, "I cannot read that as a picture."),
    "large": ({"image": raw(NOISE)}, "That file has 2.2 MB; 2 MB is the most."),
    "strength": ({"image": spec(halves()), "prompt": "x --strength 2"}, "from 0 to 1; got 2."),
    "wordless": ({"image": spec(halves()), "prompt": ""}, "Write what to draw"),
    "none": ({}, "Which picture? Send one along"),
    "both": ({"image": spec(halves()), "source": "1"}, "either as “image” or by its number"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_begun_with_is_told_to_the_asker_alone(discord: Discord, what: str) -> None:
    given, words = BAD[what]
    before = discord.drawqueue.rows()
    refused(discord, discord.command("remix", **{"prompt": "a fox", **given}), words)
    assert "fault" not in discord.messages()[-1]["content"]
    assert discord.drawqueue.rows().keys() == before.keys()


@pytest.mark.parametrize(("mask", "words"), [
    (Image.new("L", (200, 300), 255), "The mask has another shape (200×300)"),
    (Image.new("L", (300, 200), 0), "The mask has no white in it"),
    (None, "white is painted anew"),
])  # fmt: skip
def test_a_mask_that_does_not_fit(discord: Discord, mask: Image.Image | None, words: str) -> None:
    more = {"mask": spec(mask)} if mask else {}
    asked = discord.command("inpaint", prompt="a fox", image=spec(halves()), **more)
    refused(discord, asked, words)


def test_a_mask_needs_its_picture(discord: Discord, four: Spec) -> None:
    mask = spec(Image.new("L", (SIDE, SIDE), 255))
    asked = discord.command("inpaint", prompt="a fox", mask=mask)
    refused(discord, asked, "Which picture is the mask for?")
    discord.command(
        "inpaint", prompt="a painted over one", mask=mask, source=f"{number_of(four)}.2"
    )
    discord.card("a painted over one", "done in")


@pytest.mark.parametrize(("planned", "words"), [
    ([{"status": 404}], "Discord does not have that picture any more."),
    ([{"status": 500}] * 2, "Discord did not hand me that picture just now."),
    ([{"status": 200, "bytes": LIE}], "2 MB is the most"),
])  # fmt: skip
def test_a_cdn_that_fails_is_one_answer(discord: Discord, planned: list[Spec], words: str) -> None:
    before = discord.drawqueue.rows()
    for rule in planned:
        discord.door.post("/control/fail", json={"method": "CDN", **rule})
    refused(discord, discord.command("remix", prompt="a fox", image=spec(halves())), words)
    assert discord.drawqueue.rows().keys() == before.keys()
    calls = discord.door.get("/control/calls").json()
    served = sum(one["served"] for one in calls if one["method"] == "CDN")
    assert served < LIE / 2, "no more was read than may be"


def test_a_cdn_that_stumbles_is_asked_again(discord: Discord) -> None:
    discord.door.post("/control/fail", json={"method": "CDN", "status": 500})
    discord.command("remix", prompt="a stumbling one", image=spec(halves()))
    discord.card("a stumbling one", "done in")


# Named


def test_imagine_takes_a_number_or_an_address_in_its_prompt(discord: Discord, four: Spec) -> None:
    number = number_of(four)
    discord.command("imagine", prompt=f"a flagged one --from {number}.3 --strength 0")
    card = discord.card("a flagged one", "done in")
    assert f"from #{number}" in details(card) and alike(picture(card), quarter(four, 2))
    address = newest(four)["attachments"][0]["url"]
    discord.command("imagine", prompt=f"{address} an addressed one --strength 0.2")
    card = discord.card("an addressed one", "done in")
    assert "remix, strength 0.2" in details(card) and "http" not in embed(card)["description"]
    refused(discord, discord.command("imagine", prompt="x --from 9999"), "There is no #9999")
    refused(
        discord, discord.command("imagine", prompt=f"{address}9 x".replace("/attach", "/none")),
        "127.0.0.1 answers 404",
    )  # fmt: skip


def embed(card: Spec) -> Spec:
    return dict(newest(card)["embeds"][0])


def test_loras_are_completed_one_after_the_other(discord: Discord) -> None:
    def offered(typed: str) -> list[str]:
        answer = discord.door.post("/control/autocomplete", json={
            "name": "imagine", "focused": "lora", "value": typed, "user_id": ANN,
            "channel_id": CHANNEL,
        }).json()  # fmt: skip
        return [choice["value"] for choice in answer["choices"]]

    assert offered("") == ["blueprint", "watercolour"]
    assert offered("WATER") == ["watercolour"]
    assert offered("blueprint:0.8, w") == ["blueprint:0.8, watercolour"]
    assert offered("blueprint:0.8, zebra") == []


# Grids


def quarter(card: Spec, index: int) -> Image.Image:
    """One picture of a grid, cut out of it."""
    sheet = picture(card)
    left, top = index % 2 * (SIDE + GAP), index // 2 * (SIDE + GAP)
    return sheet.crop((left, top, left + SIDE, top + SIDE))


@pytest.mark.parametrize("count", [2, 3, 4])
def test_several_are_one_picture_with_a_button_for_each(
    discord: Discord, four: Spec, count: int
) -> None:
    card = four if count == 4 else imagine(discord, f"a grid of {count}", count=count, seed=7)
    sheet = picture(card)
    rows = 1 if count == 2 else 2
    assert sheet.size == (2 * SIDE + GAP, rows * SIDE + (rows - 1) * GAP)
    assert labels(card) == [
        [f"U{place}" for place in range(1, count + 1)],
        [f"V{place}" for place in range(1, count + 1)],
        ["Retry", "🎲 New seed"],
    ]
    pictures = [quarter(card, index).tobytes() for index in range(count)]
    assert len(set(pictures)) == count
    if count == 3:
        assert quarter(card, 3).getcolors() == [(SIDE * SIDE, (255, 255, 255))]


def test_u_shows_one_in_full_once(discord: Discord, four: Spec) -> None:
    number, before = number_of(four), len(discord.messages())
    press(discord, four, "U2")
    picked = child(discord, "seed 8 · 256×256")
    assert number_of(picked) > number and alike(picture(picked), quarter(four, 1))
    assert labels(picked) == [
        ["Vary (subtle)", "Vary (strong)"], ["Upscale 2×", "Upscale 4×"],
        ["Retry", "🎲 New seed", "🖌 Paint"],
    ]  # fmt: skip
    refused(discord, press(discord, four, "U2"), f"#{number_of(picked)} shows that picture already")
    refused(discord, press(discord, four, "U1", BOB), "Only the person who asked")
    # The poster finds nothing left to do, and sends none of its own.
    assert [len(one["versions"]) for one in discord.messages() if one["id"] == picked["id"]] == [1]
    shown = [one for one in discord.messages()[before:] if not one["ephemeral"]]
    assert [one["id"] for one in shown] == [picked["id"]]


def test_v_and_vary_draw_others_like_one(discord: Discord, four: Spec) -> None:
    number = number_of(four)
    press(discord, four, "V1")
    strong = child(discord, f"remix from #{number}, strength 0.65")
    discord.command("vary", id=f"{number}.2", how="subtle")
    subtle = child(discord, f"remix from #{number}, strength 0.35")
    assert labels(strong)[0] == ["U1", "U2", "U3", "U4"] == labels(subtle)[0]
    refused(discord, discord.command("vary", id=f"{number}.7"), f"there is no {number}.7")
    refused(discord, discord.command("vary", BOB, id=str(number)), f"no #{number} of yours")


def test_what_was_picked_is_enlarged_and_varied(discord: Discord, four: Spec) -> None:
    press(discord, four, "U3")
    picked = child(discord, "seed 9 · 256×256")
    press(discord, picked, "Upscale 2×")
    large = child(discord, f"upscaled 2× from #{number_of(picked)}")
    assert picture(large).size == (2 * SIDE, 2 * SIDE)
    small = picture(large).resize((8, 8), Image.Resampling.BOX)
    assert alike(small, quarter(four, 2).resize((8, 8), Image.Resampling.BOX))
    press(discord, large, "Vary (subtle)")
    varied = child(discord, f"remix from #{number_of(large)}, strength 0.35")
    assert picture(varied).size == (SIDE, SIDE), "as small as it was"


# Pointed at


def test_upscale_this(discord: Discord, four: Spec) -> None:
    one = imagine(discord, "a pointed at one", seed=31)
    menu(discord, "Upscale this", one["id"])
    card = child(discord, f"upscaled 2× from #{number_of(one)}")
    assert picture(card).size == (2 * SIDE, 2 * SIDE)
    said = write(discord, content="look", files=[raw(b"hi", "a.txt"), spec(halves((70, 50)))])
    menu(discord, "Upscale this", said)
    assert picture(child(discord, "upscaled 2×", "140×100")).size == (140, 100)
    for name in ("Upscale this", "Remix this"):
        refused(discord, menu(discord, name, four["id"]), "shows 4 pictures. Press U1 to U4")
    # Somebody else's card is a picture like any other.
    menu(discord, "Upscale this", four["id"], BOB)
    child(discord, "upscaled 2× · ", f"{4 * SIDE + 2 * GAP}×{4 * SIDE + 2 * GAP}")


def test_what_made_this(discord: Discord, four: Spec) -> None:
    """Told to the asker alone, with its buttons."""

    def told(asked: str) -> tuple[Spec, str]:
        answer = discord.only_answer(asked)
        assert answer["flags"] & 64, "for the asker alone"
        card = newest(answer)
        return card, str(card["embeds"][0]["footer"]["text"]) if card["embeds"] else ""

    one = imagine(discord, "a picture to know", seed=33)
    number = number_of(one)
    card, details_ = told(menu(discord, "What made this?", one["id"]))
    assert f"#{number} · " in details_
    assert "Retry" in [part["label"] for row in card["components"] for part in row["components"]]
    assert f"#{number_of(four)} · " in told(menu(discord, "What made this?", four["id"]))[1]
    (file,) = newest(one)["attachments"]
    as_posted = httpx.get(file["url"]).content
    # Somebody else is told by what its file says, and sees no card of Ann's.
    answer, _ = told(menu(discord, "What made this?", one["id"], BOB))
    assert "/imagine a picture to know" in answer["content"] and not answer["embeds"]
    # A copy without its recipe is known by its looks, and the file alone where it has one.
    stripped = spec(Image.open(io.BytesIO(as_posted)).convert("RGB"), "JPEG")
    for given in (raw(as_posted), stripped):
        assert f"#{number} · " in told(discord.command("identify", image=given))[1]
    answer, _ = told(discord.command("identify", user=BOB, image=stripped))
    assert "I do not know that picture" in answer["content"]


def test_a_message_without_a_picture(discord: Discord) -> None:
    said = write(discord, content="look", files=[raw(b"hi", "a.txt")])
    for name in ("Upscale this", "Remix this"):
        refused(discord, menu(discord, name, said), "There is no picture in that message.")
    large = write(discord, files=[raw(NOISE, "a.png")])
    refused(discord, menu(discord, "Remix this", large), "2 MB is the most")


def test_remix_this_asks_for_the_words(discord: Discord) -> None:
    one = imagine(discord, "a card to remix", seed=5)
    asked = opened(discord, one["id"])["ack_data"]
    assert asked["title"] == "Remix this"
    fields = {part["label"]: part["component"] for part in asked["components"]}
    assert [*fields] == ["Prompt", "Strength"] and not fields["Prompt"]["required"]
    submit(discord, opened(discord, one["id"]), prompt="a green crown --steps 5", strength="0,25")
    card = discord.card("a green crown", "done in")
    assert f"remix from #{number_of(one)}, strength 0.25" in details(card)
    assert " 5 steps" in details(card)
    # A picture of one's own brings its words along.
    submit(discord, opened(discord, one["id"]), prompt="", strength="0.1")
    card = child(discord, f"remix from #{number_of(one)}, strength 0.1")
    assert embed(card)["description"] == "a card to remix"


def test_remix_this_takes_what_others_show(discord: Discord) -> None:
    said = write(discord, content="mine", files=[spec(halves((200, 100)))])
    asked = opened(discord, said)
    assert asked["ack_data"]["components"][0]["component"]["required"]
    submit(discord, asked, prompt="a borrowed one", strength="0")
    shown = picture(discord.card("a borrowed one", "done in"))
    assert abs(shown.width / shown.height - 2) < 0.1 and shown.getpixel((5, 5)) == (255, 0, 0)
    linked = newest(imagine(discord, "a linked one"))["attachments"][0]["url"]
    said = write(discord, content=linked, link_picture=linked)
    submit(discord, opened(discord, said), prompt="one by its link")
    discord.card("one by its link", "done in")
    theirs = imagine(discord, "somebody's card", seed=3)
    asked = submit(discord, opened(discord, theirs["id"], BOB), prompt="", strength="0.3")
    refused(discord, asked, "Write what to draw")
    submit(discord, opened(discord, theirs["id"], BOB), prompt="bob's own one", strength="0.3")
    card = discord.card("bob's own one", "done in")
    assert "remix, strength 0.3" in details(card), "nothing of the other's recipe"
    asked = submit(discord, opened(discord, said), prompt="x", strength="2")
    refused(discord, asked, "from 0 to 1; got 2")


def test_buttons_and_modals_find_their_picture_after_the_bot_was_killed(
    discord: Discord, four: Spec
) -> None:
    press(discord, four, "U4")
    picked = child(discord, "seed 10 · 256×256")
    said = write(discord, files=[spec(halves((64, 64)))])
    first, second = opened(discord, said), opened(discord, said)
    online = discord.drawqueue.log.read_text().count("on line as")
    os.kill(discord.drawqueue.processes()["bots.discord_chat"], signal.SIGKILL)
    discord.until(lambda: discord.drawqueue.log.read_text().count("on line as") > online)
    refused(discord, press(discord, four, "U4"), f"#{number_of(picked)} shows that picture already")
    press(discord, picked, "Upscale 4×")
    child(discord, f"upscaled 4× from #{number_of(picked)}")
    submit(discord, first, prompt="a patient one")
    discord.card("a patient one", "done in")
    redis = Redis.from_url(f"unix://{discord.drawqueue.home / 'valkey.sock'}?db=0")
    kept: Any = redis.keys("drawqueue:pointed:*")
    assert kept and redis.ttl(kept[0]) > 0
    redis.delete(*kept)
    refused(discord, submit(discord, second, prompt="x"), "Choose it once more, please.")
    assert not discord.door.get("/control/calls", params={"unknown": 1}).json()
