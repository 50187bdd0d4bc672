from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.metrics import confusion_matrix as sklearn_confusion
from torch import Tensor

from relearn.errors import EvidenceError
from relearn.evaluation.attacks.scoring import clean_logits
from relearn.evaluation.similarity import (
    compare_predictions,
    confusion_matrix,
    fit_plane,
    linear_cka,
    penultimate_features,
)

if TYPE_CHECKING:
    from attacked_nets import Attacked


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_cka_of_features_with_themselves_is_one() -> None:
    assert linear_cka(drawn(40, 7), drawn(40, 7)) == pytest.approx(1.0)


def test_cka_does_not_know_rotation_scale_or_place() -> None:
    first, second = drawn(40, 7), drawn(40, 9, seed=1)
    rotation = torch.linalg.qr(drawn(9, 9, seed=2)).Q

    moved = linear_cka(first, 12.5 * second @ rotation + 3.0)

    assert moved == pytest.approx(linear_cka(first, second), abs=1e-5)


def test_cka_knows_any_other_linear_map() -> None:
    first = drawn(200, 7)
    stretched = first * torch.tensor([100.0, 1, 1, 1, 1, 1, 1])

    assert linear_cka(first, stretched) < 0.6


def test_cka_is_symmetric_and_equals_the_form_in_features() -> None:
    first, second = drawn(40, 7).double(), drawn(40, 9, seed=1).double()
    one, other = first - first.mean(0), second - second.mean(0)
    wanted = (other.T @ one).norm() ** 2 / ((one.T @ one).norm() * (other.T @ other).norm())

    assert linear_cka(first, second) == pytest.approx(float(wanted))
    assert linear_cka(second, first) == pytest.approx(float(wanted))


def test_unrelated_features_are_unlike() -> None:
    assert linear_cka(drawn(2000, 5), drawn(2000, 5, seed=1)) < 0.02


def test_cka_of_other_samples_or_a_dead_net_is_refused() -> None:
    with pytest.raises(EvidenceError, match="40 and 39 samples"):
        linear_cka(drawn(40, 7), drawn(39, 7))
    with pytest.raises(EvidenceError, match="dead"):
        linear_cka(drawn(40, 7), torch.ones(40, 3))


def test_the_plane_is_that_of_scikit_learn_up_to_signs() -> None:
    values = drawn(60, 6) * torch.tensor([5.0, 3, 1, 1, 1, 1])
    theirs = PCA(2).fit(values.double().numpy())

    plane = fit_plane(values)

    placed = torch.from_numpy(theirs.transform(values.double().numpy()))
    assert torch.allclose(plane.place(values).abs(), placed.abs(), atol=1e-8)
    assert plane.shares == pytest.approx(tuple(theirs.explained_variance_ratio_))
    assert bool((plane.axes.gather(0, plane.axes.abs().argmax(0, keepdim=True)) > 0).all())


def test_other_features_are_placed_on_the_axes_of_the_first() -> None:
    values = drawn(60, 6)
    plane = fit_plane(values)

    shifted = plane.place(values + plane.axes[:, 0] * 2)

    assert torch.allclose(shifted - plane.place(values), torch.tensor([2.0, 0.0]).double())


def test_a_plane_needs_features_that_vary() -> None:
    with pytest.raises(EvidenceError, match="1 features"):
        fit_plane(drawn(20, 1))
    with pytest.raises(EvidenceError, match="dead"):
        fit_plane(torch.ones(20, 4))


def test_the_features_are_what_the_last_layer_reads(digits: Attacked) -> None:
    seen = penultimate_features(digits.model, digits.images, batch_size=50)

    head = digits.model.model[-1]
    logits = clean_logits(digits.model, digits.images)
    assert seen.shape == (120, head.in_features)
    assert torch.allclose(head(seen), logits, atol=1e-4)
    bare = digits.model.model
    assert torch.allclose(bare[-1](penultimate_features(bare, digits.images)), bare(digits.pixels))


def test_the_confusion_matrix_is_that_of_scikit_learn() -> None:
    labels = torch.arange(90) % 4
    predictions = (labels + (torch.arange(90) % 3)) % 4

    theirs = sklearn_confusion(labels.numpy(), predictions.numpy(), labels=range(5))

    assert confusion_matrix(predictions, labels, 5).tolist() == theirs.tolist()


def test_what_changed_accounts_for_the_difference_in_accuracy() -> None:
    labels = torch.arange(90) % 4
    before = (labels + (torch.arange(90) % 3)) % 4
    after = (labels + (torch.arange(90) % 5)) % 4

    change = compare_predictions(before, after, labels, classes=4)

    gained = int((after == labels).sum()) - int((before == labels).sum())
    assert len(change.newly_right) - len(change.newly_wrong) == gained
    assert int(change.confusion.diagonal().sum()) == gained
    assert int(change.confusion.sum()) == 0
    assert bool((before[change.newly_wrong] == labels[change.newly_wrong]).all())
    assert bool((after[change.newly_wrong] != labels[change.newly_wrong]).all())
