"""The official code at work: learninginvision/LoRAC-IPC, from a checkout.

Nothing of it is copied: its own net and pool of modules run. What it needs today is put in from
outside: a name of timm that has moved, and its folder ``peft``, which has the name of a package.
It is always to its advantage: no synchronisation with a GPU, one process, nothing printed, and the
inverse covariances of its task inference are at hand.
"""

from __future__ import annotations

import importlib
import sys
import types
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from lora_work import CENTROIDS, CLASSES, EACH, batch, class_means, expected_tasks, net
from torch.nn import functional

from relearn.data.randomness import generator_of

if TYPE_CHECKING:
    from side_by_side import Repetition

KINDS = ("q", "k", "v", "out", "fc1", "fc2")


def step(
    *,
    checkout: str,
    dim: int,
    depth: int,
    image: int,
    patch: int,
    batch_size: int,
    rank: int,
    tasks: int,
) -> Repetition:
    """Prepare one training step of the task after some finished ones."""
    model = _model(checkout, dim=dim, depth=depth, image=image, patch=patch, rank=rank, tasks=tasks)
    pool = model.lora_layer
    for name, parameter in model.named_parameters():
        kept = "lora" in name and not name.endswith("_M")
        parameter.requires_grad_(kept or name.startswith("head"))
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    x = batch(batch_size, image)
    classes = torch.arange(tasks * EACH, (tasks + 1) * EACH)
    others = torch.tensor([c for c in range(CLASSES) if c not in classes.tolist()])
    labels = classes.repeat(batch_size)[:batch_size]
    arguments = SimpleNamespace(ortho=1.0)
    model.train()

    def repetition() -> float:
        logits = model(x, task_id=tasks, train=True)["logits"]
        loss = functional.cross_entropy(logits.index_fill(1, others, -torch.inf), labels)
        loss = loss + model.get_loss_ortho(task_id=tasks, device=x.device, args=arguments)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        pool.update_ipt(task_id=tasks)
        return float(batch_size)

    return repetition


def inference(
    *,
    checkout: str,
    dim: int,
    depth: int,
    image: int,
    patch: int,
    batch_size: int,
    rank: int,
    tasks: int,
) -> Repetition:
    """Prepare its answers for a mixed batch: the task of each image, then image by image."""
    model = _model(checkout, dim=dim, depth=depth, image=image, patch=patch, rank=rank, tasks=tasks)
    engine = importlib.import_module("engines.comp_ilora_tii_mask_engine")
    model.eval()
    x = batch(batch_size, image)
    with torch.no_grad():
        found = functional.normalize(model(x, task_id=0)["features"])
    means = class_means(found, tasks)
    inverse = [torch.eye(dim) for _ in range(CENTROIDS)]
    wanted = expected_tasks(batch_size, tasks)

    @torch.no_grad()
    def repetition() -> float:
        features = functional.normalize(model(x, task_id=0)["features"])
        apart = [features.unsqueeze(1) - means[label].unsqueeze(0) for label in means]
        distances = [engine._mahalanobis(each, inverse, preprocess=True) for each in apart]
        chosen = torch.stack(distances, 1).argmin(1) // EACH
        if not torch.equal(chosen, wanted):
            raise RuntimeError("the inferred tasks are not those of the centroids")
        for number, task in enumerate(chosen.tolist()):
            model(x[number : number + 1], task_id=task)["logits"]
        return float(batch_size)

    return repetition


def _model(
    checkout: str, *, dim: int, depth: int, image: int, patch: int, rank: int, tasks: int
) -> Any:
    """Return its net with drawn factors of the finished tasks, after checking that it is ours."""
    vits = _imported(checkout)
    model = vits.VisionTransformer(
        img_size=image,
        patch_size=patch,
        embed_dim=dim,
        depth=depth,
        num_heads=max(1, dim // 64),
        num_classes=CLASSES,
        lora=True,
        lora_type="comp",
        rank=rank,
        lora_pool_size=tasks + 1,
        lora_depth=depth,
        lora_qkv=[True, True, True],
        lora_out=True,
        lora_fc1=True,
        lora_fc2=True,
    )
    pool = model.lora_layer
    pool.current_task.fill_(tasks)
    draw = generator_of(0, "bench.factors")
    with torch.no_grad():
        for kind in KINDS:
            b = getattr(pool, f"{kind}_lora_B")
            for task in range(tasks):
                b[task].copy_(torch.randn(b[task].shape, generator=draw) * 1e-3)
            getattr(pool, f"{kind}_lora_OB").fill_(1.0)
    _require_same_function(model, net(dim=dim, depth=depth, image=image, patch=patch), image)
    return model


@torch.no_grad()
def _require_same_function(model: Any, plain: torch.nn.Module, image: int) -> None:
    """Give it the weights of timm's net and check that without modules both say the same."""
    model.load_state_dict(plain.state_dict(), strict=False)
    pool, model.lora_layer = model.lora_layer, None
    x = batch(1, image)
    torch.testing.assert_close(model.eval()(x)["logits"], plain.eval()(x), rtol=1e-3, atol=1e-4)
    model.lora_layer = pool


def _imported(checkout: str) -> Any:
    """Import its net; timm's helpers have moved, and its ``peft`` is no package."""
    warnings.simplefilter("ignore")
    root = Path(checkout).resolve()
    sys.path.insert(0, str(root))
    peft = types.ModuleType("peft")
    peft.__path__ = [str(root / "peft")]
    sys.modules["peft"] = peft
    from timm.layers import to_2tuple

    helpers = types.ModuleType("timm.models.layers.helpers")
    helpers.__dict__["to_2tuple"] = to_2tuple
    sys.modules["timm.models.layers.helpers"] = helpers
    return importlib.import_module("vits.comp_ilora_mask_allw_vision_transformer")
