import torch
from hypothesis import given
from hypothesis import strategies as st

from relearn.data.randomness import generator_of, seed_of


@given(st.integers(min_value=-(2**40), max_value=2**70), st.text(max_size=20))
def test_seed_of_a_door_is_a_63_bit_number(seed, name):
    assert 0 <= seed_of(seed, name) < 2**63


def test_seed_of_a_door_is_the_same_in_every_version():
    # `printf 0:order | sha256sum` begins with these 16 digits
    assert seed_of(0, "order") == 0x23EAF8BFB83FDE6D >> 1


def test_doors_and_seeds_are_unrelated():
    seeds = {seed_of(s, n) for s in range(50) for n in ("order", "split", "split.1", "1")}
    assert len(seeds) == 200


def test_joined_names_do_not_collide():
    assert seed_of(1, "1:x") != seed_of(11, ":x")


def test_a_door_ignores_global_state():
    torch.manual_seed(1)
    first = torch.rand(3, generator=generator_of(7, "noise"))
    torch.manual_seed(2)
    torch.rand(5)
    assert torch.equal(first, torch.rand(3, generator=generator_of(7, "noise")))
