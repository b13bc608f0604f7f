"""What is added to a warm pipeline for one drawing: LoRAs, another VAE, what takes a style."""

import contextlib
import itertools
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from core.catalog import Model, gone_lora, gone_vae
from core.engine import AskDifferently, GiveUp, TransientError
from core.errors import report as report_fault
from core.languages import tr
from core.parts import HUB_ID, loras, vaes

if TYPE_CHECKING:
    from PIL.Image import Image

# LoRAs that stay loaded on a pipeline.
KEPT = 8


class Adapters:
    """The LoRAs that one pipeline has loaded, the least used first."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline
        # By file, and when it was written: another file of that name is another LoRA.
        self._names: OrderedDict[tuple[Path, int], str] = OrderedDict()
        self._count = itertools.count()

    @contextlib.contextmanager
    def on(self, model: Model, wanted: Sequence[tuple[str, float]]) -> Iterator[None]:
        """Draw with these LoRAs at their weights. Raises AskDifferently."""
        chosen = [(name, weight) for name, weight in wanted if weight]
        if not chosen:
            yield
            return
        try:
            names = [self._loaded(model, name) for name, _ in chosen]
            self._pipeline.set_adapters(names, [weight for _, weight in chosen])
            self._pipeline.enable_lora()
            yield
        finally:
            if self._names:
                self._pipeline.disable_lora()
            while len(self._names) > KEPT:
                self._pipeline.delete_adapters(self._names.popitem(last=False)[1])

    def _loaded(self, model: Model, name: str) -> str:
        """The adapter of a LoRA, read from its file where it is not at hand."""
        one = loras(model, hidden=True).get(name.lower())
        if one is None or not one.path.is_file():
            raise AskDifferently(gone_lora(name))
        file = one.path, one.path.stat().st_mtime_ns
        if file not in self._names:
            adapter = f"lora_{next(self._count)}"
            try:
                self._pipeline.load_lora_weights(
                    one.path.parent, weight_name=one.path.name, adapter_name=adapter
                )
                # A file with no layer of this model's loads without a word.
                if not any(adapter in of for of in self._pipeline.get_list_adapters().values()):
                    raise ValueError("no layer of this model's")
            except Exception as error:  # Files of others: libraries meet them with whatever.
                fault = report_fault(f"cannot load {one.path}", error)
                # Half of it may be on the layers.
                self._pipeline.unload_lora_weights()
                self._names.clear()
                raise AskDifferently(
                    tr(
                        "The LoRA {name} does not fit the model {model}, or its file is damaged. "
                        "Draw without it. (fault {fault})",
                        name=one.name, model=model.name, fault=fault,
                    )
                ) from error  # fmt: skip
            self._names[file] = adapter
        self._names.move_to_end(file)
        return self._names[file]


class Vaes:
    """The VAEs beside its own that one pipeline has read."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline
        self._kept: dict[tuple[Path, int], Any] = {}

    @property
    def held(self) -> list[Any]:
        """What takes memory."""
        return [*self._kept.values()]

    @contextlib.contextmanager
    def on(self, model: Model, name: str) -> Iterator[None]:
        """Draw with another VAE, if one is named. Raises AskDifferently."""
        if not name:
            yield
            return
        own = self._pipeline.vae
        self._pipeline.register_modules(vae=self._read(model, name).to(own.device))
        try:
            yield
        finally:
            self._pipeline.register_modules(vae=own)

    def _read(self, model: Model, name: str) -> Any:
        from diffusers import AutoencoderKL

        one = vaes(model, hidden=True).get(name.lower())
        here = one is not None and one.path.exists()
        if one is None or not (here or HUB_ID.fullmatch(str(one.path))):
            raise AskDifferently(gone_vae(name))
        file = one.path, one.path.stat().st_mtime_ns if here else 0
        if file not in self._kept:
            # One at a time: they are large, and seldom changed.
            self._kept.clear()
            numbers = {"torch_dtype": self._pipeline.vae.dtype}
            try:
                if not one.path.is_file():
                    found = AutoencoderKL.from_pretrained(str(one.path), **numbers)
                else:
                    found = AutoencoderKL.from_single_file(
                        str(one.path), config=model.source, subfolder="vae", **numbers
                    )
            except Exception as error:  # Files of others: libraries meet them with whatever.
                fault = report_fault(f"cannot load {one.path}", error)
                raise AskDifferently(
                    tr(
                        "The VAE {name} does not fit the model {model}, or its file is damaged. "
                        "Draw without it. (fault {fault})",
                        name=one.name, model=model.name, fault=fault,
                    )
                ) from error  # fmt: skip
            self._kept[file] = found.eval()
        return self._kept[file]


class Styles:
    """What takes the style of a picture for one pipeline: IP-Adapter, its encoder kept at hand."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline
        self._seeing: dict[str, Any] = {}

    @property
    def held(self) -> list[Any]:
        """What takes memory."""
        return [*self._seeing.values()]

    @contextlib.contextmanager
    def on(
        self, model: Model, pictures: "Sequence[Image]", strength: float
    ) -> Iterator[dict[str, Any]]:
        """Draw like these pictures; what is yielded is to be told to the pipeline as well.

        Raises AskDifferently and GiveUp.
        """
        if not strength:
            yield {}
            return
        adapter, pipeline = model.style, self._pipeline
        if adapter is None:
            raise AskDifferently(tr("{model} takes no styles any more.", model=model.name))
        try:
            if self._seeing:
                pipeline.register_modules(**self._seeing)
            pipeline.load_ip_adapter(
                adapter.source, subfolder=adapter.folder, weight_name=adapter.weights,
                image_encoder_folder=None if self._seeing else "image_encoder",
            )  # fmt: skip
            pipeline.set_ip_adapter_scale(strength)
        except Exception as error:  # Files of others: libraries meet them with whatever.
            # Half of it may be on the layers, where the next drawing would meet it.
            with contextlib.suppress(Exception):
                pipeline.unload_ip_adapter()
            if isinstance(error, torch.OutOfMemoryError):
                raise TransientError(tr("There was no memory for what takes a style.")) from error
            fault = report_fault(f"cannot load {adapter.source}", error)
            raise GiveUp(
                tr(
                    "What takes a style could not be loaded; the host has to look. (fault {fault})",
                    fault=fault,
                )
            ) from error
        self._seeing = {
            name: getattr(pipeline, name) for name in ("image_encoder", "feature_extractor")
        }
        try:
            # One adapter, which sees all of them.
            yield {"ip_adapter_image": [[one.convert("RGB") for one in pictures]]}
        finally:
            pipeline.unload_ip_adapter()
