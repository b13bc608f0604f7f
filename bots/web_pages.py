"""The web chat's pages, and what their scripts say, in the language of who reads them.

A page in bots/web/ is a Jinja template that says `{{ tr("Send") }}`; a script imports `tr` and
`trn` from `/words.js`, which holds what the scripts there say in the language of the request, or
of the page that asks for it by `?language=`.
"""

import json
import re
from functools import cache
from os import stat_result
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from core.languages import LANGUAGES, forms, speaking, spoken, tr, trn

PAGES = Path(__file__).parent / "web"
WORDS = "/words.js"
# What a script says: the text, and its plural where it has one.
_TEXT = r'("(?:[^"\\]|\\.)*")'
_SAID = re.compile(rf"\btr\(\s*{_TEXT}|\btrn\(\s*{_TEXT}\s*,\s*{_TEXT}")
# Which of a text's forms each of CLDR's categories takes.
_WORDS = """const WORDS = %s;
const RULES = new Intl.PluralRules("%s");
const ORDER = { one: 0, few: 1, many: 2, other: 2 };
function filled(text, values) {
  return text.replace(/\\{(\\w+)\\}/g, (whole, name) => name in values ? values[name] : whole);
}
export function tr(text, values = {}) { return filled(WORDS[text] ?? text, values); }
export function trn(one, several, n, values = {}) {
  const each = WORDS[one] ?? [one, several, several];
  return filled(each[ORDER[RULES.select(n)]], { n, ...values });
}
"""


def page(name: str, status: int = 200, /, **values: Any) -> HTMLResponse:
    """A page of bots/web as the language that is spoken says it."""
    made = _templates().get_template(name).render(values, language=spoken())
    return HTMLResponse(made, status, headers={"Content-Language": spoken()})


def words() -> APIRouter:
    """The route of what scripts say."""
    routes = APIRouter()

    @routes.get(WORDS, include_in_schema=False)
    async def script(language: str = "") -> Response:
        with speaking(language or spoken()):
            return Response(_script(), media_type="text/javascript")

    return routes


class Assets(StaticFiles):
    """Scripts and styles as they are; what lies beside them and has to be filled in is not."""

    def __init__(self) -> None:
        super().__init__(directory=PAGES)

    def lookup_path(self, path: str) -> tuple[str, stat_result | None]:
        return ("", None) if path.lower().endswith(".html") else super().lookup_path(path)


@cache
def _templates() -> Environment:
    made = Environment(
        loader=FileSystemLoader(PAGES), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.globals.update(tr=tr, trn=trn, languages=LANGUAGES)
    return made


@cache
def _said() -> tuple[tuple[str, str], ...]:
    """What all scripts say: texts and their plurals."""
    found = {}
    for path in sorted(PAGES.glob("*.js")):
        for text, one, several in _SAID.findall(path.read_text()):
            found[json.loads(text or one)] = json.loads(several) if several else ""
    return tuple(found.items())


def _script() -> str:
    told = {one: forms(one, several) if several else tr(one) for one, several in _said()}
    return _WORDS % (json.dumps(told, ensure_ascii=False), spoken())
