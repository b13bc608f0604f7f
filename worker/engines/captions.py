"""What tells what a picture shows, on this machine: transformers' models from images to text."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from PIL.Image import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from core.catalog import Model
from core.engine import NOTHING, Say, Turn
from core.options import Request
from core.settings import Words, read
from worker.engines.transformed import Kept, Pair, decoder, numbers

# What only captions is done soon, and says itself again when it goes on.
CAPTION, AGAIN = 64, 3


class Captions:
    """Describes with models that it keeps warm."""

    def __init__(self, threads: int = 0, memory_gb: float = 0) -> None:
        self._kept = Kept(_loaded, threads, memory_gb)

    def load(self, model: Model, report: Callable[[str, float], None]) -> None:
        self._kept.pair(model, report)

    @property
    def held(self) -> list[str]:
        return list(self._kept.warm)

    def write(
        self, model: Model, request: Request, say: Say, talk: Sequence[Turn],
        pictures: Mapping[str, Image] = NOTHING,
    ) -> str:  # fmt: skip
        made, processor = self._kept.pair(model, lambda _name, _share: None)
        image = pictures[request.sources[0]].convert("RGB")
        most, begin = min(CAPTION, read(Words).most), 0
        given: dict[str, Any] = {"images": image}
        # Those that talk are asked; those that only caption are shown the picture.
        if getattr(processor, "chat_template", None):
            asked = [{"type": "image"}, {"type": "text", "text": talk[-1].words}]
            given["text"] = processor.apply_chat_template(
                [{"role": "user", "content": asked}], add_generation_prompt=True
            )
            most = read(Words).most
        read_in = processor(**given, return_tensors="pt").to(made.device, made.dtype)
        if "text" in given:
            begin = read_in["input_ids"].shape[1]
        decode = decoder(processor, begin)
        how = {"do_sample": False, "max_new_tokens": most, "no_repeat_ngram_size": AGAIN}
        return self._kept.written(made, read_in, decode, say, request.seed, how)


def _loaded(model: Model, device: str) -> Pair:
    processor = AutoProcessor.from_pretrained(model.source)
    made = AutoModelForImageTextToText.from_pretrained(model.source, dtype=numbers(device))
    return made, processor
