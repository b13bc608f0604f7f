"""What people and chats have set, and what becomes of a request under it."""

from collections.abc import Callable
from typing import Any

import pytest

from core import catalog, choosing, offers, settings, tastes
from core.asking import Ask, Reply
from core.commands import choose, from_text, press, run
from core.drawing import precheck
from core.errors import InvalidOptions, NotAllowed, UserError
from core.house import House
from core.offers import Offer
from core.options import OPTIONS, Mode
from core.people import Asker
from core.rows import Generation
from tests.core.test_people import code
from tests.core.test_policy import say

ANN = Asker("discord", "1", "Ann", chat="discord:channel:7", places=("discord:guild:9",))
BOB = Asker("discord", "2", "Bob", chat="discord:channel:7", places=("discord:guild:9",))
KEEPER = Asker("discord", "3", "Kim", chat="discord:channel:7", keeper=True)
MODERATOR = Asker("discord", "4", "Mo", chat="discord:channel:7", trusted=True)
ELSEWHERE = Asker("discord", "1", "Ann", chat="discord:channel:8")
PLACE = {"channel": "7", "guild": "9"}
events = iter(range(10**6))


def ask(house: House, asker: Asker, line: str, **more: Any) -> Reply:
    name, given, faults = from_text(line)
    return run(house, name, Ask(asker, f"e{next(events)}", PLACE, given, faults, **more))


def draw(house: House, asker: Asker, line: str) -> Generation:
    made = ask(house, asker, f"/imagine {line}").generation
    assert made
    return made


def notice(house: House, made: Generation) -> str:
    return house.card(made).notice


def test_what_may_be_set_are_options_and_nothing_is_kept_twice() -> None:
    names = {one.name for one in OPTIONS}
    for one in tastes.TASTES:
        assert set(one.options) <= names
        assert one.help
        for value in one.values():
            assert one.read(value) == value, "what is offered is how it is kept"
    assert tastes.taste("--ar").name == "size" and tastes.taste("M").name == "model"
    assert tastes.QUIET not in tastes.TASTES
    with pytest.raises(UserError, match="“count” has one value"):
        tastes.taste("count").read("{1, 2}")


def test_flags_win_over_mine_mine_over_the_chats_and_those_over_the_hosts(house: House) -> None:
    assert draw(house, ANN, "a fox").request.sampler == "DPM++ 2M"
    assert "whoever has set nothing" in say(house, KEEPER, "/settings set sampler Heun channel")
    assert draw(house, ANN, "a fox").request.sampler == "Heun"
    assert "sampler is Euler a" in say(house, ANN, "/settings set sampler euler_a")
    made = draw(house, ANN, "a fox")
    assert made.request.sampler == "Euler a"
    assert "by /settings: their own sampler" in house.card(made).details
    flagged = draw(house, ANN, "a fox --sampler DDIM")
    assert flagged.request.sampler == "DDIM" and "/settings" not in house.card(flagged).details
    theirs = draw(house, BOB, "a fox")
    assert theirs.request.sampler == "Heun"
    assert "this chat's sampler" in house.card(theirs).details
    assert draw(house, ELSEWHERE, "a fox").request.sampler == "Euler a", "mine goes with me"
    assert "sampler is Heun again (this chat's)" in say(house, ANN, "/settings reset sampler")
    say(house, MODERATOR, "/settings reset sampler channel")
    assert draw(house, ANN, "a fox").request.sampler == "DPM++ 2M"


def test_each_value_is_shown_with_where_it_came_from(house: House) -> None:
    say(house, KEEPER, "/settings set count 2 channel")
    say(house, ANN, "/settings sampler Euler a")
    told = ask(house, ANN, "/settings").text
    assert "sampler: Euler a (yours)" in told and "count: 2 (this chat's)" in told
    assert "model: pattern (the host's)" in told and "size: 256×256 (the host's)" in told
    assert "previews: on (the host's)" in told and "preset: none (the host's)" in told
    assert "quiet: off (the host's)" in told
    here = ask(house, BOB, "/settings channel").text
    assert "count: 2 (this chat's)" in here and "Euler a (yours)" not in here
    say(house, ANN, "/quiet")
    assert "quiet: on (yours)" in ask(house, ANN, "/settings").text
    say(house, ANN, "/settings set quiet off")
    assert not house.people.get("discord", "1").quiet, "one and the same"


def test_a_size_is_a_shape_or_pixels_and_any_flag_of_it_wins(house: House) -> None:
    say(house, ANN, "/settings set size 512x384")
    assert draw(house, ANN, "a fox").request.size == (512, 384)
    for flag in ("--ar 1:1", "--w 256", "--height 256"):
        made = draw(house, ANN, f"a fox {flag}").request
        assert 512 not in made.size and "Left out" not in notice(house, draw(house, ANN, "a cat"))
    say(house, ANN, "/settings set ar 3:2")
    width, height = draw(house, ANN, "a fox").request.size
    assert width / height == pytest.approx(1.5, abs=0.1)


def test_a_picture_keeps_its_own_ways_before_what_is_set(house: House) -> None:
    from tests.core.test_pictures import drawn

    old = drawn(house, "an old fox", ANN, sampler="Heun")
    say(house, ANN, "/settings set sampler Euler a")
    say(house, ANN, "/settings set size 3:2")
    say(house, ANN, "/settings set count 2")
    made = ask(house, ANN, f"/remix a cat --from {old.id}").generation
    assert made and made.request.sampler == "Heun" and made.request.count == 2
    assert made.request.size == old.request.size


@pytest.fixture
def another(monkeypatch: pytest.MonkeyPatch) -> str:
    """A second model, with one sampler, that knows no negative prompt."""
    offers.show([FLOWING])
    return FLOWING.name


FLOWING = Offer(
    "model", "flowing", "owner/FLUX.1-dev",
    facts={"family": "FluxPipeline", "sampler": "Euler", "size": 1024, "largest": 2048},
)  # fmt: skip


def test_what_does_not_fit_the_named_model_is_left_out_and_told_once(
    house: House, another: str
) -> None:
    say(house, ANN, "/settings set sampler Heun")
    made = draw(house, ANN, "{a, b} fox --model flowing")
    assert made.request.sampler == "Euler"
    told = notice(house, made)
    assert told.startswith("Left out: your sampler setting. flowing has no sampler Heun.")
    assert "/settings reset sampler" in told and told.count("Left out") == 1
    others = [one for one in house.generations.of(ANN) if one.id != made.id]
    assert len(others) == 1 and not notice(house, others[0]), "told once"


def test_a_model_that_is_gone_breaks_nothing(house: House, another: str) -> None:
    say(house, KEEPER, "/settings set model flowing channel")
    say(house, ANN, "/settings set sampler Heun")
    say(house, BOB, "/settings set model flowing")
    assert draw(house, BOB, "a fox").request.model == "flowing"
    offers.show(())
    mine, theirs = draw(house, ANN, "a fox"), draw(house, BOB, "a fox")
    assert mine.request.model == theirs.request.model == "pattern"
    assert mine.request.sampler == "Heun"
    assert "this chat's model setting. There is no model “flowing”." in notice(house, mine)
    assert "A moderator can change it" in notice(house, mine)
    assert "your model setting" in notice(house, theirs)


def test_what_the_class_does_not_allow_is_left_out(
    house: House, rules: Callable[[str], None]
) -> None:
    say(house, ANN, "/settings set count 4")
    rules('[classes.fast]\nmembers = ["everyone"]\ncount = 2\n')
    made = draw(house, ANN, "a fox")
    assert made.request.count == 1 and "at most 2 pictures in one grid" in notice(house, made)
    with pytest.raises(InvalidOptions, match="at most 2"):
        draw(house, ANN, "a fox --count 3")


def test_a_wrong_request_is_told_as_it_would_be_drawn(house: House, another: str) -> None:
    say(house, ANN, "/settings set model flowing")
    with pytest.raises(InvalidOptions, match="flowing draws at most 2048"):
        draw(house, ANN, "a fox --width 2048 --height 2048 --hires 4")


def test_precheck_knows_what_is_set_only_where_it_is_asked(house: House, another: str) -> None:
    say(house, ANN, "/settings set model flowing")
    large = {"prompt": "a fox --width 1600 --height 1600"}
    with pytest.raises(InvalidOptions, match="pattern draws at most 1024"):
        precheck(Mode.TEXT, large, 0)
    assert precheck(Mode.TEXT, large, 0, (house, ANN))["width"] == "1600"
    with pytest.raises(InvalidOptions, match="flowing draws at most 2048"):
        precheck(Mode.TEXT, {"prompt": "a fox --width 2048 --hires 4"}, 0, (house, ANN))


def test_linked_accounts_share_what_is_set_until_they_part(house: House) -> None:
    other = Asker("telegram", "5", "Ann", chat="telegram:chat:5")
    say(house, ANN, "/settings set sampler Euler a")
    say(house, other, "/settings set sampler Heun")
    say(house, other, "/settings set count 2")
    say(house, other, f"/link {code(house, ANN)} yes")
    values = {name: one.value for name, one in house.tastes.values(ANN).items()}
    assert values["sampler"] == "Heun" and values["count"] == "2", "what was set last"
    assert house.tastes.values(other)["sampler"].value == "Heun"
    say(house, ANN, "/settings reset sampler")
    assert house.tastes.values(other)["sampler"].origin == tastes.HOST
    say(house, ANN, "/settings set sampler DDIM")
    say(house, other, "/unlink")
    assert house.tastes.values(other)["sampler"].origin == tastes.HOST
    assert house.tastes.values(other)["count"].value == "2"
    assert house.tastes.values(ANN)["sampler"].value == "DDIM"


def test_only_who_keeps_a_chat_sets_what_counts_there(house: House) -> None:
    for line in ("/settings set count 2 channel", "/settings reset count channel"):
        with pytest.raises(NotAllowed, match="Only who may manage this chat"):
            say(house, ANN, line)
        for alone in (Asker("web", "ann", trusted=True), Asker("telegram", "9", keeper=True)):
            with pytest.raises(NotAllowed, match="alone in this chat"):
                say(house, alone, line)
    with pytest.raises(UserError, match="each person's own"):
        say(house, KEEPER, "/settings set quiet on channel")
    assert house.tastes.values(BOB)["count"].origin == tastes.HOST


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/settings set", "Write for example /settings set sampler Euler a"),
        ("/settings set samplr Heun", "no setting “samplr”. Did you mean sampler?"),
        ("/settings wings", "no setting “wings”. Known: model, size"),
        ("/settings set sampler", "What shall sampler be? For example /settings set sampler DPM"),
        ("/settings set sampler magic", "“sampler” must be one of DPM++ 2M"),
        ("/settings set model nope", "There is no model “nope”. On offer: pattern"),
        ("/settings set count 9", "“count” must be a whole number from 1 to 4; got 9."),
        ("/settings set size 99:1", "must lie between 1:4 and 4:1"),
        ("/settings set size 513x512", "must be a multiple of 8"),
        ("/settings set previews maybe", "“previews” is on or off; got maybe."),
        ("/settings set preset nope", "There is no preset “nope”."),
        ("/settings set preset Vlog", "Vlog is for video"),
        ("/settings set sampler " + "x" * 5000, "“sampler” must be one of"),
    ],
)
def test_bad_input_is_one_clear_answer(house: House, line: str, words: str) -> None:
    with pytest.raises(UserError) as told:
        say(house, ANN, line)
    assert words in str(told.value) and len(str(told.value)) < 1000
    assert all(one.origin == tastes.HOST for one in house.tastes.values(ANN).values())


def test_everything_is_taken_back_at_once(house: House) -> None:
    say(house, ANN, "/settings set sampler Heun")
    say(house, ANN, "/settings set count 2")
    assert "Everything is as this chat or the host has it" in say(house, ANN, "/settings reset all")
    assert "nothing changed" in say(house, ANN, "/settings reset all")
    assert draw(house, ANN, "a fox").request.count == 1


def test_who_wants_no_previews_has_none_on_any_card(house: House) -> None:
    def drawing(made: Generation) -> str:
        house.queue.redis.lrem(house.queue.draw.rq.key, 1, made.job)
        claimed = house.generations.claim(made.id)
        assert claimed
        house.queue.preview(made.id, claimed.attempt, b"small")
        return house.card(house.generations.get(made.id)).preview

    assert drawing(draw(house, ANN, "a fox"))
    say(house, ANN, "/settings set previews off")
    hidden = draw(house, ANN, "a cat")
    assert not drawing(hidden)
    assert drawing(draw(house, BOB, "a hen")), "others' are shown"
    failed = house.generations.cancel(hidden.id, ANN)
    again = press(house, "reseed", failed.id, Ask(ANN, "again", PLACE, {})).generation
    assert again and not drawing(again)


def test_many_that_were_agreed_to_are_what_was_shown(house: House) -> None:
    say(house, ANN, "/settings set sampler Heun")
    say(house, ANN, "/settings set preset anime")
    asked = ask(house, ANN, "/imagine {1, 2, 3, 4, 5, 6} foxes")
    assert asked.buttons
    say(house, ANN, "/settings set sampler DDIM")
    agreed = press(house, "agree", asked.buttons[0].generation, Ask(ANN, "yes", PLACE, {}))
    assert agreed.generation
    request = house.generations.get(agreed.generation.id).request
    assert request.sampler == "Heun" and request.prompt.count("anime style") == 1


# Chosen


def pick(house: House, asker: Asker, reply: Reply, label: str) -> Reply:
    (one,) = [one for one in reply.choices if one.label == label]
    return choose(house, one.id, Ask(asker, f"c{next(events)}", PLACE, {}))


def test_a_setting_is_chosen_in_one_message(house: House) -> None:
    shown = ask(house, ANN, "/settings")
    names = [one.label for one in shown.choices]
    assert names == [*(one.name for one in tastes.TASTES), "quiet"]
    values = pick(house, ANN, shown, "sampler")
    assert "Now: DPM++ 2M" in values.text
    assert [one.label for one in values.choices if one.now] == ["DPM++ 2M"]
    done = pick(house, ANN, values, "Euler a")
    assert "sampler is Euler a" in done.text and "sampler: Euler a (yours)" in done.text
    back = pick(house, ANN, pick(house, ANN, done, "sampler"), "As it was")
    assert "sampler: DPM++ 2M (the host's)" in back.text
    assert "quiet: on" in pick(house, ANN, pick(house, ANN, back, "quiet"), "on").text
    assert pick(house, ANN, values, "‹ Back").choices == shown.choices
    assert all(len(one.id.encode()) <= 64 for one in (*shown.choices, *values.choices))


def test_nobody_chooses_for_somebody_else(house: House) -> None:
    shown = ask(house, ANN, "/settings")
    with pytest.raises(NotAllowed, match="somebody else's"):
        pick(house, BOB, shown, "sampler")
    kept = ask(house, KEEPER, "/settings channel")
    values = pick(house, KEEPER, kept, "count")
    stolen = values.choices[-1].id.replace(f":{KEEPER.id}:", f":{BOB.id}:")
    with pytest.raises(NotAllowed, match="Only who may manage"):
        choose(house, stolen, Ask(BOB, "x", PLACE, {}))
    assert not ask(house, BOB, "/settings channel").choices
    pick(house, KEEPER, values, "3")
    assert draw(house, BOB, "a fox").request.count == 3


def test_a_choice_that_is_gone_or_odd_is_told(house: House, another: str) -> None:
    values = pick(house, ANN, ask(house, ANN, "/settings"), "model")
    offers.show(())
    with pytest.raises(UserError, match="not on offer any more"):
        pick(house, ANN, values, "flowing")
    for odd in ("set:", "set:1:m", "set:1:m:wings:", "set:1:x:count:", "set:1:m:count:zzzzzzzz"):
        with pytest.raises(UserError):
            choose(house, odd, Ask(ANN, "x", PLACE, {}))


def test_in_a_telegram_group_nobody_reads_anothers_settings(house: House) -> None:
    group = Asker("telegram", "5", chat="telegram:chat:-7")
    say(house, group, "/settings set sampler Heun")
    told = run(house, "settings", Ask(group, "g", {"chat": -7}, {})).text
    assert "Heun" not in told and "write /settings to me alone" in told
    alone = Asker("telegram", "5", chat="telegram:chat:5")
    assert "Heun (yours)" in run(house, "settings", Ask(alone, "a", {"chat": 5}, {})).text


def test_suggestions_are_of_the_setting_that_is_typed(house: House) -> None:
    def typed(given: dict[str, str]) -> list[str]:
        return choosing.suggestions(house, "value", ANN, given)

    assert typed({"setting": "count"}) == ["1", "2", "3", "4"]
    assert typed({"setting": "model"}) == list(catalog.models())
    assert typed({"setting": "wings"}) == []


def test_the_host_that_makes_no_previews_is_told(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRAWQUEUE_PREVIEWS", "off")
    settings._read.cache_clear()
    assert "previews: off (the host's)" in ask(house, ANN, "/settings").text
    assert "makes no previews" in say(house, ANN, "/settings set previews on")
