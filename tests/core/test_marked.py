"""How marked pictures are shown to whom: the policy's rule, and the card that obeys it."""

from collections.abc import Callable
from typing import Any

import pytest

from core.cards import as_json, show_of
from core.engine import MARK, UNCHECKED
from core.house import House
from core.options import validate
from core.people import Asker
from core.policy import ALONE, Audience, PolicyFault, Show, parse
from core.rows import Generation

EVERYBODY = '[classes.fast]\nmembers = ["everyone"]\n'
CHANNEL = {"channel": "5", "guild": "9"}
THREAD = {"channel": "6", "parent": "5", "guild": "9"}


def marked(text: str) -> Callable[..., Show]:
    rules = parse(EVERYBODY + text).marked

    def shown(platform: str, aside: bool = False, **address: Any) -> Show:
        found = Audience.of(platform, address)
        return rules.to(Audience(found.names, found.alone, found.restricted, aside))

    return shown


def test_it_is_covered_but_where_discord_restricts_age() -> None:
    shown = marked("")
    assert shown("discord", **CHANNEL) == Show.SPOILER
    assert shown("discord", **CHANNEL, restricted=True) == Show.PLAIN
    assert shown("discord", channel="7", alone=True) == Show.SPOILER
    assert shown("telegram", chat=501) == shown("telegram", chat=-100) == Show.SPOILER
    assert shown("web", chat="web") == Show.SPOILER


def test_each_kind_of_place_has_its_own() -> None:
    shown = marked('[marked]\nshow = "withhold"\nrestricted = "blur"\nalone = "plain"')
    assert shown("discord", **CHANNEL) == shown("telegram", chat=-100) == Show.WITHHOLD
    assert shown("discord", **CHANNEL, restricted=True) == Show.BLUR
    assert {
        shown("discord", channel="7", guild="", alone=True), shown("telegram", chat=501),
        shown("web", chat="web"),
    } == {Show.PLAIN}  # fmt: skip


def test_the_nearest_place_counts() -> None:
    shown = marked(
        '[marked]\nwithhold = ["discord:guild:9", "telegram:chat:-100"]\nblur = ["telegram:501"]\n'
        .replace("telegram:501", "telegram:chat:501") + 'plain = ["discord:channel:5"]\n'
        'spoiler = ["discord:channel:6"]'
    )  # fmt: skip
    assert shown("discord", channel="4", guild="9", restricted=True) == Show.WITHHOLD
    assert shown("discord", **CHANNEL) == Show.PLAIN
    assert shown("discord", **THREAD) == Show.SPOILER
    assert shown("discord", **{**THREAD, "channel": "8"}) == Show.PLAIN, (
        "a thread is as its channel"
    )
    assert shown("telegram", chat=-100) == Show.WITHHOLD
    assert shown("telegram", chat=501) == Show.BLUR


def test_what_is_hidden_is_shown_to_the_asker_aside() -> None:
    for how, aside in (("plain", "plain"), ("blur", "spoiler"), ("withhold", "spoiler")):
        shown = marked(f'[marked]\nshow = "{how}"')
        assert shown("discord", aside=True, **CHANNEL) == aside
    shown = marked('[marked]\nshow = "blur"\nalone = "withhold"')
    assert shown("discord", aside=True, **CHANNEL) == Show.BLUR


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('[marked]\nshow = "spoilr"', 4, "one of plain, spoiler, blur, withhold; got 'spoilr'"),
        ('[marked]\nblurr = []', 4, "Did you mean “blur”?"),
        ('[marked]\nblur = "discord:channel:1"', 4, "a list"),
        ('[marked]\nblur = ["discord:role:1"]', 4, "names no place; write for example"),
        ('[marked]\nblur = ["everyone"]', 4, "“everyone” names no place"),
        ('[marked]\nblur = ["discord:1"]', 4, "“discord:1” names no place"),
        (
            '[marked]\nblur = ["discord:guild:1"]\nplain = ["discord:guild:1"]', 4,
            "discord:guild:1 stands in “plain” and in “blur”",
        ),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(PolicyFault) as fault:
        parse(EVERYBODY + text)
    (told,) = fault.value.faults
    assert told.startswith(f"policy.toml, line {line}: ") and words in told, told


# The card


def finished(
    house: House, asker: Asker, address: dict[str, Any], marks: tuple[str, ...] = ("nsfw",)
) -> Generation:
    made = house.generations.submit(
        validate({"prompt": "a fox", "count": len(marks)}), asker, f"e-{address}", address
    )
    claimed = house.generations.claim(made.id)
    assert claimed
    results = [
        {"key": house.media.save(made.id, f"{n}.png", b"x"), "seed": n, "width": 8, "height": 8,
         **({MARK: mark} if mark else {})}
        for n, mark in enumerate(marks)
    ]  # fmt: skip
    over = house.generations.finish(claimed, results, 1.0)
    assert over
    return over


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_card_is_as_its_audience_may_see_it(house: House, rules: Callable[[str], None]) -> None:
    ann = Asker("discord", "1", "Ann", chat="discord:channel:5")
    one = finished(house, ann, CHANNEL, ("", "nsfw"))
    card = house.card(one)
    assert (card.show, len(card.media)) == (Show.SPOILER, 2), "one of them is marked: so are all"
    assert card.notice == "Covered: marked as nsfw."
    rules(EVERYBODY + '[marked]\nshow = "withhold"\nplain = ["discord:channel:6"]')
    card = house.card(one)
    assert (card.show, card.media) == (Show.WITHHOLD, ())
    assert "The picture is not shown here: marked as nsfw." in card.notice
    assert f"/show {one.id} in a chat with me alone" in card.notice
    assert [button.action for button in card.buttons][:2] == ["u1", "u2"], "it can be gone on with"
    # Shown again elsewhere, it is as it is there; and so it is to who asked, alone.
    assert house.card(one, Audience.of("discord", {"channel": "6"})).show == Show.PLAIN
    alone = house.card(one, ALONE)
    assert (alone.show, len(alone.media)) == (Show.SPOILER, 2) and "/show" not in alone.notice
    rules(EVERYBODY + '[marked]\nshow = "withhold"\nalone = "withhold"')
    assert "/show" not in house.card(one).notice


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_what_nobody_could_look_at_is_as_marked(house: House, ann: Asker) -> None:
    one = finished(house, ann, {"chat": "web"}, (UNCHECKED,))
    assert house.card(one).notice == "Covered: it could not be checked."
    plain = finished(house, ann, {"chat": "web", "n": 1}, ("",))
    assert (house.card(plain).show, house.card(plain).notice) == (Show.PLAIN, "")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_interface_tells_the_mark_and_nothing_that_is_withheld(
    house: House, ann: Asker, rules: Callable[[str], None]
) -> None:
    one = finished(house, ann, {"chat": "web"}, ("", "hentai"))
    told = as_json(house.card(one, ALONE), one, None)
    assert [result.get("marked") for result in told["results"]] == [None, "hentai"]
    assert told["card"]["show"] == "spoiler"
    rules(EVERYBODY + '[marked]\nalone = "withhold"')
    told = as_json(house.card(one, ALONE), one, None)
    assert told["results"] == [] and told["card"]["show"] == show_of(one, ALONE) == "withhold"
