"""huggingface PEFT at work on the same net: one adapter trained, and our modules read by it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lora_work import CLASSES, EACH, batch, learnt, net
from torch.nn import functional

from relearn.methods.lora_ipc.matrices import find_matrices
from relearn.methods.lora_ipc.peft_format import export_peft
from relearn.training.memory import keep_freed_memory

if TYPE_CHECKING:
    from side_by_side import Repetition


def step(*, dim: int, depth: int, image: int, patch: int, batch_size: int, rank: int) -> Repetition:
    """Prepare one training step of one adapter on the same layers."""
    import peft

    keep_freed_memory()
    plain = net(dim=dim, depth=depth, image=image, patch=patch)
    layers = sorted({place.layer for place in find_matrices(plain)})
    config = peft.LoraConfig(
        r=rank, lora_alpha=1, target_modules=layers, modules_to_save=["head"], lora_dropout=0.0
    )
    model: Any = peft.get_peft_model(plain, config)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-3)
    x = batch(batch_size, image)
    classes = torch.arange(EACH)
    others = torch.arange(EACH, CLASSES)
    labels = classes.repeat(batch_size)[:batch_size]
    model.train()

    def repetition() -> float:
        logits = model(x).index_fill(1, others, -torch.inf)
        optimizer.zero_grad()
        functional.cross_entropy(logits, labels).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        return float(batch_size)

    return repetition


def logits(
    *, dim: int, depth: int, image: int, patch: int, batch_size: int, rank: int, tasks: int
) -> Repetition:
    """Prepare the largest difference between our logits and those of PEFT with our export."""
    import peft

    @torch.no_grad()
    def repetition() -> float:
        x = batch(batch_size, image)
        plain = net(dim=dim, depth=depth, image=image, patch=patch)
        adapters = learnt(plain, tasks=tasks, rank=rank, freeze=0.05, omega=True)
        expected = adapters.model.eval()(x)
        with tempfile.TemporaryDirectory() as folder:
            export_peft(adapters, Path(folder))
            fresh = net(dim=dim, depth=depth, image=image, patch=patch)
            model: Any = peft.PeftModel.from_pretrained(fresh, folder)
        return float((model.eval()(x) - expected).abs().max())

    return repetition
