"""What moderators put on offer: checked, known to every process, and gone in words."""

import io
import json
import struct
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError

from bots import pictures
from core import catalog, offers, parts, registry, settings
from core.asking import Ask
from core.catalog import settle
from core.commands import run, suggestions
from core.database import Database, generations, offered
from core.engine import MARK
from core.errors import InvalidOptions, NotAllowed, UserError
from core.house import House
from core.keeping import sweep_files
from core.lifecycle import State
from core.lines import line_of
from core.options import Mode, validate
from core.people import Asker
from core.registry import Registry
from migrations import migrate
from tests.conftest import ROOT
from tests.core.test_policy import say

MOD = Asker("web", "mod", "Mod", trusted=True)


def safetensors(path: Path, layers: dict[str, tuple[int, ...]]) -> Path:
    """A file of the format, of zeroes."""
    header: dict[str, Any] = {}
    end = 0
    for name, shape in layers.items():
        size = 4 * shape[0] * shape[1]
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    told = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(told)) + told + bytes(end))
    return path


def lora(path: Path, width: int = 768) -> Path:
    return safetensors(path, {"unet.attn2.to_k.lora_A.weight": (4, width)})


def folder(path: Path, name: str = "model_index.json", **told: object) -> Path:
    path.mkdir(parents=True)
    (path / name).write_text(json.dumps({"_class_name": "StableDiffusionPipeline", **told}))
    return path


def test_a_model_is_added_asked_for_hidden_and_removed(
    house: House, tmp_path: Path, ann: Asker
) -> None:
    model = folder(tmp_path / "sdxl")
    assert say(house, MOD, f"/model add model {model}") == (
        "sdxl is on offer in a few seconds: --model sdxl"
    )
    assert list(catalog.models()) == ["pattern", "sdxl"] == suggestions("model")
    assert catalog.models()["sdxl"].size == 1024, "its family's facts"
    assert "sdxl" in say(house, ann, "/models")
    made = house.generations.submit(validate({"prompt": "a fox", "model": "SDXL"}), ann, "e", {})
    assert made.request.model == "sdxl"

    say(house, MOD, "/model default model SdXl")
    assert next(iter(catalog.models())) == "sdxl"
    say(house, MOD, "/model default model pattern")
    assert next(iter(catalog.models())) == "pattern", "one at a time, of the settings' too"

    assert "line is drawn" in say(house, MOD, "/model hide model sdxl")
    assert list(catalog.models()) == ["pattern"] == suggestions("model")
    assert "sdxl" in catalog.every_model(), "for what is in line"
    with pytest.raises(InvalidOptions, match=r"no model “sdxl”\. On offer: pattern"):
        say(house, ann, "/imagine a fox --model sdxl")
    house.generations.cancel(made.id, ann)
    with pytest.raises(UserError, match=r"model sdxl is no longer on offer\. On offer: pattern"):
        say(house, ann, f"/retry {made.id}")
    assert house.generations.get(made.id).state == State.CANCELLED
    say(house, MOD, "/model unhide model sdxl")
    say(house, ann, f"/retry {made.id}")
    assert house.generations.get(made.id).state == State.QUEUED

    assert "its files stay" in say(house, MOD, "/model remove model sdxl")
    assert list(catalog.every_model()) == ["pattern"] and model.is_dir()
    with pytest.raises(UserError, match="no model “sdxl”"):
        say(house, MOD, "/model hide model sdxl")


@pytest.mark.parametrize("do", ["add model x/y", "hide model pattern", "list", "default model x",
                                "remove model x", "note model x y"])  # fmt: skip
def test_only_those_whom_the_host_lists_may(house: House, ann: Asker, do: str) -> None:
    for asker in (ann, replace(ann, moderator=True)):
        with pytest.raises(NotAllowed, match="moderator whom the host lists"):
            say(house, asker, f"/model {do}")
    with house.database.read() as connection:
        assert not connection.execute(select(offered)).all()


def test_what_each_kind_must_be(house: House, tmp_path: Path) -> None:
    good = {
        "model": folder(tmp_path / "model"),
        "lora": lora(tmp_path / "one.safetensors"),
        "vae": folder(tmp_path / "vae", "config.json"),
        "upscaler": safetensors(tmp_path / "up" / "x4.safetensors", {"a": (2, 2)}).parent,
    }
    for kind, source in good.items():
        say(house, MOD, f"/model add {kind} {source}")
    assert [(one.kind, one.name) for one in offers.told()] == [
        ("model", "model"), ("lora", "one"), ("vae", "vae"), ("upscaler", "up"),
    ]  # fmt: skip
    assert offers.sources("vae") == {"vae": str(good["vae"])}
    assert catalog.known_parts(parts.loras) == ["one"]
    fitting = parts.loras(replace(catalog.models()["pattern"], context=768))
    assert fitting["one"].path == good["lora"]
    assert not parts.loras(replace(catalog.models()["pattern"], context=64)), "another family's"
    assert catalog.upscaler() == catalog.LANCZOS
    say(house, MOD, "/model default upscaler up")
    assert catalog.upscaler() == "up"
    assert catalog.upscalers() == {"up": tmp_path / "up" / "x4.safetensors"}
    say(house, MOD, "/model hide upscaler up")
    assert catalog.upscaler() == catalog.LANCZOS and "up" in catalog.every_upscaler()


def bad(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "empty").mkdir()
    (tmp_path / "two").mkdir()
    lora(tmp_path / "two" / "a.safetensors")
    lora(tmp_path / "two" / "b.safetensors")
    (tmp_path / "junk.safetensors").write_bytes(b"not at all")
    (tmp_path / "deep.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")
    (tmp_path / "nothing.safetensors").write_bytes(b"")
    safetensors(tmp_path / "plain.safetensors", {"unet.to_k": (2, 2)})
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "model_index.json").write_text("{")
    folder(tmp_path / "good")
    lora(tmp_path / "style.safetensors")
    return {
        f"model {tmp_path}/empty": "holds no model_index.json",
        f"model {tmp_path}/broken": "cannot be read",
        f"model {tmp_path}/style.safetensors": "is a file",
        f"model {tmp_path}/gone": "no worker is on line",  # Told, and stored.
        "model ./gone": "There is no folder ./gone here",
        "model gone": "There is no folder gone here. Give the whole path",
        "model https://host.example/owner/name?token=s3cret": "An address is no source",
        f"model {'x' * 501}": "at most 500 signs",
        f"model /{'x' * 400} long": "longer than any",
        f"model {tmp_path}/good two words": "cannot be typed as a name",
        f"model {tmp_path}/good --dash": "cannot be typed as a name",
        f"model {tmp_path}/good a,b": "cannot be typed as a name",
        f"model {tmp_path}/good fü": "cannot be typed as a name",
        f"model {tmp_path}/good {'x' * 65}": "cannot be typed as a name",
        f"model {tmp_path}/good Pattern": "a model called Pattern already",
        f"lora {tmp_path}/two": "several files or none",
        f"lora {tmp_path}/empty": "several files or none",
        f"lora {tmp_path}/good/model_index.json": "ends in .safetensors",
        f"lora {tmp_path}/junk.safetensors": "no safetensors file",
        f"lora {tmp_path}/deep.safetensors": "no safetensors file",
        f"lora {tmp_path}/nothing.safetensors": "is empty",
        f"lora {tmp_path}/plain.safetensors": "is no LoRA",
        f"upscaler {tmp_path}/junk.safetensors": "no safetensors file",
        f"vae {tmp_path}/empty": "holds no config.json",
        f"picture {tmp_path}/good": "must be one of model, lora, vae, upscaler",
        "model": "/model add needs kind and what, such as /model add model owner/name.",
        "": "/model add needs kind and what",
    }


def test_every_bad_input_is_answered_and_nothing_is_stored(house: House, tmp_path: Path) -> None:
    for line, words in bad(tmp_path).items():
        if "no worker" in words:
            continue
        with pytest.raises(UserError) as told:
            say(house, MOD, f"/model add {line}")
        assert words.lower() in str(told.value).lower(), line
        assert "Errno" not in str(told.value) and "s3cret" not in str(told.value)
    with house.database.read() as connection:
        assert not connection.execute(select(offered)).all()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("bake model pattern", "“do” must be one of add, hide"),
        ("hide model patern", "no model “patern”. Did you mean pattern?"),
        ("hide model pattern", "only model on offer"),
        ("remove model pattern", "is named by DRAWQUEUE_MODEL"),
        ("default lora x", "LoRAs have no default"),
        ("default vae x", "no vae “x”"),
        ("hide", "needs kind and what, such as /model hide model sdxl"),
        (f"note model pattern {'x' * 201}", "at most 200 signs"),
    ],
)
def test_what_cannot_be_done_is_told(house: House, line: str, words: str) -> None:
    with pytest.raises(UserError) as told:
        say(house, MOD, f"/model {line}")
    assert words in str(told.value)
    assert list(catalog.models()) == ["pattern"]


def test_the_same_thing_twice_is_told(house: House, tmp_path: Path) -> None:
    model = folder(tmp_path / "sdxl")
    say(house, MOD, f"/model add model {model}")
    with pytest.raises(UserError, match="a model called sdxl already"):
        say(house, MOD, f"/model add model {model}")
    with pytest.raises(UserError, match="on offer already, as sdxl"):
        say(house, MOD, f"/model add model {model} other")


def test_two_moderators_at_once_add_it_once(house: House, tmp_path: Path) -> None:
    model = folder(tmp_path / "sdxl")
    told: list[str] = []

    def add() -> None:
        try:
            told.append(house.registry.add("model", str(model), "sdxl", MOD))
        except UserError as error:
            told.append(str(error))

    threads = [threading.Thread(target=add) for _ in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sum("is on offer" in words for words in told) == 1
    assert sum("already" in words for words in told) == 5


def test_a_hub_id_is_taken_by_its_shape(house: House) -> None:
    say(house, MOD, "/model add model owner/dreamy-xl")
    one = catalog.models()["dreamy-xl"]
    assert (one.source, one.size, one.engine) == ("owner/dreamy-xl", 1024, "diffusers")


def test_parts_are_offered_to_models_of_their_family_alone(house: House, tmp_path: Path) -> None:
    for source in ("owner/dreamy-xl", "owner/flux.1-dev"):
        say(house, MOD, f"/model add model {source}")
    xl, flux = catalog.models()["dreamy-xl"], catalog.models()["flux.1-dev"]
    say(house, MOD, "/model add vae owner/sdxl-vae four")
    say(house, MOD, "/model add vae owner/flux-vae sixteen")
    assert (set(parts.vaes(xl)), set(parts.vaes(flux))) == ({"four"}, {"sixteen"})
    layer = "transformer.single_transformer_blocks.0.norm.linear.lora_A.weight"
    for path in (
        safetensors(tmp_path / "ink.safetensors", {layer: (4, 5)}),
        lora(tmp_path / "oil.safetensors", 2048),
    ):
        say(house, MOD, f"/model add lora {path}")
    assert (set(parts.loras(xl)), set(parts.loras(flux))) == ({"oil"}, {"ink"})
    with pytest.raises(InvalidOptions, match="LoRA “ink” is for another model than dreamy-xl"):
        settle(validate({"prompt": "a fox", "model": "dreamy-xl", "lora": "ink"}), 1)


def test_a_folder_of_another_machine_is_looked_at_there(house: House, tmp_path: Path) -> None:
    """Two machines in one: what stands below `models` is there while the worker looks."""
    models = tmp_path / "models"
    small = folder(models / "small-xl")
    (small / "unet").mkdir()
    (small / "unet" / "config.json").write_text('{"sample_size": 96, "cross_attention_dim": 2048}')
    (small / "vae").mkdir()
    (small / "vae" / "config.json").write_text('{"block_out_channels": [1, 1, 1, 1]}')
    models.rename(tmp_path / "away")

    told = say(house, MOD, f"/model add model {models}/small-xl")
    assert "no worker is on line to look" in told
    assert list(catalog.models()) == ["pattern"], "not before a worker has looked"
    assert "no worker has looked yet" in say(house, MOD, "/model list")
    (tmp_path / "away").rename(models)
    house.registry.look()
    there = catalog.models()["small-xl"]
    assert (there.size, there.context) == (768, 2048)
    models.rename(tmp_path / "away")
    catalog.models.cache_clear()
    assert catalog.models()["small-xl"] == there, "and the other machine knows the same of it"
    assert Mode.REMIX in there.modes and Mode.STYLE not in there.modes

    house.queue.draw.present("machine-cpu-1-a")
    over = threading.Event()
    house.registry.follow(looking=True, stopped=over)
    try:
        with pytest.raises(UserError, match="worker's machine has no such folder"):
            say(house, MOD, f"/model add model {models}/typo")
    finally:
        over.set()
    assert "typo" not in say(house, MOD, "/model list"), "a mistake leaves nothing behind"


ELSEWHERE = """
import sys, time
from core import catalog
from core.database import Database
from core.registry import Registry
Registry(Database(sys.argv[1])).follow()
for want in sys.argv[2:]:
    end = time.monotonic() + 30
    while ",".join(catalog.models()) != want:
        assert time.monotonic() < end, list(catalog.models())
        time.sleep(0.05)
    print(want, flush=True)
"""


def test_another_process_knows_within_seconds(house: House, tmp_path: Path) -> None:
    model = folder(tmp_path / "sdxl")
    url = house.database.engine.url.render_as_string(hide_password=False)
    wanted = ["pattern", "pattern,sdxl", "sdxl,pattern", "sdxl", "pattern,sdxl", "pattern"]
    other = subprocess.Popen(
        [sys.executable, "-c", ELSEWHERE, url, *wanted], cwd=ROOT, stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert other.stdout and other.stdout.readline() == "pattern\n"
    begun = time.monotonic()
    for line in (
        f"add model {model}", "default model sdxl", "hide model pattern", "unhide model pattern",
        "remove model sdxl",
    ):  # fmt: skip
        say(house, MOD, f"/model {line}")
        if line == "unhide model pattern":
            say(house, MOD, "/model default model pattern")
        assert other.stdout.readline() == f"{','.join(catalog.models())}\n"
    assert time.monotonic() - begun < 30
    assert other.wait(10) == 0


def test_a_database_that_is_away_changes_nothing(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it end the thread that follows: it is there again, and what it says is known."""
    monkeypatch.setattr("core.registry.FOLLOW_SECONDS", 0.1)
    say(house, MOD, f"/model add model {folder(tmp_path / 'sdxl')}")
    url = f"sqlite:///{tmp_path}/late.sqlite3"
    late, over = Database(url), threading.Event()
    try:
        with pytest.raises(OperationalError):
            Registry(late).refresh()
        Registry(late).follow(stopped=over)
        time.sleep(0.5)
        assert list(catalog.models()) == ["pattern", "sdxl"]
        migrate(url)
        end = time.monotonic() + 20
        while list(catalog.models()) != ["pattern"]:
            assert time.monotonic() < end
            time.sleep(0.05)
    finally:
        over.set()
        late.close()


def test_old_requests_name_what_is_gone(house: House, tmp_path: Path, ann: Asker) -> None:
    say(house, MOD, f"/model add lora {lora(tmp_path / 'ink.safetensors')}")
    up = safetensors(tmp_path / "x4.safetensors", {"a": (2, 2)})
    say(house, MOD, f"/model add upscaler {up}")
    plain = settle(validate({"prompt": "a fox", "lora": "INK:0.5"}), 1)
    assert plain.loras == (("ink", 0.5),)
    large = replace(plain, mode=Mode.UPSCALE, sources=("k",), upscaler="x4", factor=2)
    for number, request in enumerate((plain, large)):
        house.generations.submit(request, ann, f"e{number}", {})
    say(house, MOD, "/model hide lora ink")
    say(house, MOD, "/model remove upscaler x4")
    for request, words in ((plain, "LoRA ink is no"), (large, "upscaler x4 is no longer")):
        with pytest.raises(UserError, match=words):
            house.generations.submit(request, ann, f"again {words}", {})
    assert parts.loras(catalog.models()["pattern"], hidden=True), "for what is in line"


def test_notes_are_told_and_the_list_is_for_moderators(
    house: House, tmp_path: Path, ann: Asker
) -> None:
    source = folder(tmp_path / "sdxl")
    say(house, MOD, f"/model add model {source}")
    say(house, MOD, "/model note model sdxl Good   with faces.")
    listed = say(house, MOD, "/model list")
    assert listed == f"model sdxl: from {source}, by web:mod"
    assert str(tmp_path) not in say(house, ann, "/models")
    say(house, MOD, "/model hide model pattern")
    assert "model pattern: from the settings; hidden" in say(house, MOD, "/model list model")


# What each draws


def drawn(house: House, asker: Asker, event: str, **changes: Any) -> int:
    """A finished picture of somebody's."""
    request = replace(settle(validate({"prompt": "a secret"}), 1), **changes)
    made = house.generations.submit(request, asker, event, {})
    claimed = house.generations.claim(made.id)
    assert claimed
    out = io.BytesIO()
    note = PngInfo()
    note.add_text("parameters", "a secret")
    exif = Image.Exif()
    exif[0x010E] = "a secret"
    Image.new("RGB", (640, 320), "red").save(out, "PNG", pnginfo=note, exif=exif)
    key = house.media.save(made.id, "1.png", out.getvalue())
    result = {"key": key, "seed": 1, "width": 640, "height": 320}
    assert house.generations.finish(claimed, [result], 1.0)
    return made.id


def kept_samples(house: House, tmp_path: Path) -> list[Path]:
    return list((tmp_path / "media" / "samples").glob("*"))


def test_a_moderator_shows_a_small_copy_of_their_own_picture(
    house: House, tmp_path: Path, ann: Asker
) -> None:
    mine, other = drawn(house, MOD, "e1"), drawn(house, ann, "e2")
    with pytest.raises(UserError, match=f"no #{other} of yours"):
        say(house, MOD, f"/model picture model pattern {other}")
    assert not kept_samples(house, tmp_path), "what others drew is theirs"
    say(house, MOD, f"/model picture model pattern {mine}")
    ((name, key),) = registry.samples()
    small = house.media.load(key)
    image = Image.open(io.BytesIO(small))
    assert name == "pattern" and image.size == (256, 128) and image.getpixel((9, 9)) == (255, 0, 0)
    assert b"secret" not in small
    reply = run(house, "models", Ask(ann, "e", {}, {}))
    assert reply.samples == (("pattern", key),)
    sheet = Image.open(io.BytesIO(pictures.sheet(house, reply.samples) or b""))
    assert sheet.size == (pictures.TILE, pictures.TILE + pictures.LABEL)
    assert sheet.getpixel((128, 128)) == (255, 0, 0)
    assert min(sheet.crop((0, pictures.TILE, *sheet.size)).convert("L").getdata()) < 64, "its name"

    say(house, MOD, f"/model picture model pattern {mine}")
    assert len(kept_samples(house, tmp_path)) == 1, "the one before is gone"
    assert registry.samples()[0][1] != key
    sweep_files(house, timedelta(0))
    assert kept_samples(house, tmp_path), "no stray file"
    house.media.delete(registry.samples()[0][1])
    assert pictures.sheet(house, registry.samples()) is None


@pytest.mark.parametrize("line", ["/delete {}", "/takedown {} no", "/forget yes"])
def test_what_shows_something_goes_with_the_picture_that_it_is_of(
    house: House, tmp_path: Path, line: str
) -> None:
    mine, other = drawn(house, MOD, "e1"), drawn(house, MOD, "e2")
    say(house, MOD, f"/model picture model pattern {mine}")
    say(house, MOD, "/delete " + str(other))
    assert len(kept_samples(house, tmp_path)) == 1, "it is none of that one"
    say(house, MOD, line.format(mine))
    assert not kept_samples(house, tmp_path)
    house.registry.refresh()
    assert registry.samples() == ()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("model pattern", "Say which picture by its number"),
        ("model pattern 99", "no #99"),
        ("model other 1", "#1 was not drawn with other"),
        ("vae pattern 1", "Only models and LoRAs"),
        ("model pattern 1.2", "there is no 1.2"),
    ],
)
def test_what_shows_nothing_of_it_is_no_picture(
    house: House, tmp_path: Path, line: str, words: str
) -> None:
    drawn(house, MOD, "e1")
    with pytest.raises(UserError, match=words):
        say(house, MOD, f"/model picture {line}")
    assert not kept_samples(house, tmp_path)


def test_what_is_not_for_everybody_is_no_picture(house: House, tmp_path: Path) -> None:
    one = drawn(house, MOD, "e1")
    marked = [{**result, MARK: "nsfw"} for result in house.generations.get(one).results]
    with house.database.write() as connection:
        connection.execute(update(generations).values(results=marked))
    with pytest.raises(UserError, match="marked as nsfw"):
        say(house, MOD, f"/model picture model pattern {one}")
    assert not kept_samples(house, tmp_path)


def test_models_tells_what_each_can_do(
    house: House, tmp_path: Path, ann: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(house, MOD, f"/model add model {folder(tmp_path / 'sdxl')}")
    for number in range(10):
        lora(tmp_path / "loras" / f"l{number}.safetensors")
    monkeypatch.setenv("DRAWQUEUE_LORAS", str(tmp_path / "loras"))
    settings._read.cache_clear()
    say(house, MOD, "/model note model sdxl Good with faces.")
    house.queue.draw.present("machine-cpu-1-a", ["pattern"])
    pattern, sdxl = say(house, ann, "/models").split("\n")
    assert pattern.startswith("pattern (loaded): 256×256, 8 steps, DPM++ 2M, up to 1024 pixels")
    assert sdxl.startswith("sdxl: 1024×1024, 30 steps") and sdxl.endswith("Good with faces.")
    assert "LoRAs: l0, l1, l2, l3, l4, l5, l6, l7 and 2 more" in sdxl
    plain = replace(catalog.models()["pattern"], family=catalog.ANOTHER)
    monkeypatch.setitem(catalog.models(), "pattern", plain)
    pattern, sdxl = say(house, ann, "/models").split("\n")
    assert "/remix" in sdxl and "/remix" not in pattern and "/imagine" in pattern
    assert "without --no --chaos --lora --vae --clip-skip --tile --hires" in pattern


def test_a_model_of_another_machine_is_put_on_offer_where_the_host_can_ask_for_it(
    house: House, ann: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"The host has not set kie\.ai up") as refused:
        say(house, MOD, "/model add model kie:google/nano-banana")
    assert "KEY" not in str(refused.value), "what is lacking is the host's own affair"
    monkeypatch.setenv("KIE_API_KEY", "SECRET")
    settings._read.cache_clear()
    told = say(house, MOD, "/model add model kie:google/nano-banana")
    assert "No worker that asks kie.ai is on line" in told and "drawqueue worker remote" in told
    model = catalog.models()["kie:google/nano-banana"]
    assert (model.engine, model.source) == ("kie", "kie:google/nano-banana")
    house.queue.line("pollinations").present("machine-first-1-a", at_once=2)
    told = say(house, MOD, "/model add model pollinations:turbo quick")
    assert told == "quick is on offer in a few seconds: --model quick"
    request = settle(validate({"prompt": "a fox", "model": "quick"}), 7)
    assert line_of(request) == "pollinations"
    assert house.queue.workers() == {"draw": 0, "pollinations": 2}
    _, banana, quick = say(house, ann, "/models").split("\n")
    assert banana.startswith("kie:google/nano-banana (elsewhere, by kie.ai): 1024×1024, up to")
    assert quick.startswith("quick (elsewhere, by Pollinations): ") and "loaded" not in quick
    assert "SECRET" not in banana + say(house, MOD, "/model list")
    with pytest.raises(UserError, match="cannot be typed as a name"):
        say(house, MOD, '/model add model "kie:a b"')
    with pytest.raises(UserError, match="That is on offer already, as quick"):
        say(house, MOD, "/model add model pollinations:turbo other")
