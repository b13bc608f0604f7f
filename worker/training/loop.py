"""One resumable training loop with a progress bar: every stage of the starter model uses it."""

import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


def restored(name: str, home: Path, model: torch.nn.Module, steps: int) -> bool:
    """Load a finished stage's weights; False when the stage is not finished."""
    kept = home / f"{name}.pt"
    if not kept.exists():
        return False
    state = torch.load(kept, weights_only=True)
    if state["step"] < steps:
        return False
    model.load_state_dict(state["model"])
    return True


def train(
    name: str,
    home: Path,
    model: torch.nn.Module,
    loss_at: Callable[[int], torch.Tensor],
    steps: int,
    rate: float,
    ema: torch.nn.Module | None = None,
    decay: float = 0.9985,
    look: Callable[[int], None] | None = None,
    warm_up: int = 200,
    flat: float = 0.5,
) -> None:
    """Train what requires a gradient in `model`, from the last checkpoint if there is one.

    `loss_at(step)` gives the loss. The rate warms up, stays for the share `flat` of all steps and
    then falls linearly to a fiftieth. Every 400 steps a checkpoint is written; every 1,000 and at
    the end `look` may show what has been learned.
    """
    kept = home / f"{name}.pt"
    learned = [weight for weight in model.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(
        learned, lr=rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True
    )
    start = 0
    if kept.exists():
        state = torch.load(kept, weights_only=True)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        if ema is not None:
            ema.load_state_dict(state["ema"])
        start = state["step"]

    def keep(step: int) -> None:
        state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step}
        if ema is not None:
            state["ema"] = ema.state_dict()
        torch.save(state, kept.with_suffix(".new"))
        kept.with_suffix(".new").replace(kept)

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("loss {task.fields[loss]:.4f}"),
    )  # fmt: skip
    mean, began = 0.0, time.monotonic()
    with Progress(*columns) as progress:
        bar = progress.add_task(name, total=steps, completed=start, loss=0.0)
        for step in range(start, steps):
            falling = min(1.0, (steps - step) / (steps * (1 - flat)))
            for group in optimiser.param_groups:
                group["lr"] = rate * min(1.0, (step + 1) / warm_up) * max(0.02, falling)
            loss = loss_at(step)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(learned, 1.0)
            optimiser.step()
            if ema is not None:
                # A short memory at first: early weights say little.
                weight = 1 - min(decay, (1 + step) / (10 + step))
                with torch.no_grad():
                    torch._foreach_lerp_(list(ema.parameters()), list(model.parameters()), weight)
            mean = loss.item() if step == start else 0.99 * mean + 0.01 * loss.item()
            progress.update(bar, completed=step + 1, loss=mean)
            if (step + 1) % 200 == 0:
                speed = (step + 1 - start) / (time.monotonic() - began)
                progress.console.log(f"{name} {step + 1}: loss {mean:.4f}, {speed:.2f} steps/s")
            if (step + 1) % 400 == 0:
                keep(step + 1)
            if look and (step + 1) % 1000 == 0 and step + 1 < steps:
                look(step + 1)
    if start < steps:
        keep(steps)
        if look:
            look(steps)
