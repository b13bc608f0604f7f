"""Instruct models on this machine, through transformers: folders, hub ids and GGUF files."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from PIL.Image import Image
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from core.catalog import Model
from core.engine import NOTHING, AskDifferently, Say, Turn
from core.languages import tr
from core.options import Mode, Request
from core.settings import Words as Given
from core.settings import read
from core.wordings import SYSTEM, USER, fitted, whole_phrases
from core.writers import GGUF
from worker.engines.transformed import Kept, Pair, decoder, ends, numbers

# What suits small models where theirs says nothing of it: SmolLM2's authors sample about so
# (HuggingFaceTB/SmolLM2-135M-Instruct), and without a penalty it says everything twice.
SAMPLED: Mapping[str, float] = {"temperature": 0.3, "top_p": 0.9, "repetition_penalty": 1.1}
# So many tokens are added to a prompt that is made richer, by small models but the fewer, as what
# they add to that strays; and so many never come twice.
ENHANCED, ENHANCED_BY_SMALL, TWICE = 80, 32, 3
SMALL = 500_000_000
# What a model reads where it says nothing of that.
USUAL_CONTEXT = 2048


class Words:
    """Writes with models that it keeps warm."""

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
        made, tokenizer = self._kept.pair(model, lambda _name, _share: None)
        context = getattr(made.config.get_text_config(), "max_position_embeddings", USUAL_CONTEXT)
        richer = request.mode == Mode.ENHANCE
        most = min(read(Given).most, context // 2)
        if richer:
            small = made.num_parameters() < SMALL
            most = min(most, ENHANCED_BY_SMALL if small else ENHANCED)
        # A prompt that is made richer is gone on with, so that it speaks of what it did.
        first = _bare(tokenizer, request.prompt) if richer else ""

        def read_in(turns: Sequence[Turn]) -> Any:
            return _tokens(tokenizer, turns, first)

        fitting = fitted(talk, lambda turns: read_in(turns).shape[1], context - most)
        if fitting is None:
            raise AskDifferently(
                tr("That is more than {model} can read: ask in fewer words.", model=model.name)
            )
        tokens = read_in(fitting).to(made.device)
        given = {"input_ids": tokens, "attention_mask": tokens.new_ones(tokens.shape)}
        own = made.generation_config.to_diff_dict()
        end = ends(made, tokenizer)
        how = {
            **{name: own.get(name, value) for name, value in SAMPLED.items()}, "do_sample": True,
            "max_new_tokens": most, "eos_token_id": end, "pad_token_id": end[0] if end else None,
            "no_repeat_ngram_size": TWICE if richer else 0,
        }  # fmt: skip
        decode = decoder(tokenizer, tokens.shape[1], first)
        short = whole_phrases if richer else str
        return self._kept.written(made, given, decode, say, request.seed, how, short)


def _loaded(model: Model, device: str) -> Pair:
    source, more = model.source, {}
    if source.endswith(GGUF):
        source, more = str(Path(source).parent), {"gguf_file": Path(source).name}
    # Read once: of a GGUF file it takes seconds.
    config = AutoConfig.from_pretrained(source, **more)
    tokenizer = AutoTokenizer.from_pretrained(source, **more)
    if not tokenizer.chat_template:
        raise ValueError(f"{source} is no instruct model: it has no chat template")
    made = AutoModelForCausalLM.from_pretrained(
        source, config=config, dtype=numbers(device), **more
    )
    return made, tokenizer


def _tokens(tokenizer: Any, talk: Sequence[Turn], first: str) -> Any:
    """A talk as a model reads it, and what its answer begins with."""
    try:
        tokens = _templated(tokenizer, talk)
    except TemplateError:
        # Some know no `system`: what it says stands before what is asked first.
        ruled = "\n\n".join(turn.words for turn in talk if turn.role == SYSTEM)
        rest = [turn for turn in talk if turn.role != SYSTEM]
        asked = Turn(USER, f"{ruled}\n\n{rest[0].words}")
        tokens = _templated(tokenizer, [asked, *rest[1:]])
    if not first:
        return tokens
    more = tokenizer(first, add_special_tokens=False, return_tensors="pt")["input_ids"]
    return torch.cat([tokens, more], dim=1)


def _templated(tokenizer: Any, talk: Sequence[Turn]) -> Any:
    told = [{"role": turn.role, "content": _bare(tokenizer, turn.words)} for turn in talk]
    return tokenizer.apply_chat_template(
        told, add_generation_prompt=True, enable_thinking=False, return_tensors="pt",
        return_dict=True,
    )["input_ids"]  # fmt: skip


def _bare(tokenizer: Any, words: str) -> str:
    """Words without what would end a turn, or begin another's."""
    for token in tokenizer.all_special_tokens:
        words = words.replace(token, " ")
    return words.strip()
