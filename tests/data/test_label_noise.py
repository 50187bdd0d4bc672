import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from relearn.data.label_noise import noisy_labels
from relearn.errors import ParameterError

LABELS = torch.arange(300) % 10


def noisy(share, *, labels=LABELS, classes=10, seed=0):
    return noisy_labels(labels, share=share, classes=classes, seed=seed)


@given(
    st.lists(st.integers(0, 4), max_size=50),
    st.floats(0, 1),
    st.integers(5, 7),
    st.integers(0, 5),
)
def test_exactly_the_share_is_wrong_and_every_wrong_label_is_a_class(numbers, share, classes, seed):
    labels = torch.tensor(numbers, dtype=torch.int64)
    changed_labels, changed = noisy(share, labels=labels, classes=classes, seed=seed)
    assert torch.equal(changed_labels != labels, changed)
    assert int(changed.sum()) == round(share * len(numbers))
    assert changed_labels.dtype == torch.int64
    assert ((changed_labels >= 0) & (changed_labels < classes)).all()


def test_share_zero_changes_none_and_share_one_changes_all():
    assert torch.equal(noisy(0.0)[0], LABELS)
    assert noisy(1.0)[1].all()
    assert torch.equal(
        noisy(0.0, labels=torch.zeros(4).long(), classes=1)[0], torch.zeros(4).long()
    )


def test_the_given_labels_are_not_touched():
    given_labels = LABELS.clone()
    noisy(0.5, labels=given_labels)
    assert torch.equal(given_labels, LABELS)


def test_a_draw_is_a_function_of_the_seed():
    torch.manual_seed(5)
    first = noisy(0.2)[0]
    torch.manual_seed(6)
    assert torch.equal(noisy(0.2)[0], first)
    assert not torch.equal(noisy(0.2, seed=1)[0], first)


def test_more_noise_keeps_the_changes_of_less():
    (less, few), (more, many) = noisy(0.1), noisy(0.4)
    assert torch.equal(few & many, few)
    assert torch.equal(less[few], more[few])


def test_all_other_classes_are_equally_likely_and_so_is_every_sample():
    labels = torch.full((9000,), 3)
    wrong, changed = noisy(0.5, labels=labels)
    counts = torch.bincount(wrong[changed], minlength=10).float()
    assert counts[3] == 0
    others = counts[counts > 0]
    # 4,500 over nine classes: 500 each, with a deviation of 21
    assert len(others) == 9
    assert (others - 500).abs().max() < 5 * 21.1
    first_half = int(changed[:4500].sum())  # 2,250 with a deviation of 34
    assert abs(first_half - 2250) < 5 * 34


def test_noise_that_cannot_be_made_is_refused_in_one_line():
    for given_values, said in (
        ({"share": 0.2, "labels": torch.zeros(4).long(), "classes": 1}, "needs another class"),
        ({"share": 1.5}, r"got 1\.5, expected a share from 0 to 1"),
        ({"share": float("nan")}, "got nan"),
        ({"share": 0.2, "classes": 5}, "labels run from 0 to 9, expected 0 to 4"),
    ):
        with pytest.raises(ParameterError, match=said) as caught:
            noisy(**given_values)
        assert str(caught.value).startswith("forget_relearn.samples.label_noise: ")
        assert "\n" not in str(caught.value)
