"""A prompt is written out by the small model that ships, and then drawn."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PIL import Image

from core.asking import Ask
from core.commands import from_text, run
from core.house import House
from core.lifecycle import State
from core.people import Asker
from core.wordings import WORDS, keeps
from worker.finishing import Finisher
from worker.tasks import Studio, generate

# test_writers has the same model write, in `make test`.
pytestmark = [
    pytest.mark.slow, pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
]  # fmt: skip
ANN = Asker("web", "ann", "Ann")


class Engine:
    """Writes as the engine's process does, within this one, and has painted already."""

    loading = 0.0
    held: frozenset[str] = frozenset()

    def __init__(self) -> None:
        from worker.engines.words import Words

        self.words = Words(threads=1)
        self.heard: list[str] = []

    def write(
        self, model: Any, request: Any, say: Callable[[str], bool], _beat: Any, talk: Any,
        pictures: Any, _loading: object = None,
    ) -> str:  # fmt: skip
        def hear(words: str) -> bool:
            self.heard.append(words)
            return say(words)

        return self.words.write(model, request, hear, talk, pictures)

    def draw(self, *_given: object) -> list[Image.Image]:
        return [Image.new("RGB", (8, 8), "red")]


@pytest.fixture
def engine(house: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    made = Engine()
    monkeypatch.setattr(Studio, "house", house, raising=False)
    monkeypatch.setattr(Studio, "engine", made, raising=False)
    monkeypatch.setattr(Studio, "finisher", Finisher(house), raising=False)
    yield made


def test_the_small_model_writes_prompts_out(house: House, engine: Engine) -> None:
    name, given, faults = from_text("/imagine a fox in the snow --enhance --seed 7")
    made = run(house, name, Ask(ANN, "e", {"chat": "web"}, given, faults)).generation
    assert made
    generate(made.id)
    written = house.generations.get(made.id)
    assert written.state == State.QUEUED and written.line == "draw"
    better = written.request.prompt
    assert written.request.original == "a fox in the snow" and "\n" not in better
    assert keeps("a fox in the snow", better) and 10 < len(better.split()) <= WORDS
    assert len(engine.heard) > 1, "it is shown as it grows"
    generate(made.id)
    assert Studio.finisher.drain(10)
    done = house.generations.get(made.id)
    assert done.state == State.DONE and house.card(done).better == f"Enhanced: {better}"
