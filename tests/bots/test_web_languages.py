"""The web chat in other languages: the door, the pages, what scripts say, and what fits a phone."""

import asyncio
import re
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from babel.messages.catalog import Catalog
from playwright.sync_api import Browser, Page, Route, expect

from bots.web_chat import create_app
from bots.web_pages import PAGES, _said
from core import languages
from core.brush import Ticket
from core.house import House
from core.languages import LANGUAGES, preferred, speaking, tr, trn
from core.people import Asker
from tests.bots.test_web_axe import everything
from tests.bots.test_web_page import (
    CHROMIUM,
    LOCAL,
    PHONE,
    card,
    fits,
    locked,
    order,
    say,
    submit,
    until,
)
from tests.bots.test_web_page import browser as browser
from tests.bots.test_web_page import page as page
from tests.bots.test_web_text import web as web
from tests.core.test_pictures import drawn
from tests.languages import OTHERS, compiled, template

in_browser = pytest.mark.skipif(
    not CHROMIUM, reason="NO BROWSER: install chromium, page NOT tested"
)
NOTHING = "There is nothing here."


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """Languages are the same on either database."""
    return f"sqlite:///{tmp_path / 'rows.sqlite3'}"


def stretched(mark: str, text: str) -> str:
    """A text as a language with long words might say it."""
    vowels = re.sub(r"\{\w+\}|[aeiou]", lambda one: one[0] * (1 + (len(one[0]) == 1)), text)
    return f"{mark}·{vowels}"


@cache
def gathered() -> Catalog:
    return template()


def spoken_in(language: str) -> Catalog:
    made = Catalog(language)
    for one in gathered():
        if not one.id or one.context:
            continue
        if isinstance(one.id, tuple):
            each = [one.id[0], *[one.id[1]] * (made.num_plurals - 1)]
            told: Any = tuple(stretched(f"{language}{n}", text) for n, text in enumerate(each))
        else:
            told = stretched(language, one.id)
        made.add(one.id, told)
    return made


@pytest.fixture(scope="module")
def catalogs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that is marked, in every language."""
    folder = tmp_path_factory.mktemp("locale")
    for language in OTHERS:
        path = folder / language / "LC_MESSAGES" / f"{languages.DOMAIN}.mo"
        path.parent.mkdir(parents=True)
        path.write_bytes(compiled(spoken_in(language)))
    return folder


@pytest.fixture
def foreign(catalogs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(languages, "CATALOGS", catalogs)
    languages._catalog.cache_clear()
    yield
    languages._catalog.cache_clear()


def said(language: str, text: str, **values: Any) -> str:
    with speaking(language):
        return tr(text, **values)


def liking(language: str) -> dict[str, str]:
    return {"accept-language": f"{language},en;q=0.5"}


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("de", "de"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("DE_at", "de"),
        ("ja,fr;q=0.3,es;q=0.4", "es"),
        ("ja, ru; q=0.7, en; q=0.5", "ru"),
        ("fr;q=0, de;q=0.1", "de"),
        ("fr;q=x, es;q=nan, ru;q=0.1", "ru"),
        ("en,de", "en"),
        ("*", "en"),
        ("tlh,xx-de", "en"),
        (",;q=,=;,de;;q=1,\x00ä;q=1e999", "en"),
        ("x" * 10_000 + ",de", "en"),
    ],
)
def test_what_a_browser_likes_best_of_those_there_are(header: str, language: str) -> None:
    assert preferred(header) == language


def test_two_who_ask_at_once_are_spoken_to_each_in_their_language(
    house: House, foreign: None
) -> None:
    app = create_app(house)
    inside = threading.Barrier(2, timeout=30)

    @app.get("/api/meeting")
    async def meeting() -> list[str]:
        def work() -> str:
            # Neither goes on before both are here.
            inside.wait()
            return tr(NOTHING)

        return [tr(NOTHING), await asyncio.to_thread(work), tr(NOTHING)]

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as both:
            return await asyncio.gather(
                *(both.get("/api/meeting", headers=liking(one)) for one in ("de", "fr"))
            )

    for answer, language in zip(asyncio.run(ask()), ("de", "fr"), strict=True):
        assert answer.json() == [said(language, NOTHING)] * 3


def test_pages_answers_and_refusals_are_in_the_language_of_who_asks(
    foreign: None, web: httpx.Client
) -> None:
    for language in LANGUAGES:
        headers = liking(language)
        answers = {path: web.get(path, headers=headers) for path in ("/", "/paint/9", "/words.js")}
        for path, answer in answers.items():
            assert answer.headers["vary"] == "Accept-Language, Cookie", path
        assert f'<html lang="{language}">' in answers["/"].text
        assert answers["/"].headers["content-language"] == language
        assert said(language, "Tell me what to draw. For example:") in answers["/"].text
        assert f'<html lang="{language}">' in answers["/paint/9"].text
        assert said(language, "Nothing is painted yet: paint over what shall change.") in (
            answers["/words.js"].text
        )
        # Said by the loop, by a thread, and of a body that nobody read.
        assert web.get("/odd", headers=headers).json()["error"] == said(language, NOTHING)
        refused = web.get("/samples/fox", headers=headers).json()["error"]
        assert refused == said(language, "There is no picture of {name}.", name="fox")
        refused = web.post("/api/chat", content=b"x" * 2**21, headers=headers).json()["error"]
        too_long = "That is too long: a body has at most {most} KiB."
        assert refused == said(language, too_long, most=1024)
    assert "vary" not in web.get("/static/chat.css").headers
    # Who says nothing hears English, as ever.
    assert web.get("/odd").json()["error"] == NOTHING


def test_what_is_set_counts_for_more_than_what_the_browser_likes(
    house: House, foreign: None, web: httpx.Client
) -> None:
    made = drawn(house, who=LOCAL)
    with speaking("es"):
        submit(house, 1)
    assert web.post("/api/chat", json={"text": "/settings set language fr"}).status_code == 200
    for path in ("/", "/paint/9"):
        assert '<html lang="fr">' in web.get(path, headers=liking("de")).text
    assert web.get("/odd", headers=liking("de")).json()["error"] == said("fr", NOTHING)
    # A card is in the language of who looks at it now, whatever it was asked for in.
    told = web.get(f"/api/jobs/{made.id + 1}", headers=liking("de")).json()
    assert said("fr", "Cancel") in [one["label"] for one in told["card"]["buttons"]]
    # A page says all of itself in one language, whoever asks for its words.
    asked = web.get("/words.js", params={"language": "ru"}, headers=liking("de"))
    assert "ru·" in asked.text and "fr·" not in asked.text
    assert web.get("/words.js", params={"language": "../x"}).text == (
        web.get("/words.js", params={"language": "en"}).text
    )


def test_a_link_to_paint_speaks_to_whom_it_was_given(
    house: House, foreign: None, web: httpx.Client
) -> None:
    tina = Asker("telegram", "7", "Tina", chat="telegram:chat:7")
    house.tastes.set(tina, "language", "ru")
    one = drawn(house, who=tina)
    link = house.brush.link(Ticket.of(tina, one, 0))
    page = web.get(link, headers=liking("de"))
    assert '<html lang="ru">' in page.text and said("ru", "White is drawn anew.") in page.text
    sent = {"prompt": "a sea", "mask": "up_none", "event": "e"}
    refused = web.post(link, json=sent, headers=liking("de")).json()["error"]
    assert refused.startswith("ru·") and "“up_none”" in refused
    # Who has set nothing is spoken to as the browser likes.
    house.tastes.reset(tina, ["language"])
    assert '<html lang="de">' in web.get(link, headers=liking("de")).text


def test_the_door_is_shut_in_the_language_of_who_knocks(
    foreign: None, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    address = locked(monkeypatch, request)
    with httpx.Client(base_url=address, headers=liking("es")) as web:
        page = web.get("/", headers={"accept": "text/html"})
        assert page.status_code == 401 and '<html lang="es">' in page.text
        assert said("es", "The key, as the host of this chat gave it to you:") in page.text
        wrong = web.post("/key", data={"key": "no"}, headers={"accept": "text/html"})
        assert said("es", "That is not the key. Ask the host of this chat for it.") in wrong.text
        assert web.get("/words.js").status_code == 200
        asked = web.get("/api/jobs")
        assert asked.json()["error"].startswith("es·") and asked.status_code == 401


def test_pages_are_served_filled_in_alone(web: httpx.Client) -> None:
    for path in PAGES.iterdir():
        for name in (path.name, path.name.upper(), f"./{path.name}", f"x/%2e%2e/{path.name}"):
            answer = web.get(f"/static/{name}")
            assert "{{" not in answer.text
            if path.suffix == ".html":
                assert answer.status_code == 404 and answer.json()["error"] == NOTHING
        assert path.suffix == ".html" or web.get(f"/static/{path.name}").status_code == 200


def test_everything_that_scripts_say_is_in_the_catalogs() -> None:
    marked = {
        one.id for one in gathered()
        if one.id and any(where.endswith(".js") for where, _line in one.locations)
    }  # fmt: skip
    assert {(text, several) if several else text for text, several in _said()} == marked


# What is the same in every language: names, and what is typed.
ALIKE = re.compile(r"Drawqueue|/\w+ [a-z ]+")
FILLED = re.compile(r"{{.*?}}|{%.*?%}|{#.*?#}|<(script|style|svg)\b.*?</\1>", re.DOTALL)
IN_PAGES = re.compile(r'>([^<>]+)<|\b(?:alt|title|aria-label|placeholder|content)="([^"]+)"')
# A text that is shown, or thrown for somebody to read, without being said.
SHOWN = r"\b(?:textContent|innerText|ariaLabel|title|alt|placeholder)\s*[:=]\s*"
HANDED = r"\b(?:tell|hint|Error|lost|pressable|append)\("
IN_SCRIPTS = re.compile(rf"""(?:{SHOWN}|{HANDED})["`]([^"`]*[A-Za-z]{{3}}[^"`]*)""")


def unsaid(name: str, text: str) -> list[str]:
    if name.endswith(".js"):
        return IN_SCRIPTS.findall(re.sub(r"\$\{[^}]*\}", "", text))
    text = re.sub(r"<meta[^>]*>", "", FILLED.sub("", text))
    each = ("".join(one).strip(" ·\n") for one in IN_PAGES.findall(text))
    return [one for one in each if re.search("[A-Za-z]", one) and not ALIKE.fullmatch(one)]


def test_no_page_and_no_script_says_anything_in_english_alone() -> None:
    assert unsaid("x.html", "<p>Hello</p>") and unsaid("x.html", '<a title="Hello">{{ one }}</a>')
    assert unsaid("x.js", "hint(`None of ${one}`)") and unsaid("x.js", 'one.title = "Hello"')
    assert not unsaid("x.js", 'hint(tr("Hello"))')
    each = [path for kind in ("*.html", "*.js") for path in sorted(PAGES.glob(kind))]
    found = [f"{path.name}: {one}" for path in each for one in unsaid(path.name, path.read_text())]
    assert len(each) >= 6 and not found, found


@in_browser
def test_scripts_count_as_the_catalogs_do(foreign: None, page: Page) -> None:
    one, several = "{n} picture is the most.", "{n} pictures are the most."
    busy = "{queued} queued · {generating} generating · no worker"
    numbers = [*range(31), 100, 101, 102, 111, 121, 1_000_000]
    for language in LANGUAGES:
        told = page.evaluate(
            """async ([language, numbers, one, several, busy]) => {
                const { tr, trn } = await import(`/words.js?language=${language}`);
                const each = numbers.map((n) => trn(one, several, n));
                return [...each, tr(busy, { queued: "$&" }), tr("{a} of none", { a: 1 })];
            }""",
            [language, numbers, one, several, busy],
        )  # fmt: skip
        with speaking(language):
            assert told[: len(numbers)] == [trn(one, several, n) for n in numbers], language
            # What nobody told stays as it is.
            assert told[-2:] == [tr(busy, queued="$&", generating="{generating}"), "1 of none"]


@in_browser
def test_the_language_is_chosen_by_keyboard_and_stays(
    house: House, foreign: None, page: Page
) -> None:
    expect(page.get_by_role("button", name="Language: English")).to_have_text("English")
    page.locator("#language").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="English", exact=True)).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Deutsch")).to_be_hidden()
    page.keyboard.press("Enter")
    for _ in range(2):
        page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Deutsch")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("html")).to_have_attribute("lang", "de")
    expect(page.get_by_text(said("de", "Tell me what to draw. For example:"))).to_be_visible()
    expect(page.locator("#busy")).to_contain_text("de·")
    assert house.tastes.language(LOCAL) == "de"
    page.reload()
    expect(page.locator("#language")).to_have_text("Deutsch")


@in_browser
def test_no_secret_outlives_a_reload_in_the_browser(house: House, page: Page) -> None:
    def kept() -> str:
        return str(page.evaluate("JSON.stringify([{...sessionStorage}, {...localStorage}])"))

    for line, answer in (
        ("/key new draw a script", "That is your key"),
        ("/link", "within ten minutes"),
        ("/link ABCD-1234", "That code is wrong"),
        ("/lnk ABCD-1235", "There is no “/lnk”"),
        ("/Link@house ABCD-1236", "That code is wrong"),
        ("/quota", "web:local"),
    ):
        say(page, line)
        expect(page.locator(".bot").last).to_contain_text(answer)
    secret = re.search(r"dq_\S+", page.locator("main").inner_text())
    assert secret
    code = re.search(r"Write /link (\S+)", page.locator("main").inner_text())
    assert code
    for word in (secret[0], code[1], "dq_", "ABCD", "/key", "/link"):
        assert word not in kept(), word
    assert "/quota" in kept()
    page.reload()
    expect(page.get_by_text("web:local")).to_be_visible()
    assert order(page)[0] == "/quota" and len(order(page)) == 2


# What is wider than its place: the words of whatever may be pressed or read at a glance.
CUT = """() => [...document.querySelectorAll("button, a.button, h1, p, label, li, article")]
    .filter((one) => one.offsetWidth > 1 && one.scrollWidth > one.clientWidth + 1)
    .map((one) => one.outerHTML.slice(0, 200))"""


def whole(page: Page) -> None:
    """Nothing is wider than the screen, and no words wider than what they stand in."""
    fits(page)
    assert page.evaluate(CUT) == []


@in_browser
def test_long_words_fit_a_phone(
    house: House, foreign: None, browser: Browser, monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    address = locked(monkeypatch, request)
    small: Any = {"width": 360, "height": 740}
    with browser.new_context(viewport=small, locale="de-DE", color_scheme="dark") as context:
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.goto(address)
        page.get_by_label("de·").fill("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("de·")
        whole(page)
        page.get_by_label("de·").fill("o&p=n sesame")
        page.keyboard.press("Enter")
        expect(page.locator("#busy")).to_contain_text("de·")
        page.locator("#language").click()
        whole(page)
        page.keyboard.press("Escape")
        who = Asker("web", context.cookies()[0]["value"].split(".")[0], "web")
        with speaking("de"):
            everything(house, who)
        expect(page.locator(".card")).to_have_count(7)
        for line in ("/settings", "/show 99", "/models", "a fox --repeat 6 --count 2"):
            bots = page.locator(".bot").count()
            page.locator("#text").fill(line)
            page.keyboard.press("Enter")
            expect(page.locator(".bot")).to_have_count(bots + 1)
            whole(page)
        for number in (1, 2, 3, 4, 7):
            card(page, number).evaluate("e => e.scrollIntoView({ block: 'center' })")
            whole(page)
        card(page, 7).get_by_role("button").first.click()
        expect(card(page, 7).get_by_role("textbox")).to_be_visible()
        whole(page)
        card(page, 1).locator(".pictures button").click()
        expect(page.locator("#large")).to_be_visible()
        whole(page)
        page.goto(f"{address}/paint/1")
        expect(page.locator("#picture")).to_be_visible()
        page.get_by_role("button", name=stretched("de", "Send")).click()
        expect(page.locator("#said")).to_contain_text("de·")
        whole(page)
        page.goto(f"{address}/paint/99")
        whole(page)


@in_browser
def test_nothing_can_be_sent_before_the_words_are_there(
    house: House, browser: Browser, web: httpx.Client
) -> None:
    drawn(house, who=LOCAL)
    held: list[Route] = []

    def hold(one: Route) -> None:
        held.append(one)

    with browser.new_context(viewport=PHONE) as context:
        context.route("**/words.js*", hold)
        for path in ("/", "/paint/1"):
            held.clear()
            page = context.new_page()
            page.goto(f"{web.base_url}{path}", wait_until="commit")
            send = page.get_by_role("button", name="Send")
            expect(send).to_be_disabled()
            until(page, lambda: held)
            expect(send).to_be_disabled()
            for one in held:
                one.continue_()
            expect(send).to_be_enabled()
            assert len(held) == 1
