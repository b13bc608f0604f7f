"""LoRAs on a warm pipeline: read once, switched on for a drawing and off after it."""

import contextlib
import itertools
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from core.catalog import Model, loras
from core.engine import AskDifferently
from core.errors import report as report_fault

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
            raise AskDifferently(f"The LoRA {name} is no longer on offer.")
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
                    f"The LoRA {one.name} does not fit the model {model.name}, or its file is "
                    f"damaged. Draw without it. (fault {fault})"
                ) from error
            self._names[file] = adapter
        self._names.move_to_end(file)
        return self._names[file]
