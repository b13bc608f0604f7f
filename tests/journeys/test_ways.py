"""Every way to make a picture of another, asked for on each chat, makes one and the same of it."""

import hashlib
import io
import json
import re
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import mean
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, expect
from sqlalchemy import select

from core.catalog import STARTER
from core.commands import BY_NAME
from core.database import generations
from core.flags import split_flags
from core.options import Mode, Request
from tests.bots.test_web_page import CHROMIUM
from tests.bots.test_web_page import browser as browser
from tests.bots.test_web_paint import send as send_words
from tests.bots.test_web_paint import stroke
from tests.conftest import Running
from tests.journeys.chats import Discord, Everywhere, Telegram, everywhere, shown
from tests.journeys.test_discord_pictures import raw

SIDE = 128
CROWN = "a red crown on a blue background --seed 7 --steps 5"
FROG = "a frog on a purple background --seed 7 --steps 5"


def png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def right_white(width: int = SIDE, height: int = SIDE) -> bytes:
    """Black on the left, white on the right: as a JPEG, which Telegram makes of a photo, the same
    bit for bit."""
    image = Image.new("RGB", (width, height))
    image.paste("white", (width // 2, 0, width, height))
    return png(image)


BROUGHT = right_white()
WHITE = np.asarray(Image.open(io.BytesIO(BROUGHT)))[..., 0] > 0


@dataclass(frozen=True)
class Way:
    """What is asked for: a command and its words, with one's own picture by its number, an address,
    and what is sent along."""

    command: str
    words: str
    own: bool = False
    sends: tuple[bytes, ...] = ()
    address: str = ""

    @property
    def draws(self) -> bool:
        return BY_NAME[self.command].draws

    @property
    def given(self) -> dict[str, Any]:
        """The words as what a form fills in."""
        if self.draws:
            return split_flags(self.words)[0]
        return {BY_NAME[self.command].takes[1].name: self.words}


@dataclass
class Chat:
    """One person in one chat, with a picture that was drawn there."""

    name: str
    chats: Everywhere
    number: int = 0

    @property
    def drawqueue(self) -> Running:
        return self.chats.drawqueue

    def send(self, way: Way) -> Any:
        """Ask for something."""
        raise NotImplementedError

    def refused(self, way: Way) -> str:
        """The one answer to what cannot be."""
        raise NotImplementedError

    def card(self, number: int) -> Any:
        """The card of a generation in this chat, once it says that it is done."""
        raise NotImplementedError

    def picture(self, number: int) -> np.ndarray:
        """The picture of a generation as this chat has it."""
        return np.asarray(Image.open(io.BytesIO(self._bytes(self.card(number)))).convert("RGB"))

    def _bytes(self, card: Any) -> bytes:
        raise NotImplementedError

    def said(self, number: int) -> str:
        """The line that tells what became of it."""
        return json.dumps(self.card(number), ensure_ascii=False)

    def press(self, number: int, label: str) -> None:
        raise NotImplementedError

    def asked(self, act: Callable[[], Any]) -> int:
        """The number of what came of something done."""
        before = self.drawqueue.rows().keys()
        act()
        (made,) = self.chats.discord.until(lambda: self.drawqueue.rows().keys() - before)
        return int(made)

    def paint(self) -> str:
        """The address of the page with the brush for one's picture."""
        raise NotImplementedError


class OnDiscord(Chat):
    @property
    def discord(self) -> Discord:
        return self.chats.discord

    def send(self, way: Way) -> str:
        if not way.draws:
            return self.discord.command(way.command, id=str(self.number), **way.given)
        # Typed with flags, as most do.
        options: dict[str, Any] = {"prompt": f"{way.address} {way.words}".strip()}
        names = [option.name for option in BY_NAME[way.command].pictures]
        if len(way.sends) > len(names):
            # A slash command has no room for them: their numbers have.
            numbers = " ".join([str(self.number)] * len(way.sends))
            return self.discord.command(way.command, **options, source=numbers)
        if way.own:
            options["source"] = str(self.number)
            names = names[1:] if way.command == "inpaint" else names
        options |= {name: raw(data) for name, data in zip(names, way.sends, strict=False)}
        return self.discord.command(way.command, **options)

    def refused(self, way: Way) -> str:
        asked = self.send(way)

        def spoken() -> bool:
            told = self.discord.answers(asked)
            return bool(told) and not any(one["loading"] for one in told)

        self.discord.until(spoken)
        told = self.discord.only_answer(asked)
        assert told["ephemeral"]
        # As it is seen: what would be Markdown stands behind a backslash.
        return str(told["content"]).replace("\\", "")

    def _message(self, number: int) -> Any:
        def find() -> Any:
            for message in reversed(self.discord.messages()):
                told = json.dumps(message["versions"][-1]["embeds"])
                if f'"#{number} ' in told and "done" in message["versions"][-1]["content"]:
                    return message
            return None

        return self.discord.until(find)

    def card(self, number: int) -> Any:
        return self._message(number)["versions"][-1]

    def _bytes(self, card: Any) -> bytes:
        (file,) = card["attachments"]
        return httpx.get(file["url"]).content

    def press(self, number: int, label: str) -> None:
        self.discord.press(self._message(number)["id"], label)

    def paint(self) -> str:
        told = self.discord.only_answer(self.discord.command("paint", id=str(self.number)))
        assert told["ephemeral"], "the link is theirs alone"
        return address_in(told["content"])


class OnTelegram(Chat):
    @property
    def telegram(self) -> Telegram:
        return self.chats.telegram

    def _message(self, number: int) -> Any:
        def find() -> Any:
            for message in reversed(self.telegram.messages()):
                lines = shown(message["versions"][-1]).splitlines()
                if any(line.startswith(f"#{number} · ") for line in lines):
                    return message if any("done" in line for line in lines) else None
            return None

        return self.telegram.until(find)

    def send(self, way: Way) -> None:
        line = f"/{way.command} {way.words}"
        line += f" --from {way.address}" if way.address else ""
        to: dict[str, Any] = {}
        if way.own or not way.draws:
            to = {"reply_to_message_id": self._message(self.number)["message_id"]}
        if not way.sends:
            self.telegram.say(line, **to)
            return
        if len(way.sends) > 1:
            to["media_group_id"] = line
        for at, data in enumerate(way.sends):
            self.telegram.send(data, "" if at else line, **to)

    def refused(self, way: Way) -> str:
        return shown(self.telegram.only(lambda: self.send(way)))

    def card(self, number: int) -> Any:
        return self._message(number)["versions"][-1]

    def _bytes(self, card: Any) -> bytes:
        file = card["photo"]["file_id"]
        return self.telegram.door.get("/control/file", params={"file_id": file}).content

    def press(self, number: int, label: str) -> None:
        assert self.telegram.press(self._message(number), label) == ""

    def paint(self) -> str:
        to = {"reply_to_message_id": self._message(self.number)["message_id"]}
        return address_in(shown(self.telegram.only_answer("/paint", **to)))


class OnWeb(Chat):
    """By the JSON interface, field by field."""

    def _upload(self, data: bytes) -> str:
        kind = {"Content-Type": "image/png"}
        told = self.drawqueue.client.post("/api/uploads", content=data, headers=kind)
        assert told.status_code == 201, told.text
        return str(told.json()["id"])

    def send(self, way: Way) -> httpx.Response:
        given, images = way.given, [self._upload(data) for data in way.sends]
        body: dict[str, Any] = {"type": way.command, "prompt": given.pop("prompt", "")}
        if way.command == "inpaint" and way.own and images:
            body["mask"] = images.pop()
        first = [str(self.number)] if way.own or not way.draws else []
        body |= {"parameters": given, "images": [*first, *filter(None, [way.address]), *images]}
        return self.drawqueue.client.post("/api/jobs", json=body)

    def refused(self, way: Way) -> str:
        answer = self.send(way)
        assert 400 <= answer.status_code < 500
        return str(answer.json()["error"])

    def card(self, number: int) -> Any:
        return self.drawqueue.until(number, "done")

    def _bytes(self, card: Any) -> bytes:
        return self.drawqueue.client.get(card["results"][0]["url"]).content

    def press(self, number: int, label: str) -> None:
        answer = self.drawqueue.client.post(f"/api/jobs/{number}/{label.lower()}")
        assert answer.status_code == 202, answer.text

    def paint(self) -> str:
        line = {"text": f"/paint {self.number}"}
        told = self.drawqueue.client.post("/api/chat", json=line).json()["text"]
        (path,) = re.findall(r"/paint/\S+", told)
        return f"{self.drawqueue.address}{path}"


class InAWebLine(OnWeb):
    """By a line in the web chat, with pictures beside it."""

    def send(self, way: Way) -> httpx.Response:
        text = f"/{way.command} {way.words}"
        if not way.draws:
            text = f"/{way.command} {self.number} {way.words}"
        elif way.own:
            text += f" --from {self.number}"
        if way.address:
            text = f"{way.address} {way.words}"
        images = [self._upload(data) for data in way.sends]
        return self.drawqueue.client.post("/api/chat", json={"text": text, "images": images})


def address_in(words: str) -> str:
    (found,) = re.findall(r"https?://\S+", words)
    return str(found)


class Site(BaseHTTPRequestHandler):
    """A site that has one picture."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(BROUGHT)))
        self.end_headers()
        self.wfile.write(BROUGHT)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/picture"
    server.shutdown()
    server.server_close()


def lora(path: Path, wide: int) -> None:
    """A LoRA's file, as far as its header, that was learned with a text so wide."""
    layer = {"unet.mid_block.attn2.to_k.lora_A.weight": {
        "dtype": "F32", "shape": [4, wide], "data_offsets": [0, 16 * wide],
    }}  # fmt: skip
    header = json.dumps(layer).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(16 * wide))


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Chat]]:
    """People in every chat, each with a crown of their own."""
    folder = tmp_path_factory.mktemp("ways")
    for name in ("loras", "lists"):
        (folder / name).mkdir()
    lora(folder / "loras" / "oils.safetensors", 2048)
    (folder / "lists" / "colour.txt").write_text("red\ngreen\nblue\n")
    (folder / "policy.toml").write_text('[words]\nrefuse = ["gory"]')
    with everywhere(
        folder, DRAWQUEUE_MODEL=f"{STARTER},pattern", DRAWQUEUE_FETCH_HOSTS="127.0.0.1",
        DRAWQUEUE_LORAS=str(folder / "loras"), DRAWQUEUE_WILDCARDS=str(folder / "lists"),
        DRAWQUEUE_POLICY=str(folder / "policy.toml"),
    ) as chats:  # fmt: skip
        limits = {"messages": [50, 5.0], "webhooks": [50, 2.0]}
        chats.discord.door.post("/control/limits", json=limits)
        made: list[Chat] = [
            OnDiscord("discord", chats), OnTelegram("telegram", chats), OnWeb("web", chats),
            InAWebLine("line", chats),
        ]  # fmt: skip
        for place, one in enumerate(made):
            # The same picture drawn by each, and none answered from the storage: without chaos the
            # subseed means nothing.
            way = Way("imagine", f"{CROWN} --chaos 0 --subseed {place}")
            one.number = one.asked(partial(one.send, way))
        for one in made:
            one.card(one.number)
        yield made


@dataclass(frozen=True)
class Drawn:
    """What a row says, its pictures by what they show, and where it came of."""

    request: Request
    parent: int | None
    platform: str
    reused: bool


def row(chat: Chat, number: int) -> Drawn:
    with chat.drawqueue.database() as database, database.read() as connection:
        found = connection.execute(select(generations).where(generations.c.id == number)).one()
    media = chat.drawqueue.home / "media"

    def looks(key: str) -> str:
        return hashlib.sha256(Image.open(media / key).convert("RGB").tobytes()).hexdigest()

    wish = Request.read(found.request)
    seen = replace(
        wish, sources=tuple(map(looks, wish.sources)), mask=wish.mask and looks(wish.mask)
    )
    return Drawn(
        seen, found.parent, found.platform, any(one.get("reused") for one in found.results)
    )  # fmt: skip


def asked_everywhere(ways: list[Chat], way: Way) -> list[int]:
    return [one.asked(partial(one.send, way)) for one in ways]


def alike(
    ways: list[Chat], numbers: list[int], *, brought: bool = False
) -> tuple[Request, list[np.ndarray]]:
    """What was understood on every chat, and the pictures there.

    The same pictures `brought` again, and no others, may be the same request, which is drawn once.
    """
    pictures = [one.picture(number) for one, number in zip(ways, numbers, strict=True)]
    rows = [row(one, number) for one, number in zip(ways, numbers, strict=True)]
    # What is made larger keeps by what its picture was made: here the crowns were asked for apart.
    assert len({replace(one.request, subseed=-1) for one in rows}) == 1, "understood alike"
    assert [one.platform for one in rows] == ["discord", "telegram", "web", "web"][: len(ways)]
    assert brought or not any(one.reused for one in rows), "each was drawn"
    return rows[0].request, pictures


def far(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(float) - other.astype(float)).mean())


def small(picture: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS))


def brought_shows(crown: np.ndarray, drawn: np.ndarray) -> None:
    """What was brought is seen in it, and is not all of it."""
    assert drawn[WHITE].mean() > drawn[~WHITE].mean() + 60
    assert far(drawn, np.where(WHITE[..., None], 255, 0)) > 10


def remixed(crown: np.ndarray, drawn: np.ndarray) -> None:
    assert 4 < far(drawn, crown) < 90


def painted(crown: np.ndarray, drawn: np.ndarray) -> None:
    assert np.array_equal(drawn[~WHITE], crown[~WHITE]), "what is black stays, bit for bit"
    assert far(drawn[WHITE], crown[WHITE]) > 20


def zoomed(crown: np.ndarray, drawn: np.ndarray) -> None:
    assert drawn.shape == crown.shape
    inner, reach = round(SIDE / 1.5), 10
    at = (SIDE - inner) // 2
    kept = small(crown, inner)[reach:-reach, reach:-reach]
    inside = slice(at + reach, at + inner - reach)
    assert np.array_equal(drawn[inside, inside], kept), "smaller, in the middle"


def panned(crown: np.ndarray, drawn: np.ndarray) -> None:
    assert drawn.shape == (SIDE, SIDE * 3 // 2, 3), "half as wide again"
    reach = SIDE // 2 + 10
    assert np.array_equal(drawn[:, reach:], crown[:, 10:]), "and the picture at the right"


def both(crown: np.ndarray, drawn: np.ndarray) -> None:
    brought = np.where(WHITE[..., None], 255, 0) + np.zeros_like(crown)
    between = far(crown, brought)
    assert 3 < far(drawn, crown) < between and 3 < far(drawn, brought) < between
    lighter = drawn.astype(float) - crown
    assert lighter[WHITE].mean() > lighter[~WHITE].mean() + 10, "where the other is white"


def larger(factor: int) -> Callable[[np.ndarray, np.ndarray], None]:
    def check(crown: np.ndarray, drawn: np.ndarray) -> None:
        assert drawn.shape == (SIDE * factor, SIDE * factor, 3)
        assert far(small(drawn, SIDE), crown) < 6

    return check


WAYS: dict[str, tuple[Way, Mode, Callable[[np.ndarray, np.ndarray], None]]] = {
    "a number": (Way("remix", f"{FROG} --strength 0.5", own=True), Mode.REMIX, remixed),
    "sent along": (
        Way("remix", f"{FROG} --strength 0.2", sends=(BROUGHT,)), Mode.REMIX, brought_shows,
    ),
    "an address": (
        Way("imagine", f"{FROG} --strength 0.2", address="there"), Mode.REMIX, brought_shows,
    ),
    "a mask": (Way("inpaint", FROG, own=True, sends=(BROUGHT,)), Mode.INPAINT, painted),
    "zoom": (Way("inpaint", f"{CROWN} --zoom 1.5", own=True), Mode.INPAINT, zoomed),
    "pan": (Way("inpaint", f"{CROWN} --pan left", own=True), Mode.INPAINT, panned),
    "blend": (
        Way("blend", f"{CROWN} --strength 0.2", own=True, sends=(BROUGHT,)), Mode.BLEND, both,
    ),
    "upscale 2": (Way("upscale", "2"), Mode.UPSCALE, larger(2)),
    "upscale 4": (Way("upscale", "4"), Mode.UPSCALE, larger(4)),
}  # fmt: skip


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=[pytest.mark.slow] if name == "upscale 4" else []) for name in WAYS
])  # fmt: skip
def test_one_way_makes_one_picture_on_all_chats(ways: list[Chat], name: str, site: str) -> None:
    way, mode, check = WAYS[name]
    way = replace(way, address=site) if way.address else way
    numbers = asked_everywhere(ways, way)
    brought = not way.own and bool(way.sends or way.address)
    wish, pictures = alike(ways, numbers, brought=brought)
    assert wish.mode == mode and wish.seed == 7
    assert "http" not in wish.prompt
    assert all(np.array_equal(one, pictures[0]) for one in pictures), "bit for bit"
    check(ways[0].picture(ways[0].number), pictures[0])
    for one, number in zip(ways, numbers, strict=True):
        assert row(one, number).parent == (one.number if way.own or not way.draws else None)


def test_variations_are_near_or_far_on_all_chats(ways: list[Chat]) -> None:
    # Of few words much is open, and so a variation of them.
    numbers = asked_everywhere(ways, Way("imagine", "a frog --seed 7 --steps 8"))
    ways = [replace(one, number=number) for one, number in zip(ways, numbers, strict=True)]
    old = ways[-1].picture(numbers[-1])
    for one in ways:
        one.card(one.number)
    distances = {}
    for how, strength in (("subtle", 0.35), ("strong", 0.65)):
        numbers = asked_everywhere(ways, Way("vary", how))
        # Each is another, by a seed of its own.
        rows = [row(one, number) for one, number in zip(ways, numbers, strict=True)]
        assert len({one.request.seed for one in rows}) == len(ways)
        assert len({replace(one.request, seed=0) for one in rows}) == 1, "but for that alike"
        assert (rows[0].request.mode, rows[0].request.strength) == (Mode.REMIX, strength)
        assert [one.parent for one in rows] == [one.number for one in ways]
        distances[how] = [
            far(one.picture(number), old) for one, number in zip(ways, numbers, strict=True)
        ]
    assert min(distances["subtle"]) > 0
    # By chance a strong one comes out near.
    assert 1.2 * mean(distances["subtle"]) < mean(distances["strong"])


@pytest.mark.skipif(not CHROMIUM, reason="NO BROWSER: install chromium, page NOT tested")
def test_what_is_painted_by_a_link_comes_back_to_its_chat(
    ways: list[Chat], browser: Browser
) -> None:
    numbers = []
    for one in ways[:3]:
        address = one.paint()
        assert httpx.get(f"{address}/picture").headers["content-type"] == "image/png"
        with browser.new_context(viewport={"width": 390, "height": 800}) as context:
            page = context.new_page()
            page.goto(address)
            stroke(page, (0.3, 0.4), (0.7, 0.4))
            numbers.append(one.asked(partial(send_words, page, FROG)))
            expect(page.get_by_role("status")).to_contain_text("in the chat" if one.name != "web"
                                                               else "is in line")  # fmt: skip
    # A card in that chat, and nowhere else.
    wish, pictures = alike(ways[:3], numbers)
    assert wish.mode == Mode.INPAINT and wish.mask
    crown = ways[0].picture(ways[0].number)
    assert all(np.array_equal(one, pictures[0]) for one in pictures), "bit for bit"
    middle, edge = slice(44, 58), slice(90, 128)
    assert np.array_equal(pictures[0][edge], crown[edge])
    assert far(pictures[0][middle, 44:84], crown[middle, 44:84]) > 15


def test_what_was_drawn_before_is_answered_at_once_and_its_buttons_go_on(ways: list[Chat]) -> None:
    """A wildcard, the storage, U1 and V1: of one grid in three chats."""
    way = Way("imagine", "a __colour__ star --seed 7 --steps 4 --count 2")
    grids = []
    for one in ways[:3]:
        grids.append(one.asked(partial(one.send, way)))
        # The next one asks for what is drawn by now.
        said = one.said(grids[-1])
        assert ("at once: this was drawn before" in said) == (one is not ways[0]), said
    rows = [row(one, number) for one, number in zip(ways, grids, strict=False)]
    assert len({one.request for one in rows}) == 1
    assert re.fullmatch("a (red|green|blue) star", rows[0].request.prompt)
    assert [one.reused for one in rows] == [False, True, True]
    first = ways[2].picture(grids[2])
    varied = []
    for one, grid in zip(ways, grids, strict=False):
        picked = one.asked(partial(one.press, grid, "U1"))
        assert np.array_equal(one.picture(picked), first), "the first, in full"
        other = one.asked(partial(one.press, grid, "V1"))
        one.card(other)
        varied.append(row(one, other))
    looks = hashlib.sha256(first.tobytes()).hexdigest()
    for made, grid in zip(varied, grids, strict=True):
        assert made.request.sources == (looks,) and made.parent == grid
        wish = made.request
        assert (wish.mode, wish.strength, wish.count) == (Mode.REMIX, 0.65, 2)


BAD = {
    "a wildcard that is none": (
        Way("imagine", "a __color__ crown"), "Did you mean __colour__?",
    ),
    "a refused word": (Way("imagine", "a gory crown"), "does not draw “gory”"),
    "an unknown LoRA": (
        Way("imagine", "a crown --lora nope:0.5"),
        "There is no LoRA “nope”. For starter: blueprint.",
    ),
    "a LoRA of another family": (
        Way("imagine", "a crown --lora oils:0.5"),
        "The LoRA “oils” is for another model than starter.",
    ),
    "strength 2": (Way("remix", "a crown --strength 2", own=True), "from 0 to 1; got 2"),
    "a mask of another shape": (
        Way("inpaint", "a crown", own=True, sends=(right_white(64, 128),)),
        "The mask has another shape (64×128) than the picture (128×128).",
    ),
    "five where two fit": (
        Way("inpaint", "a crown", sends=(BROUGHT,) * 5), "/inpaint takes 2 pictures; got 5.",
    ),
    "only flags": (Way("imagine", "--seed 7 --steps 4"), "Write what to draw"),
    "beyond the cap": (
        Way("imagine", "{1,2,3,4,5,6,7} or {1,2,3,4,5,6,7}"),
        "These braces make 49 prompts; 40 is the most.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_is_one_clear_answer_on_all_chats(ways: list[Chat], name: str) -> None:
    way, words = BAD[name]
    before = ways[0].drawqueue.rows().keys()
    for one in ways:
        told = one.refused(way)
        assert words in told and "fault" not in told, (one.name, told)
    assert ways[0].drawqueue.rows().keys() == before, "nothing was queued"
