"""Taken away: all that is somebody's and nothing of another's, in files of the size that fits."""

import csv
import io
import json
import os
import time
import zipfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from core import export as module
from core import languages, settings
from core.asking import Ask, Reply
from core.brush import BadLink, Ticket
from core.commands import run
from core.database import exports, now
from core.errors import NotAllowed, NotFound
from core.export import EXPORT, fetched
from core.house import House
from core.keeping import TURN, keep_house
from core.options import validate
from core.people import Asker
from core.rows import Generation
from tests.core.test_languages import catalog
from tests.core.test_people import code
from tests.core.test_policy import say

ANN = Asker("discord", "1", "Ann", chat="discord:channel:5")
HERS = Asker("telegram", "2", "Ann")
BOB = Asker("web", "bob", "Bob")
MB = 10**6


def drawn(house: House, prompt: str, asker: Asker = ANN, size: int = 1000) -> Generation:
    made = house.generations.submit(validate({"prompt": prompt, "seed": 7}), asker, prompt, {})
    claimed = house.generations.claim(made.id)
    assert claimed
    key = house.media.save(made.id, "1.png", os.urandom(size))
    picture = {"key": key, "seed": 7, "width": 8, "height": 8}
    done = house.generations.finish(claimed, [picture], 2.0)
    assert done
    return done


def asked(house: House, asker: Asker = ANN, most: int = 10 * MB) -> Reply:
    return run(house, "export", Ask(asker, f"{now()}", {}, {}, most=most))


def opened(house: House, key: str) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(house.media.load(key)))


def kept(house: House) -> list[str]:
    return list(house.media.exports())


def test_all_of_ones_own_is_in_it_and_nothing_of_anothers(house: House) -> None:
    say(house, HERS, f"/link {code(house, ANN)} yes")
    one, two = drawn(house, "=a fox, “sly”"), drawn(house, "an owl", HERS)
    theirs = drawn(house, "Bob's secret", BOB)
    failed = house.generations.submit(validate({"prompt": "a wreck"}), ANN, "w", {})
    claimed = house.generations.claim(failed.id)
    assert claimed and house.generations.fail(claimed, "It broke.")
    deleted = drawn(house, "deleted")
    say(house, ANN, f"/delete {deleted.id}")
    say(house, ANN, "/settings set count 2")
    say(house, ANN, f"/preset save misty {one.id}")
    reply = asked(house)
    assert reply.text.startswith("All that is yours: 0.0 MB, made 20")
    ((name, key),) = reply.files
    assert name == "drawqueue.zip"
    with opened(house, key) as found:
        assert found.testzip() is None
        pictures = {f"pictures/{n}-1.{kind}" for n in (one.id, two.id) for kind in ("png", "json")}
        lists = {"README.txt", "requests.csv", "requests.json", "settings.json", "presets.json"}
        assert set(found.namelist()) == pictures | lists
        stored = house.media.load(str(one.results[0]["key"]))
        assert found.read(f"pictures/{one.id}-1.png") == stored
        recipe = json.loads(found.read(f"pictures/{one.id}-1.json"))
        assert recipe["prompt"] == "=a fox, “sly”" and recipe["seed"] == 7
        assert "sources" not in recipe, "keys of stored files are nobody's to read"
        rows = json.loads(found.read("requests.json"))
        assert [(row["id"], row["status"]) for row in rows] == [
            (one.id, "done"), (two.id, "done"), (failed.id, "failed")
        ]  # fmt: skip
        table = list(csv.DictReader(io.StringIO(found.read("requests.csv").decode())))
        assert [row["prompt"] for row in table] == ["'=a fox, “sly”", "an owl", "a wreck"]
        assert table[2]["error"] == "It broke."
        assert json.loads(found.read("settings.json")) == {"count": "2"}
        assert json.loads(found.read("presets.json"))[0]["name"] == "misty"
        everything = b"".join(found.read(name) for name in found.namelist())
    assert b"secret" not in everything and house.media.load(str(theirs.results[0]["key"]))
    # The other account of hers is handed the same; Bob is not.
    assert asked(house, HERS).files == reply.files and len(kept(house)) == 1
    assert asked(house, BOB).files != reply.files
    empty = asked(house, Asker("web", "new"))
    with opened(house, empty.files[0][1]) as found:
        assert json.loads(found.read("requests.json")) == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_it_tells_what_it_holds_in_the_language_of_who_asked(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = "Dateien: " + "pictures/12-1.png ist das erste Bild der Bitte 12, für Ömer. " * 4
    catalog(tmp_path / "locale", "de", {module.README: told})
    monkeypatch.setattr(languages, "CATALOGS", tmp_path / "locale")
    languages._catalog.cache_clear()
    english, german = ANN, replace(BOB, language="de")
    for asker, words in ((english, module.README), (german, told)):
        ((_, key),) = asked(house, asker).files
        with opened(house, key) as found:
            text = found.read("README.txt").decode()
        assert text.split() == words.split() and text.endswith("\n")
        assert max(map(len, text.splitlines())) <= module.WIDTH
    languages._catalog.cache_clear()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_it_comes_in_parts_each_of_which_fits(house: House) -> None:
    made = [drawn(house, f"fox {n}", size=40_000) for n in range(5)]
    large = drawn(house, "a huge fox", size=120_000)
    reply = asked(house, most=100_000)
    assert [name for name, _ in reply.files] == [
        f"drawqueue-{n}-of-{len(reply.files)}.zip" for n in range(1, len(reply.files) + 1)
    ]
    assert "1 picture is too large for this chat" in reply.text
    names: list[str] = []
    for _, key in reply.files:
        assert len(house.media.load(key)) <= 100_000
        with opened(house, key) as found:
            assert found.testzip() is None
            names += found.namelist()
    assert {f"pictures/{one.id}-1.png" for one in made} <= set(names)
    assert f"pictures/{large.id}-1.png" not in names and f"pictures/{large.id}-1.json" in names
    assert len(names) == len(set(names))
    # Where more fits, it is made anew as one, and the parts are gone.
    with_link = asked(house, most=10**9)
    assert with_link.files == reply.files, "they fit there as well"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_too_many_parts_are_none_and_told(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(3):
        drawn(house, f"fox {n}", size=40_000)
    monkeypatch.setattr(module, "MOST_FILES", 2)
    assert "more than 2 files" in asked(house, most=50_000).text
    assert kept(house) == []
    # With an address for links it is one file, which no chat has to hold.
    monkeypatch.setenv("DRAWQUEUE_PUBLIC_URL", "https://draw.example.org")
    settings._read.cache_clear()
    reply = asked(house, most=50_000)
    link = next(line for line in reply.text.splitlines() if line.startswith("https://"))
    assert link.startswith(f"https://draw.example.org{EXPORT}") and not reply.files
    assert "yours alone and works for a day" in reply.text
    key, size = fetched(house, link.rpartition("/")[2])
    assert size == len(house.media.load(key)) == sum(map(len, house.media.parts(key)))


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_link_is_signed_and_ends(house: House, tmp_path: Path) -> None:
    one = drawn(house, "a fox", BOB)
    reply = asked(house, BOB, most=0)
    token = next(line for line in reply.text.splitlines() if line.startswith(EXPORT)).removeprefix(
        EXPORT
    )
    assert fetched(house, token)
    words, _, sign = token.partition(".")
    painting = house.brush.link(Ticket.of(BOB, one, 0)).rpartition("/")[2]
    for forged in ("", ".", "x", words, f"{words}.{sign[:-1]}", f"{words}x.{sign}", painting,
                   f"{words}.ü", "\ud800.x"):  # fmt: skip
        with pytest.raises(BadLink):
            fetched(house, forged)
    with pytest.raises(BadLink):
        house.brush.ticket(token)
    # A day later it is gone, with its file.
    with house.database.write() as connection:
        connection.execute(update(exports).values(asked=now() - timedelta(days=1, minutes=1)))
    for key in kept(house):
        past = time.time() - 90_000
        os.utime(tmp_path / "media" / key, (past, past))
    with pytest.raises(NotFound, match="/export makes a new one"):
        fetched(house, token)
    house.queue.redis.delete(TURN)
    keep_house(house, 0)
    assert kept(house) == []
    with house.database.read() as connection:
        assert connection.execute(select(exports)).all() == []
    assert asked(house, BOB, most=0).text != reply.text
    with pytest.raises(NotFound):
        fetched(house, token)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_one_at_a_time_and_anew_after_a_crash(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn(house, "a fox")
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.0)
    begun: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(module, "_build", lambda *given: begun.append(given))
        for _ in range(3):
            assert "Write /export again in a few minutes" in asked(house).text
    assert len(begun) == 1, "who asks again starts no second one"
    # That process died: its time runs out, and who asks again begins anew.
    with house.database.write() as connection:
        connection.execute(update(exports).values(builder_until=now()))
    monkeypatch.setattr(module, "WAIT_SECONDS", 15.0)
    reply = asked(house)
    assert len(reply.files) == 1
    # What the first one still makes is thrown away.
    module._build(*begun[0])
    assert kept(house) == [reply.files[0][1]] and asked(house).files == reply.files


def test_who_is_forgotten_leaves_no_file(house: House) -> None:
    drawn(house, "a fox")
    asked(house)
    assert len(kept(house)) == 1
    say(house, ANN, "/forget yes")
    assert kept(house) == []
    with house.database.read() as connection:
        assert connection.execute(select(exports)).all() == []


def test_what_is_ready_just_as_somebody_is_forgotten_goes_too(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn(house, "a fox")
    begun: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(module, "WAIT_SECONDS", 0.0)
        patch.setattr(module, "_build", lambda *given: begun.append(given))
        asked(house)
        while not begun:
            time.sleep(0.01)
    write = house.database.write

    def ready() -> Any:
        monkeypatch.undo()
        module._build(*begun[0])
        return write()

    monkeypatch.setattr(house.database, "write", ready)
    module.let_go(house, ["discord:1"])
    assert kept(house) == []


def test_what_changed_since_is_packed_anew(house: House) -> None:
    def packed() -> list[str]:
        file = opened(house, asked(house).files[0][1])
        told = json.loads(file.read("settings.json")), json.loads(file.read("presets.json"))
        return [name for name in file.namelist() if name.endswith(".png")] + [str(told)]

    first = drawn(house, "a fox")
    old = packed()
    assert packed() == old and len(old) == 2 and len(kept(house)) == 1
    drawn(house, "an owl")
    assert len(packed()) == 3
    say(house, ANN, f"/delete {first.id}")
    assert packed()[0] == f"pictures/{first.id + 1}-1.png"
    say(house, ANN, "/settings set count 3")
    assert "'count': '3'" in packed()[-1]
    say(house, ANN, f"/preset save misty {first.id + 1}")
    assert "misty" in packed()[-1] and len(kept(house)) == 1


def test_nothing_that_was_packed_together_is_handed_over_apart(house: House) -> None:
    mine, hers = drawn(house, "a fox"), drawn(house, "an owl", HERS)

    def packed(asker: Asker) -> set[int]:
        names = opened(house, asked(house, asker).files[0][1]).namelist()
        return {one.id for one in (mine, hers) if f"pictures/{one.id}-1.png" in names}

    assert packed(ANN) == {mine.id}
    say(house, HERS, f"/link {code(house, ANN)} yes")
    assert packed(ANN) == packed(HERS) == {mine.id, hers.id}
    say(house, HERS, "/unlink")
    assert packed(ANN) == {mine.id} and packed(HERS) == {hers.id}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_no_key_takes_it_away_and_a_fault_is_told(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotAllowed, match="A key may not"):
        asked(house, replace(BOB, id="key-1"))
    one = drawn(house, "a fox")

    def full(_path: str) -> str:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(house.media, "save_export", full)
        assert "Please try again later. (fault " in asked(house).text
    house.media.delete(str(one.results[0]["key"]))
    with opened(house, asked(house).files[0][1]) as found:
        assert f"pictures/{one.id}-1.json" in found.namelist(), "what is kept of it, at least"
