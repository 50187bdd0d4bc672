"""The page on dual kernels: its tables say what the package and torch do."""

from __future__ import annotations

import re

import pytest
import torch
from activation_table import activations_table
from claim_cards import ClaimError
from house import PROJECT
from torch import nn

from relearn.methods.last_layer_probe.activations import activation_of, known_activations

PAGE = PROJECT / "docs" / "explanation" / "dual_kernels.md"


def rows(name):
    lines = activations_table(name).splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0].strip("`"): row[1:] for row in cells}


def test_every_known_activation_has_its_row():
    assert sorted(rows("duals")) == list(known_activations())


def test_the_gains_table_foretells_what_a_layer_does_to_the_mean_square():
    width = 2000
    g = torch.randn(4, width, generator=torch.Generator().manual_seed(0))
    layer = nn.Linear(width, width, bias=False).requires_grad_(False)
    for name, (gain, _, *kept) in rows("gains").items():
        activation = activation_of(name)
        fed = activation.apply(g)
        draws = [
            nn.init.kaiming_normal_,
            nn.init.xavier_normal_,
            lambda w: layer.reset_parameters(),
        ]
        for draw, expected in zip(draws, kept, strict=True):
            with torch.random.fork_rng():
                torch.manual_seed(1)
                draw(layer.weight)
            found = float(layer(fed).square().mean())
            assert found == pytest.approx(float(expected), rel=0.12)
        assert float((float(gain) * fed).square().mean()) == pytest.approx(1, rel=0.12)


def test_the_examples_on_the_page_run(capsys):
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    for example in examples:
        exec(example, {})  # noqa: S102 - the project's own page
    told = capsys.readouterr().out
    assert len(examples) == 2
    assert "critical" in told
    assert "1.3228" in told


def test_an_unknown_table_is_refused():
    with pytest.raises(ClaimError, match="no table of activations; there are duals, gains"):
        activations_table("slopes")
