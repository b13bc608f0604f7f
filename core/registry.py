"""What moderators put on offer, in the database: checked first, and known to all within seconds.

Folders are as the worker's machine sees them. A bot on another machine stores what it cannot see
unchecked, and a worker's look decides; until then it is not on offer. Each process reads the few
rows every couple of seconds, so whatever answers a person answers from memory.
"""

import contextlib
import json
import logging
import os
import re
import threading
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from core import catalog, offers, parts
from core.database import Database, now, offered, one_at_a_time
from core.errors import UserError, nearest, report
from core.languages import mark, tr
from core.offers import Offer
from core.people import Asker
from core.providers import PROVIDERS, provider_of, unset

log = logging.getLogger("drawqueue")

FOLLOW_SECONDS = 2.0
# How long who adds a folder of another machine waits for what a worker there says.
LOOK_SECONDS = 5.0
# The rows that one may have: all of them are read every time.
MOST = 300
NAME = re.compile(r"\w[\w.+-]{0,63}", re.ASCII)
# A model on other machines may be called as its source is: pollinations:flux.
ELSEWHERE = re.compile(r"\w[\w.+:/@-]{0,63}", re.ASCII)
SOURCE, NOTE = 500, 200
# What holds the weights of a LoRA or of an upscaler.
FILES = {"lora": (".safetensors",), "upscaler": (".safetensors", ".pth", ".pt")}
ENDS = {
    "lora": mark("A LoRA is a file that ends in .safetensors."),
    "upscaler": mark("An upscaler is a file that ends in .safetensors or .pth or .pt."),
}
SEVERAL = {
    "lora": mark("{path} holds several files or none: name a LoRA's own file."),
    "upscaler": mark("{path} holds several files or none: name an upscaler's own file."),
}
# What tells of a folder, as diffusers writes it.
MODEL_INDEX, CONFIG = "model_index.json", "config.json"
TAKEN = {
    "model": mark("There is a model called {name} already. Give another name."),
    "lora": mark("There is a LoRA called {name} already. Give another name."),
    "vae": mark("There is a VAE called {name} already. Give another name."),
    "upscaler": mark("There is an upscaler called {name} already. Give another name."),
}
# How one asks for what was added.
HOW = {
    "model": mark("{name} is on offer in a few seconds: --model {name}"),
    "lora": mark("{name} is on offer in a few seconds: --lora {name}:0.8"),
    "vae": mark("{name} is on offer in a few seconds: --vae {name}"),
    "upscaler": mark(
        "{name} is on offer in a few seconds: /model default upscaler {name} lets it upscale"
    ),
}
NOT_SEEN = mark("The worker's machine has no such folder or file.")
ONLY_ONE = mark("{name} is the only model on offer: add or unhide another first.")


class NotHere(Exception):
    """This machine does not see what the source names."""


class Registry:
    """The rows, and what this process knows of them."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._over = threading.Event()
        self._following: threading.Thread | None = None

    # Knowing

    def refresh(self) -> None:
        """Know what is on offer now."""
        with self.database.read() as connection:
            rows = connection.execute(select(offered).order_by(offered.c.added)).all()
        offers.show(
            Offer(
                row.kind, row.name, row.source, row.hidden, row.chosen, row.note, row.picture,
                row.facts, row.fault,
            )
            for row in rows
        )  # fmt: skip

    def follow(self, *, looking: bool = False, stopped: threading.Event | None = None) -> None:
        """Go on knowing it, from a thread; `looking`: check what no other machine could see."""
        over = stopped or self._over

        def work() -> None:
            away = False
            while True:
                try:
                    self.refresh()
                    if looking:
                        self.look()
                    away = False
                except SQLAlchemyError as error:
                    if not away:
                        log.warning("what is on offer is not known: %s", type(error).__name__)
                    away = True
                except Exception as error:  # Whatever it is, the next round tries again.
                    report("what is on offer could not be read", error)
                if over.wait(FOLLOW_SECONDS):
                    return

        self._following = threading.Thread(target=work, daemon=True, name="registry")
        self._following.start()

    def rest(self) -> None:
        """Follow no longer."""
        self._over.set()
        if self._following:
            self._following.join(10)

    def look(self) -> None:
        """Check what was added on a machine that did not see it, as this one, a worker's, does."""
        for one in [one for one in offers.told() if one.source and one.facts is None]:
            facts: Mapping[str, Any] = {}
            fault = ""
            try:
                if at_hub(one.kind, one.source):
                    fetch(one.kind, one.source)
                facts = examine(one.kind, one.source)
            except NotHere:
                fault = NOT_SEEN
            except UserError as error:
                fault = str(error)
            self._set(one.kind, one.name, facts=dict(facts), fault=fault)
            log.info("%s %s: %s", one.kind, one.name, fault or "on offer")

    # Changing

    def add(self, kind: str, source: str, name: str, asker: Asker, *, workers: bool = False) -> str:
        """Put something on offer; `workers`: one is on line and can look. Answers in words.

        Raises UserError.
        """
        source = written(source)
        elsewhere = provider_of(source) if kind == "model" else None
        name = name.strip() or (source if elsewhere else _called(kind, source))
        if not NAME.fullmatch(name) and not (elsewhere and ELSEWHERE.fullmatch(name)):
            raise UserError(
                tr(
                    "“{name}” cannot be typed as a name: take letters, digits, . _ + and -, such "
                    "as {example}",
                    name=name[:60], example=f"/model add {kind} {source[:80]} my-{kind}",
                )
            )  # fmt: skip
        if elsewhere and not workers and unset(elsewhere[0]):
            # What is lacking is the host's own affair.
            raise UserError(
                tr(
                    "The host has not set {engine} up: drawqueue doctor tells what it needs.",
                    engine=PROVIDERS[elsewhere[0]].title,
                )
            )  # fmt: skip
        facts: Mapping[str, Any] | None = None
        try:
            facts = examine(kind, source)
            source = str(Path(source).absolute()) if Path(source).exists() else source
        except NotHere:
            if not Path(source).is_absolute() and not at_hub(kind, source):
                raise UserError(
                    tr(
                        "There is no folder {source} here. Give the whole path, as the worker's "
                        "machine has it or a hub id such as owner/name.",
                        source=source[:200],
                    )
                ) from None
        self._insert(kind, name, source, facts, asker)
        if elsewhere and not workers:
            self.refresh()
            return tr(
                "{name} is on offer: --model {name}. No worker that asks {engine} is on line: the "
                "host starts one by drawqueue worker remote.",
                name=name, engine=PROVIDERS[elsewhere[0]].title,
            )  # fmt: skip
        if facts is not None:
            return self._welcome(kind, name)
        if not workers:
            return tr(
                "This machine has no {source}, and no worker is on line to look. {name} is on "
                "offer when one has found it; /model list tells.",
                source=source[:200], name=name,
            )  # fmt: skip
        end = time.monotonic() + LOOK_SECONDS
        while time.monotonic() < end:
            time.sleep(0.2)
            self.refresh()
            one = offers.found(kind, name)
            if one and one.fault:
                self.remove(kind, name)
                raise UserError(tr(one.fault))
            if one and one.usable:
                return self._welcome(kind, name)
        return tr(
            "This machine has no {source}; the worker has not looked yet. /model list tells what "
            "it found.",
            source=source[:200],
        )

    def _welcome(self, kind: str, name: str) -> str:
        self.refresh()
        return tr(HOW[kind], name=name)

    def _insert(
        self, kind: str, name: str, source: str, facts: Mapping[str, Any] | None, asker: Asker
    ) -> None:
        taken = UserError(tr(TAKEN[kind], name=name))
        self.refresh()
        if name.lower() in {one.lower() for one in known(kind)}:
            raise taken
        with contextlib.suppress(IntegrityError), self.database.write() as connection:
            one_at_a_time(connection, "offered")
            rows = connection.execute(select(offered.c.kind, offered.c.name, offered.c.source))
            there = rows.all()
            for row in there:
                if (row.kind, row.name.lower()) == (kind, name.lower()):
                    raise taken
                if (row.kind, row.source) == (kind, source):
                    raise UserError(tr("That is on offer already, as {name}.", name=row.name))
            if len(there) >= MOST:
                raise UserError(tr("{most} entries are the most. Remove one first.", most=MOST))
            connection.execute(
                insert(offered).values(
                    kind=kind, name=name, source=source, facts=facts and dict(facts),
                    added_by=asker.account, added=now(), hidden=False, chosen=False,
                )
            )  # fmt: skip
            return
        raise taken

    def hide(self, kind: str, name: str, asker: Asker, hidden: bool = True) -> str:
        """Take something off offer for now, or put it back. Raises UserError."""
        name = self.named(kind, name)
        if kind == "model" and hidden and set(catalog.models()) <= {name}:
            raise UserError(tr(ONLY_ONE, name=name))
        self._say(kind, name, asker, hidden=hidden, **({"chosen": False} if hidden else {}))
        if not hidden:
            return tr("{name} is on offer again in a few seconds.", name=name)
        return tr(
            "{name} is hidden in a few seconds: nobody can ask for it. What is in line is drawn.",
            name=name,
        )

    def choose(self, kind: str, name: str, asker: Asker) -> str:
        """Make something its kind's default. Raises UserError."""
        if kind == "lora":
            raise UserError(tr("LoRAs have no default: each is asked for by --lora."))
        name = self.named(kind, name)
        one = offers.found(kind, name)
        if one and one.source and not one.usable:
            if not one.fault:
                words = tr("{name} cannot be used: no worker has looked yet.", name=name)
            else:
                words = tr("{name} cannot be used: {fault}", name=name, fault=tr(one.fault))
            raise UserError(words)
        if one and one.hidden:
            raise UserError(
                tr("{name} is hidden: /model unhide {kind} {name} first.", name=name, kind=kind)
            )
        with self.database.write() as connection:
            one_at_a_time(connection, "offered")
            connection.execute(
                update(offered).where(offered.c.kind == kind).values(chosen=False)
            )  # fmt: skip
            self._upsert(connection, kind, name, asker, {"chosen": True})
        self.refresh()
        # Translators: {kind} stays as it is typed: model, vae or upscaler.
        return tr("{name} is the default {kind} in a few seconds.", name=name, kind=kind)

    def describe(self, kind: str, name: str, words: str, asker: Asker) -> str:
        """Keep a line about something, which /models tells. Raises UserError."""
        name = self.named(kind, name)
        words = " ".join(words.split())
        if len(words) > NOTE or not words.isprintable():
            raise UserError(tr("A note is one line of at most {most} signs.", most=NOTE))
        self._say(kind, name, asker, note=words)
        if not words:
            return tr("{name} has no note any more.", name=name)
        return tr("Noted of {name}.", name=name)

    def picture(self, kind: str, name: str, key: str, asker: Asker) -> None:
        """Keep the key of a picture of what something draws. Raises UserError."""
        self._say(kind, self.named(kind, name), asker, picture=key)

    def remove(self, kind: str, name: str) -> str:
        """Forget what was added; its files stay. Raises UserError."""
        name = self.named(kind, name)
        one = offers.found(kind, name)
        if one is None or not one.source:
            setting = {"lora": "LORAS", "vae": "VAES", "upscaler": "UPSCALER"}.get(kind, "MODEL")
            raise UserError(
                tr(
                    "{name} is named by {setting}, where the host can take it out. "
                    "/model hide {kind} {name} hides it.",
                    name=name, setting=f"DRAWQUEUE_{setting}", kind=kind,
                )
            )  # fmt: skip
        if kind == "model" and set(catalog.models()) <= {name}:
            raise UserError(tr(ONLY_ONE, name=name))
        with self.database.write() as connection:
            connection.execute(
                delete(offered).where(offered.c.kind == kind, offered.c.name == name)
            )
        self.refresh()
        return tr(
            "{name} is off offer. What is in line for it ends with words; its files stay.",
            name=name,
        )

    def listed(self) -> list[str]:
        """All of it in lines, for moderators: where it lies, and what is wrong with it."""
        self.refresh()
        with self.database.read() as connection:
            rows = connection.execute(select(offered).order_by(offered.c.kind, offered.c.name))
            lines = []
            for row in rows:
                # Translators: of a model, a LoRA, a VAE or an upscaler.
                words = [tr("from the settings")]
                if row.source:
                    words = [tr("from {source}, by {who}", source=row.source, who=row.added_by)]
                if row.chosen:
                    # Translators: of a model, a VAE or an upscaler.
                    words.append(tr("default"))
                if row.hidden:
                    # Translators: of a model, a LoRA, a VAE or an upscaler.
                    words.append(tr("hidden"))
                if row.fault:
                    words.append(tr(row.fault))
                if row.source and row.facts is None:
                    words.append(tr("no worker has looked yet"))
                lines.append(f"{row.kind} {row.name}: {'; '.join(words)}")
        return lines

    def named(self, kind: str, name: str) -> str:
        """The name as it is written on the row or in the settings. Raises UserError."""
        self.refresh()
        names = {one.lower(): one for one in known(kind)}
        if name.strip().lower() not in names:
            near = nearest(name.strip().lower(), names)
            # Translators: {kind} stays as it is typed: model, lora, vae or upscaler.
            words = tr("There is no {kind} “{name}”.", kind=kind, name=name.strip()[:60])
            meant = near and tr("Did you mean {meant}?", meant=names[near])
            raise UserError(f"{words} {meant}".rstrip())
        return names[name.strip().lower()]

    def _say(self, kind: str, name: str, asker: Asker, **values: Any) -> None:
        with self.database.write() as connection:
            one_at_a_time(connection, "offered")
            self._upsert(connection, kind, name, asker, values)
        self.refresh()

    def _upsert(
        self, connection: Connection, kind: str, name: str, asker: Asker, values: dict[str, Any]
    ) -> None:
        mine = offered.c.kind == kind, offered.c.name == name
        if connection.execute(update(offered).where(*mine).values(values)).rowcount:
            return
        plain = {"hidden": False, "chosen": False, "added_by": asker.account, "added": now()}
        connection.execute(insert(offered).values(kind=kind, name=name, **(plain | values)))

    def _set(self, kind: str, name: str, **values: Any) -> None:
        mine = offered.c.kind == kind, offered.c.name == name
        with self.database.write() as connection:
            connection.execute(update(offered).where(*mine).values(values))
        self.refresh()


def known(kind: str) -> list[str]:
    """The names of what there is of a kind, hidden and faulty ones too."""
    added = [one.name for one in offers.of(kind)]
    named: list[str] = []
    match kind:
        case "model":
            named = list(catalog.every_model())
        case "lora":
            named = catalog.known_parts(parts.loras, hidden=True)
        case "vae":
            named = catalog.known_parts(parts.vaes, hidden=True)
        case "upscaler":
            named = list(catalog.every_upscaler())
    return list(dict.fromkeys([*added, *named]))


def note(kind: str, name: str) -> str:
    """What a moderator says of something; empty where none did."""
    one = offers.found(kind, name)
    return one.note if one else ""


def picture_of(kind: str, name: str) -> str:
    """The key of a picture of what something draws; empty where there is none."""
    one = offers.found(kind, name)
    return one.picture if one else ""


def samples() -> tuple[tuple[str, str], ...]:
    """The names of the models on offer that have a picture, and its key."""
    found = [(name, picture_of("model", name)) for name in catalog.models()]
    return tuple((name, key) for name, key in found if key)


# Looking


def written(source: str) -> str:
    """A source as it is kept. Raises UserError for what can be none."""
    source = source.strip()
    if not source:
        raise UserError(tr("Say where it lies: a folder, or a hub id such as owner/name."))
    if "://" in source:
        # An address may hold a key, and nothing is fetched from one.
        raise UserError(
            tr("An address is no source. Give a folder, or a hub id such as owner/name.")
        )
    if len(source) > SOURCE or not source.isprintable():
        raise UserError(tr("A source is one line of at most {most} signs.", most=SOURCE))
    return source


def _called(kind: str, source: str) -> str:
    last = Path(source.rstrip("/")).name
    if kind in FILES and Path(last).suffix in FILES[kind]:
        last = Path(last).stem
    return re.sub(r"[\s,:]+", "-", last)


def at_hub(kind: str, source: str) -> bool:
    """Whether a LoRA or an upscaler is named by its hub id: those are fetched before they draw."""
    if kind not in FILES or Path(source).suffix in FILES[kind] or Path(source).exists():
        return False
    return bool(parts.HUB_ID.fullmatch(source))


def fetch(kind: str, source: str) -> None:
    """Fetch a LoRA's or an upscaler's weights from the hub. Raises UserError."""
    if not find_spec("huggingface_hub"):
        raise UserError(tr("The worker has no huggingface_hub to fetch that with."))
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(
            source, allow_patterns=[f"*{ending}" for ending in FILES[kind]],
            endpoint=os.environ.get("HF_ENDPOINT"),
        )  # fmt: skip
    except Exception as error:  # Whatever a hub answers, or does not.
        fault = report(f"cannot fetch {source}", error)
        raise UserError(
            tr(
                "{source} could not be fetched: is it the right hub id, and public? "
                "(fault {fault})",
                source=source, fault=fault,
            )
        ) from error  # fmt: skip


def examine(kind: str, source: str) -> dict[str, Any]:
    """What this machine sees of a source.

    Raises NotHere where it sees nothing, and UserError for what is not of that kind.
    """
    if elsewhere := provider_of(source) if kind == "model" else None:
        if not PROVIDERS[elsewhere[0]].draws:
            raise UserError(tr("{engine} draws nothing.", engine=PROVIDERS[elsewhere[0]].title))
        return {"engine": elsewhere[0]}
    path = Path(source)
    if at_hub(kind, source):
        path = parts.folder_of(source)
    try:
        there = path.exists()
    except OSError:
        raise UserError(tr("That path is longer than any may be.")) from None
    if not there:
        if path.is_absolute() or not parts.HUB_ID.fullmatch(source) or source.startswith("."):
            raise NotHere
        if kind in FILES:
            raise NotHere
        if kind == "model":
            return catalog.facts_of(catalog._model(source))
        # Of a VAE's id the name tells as much as of a model's, where it is not fetched.
        fetched = parts.width_of(kind, parts.folder_of(source))
        return {"width": fetched or catalog._family(source).channels}
    match kind:
        case "model":
            if path.is_file():
                raise UserError(
                    tr(
                        "{path} is a file. A model's folder holds {name}, as diffusers does.",
                        path=path, name=MODEL_INDEX,
                    )
                )  # fmt: skip
            told = _json(path / MODEL_INDEX)
            if told is None:
                raise UserError(
                    tr(
                        "{path} is not a model's folder: it holds no {name}.",
                        path=path, name=MODEL_INDEX,
                    )
                )  # fmt: skip
            facts = catalog.facts_of(catalog._model(source))
            return {**facts, "class": str(told.get("_class_name", ""))[:80]}
        case "vae":
            if path.is_file():
                _header(path)
            elif _json(path / CONFIG) is None:
                raise UserError(
                    tr("{path} is not a VAE's folder: it holds no {name}.", path=path, name=CONFIG)
                )
            return {"width": parts.width_of(kind, path)}
        case "lora":
            file = _file(kind, path)
            return {"file": str(file.absolute()), **_lora(file)}
        case _:
            file = _file(kind, path)
            if file.suffix == ".safetensors":
                _header(file)
            return {"file": str(file.absolute())}


def _file(kind: str, path: Path) -> Path:
    """The file that is named, or the only one that lies in a folder. Raises UserError."""
    found = [path]
    if path.is_dir():
        found = [one for one in path.iterdir() if one.suffix in FILES[kind]]
    file = found[0] if len(found) == 1 else path
    if file.is_dir():
        raise UserError(tr(SEVERAL[kind], path=path))
    if file.suffix not in FILES[kind]:
        raise UserError(tr(ENDS[kind]))
    if not file.stat().st_size:
        raise UserError(tr("{path} is empty.", path=file))
    return file


def _json(path: Path) -> dict[str, Any] | None:
    """What a file tells; None where there is none. Raises UserError."""
    try:
        told = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        raise UserError(tr("{path} cannot be read.", path=path)) from None
    if not isinstance(told, dict):
        raise UserError(tr("{path} says nothing of a model.", path=path))
    return told


def _header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file. Raises UserError."""
    told = parts.header(path)
    if told is None:
        raise UserError(tr("{path} is no safetensors file, or is damaged.", path=path))
    return told


def _lora(path: Path) -> dict[str, Any]:
    if not any("lora" in name.lower() for name in _header(path)):
        raise UserError(tr("{path} is no LoRA: none of its layers is called so.", path=path))
    return {"width": parts.width_of("lora", path), "networks": parts.networks_of(path)}
