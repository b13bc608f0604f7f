"""`/export`: all that is somebody's as ZIP files: pictures, recipes, requests, settings, presets.

The process that was asked puts it together in a thread of its own, through a file on its disk: no
worker and so no GPU waits for it. One at a time a person; if that process dies, the next /export
begins anew. What is there is handed over where it fits, and else by a signed link, for a day.
"""

import contextvars
import csv
import io
import json
import logging
import secrets
import tempfile
import textwrap
import threading
import time
import zipfile
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Row, delete, or_, select, update

from core.asking import Ask, Reply
from core.brush import BadLink
from core.cards import show_of
from core.database import exports, generations, now, presets, tastes, upsert
from core.errors import NotFound, report
from core.house import House
from core.keeping import EXPORT_KEPT
from core.languages import mark, tr, trn
from core.people import Person
from core.policy import ALONE, Show
from core.rows import Generation
from core.settings import Web, read

log = logging.getLogger("drawqueue")

# Where links lead, below DRAWQUEUE_PUBLIC_URL, and what they are signed for.
EXPORT = "/export/"
# How long somebody waits for it, and how soon it may be begun anew where nobody goes on with it.
WAIT_SECONDS = 15.0
LEASE = timedelta(minutes=2)
# As many files as anybody wants to fetch from a chat.
MOST_FILES = 10
# Rows that are read at once.
PAGE = 200
# What a ZIP needs beside each file's bytes, twice its name, and at its end.
AROUND, END = 400, 1000
COLUMNS = ("id", "created", "status", "prompt", "error", "seconds", "parent", "pictures", "text")
README = mark(
    "pictures/12-1.png is the first picture of request 12, pictures/12-1.json what it was drawn "
    "with, texts/13.txt what was written for request 13. requests.csv and requests.json list "
    "every request, those that failed too."
)
WIDTH = 90


class TooLarge(Exception):
    """More files than anybody wants to fetch from a chat."""


def export(house: House, ask: Ask) -> Reply:
    """`/export`: hand over what is there, or begin to put it together."""
    person = house.people.get(ask.asker.platform, ask.asker.id)
    linked = not ask.most or bool(read(Web).public_url)
    row = _known(house, person.id)
    stuck = row is not None and row.files is None and row.builder_until < now()
    if row is None or stuck or not _suits(row, ask) or _outdated(house, person, row):
        row = _begin(house, person, 0 if linked else ask.most)
    end = time.monotonic() + WAIT_SECONDS
    while row is not None and row.files is None and not row.fault and time.monotonic() < end:
        time.sleep(0.1)
        row = _known(house, person.id)
    if row is None or (row.files is None and not row.fault):
        return Reply(tr("I am putting it together. Write /export again in a few minutes."))
    if row.fault:
        let_go(house, [person.id])
        return Reply(row.fault)
    return _handed(house, ask, row)


def _known(house: House, person: str) -> Row[Any] | None:
    """What somebody asked for within a day."""
    with house.database.read() as connection:
        return connection.execute(
            select(exports).where(exports.c.person == person, exports.c.asked > now() - EXPORT_KEPT)
        ).one_or_none()


def _suits(row: Row[Any], ask: Ask) -> bool:
    """Whether what is there, or under way, can be handed over where it is asked for now."""
    if row.files is None or not ask.most or read(Web).public_url:
        return True
    return all(size <= ask.most for _key, size in row.files)


def _outdated(house: House, person: Person, row: Row[Any]) -> bool:
    """Whether there is more, or less, since what is there was put together."""
    if row.files is None:
        return False
    drawn, since = generations.c, row.asked
    changed = (
        select(drawn.id).where(
            drawn.person == person.id, or_(drawn.ended > since, drawn.deleted > since)
        ),
        select(presets.c.id).where(presets.c.owner.in_(person.everyone), presets.c.created > since),
        select(tastes.c.name).where(tastes.c.who.in_(person.everyone), tastes.c.changed > since),
    )
    with house.database.read() as connection:
        return any(connection.execute(one.limit(1)).first() for one in changed)


def _begin(house: House, person: Person, most: int) -> Row[Any] | None:
    """Begin to put it together, unless somebody else does."""
    builder, moment = secrets.token_hex(8), now()
    row = {
        "person": person.id, "asked": moment, "most": most, "files": None, "left_out": 0,
        "fault": "", "builder": builder, "builder_until": moment + LEASE,
    }  # fmt: skip
    old = _known(house, person.id)
    with house.database.write() as connection:
        new = upsert(connection)(exports).values(row)
        begun = connection.execute(
            new.on_conflict_do_update(
                index_elements=["person"], set_=row,
                # Somebody who is at it goes on; what is there makes way for what suits.
                where=(exports.c.builder_until < moment) | exports.c.files.is_not(None),
            ).returning(exports.c.builder)
        ).first()  # fmt: skip
    if begun:
        for key, _size in (old and old.files) or ():
            house.media.delete(key)
        # In the language of who asks.
        speaking = contextvars.copy_context().run
        threading.Thread(
            target=speaking, args=(_build, house, person, builder, most), daemon=True, name="export"
        ).start()
    return _known(house, person.id)


def _build(house: House, person: Person, builder: str, most: int) -> None:
    stored: list[tuple[str, int]] = []
    values: dict[str, Any] = {}
    try:
        left_out = 0
        for path, missing in _files(house, person, builder, most):
            left_out = missing
            if len(stored) == MOST_FILES:
                raise TooLarge
            stored.append((house.media.save_export(str(path)), path.stat().st_size))
        values = {"files": stored, "left_out": left_out}
    except TooLarge:
        values = {"fault": tr(
            "All of yours is too large for this chat: it would be more than {most} files. Ask the "
            "host for a web address (DRAWQUEUE_PUBLIC_URL), or write /export in the web chat.",
            most=MOST_FILES,
        )}  # fmt: skip
    except Exception as error:
        fault = report("an export failed", error)
        values = {"fault": tr("That did not work. Please try again later. (fault {fault})",
                              fault=fault)}  # fmt: skip
    try:
        kept = _note(house, person.id, builder, **values)
    except Exception as error:
        report("an export could not be noted", error)
        kept = False
    if not kept or "fault" in values:
        # Whoever is forgotten meanwhile, or asked anew, has no use for these.
        for key, _size in stored:
            house.media.delete(key)


def _note(house: House, person: str, builder: str, **values: Any) -> bool:
    """Note how far it is; False where it is not this one's to build any more."""
    with house.database.write() as connection:
        mine = exports.c.person == person, exports.c.builder == builder
        return connection.execute(update(exports).where(*mine).values(**values)).rowcount == 1


def _rows(house: House, person: Person) -> Iterator[Generation]:
    """Everything somebody asked for, oldest first, some at a time."""
    after = 0
    while some := house.generations.found(
        select(generations)
        .where(
            generations.c.person == person.id, generations.c.id > after,
            generations.c.deleted.is_(None),
        )
        .order_by(generations.c.id)
        .limit(PAGE)
    ):  # fmt: skip
        yield from some
        after = some[-1].id


def _files(house: House, person: Person, builder: str, most: int) -> Iterator[tuple[Path, int]]:
    """The paths of finished ZIPs, one after the other, and how many pictures found no place.

    Each is gone when the next is asked for.
    """
    left_out = 0
    with tempfile.TemporaryDirectory(prefix="drawqueue-export-") as folder:
        path = Path(folder) / "export.zip"
        made, size = None, 0
        try:
            made, size = _first(house, person, path)
            for one in _rows(house, person):
                if not _note(house, person.id, builder, builder_until=now() + LEASE):
                    return
                for name, data in _of(house, one):
                    need = len(data) + AROUND + 2 * len(name)
                    if most and need + END > most:
                        left_out += 1
                        continue
                    if most and size + need + END > most:
                        made.close()
                        yield path, left_out
                        made, size = zipfile.ZipFile(path, "w"), 0
                    made.writestr(name, data)
                    size += need
        finally:
            if made:
                made.close()
        yield path, left_out


def _first(house: House, person: Person, path: Path) -> tuple[zipfile.ZipFile, int]:
    """A ZIP with all that is no picture, and its size."""
    made = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED)
    words = textwrap.fill(tr(README), WIDTH, break_long_words=False, break_on_hyphens=False)
    made.writestr("README.txt", f"{words}\n")
    with made.open("requests.csv", "w", force_zip64=True) as file:
        text = io.TextIOWrapper(file, "utf-8", newline="")
        table = csv.writer(text)
        table.writerow(COLUMNS)
        for one in _rows(house, person):
            told = _told(one)
            table.writerow([_plain(told[name]) for name in COLUMNS])
        text.flush()
        text.detach()
    with made.open("requests.json", "w", force_zip64=True) as file:
        comma = b"[\n"
        for one in _rows(house, person):
            file.write(comma + json.dumps(_told(one), ensure_ascii=False).encode())
            comma = b",\n"
        file.write(b"\n]\n" if comma[:1] == b"," else b"[]\n")
    with house.database.read() as connection:
        names = person.everyone
        kept = connection.execute(select(tastes).where(tastes.c.who.in_(names))).all()
        own = connection.execute(select(presets).where(presets.c.owner.in_(names))).all()
    made.writestr("settings.json", _json({row.name: row.value for row in kept}))
    made.writestr("presets.json", _json([
        {"name": row.name, "template": row.template, "parameters": row.given} for row in own
    ]))  # fmt: skip
    made.compression = zipfile.ZIP_STORED
    assert made.fp
    return made, made.fp.tell() + END


def _of(house: House, one: Generation) -> Iterator[tuple[str, bytes]]:
    """The pictures of one, as names and bytes, each after what it was drawn with; or its text."""
    if one.text:
        yield f"texts/{one.id}.txt", one.text.encode()
    hidden = show_of(one, ALONE) == Show.WITHHOLD
    for index, result in enumerate(one.results, 1):
        name = f"pictures/{one.id}-{index}"
        recipe = one.request.alone(int(result.get("seed", one.request.seed))).told
        yield f"{name}.json", _json(recipe)
        if not hidden:
            try:
                yield f"{name}.png", house.media.load(str(result["key"]))
            except FileNotFoundError:
                log.info("a picture of #%d is not kept any more", one.id)


def _told(one: Generation) -> dict[str, Any]:
    return {
        "id": one.id, "created": one.created.isoformat(), "status": str(one.state),
        "prompt": one.request.prompt, "error": one.error, "seconds": one.seconds,
        "parent": one.parent, "pictures": len(one.results), "text": one.text,
        "platform": one.platform,
        "parameters": {name: value for name, value in one.request.told.items()
                       if name != "prompt"},
    }  # fmt: skip


def _plain(value: Any) -> Any:
    """A value that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" else value


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=1, default=str).encode()


# Handing it over


def _handed(house: House, ask: Ask, row: Row[Any]) -> Reply:
    sizes = [size for _key, size in row.files]
    words = tr("All that is yours: {size} MB, made {when} UTC.",
               size=f"{sum(sizes) / 1e6:.1f}", when=f"{row.asked:%Y-%m-%d %H:%M}")  # fmt: skip
    if row.left_out:
        words += " " + trn(
            "{n} picture is too large for this chat and not among it.",
            "{n} pictures are too large for this chat and not among it.", row.left_out,
        )  # fmt: skip
    if ask.most and all(size <= ask.most for size in sizes):
        number = len(sizes)
        names = [
            "drawqueue.zip" if number == 1 else f"drawqueue-{place}-of-{number}.zip"
            for place in range(1, number + 1)
        ]
        files = tuple(zip(names, (key for key, _size in row.files), strict=True))
        return Reply(words, files=files)
    public = read(Web).public_url.rstrip("/") if ask.most else ""
    until = int((row.asked + EXPORT_KEPT).timestamp())
    links = [
        f"{public}{EXPORT}" + house.brush.signed([row.person, row.builder, index, until], EXPORT)
        for index in range(len(sizes))
    ]
    about = tr("The link is yours alone and works for a day.")
    return Reply("\n".join([words, *links, about]))


def fetched(house: House, token: str) -> tuple[str, int]:
    """The key and size of the file that a link leads to. Raises BadLink and NotFound."""
    told = house.brush.verified(token, EXPORT)
    if told is None:
        raise BadLink(tr("That link is not one of mine."))
    person, builder, index, until = told
    row = _known(house, person)
    gone = row is None or row.builder != builder or not row.files or until < time.time()
    if row is None or gone:
        raise NotFound(tr("That file is not kept any more. /export makes a new one."))
    key, size = row.files[index]
    return key, size


def let_go(house: House, names: Sequence[str]) -> None:
    """Delete what somebody asked to take away, with its files."""
    mine = exports.c.person.in_(names)
    with house.database.write() as connection:
        # First: whoever is still at it notes nothing any more, and deletes what it made.
        connection.execute(delete(exports).where(mine, exports.c.files.is_(None)))
    with house.database.read() as connection:
        rows = connection.execute(select(exports).where(mine)).all()
    for row in rows:
        for key, _size in row.files or ():
            house.media.delete(key)
    seen = exports.c.builder.in_([row.builder for row in rows])
    with house.database.write() as connection:
        connection.execute(delete(exports).where(mine, seen))
