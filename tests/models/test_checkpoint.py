import json
import pickle
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from relearn.errors import CheckpointError
from relearn.models.checkpoint import (
    Architecture,
    Checkpoint,
    build,
    build_fresh,
    capture,
    load_checkpoint,
    save_checkpoint,
)
from relearn.models.weights import load_weights, own_normalisation, read_state, start_net

NET = Architecture("preact_resnet", 1, 16, 5, {"width": 4, "depth": 8}, (0.1,), (0.3,))


def randomised(net, seed=0):
    """Batch-norm statistics that defaults cannot stand in for."""
    draw = torch.Generator().manual_seed(seed)
    for name, value in net.state_dict().items():
        if "running" in name:
            value.copy_(torch.rand(value.shape, generator=draw) + 0.5)
    return net


@pytest.fixture
def checkpoint():
    net = randomised(build_fresh(NET, seed=3))
    return capture(net, NET, {"seed": 3, "class_names": ["a", "b"], "accuracy": 0.5})


def test_a_checkpoint_comes_back_whole(checkpoint, tmp_path):
    path = tmp_path / "deep" / "base.safetensors"
    save_checkpoint(checkpoint, path)
    loaded = load_checkpoint(path)
    assert loaded.architecture == checkpoint.architecture
    assert loaded.provenance == checkpoint.provenance
    assert loaded.digest == checkpoint.digest
    x = torch.rand(3, 1, 16, 16)
    assert torch.equal(build(loaded)(x), build(checkpoint)(x))
    assert [p.name for p in path.parent.iterdir()] == ["base.safetensors"]


def test_a_built_net_is_in_evaluation_mode_and_shares_nothing(checkpoint):
    net = build(checkpoint)
    assert not net.training
    before = checkpoint.digest
    with torch.no_grad():
        for tensor in net.state_dict().values():
            tensor.add_(1)
    assert replace(checkpoint).digest == before


def test_later_training_does_not_change_a_captured_checkpoint():
    net = build_fresh(NET, seed=0)
    kept = capture(net, NET)
    before = replace(kept).digest
    nn.init.zeros_(net.head.weight)
    assert replace(kept).digest == before


@pytest.mark.parametrize("change", ["weights", "provenance", "architecture"])
def test_the_digest_covers_weights_provenance_and_architecture(checkpoint, change):
    weights = {k: v.clone() for k, v in checkpoint.weights.items()}
    weights["head.bias"][0] += 1e-6
    changes = {
        "weights": {"weights": weights},
        "provenance": {"provenance": {"seed": 4}},
        "architecture": {"architecture": replace(NET, mean=(0.2,))},
    }
    assert replace(checkpoint, **changes[change]).digest != checkpoint.digest


def test_a_truncated_file_is_refused(checkpoint, tmp_path):
    path = tmp_path / "base.safetensors"
    save_checkpoint(checkpoint, path)
    whole = path.read_bytes()
    for size in (0, 5, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=r"base\.safetensors: truncated or damaged"):
            load_checkpoint(path)


def test_a_flipped_bit_is_found_by_the_digest(checkpoint, tmp_path):
    path = tmp_path / "base.safetensors"
    save_checkpoint(checkpoint, path)
    whole = bytearray(path.read_bytes())
    whole[-10] ^= 1
    path.write_bytes(whole)
    with pytest.raises(CheckpointError, match=r"base\.safetensors: damaged .*make it again"):
        load_checkpoint(path)


def test_a_missing_file_and_a_strangers_file_are_refused(tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "none.safetensors")
    save_file({"x": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"not a checkpoint of relearn.*weights: file"):
        load_checkpoint(tmp_path / "other.safetensors")
    save_file(
        {"x": torch.zeros(2)},
        tmp_path / "bare.safetensors",
        metadata={"head": json.dumps({"format": "relearn-1/checkpoint"})},
    )
    with pytest.raises(CheckpointError, match="header is damaged"):
        load_checkpoint(tmp_path / "bare.safetensors")


def test_weights_of_another_architecture_are_refused(checkpoint):
    wrong = Checkpoint(replace(NET, classes=6), checkpoint.weights)
    with pytest.raises(CheckpointError, match="do not fit its architecture"):
        build(wrong)


def test_a_failed_save_leaves_the_old_file(checkpoint, tmp_path, monkeypatch):
    import relearn.models.checkpoint as module

    path = tmp_path / "base.safetensors"
    save_checkpoint(checkpoint, path)
    whole = path.read_bytes()

    def no_space(tensors, file, metadata):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "save_file", no_space)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(replace(checkpoint, provenance={}), path)
    assert path.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("form", ["safetensors", "pt", "wrapped", "parallel"])
def test_weights_of_another_program_are_read(form, checkpoint, tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / f"net.{'safetensors' if form == 'safetensors' else 'pt'}"
    state = dict(checkpoint.weights)
    if form == "safetensors":
        save_file(state, path)
    else:
        wrapped = {"epoch": 3, "state_dict": state} if form == "wrapped" else state
        parallel = {f"module.{k}": v for k, v in state.items()}
        torch.save(parallel if form == "parallel" else wrapped, path)
    net = start_net(NET, weights="file", path=path, seed=9).eval()
    x = torch.rand(2, 1, 16, 16)
    assert torch.equal(net(x), build(checkpoint)(x))


def test_our_own_checkpoint_serves_as_weights_file(checkpoint, tmp_path):
    save_checkpoint(checkpoint, tmp_path / "base.safetensors")
    net = build_fresh(NET, seed=1)
    assert load_weights(net, tmp_path / "base.safetensors")
    assert torch.equal(net.head.weight, checkpoint.weights["head.weight"])


def test_a_head_of_another_size_is_left_fresh_and_said_so(checkpoint, tmp_path, caplog):
    torch.save(dict(checkpoint.weights), tmp_path / "net.pt")
    net = build_fresh(replace(NET, classes=9), seed=1)
    fresh = net.head.weight.detach().clone()
    with caplog.at_level("INFO"):
        assert not load_weights(net, tmp_path / "net.pt")
    assert torch.equal(net.head.weight, fresh)
    assert torch.equal(net.stem.weight, checkpoint.weights["stem.weight"])
    assert "fresh one is kept" in caplog.text


def test_names_and_shapes_that_do_not_fit_are_one_line(checkpoint, tmp_path):
    state = {k: v for k, v in checkpoint.weights.items() if not k.startswith("stages.0")}
    torch.save(state | {"extra": torch.zeros(1)}, tmp_path / "net.pt")
    with pytest.raises(CheckpointError) as caught:
        load_weights(build_fresh(NET, seed=1), tmp_path / "net.pt")
    said = str(caught.value)
    assert "missing (stages.0" in said
    assert "1 unexpected (extra)" in said
    assert "\n" not in said
    wide = build_fresh(replace(NET, options={"width": 8, "depth": 8}), seed=0)
    torch.save(dict(checkpoint.weights), tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match=r"of another shape \(stem\.weight \(4, 1, 3, 3\)"):
        load_weights(wide, tmp_path / "net.pt")


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('the file ran')",))


def test_a_pickle_that_would_run_code_is_refused_without_running(tmp_path):
    for name, data in (("a.pt", {"x": Bomb()}), ("b.pt", nn.Linear(2, 2))):
        torch.save(data, tmp_path / name)
        with pytest.raises(CheckpointError, match="it was not run"):
            read_state(tmp_path / name)
    (tmp_path / "raw.pt").write_bytes(pickle.dumps({"x": Bomb()}, protocol=2))
    with pytest.raises(CheckpointError):
        read_state(tmp_path / "raw.pt")


@pytest.mark.parametrize("name", ["net.pt", "net.safetensors"])
def test_a_damaged_weights_file_is_refused(name, checkpoint, tmp_path):
    torch.save(dict(checkpoint.weights), tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=name):
        read_state(tmp_path / name)


def test_a_file_without_tensors_is_refused(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match="holds no state dict"):
        read_state(tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match="no such file"):
        read_state(tmp_path / "absent.pt")


def test_model_configuration_imports_no_torch():
    code = "import sys, relearn.training.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_first_weights_bring_their_normalisation_where_they_know_it(checkpoint, tmp_path):
    ours, other = tmp_path / "own.safetensors", tmp_path / "net.pt"
    save_checkpoint(checkpoint, ours)
    torch.save(dict(checkpoint.weights), other)
    assert own_normalisation(NET, weights="file", path=ours) == ((0.1,), (0.3,))
    assert own_normalisation(NET, weights="file", path=other) is None
    assert own_normalisation(NET, weights="none") is None
    colour = Architecture("timm:resnet18", 3, 32, 5)
    # ImageNet's statistics, as in timm.data.constants
    expected = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert own_normalisation(colour, weights="timm") == expected
    assert own_normalisation(replace(colour, in_channels=1), weights="timm") is None


def test_pretrained_weights_of_timm_leave_the_global_numbers_alone(monkeypatch):
    import timm

    asked = []

    def stored(name, *, pretrained, **settings):
        asked.append((name, pretrained, settings))
        return nn.Sequential(nn.Flatten(), nn.Linear(27, settings["num_classes"]))

    monkeypatch.setattr(timm, "create_model", stored)
    before = torch.random.get_rng_state()
    net = Architecture("timm:resnet18", 3, 3, 5)
    first, again = (start_net(net, weights="timm", seed=1) for _ in range(2))
    assert torch.equal(first[1].weight, again[1].weight)
    assert torch.equal(before, torch.random.get_rng_state())
    assert asked[0] == ("resnet18", True, {"in_chans": 3, "num_classes": 5})
