"""Finished tasks on disk, a task months later, and PEFT's files."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_lora import answers, learn_task, tiny_adapters, tiny_vit

from relearn.errors import CheckpointError, ParameterError, TrainingError
from relearn.methods.lora_ipc.peft_format import CONFIG, WEIGHTS, export_peft, import_peft
from relearn.methods.lora_ipc.state import (
    backbone_digest,
    load_state,
    save_state,
    state_digest,
    state_of,
    stored_bytes,
)
from relearn.models.heads import extend_head


def two_tasks(**changes):
    adapters = tiny_adapters(**changes)
    learn_task(adapters, freeze=["0.q", "1.fc1"])
    learn_task(adapters)
    return adapters


def test_a_stored_state_answers_the_same_bits_after_every_task(tmp_path):
    adapters = two_tasks()
    save_state(adapters, tmp_path / "state.safetensors")
    loaded = load_state(tiny_vit(), tmp_path / "state.safetensors")
    assert torch.equal(answers(loaded.model), answers(adapters.model))
    assert state_digest(loaded) == state_digest(adapters)
    assert loaded.frozen == adapters.frozen == {"0.q": 0, "1.fc1": 0}
    assert loaded.classes == adapters.classes
    for task in (0, -1):
        loaded.roll_back(task)
        adapters.roll_back(task)
        assert torch.equal(answers(loaded.model), answers(adapters.model))


def test_a_task_added_months_later_is_the_one_added_at_once(tmp_path):
    adapters = two_tasks()
    save_state(adapters, tmp_path / "state.safetensors")
    later = load_state(tiny_vit(), tmp_path / "state.safetensors")
    assert learn_task(adapters) == learn_task(later) == 2
    assert torch.equal(answers(later.model), answers(adapters.model))
    assert state_digest(later) == state_digest(adapters)


def test_a_killed_task_leaves_the_file_of_the_task_before(tmp_path):
    path = tmp_path / "state.safetensors"
    adapters = two_tasks()
    save_state(adapters, path)
    before = path.read_bytes()
    adapters.begin_task([4, 5], seed=0)
    with pytest.raises(TrainingError, match="finish or abandon"):
        save_state(adapters, path)
    assert path.read_bytes() == before


def test_a_state_before_any_task_is_the_backbone(tmp_path):
    save_state(tiny_adapters(), tmp_path / "s.safetensors")
    loaded = load_state(tiny_vit(), tmp_path / "s.safetensors")
    assert loaded.tasks == 0
    assert torch.equal(answers(loaded.model), answers(tiny_vit()))


def test_heads_of_other_sizes_come_back(tmp_path):
    adapters = two_tasks()
    extend_head(adapters.model, 3, generator=torch.Generator().manual_seed(0))
    learn_task(adapters)
    save_state(adapters, tmp_path / "s.safetensors")
    loaded = load_state(tiny_vit(), tmp_path / "s.safetensors")
    assert torch.equal(answers(loaded.model), answers(adapters.model))
    assert answers(loaded.model).shape[1] == 11


def test_of_a_last_layer_the_rows_that_a_task_changed_are_stored_and_every_bit_comes_back(tmp_path):
    adapters = two_tasks()
    heads = [{k: v.clone() for k, v in adapters.heads[0].items()} for _ in range(2)]
    heads[1]["weight"][3] += 1.0
    heads[0]["bias"][1] = 0.0
    heads[1]["bias"][1] = -0.0  # equal as a number, another bit
    adapters.heads = heads
    tensors, _ = state_of(adapters)
    assert tensors["head_rows.2.weight.rows"].tolist() == [3]
    assert tensors["head_rows.2.bias.rows"].tolist() == [1]
    save_state(adapters, tmp_path / "s.safetensors")

    loaded = load_state(tiny_vit(), tmp_path / "s.safetensors")

    for mine, theirs in zip(heads, loaded.heads, strict=True):
        for name, tensor in mine.items():
            assert tensor.numpy().tobytes() == theirs[name].numpy().tobytes()


def test_stored_bytes_are_those_of_the_factors():
    adapters = two_tasks()
    expected = sum(
        4 * m.ranks[0] * len(m.tasks) * (m.place.in_features + m.place.out_features)
        for m in adapters.matrices.values()
    )
    assert stored_bytes(adapters)["factors"] == expected
    # after two tasks: omega of one module, then of two, or of one where frozen
    assert stored_bytes(adapters)["omegas"] == 4 * (10 * 3 + 2 * 2)


def test_the_backbones_digest_is_the_same_with_and_without_modules():
    adapters = two_tasks()
    assert backbone_digest(adapters.model, "head") == backbone_digest(tiny_vit(), "head")
    assert backbone_digest(tiny_vit(seed=2), "head") != backbone_digest(tiny_vit(), "head")


def test_files_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "state.safetensors"
    save_state(two_tasks(), path)
    other = tiny_vit(seed=2)
    with pytest.raises(CheckpointError, match="made on another backbone"):
        load_state(other, path)
    assert torch.equal(answers(other), answers(tiny_vit(seed=2)))
    with pytest.raises(CheckpointError, match="no such file"):
        load_state(tiny_vit(), tmp_path / "absent")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        load_state(tiny_vit(), path)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CheckpointError, match="damaged"):
        load_state(tiny_vit(), path)
    save_file({"x": torch.ones(1)}, path)
    with pytest.raises(CheckpointError, match="holds no modules of lora_ipc"):
        load_state(tiny_vit(), path)


def as_peft_does(folder):
    """Return the answers of a plain net with an adapter added as PEFT's documents say."""
    net, config = tiny_vit(), json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    tensors = {
        name.removeprefix("base_model.model."): tensor
        for name, tensor in load_file(folder / WEIGHTS).items()
    }
    with torch.no_grad():
        for name in config["target_modules"]:
            a, b = tensors[f"{name}.lora_A.weight"], tensors[f"{name}.lora_B.weight"]
            assert len(a) == config["rank_pattern"][name]
            scale = config["alpha_pattern"][name] / len(a)
            net.get_submodule(name).weight += scale * (b @ a)
        for saved in config["modules_to_save"]:
            for own in ("weight", "bias"):
                net.get_parameter(f"{saved}.{own}").copy_(tensors[f"{saved}.{own}"])
    return answers(net)


@pytest.mark.parametrize("task", [0, 1, None])
def test_an_exported_adapter_gives_our_logits(tmp_path, task):
    adapters = two_tasks()
    export_peft(adapters, tmp_path, task)
    if task is not None:
        adapters.use(task)
    difference = (as_peft_does(tmp_path) - answers(adapters.model)).abs().max()
    assert float(difference) < 1e-5


def test_an_adapter_comes_back_as_one_task_with_the_same_function(tmp_path):
    adapters = two_tasks()
    export_peft(adapters, tmp_path)
    fresh = tiny_adapters(planned_tasks=3)
    assert import_peft(fresh, tmp_path, [0, 1, 2, 3], seed=0) == 0
    torch.testing.assert_close(answers(fresh.model), answers(adapters.model))
    assert fresh.matrices["0.q"].ranks == [2]  # frozen after one task, so of one module
    assert fresh.matrices["0.k"].ranks == [4]
    learn_task_after(fresh)


def learn_task_after(adapters):
    before = answers(adapters.model)
    adapters.begin_task([4, 5], seed=0)
    adapters.finish_task()
    torch.testing.assert_close(answers(adapters.model), before)
    adapters.roll_back(0)
    assert torch.equal(answers(adapters.model), before)


def adapter_of_peft(folder, *, layers=("blocks.0.attention.qkv",), width=16, **changes):
    """Write an adapter of rank 3 as PEFT does, one A for q, k and v."""
    draw = torch.Generator().manual_seed(4)
    tensors, told = {}, {}
    for name in layers:
        told[name] = torch.randn(3, width, generator=draw), torch.randn(48, 3, generator=draw)
        for letter, tensor in zip("AB", told[name], strict=True):
            tensors[f"base_model.model.{name}.lora_{letter}.weight"] = tensor
    save_file(tensors, folder / WEIGHTS)
    config = {"peft_type": "LORA", "r": 3, "lora_alpha": 6, "bias": "none", **changes}
    (folder / CONFIG).write_text(json.dumps(config), encoding="utf-8")
    return told


@pytest.mark.parametrize(("changes", "scale"), [({}, 2.0), ({"use_rslora": True}, 6 / 3**0.5)])
def test_an_adapter_that_peft_trained_is_added_with_its_scale(tmp_path, changes, scale):
    ((a, b),) = adapter_of_peft(tmp_path, **changes).values()
    adapters = tiny_adapters()
    import_peft(adapters, tmp_path, [0, 1], seed=0)
    net = tiny_vit()
    with torch.no_grad():
        net.get_submodule("blocks.0.attention.qkv").weight += scale * (b @ a)
    torch.testing.assert_close(answers(adapters.model), answers(net), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"layers": ("blocks.9.attention.qkv",)}, "blocks.9.attention.qkv, which is no layer"),
        ({"width": 20}, "has \\(48, 20\\), expected \\(48, 16\\); .* another backbone"),
        ({"use_dora": True}, "use_dora: True"),
        ({"peft_type": "IA3"}, "peft_type: 'IA3'"),
        ({"bias": "all"}, "bias: 'all'"),
    ],
)
def test_adapters_that_do_not_fit_are_refused(tmp_path, given, says):
    adapter_of_peft(tmp_path, **given)
    adapters = tiny_adapters()
    with pytest.raises(CheckpointError, match=says):
        import_peft(adapters, tmp_path, [0, 1], seed=0)
    assert adapters.tasks == 0
    assert adapters.open_classes is None
    assert torch.equal(answers(adapters.model), answers(tiny_vit()))


def test_an_adapter_exported_from_another_backbone_is_refused(tmp_path):
    export_peft(two_tasks(), tmp_path)
    adapters = tiny_adapters()
    with torch.no_grad():
        adapters.layers[0].base_weight[0, 0] += 1
    with pytest.raises(CheckpointError, match="made for another backbone"):
        import_peft(adapters, tmp_path, [0, 1], seed=0)


def test_an_adapter_may_not_touch_what_is_frozen_or_has_no_room(tmp_path):
    adapter_of_peft(tmp_path)
    frozen = tiny_adapters()
    learn_task(frozen, freeze=["0.k"])
    with pytest.raises(ParameterError, match=r"changes 0\.k, which is frozen since task 1"):
        import_peft(frozen, tmp_path, [4, 5], seed=0)
    crowded = tiny_adapters(planned_tasks=8)
    with pytest.raises(ParameterError, match=r"0\.q would need 17 orthogonal columns of d_in = 16"):
        import_peft(crowded, tmp_path, [4, 5], seed=0)
    partial = tiny_adapters(kinds=("q", "v"))
    with pytest.raises(ParameterError, match=r"changes a matrix of .* without modules"):
        import_peft(partial, tmp_path, [4, 5], seed=0)


def test_what_is_no_adapter_is_refused(tmp_path):
    adapters = tiny_adapters()
    with pytest.raises(CheckpointError, match="no adapter of PEFT"):
        import_peft(adapters, tmp_path, [0], seed=0)
    with pytest.raises(ParameterError, match="the backbone alone has no modules"):
        export_peft(adapters, tmp_path)
    adapter_of_peft(tmp_path, layers=())
    with pytest.raises(CheckpointError, match="holds no factors"):
        import_peft(adapters, tmp_path, [0], seed=0)
