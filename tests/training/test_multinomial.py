"""Logistic heads against scikit-learn, autograd and each other; the penalty against peeking."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from relearn.errors import DataError, ParameterError, TrainingError
from relearn.training.minimise import minimise, newton_cg
from relearn.training.multinomial import fit_multinomial, fit_multinomials, read_problem
from relearn.training.multinomial_objective import Objective
from relearn.training.multinomial_path import HeldOut, hold_out, multinomial_path

GRID = [1e-4, 1e-3, 1e-2, 0.1]


def problem(n=90, p=6, classes=3, seed=0):
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    features = torch.randn(n, p, generator=draw, dtype=torch.float64)
    features[:, :classes] += torch.eye(classes)[labels]
    return features * torch.logspace(0, 2, p) + 5, labels


def objective(penalty=0.01, weights="balanced"):
    features, labels = problem(50)
    labels[:9] = 0
    found = read_problem(features, labels, class_weights=weights, classes=None)
    return Objective(found.rows, found.targets, penalty)


def point(seed=0):
    return torch.randn(3, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("weights", [None, "balanced"])
@pytest.mark.parametrize("penalty", [1e-3, 0.3])
def test_the_fit_is_that_of_scikit_learn_on_standardised_features(classes, weights, penalty):
    features, labels = problem(90, 6, classes)
    labels[:9] = 1
    fit = fit_multinomial(features, labels, penalty=penalty, class_weights=weights, tolerance=1e-9)
    rows = (features - features.mean(0)) / features.std(0, correction=0)
    sides = 2 if classes == 2 else 1  # of two classes scikit-learn fits the difference alone
    model = LogisticRegression(
        C=sides / (penalty * 90), class_weight=weights, solver="newton-cg", tol=1e-10
    ).fit(rows.numpy(), labels.numpy())
    told = fit.predict(features).softmax(1)
    assert torch.allclose(told, torch.tensor(model.predict_proba(rows.numpy())), atol=1e-6)


def test_gradient_and_curvature_are_those_of_autograd():
    aim = objective()
    theta, direction = point().requires_grad_(), point(1)

    def value(at):
        logs = torch.log_softmax(aim.rows @ at[:, :-1].T + at[:, -1], 1)
        weights = aim.targets.weights / aim.targets.weights.sum()
        loss = -(weights * logs.gather(1, aim.targets.labels[:, None])[:, 0]).sum()
        return loss + 0.005 * at[:, :-1].square().sum()

    (slope,) = torch.autograd.grad(value(theta), theta)
    _, bend = torch.autograd.functional.hvp(value, theta, direction)
    found, gradient = aim.value_and_gradient(theta.detach())
    assert found == pytest.approx(value(theta).item())
    assert torch.allclose(gradient, slope, atol=1e-12)
    assert torch.allclose(aim.curvature(theta.detach()).times(direction), bend, atol=1e-12)


def test_the_certificate_is_the_gradient_at_what_is_returned():
    features, labels = problem()
    fit = fit_multinomial(features, labels, penalty=0.01)
    found = read_problem(features, labels, class_weights=None, classes=None)
    theta = found.standard.from_raw(fit.weight, fit.bias)
    value, gradient = Objective(found.rows, found.targets, 0.01).value_and_gradient(theta)
    assert float(gradient.abs().max()) == pytest.approx(fit.certificate, rel=1e-6)
    assert fit.certificate <= 1e-5
    assert value == pytest.approx(fit.objective)


def test_both_minimisers_reach_the_same_point_and_the_second_takes_over():
    aim = objective(1e-3)
    one = minimise(aim, aim.zeros(), tolerance=1e-9)
    two = newton_cg(aim, aim.zeros(), tolerance=1e-9)
    cut = minimise(aim, aim.zeros(), tolerance=1e-9, lbfgs_steps=3)
    assert (one.solver, two.solver, cut.solver) == ("lbfgs", "newton_cg", "newton_cg")
    assert two.iterations < one.iterations
    for found in (two, cut):
        assert found.gradient <= 1e-9
        assert torch.allclose(found.theta[:, :-1], one.theta[:, :-1], atol=1e-5)


def test_nearly_dependent_features_with_a_tiny_penalty_are_finished_by_newton():
    features, labels = problem(200, 12, 3, seed=4)
    near = features.sum(1, keepdim=True) * torch.ones(12) + 1e-3 * features
    fit = fit_multinomial(near, labels, penalty=1e-6, tolerance=1e-8)
    assert fit.solver == "newton_cg"
    assert fit.certificate <= 1e-8


def test_each_fit_of_a_path_is_the_fit_alone():
    features, labels = problem()
    fits = fit_multinomials(features, labels, penalties=[0.1, 1e-3, 0.01], tolerance=1e-8)
    assert [fit.penalty for fit in fits] == [1e-3, 0.01, 0.1]
    for fit in fits:
        alone = fit_multinomial(features, labels, penalty=fit.penalty, tolerance=1e-8)
        assert torch.allclose(fit.predict(features), alone.predict(features), atol=1e-4)


def test_a_fit_that_starts_at_the_minimum_takes_no_step():
    features, labels = problem()
    fit = fit_multinomial(features, labels, penalty=0.01)
    again = fit_multinomial(features, labels, penalty=0.01, start=fit)
    assert again.iterations <= 1
    assert torch.allclose(again.weight, fit.weight)


def test_class_weights_count_as_rows_do():
    features, labels = problem(60)
    weights = torch.tensor([1.0, 3.0, 2.0])
    one = fit_multinomial(features, labels, penalty=0.01, class_weights=weights, tolerance=1e-9)
    copies = torch.arange(60).repeat_interleave(weights.long()[labels])
    many = read_problem(features[copies], labels[copies], class_weights=None, classes=None)
    standard = read_problem(features, labels, class_weights=None, classes=None).standard
    aim = Objective(standard.apply(features[copies]), many.targets, 0.01)
    _, gradient = aim.value_and_gradient(standard.from_raw(one.weight, one.bias))
    assert float(gradient.abs().max()) < 1e-8


def test_predictions_do_not_change_with_the_scale_and_place_of_features():
    features, labels = problem()
    one = fit_multinomial(features, labels, penalty=0.01, tolerance=1e-9)
    other = fit_multinomial(100 * features - 7, labels, penalty=0.01, tolerance=1e-9)
    assert torch.allclose(one.predict(features), other.predict(100 * features - 7), atol=1e-6)


def test_a_constant_feature_gets_no_weight_and_a_missing_class_no_chance():
    features, labels = problem()
    features = torch.cat([features.float(), torch.full((90, 1), 0.1)], 1)
    fit = fit_multinomial(features, labels, penalty=0.01, classes=4)
    assert not bool(fit.weight[:, -1].any())
    assert fit.weight.shape == (4, 7)
    assert float(fit.predict(features).softmax(1)[:, 3].max()) < 0.05


def test_a_tolerance_out_of_reach_is_an_error_and_not_a_worse_fit():
    features, labels = problem()
    with pytest.raises(TrainingError, match=r"penalty: at 0\.01 the gradient is"):
        fit_multinomial(features, labels, penalty=0.01, tolerance=1e-30)


def test_held_out_rows_are_a_share_of_each_class_and_of_the_seed_alone():
    labels = torch.tensor([0] * 50 + [1] * 10 + [2])
    kept, out = hold_out(labels, HeldOut(0.2, 1))
    assert torch.equal(torch.cat([kept, out]).sort().values, torch.arange(61))
    assert labels[out].bincount().tolist() == [10, 2]  # the class of one row stays in the fit
    assert torch.equal(out, hold_out(labels, HeldOut(0.2, 1))[1])
    assert not torch.equal(out, hold_out(labels, HeldOut(0.2, 2))[1])


@pytest.mark.parametrize("select", ["log_loss", "accuracy"])
def test_the_chosen_penalty_is_fitted_to_all_rows_after_some_were_held_out(select):
    features, labels = problem()
    path = multinomial_path(features, labels, penalties=GRID, select=select)
    alone = fit_multinomial(features, labels, penalty=path.penalty, tolerance=1e-8)
    assert torch.allclose(path.fit.predict(features), alone.predict(features), atol=5e-3)
    assert path.held_rows == 18
    assert path.certificate <= 1e-5
    if select == "log_loss":
        assert path.best == int(path.log_loss.argmin())
    else:
        assert path.accuracy[path.best] == path.accuracy.max()


def test_given_validation_rows_judge_and_are_never_fitted():
    features, labels = problem(120)
    train, held = slice(0, 90), slice(90, 120)
    validation = (features[held], labels[held])
    path = multinomial_path(features[train], labels[train], validation=validation, penalties=GRID)
    fits = fit_multinomials(features[train], labels[train], penalties=GRID)
    for place, fit in enumerate(fits):
        loss = torch.nn.functional.cross_entropy(fit.predict(features[held]), labels[held])
        assert float(path.log_loss[place]) == pytest.approx(float(loss))
        hits = (fit.predict(features[held]).argmax(1) == labels[held]).double().mean()
        assert float(path.accuracy[place]) == pytest.approx(float(hits))
    assert torch.equal(path.fit.weight, fits[path.best].weight)
    assert path.held_rows == 30


def test_with_balanced_weights_held_out_classes_weigh_the_same():
    features, labels = problem(90)
    kept = (labels == 0) | (torch.arange(90) % 5 == 0)
    features, labels = features[kept], labels[kept]
    validation = (features, labels)
    path = multinomial_path(
        features, labels, validation=validation, penalties=GRID, class_weights="balanced"
    )
    (fit,) = fit_multinomials(features, labels, penalties=GRID[:1], class_weights="balanced")
    hits = (fit.predict(features).argmax(1) == labels).double()
    shares = [float(hits[labels == label].mean()) for label in range(3)]
    assert float(path.accuracy[0]) == pytest.approx(sum(shares) / 3)


def test_the_border_is_told_and_the_default_grid_has_its_choice_inside():
    features, labels = problem(60, 20, seed=2)
    assert multinomial_path(features, labels).warning == ""
    assert "the largest of 2" in multinomial_path(features, labels, penalties=[1e-6, 1e-5]).warning


def test_equal_seeds_give_equal_paths():
    features, labels = problem()
    one, two = (
        multinomial_path(features, labels, validation=HeldOut(0.3, 5), penalties=GRID)
        for _ in range(2)
    )
    assert torch.equal(one.fit.weight, two.fit.weight)
    assert torch.equal(one.log_loss, two.log_loss)


X, Y = problem(12, 4)
HOLED = X.clone()
HOLED[3, 1] = math.inf


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: fit_multinomial(X, Y, penalty=-1.0), ParameterError, "penalty: got -1.0"),
        (lambda: fit_multinomial(X, Y, penalty=math.nan), ParameterError, "penalty: got nan"),
        (lambda: fit_multinomial(HOLED, Y, penalty=1.0), DataError, "1 of 12 rows hold NaN"),
        (lambda: fit_multinomial(X, Y * 0 + 2, penalty=1.0), DataError, "of class 2"),
        (lambda: fit_multinomial(X[:5], Y, penalty=1.0), DataError, "got 5 rows"),
        (lambda: fit_multinomial(X, Y, penalty=1.0, classes=2), ParameterError, "classes: got 2"),
        (lambda: fit_multinomial(X, Y, penalty=1.0, tolerance=0.0), ParameterError, "tolerance"),
        (
            lambda: fit_multinomial(X, Y, penalty=1.0, class_weights=torch.ones(2)),
            ParameterError,
            "class_weights: got shape",
        ),
        (
            lambda: fit_multinomial(X, Y, penalty=1.0, class_weights="even"),
            ParameterError,
            "balanced",
        ),
        (lambda: multinomial_path(X, Y, class_weights="even"), ParameterError, "balanced"),
        (lambda: multinomial_path(X, Y, select="hits"), ParameterError, "log_loss"),
        (lambda: multinomial_path(X, Y, validation=HeldOut(1.0)), ParameterError, "share: got 1.0"),
        (lambda: multinomial_path(X[:3], Y[:3]), DataError, "every class has one row"),
        (lambda: multinomial_path(X, Y, validation=(X[:, :2], Y)), DataError, "got 2 columns"),
        (lambda: multinomial_path(X, Y, validation=(X, Y + 1)), ParameterError, "label is 3"),
        (lambda: fit_multinomials(X, Y, penalties=[]), ParameterError, "got none"),
    ],
)
def test_bad_input_is_told_in_one_line(call, error, said):
    with pytest.raises(error, match=said) as told:
        call()
    assert "\n" not in str(told.value)
