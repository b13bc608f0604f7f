"""Tiny pipelines of other families, made from their configurations with random weights.

They draw noise, by the very code that draws with their large relatives.
"""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

WIDE = 32


def _words(starter: Path) -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(starter / "tokenizer")


def _clip(kind: Any, words: CLIPTokenizer) -> Any:
    told = {name: getattr(words, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return kind(CLIPTextConfig(
        vocab_size=len(words), hidden_size=WIDE, intermediate_size=64, num_hidden_layers=3,
        num_attention_heads=4, projection_dim=WIDE, **told,
    )).eval()  # fmt: skip


def _vae(channels: int = 4, **more: Any) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(32, 64), layers_per_block=1, norm_num_groups=8,
        latent_channels=channels, down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, **more,
    )  # fmt: skip


def _long_words() -> tuple[PreTrainedTokenizerFast, T5EncoderModel]:
    """A text encoder as T5's, of letters alone."""
    letters = [(letter, -3.0) for letter in "abcdefghijklmnopqrstuvwxyz"]
    known = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *letters]
    made = Tokenizer(models.Unigram(known, unk_id=2))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    words = PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        model_max_length=512,
    )  # fmt: skip
    return words, T5EncoderModel(
        T5Config(vocab_size=len(known), d_model=WIDE, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    ).eval()


def sdxl(starter: Path, at: Path) -> Path:
    """Stable Diffusion XL, of 64 pixels a side."""
    torch.manual_seed(1)
    words = _words(starter)
    StableDiffusionXLPipeline(
        vae=_vae(),
        text_encoder=_clip(CLIPTextModel, words),
        text_encoder_2=_clip(CLIPTextModelWithProjection, words),
        tokenizer=words,
        tokenizer_2=words,
        unet=UNet2DConditionModel(
            block_out_channels=(32, 64), layers_per_block=1, sample_size=32, norm_num_groups=8,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=(2, 4),
            use_linear_projection=True, addition_embed_type="text_time",
            addition_time_embed_dim=8, transformer_layers_per_block=(1, 2),
            projection_class_embeddings_input_dim=6 * 8 + WIDE, cross_attention_dim=2 * WIDE,
        ),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1,
            timestep_spacing="leading",
        ),
    ).save_pretrained(at)  # fmt: skip
    return at


def flux(starter: Path, at: Path) -> Path:
    """Flux, of whatever size."""
    torch.manual_seed(2)
    words = _words(starter)
    long_words, long_encoder = _long_words()
    FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=_vae(shift_factor=0.1, scaling_factor=0.36),
        text_encoder=_clip(CLIPTextModel, words),
        tokenizer=words,
        text_encoder_2=long_encoder,
        tokenizer_2=long_words,
        transformer=FluxTransformer2DModel(
            patch_size=1, in_channels=16, num_layers=1, num_single_layers=1,
            attention_head_dim=16, num_attention_heads=2, joint_attention_dim=WIDE,
            pooled_projection_dim=WIDE, axes_dims_rope=[4, 4, 8], guidance_embeds=True,
        ),
    ).save_pretrained(at)  # fmt: skip
    return at


def sd3(starter: Path, at: Path) -> Path:
    """Stable Diffusion 3, of 64 pixels a side."""
    torch.manual_seed(3)
    words = _words(starter)
    long_words, long_encoder = _long_words()
    StableDiffusion3Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_vae(16, shift_factor=0.06, scaling_factor=1.5),
        text_encoder=_clip(CLIPTextModelWithProjection, words),
        tokenizer=words,
        text_encoder_2=_clip(CLIPTextModelWithProjection, words),
        tokenizer_2=words,
        text_encoder_3=long_encoder,
        tokenizer_3=long_words,
        transformer=SD3Transformer2DModel(
            sample_size=32, patch_size=1, in_channels=16, num_layers=1, attention_head_dim=8,
            num_attention_heads=4, joint_attention_dim=WIDE, caption_projection_dim=WIDE,
            pooled_projection_dim=2 * WIDE, out_channels=16,
        ),
    ).save_pretrained(at)  # fmt: skip
    return at


FAMILIES = {"sdxl": sdxl, "flux": flux, "sd3": sd3}


def style_adapter(model: Any, at: Path) -> Path:
    """What takes styles for a model's drawing part, laid out as h94/IP-Adapter."""
    torch.manual_seed(4)
    folder, weights, _ = model.family.adapter
    unet = UNet2DConditionModel.from_pretrained(model.source, subfolder="unet")
    wide, seen, tokens = unet.config.cross_attention_dim, 24, 4
    told = {
        "image_proj.proj.weight": torch.randn(tokens * wide, seen),
        "image_proj.proj.bias": torch.zeros(tokens * wide),
        "image_proj.norm.weight": torch.ones(wide),
        "image_proj.norm.bias": torch.zeros(wide),
    }
    layers = [name for name in unet.attn_processors if "attn2" in name]
    for number, name in enumerate(layers):
        attention = unet.get_submodule(name.removesuffix(".processor"))
        for of in ("k", "v"):
            like = getattr(attention, f"to_{of}").weight
            told[f"ip_adapter.{2 * number + 1}.to_{of}_ip.weight"] = torch.randn(like.shape) / 8
    (at / folder).mkdir(parents=True)
    save_file(told, at / folder / weights)
    encoder = at / folder / "image_encoder"
    CLIPVisionModelWithProjection(CLIPVisionConfig(
        hidden_size=WIDE, intermediate_size=64, projection_dim=seen, num_hidden_layers=2,
        num_attention_heads=4, image_size=32, patch_size=8,
    )).save_pretrained(encoder)  # fmt: skip
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(encoder)
    return at
