"""Tiny models of words, made from their configurations with random weights.

They write nonsense, by the very code that writes with their large relatives.
"""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    BertTokenizerFast,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

WIDE = 32
TEMPLATE = (
    "{% for turn in messages %}"
    "{% if turn['role'] == 'system' and not system %}{{ raise_exception('no system') }}{% endif %}"
    "<|im_start|>{{ turn['role'] }}\n{{ turn['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def instruct(
    at: Path, context: int = 256, *, system: bool = True, template: bool = True, within: int = 64
) -> Path:
    """A model that is instructed, of letters alone: each byte is a token."""
    torch.manual_seed(5)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|im_start|>", "<|im_end|>"]
    made = Tokenizer(models.BPE({one: at for at, one in enumerate(special + letters)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    words = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<|im_start|>", eos_token="<|im_end|>"
    )
    if template:
        words.chat_template = TEMPLATE.replace("not system", "false" if system else "true")
    words.save_pretrained(at)
    LlamaForCausalLM(LlamaConfig(
        vocab_size=len(words), hidden_size=WIDE, intermediate_size=within, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=context, bos_token_id=0, eos_token_id=1,
        # So that what was said makes a difference, though nobody taught it.
        pad_token_id=1, initializer_range=0.5,
    )).save_pretrained(at)  # fmt: skip
    return at


def blip(at: Path) -> Path:
    """A model that captions pictures, of 32 pixels a side (Salesforce/blip-image-captioning)."""
    torch.manual_seed(6)
    at.mkdir(parents=True, exist_ok=True)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]"]
    known = [*special, "a", "picture", "of", "red", "blue", "house", "cat", "tree", "by", "sea"]
    (at / "vocab.txt").write_text("\n".join(known))
    words = BertTokenizerFast(str(at / "vocab.txt"))
    words.add_special_tokens({"bos_token": "[DEC]", "additional_special_tokens": ["[ENC]"]})
    same: dict[str, Any] = {
        "hidden_size": WIDE, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "projection_dim": WIDE,
    }  # fmt: skip
    BlipForConditionalGeneration(BlipConfig(
        text_config={
            **same, "vocab_size": len(known), "encoder_hidden_size": WIDE, "bos_token_id": 5,
            "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0, "max_position_embeddings": 96,
            # So that what it sees makes a difference, though nobody taught it.
            "initializer_range": 1.0,
        },
        vision_config={**same, "image_size": 32, "patch_size": 8, "initializer_range": 0.5},
        projection_dim=WIDE, image_text_hidden_size=WIDE,
    )).save_pretrained(at)  # fmt: skip
    BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), words).save_pretrained(at)
    return at
