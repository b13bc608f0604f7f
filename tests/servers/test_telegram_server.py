"""The Telegram server refuses what the platform refuses, seen by the real client."""

import asyncio
import base64
import io
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from telegram import (
    Bot,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    InputMediaPhoto,
    Update,
)
from telegram.error import (
    BadRequest,
    ChatMigrated,
    Conflict,
    Forbidden,
    InvalidToken,
    NetworkError,
    RetryAfter,
    TelegramError,
)
from telegram.ext import ApplicationBuilder, CommandHandler

ROOT = Path(__file__).parent.parent.parent
ANN, GROUP = 42, -1001


class Platform:
    """A running server and its control door."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.http = httpx.Client(base_url=f"{address}/control", timeout=10)

    def do(self, name: str, **fields: Any) -> Any:
        answer = self.http.post(f"/{name}", json=fields)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def see(self, name: str, **query: Any) -> Any:
        return self.http.get(f"/{name}", params=query).json()

    def bot(self, token: str = "123:TEST") -> Bot:
        return Bot(token, f"{self.address}/bot", f"{self.address}/file/bot")

    def using(self, act: Callable[[Bot], Awaitable[None]]) -> None:
        async def run() -> None:
            async with self.bot() as bot:
                await act(bot)

        asyncio.run(run())


@pytest.fixture
def platform() -> Iterator[Platform]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.servers.telegram_server", "--port", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    made = Platform(process.stdout.readline().split()[1])
    made.do("user_message", chat_id=ANN, user_id=ANN, first_name="Ann", text="/start")
    made.do("limits", private_per_second=None)
    yield made
    made.http.close()
    process.terminate()
    assert process.wait(5) == 0
    process.stdout.close()


def picture(width: int = 64, height: int = 48) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(data, "PNG")
    return data.getvalue()


def keys(data: str = "go") -> InlineKeyboardMarkup:
    return InlineKeyboardMarkup([[InlineKeyboardButton("Go", callback_data=data)]])


def test_unknown_methods_and_tokens(platform: Platform) -> None:
    answer = httpx.get(f"{platform.address}/bot123:TEST/sendNonsense")
    assert (answer.status_code, answer.json()["description"]) == (404, "Not Found")

    async def act() -> None:
        with pytest.raises(InvalidToken):
            await platform.bot("123:WRONG").initialize()

    asyncio.run(act())


def test_unconfirmed_updates_come_again(platform: Platform) -> None:
    async def act(bot: Bot) -> None:
        first = await bot.get_updates()
        assert first[0].message and first[0].message.entities[0].type == "bot_command"
        assert await bot.get_updates() == first
        assert not await bot.get_updates(offset=first[0].update_id + 1)
        platform.do("redeliver", update_id=first[0].update_id)
        assert await bot.get_updates() == first
        older = asyncio.create_task(bot.get_updates(timeout=20))
        await asyncio.sleep(0.2)
        async with platform.bot() as other:
            newer = asyncio.create_task(other.get_updates(timeout=20))
            with pytest.raises(Conflict):
                await older
            platform.do("user_message", chat_id=ANN, user_id=ANN, text="a cat")
            [update] = await newer
        assert update.message and update.message.text == "a cat"

    platform.using(act)


def test_texts_and_edits(platform: Platform) -> None:
    async def refused(what: str, call: Awaitable[Any]) -> None:
        with pytest.raises(BadRequest) as caught:
            await call
        assert what.lower() in str(caught.value).lower()

    async def act(bot: Bot) -> None:
        sent = await bot.send_message(
            ANN, "<b>ö😀</b> &lt;x", parse_mode="HTML", reply_markup=keys()
        )
        assert sent.text == "ö😀 <x"
        assert (sent.entities[0].type, sent.entities[0].length) == ("bold", 3)
        again = bot.edit_message_text(
            "<b>ö😀</b> &lt;x", ANN, sent.id, parse_mode="HTML", reply_markup=keys()
        )
        await refused("message is not modified", again)
        await refused("message to edit not found", bot.edit_message_text("x", ANN, 999))
        await refused(
            "message to be replied not found", bot.send_message(ANN, "x", reply_to_message_id=999)
        )
        await refused("text is empty", bot.send_message(ANN, " "))
        await refused("message is too long", bot.send_message(ANN, "x" * 4097))
        await bot.send_message(ANN, "<i>" + "x" * 4096 + "</i>", parse_mode="HTML")
        for broken in ("<b>x", "x</b>", "a < b", "a & b", "<b><i>x</b></i>", "<font>x</font>"):
            await refused("can't parse entities", bot.send_message(ANN, broken, parse_mode="HTML"))
        for data in ("", "é" * 33):
            await refused(
                "button_data_invalid", bot.send_message(ANN, "x", reply_markup=keys(data))
            )
        await bot.send_message(ANN, "x", reply_markup=keys("x" * 64))
        await refused("thread not found", bot.send_message(ANN, "x", message_thread_id=1))
        await refused("chat not found", bot.send_message(777, "x"))

    platform.using(act)


def test_pictures(platform: Platform) -> None:
    async def act(bot: Bot) -> None:
        for width, height in ((9000, 1001), (210, 10)):
            with pytest.raises(BadRequest, match=r"(?i)photo_invalid_dimensions"):
                await bot.send_photo(ANN, picture(width, height))
        with pytest.raises(BadRequest, match=r"(?i)image_process_failed"):
            await bot.send_photo(ANN, b"not a picture")
        with pytest.raises(BadRequest, match=r"(?i)caption is too long"):
            await bot.send_photo(ANN, picture(), caption="x" * 1025)
        text = await bot.send_message(ANN, "drawing")
        media = InputMediaPhoto(picture(), caption="<b>done</b>", parse_mode="HTML")
        turned = await bot.edit_message_media(media, ANN, text.id, reply_markup=keys())
        assert not isinstance(turned, bool)
        assert (turned.photo[-1].width, turned.photo[-1].height) == (64, 48)
        assert turned.caption == "done"
        seen = platform.see("messages", chat_id=ANN)["messages"][-1]
        assert seen["text_became_media"] and [v["kind"] for v in seen["versions"]] == [
            "text",
            "photo",
        ]
        with pytest.raises(BadRequest, match=r"(?i)no text in the message"):
            await bot.edit_message_text("x", ANN, text.id)
        file_id = turned.photo[-1].file_id
        resent = await bot.send_photo(ANN, file_id)
        assert resent.photo == turned.photo
        data = await (await bot.get_file(file_id)).download_as_bytearray()
        assert Image.open(io.BytesIO(data)).size == (64, 48)
        assert platform.http.get("/file", params={"file_id": file_id}).content == picture()
        album = await bot.send_media_group(ANN, [InputMediaPhoto(picture()) for _ in range(3)])
        assert len({m.media_group_id for m in album}) == 1
        document = await bot.send_document(ANN, b"text", filename="a.txt")
        assert document.document
        with pytest.raises(BadRequest, match=r"(?i)can't use file of type"):
            await bot.send_photo(ANN, document.document.file_id)
        photo = base64.b64encode(picture()).decode()
        platform.do("photo_message", chat_id=ANN, user_id=ANN, photo=photo, caption="/imagine x")
        update = (await bot.get_updates())[-1]
        assert update.message and update.message.caption_entities[0].type == "bot_command"

    platform.using(act)


def test_rates(platform: Platform) -> None:
    platform.do("limits", private_per_second=1)
    platform.do(
        "user_message", chat_id=GROUP, chat_type="supergroup", user_id=ANN, text="/imagine x"
    )

    async def act(bot: Bot) -> None:
        for chat, count in ((ANN, 5), (GROUP, 20)):
            for _ in range(count):
                await bot.send_message(chat, "x")
            with pytest.raises(RetryAfter) as caught:
                await bot.send_message(chat, "x")
            assert 1 <= int(caught.value._retry_after.total_seconds()) <= 60
            platform.do("clock", advance=60)
            await bot.send_message(chat, "x")

    platform.using(act)


def test_presses(platform: Platform) -> None:
    async def act(bot: Bot) -> None:
        sent = await bot.send_message(ANN, "x", reply_markup=keys())
        wrong = {"chat_id": ANN, "message_id": sent.id, "user_id": ANN, "callback_data": "no"}
        assert platform.http.post("/press", json=wrong).status_code == 400
        press = {"chat_id": ANN, "message_id": sent.id, "user_id": ANN, "button": "Go"}
        query = platform.do("press", **press)["callback_query_id"]
        update = (await bot.get_updates())[-1]
        assert update.callback_query and update.callback_query.data == "go"
        await update.callback_query.answer("Going")
        assert platform.do("callback_answer", id=query)["answer"]["text"] == "Going"
        late = platform.do("press", **press)["callback_query_id"]
        platform.do("clock", advance=901)
        for id in (late, "unknown"):
            with pytest.raises(BadRequest, match=r"(?i)query is too old"):
                await bot.answer_callback_query(id)

    platform.using(act)


def test_chats_and_faults(platform: Platform) -> None:
    platform.do("chat", chat_id=-5, type="group", title="Old", admins=[7])
    platform.do("chat", chat_id=GROUP, type="supergroup", admins=[7], topics=[9], is_forum=True)

    async def act(bot: Bot) -> None:
        assert (await bot.send_message(GROUP, "x", message_thread_id=9)).is_topic_message
        assert (await bot.get_chat(GROUP)).is_forum
        assert (await bot.get_chat_member(GROUP, 7)).status == "creator"
        assert len(await bot.get_chat_administrators(GROUP)) == 1
        to = platform.do("migrate", chat_id=-5)["migrate_to_chat_id"]
        with pytest.raises(ChatMigrated) as moved:
            await bot.send_message(-5, "x")
        assert moved.value.new_chat_id == to
        for fault in ({"status": 502}, {"status": "drop", "after_applying": True}):
            platform.do("fail", method="sendMessage", **fault)
            with pytest.raises(NetworkError):
                await bot.send_message(ANN, "once")
        texts = [m.get("text") for m in platform.see("messages", chat_id=ANN)["messages"]]
        assert texts.count("once") == 1
        platform.do("block", chat_id=ANN)
        with pytest.raises(Forbidden, match=r"(?i)blocked by the user"):
            await bot.send_message(ANN, "x")
        platform.do("kick", chat_id=GROUP)
        with pytest.raises(Forbidden, match=r"(?i)kicked from the supergroup"):
            await bot.send_message(GROUP, "x")
        await bot.set_my_commands([("imagine", "Draw")])
        assert (await bot.get_my_commands())[0].command == "imagine"
        assert platform.see("commands")[0]["commands"][0]["description"] == "Draw"
        assert platform.see("calls", method="setMyCommands")[0]["status"] == 200
        await bot.set_my_commands([("imagine", "Zeichnen")], language_code="de")
        german, others = await bot.get_my_commands(language_code="de"), await bot.get_my_commands()
        assert (german[0].description, others[0].description) == ("Zeichnen", "Draw")
        with pytest.raises(BadRequest, match=r"(?i)invalid language code specified"):
            await bot.set_my_commands([("imagine", "Zeichnen")], language_code="de-AT")
        updates = await bot.get_updates()
        assert [u.my_chat_member.new_chat_member.status for u in updates if u.my_chat_member] == [
            "kicked",
            "kicked",
        ]

    platform.using(act)


def test_an_application_polls(platform: Platform) -> None:
    async def imagine(update: Update, context: Any) -> None:
        assert update.message
        await update.message.reply_text(" ".join(context.args))

    async def run() -> None:
        built = ApplicationBuilder().token("123:TEST").base_url(f"{platform.address}/bot").build()
        built.add_handler(CommandHandler("imagine", imagine))
        async with built:
            assert built.updater
            await built.updater.start_polling(timeout=5)
            await built.start()
            text = "/imagine@drawqueue_test_bot a cat"
            for said in (text, "not for the bot", "/imagine@other_bot x"):
                platform.do("user_message", chat_id=GROUP, user_id=ANN, text=said)
            for _ in range(50):
                await asyncio.sleep(0.05)
                messages = platform.see("messages", chat_id=GROUP)["messages"]
                if messages[-1].get("text") == "a cat":
                    break
            assert messages[-1]["from_bot"] and messages[-1]["text"] == "a cat"
            await built.updater.stop()
            await built.stop()

    asyncio.run(run())


def test_a_webhook_gets_updates_until_it_accepts(platform: Platform) -> None:
    got: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.readuntil(b"\r\n\r\n"))
        status = "200 OK" if len(got) > 1 else "500 No"
        writer.write(
            f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
        )
        await writer.drain()
        writer.close()

    async def act(bot: Bot) -> None:
        hook = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = hook.sockets[0].getsockname()[1]
        await bot.set_webhook(f"http://127.0.0.1:{port}/in", secret_token="open-sesame")
        with pytest.raises(TelegramError, match=r"(?i)webhook is active"):
            await bot.get_updates()
        for _ in range(60):
            await asyncio.sleep(0.05)
            if not (info := await bot.get_webhook_info()).pending_update_count:
                break
        assert info.pending_update_count == 0 and info.last_error_message
        assert len(got) == 2 and b"open-sesame" in got[1]
        hook.close()

    platform.using(act)


def coded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_what_people_send(platform: Platform) -> None:
    def refused(name: str, **fields: Any) -> str:
        answer = platform.http.post(f"/{name}", json={"chat_id": ANN, "user_id": ANN, **fields})
        assert answer.status_code == 400
        return str(answer.json()["error"])

    def send(name: str, **fields: Any) -> None:
        platform.do(name, chat_id=ANN, user_id=ANN, **fields)

    async def act(bot: Bot) -> None:
        send("photo_message", photo=coded(picture(900, 600)))
        film = {"file_name": "x.mp4", "thumbnail": coded(picture())}
        send("file_message", kind="animation", data=coded(b"film"), caption="moves", **film)
        send("file_message", kind="sticker", data=coded(picture()), more={"is_video": True})
        send("file_message", kind="voice", data=coded(b"hum"), mime_type="audio/ogg")
        send("file_message", kind="video", data=coded(b"film"), **film)
        send("file_message", kind="document", size=21_000_000, file_name="big.png")
        sent = [one.message for one in await bot.get_updates()][1:]
        photo, animation, sticker, voice, video, document = sent
        sizes = [(one.width, one.height) for one in photo.photo]
        assert sizes == [(90, 60), (320, 213), (800, 533), (900, 600)]
        assert animation.animation.mime_type == "video/mp4" and animation.caption == "moves"
        # One file is both, as for bots of before there were animations.
        assert animation.document.file_id == animation.animation.file_id
        assert animation.animation.thumbnail.width == 64 and animation.animation.duration == 2
        assert sticker.sticker.is_video and not sticker.sticker.is_animated
        assert voice.voice.mime_type == "audio/ogg" and video.video.thumbnail
        assert document.document.mime_type == "image/png"
        with pytest.raises(BadRequest, match=r"(?i)file is too big"):
            await bot.get_file(document.document.file_id)
        with pytest.raises(BadRequest, match=r"(?i)wrong file_id"):
            await bot.get_file("AgACnone")
        send("forward", from_chat_id=ANN, message_id=animation.message_id)
        [update] = await bot.get_updates(offset=-1)
        assert update.message and update.message.forward_origin and update.message.animation
        there = {"chat_id": ANN, "message_id": photo.message_id}
        send("user_message", text="a fox", external_reply_to=there)
        [update] = await bot.get_updates(offset=-1)
        told = update.message and update.message.external_reply
        assert told and told.origin.type == "user" and told.photo == photo.photo

    platform.using(act)
    assert "caption" in refused("file_message", kind="sticker", data="eA==", caption="x")
    assert "empty" in refused("file_message", kind="document")
    assert "no such kind" in refused("file_message", kind="song", data="eA==")
    assert "no Voice has" in refused("file_message", kind="voice", data="eA==", more={"width": 1})
    send("photo_message", photo=coded(picture()), media_group_id="7")
    document = {"kind": "document", "data": "eA==", "media_group_id": "7"}
    assert "by themselves" in refused("file_message", **document)
    for _ in range(9):
        send("photo_message", photo=coded(picture()), media_group_id="7")
    assert "no room" in refused("photo_message", photo=coded(picture()), media_group_id="7")


def test_a_path_leads_to_its_file_for_an_hour(platform: Platform) -> None:
    async def act(bot: Bot) -> None:
        platform.do("photo_message", chat_id=ANN, user_id=ANN, photo=coded(picture()))
        [update] = await bot.get_updates(offset=-1)
        assert update.message
        file = update.message.photo[-1].file_id
        unasked = f"{platform.address}/file/bot123:TEST/photos/file_{int(file[-9:])}.jpg"
        assert httpx.get(unasked).status_code == 404, "a path is had by asking for it"
        found = await bot.get_file(file)
        assert found.file_path == unasked
        assert len(await found.download_as_bytearray()) == found.file_size
        platform.do("fail", method="file", status=200)
        assert await found.download_as_bytearray() == b""
        platform.do("fail", method="file", status=429, retry_after=3)
        with pytest.raises(RetryAfter):
            await found.download_as_bytearray()
        platform.do("fail", method="file", status=502, page=True)
        assert "123:TEST" in httpx.get(unasked).text
        platform.do("clock", advance=3601)
        with pytest.raises(InvalidToken, match="Not Found"):
            await found.download_as_bytearray()
        again = await bot.get_file(file)
        assert await again.download_as_bytearray()
        seen = platform.see("calls", method="file")
        assert [one["status"] for one in seen] == [404, 200, 200, 429, 502, 404, 200]

    platform.using(act)


def test_in_a_group_a_picture_is_seen_when_its_caption_is_a_command(platform: Platform) -> None:
    def sent(**fields: Any) -> Any:
        photo = coded(picture())
        told = platform.do("photo_message", chat_id=GROUP, user_id=ANN, photo=photo, **fields)
        return told["update_id"]

    assert sent() is None and sent(caption="a fox") is None
    assert sent(caption="/remix@another_bot a fox") is None
    assert sent(caption="/remix a fox")

    async def act(bot: Bot) -> None:
        card = await bot.send_message(GROUP, "a card", reply_markup=keys())
        assert sent(caption="a fox", reply_to_message_id=card.id)
        [update] = await bot.get_updates(offset=-1)
        assert update.message and update.message.reply_to_message
        told = update.message.reply_to_message.reply_markup
        assert told and told.inline_keyboard[0][0].callback_data == "go"

    platform.using(act)
