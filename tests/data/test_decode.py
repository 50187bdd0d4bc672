import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from relearn.data.archive import ImageFiles, ReadLimits
from relearn.data.decode import ImageShape, decode_bytes, decode_files, fit_image
from relearn.errors import DataError


def encoded(image, kind="PNG", **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def picture(width=12, height=12, mode="RGB"):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def decode(data, size=0, channels=0, fit="crop", max_pixels=10**6):
    return decode_bytes(data, ImageShape(size, channels, fit), max_pixels=max_pixels)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "WEBP", "JPEG"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_format_comes_in_the_wanted_shape(kind, channels):
    pixels = decode(encoded(picture(), kind), size=8, channels=channels)
    assert pixels.shape == ((8, 8) if channels == 1 else (8, 8, 3))
    assert pixels.dtype == np.uint8


def test_lossless_pixels_come_back_unchanged():
    original = picture()
    assert np.array_equal(decode(encoded(original)), np.asarray(original))


@pytest.mark.parametrize(("mode", "axes"), [("1", 2), ("L", 2), ("LA", 2), ("P", 3), ("CMYK", 3)])
def test_channels_stay_as_in_the_source(mode, axes):
    kind = "TIFF" if mode == "CMYK" else "PNG"
    assert decode(encoded(picture(mode=mode), kind)).ndim == axes


def test_transparent_pixels_lie_on_white():
    clear = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    assert (decode(encoded(clear)) == 255).all()
    indexed = Image.new("P", (4, 4), 0)
    indexed.putpalette([0, 0, 0, 9, 9, 9])
    assert (decode(encoded(indexed, transparency=0)) == 255).all()


def test_sixteen_bit_grey_is_brought_to_eight():
    levels = np.array([[0, 257, 32896, 65535]] * 4, dtype=np.uint16)
    assert decode(encoded(Image.fromarray(levels)))[0].tolist() == [0, 1, 128, 255]


def test_a_turned_photograph_is_set_upright():
    photo = Image.new("L", (8, 4), 0)
    photo.paste(255, (0, 0, 4, 4))  # white on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees to the right
    upright = decode(encoded(photo, exif=exif))
    assert upright.shape == (8, 4)
    assert upright[0, 0] == 255
    assert upright[-1, 0] == 0


def test_crop_takes_the_middle_and_stretch_takes_all():
    wide = Image.new("L", (30, 10), 0)
    wide.paste(255, (10, 0, 20, 10))
    assert (decode(encoded(wide), size=10, fit="crop") == 255).all()
    assert decode(encoded(wide), size=10, fit="stretch")[5, 0] == 0


def test_a_large_photograph_keeps_its_look_when_decoded_at_a_fraction():
    fine = np.kron(np.random.default_rng(0).integers(0, 2, (25, 25)) * 255, np.ones((16, 16)))
    photo = Image.fromarray(fine.astype(np.uint8))
    direct = fit_image(photo, ImageShape(100, 1)).astype(int)
    drafted = decode(encoded(photo, "JPEG", quality=95), size=100, channels=1).astype(int)
    assert np.abs(direct - drafted).mean() < 4


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded():
    with pytest.raises(DataError, match=r"12x12 pixels, allowed are 100 \(data.limits.max_pixels"):
        decode(encoded(picture()), max_pixels=100)


def of_bytes(contents):
    return ImageFiles("here", list(contents), contents.__getitem__, {})


def test_files_come_in_order_whatever_the_threads():
    contents = {f"{i:03d}.png": encoded(Image.new("L", (4, 4), i)) for i in range(200)}
    for workers in (1, 4):
        decoded = decode_files(of_bytes(contents), ImageShape(), ReadLimits(decode_workers=workers))
        assert [one.pixels[0, 0] for one in decoded] == list(range(200))


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow mentions what else it saw
@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"]), st.data())
def test_damaged_bytes_are_read_or_refused_and_never_raise(kind, data):
    whole = bytearray(encoded(picture(), kind))
    for _ in range(data.draw(st.integers(0, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    files = of_bytes({"a": bytes(whole[:cut])})
    try:
        (one,) = decode_files(files, ImageShape(8, 1), ReadLimits(max_pixels=10**5))
    except DataError as fault:  # a damaged header may promise too many pixels
        assert "pixels" in str(fault)  # noqa: PT017
        return
    assert (one.pixels is None) == bool(one.reason)
    assert one.pixels is None or one.pixels.shape == (8, 8)


def test_all_images_together_must_fit():
    contents = {str(i): encoded(picture()) for i in range(5)}
    with pytest.raises(DataError, match=r"data\.limits\.max_total_bytes.*data\.image\.size"):
        decode_files(of_bytes(contents), ImageShape(), ReadLimits(max_total_bytes=2000))
