import math
import subprocess
import sys

import pytest
import torch
from torch import nn

from relearn.errors import ParameterError
from relearn.training.averaging import WeightAverage
from relearn.training.optimizers import make_optimizer, make_schedule


def optimizer_for(net, name="adam", rate=0.01, decay=0.0, momentum=0.9):
    return make_optimizer(
        net.parameters(), name=name, learning_rate=rate, weight_decay=decay, momentum=momentum
    )


def train(net, optimizer):
    draw = torch.Generator().manual_seed(0)
    for _ in range(5):
        optimizer.zero_grad()
        net(torch.randn(8, 6, generator=draw)).square().sum().backward()
        optimizer.step()
    return net.weight.detach()


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("adam", lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1)),
        ("adamw", lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1)),
        ("sgd", lambda p: torch.optim.SGD(p, lr=0.01, weight_decay=0.1, momentum=0.9)),
    ],
)
def test_the_fused_step_is_the_plain_step(name, plain):
    ours, theirs = nn.Linear(6, 3), nn.Linear(6, 3)
    theirs.load_state_dict(ours.state_dict())
    optimizer = optimizer_for(ours, name, decay=0.1)
    assert optimizer.defaults["fused"]
    torch.testing.assert_close(train(ours, optimizer), train(theirs, plain(theirs.parameters())))


def test_an_unknown_optimizer_or_schedule_suggests_the_near_miss():
    with pytest.raises(ParameterError, match="did you mean adamw"):
        optimizer_for(nn.Linear(2, 2), "adamww")
    with pytest.raises(ParameterError, match="did you mean cosine"):
        make_schedule(optimizer_for(nn.Linear(2, 2)), name="cosin", epochs=1, steps_per_epoch=1)


def rates(name, *, epochs, steps, warmup):
    optimizer = optimizer_for(nn.Linear(2, 2), "sgd", rate=1.0)
    schedule = make_schedule(
        optimizer, name=name, epochs=epochs, steps_per_epoch=steps, warmup_epochs=warmup
    )
    found = []
    for _ in range(epochs * steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_warm_up_rises_linearly_to_the_highest_rate():
    assert rates("constant", epochs=2, steps=4, warmup=1.0) == pytest.approx(
        [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0]
    )


def test_cosine_falls_from_the_highest_rate_to_almost_nothing():
    found = rates("cosine", epochs=10, steps=10, warmup=0.0)
    assert found == pytest.approx([(1 + math.cos(math.pi * t / 100)) / 2 for t in range(100)])


def test_step_divides_by_ten_at_half_and_three_quarters():
    assert rates("step", epochs=4, steps=2, warmup=0.0) == pytest.approx(
        [1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01]
    )


def test_step_once_divides_by_ten_at_half():
    found = rates("step_once", epochs=4, steps=2, warmup=0.0)
    assert found == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1])


def test_a_warm_up_longer_than_the_training_is_refused(train_config):
    with pytest.raises(ValueError, match="warmup_epochs: got 4, expected at most epochs=3"):
        train_config(warmup_epochs=4.0)


def test_the_average_follows_the_closed_form():
    net = nn.Linear(3, 2)
    average = WeightAverage(net, decay=0.9)
    expected = net.weight.detach().double()
    for step in range(40):
        with torch.no_grad():
            net.weight.normal_()
        average.update(net)
        d = min(0.9, (1 + step) / (10 + step))
        expected = d * expected + (1 - d) * net.weight.detach().double()
    torch.testing.assert_close(average.average["weight"].double(), expected, rtol=1e-5, atol=1e-6)


def test_running_statistics_are_averaged_and_counters_copied():
    net = nn.BatchNorm1d(2)
    average = WeightAverage(net, decay=0.5)
    before = net.running_mean.clone()
    net(torch.randn(8, 2) + 5)
    average.update(net)
    torch.testing.assert_close(
        average.average["running_mean"], 0.1 * before + 0.9 * net.running_mean
    )
    assert int(average.average["num_batches_tracked"]) == 1


def test_swapping_the_average_in_gives_the_own_weights_back():
    net = nn.Linear(3, 2)
    average = WeightAverage(net, decay=0.9)
    nn.init.ones_(net.weight)
    with average.swapped_in(net):
        assert torch.equal(net.weight, average.average["weight"])
        assert not torch.equal(net.weight, torch.ones(2, 3))
    assert torch.equal(net.weight, torch.ones(2, 3))


def test_training_loads_no_compiler_and_ends_where_a_loaded_one_lets_it_end():
    """Importing the compiler takes longer than many a training; torch's own road is the other."""
    code = (
        "import sys, torch\n"
        "if sys.argv[1] == 'loaded':\n"
        "    import torch._dynamo\n"
        "from relearn.training.optimizers import make_optimizer, make_schedule\n"
        "torch.manual_seed(0)\n"
        "net, knobs = torch.nn.Linear(4, 2), {'weight_decay': 0.1, 'momentum': 0.9}\n"
        "def fresh():\n"
        "    return make_optimizer(net.parameters(), name='sgd', learning_rate=0.1, **knobs)\n"
        "optimizer = fresh()\n"
        "schedule = make_schedule(optimizer, name='cosine', epochs=4, steps_per_epoch=1)\n"
        "for step in range(4):\n"
        "    optimizer.zero_grad(set_to_none=True)\n"
        "    net(torch.ones(3, 4)).square().sum().backward()\n"
        "    optimizer.step()\n"
        "    schedule.step()\n"
        "    kept, optimizer = optimizer.state_dict(), fresh()\n"
        "    optimizer.load_state_dict(kept)\n"
        "    schedule.optimizer = optimizer\n"
        "print([f'{w:.9g}' for w in net.weight.flatten().tolist()])\n"
        "print('torch._dynamo' in sys.modules)"
    )
    found = {
        road: subprocess.run(
            [sys.executable, "-c", code, road], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        for road in ("spared", "loaded")
    }
    assert found["spared"][0] == found["loaded"][0]
    assert (found["spared"][1], found["loaded"][1]) == ("False", "True")
