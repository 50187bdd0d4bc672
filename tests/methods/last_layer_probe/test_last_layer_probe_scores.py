"""Transferability scores against definitions written out, loop by loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.covariance import ledoit_wolf
from sklearn.neighbors import KNeighborsClassifier

from relearn.errors import DataError, ParameterError
from relearn.methods.last_layer_probe.scores import (
    effective_rank,
    h_score,
    kernel_target_alignment,
    knn_loo,
    leep,
    log_me,
    nce,
)

SHAPES = pytest.mark.parametrize(("n", "p"), [(30, 6), (9, 25), (12, 12)])


def problem(n, p, classes=3, seed=0):
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    features = torch.randn(n, p, generator=draw) + 0.8 * torch.eye(max(p, classes))[labels, :p]
    return features, labels


def evidence(features, target, a, b):
    """Log density of the target under its marginal law, N(0, F F' / a + I / b)."""
    cov = features @ features.T / a + np.eye(len(target)) / b
    return -0.5 * (np.linalg.slogdet(2 * np.pi * cov)[1] + target @ np.linalg.solve(cov, target))


@SHAPES
def test_log_me_is_the_largest_evidence_over_a_grid_of_both_precisions(n, p):
    features, labels = problem(n, p)
    x = features.double().numpy()
    total = 0.0
    for label in range(3):
        target = (labels == label).double().numpy()
        grid = np.logspace(-3, 5, 49)
        found = [(evidence(x, target, a, b), a, b) for a in grid for b in grid]
        _, a, b = max(found)
        fine = np.logspace(-0.2, 0.2, 25)
        total += max(evidence(x, target, a * i, b * j) for i in fine for j in fine)
    brute = total / 3 / n
    assert log_me(features, labels) == pytest.approx(brute, abs=2e-4)
    assert log_me(features, labels) >= brute - 1e-9


def test_log_me_does_not_change_with_the_scale_of_the_features():
    features, labels = problem(40, 5)
    assert log_me(1000 * features, labels) == pytest.approx(log_me(features, labels), abs=1e-6)


@SHAPES
def test_the_h_score_is_the_trace_with_the_shrunk_covariance_of_scikit_learn(n, p):
    features, labels = problem(n, p)
    x = features.double().numpy()
    shrunk, _ = ledoit_wolf(x)
    means = np.stack([x[labels.numpy() == label].mean(0) for label in labels.numpy()]) - x.mean(0)
    brute = np.trace(np.linalg.solve(shrunk, means.T @ means / n))
    assert h_score(features, labels) == pytest.approx(brute, rel=1e-8)


def test_leep_and_nce_are_their_sums():
    draw = torch.Generator().manual_seed(1)
    theta = torch.rand(20, 4, generator=draw).softmax(1)
    labels = torch.randint(0, 3, (20,), generator=draw)
    joint = np.zeros((3, 4))
    for row, label in zip(theta.double().numpy(), labels.tolist(), strict=True):
        joint[label] += row / 20
    told = [
        math.log(sum(joint[label, z] / joint[:, z].sum() * row[z] for z in range(4)))
        for row, label in zip(theta.double().numpy(), labels.tolist(), strict=True)
    ]
    assert leep(theta, labels) == pytest.approx(sum(told) / 20, abs=1e-6)

    source = theta.argmax(1)
    total = 0.0
    for y in range(3):
        for z in range(4):
            both = float(((labels == y) & (source == z)).double().mean())
            total += both * math.log(both / float((source == z).double().mean())) if both else 0
    assert nce(source, labels) == pytest.approx(total, abs=1e-12)


def test_with_hard_answers_leep_is_nce_and_a_perfect_source_gives_zero():
    draw = torch.Generator().manual_seed(2)
    source, labels = torch.randint(0, 4, (2, 50), generator=draw)
    hard = torch.nn.functional.one_hot(source).double()
    assert leep(hard, labels) == pytest.approx(nce(source, labels), abs=1e-12)
    assert nce(10 - labels, labels) == 0.0


@pytest.mark.parametrize("neighbours", [1, 3, 5])
def test_neighbours_vote_as_in_scikit_learn_with_the_row_left_out(neighbours):
    features, labels = problem(40, 4, classes=2)  # odd votes of two classes: no ties
    x, y = features.double().numpy(), labels.numpy()
    hits = 0
    for row in range(40):
        others = np.arange(40) != row
        model = KNeighborsClassifier(neighbours).fit(x[others], y[others])
        hits += int(model.predict(x[row : row + 1])[0] == y[row])
    assert knn_loo(features, labels, neighbours=neighbours) == hits / 40


def test_of_equal_votes_the_nearer_neighbour_wins():
    features = torch.tensor([[0.0], [1.0], [1.5], [9.0]])
    assert knn_loo(features, torch.tensor([0, 0, 1, 1]), neighbours=2) == 0.5


def test_alignment_is_the_cosine_of_centred_kernels():
    features, labels = problem(15, 4)
    kernel = features @ features.T
    centre = np.eye(15) - 1 / 15
    one_hot = np.eye(3)[labels.numpy()]
    k = centre @ kernel.double().numpy() @ centre
    y = centre @ one_hot @ one_hot.T @ centre
    brute = (k * y).sum() / np.linalg.norm(k) / np.linalg.norm(y)
    assert kernel_target_alignment(kernel, labels) == pytest.approx(brute, abs=1e-9)
    assert kernel_target_alignment(torch.tensor(one_hot @ one_hot.T), labels) == pytest.approx(1)
    assert kernel_target_alignment(torch.ones(15, 15), labels) == 0.0


def test_the_effective_rank_counts_equal_directions():
    corners = torch.cat([torch.eye(5), -torch.eye(5)]).double()  # five directions, centred
    assert effective_rank(corners @ corners.T) == pytest.approx(5)
    stretched = corners * torch.tensor([1, 1, 1, 1e-6, 1e-6]).double()
    assert effective_rank(stretched @ stretched.T + 7) == pytest.approx(3, abs=1e-6)
    assert effective_rank(torch.full((4, 4), 0.3)) == 0.0


def test_features_of_noise_score_below_features_that_tell_the_class():
    told, labels = problem(90, 8, seed=3)
    told[:, :3] += 3 * torch.eye(3)[labels]
    noise = torch.randn(90, 8, generator=torch.Generator().manual_seed(4))
    for score in (log_me, h_score, knn_loo):
        assert score(told, labels) > score(noise, labels)
    assert kernel_target_alignment(told @ told.T, labels) > kernel_target_alignment(
        noise @ noise.T, labels
    )


@pytest.mark.parametrize("score", [log_me, h_score, knn_loo])
def test_features_that_cannot_be_scored_are_refused(score):
    features, labels = problem(10, 3)
    with pytest.raises(DataError, match="expected at least two classes"):
        score(features, torch.zeros(10, dtype=torch.int64))
    features[2, 1] = math.nan
    with pytest.raises(DataError, match="1 of 10 rows hold NaN"):
        score(features, labels)


def test_constant_features_score_without_a_fault():
    labels = torch.tensor([0, 1, 0, 1])
    assert h_score(torch.full((4, 2), 0.3), labels) == 0.0
    assert math.isfinite(log_me(torch.zeros(4, 2), labels))


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda y: leep(torch.rand(4, 3) + 1, y), DataError, "softmax"),
        (lambda y: nce(y[:3], y), DataError, "source_labels"),
        (lambda y: knn_loo(torch.rand(4, 2), y, neighbours=4), ParameterError, "1 to 3"),
        (lambda y: knn_loo(torch.rand(4, 2), y, neighbours=0), ParameterError, "neighbours"),
        (lambda y: kernel_target_alignment(torch.rand(4, 3), y), DataError, "square"),
        (lambda y: effective_rank(torch.rand(4, 3)), DataError, "square"),
        (lambda y: effective_rank(torch.full((4, 4), math.nan)), DataError, "kernel: 4 of 4 rows"),
    ],
)
def test_bad_input_of_the_other_scores_is_told_in_one_line(call, error, said):
    with pytest.raises(error, match=said) as told:
        call(torch.tensor([0, 1, 1, 0]))
    assert "\n" not in str(told.value)
