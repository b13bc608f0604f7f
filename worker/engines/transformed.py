"""What the engines have in common that write through transformers: models kept warm, and words told
as they come.

They run in the engine process alone, as everything that imports torch does.
"""

import contextlib
import gc
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import transformers
from transformers import StoppingCriteria, StoppingCriteriaList

from core.catalog import Model
from core.engine import AskDifferently, GiveUp, Say, Stopped, TransientError
from core.errors import report as report_fault
from core.languages import tr
from core.settings import Words, read
from core.wordings import aloud
from worker.engines.memory import short_of_memory, total_memory

log = logging.getLogger("drawqueue")
transformers.logging.disable_progress_bar()

# How often the words so far are told.
TELL_SECONDS = 0.1
# The share of a device's memory that is for words where nothing is said: the rest is for pictures.
SHARE = 0.25
# What ends an answer, by the names that models have for it.
ENDS = ("<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "</s>")

# Of a model: the model, and its tokenizer or processor.
Pair = tuple[Any, Any]


class Kept:
    """Keeps models warm on one device, dropping the least used when memory asks."""

    def __init__(self, load: Callable[[Model, str], Pair], threads: int, memory_gb: float) -> None:
        self.device = read(Words).device or "cpu"
        if self.device == "cpu" and threads:
            torch.set_num_threads(threads)
        self.memory = memory_gb * 1e9 or total_memory(self.device) * SHARE
        self.warm: OrderedDict[str, Pair] = OrderedDict()
        self._load = load

    def pair(self, model: Model, report: Callable[[str, float], None]) -> Pair:
        """A model that is ready. Raises EngineError."""
        if model.source in self.warm:
            self.warm.move_to_end(model.source)
            return self.warm[model.source]
        report(model.name, 0.0)
        try:
            made, reader = self._load(model, self.device)
        except Exception as error:  # Whatever a file may hold that is no model's.
            if short_of_memory(error):
                raise self._no_room(model, error) from error
            fault = report_fault(f"cannot load {model.source}", error)
            raise GiveUp(
                tr(
                    "The model {name} could not be loaded; the host has to look. (fault {fault})",
                    name=model.name, fault=fault,
                )
            ) from error  # fmt: skip
        report(model.name, 0.8)
        needed = _size(made)
        while self.warm and needed + sum(_size(one) for one, _ in self.warm.values()) > self.memory:
            name, _ = self.warm.popitem(last=False)
            log.info("dropped %s to make room", name)
            gc.collect()
        try:
            made = made.to(self.device).eval()
        except (RuntimeError, MemoryError) as error:
            if not short_of_memory(error):
                raise
            raise self._no_room(model, error) from error
        self.warm[model.source] = made, reader
        report(model.name, 1.0)
        return made, reader

    def _no_room(self, model: Model, error: BaseException) -> TransientError:
        report_fault(f"no memory to load {model.source}", error)
        self.forget()
        return TransientError(tr("There was no memory to load {model}.", model=model.name))

    def forget(self) -> None:
        """Let go of every model."""
        self.warm.clear()
        gc.collect()
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()

    def written(
        self, model: Any, given: Mapping[str, Any], decode: Callable[[Any], str], say: Say,
        seed: int, how: Mapping[str, Any], short: Callable[[str], str] = str,
    ) -> str:  # fmt: skip
        """The words that a model writes to what it is given; `say` hears them grow. Raises
        EngineError.

        `short` is what is left of an answer that is cut off, as it may be no longer.
        """
        if not say(""):
            raise Stopped
        teller = _Teller(decode, say)
        try:
            with torch.inference_mode(), _chance(self.device, seed):
                found = model.generate(
                    **given, **how, stopping_criteria=StoppingCriteriaList([teller])
                )
            words = decode(found[0])
            if teller.number >= how["max_new_tokens"] and int(found[0, -1]) not in how.get(
                "eos_token_id", ()
            ):
                words = short(words)
        except (RuntimeError, MemoryError) as error:
            if not short_of_memory(error):
                raise
            # Only when the error is forgotten, at this block's end, so are its tensors.
            fault = report_fault("out of memory while writing", error)
        else:
            if teller.stopped or not say(words):
                raise Stopped
            return words
        self.forget()
        raise AskDifferently(
            tr(
                "There was not enough memory for so long a talk. Ask anew, in fewer words. "
                "(fault {fault})",
                fault=fault,
            )
        )


class _Teller(StoppingCriteria):
    """Asked after each token whether to end: tells what there is, and ends when told to."""

    def __init__(self, decode: Callable[[Any], str], say: Say) -> None:
        self.decode, self.say = decode, say
        self.told = 0.0
        self.number = 0
        self.stopped = False

    def __call__(self, tokens: Any, scores: Any, **_more: Any) -> Any:
        self.number += 1
        now = time.monotonic()
        if now >= self.told + TELL_SECONDS:
            self.told = now
            self.stopped = not self.say(self.decode(tokens[0]))
        return torch.full((tokens.shape[0],), self.stopped, device=tokens.device, dtype=torch.bool)


def decoder(reader: Any, begin: int, first: str = "") -> Callable[[Any], str]:
    """What reads tokens as words, behind `first`, from those that the model itself wrote."""

    def decode(tokens: Any) -> str:
        words = reader.decode(tokens[begin:], skip_special_tokens=True)
        # A letter may be several tokens, the last of which is yet to come.
        return aloud(first + words.rstrip("\ufffd"))

    return decode


def ends(model: Any, tokenizer: Any) -> list[int]:
    """The tokens that end an answer."""
    known = model.generation_config.eos_token_id
    found = set(known if isinstance(known, list) else [known])
    found |= {tokenizer.eos_token_id, *map(tokenizer.get_vocab().get, ENDS)}
    return sorted(one for one in found if isinstance(one, int))


def numbers(device: str) -> Any:
    """What a device counts in."""
    return torch.bfloat16 if device.startswith("cuda") else torch.float32


@contextlib.contextmanager
def _chance(device: str, seed: int) -> Iterator[None]:
    """The same seed, the same words; and nobody else's chance is another after it."""
    cards = [torch.device(device)] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=cards):
        torch.manual_seed(seed)
        yield


def _size(model: Any) -> int:
    return sum(one.numel() * one.element_size() for one in model.parameters())
