"""The ridge path against leaving rows out one by one, and its roads against each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeClassifierCV

from relearn.errors import DataError, ParameterError
from relearn.training.closed_form import ridge_head
from relearn.training.ridge_path import ridge_path, ridge_path_from_kernel
from relearn.training.ridge_sums import RidgeSums

PENALTIES = [1e-4, 1e-2, 0.3, 10.0]
SHAPES = pytest.mark.parametrize(("n", "p"), [(30, 7), (12, 30), (13, 12), (12, 12), (12, 11)])
ROADS = pytest.mark.parametrize("road", ["primal", "dual", "kernel"])


def problem(n, p, classes=3, seed=0):
    draw = torch.Generator().manual_seed(seed)
    features = torch.randn(n, p, generator=draw, dtype=torch.float64) * torch.linspace(0.1, 2, p)
    labels = torch.randint(0, classes, (n,), generator=draw)
    labels[: 2 * classes] = torch.arange(2 * classes) % classes
    return features + 5, labels, torch.rand(n, generator=draw, dtype=torch.float64) + 0.2


def solve(features, targets, weights, penalty):
    """Weighted ridge by its normal equations, the intercept as a free column."""
    x = torch.cat([features, torch.ones(len(features), 1)], 1).double()
    free = torch.eye(x.shape[1]).double()
    free[-1, -1] = 0
    gram = x.T @ (weights[:, None] * x) + penalty * free
    theta = torch.linalg.solve(gram, x.T @ (weights[:, None] * targets)).T
    return theta[:, :-1], theta[:, -1]


def left_out(features, targets, weights, penalty):
    rows = torch.arange(len(features))
    scores = []
    for row in rows:
        weight, bias = solve(*(each[rows != row] for each in (features, targets, weights)), penalty)
        scores.append(weight @ features[row] + bias)
    return torch.stack(scores)


def taken(road, features, targets, **options):
    if road == "kernel":
        return ridge_path_from_kernel(features @ features.T, targets, **options)
    return ridge_path(features, targets, road=road, **options)


@SHAPES
@ROADS
@pytest.mark.parametrize("weighted", [False, True])
def test_leave_one_out_is_what_leaving_rows_out_one_by_one_gives(n, p, road, weighted):
    features, labels, weights = problem(n, p)
    path = taken(road, features, labels, penalties=PENALTIES, weights=weights if weighted else None)
    weights = weights / weights.mean() if weighted else torch.ones(n).double()
    targets = torch.eye(3).double()[labels]
    for place, penalty in enumerate(PENALTIES):
        scores = left_out(features, targets, weights, penalty * path.scale)
        error = weights @ (targets - scores).square().mean(1) / n
        hits = weights @ (scores.argmax(1) == labels).double() / n
        assert float(path.loo_error[place]) == pytest.approx(float(error), rel=1e-8)
        assert float(path.loo_accuracy[place]) == pytest.approx(float(hits))
        if place == path.best:
            assert torch.allclose(path.loo_scores, scores, atol=1e-8)


@SHAPES
@ROADS
def test_every_head_solves_the_normal_equations(n, p, road):
    features, labels, weights = problem(n, p)
    path = taken(road, features, labels, penalties=PENALTIES, weights=weights)
    fresh = torch.randn(5, p, generator=torch.Generator().manual_seed(1)).double() + 5
    seen = fresh @ features.T if road == "kernel" else fresh
    for penalty in (*PENALTIES, 0.77):  # heads exist between the grid's values too
        weight, bias = solve(
            features, torch.eye(3).double()[labels], weights / weights.mean(), penalty * path.scale
        )
        assert torch.allclose(path.predict(seen, penalty), fresh @ weight.T + bias, atol=1e-8)
    weight, bias = path.head()
    assert torch.equal(path.predict(seen), seen @ weight.T + bias)


@SHAPES
def test_real_valued_targets_are_fitted_and_have_no_accuracy(n, p):
    features, _, _ = problem(n, p)
    targets = torch.randn(n, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    path = ridge_path(features, targets, penalties=PENALTIES)
    scores = left_out(features, targets, torch.ones(n).double(), path.penalty * path.scale)
    assert path.loo_accuracy is None
    assert torch.allclose(path.loo_scores, scores, atol=1e-8)


@pytest.mark.parametrize(("n", "p"), [(40, 6), (10, 25)])
def test_a_head_is_that_of_the_closed_form_with_the_same_penalty(n, p):
    features, labels, _ = problem(n, p)
    weight, bias = ridge_head(features, labels, classes=3, penalty=0.05)
    ours, ours_bias = ridge_path(features, labels, penalties=[0.05]).head()
    assert torch.allclose(ours.float(), weight, atol=1e-5)
    assert torch.allclose(ours_bias.float(), bias, atol=1e-4)


@pytest.mark.parametrize(("n", "p"), [(200, 12), (40, 60)])
def test_the_choice_and_the_predictions_are_those_of_scikit_learn(n, p):
    features, labels, _ = problem(n, p, seed=3)
    features = features + 0.5 * torch.eye(p)[labels]
    path = ridge_path(features, labels)
    alphas = (path.penalties * path.scale).numpy()
    model = RidgeClassifierCV(alphas=alphas).fit(features.numpy(), labels.numpy())
    assert path.penalty * path.scale == pytest.approx(model.alpha_)
    assert path.predict(features).argmax(1).tolist() == model.predict(features.numpy()).tolist()


@pytest.mark.parametrize("road", ["primal", "dual"])
def test_balanced_weights_give_each_class_the_same_total(road):
    features, _, _ = problem(30, 7)
    labels = torch.tensor([0] * 20 + [1] * 6 + [2] * 4)
    counts = labels.bincount().double()
    one = taken(road, features, labels, weights="balanced", penalties=PENALTIES)
    other = taken(road, features, labels, weights=1 / counts[labels], penalties=PENALTIES)
    assert torch.allclose(one.loo_error, other.loo_error)
    assert float(one.loo_error[0]) != float(ridge_path(features, labels).loo_error[0])


def test_penalty_zero_is_least_squares_where_that_is_unique():
    features, labels, _ = problem(30, 7)
    targets = torch.eye(3).double()[labels]
    path = ridge_path(features, labels, penalties=[0.0, 1.0])
    scores = left_out(features, targets, torch.ones(30).double(), 0.0)
    assert float(path.loo_error[0]) == pytest.approx(float((targets - scores).square().mean()))


def test_penalty_zero_with_more_features_than_rows_is_the_limit_of_small_penalties():
    features, labels, _ = problem(12, 30)
    path = ridge_path(features, labels, penalties=[0.0, 1e-9])
    assert float(path.loo_error[0]) == pytest.approx(float(path.loo_error[1]), rel=1e-5)


@pytest.mark.parametrize("road", ["primal", "dual"])
def test_a_singular_gram_matrix_is_refused_at_penalty_zero_and_solved_above(road):
    features, labels, _ = problem(30, 7)
    twice = torch.cat([features, features[:, :2]], 1)
    with pytest.raises(ParameterError, match=r"penalties: 0 is too small for a singular Gram"):
        taken(road, twice, labels, penalties=[0.0, 1.0])
    path = taken(road, twice, labels)
    assert torch.isfinite(path.loo_error).all()
    assert path.loo_accuracy.max() > 0.3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_constant_kernel_is_singular_and_gives_the_class_shares(dtype):
    labels = torch.tensor([0, 0, 0, 1] * 3)
    kernel = torch.full((12, 12), 0.7, dtype=dtype)
    with pytest.raises(ParameterError, match="singular Gram"):
        ridge_path_from_kernel(kernel, labels, penalties=[0.0])
    scores = ridge_path_from_kernel(kernel, labels).predict(kernel[:2])
    assert torch.allclose(scores, torch.tensor([[0.75, 0.25]]).double(), atol=1e-6)


def test_a_row_that_alone_holds_a_feature_up_is_refused_at_penalty_zero():
    features, labels, _ = problem(30, 3)
    features[:, 0] = 0
    features[4, 0] = 1.0
    with pytest.raises(DataError, match="penalties: without one of the rows"):
        ridge_path(features, labels, penalties=[0.0])


@pytest.mark.parametrize("road", ["primal", "dual"])
def test_constant_features_give_the_class_shares(road):
    labels = torch.tensor([0, 0, 0, 1] * 3)
    with pytest.raises(ParameterError, match="singular Gram"):
        taken(road, torch.full((12, 3), 0.1), labels, penalties=[0.0])
    path = taken(road, torch.full((12, 3), 0.1), labels)
    weight, bias = path.head()
    assert not bool(weight.any())
    assert bias.tolist() == pytest.approx([0.75, 0.25])


@pytest.mark.parametrize("road", ["primal", "dual"])
def test_a_large_mean_of_the_features_costs_no_digits(road):
    features, labels, _ = problem(30, 7)
    far = taken(road, features + 2**20, labels, penalties=PENALTIES)
    near = taken(road, features, labels, penalties=PENALTIES)
    assert torch.allclose(far.loo_error, near.loo_error, rtol=1e-7)


def test_the_choice_follows_what_is_asked_and_prefers_the_larger_of_equals():
    features, labels, _ = problem(40, 60, seed=5)
    by_error = ridge_path(features, labels)
    by_hits = ridge_path(features, labels, select="accuracy")
    assert by_error.best == int(by_error.loo_error.argmin())
    assert by_hits.loo_accuracy[by_hits.best] == by_hits.loo_accuracy.max()
    alike = ridge_path(torch.zeros(12, 2), torch.tensor([0, 0, 1] * 4), penalties=[1, 2, 3])
    assert alike.penalty == 3


@pytest.mark.parametrize(
    ("penalties", "said"),
    [([1e-9, 1e-8], "the largest of 2"), ([1e3, 1e5], "the smallest of 2"), ([0.1], "")],
)
def test_a_choice_at_the_border_of_the_grid_is_told(penalties, said):
    features, labels, _ = problem(40, 5, seed=7)
    features[:, :3] += 0.5 * torch.eye(3)[labels]
    path = ridge_path(features, labels, penalties=penalties)
    assert said in path.warning
    assert bool(path.warning) is bool(said)


def test_the_default_grid_is_41_values_around_the_mean_eigenvalue_and_warns_of_nothing_inside():
    features, labels, _ = problem(200, 12, seed=3)
    features = features + 0.5 * torch.eye(12)[labels]
    path = ridge_path(features, labels)
    mean = float(path.spectrum.eigenvalues.mean())
    assert len(path.penalties) == 41
    assert path.penalties[[0, -1]].mul(path.scale / mean).tolist() == pytest.approx([1e-8, 1e2])
    assert path.warning == ""


def test_a_kernel_in_single_precision_keeps_its_small_penalties():
    features, labels, _ = problem(60, 90)
    kernel = (features @ features.T).float()
    single = ridge_path_from_kernel(kernel, labels)
    double = ridge_path_from_kernel(features @ features.T, labels)
    assert len(single.penalties) == len(double.penalties) == 41
    assert torch.allclose(single.loo_error, double.loo_error, rtol=1e-2)


def test_what_is_given_is_left_as_it_is():
    features, labels, weights = problem(20, 30)
    before = [each.clone() for each in (features, labels, weights)]
    kernel = features @ features.T
    kept = kernel.clone()
    ridge_path(features, labels, weights=weights, road="dual")
    ridge_path(features, labels, weights=weights, road="primal")
    ridge_path_from_kernel(kernel, labels, weights=weights)
    assert all(map(torch.equal, before, (features, labels, weights)))
    assert torch.equal(kept, kernel)


GOOD, LABELS, _ = problem(12, 4)
HOLED = GOOD.clone()
HOLED[3, 1] = math.nan
SKEW = GOOD @ GOOD.T
SKEW[0, 1] += 1


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: ridge_path(GOOD, torch.ones(12).long()), DataError, "all 12 rows are of class 1"),
        (lambda: ridge_path(HOLED, LABELS), DataError, "1 of 12 rows hold NaN"),
        (lambda: ridge_path(GOOD.long(), LABELS), DataError, "expected floats"),
        (lambda: ridge_path(GOOD[:5], LABELS), DataError, "got 5 rows, but there are 12"),
        (lambda: ridge_path(GOOD, LABELS - 1), DataError, "got -1"),
        (lambda: ridge_path(GOOD, LABELS[:, None]), DataError, "shape"),
        (lambda: ridge_path(GOOD, GOOD[:, 0]), DataError, "targets: got floats"),
        (lambda: ridge_path(GOOD, HOLED), DataError, "targets: they hold NaN"),
        (lambda: ridge_path(GOOD, LABELS, classes=2), ParameterError, "classes: got 2"),
        (lambda: ridge_path(GOOD, LABELS, penalties=[1, -1]), ParameterError, "got -1.0"),
        (lambda: ridge_path(GOOD, LABELS, penalties=[math.nan]), ParameterError, "finite"),
        (lambda: ridge_path(GOOD, LABELS, penalties=[]), ParameterError, "got none"),
        (lambda: ridge_path(GOOD, LABELS).head(-1.0), ParameterError, "penalty: got -1.0"),
        (lambda: ridge_path(GOOD, LABELS, road="prima"), ParameterError, "mean primal"),
        (lambda: ridge_path(GOOD, LABELS, select="hits"), ParameterError, "squared_error"),
        (lambda: ridge_path(GOOD, GOOD, select="accuracy"), ParameterError, "select"),
        (lambda: ridge_path(GOOD, LABELS, weights="equal"), ParameterError, "balanced"),
        (lambda: ridge_path(GOOD, GOOD, weights="balanced"), ParameterError, "row weights"),
        (lambda: ridge_path(GOOD, LABELS, weights=torch.ones(3)), ParameterError, "12 rows"),
        (lambda: ridge_path(GOOD, LABELS, weights=torch.zeros(12)), ParameterError, "above 0"),
        (lambda: ridge_path_from_kernel(GOOD, LABELS), DataError, r"\(12, 12\)"),
        (lambda: ridge_path_from_kernel(SKEW, LABELS), DataError, "transpose"),
        (lambda: ridge_path_from_kernel(SKEW * math.inf, LABELS), DataError, "NaN or inf"),
        (lambda: ridge_path_from_kernel(-torch.eye(12), LABELS), ParameterError, "semi-definite"),
    ],
)
def test_bad_input_is_told_in_one_line(call, error, said):
    with pytest.raises(error, match=said) as told:
        call()
    assert "\n" not in str(told.value)


def batches(features, labels, size):
    return list(zip(features.split(size), labels.split(size), strict=True))


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_stream_gives_the_path_of_all_rows_at_once(size):
    features, labels, _ = problem(60, 9)
    class_weights = torch.tensor([1.0, 2.0, 0.5])
    sums = RidgeSums(9, 3, class_weights=class_weights)
    for block in batches(features, labels, size):
        sums.add(*block)
    path = sums.path(batches(features, labels, 11), select="accuracy")
    whole = ridge_path(features, labels, weights=class_weights[labels], select="accuracy")
    assert torch.allclose(path.penalties, whole.penalties)
    assert torch.allclose(path.loo_error, whole.loo_error, rtol=1e-8)
    assert torch.allclose(path.loo_accuracy, whole.loo_accuracy)
    assert path.best == whole.best  # although the sums differ in their last digit
    assert torch.allclose(path.head()[0], whole.head()[0], atol=1e-8)
    assert path.loo_scores is None
    found = sums.loo_scores(path, batches(features, labels, 13))
    assert torch.allclose(found, whole.loo_scores, atol=1e-8)
    assert sums.rows == 60


def test_a_stream_may_have_fewer_rows_than_features():
    features, labels, _ = problem(12, 30)
    sums = RidgeSums(30, 3)
    sums.add(features, labels)
    path = sums.path([(features, labels)])
    assert torch.allclose(path.loo_error, ridge_path(features, labels).loo_error, rtol=1e-6)


def stream(change=lambda features, labels: (features, labels), **options):
    features, labels, _ = problem(60, 9)
    sums = RidgeSums(9, options.pop("classes", 3), **options)
    sums.add(features, labels)
    return sums.path([change(features, labels)])


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: stream(lambda x, y: (x[:9], y[:9])), DataError, "gave 9 rows, the first 60"),
        (lambda: stream(lambda x, y: (x * (x > 5), y)), DataError, "evaluation mode"),
        (lambda: stream(lambda x, y: (x[:, :5], y)), DataError, "got 5 columns"),
        (lambda: stream(lambda x, y: (x, y.roll(1))), DataError, "in one order"),
        (lambda: stream(classes=2), ParameterError, "classes: got 2"),
        (lambda: stream(class_weights=torch.ones(4)), ParameterError, "class_weights"),
        (lambda: stream(class_weights=-torch.ones(3)), ParameterError, "above 0"),
        (lambda: RidgeSums(9, 1), ParameterError, "classes: got 1"),
        (lambda: RidgeSums(9, 3).path([]), DataError, "0 rows added"),
        (lambda: RidgeSums(4, 3).add(HOLED, LABELS), DataError, "NaN"),
    ],
)
def test_a_stream_that_is_not_the_same_twice_is_refused(call, error, said):
    with pytest.raises(error, match=said) as told:
        call()
    assert "\n" not in str(told.value)


def test_features_of_single_precision_may_differ_by_rounding_in_the_second_pass():
    features, labels, _ = problem(60, 9)
    sums = RidgeSums(9, 3)
    sums.add(features.float(), labels)
    again = features.float() * (1 + 1e-7)
    path = sums.path([(again, labels)])
    assert np.isfinite(path.loo_error.numpy()).all()
