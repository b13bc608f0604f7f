"""The local engine's household: what is kept warm, and what goes when memory is short."""

from pathlib import Path

from core.catalog import Model
from worker.engines.local import LocalDiffusers, _size


def test_the_least_used_model_is_dropped_when_memory_asks(
    starter_model: str, tmp_path: Path
) -> None:
    models = []
    for name in ("one", "two", "three"):
        (tmp_path / name).symlink_to(starter_model)
        models.append(Model(name, str(tmp_path / name)))
    one, two, three = models
    loaded: list[tuple[str, float]] = []
    engine = LocalDiffusers("cpu", 1, memory_gb=1)
    engine.load(one, lambda name, share: loaded.append((name, share)))
    assert loaded[0] == ("one", 0.0) and loaded[-1] == ("one", 1.0)
    engine.memory = 2.5 * _size(engine.warm[one.source])
    for model in (two, one, three):
        engine.load(model, lambda _name, _share: None)
    assert list(engine.warm) == [one.source, three.source], "two was used least lately"
