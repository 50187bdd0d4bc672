"""Whatever the network, factor, seed and symmetry: the student computes the teacher's function."""

from __future__ import annotations

from grow_nets import BLOCKS, HEADS, images, off, random_net
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relearn.methods.grow.planning import plan
from relearn.methods.grow.record import GrowthRecord
from relearn.methods.grow.spec import MAPPINGS, GrowthSpec
from relearn.methods.grow.widen import apply, replay
from relearn.provenance import digest_tensors

EXACT = ("uneven", "zero_sum", "none", "fresh")
NETS = st.tuples(
    st.lists(st.sampled_from(BLOCKS), max_size=5), st.sampled_from(HEADS), st.integers(3, 6)
)
SPECS = st.builds(
    GrowthSpec,
    width=st.sampled_from([1.0, 1.1, 1.5, 2.0, 3.0]),
    mapping=st.sampled_from(MAPPINGS),
    symmetry=st.sampled_from(EXACT),
    multiple_of=st.sampled_from([1, 2, 8]),
)
QUICK = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)


@QUICK
@given(net=NETS, spec=SPECS, seed=st.integers(0, 1000))
def test_widening_keeps_the_function(net: tuple, spec: GrowthSpec, seed: int) -> None:
    teacher = random_net(net[0], net[1], seed=seed, width=net[2])
    before = digest_tensors(teacher.state_dict())

    planned = plan(teacher, images(), spec)
    student, record = apply(teacher, planned, seed=seed)

    assert off(teacher, student, images(seed)) <= 1e-12
    assert digest_tensors(teacher.state_dict()) == before
    assert sum(p.numel() for p in student.parameters()) == planned.after.parameters
    assert record.certificate["worst_share_error"] <= 1e-12


@QUICK
@given(net=NETS, spec=SPECS, seed=st.integers(0, 1000))
def test_a_student_grows_again(net: tuple, spec: GrowthSpec, seed: int) -> None:
    teacher = random_net(net[0], net[1], seed=seed, width=net[2])

    student, _ = apply(teacher, plan(teacher, images(), spec), seed=seed)
    again, _ = apply(student, plan(student, images(), GrowthSpec(width=1.5)), seed=seed + 1)

    assert off(teacher, again, images(seed)) <= 1e-12


@QUICK
@given(net=NETS, spec=SPECS, seed=st.integers(0, 1000))
def test_a_record_builds_the_student_again_bit_for_bit(
    net: tuple, spec: GrowthSpec, seed: int
) -> None:
    teacher = random_net(net[0], net[1], seed=seed, width=net[2])
    student, record = apply(teacher, plan(teacher, images(), spec), seed=seed)

    again = replay(teacher, GrowthRecord.from_json(record.to_json()))

    assert digest_tensors(again.state_dict()) == record.student_digest
    assert digest_tensors(student.state_dict()) == record.student_digest


@QUICK
@given(net=NETS, seed=st.integers(0, 1000))
def test_pure_widening_is_exact_in_training_mode_too(net: tuple, seed: int) -> None:
    teacher = random_net(net[0], net[1], seed=seed, width=net[2])
    student, _ = apply(teacher, plan(teacher, images(), GrowthSpec(width=1.5)), seed=seed)

    assert off(teacher.train(), student.train(), images(seed, count=4)) <= 1e-11
