import torch

from relearn.data.glyphs import cached_glyphs, draw_glyphs


def test_glyphs_are_a_function_of_their_arguments():
    torch.manual_seed(1)
    first, labels = draw_glyphs(12, 5, seed=3)
    torch.manual_seed(2)
    again, _ = draw_glyphs(12, 5, seed=3)
    other, _ = draw_glyphs(12, 5, seed=4)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == (60, 1, 28, 28)
    assert labels.tolist() == [number for number in range(12) for _ in range(5)]


def test_more_classes_leave_the_first_as_they_were():
    few, _ = draw_glyphs(10, 6, seed=0)
    many, _ = draw_glyphs(40, 6, seed=0)
    assert torch.equal(many[:60], few)


def test_classes_can_be_told_apart_but_not_at_a_glance():
    """Nearest class mean: far above chance (1 %) and far below perfect, as with Omniglot."""
    images, _ = draw_glyphs(100, 20, seed=0)
    drawings = images.float().flatten(1).view(100, 20, -1)
    means, query = drawings[:, :15].mean(1), drawings[:, 15:].flatten(0, 1)
    found = torch.cdist(query, means).argmin(1)
    accuracy = (found == torch.arange(100).repeat_interleave(5)).float().mean()
    assert 0.5 < accuracy < 0.95


def test_no_two_drawings_are_identical():
    images, _ = draw_glyphs(100, 20, seed=0)
    assert len(torch.unique(images.flatten(1), dim=0)) == 2000


def test_a_drawer_has_one_hand_for_all_characters():
    """Widths of one drawer's characters go together, over half the alphabet against the other."""
    images, _ = draw_glyphs(200, 20, seed=0)
    ink = (255 - images.float()).view(200, 20, 28, 28)
    place = torch.arange(28).float()
    profile = ink.sum(2)
    middle = (profile * place).sum(-1) / profile.sum(-1)
    spread = ((profile * (place - middle[..., None]) ** 2).sum(-1) / profile.sum(-1)).sqrt()
    first, second = spread[:100].mean(0), spread[100:].mean(0)
    assert torch.corrcoef(torch.stack([first, second]))[0, 1] > 0.8


def test_ink_is_black_on_white_paper():
    images, _ = draw_glyphs(30, 4, seed=0)
    assert images.float().mean() > 200
    assert images.min() < 60
    assert images.max() == 255


def test_the_picture_keeps_its_look_at_another_size():
    small, _ = draw_glyphs(20, 4, seed=0, size=28)
    large, _ = draw_glyphs(20, 4, seed=0, size=56)
    halved = torch.nn.functional.avg_pool2d(large.float(), 2)
    pairs = torch.stack([small.float().flatten(), halved.flatten()])
    assert torch.corrcoef(pairs)[0, 1] > 0.95


def test_the_cache_returns_what_was_drawn(tmp_path):
    drawn = draw_glyphs(5, 3, seed=1, size=16)
    for _ in range(2):
        kept = cached_glyphs(5, 3, seed=1, size=16, cache=tmp_path)
        assert all(torch.equal(a, b) for a, b in zip(kept, drawn, strict=True))
    assert len(list(tmp_path.iterdir())) == 1  # and no partial file is left


def test_a_damaged_cache_is_drawn_again(tmp_path):
    cached_glyphs(5, 3, seed=1, size=16, cache=tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    turned = bytearray(whole)
    turned[-1] ^= 255
    for damaged in (whole[:100], b"", bytes(turned)):
        file.write_bytes(damaged)
        images, _ = cached_glyphs(5, 3, seed=1, size=16, cache=tmp_path)
        assert torch.equal(images, draw_glyphs(5, 3, seed=1, size=16)[0])
        mended = file.stat().st_mtime_ns
        cached_glyphs(5, 3, seed=1, size=16, cache=tmp_path)
        assert file.stat().st_mtime_ns == mended  # read this time
