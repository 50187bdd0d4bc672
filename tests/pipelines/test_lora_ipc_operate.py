"""Operating a model that has learnt tasks: every action, on the tiny stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from tiny_lora_ipc import tiny_base, tiny_config, tiny_stream

from relearn.data.config import DataConfig
from relearn.errors import CheckpointError, DataError, EvidenceError, ParameterError
from relearn.methods.lora_ipc import operate
from relearn.methods.lora_ipc.operate_config import LoraIpcOperateConfig
from relearn.methods.lora_ipc.run import train_one
from relearn.models.checkpoint import build
from relearn.parameters import StorageConfig
from relearn.pipelines.lora_ipc.training_store import load_trained, save_trained
from relearn.pipelines.lora_ipc_operate import actions, nodes
from relearn.training.config import ExecutionConfig

ROOT = Path(__file__).resolve().parents[2]
EXECUTION = ExecutionConfig(
    device="cpu", precision="fp32", devices=1, workers=1, threads=1, backend="loky"
)


def told(name: str, file: str) -> Any:
    return yaml.safe_load((ROOT / "conf/base" / file).read_text(encoding="utf-8"))[name]


def data() -> DataConfig:
    plain = told("data", "parameters_prepare_data.yml")
    return DataConfig.model_validate({**plain, "cache_folder": "nowhere"})


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """Return the folder of a model that has learnt three tasks."""
    folder = tmp_path_factory.mktemp("model")
    trained = train_one(tiny_base(), tiny_stream(), tiny_config(), training="lorac_ipc", seed=0)
    save_trained(trained, folder)
    return folder


def act(model: Path, folder: Path, action: str, **changes: Any) -> Any:
    plain = told("lora_ipc_operate", "parameters_lora_ipc_operate.yml")
    asked = LoraIpcOperateConfig.model_validate({**plain, "action": action, **changes})
    units = pd.DataFrame({"arm": ["lorac_ipc"], "seed": [0], "path": [str(model / "lorac_ipc")]})
    return nodes.act(
        base=tiny_base(),
        stream=tiny_stream(),
        units=units,
        lora_ipc=tiny_config(),
        lora_ipc_operate=asked,
        data=data(),
        execution=EXECUTION,
        storage=StorageConfig(folder=str(folder)),
    )


def outputs(net: torch.nn.Module) -> torch.Tensor:
    """Return the logits on the stream's test images."""
    split, shape = tiny_stream().split("transfer_query"), tiny_base().architecture
    return operate.predict(net, split.images, mean=shape.mean, std=shape.std)


def answers_after(model: Path, task: int) -> torch.Tensor:
    adapters = operate.adapters_of(tiny_base(), load_trained(model))
    adapters.use(task)
    return outputs(adapters.model)


def test_a_model_that_is_rolled_back_answers_as_then_bit_for_bit(model, tmp_path):
    checkpoint, report, rows = act(model, tmp_path, "roll_back", task=2)
    kept = Path(report["model"])
    assert len(load_trained(kept).tasks) == 2
    assert torch.equal(answers_after(kept, 1), answers_after(model, 1))
    assert torch.equal(outputs(build(checkpoint)), answers_after(model, 1))
    assert rows["kind"].tolist() == ["roll_back"]
    assert len(load_trained(model).tasks) == 3


def test_what_was_rolled_back_can_learn_the_same_task_again(model, tmp_path):
    """The model after two tasks, and the third learnt on top, is the model after three."""
    from relearn.methods.lora_ipc.run import StartFrom

    _, report, _ = act(model, tmp_path, "roll_back", task=2)
    kept = load_trained(Path(report["model"]))
    again = train_one(
        tiny_base(),
        tiny_stream(),
        tiny_config(),
        training="lorac_ipc",
        seed=0,
        resume=StartFrom(kept),
    )
    first = load_trained(model)
    assert again.tasks == first.tasks
    for name, tensor in first.body["tensors"].items():
        assert torch.equal(again.body["tensors"][name], tensor), name


def test_rolling_back_all_tasks_leaves_the_backbone(model, tmp_path):
    checkpoint, report, _ = act(model, tmp_path, "roll_back", task=-1)
    weights = tiny_base().weights
    same = [torch.equal(checkpoint.weights[n], t) for n, t in weights.items() if "head" not in n]
    assert report["tasks"] == 0
    assert all(same)


def test_a_rolled_back_model_that_answers_otherwise_is_not_written(model, tmp_path, monkeypatch):
    whole = operate.roll_back
    monkeypatch.setattr(operate, "roll_back", lambda *given: (*whole(*given)[:2], False))
    with pytest.raises(EvidenceError, match="nothing was written"):
        act(model, tmp_path, "roll_back", task=1)
    assert not list(tmp_path.rglob("trained.json"))


def test_disabling_the_last_task_gives_the_accuracies_without_it(model, tmp_path):
    _, report, _ = act(model, tmp_path, "disable")
    assert report["exact"]
    adapters = operate.adapters_of(tiny_base(), load_trained(model))
    tests = operate.tests_of(load_trained(model), tiny_stream())
    assert report["accuracy"] == operate.accuracies(adapters, tiny_base(), tests)
    adapters.use(2, without=(2,))
    assert report["accuracy_without"] == operate.accuracies(adapters, tiny_base(), tests)


@pytest.mark.parametrize("task", [1, 3])
def test_a_merged_net_answers_as_the_model_after_the_task(model, tmp_path, task):
    checkpoint, _, _ = act(model, tmp_path, "merge", task=task)
    assert torch.equal(outputs(build(checkpoint)), answers_after(model, task - 1))
    assert len(checkpoint.provenance["class_names"]) == 2 * task


def test_an_exported_adapter_comes_back_as_a_further_task(model, tmp_path):
    """An adapter of the first task, taken in after rolling back to the backbone, is that task."""
    _, exported, _ = act(model, tmp_path, "export_peft", task=1)
    _, bare, _ = act(model, tmp_path, "roll_back", task=-1)
    names = load_trained(model).class_names[:2]
    _, report, _ = act(
        model,
        tmp_path,
        "import_peft",
        state=bare["model"],
        source_path=exported["adapter"],
        class_names=";".join(names),
    )
    found = answers_after(Path(report["model"]), 0)
    assert torch.allclose(found, answers_after(model, 0), atol=1e-5)


def new_classes(folder: Path, names: tuple[str, ...], images: int = 8) -> str:
    """Write a folder with some noise of each class."""
    draw = torch.Generator().manual_seed(3)
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for count in range(images):
            noise = torch.randint(0, 60, (8, 8), generator=draw) + 90 * number
            picture = Image.fromarray(noise.to(torch.uint8).numpy())
            picture.save(folder / name / f"{count}.png")
    return str(folder)


def test_a_task_is_added_and_what_was_frozen_keeps_every_bit(model, tmp_path):
    source = new_classes(tmp_path / "new", ("left", "right"))
    checkpoint, report, _ = act(model, tmp_path, "add_task", source_path=source)
    before, after = load_trained(model), load_trained(Path(report["model"]))
    assert after.class_names == [*before.class_names, "left", "right"]
    assert checkpoint.provenance["class_names"] == after.class_names
    assert len(report["accuracy"]) == 4
    assert None not in report["accuracy"]
    adapters = operate.adapters_of(tiny_base(), after)
    from relearn.methods.lora_ipc.ledger import verify_frozen

    frozen = [row for row in before.ledger if row.kind == "freeze_matrix"]
    assert frozen
    assert all(verify_frozen(row, adapters) for row in frozen)
    seen = [label for own in before.tasks for label in own]
    then, now = answers_after(model, 2), answers_after(Path(report["model"]), 2)
    assert torch.allclose(now[:, seen], then[:, seen], atol=1e-6)  # a wider product
    _, further, _ = act(
        model,
        tmp_path,
        "add_task",
        state=report["model"],
        source_path=new_classes(tmp_path / "newer", ("third",)),
    )
    assert further["tasks"] == 5


def test_bad_requests_are_refused_in_one_line(model, tmp_path):
    with pytest.raises(ParameterError, match=r"lora_ipc_operate\.task: got 9"):
        act(model, tmp_path, "roll_back", task=9)
    with pytest.raises(ParameterError, match=r"lora_ipc_operate\.source_path: is empty"):
        act(model, tmp_path, "add_task")
    with pytest.raises(ParameterError, match=r"lora_ipc_operate\.seed.*seeds there: 0"):
        act(model, tmp_path, "merge", seed=5)
    with pytest.raises(ParameterError, match=r"did you mean lorac_ipc"):
        act(model, tmp_path, "merge", arm="lorac_ipx")
    with pytest.raises(CheckpointError, match="cannot be read"):
        act(model, tmp_path, "merge", state=str(tmp_path))
    with pytest.raises(ParameterError, match="class_names: is empty"):
        act(model, tmp_path, "import_peft", source_path=str(tmp_path))
    with pytest.raises(ValueError, match="only roll_back"):
        act(model, tmp_path, "merge", task=-1)
    known = load_trained(model).class_names[0]
    with pytest.raises(DataError, match="learnt already"):
        act(model, tmp_path, "add_task", source_path=new_classes(tmp_path / "x", (known,)))
    with pytest.raises(DataError, match="2 or more"):
        act(model, tmp_path, "add_task", source_path=new_classes(tmp_path / "y", ("z",), 1))


def test_a_training_without_modules_cannot_be_operated(tmp_path):
    trained = train_one(tiny_base(), tiny_stream(), tiny_config(), training="ncm", seed=0)
    save_trained(trained, tmp_path)
    with pytest.raises(ParameterError, match="has no module for each task"):
        act(tmp_path, tmp_path, "merge")


def test_every_action_of_the_parameters_is_there():
    names = LoraIpcOperateConfig.model_fields["action"].annotation
    assert set(actions.ACTIONS) == set(names.__args__)  # type: ignore[union-attr]
