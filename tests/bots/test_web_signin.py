"""Signing in to the web chat over HTTP, with Discord's and Telegram's sign-in on loopback."""

import logging
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc.jwk import OctKey, RSAKey
from sqlalchemy import update

from bots import web_oauth
from bots.web_chat import create_app
from core import events, settings
from core.accounts import LIVES, Accounts
from core.cards import ACTIONS
from core.database import now, sessions
from core.house import House
from core.people import Asker
from tests.bots.test_web_text import web as web
from tests.core.test_accounts import BETTER, GOOD, Counting
from tests.core.test_pictures import drawn
from tests.servers.discord_oauth import DiscordOAuth
from tests.servers.oauth import Answer
from tests.servers.telegram_login import TelegramLogin

HTML = {"Accept": "text/html,*/*;q=0.8"}
NELLY, JOHN = Asker("discord", "80351110224678912"), Asker("telegram", "987654321")
COOKIE = "drawqueue_session"
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def cheap(house: House) -> None:
    kept = Accounts(house.database, house.queue.redis, house.people, Counting())
    vars(house)["accounts"] = kept


@pytest.fixture
def discord() -> Iterator[DiscordOAuth]:
    with DiscordOAuth() as made:
        assert isinstance(made, DiscordOAuth)
        yield made


@pytest.fixture
def telegram() -> Iterator[TelegramLogin]:
    with TelegramLogin() as made:
        assert isinstance(made, TelegramLogin)
        yield made


@pytest.fixture
def both(
    discord: DiscordOAuth, telegram: TelegramLogin, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """The settings of a host whose people may sign in with either."""

    def set_up(**more: str) -> None:
        told = {
            "DISCORD_CLIENT_ID": discord.client_id,
            "DISCORD_CLIENT_SECRET": discord.client_secret,
            "DISCORD_API_URL": f"{discord.address}/api/v10",
            "DISCORD_AUTHORIZE_URL": f"{discord.address}/oauth2/authorize",
            "TELEGRAM_TOKEN": f"{telegram.client_id}:AAH-bot-token",
            "TELEGRAM_CLIENT_SECRET": telegram.client_secret,
            "TELEGRAM_LOGIN_URL": telegram.address,
            **more,
        }
        for name, value in told.items():
            monkeypatch.setenv(name, value)
        settings._read.cache_clear()

    set_up()
    return set_up


def begin(web: httpx.Client, way: str, onward: str = "/account") -> str:
    """Where a browser is sent to say yes."""
    sent = web.post(f"/signin/{way}", data={"next": onward})
    assert sent.status_code == 303, sent.text
    return sent.headers["location"]


def consent(address: str) -> str:
    """Say yes, or no, there; where that leads back to."""
    said = httpx.get(address)
    assert said.status_code == 302, said.text
    return said.headers["location"]


def sign_in(web: httpx.Client, way: str, onward: str = "/account") -> httpx.Response:
    return web.get(consent(begin(web, way, onward)), headers=HTML)


def register(web: httpx.Client, name: str, password: str = GOOD) -> str:
    """A new account; its token."""
    made = web.post("/signin/new", data={"name": name, "password": password, "next": "/account"})
    assert (made.status_code, made.headers["location"]) == (303, "/account"), made.text
    return str(web.cookies[COOKIE])


def user(web: httpx.Client, **more: Any) -> str:
    """Who a browser is, as the page is told."""
    with web.stream("GET", "/api/events", **more) as stream:
        if stream.status_code != 200:
            stream.read()
            return f"{stream.status_code} {stream.json()['error']}"
        for line in stream.iter_lines():
            if line.startswith("data:"):
                return str(httpx.Response(200, text=line[5:]).json()["user"])
    raise AssertionError("nothing was told")


def sorry(page: httpx.Response) -> str:
    found = re.search(r'role="alert">([^<]*)<', page.text)
    assert found, page.text
    return found[1].replace("&#39;", "'")


def test_a_name_and_a_password_over_http(web: httpx.Client) -> None:
    assert user(web) == "web:local", "as ever, before anybody signs in"
    first = web.get("/", headers=HTML)
    assert 'href="/signin"' in first.text
    token = register(web, "Ann")
    set_ = web.post("/signin", data={"name": "Ann", "password": GOOD}).headers["set-cookie"]
    assert web.cookies[COOKIE] != token, "a fresh token at each sign-in"
    for word in ("HttpOnly", "SameSite=lax", "Path=/", f"Max-Age={int(LIVES.total_seconds())}"):
        assert word in set_
    assert "Secure" not in set_, "it would be thrown away without https"
    me = user(web)
    assert re.fullmatch("web:[0-9a-f]{16}", me)
    page = web.get("/account")
    assert ">Ann</h2>" in page.text and page.headers["cache-control"] == "no-store"
    assert ">Ann</a>" in web.get("/").text
    made = web.post("/api/jobs", json={"prompt": "a fox"}).json()["id"]
    web.post("/account/out")
    assert COOKIE not in web.cookies and user(web) == "web:local"
    assert web.get(f"/api/jobs/{made}").status_code == 404
    for name, password in (("Ann", BETTER), ("Bob", GOOD), ("", ""), ("x" * 9000, "y" * 9000)):
        wrong = web.post("/signin", data={"name": name, "password": password}, headers=HTML)
        assert wrong.status_code == 401
        assert sorry(wrong) == "That name and password do not go together."
        assert password not in wrong.text or not password
    entered = web.post("/signin", data={"name": " ann", "password": GOOD, "next": "/?x=1"})
    assert entered.headers["location"] == "/?x=1" and user(web) == me
    assert web.get("/signin?next=/account").headers["location"] == "/account"


def test_what_cannot_be_is_told_on_the_page(web: httpx.Client) -> None:
    for name, password, words in (
        ("🦊🦊🦊", GOOD, "A name has 3 to 32 letters"),
        ("x" * 200, GOOD, "A name has 3 to 32 letters"),
        ("<script>", GOOD, "A name has 3 to 32 letters"),
        ("Ann", "short", "at least 8 characters"),
    ):
        made = web.post("/signin/new", data={"name": name, "password": password})
        assert made.status_code == 422 and words in sorry(made)
        assert "<script>" not in made.text and "short" not in made.text
    assert web.post("/signin/new", content=b"&".join([b"a=1"] * 50)).status_code == 422
    foreign = {"Origin": "http://evil.example"}
    for path in ("/signin", "/signin/new", "/signin/discord", "/account/out"):
        assert web.post(path, headers=foreign).status_code == 403
    assert web.post("/signin", headers={"Origin": "null"}).status_code == 403


@pytest.mark.parametrize(
    "onward", ["//evil.example", "https://evil.example", "/\\evil.example", "\\\\evil.example",
               "/\t/evil.example", "/\n//evil.example", "javascript:alert(1)", "", "x" * 9000,
               "/signin?next=/signin"],
)  # fmt: skip
def test_nobody_is_led_elsewhere(web: httpx.Client, onward: str) -> None:
    if onward == "//evil.example":
        register(web, "Ann")
    web.post("/account/out")
    told = {"name": "Ann", "password": GOOD, "next": onward}
    assert "evil" not in web.get("/signin", params={"next": onward}).text
    if onward == "//evil.example":
        assert web.post("/signin", data=told).headers["location"] == "/"
        assert web.get("/signin", params={"next": onward}).headers["location"] == "/"


def test_a_stolen_cookie_is_worth_nothing_when_its_browser_is_signed_out(
    house: House, web: httpx.Client
) -> None:
    stolen = register(web, "Ann")
    thief = {"Cookie": f"{COOKIE}={stolen}"}
    address = str(web.base_url)
    me = user(web)
    other = httpx.Client(base_url=address, timeout=30)
    other.post("/signin", data={"name": "Ann", "password": GOOD})
    listed = other.get("/account")
    assert listed.text.count("/account/browsers/") == 2
    number = max(map(int, re.findall(r"/account/browsers/(\d+)", listed.text)))
    assert user(httpx.Client(base_url=address, timeout=30), headers=thief) == me
    # What is open ends, too.
    with httpx.stream("GET", f"{address}/api/events", headers=thief, timeout=30) as stream:
        lines = stream.iter_lines()
        assert next(lines).startswith("event: hello")
        web.post("/account/out")
        while True:
            events.publish(house.queue.redis, 0)
            try:
                next(lines)
            except StopIteration:
                break
    with httpx.Client(base_url=address, timeout=30) as plain:
        for path in ("/api/jobs", "/api/queue"):
            refused = plain.get(path, headers=thief)
            assert refused.status_code == 401
            assert refused.json()["error"] == "You are signed out. Reload this page."
        page = plain.get("/", headers={**thief, **HTML})
        assert page.status_code == 200 and "Sign in" in page.text
        assert f'{COOKIE}=""' in page.headers["set-cookie"], "and the browser forgets it"
        for altered in (stolen[:-1], stolen + "x", stolen.swapcase(), "", "é", "x" * 3000):
            bad = {b"Cookie": f"{COOKIE}={altered or 'x'}".encode()}
            assert plain.get("/api/jobs", headers=bad).status_code == 401
    assert user(other) == me
    # Everywhere, and by another password.
    register(web, "Bob")
    third = web.cookies[COOKIE]
    assert other.post(f"/account/browsers/{number}").status_code == 303, "this very browser"
    assert user(web) != me
    changed = web.post("/account/password", data={"old": GOOD, "new": BETTER})
    assert "Your password is changed. Every other browser is signed out." in changed.text
    assert web.cookies[COOKIE] == third and user(web).startswith("web:")
    web.post("/account/everywhere")
    with httpx.Client(base_url=address, timeout=30) as another:
        assert user(another, headers={"Cookie": f"{COOKIE}={third}"})[:3] == "401"


def test_a_cookie_that_was_planted_is_nobodys_later(web: httpx.Client) -> None:
    with httpx.Client(base_url=web.base_url, timeout=30) as ann:
        register(ann, "Ann")
    planted = register(web, "Eve")
    mine = user(web)
    web.post("/signin", data={"name": "Ann", "password": GOOD})
    assert web.cookies[COOKIE] != planted and user(web) != mine
    with httpx.Client(base_url=web.base_url, timeout=30) as plain:
        got = user(plain, headers={"Cookie": f"{COOKIE}={planted}"})
        assert got.startswith("401"), "it ended where somebody else signed in"


def test_a_session_ends_by_itself(house: House, web: httpx.Client) -> None:
    register(web, "Ann")
    with house.database.write() as connection:
        connection.execute(update(sessions).values(made=now() - LIVES))
    assert user(web).startswith("401 You are signed out")
    assert web.get("/account", headers=HTML).headers["location"] == "/signin?next=/account"


@pytest.mark.usefixtures("both")
@pytest.mark.parametrize(("way", "who"), [("discord", NELLY), ("telegram", JOHN)])
def test_who_signs_in_from_a_chat_sees_what_they_made_there(
    house: House, web: httpx.Client, way: str, who: Asker
) -> None:
    theirs = drawn(house, who=who)
    anothers = drawn(house, "an owl", Asker(who.platform, "8"))
    assert f'action="/signin/{way}"' in web.get("/signin").text
    back = sign_in(web, way, "/?from=chat")
    assert (back.status_code, back.headers["location"]) == (303, "/?from=chat"), back.text
    assert user(web) == f"web:{way}-{who.id}"
    assert [one["id"] for one in web.get("/api/jobs").json()] == [theirs.id]
    assert web.get(f"/media/{theirs.id}/0").status_code == 200
    assert web.get(f"/media/{anothers.id}/0").status_code == 404
    made = web.post("/api/jobs", json={"prompt": "an owl"}).json()["id"]
    assert house.generations.visible(made, who).user == who.account
    account = web.get("/account").text
    assert who.account in account and "Another password" not in account
    assert {"discord": "Nelly", "telegram": "John Doe"}[way] in account
    token = web.cookies[COOKIE]
    assert sign_in(web, way).status_code == 303 and web.cookies[COOKIE] != token


def test_a_sign_in_from_a_chat_is_for_one_browser_and_once(
    both: Callable[..., None], house: House, web: httpx.Client, discord: DiscordOAuth
) -> None:
    back = consent(begin(web, "discord"))
    again = "That sign-in was not begun in this browser, or took too long. Start again."
    with httpx.Client(base_url=web.base_url, timeout=30) as victim:
        # Somebody else's sign-in, given as a link.
        other = victim.get(back, headers=HTML)
        assert (other.status_code, sorry(other)) == (409, again) and COOKIE not in victim.cookies
        begin(victim, "discord")
        mine = consent(begin(web, "discord"))
        assert sorry(victim.get(mine, headers=HTML)) == again
    back = consent(begin(web, "discord"))
    parts = parse_qs(urlsplit(back).query)
    for wrong, right in (("state=x", "state="), ("stat=", "state="), ("/telegram/", "/discord/")):
        changed = consent(begin(web, "discord")).replace(right, wrong)
        assert sorry(web.get(changed, headers=HTML)) == again
    back = consent(begin(web, "discord"))
    bound = {"Cookie": f"drawqueue_signin={web.cookies['drawqueue_signin']}"}
    assert COOKIE in web.get(back, headers=HTML).headers["set-cookie"]
    web.post("/account/out")
    for _ in range(2):
        replayed = web.get(back, headers={**HTML, **bound})
        assert (replayed.status_code, sorry(replayed)) == (409, again)
    # A code that was used is no one's, even where it comes with a state of this browser's.
    state = parse_qs(urlsplit(begin(web, "discord")).query)["state"][0]
    used = parse_qs(urlsplit(back).query)["code"][0]
    once = web.get("/signin/discord/back", params={"code": used, "state": state}, headers=HTML)
    assert sorry(once) == "That sign-in was used already, or took too long. Start again."
    # Nor is one that another browser's verifier belongs to.
    state = parse_qs(urlsplit(begin(web, "discord")).query)["state"][0]
    stolen = {"code": parts["code"][0], "state": state}
    assert "used already" in sorry(web.get("/signin/discord/back", params=stolen, headers=HTML))
    assert COOKIE not in web.cookies and user(web) == "web:local"


def test_no_is_no(both: Callable[..., None], web: httpx.Client, discord: DiscordOAuth) -> None:
    discord.refuses = True
    told = sign_in(web, "discord", "/?x=1")
    assert told.status_code == 409 and 'value="/?x=1"' in told.text
    assert sorry(told) == "You did not sign in with Discord. Nothing was changed."
    assert not [one for one in discord.asked if one[0] == "POST"]


LATER = "{0} cannot say who you are just now. Please try again."
NOBODY = "{0} did not say who you are. Please try again."


def test_whatever_discord_answers_is_told_in_words(
    both: Callable[..., None], web: httpx.Client, discord: DiscordOAuth,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    token, me = discord.token, discord.me
    secret = "what-nobody-shall-read"
    for path, answer, status, words in (
        (token, Answer(400, {"error": "invalid_grant"}), 400, "used already, or took too long"),
        (token, Answer(401, {"error": "invalid_client"}), 503, LATER),
        (token, Answer(429, {"message": "limited"}, {"retry-after": "7"}), 429, "Too many sign in"),
        (token, Answer(500, f"<h1>{secret}"), 503, LATER),
        (token, Answer(200, f"<h1>{secret}"), 422, NOBODY),
        (token, Answer(200, ["x"]), 503, LATER),
        (token, Answer(200, {"access_token": secret}), 503, LATER),
        (token, Answer(302, "", {"location": "http://evil.example"}), 422, NOBODY),
        (me, Answer(401, {"message": "401: Unauthorized", "code": 0}), 503, LATER),
        (me, Answer(200, {"id": f"1 {secret}", "username": "x"}), 422, NOBODY),
        (me, Answer(200, {"id": "0"}), 422, NOBODY),
        (me, Answer(200, {"username": "x"}), 422, NOBODY),
        (me, Answer(200, {"id": "9" * 30}), 422, NOBODY),
        (me, Answer(502, ""), 503, LATER),
    ):
        discord.instead = {path: answer}
        told = sign_in(web, "discord")
        assert told.status_code in (status, 400), (answer, told.status_code)
        assert words.format("Discord") in sorry(told), answer
        assert COOKIE not in web.cookies and secret not in told.text
    monkeypatch.setattr(web_oauth, "PATIENCE_SECONDS", 0.2)
    for path in (token, me):
        discord.instead, discord.slow = {}, {path: 5}
        told = sign_in(web, "discord")
        assert (told.status_code, sorry(told)) == (503, LATER.format("Discord"))
    assert (
        secret not in caplog.text and "Discord refuses the client of DISCORD_CLIENT" in caplog.text
    )


def test_whatever_telegram_signs_is_looked_at(
    both: Callable[..., None], web: httpx.Client, telegram: TelegramLogin
) -> None:
    now_ = 1_000_000
    forged: list[dict[str, Any]] = [
        {"signs": RSAKey.generate_key(2048, {"kid": "one"})},
        {"header": {"alg": "HS256"}, "signs": OctKey.import_key(telegram.client_secret)},
        {"claims": {"iss": "https://evil.example"}},
        {"claims": {"aud": "1"}},
        {"claims": {"aud": None}},
        {"claims": {"exp": now_}},
        {"claims": {"exp": None}},
        {"claims": {"nonce": "another browser's"}},
        {"claims": {"id": None}},
        {"claims": {"id": "-5"}},
        {"claims": {"id": 0}},
        {"claims": {"id": "1:2"}},
    ]
    plain = {"claims": {}, "header": {"alg": "RS256"}, "signs": None}
    for change in forged:
        for name, value in {**plain, **change}.items():
            setattr(telegram, name, value)
        told = sign_in(web, "telegram")
        assert told.status_code in (400, 422), change
        assert sorry(told) == NOBODY.format("Telegram") and COOKIE not in web.cookies
    telegram.claims, telegram.signs = {"nonce": None}, None
    unsigned = "eyJhbGciOiJub25lIn0.eyJpZCI6MX0."
    telegram.instead = {"/token": Answer(200, {"access_token": "x", "id_token": unsigned})}
    assert sorry(sign_in(web, "telegram")) == NOBODY.format("Telegram")
    telegram.instead = {"/.well-known/jwks.json": Answer(200, {"keys": []})}
    assert sorry(sign_in(web, "telegram")) == NOBODY.format("Telegram")
    telegram.instead = {}
    assert sign_in(web, "telegram").status_code == 303, "a token without a nonce is the browser's"


def test_no_secret_is_told_to_anybody(
    both: Callable[..., None], house: House, web: httpx.Client, discord: DiscordOAuth,
    telegram: TelegramLogin, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    register(web, "Ann")
    tokens = [web.cookies[COOKIE]]
    web.post("/signin", data={"name": "Ann", "password": BETTER})
    web.post("/account/password", data={"old": BETTER, "new": "a third one at noon"})
    for way in ("discord", "telegram"):
        sign_in(web, way)
        tokens.append(web.cookies[COOKIE])
    codes = [given["code"] for _, path, given in discord.asked + telegram.asked if "code" in given]
    secrets = [
        GOOD, BETTER, "a third one at noon", *tokens, *codes, *discord.tokens, *telegram.tokens,
        discord.client_secret, telegram.client_secret, "AAH-bot-token",
    ]  # fmt: skip
    assert len(codes) == 2 and discord.tokens and telegram.tokens
    redis = house.queue.redis
    kept = b"".join(redis.get(name) or b"" for name in redis.keys("drawqueue:signin:*"))
    with house.database.read() as connection:
        rows = str(connection.exec_driver_sql("SELECT * FROM sessions").all())
        rows += str(connection.exec_driver_sql("SELECT * FROM accounts").all())
    # What the browser's side of this test notes is its own.
    noted = "\n".join(
        record.getMessage() for record in caplog.records if record.threadName != "MainThread"
    )
    assert "oauth2/token" in noted
    for secret in secrets:
        assert secret not in noted and secret.encode() not in kept and secret not in rows


def test_anothers_id_in_every_path_is_nothing_to_who_is_signed_in(
    both: Callable[..., None], house: House, web: httpx.Client
) -> None:
    theirs = drawn(house, who=Asker("discord", "8"))
    queued = house.generations.redo(theirs.id, Asker("discord", "8"), "again", new_seed=True)
    with httpx.Client(base_url=web.base_url, timeout=30) as other:
        register(other, "Eve")
        browser = re.search(r"/account/browsers/(\d+)", other.get("/account").text)
        assert browser
    sign_in(web, "discord")
    app_routes = [
        (route.path, method)
        for route in every_route(house)
        for method in sorted(route.methods - {"HEAD"})
        if re.search(r"{(id|which)}", route.path)
    ]
    values = {"index": "0", "answer": "agree", "way": "older"}
    tried = 0
    for path, method in app_routes:
        for number in (theirs.id, queued.id):
            told = {**values, "id": str(number), "which": f"{number}.1"}
            if path.startswith("/account/browsers"):
                told["id"] = browser[1]
            for action in ACTIONS if "{action}" in path else ("",):
                filled = {**told, "action": action}
                at = re.sub(r"{(\w+)}", lambda one, filled=filled: filled[one[1]], path)
                body: Any = {} if method in ("POST", "PUT", "PATCH") else None
                got = web.request(method, at, json=body)
                assert got.status_code in (404, 409, 422), (method, at, got.status_code, got.text)
                assert "fox" not in got.text
                tried += 1
    assert tried > 30
    assert house.generations.get(queued.id).state == "queued"
    with httpx.Client(base_url=web.base_url, timeout=30) as other:
        other.post("/signin", data={"name": "Eve", "password": GOOD})
        assert other.get("/account").text.count("/account/browsers/") == 2, "neither was ended"


def every_route(house: House) -> Iterator[Any]:
    """What the web chat answers, whether or not its description tells it."""
    for one in create_app(house).routes:
        inside = getattr(one, "original_router", None)
        found = inside.routes if inside else [one]
        yield from (route for route in found if getattr(route, "methods", None))


def closed(monkeypatch: pytest.MonkeyPatch, **environment: str) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings._read.cache_clear()


def test_beyond_this_machine_nobody_comes_in_who_is_not_signed_in(
    both: Callable[..., None], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    both(DRAWQUEUE_WEB_HOST="0.0.0.0")
    web: httpx.Client = request.getfixturevalue("web")
    for path in ("/api/jobs", "/media/1/0", "/account", "/api/docs"):
        assert web.get(path).status_code == 401
        led = web.get(path, headers=HTML)
        assert led.status_code == 303 and led.headers["location"].startswith("/signin?next=%2F")
    page = web.get("/signin")
    assert "Continue with Discord" in page.text and "The key" not in page.text
    assert "Make an account" not in page.text
    refused = web.post("/signin/new", data={"name": "Ann", "password": GOOD})
    assert refused.status_code == 403 and "by who came in with the key" in sorry(refused)
    assert web.get("/api/jobs", headers={"Authorization": "Bearer x"}).status_code == 401
    assert sign_in(web, "discord").status_code == 303
    assert web.get("/api/jobs").status_code == 200
    web.post("/account/out")
    assert web.get("/api/jobs").status_code == 401


def test_with_the_key_one_comes_in_makes_an_account_and_takes_along_what_was_made(
    house: House, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    closed(monkeypatch, DRAWQUEUE_WEB_KEY="sesame")
    web: httpx.Client = request.getfixturevalue("web")
    assert 'href="/signin"' in web.get("/", headers=HTML).text
    assert web.get("/signin").text.count('action="/key"') == 1
    assert web.get("/signin/new").status_code == 403
    web.post("/key", data={"key": "sesame"})
    browser = user(web)
    picture = drawn(house, who=Asker("web", browser.removeprefix("web:")))
    assert 'action="/key"' not in web.get("/signin").text
    register(web, "Ann")
    me = user(web)
    assert me != browser and web.get(f"/api/jobs/{picture.id}").status_code == 404
    assert "Take them along" in web.get("/account").text
    taken = web.post("/account/take")
    assert "What this browser made before is yours now." in taken.text
    assert "Take them along" not in taken.text and "drawqueue" not in web.cookies
    assert web.get(f"/media/{picture.id}/0").status_code == 200
    assert web.post("/account/take").status_code == 404
    web.post("/account/out")
    assert web.get("/api/jobs").status_code == 401
    house.generations.visible(picture.id, Asker("web", me.removeprefix("web:")))


def test_where_all_is_https_the_keys_cookie_goes_no_other_way(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    closed(monkeypatch, DRAWQUEUE_WEB_KEY="sesame")
    web: httpx.Client = request.getfixturevalue("web")
    for address, only in (("http://10.0.0.2:8000", False), ("https://draw.example.org", True)):
        closed(monkeypatch, DRAWQUEUE_PUBLIC_URL=address)
        cookie = web.post("/key", data={"key": "sesame"}).headers["set-cookie"]
        assert cookie.startswith("drawqueue=") and "; HttpOnly" in cookie
        assert ("; Secure" in cookie) == only


def test_anybody_or_nobody_may_make_an_account(
    house: House, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    public = {"DRAWQUEUE_WEB_HOST": "0.0.0.0", "DRAWQUEUE_PUBLIC_URL": "https://draw.example.org"}
    closed(monkeypatch, DRAWQUEUE_REGISTER="anybody", **public)
    web: httpx.Client = request.getfixturevalue("web")
    made = web.post("/signin/new", data={"name": "Ann", "password": GOOD})
    cookie = made.headers["set-cookie"]
    assert cookie.startswith("__Host-drawqueue_session=") and "; Secure" in cookie
    token = cookie.split("=")[1].split(";")[0]
    assert user(web, headers={"Cookie": f"{COOKIE}={token}"}).startswith("401"), "the name counts"
    told = user(web, headers={"Cookie": f"__Host-{COOKIE}={token}"})
    assert told.startswith("web:")
    closed(monkeypatch, DRAWQUEUE_REGISTER="nobody")
    refused = web.post("/signin/new", data={"name": "Bob", "password": GOOD})
    assert refused.status_code == 403
    assert sorry(refused) == "New accounts are not made here. Ask the host of this chat."


def test_while_redis_is_away_nobody_is_let_in(
    both: Callable[..., None], house: House, web: httpx.Client
) -> None:
    register(web, "Ann")
    away = httpx.Client(base_url=web.base_url, timeout=30)
    house.accounts.redis.connection_pool.disconnect()
    real = house.accounts.redis
    from redis import Redis

    house.accounts.redis = Redis.from_url("unix:///nowhere/at/all")
    for path, data in (("/signin", {"name": "Ann", "password": GOOD}), ("/signin/discord", {})):
        told = away.post(path, data=data)
        assert told.status_code == 503 and "Nobody can sign in just now" in sorry(told)
    assert user(web).startswith("web:"), "who is in stays"
    house.accounts.redis = real


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/nowhere/<img src=x>", 404, "There is nothing here."),
        ("/media/999/0", 404, "There is no #999."),
        ("/media/0/0", 422, "id: Input should be greater than or equal to 1"),
        ("/samples/<img src=x onerror=alert(1)>", 404,
         "There is no picture of &lt;img src=x onerror=alert(1)&gt;."),
        ("/export/not.mine", 403, "That link is not one of mine."),
        ("/account/out", 405, "That cannot be done here; /api/docs says what can."),
    ],
)  # fmt: skip
def test_who_opens_what_cannot_be_reads_it_on_a_page(
    web: httpx.Client, path: str, status: int, words: str
) -> None:
    opened = web.get(path, headers=HTML)
    assert (opened.status_code, opened.headers["content-type"][:9]) == (status, "text/html")
    assert sorry(opened) == words and "<img" not in opened.text
    assert "default-src 'self'" in opened.headers["content-security-policy"]
    # A script, a picture and a program read what they always read.
    assert web.get(path).json()["error"]
    assert web.get("/api/jobs/999", headers=HTML).json()["error"] == "There is no #999."


def test_who_is_forgotten_is_signed_out_with_no_account_link_or_mark_left(
    house: House, web: httpx.Client
) -> None:
    token = register(web, "Ann")
    one = drawn(house, who=Asker("web", user(web).removeprefix("web:")))
    picture = f"/api/jobs/{one.id}/0"
    assert web.post(f"{picture}/favourite").json()["favourite"]
    link = web.post(f"{picture}/share", json={"prompt": True}).json()["url"]
    assert web.get(link).status_code == 200
    with httpx.Client(base_url=web.base_url, timeout=30) as other:
        other.post("/signin", data={"name": "Ann", "password": GOOD})
        asked = web.post("/api/chat", json={"text": "/forget"}).json()
        assert "your account of the web chat, with its password" in asked["text"]
        number = asked["buttons"][0]["id"].split(":")[1]
        told = web.post(f"/api/proposals/{number}/agree").json()["text"]
        assert told.startswith("Everything of yours is forgotten.")
        for browser in (web, other):
            refused = browser.get("/api/gallery", headers={"Cookie": f"{COOKIE}={token}"})
            assert refused.json()["error"] == "You are signed out. Reload this page."
        assert 'href="/signin"' in other.get("/", headers=HTML).text
        gone = other.get(link)
        assert gone.status_code == 410 and "This picture is not shared any more." in gone.text
        assert other.get(f"{link}/picture").status_code == 410
        wrong = other.post("/signin", data={"name": "Ann", "password": GOOD})
        assert sorry(wrong) == "That name and password do not go together."
        # Whoever takes the name now is somebody else.
        register(other, "Ann", BETTER)
        assert other.get("/api/gallery").json()["pictures"] == []
        assert other.get(f"/api/gallery/{one.id}/0").status_code == 404
