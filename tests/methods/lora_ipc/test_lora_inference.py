"""What is kept of a class, whose task an image has, and what a mixed batch is answered."""

from __future__ import annotations

import pytest
import torch
from tiny_lora import answers, images, learn_task, tiny_adapters

from relearn.errors import ParameterError
from relearn.methods.lora_ipc import attachment
from relearn.methods.lora_ipc.class_statistics import (
    SMALLEST_VARIANCE,
    ClassStatistics,
    assign_centroids,
    describe_class,
    sample_features,
)
from relearn.methods.lora_ipc.lora import AdaptedLinear
from relearn.methods.lora_ipc.task_inference import (
    BATCH_WISE,
    PER_IMAGE,
    ClassShape,
    features_after_first_task,
    infer_tasks,
    only_classes,
    predict,
    shape_of_class,
    vote_over_batch,
)
from relearn.models import heads


def cloud(centre, count=30, *, features=6, seed=0, spread=0.1):
    draw = torch.Generator().manual_seed(seed)
    return centre + spread * torch.randn(count, features, generator=draw)


def test_one_gaussian_is_mean_and_variance_of_the_class():
    features = cloud(2.0)
    found = describe_class(features, centroids=1, seed=0, door="d")
    torch.testing.assert_close(found.means[0], features.mean(0))
    torch.testing.assert_close(found.variances[0], features.var(0, unbiased=False))
    assert found.counts.tolist() == [30]


def test_centroids_are_means_of_their_members_and_none_is_empty():
    features = torch.cat([cloud(0.0, 10), cloud(3.0, 20, seed=1)])
    found = describe_class(features, centroids=2, seed=0, door="d")
    order = found.counts.argsort()
    assert found.counts[order].tolist() == [10, 20]
    expected = torch.stack([features[:10].mean(0), features[10:].mean(0)])
    torch.testing.assert_close(found.means[order], expected)


def test_there_are_never_more_centroids_than_different_images():
    assert assign_centroids(cloud(0.0, 3), 10, seed=0, door="d").unique().tolist() == [0, 1, 2]
    with pytest.warns(UserWarning, match="distinct clusters"):
        equal = assign_centroids(torch.ones(5, 3), 4, seed=0, door="d")
    assert equal.tolist() == [0] * 5


def test_drawn_features_have_the_moments_of_their_class_and_a_seed():
    told = ClassStatistics(
        torch.tensor([[1.0, -2.0]]), torch.tensor([[0.25, 0.0]]), torch.tensor([9])
    )
    features, labels = sample_features({4: told, 7: told}, each=4000, seed=1, door="d")
    assert sorted(labels.unique().tolist()) == [4, 7]
    assert not bool((labels[:4000] == 4).all())  # shuffled
    own = features[labels == 7]
    assert own.mean(0).tolist() == pytest.approx([1.0, -2.0], abs=0.05)
    assert own.var(0).tolist() == pytest.approx([0.25, SMALLEST_VARIANCE], rel=0.1)
    again, _ = sample_features({4: told, 7: told}, each=4000, seed=1, door="d")
    other, _ = sample_features({4: told, 7: told}, each=4000, seed=2, door="d")
    assert torch.equal(features, again)
    assert not torch.equal(features, other)


def test_the_distance_is_that_of_the_inverse_correlation():
    features = cloud(0.5, 40, spread=1.0)
    shape = shape_of_class(features, centroids=1, seed=0, door="d")
    covariance = torch.cov(features.T).double() + SMALLEST_VARIANCE * torch.eye(6)
    covariance += covariance.diagonal().mean() * torch.eye(6)
    deviation = covariance.diagonal().sqrt()
    inverse = torch.linalg.pinv(covariance / torch.outer(deviation, deviation))
    white = shape.whitening[0].double()
    torch.testing.assert_close(white @ white.T, inverse, rtol=1e-4, atol=1e-5)


def test_a_diagonal_shape_is_the_inverse_of_shrunk_variances():
    features = cloud(0.5, 40, spread=1.0)
    shape = shape_of_class(features, centroids=1, seed=0, door="d", covariance="diagonal")
    variance = features.var(0) + SMALLEST_VARIANCE
    torch.testing.assert_close(shape.whitening[0] ** -2, variance + variance.mean())


@pytest.mark.parametrize("covariance", ["correlation", "diagonal"])
def test_images_go_to_the_task_of_the_nearest_class(covariance):
    centres = {0: 0.0, 1: 1.0, 2: 2.0, 5: 3.0}
    shapes = {
        label: shape_of_class(
            cloud(centre, seed=label), centroids=2, seed=0, door=f"{label}", covariance=covariance
        )
        for label, centre in centres.items()
    }
    asked = torch.cat([cloud(3.0, 4, seed=9), cloud(0.0, 3, seed=8), cloud(2.0, 2, seed=7)])
    found = infer_tasks(asked, shapes, [(0, 1), (2,), (5,)])
    assert found.tolist() == [2] * 4 + [0] * 3 + [1] * 2


def described(adapters):
    """Return shapes of which each image n is nearest to one of task n modulo the tasks."""
    features, shapes = features_after_first_task(adapters, images()), {}
    for task, classes in enumerate(adapters.classes):
        for label in classes:
            own = features[task :: adapters.tasks]
            shapes[label] = ClassShape(own, torch.ones_like(own))
    return shapes


def test_features_of_inference_are_those_after_the_first_task():
    adapters = tiny_adapters()
    learn_task(adapters)
    expected = heads.features(adapters.model, images()).detach()
    learn_task(adapters)
    found = features_after_first_task(adapters, images())
    torch.testing.assert_close(found, torch.nn.functional.normalize(expected))


def test_a_mixed_batch_is_answered_by_each_images_own_model_among_learnt_classes():
    adapters = tiny_adapters()
    for _ in range(3):
        learn_task(adapters)
    last = adapters.heads[-1]
    found = predict(adapters, images(), described(adapters))
    assert found.protocol == PER_IMAGE
    assert found.tasks.tolist() == [0, 1, 2, 0, 1, 2]
    assert bool(found.logits[:, 6:].isinf().all())
    assert found.logits[:, :6].isfinite().all()
    assert torch.equal(found.classes, found.logits.argmax(1))
    for task in found.tasks.unique().tolist():
        adapters.use(task)
        adapters.set_head(last)
        own = found.tasks == task
        torch.testing.assert_close(found.logits[own][:, :6], answers(adapters.model)[own][:, :6])


@pytest.mark.parametrize("room", [0, 2**27], ids=["one weight kept", "all weights kept"])
def test_answers_do_not_depend_on_how_many_composed_weights_stay_in_memory(monkeypatch, room):
    monkeypatch.setattr(attachment, "ROOM_FOR_WEIGHTS", room)
    monkeypatch.setattr(AdaptedLinear, "_worth", lambda layer: 0.0)
    adapters = tiny_adapters()
    for _ in range(3):
        learn_task(adapters)
    shapes = described(adapters)
    found = [predict(adapters, images(), shapes).logits for _ in range(2)]
    assert torch.equal(*found)
    kept = {len(layer._kept) for layer in adapters.layers}
    assert kept == {3 if room else 1}
    adapters.use(0)
    adapters.set_head(adapters.heads[-1])
    torch.testing.assert_close(found[0][::3, :6], answers(adapters.model)[::3, :6])
    learn_task(adapters)
    adapters.use(2)
    adapters.set_head(adapters.heads[2])
    torch.testing.assert_close(found[0][2::3, :6], answers(adapters.model)[2::3, :6])


def test_few_rows_go_through_the_factors_and_many_through_a_composed_weight(monkeypatch):
    adapters = tiny_adapters(double=True)
    for _ in range(3):
        learn_task(adapters)
    tasks, found = torch.tensor([0, 2, 2, 1, -1, 0]), []
    for worth in (0.0, 1e9):
        monkeypatch.setattr(AdaptedLinear, "_worth", lambda layer, worth=worth: worth)
        with adapters.per_image(tasks):
            found.append(answers(adapters.model))
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-12)


def test_a_mixed_pass_has_gradients_of_its_images():
    adapters = tiny_adapters(double=True)
    learn_task(adapters)
    learn_task(adapters)
    tasks, shown = torch.tensor([0, 1, 1]), images(3, double=True).requires_grad_()
    with adapters.per_image(tasks):
        (mixed,) = torch.autograd.grad(adapters.model(shown).square().sum(), shown)
    head = adapters.heads[1]
    for task in (0, 1):
        adapters.use(task)
        adapters.set_head(head)
        (alone,) = torch.autograd.grad(adapters.model(shown).square().sum(), shown)
        torch.testing.assert_close(mixed[tasks == task], alone[tasks == task])


def test_voting_gives_a_batch_one_task_and_is_labelled_as_leaking():
    assert vote_over_batch(torch.tensor([2, 0, 2, 1])).tolist() == [2, 2, 2, 2]
    adapters = tiny_adapters()
    for _ in range(2):
        learn_task(adapters)
    found = predict(adapters, images(), described(adapters), batch_wise=True)
    assert found.protocol == BATCH_WISE
    assert "leaks the task boundary" in BATCH_WISE
    assert len(found.tasks.unique()) == 1


def test_local_logits_leave_other_classes_out():
    logits = torch.arange(8.0).view(2, 4)
    found = only_classes(logits, (1, 3))
    assert found[0].tolist() == [-torch.inf, 1, -torch.inf, 3]
    assert logits.isfinite().all()


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: assign_centroids(torch.ones(2, 2), 0, seed=0, door="d"), "centroids: got 0"),
        (lambda: assign_centroids(torch.ones(0, 2), 2, seed=0, door="d"), "no training images"),
        (lambda: sample_features({}, each=1, seed=0, door="d"), "no class has statistics"),
        (
            lambda: shape_of_class(torch.ones(2, 2), centroids=1, seed=0, door="d", covariance="x"),
            "covariance: 'x' is not known",
        ),
        (
            lambda: infer_tasks(torch.ones(1, 2), {}, [(3,)]),
            "class 3 has no centroids",
        ),
        (lambda: features_after_first_task(tiny_adapters(), images()), "expected -1"),
    ],
)
def test_what_cannot_be_described_is_refused(ask, says):
    with pytest.raises(ParameterError, match=says):
        ask()


def test_a_net_that_cuts_images_into_windows_is_refused_for_a_mixed_pass():
    adapters = tiny_adapters()
    learn_task(adapters)
    layer = adapters.layers[0]
    with (
        adapters.per_image(torch.zeros(2, dtype=torch.int64)),
        pytest.raises(ParameterError, match="reads 8 rows, expected one for each of 2 images"),
    ):
        layer(torch.ones(8, 3, layer.in_features))


def test_shapes_hold_what_they_say():
    shape = shape_of_class(cloud(0.0), centroids=3, seed=0, door="d")
    assert isinstance(shape, ClassShape)
    assert shape.means.shape == (3, 6)
    assert shape.whitening.shape == (3, 6, 6)
