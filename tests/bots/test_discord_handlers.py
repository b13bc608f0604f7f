"""The Discord handlers in process: simcord plays Discord, everything else is real."""

import asyncio
import io
import re
import threading
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import discord
import pytest
import simcord
from PIL import Image
from sqlalchemy import event, func, select

from bots.discord_chat import Backoff, Bot
from core import catalog, settings
from core.commands import COMMANDS, MODERATORS
from core.database import generations, metadata
from core.house import House
from core.lifecycle import State
from core.rows import Generation


class Handlers(Bot):
    """The bot as it is, less the poster: that one speaks over the network, not to simcord."""

    async def setup_hook(self) -> None:
        await super().setup_hook()
        self._poster.cancel()


@dataclass
class Chat:
    """One guild with a channel, its people, and the house behind the bot."""

    runner: asyncio.Runner
    env: simcord.Env
    house: House
    database_free: threading.Event
    channel: simcord.ChannelHandle
    ann: simcord.MemberActor
    bob: simcord.MemberActor
    moderator: simcord.MemberActor
    role: int  # The moderators'.

    def do(self, what: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(what)

    def say(self, name: str, who: Any = None, **options: Any) -> simcord.InteractionResult:
        return self.do((who or self.ann).slash(self.channel, name, **options))

    def send_unchecked(self, **options: Any) -> simcord.InteractionResult:
        """/imagine from a client that lets everything through."""
        kinds = {str: 3, int: 4, float: 10}
        given = [{"name": n, "type": kinds[type(v)], "value": v} for n, v in options.items()]
        command = self.env.backend.find_command("imagine", None)
        data = {"id": command["id"], "name": "imagine", "type": 1, "options": given}
        return self.do(self.ann._dispatch_interaction(2, self.channel, data))

    def imagine(self, prompt: str = "a fox", who: Any = None) -> simcord.ResponseMessage:
        return self.say("imagine", who, prompt=prompt).response

    def press(self, card: Any, label: str, who: Any = None) -> None:
        self.do((who or self.ann).click(card, label=label))

    def seen(self, who: Any, channel: Any = None) -> list[discord.Message]:
        return (channel or self.channel).history(viewer=who)

    def only_answer(self, before: int = 0, who: Any = None) -> str:
        """The words of the one message that came, to this person alone."""
        mine = self.seen(who or self.ann)
        assert len(mine) == before + 1 and mine[-1].flags.ephemeral
        for other in {self.ann, self.bob, self.moderator} - {who or self.ann}:
            assert mine[-1].id not in {message.id for message in self.seen(other)}
        return mine[-1].content

    def claim(self, number: int) -> Generation:
        """What a worker does when RQ hands it the job."""
        queue = self.house.queue
        queue.redis.lrem(queue.draw.rq.key, 1, f"generation-{number}-1")
        claimed = self.house.generations.claim(number)
        assert claimed
        return claimed

    def draw(self, number: int) -> None:
        """What a worker does with a job, from its start to a picture."""
        claimed = self.claim(number)
        out = io.BytesIO()
        Image.new("RGB", (64, 64), "red").save(out, "PNG")
        key = self.house.media.save(number, "0.png", out.getvalue())
        assert self.house.generations.finish(claimed, [{"key": key}], 1.0)

    def state(self, number: int) -> State:
        return self.house.generations.get(number).state

    def rows(self) -> int:
        with self.house.database.read() as connection:
            return int(connection.execute(select(func.count(generations.c.id))).scalar_one())


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """Discord's people meet the same words on every database."""
    return f"sqlite:///{tmp_path / 'rows.sqlite3'}"


@pytest.fixture
def chat(house: House) -> Iterator[Chat]:
    free = threading.Event()
    free.set()
    event.listen(house.database.engine, "begin", lambda _connection: free.wait(5))
    with asyncio.Runner() as runner:
        env = simcord.Env(Handlers(house))
        guild = env.create_guild()
        role = guild.create_role("mods", permissions=discord.Permissions(manage_messages=True))

        def mended(name: str, payload: Any) -> None:
            # simcord leaves out who installed the bot, and still waits for a deferred answer that
            # was deleted, as Discord did until 2021 (discord/discord-api-docs#2739).
            if name == "INTERACTION_CREATE":
                payload["authorizing_integration_owners"] = {"0": payload.get("guild_id", "0")}
            if name == "MESSAGE_DELETE":
                for asked in env.backend.interactions.values():
                    if str(asked.message_id) == payload["id"]:
                        asked.complete_deferred()

        env.backend.subscribers.insert(0, mended)
        runner.run(env.start())
        yield Chat(
            runner, env, house, free, guild.create_text_channel("pictures"),
            guild.add_member(env.create_user("ann")), guild.add_member(env.create_user("bob")),
            guild.add_member(env.create_user("mia"), roles=[role]), int(role.id),
        )  # fmt: skip
        free.set()
        runner.run(env.shutdown())
        env._raise_errors_since(env._errors_acknowledged)


def test_queue_tells_ones_own_and_how_busy_it_is(chat: Chat) -> None:
    chat.imagine("a fox")
    chat.imagine("a secret", chat.bob)
    chat.imagine("a crown")
    first, second, all_ = chat.say("queue").response.content.split("\n")
    assert first.startswith("#1 queued (place 1") and first.endswith(": a fox")
    assert second.startswith("#3 queued (place 3") and second.endswith(": a crown")
    assert all_ == "In all: 3 queued, 0 running."
    chat.claim(1)
    told = chat.say("queue").response
    assert told.ephemeral and told.content.startswith("#1 generating: a fox\n#3 queued (place 2")
    assert told.content.endswith("In all: 2 queued, 1 running.")


def test_help_lists_every_command_that_can_be_called(chat: Chat) -> None:
    chat.say("help")
    words = chat.only_answer()
    listed = set(re.findall(r"^/(\w+)[^:\n]*: .", words, re.MULTILINE))
    (beside,) = re.findall(r"^Also: (.+)$", words, re.MULTILINE)
    listed |= set(re.findall(r"/(\w+)", beside))
    everybodys = {one.name for one in COMMANDS if not one.summary.startswith(MODERATORS)}
    assert listed == everybodys
    assert listed <= set(chat.ann.available_commands(chat.channel))
    assert "/help flags" in words and not words.endswith("…")
    chat.say("help", about="flags")
    assert "--seed: " in chat.only_answer(1)


def test_show_brings_ones_picture_again_for_all_to_see(chat: Chat) -> None:
    first = chat.imagine("a red square")
    chat.draw(1)
    shown = chat.say("show", id="#1").response
    assert shown.id != first.id and not shown.ephemeral
    assert "done in 1 s" in shown.content
    assert [embed.description for embed in shown.embeds] == ["a red square"]
    assert [file.filename.endswith(".png") for file in shown.attachments] == [True]
    chat.imagine("a newer one")
    assert chat.say("show").response.content.startswith("#2 queued")
    chat.draw(2)
    assert chat.say("show").response.embeds[0].description == "a newer one"


REFUSED = "Only the person who asked for this picture, or a moderator, can do that."


@pytest.mark.parametrize(("command", "id_", "words"), [
    ("show", "7", "There is no #7."),
    ("show", "1", "There is no #1 of yours."),
    ("show", "a fox",
     "Say which picture by its number, for example 12, or 12.2 for the second of several."),
    ("cancel", "7", "There is no #7."),
    ("cancel", "1", REFUSED),
    ("cancel", "2", "#2 is already done."),
    ("cancel", None, "You have nothing to cancel."),
])  # fmt: skip
def test_what_cannot_be_had(chat: Chat, command: str, id_: str | None, words: str) -> None:
    chat.imagine("somebody else's", chat.bob)
    chat.imagine("a finished one")
    chat.draw(2)
    chat.say(command, **({"id": id_} if id_ else {}))
    assert chat.only_answer(before=2) == words
    assert [chat.state(1), chat.state(2)] == ["queued", "done"]


def test_a_number_beyond_every_picture(chat: Chat) -> None:
    chat.say("show", id="999999999999")
    assert chat.only_answer() == "There is no #999999999999."


def test_cancel_takes_the_newest_or_the_one_that_is_named(chat: Chat) -> None:
    for prompt in ("one", "two", "three"):
        chat.imagine(prompt)
    chat.say("cancel")
    assert chat.only_answer(before=3) == "#3 is cancelled."
    chat.say("cancel", id="1")
    assert [chat.state(number) for number in (1, 2, 3)] == ["cancelled", "queued", "cancelled"]
    assert chat.house.queue.draw.rq.get_job_ids() == ["generation-2-1"]


def test_models_are_completed_without_a_database(chat: Chat) -> None:
    metadata.drop_all(chat.house.database.engine)

    def names(option: str, typed: str) -> list[str]:
        found = chat.do(chat.ann.autocomplete(chat.channel, "imagine", option, typed))
        return [choice["value"] for choice in found]

    assert names("model", "PATT") == names("model", "") == ["pattern"]
    assert names("model", "zebra") == []
    assert "Euler a" in names("sampler", "euler")
    chat.say("queue")
    words = chat.only_answer()
    assert re.fullmatch(r"Something went wrong here\. .* quote fault [0-9a-f]{8}\.", words)


async def acknowledged(chat: Chat, what: Coroutine[Any, Any, Any]) -> tuple[float, Any]:
    """How long the acknowledgement took while the database was held, and what came of it."""
    asked = chat.env.backend.interactions
    known = len(asked)
    chat.database_free.clear()
    started = time.perf_counter()
    going = asyncio.create_task(what)
    while not any(one.responded for one in list(asked.values())[known:]):
        assert time.perf_counter() - started < 3, "never acknowledged"
        await asyncio.sleep(0.005)
    took = time.perf_counter() - started
    await asyncio.sleep(0.1)
    assert not going.done(), "the database was never asked"
    chat.database_free.set()
    return took, await going


@pytest.mark.parametrize("name", ["imagine", "queue", "show", "cancel", "retry", "quiet", "Cancel"])
def test_it_acknowledges_before_it_asks_the_database(chat: Chat, name: str) -> None:
    card = chat.imagine()
    if name == "retry":
        chat.draw(1)
    if name == "Cancel":
        what = chat.ann.click(card, label=name)
    else:
        given = {"prompt": "a crown"} if name == "imagine" else {}
        what = chat.ann.slash(chat.channel, name, **given)
    took, result = chat.do(acknowledged(chat, what))
    assert took < 1 and result.response.content


SEED = "“seed” must be a whole number from -1 to 4294967295; got 9223372036854775808."
STEPS = "“steps” must be a whole number from 1 to 150; got 0."
MODEL = "There is no model “nope”. On offer: pattern."
LONG = "The prompt has 4001 characters; 4000 is the most."
NOTHING = "Write what to draw, for example: a red crown on a blue background."


@pytest.mark.parametrize(("given", "words"), [
    ({"model": "nope"}, [MODEL]),
    ({"width": 1600}, ["pattern draws at most 1024 pixels a side; asked: 1600×256."]),
    ({"seed": 2**63}, [SEED]),
    ({"steps": 0, "seed": 2**63}, [STEPS, SEED]),
    ({"prompt": ""}, [NOTHING]),
    ({"prompt": " \t "}, [NOTHING]),
    ({"prompt": "x" * 4001}, [LONG]),
    ({"model": "nope", "steps": 0}, [STEPS, MODEL]),
])  # fmt: skip
def test_bad_input_is_answered_once_and_makes_nothing(chat: Chat, given: Any, words: Any) -> None:
    chat.send_unchecked(**{"prompt": "a fox", **given})
    told = chat.only_answer()
    assert sorted(line.removeprefix("• ") for line in told.split("\n")) == sorted(words)
    assert chat.rows() == 0 and chat.house.queue.draw.rq.count == 0


def test_the_bounds_are_known_to_the_persons_client(chat: Chat) -> None:
    for over in ({"steps": 151}, {"steps": 0}, {"guidance": 30.5}, {"seed": 2**32}, {"count": 5}):
        with pytest.raises(simcord.OptionError, match=r"must be [≥≤]"):
            chat.say("imagine", prompt="a fox", **over)
    longest = "x" * 4000
    chat.say("imagine", prompt=longest, steps=150, guidance=30.0, seed=2**32 - 1, count=4)
    assert chat.rows() == 1 and chat.house.generations.get(1).request.prompt == longest


@pytest.mark.parametrize("label", ["Cancel", "Retry", "🎲 New seed"])
def test_only_its_asker_or_a_moderator_presses_a_button(chat: Chat, label: str) -> None:
    card = chat.imagine()
    if label != "Cancel":
        chat.draw(1)
        card = chat.say("show").response
    before = len(chat.seen(chat.bob))
    chat.press(card, label, chat.bob)
    assert chat.only_answer(before, chat.bob) == REFUSED
    assert chat.rows() == 1 and chat.state(1) == ("queued" if label == "Cancel" else "done")
    chat.press(card, label, chat.moderator)
    if label == "Cancel":
        assert chat.state(1) == "cancelled" and chat.rows() == 1
        return
    again = chat.house.generations.get(2)
    assert (again.parent, again.state, again.asker) == (1, "queued", str(chat.moderator.id))
    assert (again.request == chat.house.generations.get(1).request) == (label == "Retry")


def test_why_it_waits_is_told_to_the_asker_alone(chat: Chat) -> None:
    card = chat.imagine()
    chat.press(card, "Why am I waiting?")
    assert "Before yours: no picture" in chat.only_answer(before=1)


def test_a_button_of_a_job_that_is_over_answers_in_words(chat: Chat) -> None:
    card = chat.imagine()
    chat.draw(1)
    chat.press(card, "Cancel")
    assert chat.only_answer(before=1) == "#1 is already done."
    assert chat.state(1) == "done"


LINKS = "[a](http://a.example) or [b](http://b.example)"
LIVE = re.compile(r"(?<!\\)[*_~|`]|(?<!\\)\[[^\]]*\]\(|@everyone|@here|<@[!&]?\d")
MARKS = re.compile("[\u200f\u202a-\u202e\u2066-\u2069]")


@pytest.mark.parametrize("prompt", [
    "**bold** __under__ ~~out~~ ||hidden|| `code` ``` fence",
    "@everyone and @here",
    "# big [x](http://a.example)",
    LINKS,
])  # fmt: skip
def test_a_prompt_comes_out_as_plain_words(chat: Chat, prompt: str) -> None:
    card = chat.imagine(f"{prompt} {chat.bob.mention}")
    described = str(card.embeds[0].description)
    assert not LIVE.search(described) and not described.startswith("#")
    plain = described.replace("\\", "").replace("\u200b", "")
    assert plain == f"{prompt} {chat.bob.mention}", "nothing is lost"


def test_queue_shows_prompts_as_plain_words(chat: Chat) -> None:
    chat.imagine("``` fence [x](http://a.example)")
    assert not LIVE.search(chat.say("queue").response.content)


def test_no_answer_mentions_anybody(chat: Chat) -> None:
    chat.imagine(f"@everyone @here {chat.bob.mention} a fox")
    chat.say("queue")
    chat.say("show")
    chat.send_unchecked(prompt="a fox", model=f"@everyone {chat.bob.mention}")
    chat.draw(1)
    chat.say("retry")
    bodies = [one.json for one in chat.env.http_requests if isinstance(one.json, dict)]
    spoken = [body.get("data") or body for body in bodies]
    spoken = [body for body in spoken if body.get("content") or body.get("embeds")]
    assert len(spoken) == 5
    assert all(body["allowed_mentions"] == {"parse": []} for body in spoken)
    for message in chat.env.backend.messages[chat.channel.id].values():
        assert not (message.mention_everyone or message.ping_user_ids)


def test_right_to_left_marks_turn_no_words_of_ours_around(chat: Chat) -> None:
    marked = "a \u202efox\u2067 \u200fcrown"
    card = chat.imagine(marked)
    assert chat.house.generations.fail(chat.claim(1), "The model is gone.")
    shown = chat.say("show").response
    for one in (card, shown):
        assert not MARKS.search(f"{one.content} {one.embeds[0].footer.text}")
    # A mark reaches to the end of its paragraph.
    assert str(shown.embeds[0].description).split("\n\n") == [marked, "The model is gone."]


def test_in_a_thread(chat: Chat) -> None:
    chat.env.backend.create_thread(chat.channel.id, "pictures", chat.ann.id)
    (thread,) = chat.channel.threads
    card = chat.do(chat.ann.slash(thread, "imagine", prompt="a threaded fox")).response
    assert [message.id for message in chat.seen(chat.bob, thread)] == [card.id]
    made = chat.house.generations.get(1)
    assert (made.address["channel"], made.message) == (str(thread.id), str(card.id))
    chat.press(card, "Cancel", chat.moderator)
    assert chat.state(1) == "cancelled"


def test_in_a_direct_message(chat: Chat) -> None:
    ann = chat.ann.user
    card = chat.do(ann.slash("imagine", prompt="a private fox")).response
    assert [message.id for message in chat.seen(ann, ann.dm_channel)] == [card.id]
    assert chat.seen(chat.ann) == []
    made = chat.house.generations.get(1)
    assert (made.address["guild"], made.asker) == ("", str(ann.id))
    assert "a private fox" in chat.do(ann.slash("queue")).response.content
    chat.do(ann.click(card, label="Cancel"))
    assert chat.state(1) == "cancelled"


def test_a_card_that_discord_refused_once_can_be_drawn_later(chat: Chat) -> None:
    chat.env.inject_error("PATCH", "/webhooks/*", status=503)
    chat.say("imagine", prompt="a fox")
    (thinking,) = chat.seen(chat.ann)
    assert chat.house.generations.get(1).message == str(thinking.id)


def test_after_an_outage_of_hours_the_gateway_is_tried_every_few_seconds() -> None:
    assert discord.backoff.ExponentialBackoff()._max == 10, "2 ** 10 seconds"
    backoff = Backoff()
    assert max(backoff.delay() for _ in range(60)) <= 20


def test_what_is_set_may_make_a_request_right(
    chat: Chat, starter_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRAWQUEUE_MODEL", f"{starter_model},pattern")
    settings._read.cache_clear()
    catalog.models.cache_clear()
    chat.send_unchecked(prompt="a fox", width=768)
    assert "starter draws at most" in chat.only_answer()
    chat.say("settings", change="set", setting="model", value="pattern")
    chat.send_unchecked(prompt="a fox", width=768)
    chat.send_unchecked(prompt="a fox", width=1600)
    assert chat.rows() == 1
    assert chat.house.generations.get(1).request.size == (768, 256)
    refused = chat.seen(chat.ann)[-1]
    assert refused.flags.ephemeral and "pattern draws at most 1024" in refused.content
