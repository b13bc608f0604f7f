"""One's own pictures: kept under tags, found, counted, packed, shared; never another's."""

import io
import json
import zipfile
from datetime import timedelta
from pathlib import Path

import pytest
from PIL import Image
from sqlalchemy import func, select, update

from core import gallery, marks, sharing, thumbnails
from core.asking import Ask
from core.brush import BadLink, Expired
from core.database import generations, now, shared
from core.database import marks as kept
from core.engine import MARK
from core.errors import NotAllowed, NotFound, UserError
from core.history import Filters
from core.house import House
from core.keeping import forget, keep_house, sweep_files
from core.media import small_of
from core.people import Asker
from core.receipts import OURS, sealed
from core.rows import Generation
from tests.core.test_history import listed
from tests.core.test_pictures import ANN, BOB, drawn, png, say

PHONE = Asker("telegram", "7", chat="telegram:7")


def answer(house: House, line: str, who: Asker = ANN) -> str:
    return say(house, line, who=who, event=f"{line} {now()}").text


def numbers(house: House, filters: Filters = Filters(), who: Asker = ANN) -> list[str]:  # noqa: B008
    found, _ = gallery.page(house, Ask(who, "e", {}, {}), filters, 50)
    return [one.number for one in found]


def marked(house: House, one: Generation, label: str = "nsfw") -> None:
    with house.database.write() as connection:
        results = [{**result, MARK: label} for result in one.results]
        connection.execute(
            update(generations).where(generations.c.id == one.id).values(results=results)
        )


def rows(house: House, table: object) -> int:
    with house.database.read() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())  # type: ignore[arg-type]


def test_pictures_are_kept_under_tags_and_found_by_them(house: House) -> None:
    drawn(house, "a fox")
    drawn(house, "a sea", count=2)
    drawn(house, "Bob's sea", BOB)
    assert answer(house, "/favourite 1") == (
        "#1 is a favourite now. /history favourite:yes finds them all."
    )
    answer(house, "/favourite 2.2 yes")
    told = answer(house, "/tag 2.1 Sea,  Été night , #sea,👩‍🚀")
    assert told == ("#2.1 has 3 tags: sea, été night, 👩‍🚀. /history tag:sea finds it.")
    with pytest.raises(UserError, match="holds several pictures: name one"):
        say(house, "/tag 2 sea")
    assert listed(say(house, "/history favourite:yes")) == [2, 1]
    assert listed(say(house, '/history tag:"E\u0301te\u0301  NIGHT" sea')) == [2]
    assert "Nothing of yours fits tag fox" in answer(house, "/history tag:Fox")
    assert numbers(house) == ["2.1", "2.2", "1.1"]
    assert numbers(house, Filters(favourite="yes")) == ["2.2", "1.1"], "picture by picture"
    assert numbers(house, Filters(tag="sea", words="sea")) == ["2.1"]
    assert answer(house, "/tag 2.1 -sea, stars") == (
        "#2.1 has 3 tags: stars, été night, 👩‍🚀. /history tag:stars finds it."
    )
    assert "no favourite any more" in answer(house, "/favourite 1 no")
    assert numbers(house, Filters(favourite="yes")) == ["2.2"]
    assert answer(house, "/tag 1") == "#1 has no tags. /tag 1 sea, night gives it two."


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/tag 1 " + "x" * 200, "A tag has at most 32 characters; that one has 200."),
        ("/tag 1 \u202e\u200d", "at least one letter, number or emoji"),
        ("/tag 1 “sea”", "no commas and no quotation marks"),
        ("/tag 1 " + ", ".join(map(str, range(21))), "at most 20 tags"),
        ("/tag 3 sea", "There is no #3 of yours"),
        ("/favourite 3", "There is no #3 of yours"),
        ("/favourite 9", "There is no #9"),
        ("/favourite 1.4", "there is no 1.4"),
        ("/history tag:" + "x" * 40, "A tag has at most 32 characters"),
        ("/history favourite:no", "“favourite:” must be one of yes"),
    ],
)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_what_cannot_be_kept_is_told_and_nothing_is(house: House, line: str, words: str) -> None:
    drawn(house)
    drawn(house, "a hen")
    drawn(house, "Bob's", BOB)
    with pytest.raises(UserError) as refused:
        say(house, line)
    assert words in str(refused.value) and len(str(refused.value)) < 200
    assert rows(house, kept) == 0


def test_what_pictures_are_kept_under_goes_with_them_to_whoever_has_them(house: House) -> None:
    mine, theirs = drawn(house), drawn(house, "from the phone", PHONE)
    answer(house, f"/tag {theirs.id} sea", PHONE)
    house.people.link(PHONE, house.people.code(ANN))
    answer(house, f"/favourite {theirs.id}")
    assert numbers(house, Filters(tag="sea")) == [f"{theirs.id}.1"]
    assert numbers(house, Filters(favourite="yes"), PHONE) == [f"{theirs.id}.1"]
    assert numbers(house, who=BOB) == []
    house.people.unlink(PHONE)
    assert numbers(house) == [f"{mine.id}.1"]
    assert numbers(house, Filters(tag="sea"), PHONE) == [f"{theirs.id}.1"]
    assert numbers(house, Filters(tag="sea")) == []


def test_in_a_shared_chat_nobody_finds_by_what_others_keep(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRAWQUEUE_SHARED_HISTORY", "yes")
    from core import settings

    settings._read.cache_clear()
    room = {"platform": "web", "chat": "web:room"}
    ann, bob = Asker(id="ann", **room), Asker(id="bob", **room)
    for who in (ann, bob):
        one = drawn(house, f"of {who.id}", who)
        with house.database.write() as connection:
            connection.execute(update(generations).values(message="1"))
        answer(house, f"/tag {one.id} plan", who)
    assert listed(say(house, "/history chat:yes", who=bob)) == [2, 1]
    assert listed(say(house, "/history chat:yes tag:plan", who=bob)) == [2]


def test_pages_go_on_from_keys_and_part_no_request(house: House) -> None:
    for number in range(4):
        drawn(house, f"fox {number}", count=2)
    house.generations.cancel(
        house.generations.redo(1, ANN, "again", new_seed=True).id, ANN
    )  # Not finished: no picture.
    ask = Ask(ANN, "e", {}, {})
    first, after = gallery.page(house, ask, Filters(), 3)
    assert [one.number for one in first] == ["4.1", "4.2", "3.1", "3.2", "2.1", "2.2"]
    rest, end = gallery.page(house, ask, Filters(), 3, after)
    assert [one.number for one in rest] == ["1.1", "1.2"] and end is None
    found = gallery.every(house, ask, Filters(words="2"))
    assert [one.number for one in found] == ["3.1", "3.2"]


def test_what_one_has_is_counted_and_a_shared_file_once(house: House) -> None:
    one, two = drawn(house, count=2), drawn(house, "a sea")
    drawn(house, "Bob's", BOB)
    answer(house, f"/tag {two.id} sea")
    answer(house, f"/favourite {one.id}.2")
    house.generations.pick(one, 0, ANN, {"chat": "web"})
    # As a worker tells it of one; of the others the storage knows.
    with house.database.write() as connection:
        results = [{**two.results[0], "bytes": 10**10}]
        connection.execute(
            update(generations).where(generations.c.id == two.id).values(results=results)
        )
    found = gallery.count(house, ANN)
    size = sum(house.media.size(str(result["key"])) for result in one.results)
    assert (found.pictures, found.bytes, found.favourites) == (4, 10**10 + size, 1)
    assert found.tags == (("sea", 1),) and found.models == (("pattern", 4),)
    house.media.delete(str(one.results[0]["key"]))
    assert gallery.count(house, ANN).bytes < found.bytes
    assert gallery.count(house, Asker("web", "nobody")).pictures == 0


def test_a_small_copy_is_made_once_and_goes_with_its_picture(house: House, tmp_path: Path) -> None:
    one = drawn(house)
    key = str(one.results[0]["key"])
    stored = house.media.load(key)
    wide = house.media.save(one.id, "wide.png", png(1600, 400))
    small = Image.open(io.BytesIO(thumbnails.of(house.media, wide)))
    assert (small.format, small.size) == ("WEBP", (384, 96))
    house.media.delete(wide)
    made = thumbnails.of(house.media, key)
    house.media.save_small(key, b"kept")
    assert thumbnails.of(house.media, key) == b"kept" != made
    assert sweep_files(house, timedelta()) == 0, "it is its picture's"
    assert house.media.load(key) == stored
    answer(house, f"/delete {one.id}")
    files = [path for path in (tmp_path / "media").rglob("*") if path.is_file()]
    assert files == []
    # A copy that was being made meanwhile, and one whose maker was killed on the way.
    house.media.save_small(key, b"late")
    assert not house.media.has(small_of(key))
    (tmp_path / "media" / small_of(key)).write_bytes(b"left")
    assert sweep_files(house, timedelta()) == 1
    with pytest.raises(FileNotFoundError):
        thumbnails.of(house.media, key)


def test_old_ones_are_forgotten_with_all_that_hangs_on_them(house: House, tmp_path: Path) -> None:
    one = drawn(house)
    answer(house, f"/tag {one.id} sea")
    sharing.share(house, ANN, one.id, 0)
    thumbnails.of(house.media, str(one.results[0]["key"]))
    with house.database.write() as connection:
        connection.execute(update(generations).values(ended=now() - timedelta(days=9)))
    assert forget(house, timedelta(days=8)) == 1
    assert rows(house, kept) == rows(house, shared) == 0
    assert not [path for path in (tmp_path / "media").rglob("*") if path.is_file()]


def test_a_packed_file_holds_pictures_with_their_recipes(house: House) -> None:
    one, gone, hidden = drawn(house, "a fox", count=2), drawn(house, "gone"), drawn(house, "sea")
    answer(house, f"/tag {one.id}.2 sea")
    house.media.delete(str(gone.results[0]["key"]))
    pictures = gallery.every(house, Ask(ANN, "e", {}, {}), Filters())
    parts = list(gallery.packed(house, pictures))
    assert len(parts) == 4, "made as it is read"
    with zipfile.ZipFile(io.BytesIO(b"".join(parts))) as packed:
        assert packed.testzip() is None
        first = f"{one.id}.1"
        assert packed.namelist() == [
            f"{hidden.id}.1.png", f"{hidden.id}.1.json", f"{first}.png", f"{first}.json",
            f"{one.id}.2.png", f"{one.id}.2.json", gallery.LEFT_OUT,
        ]  # fmt: skip
        recipe = json.loads(packed.read(f"{one.id}.2.json"))
        picture = packed.read(f"{first}.png")
        assert f"{gone.id}.1" in packed.read(gallery.LEFT_OUT).decode()
        assert packed.getinfo(f"{first}.png").external_attr >> 16 == 0o644
    assert picture == house.media.load(str(one.results[0]["key"]))
    assert (recipe["prompt"], recipe["seed"], recipe["tags"]) == ("a fox", 6, ["sea"])
    assert "sources" not in recipe and recipe["count"] == 1


def test_a_link_shows_one_picture_until_it_is_taken_back(house: House) -> None:
    one = drawn(house, count=2)
    first = sharing.share(house, ANN, one.id, 1, prompt=True)
    given = first.path.removeprefix(sharing.SHARED)
    found, place, link = sharing.opened(house, given)
    assert (found.id, place, link.prompt) == (one.id, 1, True)
    # Asked for again it is the same link, as is said now.
    again = sharing.share(house, ANN, one.id, 1, days=1)
    assert again.path == first.path and not again.prompt and again.until < first.until
    words, _, sign = given.partition(".")
    for wrong in ("", "x", f"{words}.", f"{words}x.{sign}", f"{words}.{sign[:-2]}xx", "é.é"):
        with pytest.raises(BadLink) as refused:
            sharing.opened(house, wrong)
        assert not isinstance(refused.value, Expired)
    with pytest.raises(BadLink):
        house.brush.ticket(given)
    for who, act in ((BOB, sharing.share), (BOB, sharing.unshare)):
        with pytest.raises(NotFound):
            act(house, who, one.id, 1)
    with pytest.raises(NotFound):
        sharing.share(house, ANN, one.id, 2)
    sharing.unshare(house, ANN, one.id, 1)
    with pytest.raises(Expired, match="not shared any more"):
        sharing.opened(house, given)
    assert sharing.share(house, ANN, one.id, 1).path != first.path, "what was dead stays dead"


@pytest.mark.parametrize("how", ["expired", "deleted", "marked", "forgotten"])
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_link_dies_with_its_picture(house: House, how: str) -> None:
    one = drawn(house)
    given = sharing.share(house, ANN, one.id, 0).path.removeprefix(sharing.SHARED)
    answer(house, f"/tag {one.id} sea")
    match how:
        case "expired":
            with house.database.write() as connection:
                connection.execute(update(shared).values(until=now() - timedelta(seconds=1)))
        case "deleted":
            answer(house, f"/delete {one.id}")
        case "marked":
            marked(house, one)
        case "forgotten":
            forget(house, timedelta())
    with pytest.raises(Expired):
        sharing.opened(house, given)
    if how in ("deleted", "forgotten"):
        assert rows(house, shared) == rows(house, kept) == 0
    if how == "marked":
        with pytest.raises(NotAllowed, match="not for everybody"):
            sharing.share(house, ANN, one.id, 0)
    if how == "expired":
        keep_house(house, 0)
        assert rows(house, shared) == 0
        assert not sharing.share(house, ANN, one.id, 0).path.endswith(given)


def test_nothing_is_kept_of_what_is_just_deleted(house: House) -> None:
    one = drawn(house)
    house.generations.delete(one.id, ANN)
    with pytest.raises(NotFound):
        marks.put(house, one, 0, ["sea"])
    assert rows(house, kept) == 0


def test_a_copy_without_its_recipe_is_the_same_picture() -> None:
    from core.catalog import settle
    from core.options import validate
    from core.receipts import bare

    picture = sealed(
        Image.new("RGB", (64, 64), "teal"), 1, settle(validate({"prompt": "a secret"}), 1), 1
    )
    assert OURS in Image.open(io.BytesIO(picture.png)).info
    plain = bare(picture.png)
    assert b"secret" not in plain and not Image.open(io.BytesIO(plain)).info
    assert Image.open(io.BytesIO(plain)).getpixel((3, 3)) == (0, 128, 128)
