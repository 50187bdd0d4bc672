"""Adapters through the package of huggingface itself, which is no part of the usual set-up."""

from __future__ import annotations

import pytest
import torch
from test_lora_state import two_tasks
from tiny_lora import answers, images, tiny_adapters, tiny_vit

from relearn.methods.lora_ipc.peft_format import export_peft, import_peft

pytestmark = pytest.mark.full


@pytest.mark.parametrize("task", [0, 1, None])
def test_peft_gives_our_logits_with_an_adapter_of_ours(tmp_path, task):
    from peft import PeftModel

    adapters = two_tasks()
    export_peft(adapters, tmp_path, task)
    if task is not None:
        adapters.use(task)
    theirs = PeftModel.from_pretrained(tiny_vit(), str(tmp_path)).eval()
    difference = (answers(theirs) - answers(adapters.model)).abs().max()
    assert float(difference) < 1e-5


def test_we_give_peft_s_logits_with_an_adapter_that_peft_trained(tmp_path):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(
        r=2,
        lora_alpha=6,
        target_modules=["attention.qkv", "perceptron.0"],
        modules_to_save=["head"],
        init_lora_weights=False,
    )
    theirs = get_peft_model(tiny_vit(), config)
    optimizer = torch.optim.SGD([p for p in theirs.parameters() if p.requires_grad], 0.1)
    theirs(images()).square().mean().backward()
    optimizer.step()
    theirs.eval().save_pretrained(str(tmp_path))
    adapters = tiny_adapters(planned_tasks=2)
    import_peft(adapters, tmp_path, list(range(8)), seed=0)
    difference = (answers(adapters.model) - answers(theirs)).abs().max()
    assert float(difference) < 1e-5
