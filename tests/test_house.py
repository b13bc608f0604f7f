"""The shape of the house: import arrows, start-up imports, derived tables, migrations."""

import ast
import re
import subprocess
import sys
from collections.abc import Collection
from math import inf
from pathlib import Path

import pytest

from tests.guards import GUARDS, faults_of
from tests.tables import ROOT, expected

# Which of our rooms a room may import.
ARROWS = {
    "core": {"core"},
    "bots": {"core", "bots"},
    "worker": {"core", "worker", "bots.poster"},
    "migrations": {"core", "migrations"},
}
# Libraries that core must not know.
FOREIGN = {"discord", "telegram", "fastapi", "starlette", "torch", "diffusers", "transformers"}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{name.name}" for name in node.names}
    return found


@pytest.mark.parametrize("room", ARROWS)
def test_arrows_run_one_way(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        for name in imports(path):
            if name.split(".")[0] in ARROWS:
                allowed = ARROWS[room]
                assert any(name == a or name.startswith(a + ".") for a in allowed), (path, name)
            if room == "core":
                assert name.split(".")[0] not in FOREIGN, (path, name)


BOTS = [f"bots.{p.stem}" for p in sorted((ROOT / "bots").glob("*.py")) if p.stem != "__init__"]
# What only the engine's own process may load.
HEAVY = {"torch", "diffusers", "transformers", "numpy"}


@pytest.mark.parametrize("module", ["core.cli", "worker.__main__", *BOTS])
def test_what_draws_is_imported_by_the_engine_alone(module: str) -> None:
    told = HEAVY | ({"worker"} if module in BOTS else set())
    code = f"import sys, {module}; bad = {told} & set(sys.modules); assert not bad, bad"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize(("module", "ratio"), [("core.cli", 1.0), ("core.commands", 2.3)])
def test_core_imports_quickly(module: str, ratio: float) -> None:
    # core.cli takes some 200 ms, and the libraries that core rests on 260: these machines are
    # noisy, so the two are taken in turns and the best of each is compared, in processor time.
    libraries = "pydantic_settings, sqlalchemy, rq, typer"
    best = {module: inf, libraries: inf}
    for _ in range(7):
        for names in best:
            code = (
                f"from time import process_time as now; a = now(); import {names}; print(now()-a)"
            )
            told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True)
            best[names] = min(best[names], float(told.stdout))
    assert best[module] < ratio * best[libraries], best


def test_derived_files_are_up_to_date() -> None:
    for path, text in expected().items():
        assert path.read_text() == text, f"{path.name} is stale: run `make tables`"


def test_each_guard_stands_where_make_guards_takes_it_away() -> None:
    assert [fault for guard in GUARDS for fault in faults_of(guard)] == []


# What is handed to these, somebody reads in a chat or on the page.
TOLD = {
    *("UserError", "InvalidOptions", "NotFound", "NotAllowed", "TooLate", "TooMuch", "TryAgain"),
    *("BadLink", "Expired", "Reply"),
}
SAY = {"tr", "trn", "trc"}
# What such a list holds, too, is told one line after the other.
LISTS = {"faults", "lines"}
# What the host reads on a terminal, and what programs read, is English: these functions write it.
PLAIN = {"core/policy.py": {"parse"}, "core/receipts.py": {"parameters"}}
# What is typed is the same in every language: commands, flags, options.
TYPED = re.compile(r"/\w+|--[\w-]+")


def untranslated(source: str, plain: Collection[str] = ()) -> list[str]:
    """Texts with words in them that are told to somebody in English, whatever they speak.

    Those of `plain` functions are left out.
    """
    tree = ast.parse(source)
    for one in ast.walk(tree):
        if isinstance(one, ast.FunctionDef) and one.name in plain:
            one.body = []

    def words(node: ast.AST, part: bool = False) -> list[str]:
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in SAY:
                return []
            case ast.Subscript():
                return []
            case ast.Call(args=args, func=ast.Attribute(value=value)):
                return [found for one in (*args, value) for found in words(one)]
            case ast.Constant(value=str(text)):
                left = TYPED.sub("", text)
                told = re.search(r"[^\W\d_]{2}", left) and (part or re.search(r"\s|[.:…]$", left))
                return [text] if told else []
            case ast.JoinedStr(values=values):
                return [found for one in values for found in words(one, part=True)]
        return [found for one in ast.iter_child_nodes(node) for found in words(one)]

    def told(function: ast.expr) -> bool:
        match function:
            case ast.Name(id=name):
                return name in TOLD
            case ast.Attribute(value=ast.Name(id=name), attr="append"):
                return name in LISTS
        return False

    return [
        f"{node.lineno}: {found}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and told(node.func)
        for one in (*node.args[:1], *(k.value for k in node.keywords if k.arg == "text"))
        for found in words(one)
    ]


@pytest.mark.parametrize("room", ["core", "bots", "worker"])
def test_what_people_are_told_is_said_in_their_language(room: str) -> None:
    found = [
        f"{name}:{fault}"
        for path in sorted((ROOT / room).rglob("*.py"))
        for name in [path.relative_to(ROOT).as_posix()]
        for fault in untranslated(path.read_text(), PLAIN.get(name, ()))
    ]
    assert not found, "to be said by tr or trn:\n" + "\n".join(found)


def test_a_text_that_only_english_has_is_found() -> None:
    assert untranslated('raise UserError(f"There is no #{number}.")')
    assert untranslated('raise NotFound("There is no such thing.") from None')
    assert untranslated('Reply("\\n".join([*lines, f"and {more} more"]))')
    assert untranslated('raise InvalidOptions(["No."])')
    assert untranslated('faults.append(f"There is no --{flag}.")')
    assert not untranslated('raise UserError(tr("There is no #{number}.", number=3))')
    assert not untranslated('Reply(f"{told}\\n/edit {number} {now}")')
    assert not untranslated('Reply("\\n".join(lines) or trn("{n} step", "{n} steps", 1))')
