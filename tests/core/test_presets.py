"""Presets: built in, saved from pictures, shared, and what they make of a request."""

import re
from dataclasses import replace

import pytest

from core import presets, tastes
from core.asking import Ask
from core.commands import press, run
from core.errors import InvalidOptions, NotFound, UserError
from core.house import House
from core.options import validate
from core.people import Asker
from core.presets import NAME_LIMIT, built_in
from tests.core.test_people import code
from tests.core.test_pictures import drawn
from tests.core.test_policy import say
from tests.core.test_tastes import ANN, BOB, KEEPER, PLACE, another, ask, draw, notice

__all__ = ["another"]
# A member of the same guild, in another channel; and somebody of another guild.
CAT = Asker("discord", "5", "Cat", chat="discord:channel:8", places=("discord:guild:9",))
FAR = Asker("discord", "6", "Far", chat="discord:channel:77", places=("discord:guild:99",))


def saved(house: House, who: Asker = ANN, name: str = "misty", words: str = "") -> str:
    done = drawn(
        house, f"{name[:9]} {who.name}", who, sampler="Heun", steps=11, negative_prompt="fog"
    )
    return say(house, who, f"/preset save {name} {done.id} {words}".strip())


def test_eight_are_built_in_and_three_of_them_wait_for_video(house: House) -> None:
    assert [one.name for one in built_in()] == [
        "Cinematic portrait", "Anime", "Photorealistic", "Concept art", "Oil painting",
        "Cinematic video", "Vlog", "Time lapse",
    ]  # fmt: skip
    for one in built_in():
        assert presets.template(one.template) == one.template and one.given["negative_prompt"]
        validate({"prompt": one.prompt("a fox"), **one.given})
        assert presets.named(one.name) == one.name
    told = say(house, ANN, "/preset")
    assert "For everybody: Cinematic portrait, Anime" in told
    assert "For video, later: Cinematic video, Vlog, Time lapse" in told and len(told) < 1000
    for name in ("Cinematic video", "vlog", "TIME LAPSE"):
        with pytest.raises(InvalidOptions, match="is for video, which I do not draw yet"):
            draw(house, ANN, f"a fox --preset {name}")


def test_a_preset_is_settled_into_the_request_and_flags_win(house: House) -> None:
    made = draw(house, ANN, "a fox --preset cinematic PORTRAIT")
    assert made.request.prompt.startswith("a fox, cinematic portrait, ")
    assert "bad anatomy" in made.request.negative_prompt
    assert made.request.height > made.request.width
    assert "preset Cinematic portrait" in house.card(made).details
    flagged = draw(house, ANN, "a fox --preset cinematic portrait --no cats --ar 3:2").request
    assert flagged.negative_prompt == "cats" and flagged.width > flagged.height
    with pytest.raises(InvalidOptions, match=r"no preset “animo”\. Did you mean Anime"):
        draw(house, ANN, "a fox --preset animo")
    old = ask(house, ANN, "/imagine a hen --preset anime --seed 4").generation
    assert old
    house.generations.cancel(old.id, ANN)
    reseeded = press(house, "reseed", old.id, Ask(ANN, "reseed", PLACE, {})).generation
    assert reseeded
    assert replace(reseeded.request, seed=4) == old.request, "the same again"
    assert "preset Anime" in house.card(reseeded).details


@pytest.mark.parametrize("prompt", ["a {red, green} fox", "{{red}} fox", "a {prompt} fox", "a } {"])
def test_the_signs_of_a_prompt_stay_what_they_are(house: House, prompt: str) -> None:
    plain = [one.prompt for one in requests(house, prompt)]
    inside = [one.prompt for one in requests(house, f"{prompt} --preset anime")]
    assert [one.partition(", anime style")[0] for one in inside] == plain


def requests(house: House, line: str) -> list[object]:
    before = {one.id for one in house.generations.of(ANN)}
    draw(house, ANN, line)
    made = sorted((one for one in house.generations.of(ANN)), key=lambda one: one.id)
    return [one.request for one in made if one.id not in before]


def test_own_ones_are_saved_from_a_picture_used_and_deleted(house: House) -> None:
    told = saved(house, words="{prompt} in {thick, thin} mist")
    assert told.startswith("Saved misty, drawn like #") and "--preset misty" in told
    made = draw(house, ANN, "a tower --preset MISTY").request
    assert made.prompt == "a tower in thick mist"
    assert (made.sampler, made.steps, made.negative_prompt) == ("Heun", 11, "fog")
    shown = say(house, ANN, "/preset show misty")
    assert "prompt: {prompt} in {thick, thin} mist" in shown and "--steps 11" in shown
    assert "Yours: misty" in say(house, ANN, "/preset list")
    with pytest.raises(UserError, match="You have a preset Misty already"):
        saved(house, name="Misty")
    assert "is deleted" in say(house, ANN, "/preset delete Misty")
    with pytest.raises(InvalidOptions, match="no preset “misty”"):
        draw(house, ANN, "a tower --preset misty")


def test_use_finds_the_longest_name_and_takes_flags(house: House) -> None:
    saved(house, name="oil")
    made = ask(house, ANN, "/preset use oil painting of mine a red fox --seed 7").generation
    assert made and made.request.prompt.startswith("oil painting of of mine a red fox")
    assert made.request.seed == 7 and made.request.sampler != "Heun"
    quoted = ask(house, ANN, '/preset use "oil" painting of mine').generation
    assert quoted and quoted.request.prompt == "painting of mine"
    assert quoted.request.sampler == "Heun"
    with pytest.raises(UserError, match="What shall be drawn"):
        ask(house, ANN, "/preset use oil")


def test_each_has_a_preset_of_a_name_and_nobody_anothers(house: House) -> None:
    saved(house, ANN, words="{prompt} of Ann")
    saved(house, BOB, words="{prompt} of Bob")
    assert draw(house, ANN, "a --preset misty").request.prompt == "a of Ann"
    assert draw(house, BOB, "a --preset misty").request.prompt == "a of Bob"
    # Path by path: whoever has none never meets one of theirs.
    for line in (
        "/imagine a --preset misty", "/preset use misty a", "/preset show misty",
        "/preset delete misty", "/preset share misty", "/preset unshare misty",
        "/settings set preset misty", "/imagine a --preset mistyy",
    ):  # fmt: skip
        with pytest.raises(UserError) as told:
            ask(house, CAT, line)
        assert "of Ann" not in str(told.value) and "Did you mean misty" not in str(told.value)
    with pytest.raises(UserError, match="no preset “misty”"):
        ask(house, KEEPER, "/settings set preset misty channel")
    assert "Yours" not in say(house, CAT, "/preset") and "misty" not in house.presets.names(CAT)
    assert "misty" in house.presets.names(ANN)


def test_what_is_private_is_named_on_no_card(house: House) -> None:
    saved(house)
    made = draw(house, ANN, "a --preset misty")
    assert "misty" not in house.card(made).details
    with pytest.raises(InvalidOptions) as told:
        draw(house, ANN, "a --preset mistyy")
    assert "Did you mean" not in str(told.value), "others may read the answer"
    assert "a preset of their own" in house.card(made).details
    say(house, ANN, "/preset share misty")
    assert "preset misty" in house.card(draw(house, ANN, "a cat --preset misty")).details


def test_shared_with_a_server_all_there_use_it(house: House) -> None:
    saved(house, words="{prompt} of Ann")
    with pytest.raises(NotFound, match="no preset “misty” of your own"):
        say(house, BOB, "/preset share misty")
    assert "Everybody on this server" in say(house, ANN, "/preset share misty")
    say(house, ANN, "/preset share misty")
    assert draw(house, CAT, "a --preset misty").request.prompt == "a of Ann"
    assert "Shared here: misty" in say(house, CAT, "/preset")
    with pytest.raises(InvalidOptions):
        draw(house, FAR, "a --preset misty")
    # One's own counts before it, and the name is taken here.
    saved(house, BOB, words="{prompt} of Bob")
    assert draw(house, BOB, "a --preset misty").request.prompt == "a of Bob"
    with pytest.raises(UserError, match="Somebody shares a preset misty here already"):
        say(house, BOB, "/preset share misty")
    with pytest.raises(NotFound):
        say(house, CAT, "/preset delete misty")
    with pytest.raises(UserError, match="You share no preset"):
        say(house, CAT, "/preset unshare misty")
    keeper = replace(KEEPER, places=("discord:guild:9",))
    assert "not shared here any more" in say(house, keeper, "/preset unshare misty")
    with pytest.raises(InvalidOptions):
        draw(house, CAT, "a --preset misty")
    assert draw(house, ANN, "a --preset misty").request.prompt == "a of Ann", "still Ann's"
    say(house, ANN, "/preset share misty")
    say(house, ANN, "/preset delete misty")
    with pytest.raises(InvalidOptions):
        draw(house, CAT, "a --preset misty")


def test_one_of_ones_own_hides_a_built_in_one(house: House) -> None:
    saved(house, name="anime", words="{prompt} as I like it")
    assert draw(house, ANN, "a --preset Anime").request.prompt == "a as I like it"
    assert "cel shading" in draw(house, BOB, "a --preset Anime").request.prompt


def test_linked_accounts_have_them_in_common(house: House) -> None:
    there = Asker("telegram", "5", "Ann", chat="telegram:chat:5")
    saved(house)
    say(house, there, f"/link {code(house, ANN)} yes")
    alone = Ask(there, "list", {"chat": 5}, {})
    assert "Yours: misty" in run(house, "preset", alone).text
    group = replace(alone, address={"chat": -5})
    assert "Yours: misty" not in run(house, "preset", group).text, "others read along"
    say(house, there, "/unlink")
    assert "Yours" not in run(house, "preset", alone).text


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("x" * 33, f"has 33 characters; {NAME_LIMIT} is the most"),
        ("x" * 200, f"has 200 characters; {NAME_LIMIT} is the most"),
        ("fire 🔥", "without emoji"),
        ("🔥", "without emoji"),
        ("a{b}", "letters, digits, spaces"),
        ("a --b", "letters, digits, spaces"),
        ("none", "“none” means no preset at all"),
        ('""', "Give the preset a name"),
    ],
)
def test_a_name_that_cannot_be_is_refused_in_words(house: House, name: str, words: str) -> None:
    with pytest.raises(UserError, match=re.escape(words)):
        saved(house, name=name)
    assert not [one for one in house.presets.of(ANN) if one.own]


def test_names_may_have_spaces_and_any_letters(house: House) -> None:
    for name in ("Größe XL", "морской туман", "x" * 32, "b&w 35"):
        saved(house, name=f'"{name}"')
        assert draw(house, ANN, f"a --preset {name.upper()}").request.steps == 11


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("{subject} in mist", "no placeholder {subject}. Known: {prompt}"),
        ("{prompt} by {artist}", "no placeholder {artist}"),
        ("{prompt} im Stil von {Künstler}", "no placeholder {Künstler}"),
        ("{prompt}, {художник}", "no placeholder {художник}"),
        ("{prompt} by { the artist }", "no placeholder {the artist}"),
        ("in thick mist", "Say with {prompt} where"),
        ("in \\{prompt} mist", "Say with {prompt} where"),
        ("{{prompt}} in mist", "Say with {prompt} where"),
        ("{a {prompt}, b}", "cannot stand in other braces"),
        ("{prompt} " + "x" * 2000, "2000 is the most"),
    ],
)
def test_a_template_that_cannot_be_is_refused_in_words(house: House, words: str, told: str) -> None:
    with pytest.raises(UserError, match=re.escape(told)):
        saved(house, words=words)
    assert not [one for one in house.presets.of(ANN) if one.own]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/preset dance", "is none of these"),
        ("/preset save", "Which preset? For example /preset save misty 12"),
        ("/preset save misty 99999", "no #99999"),
        ("/preset save 12", "Give the preset a name first"),
        ("/preset save misty", "You have nothing to save a preset from"),
        ("/preset use", "Which preset? For example /preset use Anime"),
        ("/preset use nope a fox", "There is no preset “nope”"),
        ("/preset show nope", "There is no preset “nope”"),
        ("/preset delete Anime", "You have no preset “Anime” of your own"),
        ("/preset use Vlog a fox", "is for video"),
        ("/preset share " + "x" * 5000, "You have no preset"),
    ],
)
def test_bad_input_is_one_clear_answer(house: House, line: str, words: str) -> None:
    with pytest.raises(UserError) as told:
        say(house, ANN, line)
    assert words in str(told.value) and len(str(told.value)) < 500


def test_nobody_saves_from_a_picture_that_is_not_theirs_to_see(house: House) -> None:
    done = drawn(house, "a secret", BOB)
    with pytest.raises(NotFound):
        say(house, FAR, f"/preset save misty {done.id}")


def test_saved_parts_that_do_not_work_any_more_are_left_out(house: House, another: str) -> None:
    house.presets.save(ANN, "flow", "{prompt} flows", {"model": "flowing", "steps": 9})
    made = draw(house, ANN, "a --preset flow").request
    assert (made.model, made.steps) == ("flowing", 9)
    named = draw(house, ANN, "a --preset flow --model pattern")
    assert named.request.model == "pattern"
    house.presets.save(ANN, "gone", "{prompt} is gone", {"model": "nope", "steps": 9})
    left = draw(house, ANN, "a --preset gone")
    assert left.request.prompt == "a is gone" and left.request.steps == 9
    assert notice(house, left) == "Left out of the preset: model. There is no model “nope”."


def test_a_model_without_negative_prompts_is_none_the_worse(house: House, another: str) -> None:
    made = draw(house, ANN, "a fox --preset anime --model flowing")
    assert "anime style" in made.request.prompt and not notice(house, made)


def test_a_usual_preset_is_a_setting(house: House) -> None:
    say(house, ANN, "/settings set preset anime")
    made = draw(house, ANN, "a fox")
    assert "cel shading" in made.request.prompt and "their own preset" in house.card(made).details
    assert draw(house, ANN, "a fox --preset none").request.prompt == "a fox"
    other = draw(house, ANN, "a fox --preset oil painting").request.prompt
    assert "cel shading" not in other and "brush strokes" in other
    # What a picture brings along had its template already.
    done = drawn(house, "a hen, anime style", ANN)
    again = ask(house, ANN, f"/remix --from {done.id}").generation
    assert again and again.request.prompt == "a hen, anime style"
    say(house, ANN, "/settings set preset none")
    assert draw(house, ANN, "a fox").request.prompt == "a fox"


def test_a_usual_preset_that_is_gone_is_left_out_unnamed(house: House) -> None:
    saved(house)
    say(house, ANN, "/preset share misty")
    keeper = replace(KEEPER, places=("discord:guild:9",))
    say(house, keeper, "/settings set preset misty channel")
    assert draw(house, BOB, "a fox").request.steps == 11
    saved(house, BOB, words="{prompt} of Bob")
    assert draw(house, BOB, "a fox").request.prompt == "a fox", "the chat's is the one shared there"
    say(house, ANN, "/preset delete misty")
    made = draw(house, BOB, "a fox")
    assert made.request.prompt == "a fox"
    told = notice(house, made)
    assert "this chat's preset setting. It is not there any more." in told and "misty" not in told
    assert house.tastes.values(BOB)["preset"].origin == tastes.HERE


def test_a_prompt_that_leaves_no_room_for_a_usual_preset_is_drawn(house: House) -> None:
    say(house, ANN, "/settings set preset anime")
    made = draw(house, ANN, "x" * 3990)
    assert made.request.prompt == "x" * 3990
    assert "your preset setting. The prompt has" in notice(house, made)
    with pytest.raises(InvalidOptions, match="4000 is the most"):
        draw(house, ANN, "x" * 3990 + " --preset anime")
