import math
import os

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from relearn.training.resume import NoResume, ResumePoint, pack, unpack

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.integers() | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(PLAIN)
def test_packing_loses_nothing(value):
    plain, tensors = pack({"value": value})
    assert unpack(plain, tensors) == {"value": value}
    assert tensors == {}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_tensors_come_back_with_type_and_layout(dtype, tmp_path):
    last = torch.ones(2, 3, 4, 5, dtype=dtype).to(memory_format=torch.channels_last)
    point = ResumePoint(tmp_path / "resume.safetensors")
    point.save({"a": {0: (last, [torch.zeros(3, dtype=dtype)])}})
    found, [zeros] = point.load()["a"][0]
    assert found.dtype == zeros.dtype == dtype
    assert torch.equal(found, last)
    assert found.stride() == last.stride()


def test_not_a_number_survives(tmp_path):
    point = ResumePoint(tmp_path / "resume.safetensors")
    point.save({"x": float("nan"), "y": float("inf")})
    assert math.isnan(point.load()["x"])
    assert point.load()["y"] == math.inf


def test_a_state_that_cannot_be_kept_is_refused_and_the_old_point_stays(tmp_path):
    point = ResumePoint(tmp_path / "resume.safetensors")
    point.save({"epoch": 1})
    with pytest.raises(TypeError, match="cannot hold a function"):
        point.save({"epoch": 2, "hook": lambda: None})
    assert point.load() == {"epoch": 1}


@pytest.mark.parametrize("damage", ["empty", "half", "bit", "stranger"])
def test_a_damaged_point_is_warned_about_and_training_starts_afresh(damage, tmp_path, caplog):
    path = tmp_path / "resume.safetensors"
    point = ResumePoint(path)
    point.save({"epoch": 1, "x": torch.rand(50)})
    whole = bytearray(path.read_bytes())
    if damage == "stranger":
        from safetensors.torch import save_file

        save_file({"x": torch.zeros(1)}, path)
    else:
        whole[-5] ^= 1
        path.write_bytes({"empty": b"", "half": whole[: len(whole) // 2], "bit": whole}[damage])
    assert point.load() is None
    assert "damaged resume point" in caplog.text
    assert "starts afresh" in caplog.text


def test_a_point_of_another_training_is_passed_over(tmp_path):
    path = tmp_path / "resume.safetensors"
    ResumePoint(path, key="one").save({"epoch": 1})
    assert ResumePoint(path, key="two").load() is None
    assert ResumePoint(path, key="one").load() == {"epoch": 1}


def test_clearing_and_an_absent_point(tmp_path):
    point = ResumePoint(tmp_path / "deep" / "resume.safetensors")
    assert point.load() is None
    point.clear()
    point.save({"epoch": 1})
    point.clear()
    assert point.load() is None
    NoResume().save({"epoch": 1})
    NoResume().clear()
    assert NoResume().load() is None


@pytest.mark.parametrize(("age", "kept"), [(0.0, 1), (29.0, 1), (31.0, 2), (-31.0, 2)])
def test_a_young_point_is_left_as_it_is_within_the_pause(age, kept, tmp_path):
    point = ResumePoint(tmp_path / "resume.safetensors", pause_seconds=30.0)
    point.save({"epoch": 1})
    made = point.path.stat().st_mtime - age
    os.utime(point.path, (made, made))
    point.save({"epoch": 2})
    assert point.load() == {"epoch": kept}
