"""Real checkers in small, made from their configs: what is red is marked, what is blue is not."""

import json
from pathlib import Path

from PIL import Image

from core.catalog import STARTER

SIDE = 32


def classifier(folder: Path, labels: tuple[str, str] = ("normal", "nsfw")) -> str:
    """A ResNet whose second label is the redness of a picture."""
    import torch
    from transformers import ResNetConfig, ResNetForImageClassification
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    config = ResNetConfig(
        embedding_size=4, hidden_sizes=[4], depths=[1], layer_type="basic",
        id2label=dict(enumerate(labels)), label2id={name: n for n, name in enumerate(labels)},
    )  # fmt: skip
    model = ResNetForImageClassification(config)
    with torch.no_grad():
        for name, values in model.named_parameters():
            if "convolution" in name or "classifier" in name:
                values.zero_()
        # Red less blue, through what is otherwise a straight path, to the second label.
        first = model.resnet.embedder.embedder.convolution.weight
        first[0, 0, 3, 3], first[0, 2, 3, 3] = 0.5, -0.5
        model.classifier[1].weight[1, 0] = 20.0
        model.classifier[1].bias[1] = -9.0
    model.save_pretrained(folder)
    ViTImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return str(folder)


def with_own_check(folder: Path) -> str:
    """The starter model with a safety checker of its own, one of whose concepts is redness."""
    import torch
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    folder.mkdir()
    for part in STARTER.iterdir():
        (folder / part.name).symlink_to(part)
    (folder / "model_index.json").unlink()
    index = json.loads((STARTER / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    (folder / "model_index.json").write_text(json.dumps(index))
    torch.manual_seed(1)
    small = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 1, "image_size": SIDE, "patch_size": 16,
    }  # fmt: skip
    checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config=small, projection_dim=16))
    prepare = CLIPImageProcessor(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    )
    plain = [Image.new("RGB", (SIDE, SIDE), colour) for colour in ("red", "blue")]
    with torch.no_grad():
        seen = prepare(plain, return_tensors="pt").pixel_values
        red, blue = checker.visual_projection(checker.vision_model(seen)[1])
        checker.concept_embeds[0] = red
        alike = torch.cosine_similarity(red, blue, dim=0)
        # Half way; nothing is as near to any other concept as they ask.
        checker.concept_embeds_weights[0] = (1 + alike) / 2
    checker.save_pretrained(folder / "safety_checker")
    prepare.save_pretrained(folder / "feature_extractor")
    return str(folder)
