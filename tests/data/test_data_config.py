import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from relearn.data.config import DataConfig

CONF = Path(__file__).parents[2] / "conf"


def base():
    return yaml.safe_load((CONF / "base/parameters_prepare_data.yml").read_text())["data"]


def merged(over, under):
    """Soft merge as Kedro does it."""
    both = dict(under)
    for key, value in over.items():
        both[key] = merged(value, under[key]) if isinstance(value, dict) else value
    return both


def unknown(over, under, prefix=""):
    for key, value in over.items():
        if key not in under:
            yield prefix + key
        elif isinstance(value, dict):
            yield from unknown(value, under[key], f"{prefix}{key}.")


@pytest.mark.parametrize("path", sorted(CONF.glob("*/parameters_prepare_data.yml")), ids=str)
def test_every_environment_is_a_diff_of_base_that_validates(path):
    changes = yaml.safe_load(path.read_text())["data"]
    assert list(unknown(changes, base())) == []
    DataConfig.model_validate(merged(changes, base()))


@pytest.mark.parametrize(
    "changes",
    [
        {"source": "omniglott"},
        {"sauce": "glyphs"},
        {"image": {"size": 3}},
        {"image": {"size": -1}},
        {"image": {"size": 28.0}},
        {"image": {"channels": 2}},
        {"image": {"fit": "pad"}},
        {"glyphs": {"classes": 1}},
        {"limits": {"refused_share": 1.5}},
        {"limits": {"refused_share": float("nan")}},
        {"limits": {"max_pixels": 10**9}},
        {"split": {"by": "classes"}},
        {"split": {"train_share": 0.9, "validation_share": 0.2}},
        {"split": {"train_share": 0}},
        {"split": {"tasks": "10"}},
    ],
    ids=str,
)
def test_wrong_values_are_refused(changes):
    known = {key: value for key, value in changes.items() if key in base()}
    config = {**merged(known, base()), **{k: v for k, v in changes.items() if k not in known}}
    with pytest.raises(ValidationError):
        DataConfig.model_validate(config)


def digests(**changes):
    config = DataConfig.model_validate(merged(changes, base()))
    return config.images_digest(), config.stream_digest()


def test_what_changes_no_pixel_changes_no_digest():
    same = digests(download=True, cache_folder="elsewhere", limits={"decode_workers": 3})
    assert same == digests()


def test_glyph_settings_of_another_source_do_not_count():
    one = digests(source="digits", glyphs={"seed": 1})
    assert one == digests(source="digits")
    assert digests(glyphs={"seed": 1})[0] != digests()[0]


def test_the_split_changes_the_stream_and_not_the_images():
    images, stream = digests(split={"seed": 1})
    assert images == digests()[0]
    assert stream != digests()[1]


def test_two_folders_are_never_taken_for_one():
    one = digests(source="image_folder", source_path="a")
    assert one[0] != digests(source="image_folder", source_path="b")[0]


def test_the_configuration_and_the_pipeline_import_without_torch():
    code = (
        "import relearn.data.config, relearn.pipelines.prepare_data, sys;"
        "print([m for m in ('torch', 'torchvision', 'pandas', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
