from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from relearn.data.batches import channel_statistics
from relearn.data.images import Split, Stream
from relearn.errors import (
    CheckpointError,
    HeadNotFoundError,
    ParameterError,
    StaleInputError,
    TrainingError,
)
from relearn.models.checkpoint import build, load_checkpoint, save_checkpoint
from relearn.pipelines.pretrain import create_pipeline
from relearn.pipelines.pretrain.base_checkpoint import Job, load_unit, make_base, run_unit, unit_of
from relearn.pipelines.pretrain.nodes import draw_curve, pretrain_base
from relearn.provenance import Provenance, digest
from relearn.training.config import ExecutionConfig, PretrainConfig

CONF = Path(__file__).parents[2] / "conf"
EXECUTION = ExecutionConfig(
    device="cpu", precision="fp32", devices=1, workers=1, threads=1, backend="loky"
)
NAMES = tuple("abcdef")
BASE_CLASSES = (1, 2, 4, 5)


def merged(base, changes):
    if not isinstance(base, dict) or not isinstance(changes, dict):
        return changes
    unknown = set(changes) - set(base)
    assert not unknown, f"keys that base lacks: {unknown}"
    return base | {key: merged(base[key], value) for key, value in changes.items()}


def read(environment):
    path = CONF / environment / "parameters_pretrain.yml"
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def config_of(environment="base", **train):
    plain = merged(read("base"), read(environment))["pretrain"]
    plain["model"]["convnet"]["width"] = 4
    plain["train"] |= {"epochs": 3, "batch_size": 16, "learning_rate": 0.01} | train
    return PretrainConfig.model_validate(plain)


def with_model(config, **changes):
    plain = config.model_dump()
    plain["model"] |= changes
    return PretrainConfig.model_validate(plain)


@pytest.fixture
def stream():
    """Classes 1, 2, 4 and 5 of six, each with a bright corner; the last has no validation."""
    draw = torch.Generator().manual_seed(0)

    def split(labels):
        images = torch.randint(0, 80, (len(labels), 1, 24, 24), generator=draw)
        for image, label in zip(images, labels, strict=True):
            row, column = divmod(BASE_CLASSES.index(int(label)), 2)
            image[0, 12 * row : 12 * row + 12, 12 * column : 12 * column + 12] += 120
        return Split(images.to(torch.uint8), labels)

    made = Stream(
        {
            "train": split(torch.tensor(BASE_CLASSES).repeat(10)),
            "validation": split(torch.tensor(BASE_CLASSES[:3]).repeat(4)),
        },
        NAMES,
        torch.full((6,), -1),
    )
    return replace(made, provenance=Provenance("stream", "prepare_data", config="present"))


def job_of(stream, config=None, seed=3):
    return Job(stream, config or config_of(), EXECUTION, seed, None)


def silent(step, values):
    pass


@pytest.mark.parametrize(
    "environment", sorted(p.parent.name for p in CONF.glob("*/parameters_pretrain.yml"))
)
def test_every_environment_differs_only_in_keys_that_base_has_and_is_valid(environment):
    PretrainConfig.model_validate(merged(read("base"), read(environment))["pretrain"])


def test_the_base_learns_its_classes_and_says_where_it_comes_from(stream, tmp_path):
    config = config_of(epochs=8)
    base, records = make_base(job_of(stream, config), tmp_path, silent)
    told = base.provenance
    assert told["validation_accuracy"] > 0.9
    assert told["class_names"] == ["b", "c", "e", "f"]
    assert told["class_numbers"] == list(BASE_CLASSES)
    assert (told["config"], told["stream"]) == (digest(config), stream.digest)
    assert (told["seed"], told["epochs"], told["steps"], told["head"]) == (3, 8, 24, "head")
    last = [r for r in records if r.step == 24]
    assert {r.metric: r.value for r in last}["validation_accuracy"] == told["validation_accuracy"]
    assert {r.metric for r in last} == {"train_loss", "validation_accuracy"}
    mean, std = channel_statistics(stream.split("train").images)
    assert (base.architecture.mean, base.architecture.std) == (mean, std)


def test_equal_seeds_give_equal_bits_and_other_seeds_do_not(stream, tmp_path):
    runs = [
        make_base(job_of(stream, seed=seed), tmp_path / str(i), silent)
        for i, seed in enumerate((7, 7, 8))
    ]
    assert runs[0][0].digest == runs[1][0].digest
    assert runs[0][1] == runs[1][1]
    assert runs[0][0].digest != runs[2][0].digest


def test_an_interrupted_base_goes_on_and_ends_the_same(stream, tmp_path):
    whole, records = make_base(job_of(stream), tmp_path / "whole", silent)

    def pull_the_plug(step, values):
        if step == 6 and "validation_accuracy" in values:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_base(job_of(stream), tmp_path / "cut", pull_the_plug)
    assert (tmp_path / "cut" / "resume.safetensors").exists()
    steps = []
    again, rows = make_base(job_of(stream), tmp_path / "cut", lambda s, v: steps.append(s))
    assert again.digest == whole.digest
    assert rows == records
    assert 3 not in steps  # the first epoch was not trained again


def test_a_finished_unit_leaves_checkpoint_and_records_and_no_resume_point(stream, tmp_path):
    run_unit(job_of(stream), tmp_path)
    names = {"checkpoint.safetensors", "records.json"}
    assert {p.name for p in tmp_path.iterdir()} == names
    base, rows = load_unit(tmp_path)
    assert base.digest == load_checkpoint(tmp_path / "checkpoint.safetensors").digest
    assert rows[-1]["step"] == base.provenance["steps"]


def test_the_address_changes_with_parameters_data_and_seed(stream):
    other = replace(stream, class_names=NAMES, task_of_class=torch.zeros(6, dtype=torch.int64))
    jobs = [
        job_of(stream),
        job_of(stream, config_of(epochs=4)),
        job_of(other),
        job_of(stream, seed=4),
    ]
    digests = {digest(unit_of(job).address) for job in jobs}
    assert len(digests) == 4
    assert digest(unit_of(job_of(stream)).address) in digests


def test_given_weights_without_epochs_are_loaded_and_judged(stream, tmp_path):
    first, _ = make_base(job_of(stream, config_of(epochs=6)), tmp_path, silent)
    elsewhere = replace(first.architecture, mean=(0.3,), std=(0.7,))
    save_checkpoint(replace(first, architecture=elsewhere), tmp_path / "own.safetensors")
    torch.save(dict(first.weights), tmp_path / "strange.pt")
    for name, mean in (("own.safetensors", (0.3,)), ("strange.pt", first.architecture.mean)):
        config = with_model(config_of(epochs=0), weights="file", weights_path=str(tmp_path / name))
        loaded, records = make_base(job_of(stream, config), tmp_path / "two", silent)
        assert all(torch.equal(loaded.weights[k], v) for k, v in first.weights.items())
        assert loaded.architecture.mean == mean
        assert [r.metric for r in records] == ["validation_accuracy"]
        assert loaded.provenance["steps"] == 0


def test_a_residual_net_with_batch_norm_and_an_average_is_trained(stream, tmp_path):
    config = with_model(config_of(epochs=2), name="preact_resnet").model_copy(
        update={"average_decay": 0.9}
    )
    small = config.model.preact_resnet.model_copy(update={"width": 4, "depth": 8})
    config = config.model_copy(
        update={"model": config.model.model_copy(update={"preact_resnet": small})}
    )
    base, _ = make_base(job_of(stream, config), tmp_path, silent)
    assert build(base)(torch.rand(2, 1, 24, 24)).shape == (2, 4)
    assert float(base.weights["norm.running_var"].std()) > 0


def test_a_net_without_validation_samples_is_trained_all_the_same(stream, tmp_path):
    bare = replace(stream, splits={"train": stream.split("train")})
    base, records = make_base(job_of(bare), tmp_path, silent)
    assert base.provenance["validation_accuracy"] is None
    assert {r.metric for r in records} == {"train_loss"}


def test_a_loss_that_is_not_finite_names_arm_seed_and_epoch(stream, tmp_path):
    config = config_of(optimizer="sgd", learning_rate=1e30)
    said = r"pretrain: arm base, seed 3: the loss became .* in epoch 1.*pretrain\.train\.learning"
    with pytest.raises(TrainingError, match=said):
        make_base(job_of(stream, config), tmp_path, silent)


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"head": "haed"}, HeadNotFoundError, "no layer is called 'haed', did you mean head"),
        ({"name": "timm:resnet18x"}, ParameterError, "did you mean resnet18"),
        ({"weights": "file", "weights_path": "no.pt"}, CheckpointError, "no such file"),
    ],
)
def test_a_net_that_cannot_be_made_is_one_line(changes, error, said, stream, tmp_path):
    with pytest.raises(error, match=said):
        make_base(job_of(stream, with_model(config_of(), **changes)), tmp_path, silent)


def test_images_too_small_for_the_net_are_refused(stream, tmp_path):
    train = stream.split("train")
    tiny = replace(stream, splits={"train": Split(train.images[..., :8, :8], train.labels)})
    with pytest.raises(ParameterError, match=r"data\.image\.size: 8 pixels are too few"):
        make_base(job_of(tiny), tmp_path, silent)


def node_inputs(stream, tmp_path, **changes):
    return {
        "stream": stream,
        "pretrain": config_of(),
        "data": SimpleNamespace(stream_digest=lambda: "present"),
        "execution": EXECUTION,
        "seeds": SimpleNamespace(first=3),
        "storage": SimpleNamespace(folder=str(tmp_path)),
    } | changes


def test_the_node_trains_once_and_then_takes_what_is_there(stream, tmp_path):
    first, records = pretrain_base(**node_inputs(stream, tmp_path))
    files = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("checkpoint.safetensors")}
    again, _ = pretrain_base(**node_inputs(stream, tmp_path))
    assert again.digest == first.digest
    assert files == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("checkpoint.safetensors")}
    assert list(records.columns) == ["method", "arm", "seed", "task", "step", "metric", "value"]
    made = Provenance.from_json(records.attrs["provenance"])
    made.require(config=digest(config_of()), inputs={"stream": stream.digest})


def test_a_stream_of_other_parameters_is_refused(stream, tmp_path):
    other = SimpleNamespace(stream_digest=lambda: "changed")
    with pytest.raises(StaleInputError, match="kedro run --pipeline prepare_data"):
        pretrain_base(**node_inputs(stream, tmp_path, data=other))
    with pytest.raises(StaleInputError, match="not said which parameters"):
        pretrain_base(**node_inputs(replace(stream, provenance=None), tmp_path))


def test_a_training_that_fails_is_one_line_from_the_node(stream, tmp_path):
    config = config_of(optimizer="sgd", learning_rate=1e30)
    with pytest.raises(TrainingError, match=r"the loss became .* in epoch 1"):
        pretrain_base(**node_inputs(stream, tmp_path, pretrain=config))


def test_the_curve_shows_loss_and_accuracy(stream, tmp_path):
    import pandas as pd

    _, records = make_base(job_of(stream), tmp_path, silent)
    figure = draw_curve(pd.DataFrame([r.as_row() for r in records]))
    lines = [axes.get_lines() for axes in figure.get_axes()]
    assert [len(found) for found in lines] == [1, 1]
    assert list(lines[0][0].get_xdata()) == [3, 6, 9]
    assert list(lines[1][0].get_xdata()) == [0, 3, 6, 9]


def test_the_pipeline_runs_from_stream_to_base():
    pipeline = create_pipeline()
    free = {name for name in pipeline.inputs() if not name.startswith("params:")}
    assert free == {"stream"}
    assert {"base", "pretrain_records", "pretrain_figure"} <= pipeline.all_outputs()


@pytest.mark.full
def test_a_base_shared_by_two_processes_is_the_base_of_one(stream, tmp_path):
    config = config_of(optimizer="sgd")
    single, _ = make_base(job_of(stream, config), tmp_path / "one", silent)
    shared = replace(job_of(stream, config), execution=EXECUTION.model_copy(update={"devices": 2}))
    (tmp_path / "two").mkdir()
    found, records = make_base(shared, tmp_path / "two", silent)
    for name, value in single.weights.items():
        torch.testing.assert_close(found.weights[name], value, rtol=1e-3, atol=1e-5)
    assert found.provenance["steps"] == single.provenance["steps"]
    assert records[-1].metric == "validation_accuracy"
