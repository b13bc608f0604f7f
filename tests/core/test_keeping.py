"""What is forgotten in time, and what is not."""

import os
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert, select, update

from core.database import generations, links, now, usage
from core.house import House
from core.keeping import TURN, forget, keep_house, sweep_files
from core.media import PART
from core.options import Mode, validate
from core.people import Asker

ANN = Asker("web", "ann")


def drawn(house: House, name: str, days: float = 0) -> tuple[int, str]:
    """A finished generation that ended so many days ago, and its picture's key."""
    made = house.generations.submit(validate({"prompt": name}), ANN, name, {})
    claimed = house.generations.claim(made.id)
    assert claimed
    key = house.media.save(made.id, "1.png", b"png")
    assert house.generations.finish(claimed, [{"key": key}], 1.0)
    with house.database.write() as connection:
        connection.execute(
            update(generations)
            .where(generations.c.id == made.id)
            .values(ended=now() - timedelta(days=days))
        )
    return made.id, key


def ids(house: House) -> set[int]:
    with house.database.read() as connection:
        return set(connection.execute(select(generations.c.id)).scalars())


def age(tmp_path: Path, key: str, hours: float) -> None:
    moment = time.time() - hours * 3600
    os.utime(tmp_path / "media" / key, (moment, moment))


def test_old_pictures_go_with_their_rows_and_nothing_else_does(house: House) -> None:
    _old, old_key = drawn(house, "old", days=31)
    new, new_key = drawn(house, "new", days=29)
    waiting = house.generations.submit(validate({"prompt": "waits"}), ANN, "waits", {})
    assert forget(house, timedelta(days=30)) == 1
    assert ids(house) == {new, waiting.id}
    assert house.media.load(new_key) == b"png"
    with pytest.raises(FileNotFoundError):
        house.media.load(old_key)


def test_by_default_a_picture_stays_for_ever(house: House) -> None:
    kept, _key = drawn(house, "ancient", days=4000)
    keep_house(house, 0)
    assert ids(house) == {kept}
    house.queue.redis.delete(TURN)
    keep_house(house, 30)
    assert not ids(house)


def test_stray_files_go_and_named_and_fresh_ones_stay(house: House, tmp_path: Path) -> None:
    one, key = drawn(house, "one")
    stray, fresh = house.media.save(one, "1.png", b"x"), house.media.save(one, "2.png", b"y")
    half = fresh + PART
    (tmp_path / "media" / half).write_bytes(b"half")
    for old in (key, stray, half):
        age(tmp_path, old, hours=2)
    assert sweep_files(house) == 2
    left = {path.name for path in (tmp_path / "media").rglob("*") if path.is_file()}
    assert left == {Path(key).name, Path(fresh).name}


def test_what_a_picture_begins_with_stays_as_long_as_any_needs_it(
    house: House, tmp_path: Path
) -> None:
    begun, begun_key = drawn(house, "begun with", days=60)
    brought, nobodys = house.media.save_upload(b"brought"), house.media.save_upload(b"nobody's")
    request = replace(
        house.generations.get(begun).request, mode=Mode.INPAINT, sources=(begun_key,), mask=brought
    )  # fmt: skip
    child = house.generations.submit(request, ANN, "child", {}, parent=begun)
    for key in (brought, nobodys, begun_key):
        age(tmp_path, key, hours=30)
    # Its row goes, its picture is needed.
    assert forget(house, timedelta(days=30)) == 1
    assert sweep_files(house) == 1
    assert house.media.has(begun_key) and house.media.has(brought)
    assert not house.media.has(nobodys)
    house.generations.cancel(child.id, ANN)
    assert forget(house, timedelta(days=-1)) == 1
    assert not house.media.has(begun_key) and not house.media.has(brought)


def test_a_picture_just_brought_stays_though_nobody_needs_it_yet(
    house: House, tmp_path: Path
) -> None:
    drawn(house, "some")
    key = house.media.save_upload(b"brought")
    age(tmp_path, key, hours=20)
    assert sweep_files(house) == 0 and house.media.has(key)


def test_it_is_done_once_an_hour_whoever_does_it(house: House) -> None:
    keep_house(house, 0)
    old, _key = drawn(house, "old", days=31)
    keep_house(house, 30)
    assert ids(house) == {old}, "its turn comes in an hour"
    assert 3500 < int(str(house.queue.redis.ttl(TURN))) <= 3600


def test_codes_and_counts_are_forgotten(house: House) -> None:
    moment = now()
    day = (moment - timedelta(days=60)).date().isoformat()
    with house.database.write() as connection:
        connection.execute(insert(usage).values(who="a", day=day, jobs=1, seconds=1.0))
        connection.execute(
            insert(usage).values(who="a", day=moment.date().isoformat(), jobs=1, seconds=1.0)
        )
        for code, until in (("over", -1), ("good", 1)):
            connection.execute(insert(links).values(
                code=code, platform="web", id="a", until=moment + timedelta(minutes=until),
            ))  # fmt: skip
    keep_house(house, 0)
    with house.database.read() as connection:
        assert connection.execute(select(usage.c.day)).scalars().all() == [
            moment.date().isoformat()
        ]
        assert connection.execute(select(links.c.code)).scalars().all() == ["good"]
