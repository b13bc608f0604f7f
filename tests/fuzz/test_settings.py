"""Anything as .env, as settings and as policy.toml: told by name or line, and no secret shown."""

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import example, given
from hypothesis import strategies as st

from core import catalog, cli, policy, settings
from core.errors import TooMuch
from core.house import open_house
from core.options import validate
from core.policy import PolicyFault, Spent
from core.policy import example as policy_example
from tests.fuzz.conftest import some
from tests.fuzz.texts import ODD, TEXT

SECRET = "GrEeN5eKr3T"
FIELDS = {
    str(field.alias): section
    for section in settings.SECTIONS
    for field in section.model_fields.values()
}
# Settings whose value may hold a secret, and so is never shown.
HIDDEN = [name for name in FIELDS if re.search("TOKEN|KEY|PASSWORD|URL", name)]


def told() -> str:
    """What `drawqueue` says of the settings before it does anything; nothing when all is well."""
    settings._read.cache_clear()
    policy.policy.cache_clear()
    catalog.models.cache_clear()
    ended = None
    with cli.out.capture() as said:
        try:
            cli._checked()
        except typer.Exit as end:
            ended = end.exit_code
    if ended is not None:
        assert ended == 2 and "need mending" in said.get() and said.get().count("\n") >= 2
        return said.get()
    # What passes can be worked with, where the home can be written.
    if cli._unwritable("DRAWQUEUE_HOME", settings.read(settings.Storage).home):
        return ""
    open_house().database.close()
    assert catalog.models() and policy.policy().day(datetime.now(UTC))
    return ""


URLS = [
    "", "junk", "://", "http://x", "sqlite://", "sqlite:///x.db", "postgresql://u:p@h:port/db",
    "postgres://u@h/db", "mysql://u:p@h/db", "redis://h:6379/0", "redis://h:99999/0",
    "redis://h:port/0", "redis://h/0?db=x", "redis://h?nothing=1", "redis://[::1", "rediss://h",
    "unix:///tmp/x", "memory://x", "s3://b/p", "foo://b", "file:///tmp/x", "a::b::c", "[", "//",
    "simplecache::memory://x", "postgresql+asyncpg://u:p@h/db", "postgresql+nothing://u:p@h/db",
]  # fmt: skip
VALUE = st.one_of(
    TEXT, st.text(ODD + "x" * 20, min_size=200, max_size=400), st.sampled_from(URLS),
    st.sampled_from(["0", "-1", "8080", "9" * 400, "1e999", "nan", "yes", "2", "/", "/proc/x",
                     "/dev/null", "/dev/null/x", ".", "x" * 5000, "~", "$HOME", "${X}"]),
)  # fmt: skip


def within(value: str) -> st.SearchStrategy[str]:
    """The secret somewhere in it."""
    return st.sampled_from(
        [value, value + SECRET, SECRET + value, value.replace("p@", SECRET + "@")]
    )


@some(3)
@given(given_=st.dictionaries(st.sampled_from([*FIELDS]), VALUE, max_size=5), data=st.data())
@example(given_={"DRAWQUEUE_POLICY": "x" * 5000}, data=None)
@example(given_={"DRAWQUEUE_HOME": "/dev/null/x"}, data=None)
@example(given_={"DRAWQUEUE_MODEL": "x" * 5000}, data=None)
def test_any_settings(tmp_path: Path, given_: Mapping[str, str], data: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        patch.setenv("DRAWQUEUE_HOME", str(tmp_path / "home"))
        for name, value in given_.items():
            # What an environment can hold.
            value = value.replace("\x00", "").encode(errors="replace").decode()
            if name == "DRAWQUEUE_HOME" and value not in ("/proc/x", "/dev/null", "/dev/null/x"):
                value = value.replace("..", "").lstrip("/")  # Folders are made in the test's alone.
            if name in HIDDEN and data:
                value = data.draw(within(value))
            patch.setenv(name, value)
        words = told()
        assert SECRET not in words and "Traceback" not in words
        for line in words.splitlines()[1:]:
            assert (
                any(name in line for name in given_)
                or "cannot be read" in line
                or "not UTF-8" in line
            ), words


LINE = st.one_of(
    TEXT, st.builds("{}={}".format, st.sampled_from([*FIELDS]), VALUE),
    st.builds('{}="{}"'.format, st.sampled_from([*FIELDS]), VALUE),
)  # fmt: skip


@given(
    st.one_of(
        st.binary(max_size=80),
        st.lists(LINE, max_size=6).map(
            lambda lines: "\n".join(lines).encode(errors="surrogatepass")
        ),
    )
)
@example(f'DISCORD_TOKEN="{SECRET}\x00"'.encode())
@example(f"DISCORD_TOKEN={SECRET}\nDRAWQUEUE_WEB_PORT=\udcff".encode(errors="surrogateescape"))
@example(f'DISCORD_TOKEN="{SECRET}'.encode())
def test_any_env_file(tmp_path: Path, caplog: Any, capfd: Any, body: bytes) -> None:
    path = tmp_path / ".env"
    path.write_bytes(body)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        patch.setenv("DRAWQUEUE_HOME", str(tmp_path / "home"))
        for section in settings.SECTIONS:
            patch.setitem(section.model_config, "env_file", str(path))
        words = told()
        said = capfd.readouterr()
        assert SECRET not in words + caplog.text + said.out + said.err


def test_no_secret_stands_in_a_fault_of_the_settings() -> None:
    for name in HIDDEN:
        section = FIELDS[name]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(name, f"foo://u:{SECRET}@h:port\x1b")
            settings._read.cache_clear()
            with pytest.raises(ValueError) as fault:
                settings.read(section)
        assert name in str(fault.value) and SECRET not in str(fault.value) + repr(fault.value)


# The policy file

KEYS = ["classes", "classes.fast", "classes.'a b'", "chat", "line", "access", "prices", "money",
        "x", "a.b.c", '"é"']  # fmt: skip
NAMES = ["members", "weight", "queued", "running", "jobs_per_day", "seconds_per_day", "steps",
         "side", "count", "longest", "cooldown", "ask_above", "permutations", "day_starts",
         "allow", "block", "cost_per_day", "currency", '"kie:a/4.5"', "x", "wieght", "fast",
         "classes", "chat"]  # fmt: skip
TOML = st.one_of(
    TEXT, st.integers().map(str), st.floats().map(repr), st.sampled_from([
        "1", "0", "-1", "true", "nan", "inf", '"06:00"', "'everyone'", "['everyone']", "[]", "{}",
        "['moderator', 'discord:role:7']", "['bob']", "2020-01-01", "2020-01-01T00:00:00Z",
        "{weight = 2, members = ['everyone']}", "{x = {y = 1}}", "9" * 400, "9" * 5000, "1e400",
        "[" * 2000 + "]" * 2000, "'''a\n[chat]\n'''", '"\\u0000\\u001b"', "[1, 'everyone', []]",
        "'" + "x" * 500 + "'", "0x" + "f" * 400,
    ]),
)  # fmt: skip
POLICY_LINE = st.one_of(
    TEXT, st.builds("[{}]".format, st.sampled_from(KEYS)),
    st.builds("{} = {}".format, st.sampled_from(NAMES + KEYS), TOML),
    st.sampled_from([line.lstrip("#") for line in policy_example().splitlines() if " = " in line]),
    st.sampled_from(["[" + " " * 3000, "x = '''\n[" + " " * 3000 + "\n'''", "[" * 3000,
                     "x = '''\n" + "[" * 9000 + "\n'''", "# \u2028 \x85", "\r", '["a]b"]']),
)  # fmt: skip
TOLD = re.compile(
    r"policy\.toml(, line (\d+): .+|.* is not TOML: .*|.* is nested too deeply\."
    r"|: there is a number .*\.| cannot be read: .*| is not UTF-8\. .*)",
    re.DOTALL,
)  # fmt: skip


def usable(made: policy.Policy) -> None:
    """A policy that was read can be lived by."""
    moment = datetime.now(UTC)
    (request,) = [catalog.settle(validate({"prompt": "a fox"}), 7)]
    for name in (*made.classes, "gone"):
        assert made.entitled(["web:user:a"]) is not None and made.of_class(name).weight > 0
        assert 0 < made.renews(moment) <= 86400 and len(made.day(moment)) == 10
        used = Spent(3, 3, 30.0, moment)
        assert len(policy.told(made, name, [name], used, used, moment)) < 3000
        try:
            made.suits(name, [request])
            made.room(name, 1, 15.0, used, used, moment)
        except (policy.InvalidOptions, TooMuch) as error:
            assert len(str(error)) < 1000


def read_policy(path: Path, body: bytes) -> None:
    path.write_bytes(body)
    settings._read.cache_clear()
    policy.policy.cache_clear()
    begun = time.process_time()
    try:
        made = policy.policy()
    except PolicyFault as fault:
        assert fault.faults
        for words in fault.faults:
            found = TOLD.fullmatch(words.replace(str(path), path.name))
            assert found and len(words) < 700, words
            assert "Traceback" not in words and "Error" not in words, words
            assert not found[2] or 1 <= int(found[2]) <= body.count(b"\n") + 1
    else:
        usable(made)
    assert time.process_time() - begun < 0.5


@some(4)
@given(body=st.one_of(
    st.binary(max_size=60),
    st.lists(POLICY_LINE, max_size=8).map(lambda all_: "\n".join(all_).encode(errors="replace")),
))  # fmt: skip
def test_any_policy_file(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "policy.toml"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DRAWQUEUE_POLICY", str(path))
        read_policy(path, body)


SHIPPED = policy_example()


@some(2)
@given(at=st.integers(0, len(SHIPPED)), gone=st.integers(0, 20), new=TEXT)
def test_the_example_with_a_slip_of_the_pen(tmp_path: Path, at: int, gone: int, new: str) -> None:
    path = tmp_path / "policy.toml"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DRAWQUEUE_POLICY", str(path))
        slipped = SHIPPED[:at] + new + SHIPPED[at + gone :]
        read_policy(path, slipped.encode(errors="replace"))
