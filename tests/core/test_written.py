"""Rows without pictures, where pictures were expected: what is written is shown, found, taken away
and forgotten as they are."""

import io
import json
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace

import pytest

from core import commands, gallery
from core.asking import Ask
from core.cards import card_for
from core.errors import NotFound, UserError
from core.history import Filters
from core.house import House
from core.lifecycle import State
from core.options import validate
from core.people import Asker
from core.rows import Generation

BOB = Asker("web", "bob", "Bob")
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def writers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAWQUEUE_TEXT_MODEL", "pattern")
    monkeypatch.setenv("DRAWQUEUE_CAPTIONER", "pattern")


def ask(who: Asker, event: str, **given: str) -> Ask:
    return Ask(who, event, {}, given)


def begun(house: House, who: Asker, prompt: str = "a tale") -> Generation:
    made = commands.run(house, "write", ask(who, f"w:{prompt}:{time.time()}", prompt=prompt))
    claimed = house.generations.claim(made.generation.id if made.generation else 0)
    assert claimed
    return claimed


def wrote(house: House, who: Asker, text: str = "Once upon a time", **more: str) -> Generation:
    done = house.generations.finish(begun(house, who, **more), [], 1.0, text=text)
    assert done
    return done


def drew(house: House, who: Asker) -> Generation:
    made = house.generations.submit(validate({"prompt": "a fox"}), who, f"d{time.time()}", {})
    claimed = house.generations.claim(made.id)
    assert claimed
    result = {"key": house.media.save(made.id, "0.png", b"x"), "width": 8, "height": 8, "seed": 1}
    done = house.generations.finish(claimed, [result], 1.0)
    assert done
    return done


def test_what_is_taken_away_takes_its_text_along(house: House, ann: Asker) -> None:
    deleted, forgotten = wrote(house, ann), wrote(house, ann)
    house.generations.delete(deleted.id, ann)
    house.generations.forget([forgotten])
    for one in (deleted, forgotten):
        left = house.generations.get(one.id)
        assert left.text is None and not card_for(left, None, 0.0).text


def test_cancelled_in_the_middle_it_keeps_what_there_is(house: House, ann: Asker) -> None:
    one = begun(house, ann)
    house.queue.say(one.id, one.attempt, "Once upon")
    stopped = house.generations.cancel(one.id, ann)
    assert stopped.text == "Once upon" == house.card(stopped).text
    again = house.generations.redo(one.id, ann, "again")
    assert again.id == one.id and again.text is None
    house.generations.cancel(one.id, ann)
    assert house.generations.get(one.id).text is None


def test_the_newest_picture_is_no_text(house: House, ann: Asker) -> None:
    picture, text = drew(house, ann), wrote(house, ann)
    for name in ("upscale", "describe"):
        made = commands.run(house, name, ask(ann, f"{name}1")).generation
        assert made and made.parent == picture.id
    assert f"#{picture.id} is a favourite" in commands.run(house, "favourite", ask(ann, "f1")).text
    for name in ("upscale", "describe", "vary", "favourite"):
        with pytest.raises(NotFound):
            commands.run(house, name, ask(ann, f"{name}2", id=str(text.id)))
    assert commands.run(house, "show", ask(ann, "s1", id=str(text.id))).generation == text


def test_the_gallery_shows_pictures_alone(house: House, ann: Asker) -> None:
    picture = drew(house, ann)
    for _ in range(3):
        wrote(house, ann)
    found, more = gallery.page(house, ask(ann, "g"), Filters(), 2)
    assert [one.one.id for one in found] == [picture.id] and more is None
    assert gallery.count(house, ann).models == (("pattern", 1),)


def test_history_tree_and_queue_tell_of_it(house: House, ann: Asker) -> None:
    first = wrote(house, ann, prompt="a tale of foxes")
    told = commands.run(house, "history", ask(ann, "h", words="foxes mode:write"))
    assert f"#{first.id} done" in told.text and not told.thumbnails
    more = commands.press(house, "more", first.id, ask(ann, "m")).generation
    assert more and more.parent == first.id
    tree = commands.run(house, "tree", ask(ann, "t", id=str(first.id)))
    assert f"#{more.id} write, queued" in tree.text
    assert f"#{more.id} queued" in commands.run(house, "queue", ask(ann, "q")).text


def test_retry_of_what_is_written_asks_for_other_words(house: House, ann: Asker) -> None:
    one = wrote(house, ann)
    again = commands.run(house, "retry", ask(ann, "r", id=str(one.id))).generation
    assert again and again.id != one.id and again.request.seed != one.request.seed
    assert replace(again.request, seed=0) == replace(one.request, seed=0)


def test_what_waits_to_be_written_has_no_prompt_to_edit(house: House, ann: Asker) -> None:
    made = commands.run(house, "write", ask(ann, "w", prompt="a tale")).generation
    assert made
    for words in ("", "a fox"):
        with pytest.raises(UserError, match="stay as they are"):
            commands.run(house, "edit", ask(ann, f"e{words}", id=str(made.id), words=words))
    assert house.generations.get(made.id).version == made.version


def test_what_is_not_written_yet_neither_goes_on_nor_is_drawn(house: House, ann: Asker) -> None:
    one = begun(house, ann)
    for action in ("more", "use"):
        with pytest.raises(NotFound):
            commands.press(house, action, one.id, ask(ann, action))


def test_drawn_from_words_their_braces_mean_themselves(house: House, ann: Asker) -> None:
    text = "a {red, blue} __fox__\non  a hill --steps 3"
    one = wrote(house, ann, text)
    made = commands.press(house, "picture", one.id, ask(ann, "u")).generation
    assert made and made.request.prompt == "a {red, blue} __fox__ on a hill --steps 3"
    assert made.state == State.QUEUED and made.request.steps != 3


def test_moderators_read_what_is_reported(
    house: House, ann: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = wrote(house, ann, "Something rude")
    assert house.reports.file(one, BOB, "it is rude")
    found = house.reports.card(one.id)
    assert found
    card = found[1]
    assert card.text == "Something rude" and "it is rude" in card.notice
    assert [button.action for button in card.buttons] == ["takedown", "keep"]
    moderator = replace(BOB, trusted=True)
    commands.run(house, "takedown", ask(moderator, "t", id=str(one.id), reason="rude"))
    assert house.generations.get(one.id).text is None
    found = house.reports.card(one.id)
    assert found and not found[1].text and not found[1].buttons


def test_an_export_has_every_text(house: House, ann: Asker) -> None:
    picture, one = drew(house, ann), wrote(house, ann, "Größe\n=1+1")
    house.generations.delete(wrote(house, ann, "gone").id, ann)
    reply = commands.run(house, "export", replace(ask(ann, "e"), most=10**6))
    ((_, key),) = reply.files
    packed = zipfile.ZipFile(io.BytesIO(house.media.load(key)))
    names = set(packed.namelist())
    assert {f"texts/{one.id}.txt", f"pictures/{picture.id}-1.png"} <= names
    assert sum(name.startswith("texts/") for name in names) == 1
    assert packed.read(f"texts/{one.id}.txt").decode() == "Größe\n=1+1"
    told = {row["id"]: row["text"] for row in json.loads(packed.read("requests.json"))}
    assert told == {picture.id: None, one.id: "Größe\n=1+1"}


def test_what_the_host_refuses_is_seen_however_it_is_written(
    house: House, rules: Callable[[str], None]
) -> None:
    from core.policy import policy

    rules('[words]\nrefuse = ["forbidden fruit"]\n')
    assert policy().sayable("the fruit, forbidden or not")
    assert not policy().sayable("once more: **Forbidden**\n_FRUIT_")
