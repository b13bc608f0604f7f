"""What a prompt says, and how much: `(word)`, `[word]`, `(word:1.3)`, `a::2 b`, of any length."""

import re
from collections.abc import Sequence
from typing import Any

from core.catalog import too_few
from core.engine import AskDifferently
from core.languages import tr

# As AUTOMATIC1111 has it: what one pair of brackets does.
STRONGER = 1.1
# Beyond these a text encoder's output is noise.
LEAST, MOST = 0.0, 3.0
_PARTS = re.compile(
    r"\\[()\[\]]|[()\[\]]|:\s*(?P<weight>[+-]?(?:\d+\.?\d*|\.\d+))\s*\)|[^\\()\[\]:]+|[\\:]"
)

# As Midjourney has it: what stands before is a thing of its own, so many times as important.
_APART = re.compile(r"::([+-]?(?:\d+\.?\d*|\.\d+))?(?=[\s,]|$)")

Fragments = list[tuple[str, float]]


def read(prompt: str, negative: str) -> tuple[list[Fragments], list[Fragments]]:
    """The parts of a prompt that stand apart, and those of what to keep out.

    Parts weigh as they are to one another: so many times the mean. What weighs less than nothing
    is kept out.
    """
    found: list[tuple[str, float]] = []
    begin = 0
    for match in _APART.finditer(prompt):
        found.append((prompt[begin : match.start()], float(match[1] or 1)))
        begin = match.end()
    found.append((prompt[begin:], 1.0))
    found = [(text.strip(" ,") if begin else text, weight) for text, weight in found]
    found = [one for one in found if one[0].strip() or not begin]
    for_it, against = ([(text, abs(weight)) for text, weight in found if (weight < 0) == less]
                       for less in (False, True))  # fmt: skip
    mean = sum(weight for _, weight in for_it) / len(for_it) if for_it else 0.0
    wanted = [_heavier(parsed(text), weight / mean if mean else 1) for text, weight in for_it]
    # As it is without any: a part may be all that there is to keep out.
    unwanted = [parsed(negative)] if negative.strip() or not against else []
    unwanted += [_heavier(parsed(text), weight) for text, weight in against]
    return wanted or [[]], unwanted


def _heavier(fragments: Fragments, factor: float) -> Fragments:
    return [(text, min(MOST, weight * factor)) for text, weight in fragments]


def parsed(prompt: str) -> Fragments:
    """The fragments of a prompt with their weights; brackets without a partner are text."""
    found: list[list[Any]] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def close(bracket: str, factor: float) -> None:
        begin = opened[bracket].pop()
        found[begin][0] = ""
        for one in found[begin:]:
            one[1] *= factor

    for match in _PARTS.finditer(prompt):
        part = match[0]
        if match["weight"] and opened["("]:
            close("(", min(MOST, max(LEAST, float(match["weight"]))))
        elif part == ")" and opened["("]:
            close("(", STRONGER)
        elif part == "]" and opened["["]:
            close("[", 1 / STRONGER)
        else:
            if part in opened:
                opened[part].append(len(found))
            # An escaped bracket means itself.
            found.append([part[1:] if len(part) == 2 and part[0] == "\\" else part, 1.0])
    merged: Fragments = []
    for text, weight in found:
        if merged and merged[-1][1] == weight:
            merged[-1] = merged[-1][0] + text, weight
        elif text:
            merged.append((text, weight))
    return merged


def told(pipeline: Any, prompt: str, negative: str, clip_skip: int, count: int) -> dict[str, Any]:
    """The arguments by which a pipeline is told the prompts of so many pictures.

    What is within a text encoder's length, and weighs the same throughout, is told as text.
    """
    weighed = read(prompt, negative)
    texts = {
        name: [", ".join(map(_text, parts))] * count
        for name, parts in zip(("prompt", "negative_prompt"), weighed, strict=True)
    }
    if not _takes_embeddings(pipeline):
        if clip_skip:
            raise AskDifferently(
                tr("This model's text encoder has no layers to leave out. Ask without --clip-skip.")
            )
        return texts
    if not clip_skip and not any(
        len(parts) > 1 or _is_long(pipeline.tokenizer, _text(parts[0])) or _weigh(parts)
        for parts in weighed
    ):
        return texts
    layers = min(int(one.config.num_hidden_layers) for _, one in _encoders(pipeline))
    if clip_skip >= layers:
        raise AskDifferently(too_few(layers))
    # Imported where it is needed: it brings every text encoder's code.
    import torch

    with torch.inference_mode():
        embedded = _embedded(pipeline, weighed, clip_skip)
    return {name: one.expand(count, *one.shape[1:]) for name, one in embedded.items()}


def unheard(pipeline: Any, prompt: str, negative: str) -> bool:
    """Whether there are weights in the prompts to a pipeline that knows of none."""
    return not _takes_embeddings(pipeline) and any(map(_weigh, read(prompt, negative)))


def _weigh(parts: Sequence[Fragments]) -> bool:
    """Whether some words have another weight than others."""
    return any(weight != 1 for fragments in parts for _, weight in fragments)


def _encoders(pipeline: Any) -> list[tuple[Any, Any]]:
    """The tokenizers and text encoders of a pipeline, one or two."""
    named = (("tokenizer" + n, "text_encoder" + n) for n in ("", "_2", "_3"))
    return [
        (getattr(pipeline, words), getattr(pipeline, encoder))
        for words, encoder in named
        if getattr(pipeline, encoder, None) is not None
    ]


def _takes_embeddings(pipeline: Any) -> bool:
    """Whether a pipeline's text encoders are CLIP's, as in Stable Diffusion 1, 2 and XL."""
    kinds = [type(one).__name__ for _, one in _encoders(pipeline)]
    return kinds in (["CLIPTextModel"], ["CLIPTextModel", "CLIPTextModelWithProjection"])


def _is_long(tokenizer: Any, text: str) -> bool:
    return len(tokenizer(text).input_ids) > tokenizer.model_max_length


def _text(fragments: Fragments) -> str:
    return "".join(text for text, _ in fragments)


def _embedded(
    pipeline: Any, weighed: Sequence[Sequence[Fragments]], clip_skip: int
) -> dict[str, Any]:
    """What a prompt and its negative say, both as long as the longer one.

    Each is in parts that the text encoder reads one by one.
    """
    import torch
    from compel.embeddings_provider import EmbeddingsProvider

    encoders = _encoders(pipeline)
    several, device = len(encoders) > 1, pipeline._execution_device

    class Skipping(EmbeddingsProvider):
        """Leaves out any number of last layers; the library knows of one.

        diffusers' own argument looks for the norm where transformers 5 no longer has it.
        """

        def _encode_token_ids_to_embeddings(self, ids: Any, mask: Any = None) -> Any:
            if not clip_skip and not several:
                return super()._encode_token_ids_to_embeddings(ids, mask)
            out = self.text_encoder(ids, mask, output_hidden_states=True, return_dict=True)
            if several:
                # SDXL reads the layer before the last, as it is (StableDiffusionXLPipeline).
                return out.hidden_states[-(clip_skip + 2)]
            model: Any = getattr(self.text_encoder, "text_model", self.text_encoder)
            return model.final_layer_norm(out.hidden_states[-(clip_skip + 1)])

    providers = [
        Skipping(
            tokenizer, encoder, truncate=False,
            dtype_for_device_getter=lambda _, encoder=encoder: encoder.dtype,
        )
        for tokenizer, encoder in encoders
    ]  # fmt: skip

    def embedding(fragments: Fragments) -> Any:
        # A fragment without a letter has no token that its weight could be for.
        told = [(text, weight) for text, weight in fragments if text.strip()] or [("", 1.0)]
        return torch.cat([
            one.get_embeddings_for_weighted_prompt_fragments(
                [[text for text, _ in told]], [[weight for _, weight in told]], device=device
            )
            for one in providers
        ], dim=-1)  # fmt: skip

    embedded = [torch.cat([embedding(one) for one in parts], dim=1) for parts in weighed]
    longest = max(one.shape[1] for one in embedded)
    empty = embedding([])
    names = "prompt_embeds", "negative_prompt_embeds"
    found = {
        name: torch.cat([one, *[empty] * ((longest - one.shape[1]) // empty.shape[1])], dim=1)
        for name, one in zip(names, embedded, strict=True)
    }
    if several:
        for name, parts in zip(names, weighed, strict=True):
            pooled, whole = name.replace("prompt", "pooled_prompt"), ", ".join(map(_text, parts))
            found[pooled] = providers[-1].get_pooled_embeddings([whole], device=device)
    return found
