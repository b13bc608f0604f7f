"""The engines, one file each, found by the name their models carry in the catalog."""

import importlib
import os

from core.engine import Engine, Remote, Writer


def make(name: str, device: str, threads: int, memory_gb: float) -> Engine | Writer:
    """The engine of that name; only the chosen one is imported."""
    if name == "pattern":
        from worker.engines.pattern import Pattern

        return Pattern()
    if name == "words":
        from worker.engines.words import Words

        return Words(threads, memory_gb)
    if name == "captions":
        from worker.engines.captions import Captions

        return Captions(threads, memory_gb)
    if name == "diffusers":
        # Its advice at import is for those who write models, not for who reads a worker's log.
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
        from worker.engines.local import LocalDiffusers

        return LocalDiffusers(device, threads, memory_gb)
    raise ValueError(f"no engine is called {name}")


def remote(name: str) -> Remote:
    """The engine on other machines of that name; only the chosen one is imported."""
    module = importlib.import_module(f"worker.engines.{name}")
    made: Remote = module.made()
    return made
