import io
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from sklearn.datasets import load_digits

from relearn.data.corruptions import NAMES, SEVERITIES, corrupt, names_for
from relearn.data.randomness import generator_of
from relearn.errors import ParameterError

DIGITS = torch.from_numpy(np.rint(load_digits().images * (255 / 16)).astype(np.uint8))[:300, None]
DRAWN = ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "motion_blur")
"""What uses the generator."""

every_corruption = pytest.mark.parametrize("name", NAMES)


def enlarged(side):
    """Smooth drawings of another size."""
    larger = torch.nn.functional.interpolate(DIGITS[:60].float(), (side, side), mode="bicubic")
    return larger.clamp(0, 255).to(torch.uint8)


def coloured(images):
    """Three channels that differ."""
    return torch.cat([images, images.flip(-1), images.flip(-2)], 1)


def random_images(*shape):
    return torch.randint(
        0, 256, shape, dtype=torch.uint8, generator=generator_of(0, "test.corruptions")
    )


def distance(images, name, severity):
    changed = corrupt(images, name, severity, seed=0)
    return float(((changed.float() - images.float()) / 255).square().mean())


def alike(one, other):
    return (one.int() - other.int()).abs().max() <= 1  # sums in another order may round apart


@every_corruption
@pytest.mark.parametrize(
    "images",
    [DIGITS, coloured(DIGITS), enlarged(28), coloured(enlarged(32)), coloured(enlarged(64))],
    ids=["grey 8", "colour 8", "grey 28", "colour 32", "colour 64"],
)
def test_the_distance_to_the_image_rises_with_severity(name, images):
    if name not in names_for(images.shape[1]):
        with pytest.raises(ParameterError, match="needs images of 3 channels"):
            corrupt(images, name, 1, seed=0)
        return
    distances = [0.0, *(distance(images, name, severity) for severity in SEVERITIES)]
    assert all(a < b for a, b in pairwise(distances))


@every_corruption
@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("shape", [(3, 3, 4, 4), (2, 3, 8, 8), (2, 3, 5, 9), (1, 3, 40, 33)])
def test_any_size_stays_as_it_is_and_the_given_images_are_not_touched(name, severity, shape):
    images = random_images(*shape)
    before = images.clone()
    changed = corrupt(images, name, severity, seed=0)
    assert (changed.shape, changed.dtype) == (shape, torch.uint8)
    assert torch.equal(images, before)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_any_number_of_channels_is_taken_and_only_colour_can_lose_its_colour(channels):
    images = random_images(2, channels, 8, 8)
    names = names_for(channels)
    assert set(NAMES) - set(names) == {"saturation"}
    assert names_for(3) == NAMES
    assert all(corrupt(images, name, 3, seed=0).shape == images.shape for name in names)


@every_corruption
def test_a_corruption_is_a_function_of_seed_name_and_severity(name):
    images = coloured(DIGITS[:20])
    torch.manual_seed(5)
    first = corrupt(images, name, 3, seed=0)
    torch.manual_seed(6)
    assert torch.equal(corrupt(images, name, 3, seed=0), first)
    assert torch.equal(corrupt(images, name, 3, seed=1), first) == (name not in DRAWN)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in DRAWN])
def test_without_draws_an_image_does_not_depend_on_its_batch(name):
    images = coloured(DIGITS[:6])
    whole = corrupt(images, name, 4, seed=0)
    single = torch.cat([corrupt(image[None], name, 4, seed=0) for image in images])
    assert alike(whole, single)


def test_an_empty_batch_stays_empty():
    nothing = random_images(0, 3, 8, 8)
    assert all(corrupt(nothing, name, 1, seed=0).shape == nothing.shape for name in NAMES)


@pytest.mark.parametrize(
    "name", ["gaussian_blur", "defocus_blur", "motion_blur", "contrast", "pixelate", "saturation"]
)
def test_an_even_picture_has_nothing_to_lose(name):
    even = torch.full((3, 3, 9, 9), 120, dtype=torch.uint8)
    assert torch.equal(corrupt(even, name, 5, seed=0), even)


@pytest.mark.parametrize("name", ["gaussian_blur", "defocus_blur", "pixelate"])
def test_rows_and_columns_are_treated_alike(name):
    images = random_images(4, 1, 16, 16)
    turned = corrupt(images.mT, name, 5, seed=0)
    assert alike(turned.mT, corrupt(images, name, 5, seed=0))


@pytest.mark.parametrize("name", ["gaussian_blur", "defocus_blur"])
def test_a_blur_of_a_mirror_image_is_the_mirror_image_of_the_blur(name):
    images = random_images(4, 1, 16, 16)
    mirrored = corrupt(images.flip(-1), name, 5, seed=0)
    assert alike(mirrored.flip(-1), corrupt(images, name, 5, seed=0))


def test_gaussian_blur_is_that_of_scipy():
    images = random_images(3, 1, 12, 12)
    ours = corrupt(images, "gaussian_blur", 3, seed=0)  # a deviation of one pixel
    theirs = ndimage.gaussian_filter(
        images.double().numpy(), 1.0, mode="nearest", radius=3, axes=(2, 3)
    )
    assert np.abs(ours.numpy() - theirs).max() <= 1


def test_motion_keeps_the_sum_of_a_dot_and_draws_a_line():
    dots = torch.zeros(50, 1, 21, 21, dtype=torch.uint8)
    dots[:, 0, 10, 10] = 255
    lines = corrupt(dots, "motion_blur", 5, seed=0).float() / 255
    assert (lines.sum((1, 2, 3)) - 1).abs().max() < 0.1  # rounding to 8 bits
    place = torch.arange(21.0) - 10
    down = (lines * place[:, None] ** 2).sum((1, 2, 3))
    right = (lines * place**2).sum((1, 2, 3))
    # an even line of length 7 has a variance of 49 / 12, whatever its direction; interpolation adds
    assert ((down + right) / lines.sum((1, 2, 3)) - 49 / 12).abs().max() < 1
    assert (down > 2 * right).any()
    assert (right > 2 * down).any()


def test_cells_of_two_pixels_are_their_means():
    images = random_images(3, 2, 8, 8)
    means = torch.nn.functional.avg_pool2d(images.float(), 2)
    expected = means.repeat_interleave(2, -1).repeat_interleave(2, -2)
    assert (corrupt(images, "pixelate", 3, seed=0) - expected).abs().max() <= 0.51


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_that_of_pillow(channels):
    images = random_images(1, channels, 16, 16)
    picture = images[0].movedim(0, -1).numpy()
    file = io.BytesIO()
    mode = "RGB" if channels == 3 else "L"
    Image.fromarray(picture.squeeze()).convert(mode).save(file, "JPEG", quality=70)
    expected = np.asarray(Image.open(file)).reshape(16, 16, channels)
    ours = corrupt(images, "jpeg", 1, seed=0)[0].movedim(0, -1).numpy()
    assert np.array_equal(ours, expected)


def test_noise_has_the_deviation_that_is_written():
    grey = torch.full((40, 1, 32, 32), 128, dtype=torch.uint8)

    def deviation(name, severity):
        return float((corrupt(grey, name, severity, seed=0).float() / 255).std())

    level = 128 / 255
    assert deviation("gaussian_noise", 3) == pytest.approx(0.14, rel=0.02)
    assert deviation("speckle_noise", 3) == pytest.approx(0.30 * level, rel=0.02)
    # photons are Poisson: the variance of a mean of 80 * level is its mean
    assert deviation("shot_noise", 1) == pytest.approx((level / 80) ** 0.5, rel=0.02)


def test_impulses_are_black_and_white_in_equal_parts_and_leave_the_rest():
    grey = torch.full((40, 1, 32, 32), 128, dtype=torch.uint8)
    noisy = corrupt(grey, "impulse_noise", 5, seed=0)
    black, white = ((noisy == level).float().mean().item() for level in (0, 255))
    assert black == pytest.approx(0.12, abs=0.01)
    assert white == pytest.approx(0.12, abs=0.01)
    assert (noisy == 128).float().mean().item() == pytest.approx(1 - black - white)


def test_without_saturation_the_channels_are_equal_and_the_brightness_stays():
    colour = random_images(5, 3, 8, 8)
    grey = corrupt(colour, "saturation", 5, seed=0)
    assert torch.equal(grey[:, 0], grey[:, 1])
    assert torch.equal(grey[:, 0], grey[:, 2])
    pillow = Image.fromarray(colour[0].movedim(0, -1).numpy()).convert("L")
    assert np.abs(np.asarray(pillow).astype(int) - grey[0, 0].numpy()).max() <= 1


@pytest.mark.parametrize(
    ("name", "severity", "said"),
    [
        ("gausian_noise", 1, "corruption: 'gausian_noise' is not known, did you mean gaussian"),
        ("jpeg", 0, "severity: got 0, expected a whole number from 1 to 5"),
        ("jpeg", 6, "severity: got 6"),
    ],
)
def test_an_unknown_corruption_is_refused_in_one_line(name, severity, said):
    with pytest.raises(ParameterError, match=said) as caught:
        corrupt(DIGITS[:1], name, severity, seed=0)
    assert "\n" not in str(caught.value)
