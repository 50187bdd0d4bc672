"""Features of frozen bodies: where they are read, that nothing moves, in what memory."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from tiny_bodies import Headless, images_for, separable, tiny_body, tiny_images
from torch import Tensor, nn

from relearn.errors import DataError, ParameterError, TrainingError
from relearn.methods.last_layer_probe.bodies import Body, body_digest
from relearn.methods.last_layer_probe.feature_cache import FeatureCache
from relearn.methods.last_layer_probe.feature_memory import feature_bytes, stream_bytes
from relearn.methods.last_layer_probe.features import (
    extract,
    labelled_features,
    stream_features,
    stream_into,
)
from relearn.methods.last_layer_probe.tap_points import choose_taps, tap_points
from relearn.models.heads import features, find_head
from relearn.provenance import digest_tensors
from relearn.training.ridge_path import ridge_path
from relearn.training.ridge_sums import RidgeSums

NETS = ("mlp", "convnet3", "convnet5", "preact_resnet", "vision_transformer")


def everything(net: nn.Module) -> str:
    """Return the digest of all parameters and buffers."""
    return digest_tensors({**dict(net.named_parameters()), **dict(net.named_buffers())})


@pytest.mark.parametrize("name", NETS)
def test_the_last_tap_point_is_what_the_last_layer_reads(name: str) -> None:
    body, images = tiny_body(name), images_for(name)
    taps = tap_points(body, images[:2])

    found = extract(body, images, taps, batch=4)

    net = body.net.eval()
    with torch.no_grad():
        read = features(net, body.feed(images))
        logits = net(body.feed(images))
    torch.testing.assert_close(found["features"], read, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(find_head(net).module(found["features"]), logits)
    assert [tap.name for tap in taps][-1] == "features"
    assert all(found[tap.name].shape == (len(images), tap.width) for tap in taps)


@pytest.mark.parametrize("name", NETS)
def test_a_frozen_body_keeps_every_bit_and_each_module_its_mode(name: str) -> None:
    body, images = tiny_body(name), images_for(name)
    body.net.train()
    first = next(body.net.children())
    first.eval()
    before = everything(body.net)

    extract(body, images, tap_points(body, images[:2]))

    assert everything(body.net) == before
    assert body.net.training
    assert not first.training


def test_a_tap_point_lies_behind_norm_and_activation_however_they_are_written() -> None:
    body, images = tiny_body("mlp"), tiny_images()

    found = extract(body, images, choose_taps(body, images[:2], ["hidden.0"]))["hidden.0"]

    assert float(found.min()) == 0.0  # behind the ReLU
    behind = body.net.hidden[:2](body.feed(images).flatten(1))  # type: ignore[index, operator]
    torch.testing.assert_close(found, behind.detach())


def test_any_module_can_be_named_and_is_read_at_its_output() -> None:
    body, images = tiny_body("preact_resnet"), tiny_images()

    [tap] = choose_taps(body, images[:2], ["stages.1.0.norm1"])
    found = extract(body, images, [tap])[tap.name]

    assert tap.shape == (4, 8, 8)
    norm = body.net.eval().stages[1][0].norm1  # type: ignore[index, union-attr]
    inner = body.net.stages[0](body.net.stem(body.feed(images)))  # type: ignore[operator, index]
    torch.testing.assert_close(found, norm(inner).flatten(1).detach())


def test_wide_maps_are_pooled_to_the_finest_grid_that_fits() -> None:
    body, images = tiny_body("convnet5"), tiny_images()

    free = {tap.name: tap for tap in tap_points(body, images[:2])}
    tight = {tap.name: tap for tap in tap_points(body, images[:2], widest=40)}

    assert (free["blocks.0"].pooling, free["blocks.0"].width) == ("none", 4 * 64)
    assert (tight["blocks.0"].pooling, tight["blocks.0"].width) == ("grid 3", 36)
    assert all(tap.width <= 40 for tap in tight.values())
    whole = extract(body, images, [free["blocks.0"]])["blocks.0"].view(-1, 4, 8, 8)
    small = extract(body, images, [tight["blocks.0"]])["blocks.0"]
    torch.testing.assert_close(
        small, nn.functional.adaptive_avg_pool2d(whole, 3).flatten(1), rtol=1e-4, atol=1e-5
    )
    one = {t.name: t for t in tap_points(body, images[:2], widest=3)}["blocks.0"]
    assert (one.pooling, one.width) == ("mean", 4)
    torch.testing.assert_close(extract(body, images, [one])["blocks.0"], whole.mean((2, 3)))


def test_tokens_are_pooled_over_the_tokens() -> None:
    body, images = tiny_body("vision_transformer"), images_for("vision_transformer")

    tap = {tap.name: tap for tap in tap_points(body, images[:2], widest=12)}["blocks.0"]
    whole = choose_taps(body, images[:2], ["blocks.0"])[0]

    assert (tap.pooling, tap.width, whole.shape) == ("mean", 12, (5, 12))
    every = extract(body, images, [whole])["blocks.0"].view(-1, 5, 12)
    torch.testing.assert_close(extract(body, images, [tap])["blocks.0"], every.mean(1))


def test_the_size_of_the_batches_does_not_matter() -> None:
    body, images = tiny_body("convnet5"), tiny_images(11)
    taps = tap_points(body, images[:2])

    whole, bits = extract(body, images, taps, batch=64), extract(body, images, taps, batch=3)

    for tap in taps:
        torch.testing.assert_close(whole[tap.name], bits[tap.name], rtol=1e-4, atol=1e-5)


def test_the_pass_ends_at_the_deepest_tap_point() -> None:
    body, images = tiny_body("convnet5"), tiny_images()
    reached: list[str] = []
    last = body.net.blocks[4]  # type: ignore[index, union-attr]
    last.register_forward_hook(lambda *_: reached.append("last"))  # type: ignore[union-attr]
    taps = choose_taps(body, images[:2], ["blocks.0"])
    reached.clear()

    extract(body, images, taps)

    assert reached == []


def test_streaming_adds_up_to_what_is_extracted_whole() -> None:
    class Sums:
        def __init__(self) -> None:
            self.gram, self.count = torch.zeros(()), 0

        def add(self, features: Tensor, labels: Tensor) -> None:
            self.gram = self.gram + features.double().T @ features.double()
            self.count += int(labels.sum())

    body, split = tiny_body("convnet5"), separable(20, 0)
    taps = tap_points(body, split.images[:2])
    sums = {tap: Sums() for tap in taps}

    stream_into(body, split, sums, batch=6)

    for tap, found in extract(body, split.images, taps).items():
        mine = next(s for t, s in sums.items() if t.name == tap)
        torch.testing.assert_close(
            mine.gram, found.double().T @ found.double(), rtol=1e-4, atol=1e-4
        )
        assert mine.count == int(split.labels.sum())


def test_a_ridge_path_streamed_in_two_passes_is_that_of_all_features_at_once() -> None:
    body, split = tiny_body("convnet5"), separable(60, 0)
    taps = choose_taps(body, split.images[:2], ["blocks.3", "features"])
    sums = {tap: RidgeSums(tap.width, 3) for tap in taps}

    stream_into(body, split, sums, batch=13)

    for tap in taps:
        path = sums[tap].path(labelled_features(body, split, tap, batch=13))
        whole = ridge_path(extract(body, split.images, taps)[tap.name], split.labels)
        assert path.penalty == whole.penalty
        best = path.loo_error[path.best], whole.loo_error[whole.best]
        assert float(best[0]) == pytest.approx(float(best[1]), rel=1e-3)


def test_what_would_not_fit_is_refused_before_anything_is_run() -> None:
    body, images = tiny_body("convnet5"), tiny_images(9)
    taps = tap_points(body, images[:2])
    needed = feature_bytes(taps, 9)
    body.net.register_forward_pre_hook(lambda *_: pytest.fail("the net was run"))

    assert needed == 9 * 4 * sum(tap.width for tap in taps)
    with pytest.raises(DataError, match=r"stream them, lower last_layer_probe\.features\.widest"):
        extract(body, images, taps, memory_bytes=needed - 1)


def test_the_memory_of_a_stream_is_that_of_one_batch_and_grows_with_nothing_else() -> None:
    body, images = tiny_body("convnet5"), tiny_images(24)
    taps = tap_points(body, images[:2])
    alive: list[int] = []
    refs: list[weakref.ref[Tensor]] = []

    for _, found in stream_features(body, images, taps, batch=4):
        refs += [weakref.ref(value) for value in found.values()]
        alive.append(sum(ref() is not None for ref in refs))
        del found

    assert max(alive) <= 2 * len(taps)  # a chunk and the one before it
    four, eight = (stream_bytes(body, images[:2], taps, batch=batch) for batch in (4, 8))
    assert eight == 2 * four
    # the first convolution alone gives 4 maps of 8 x 8 an image
    assert four > 4 * 4 * 4 * 64 + feature_bytes(taps, 4)


def test_a_cache_reads_what_it_wrote_and_only_for_the_same_body(tmp_path) -> None:
    body, images = tiny_body("convnet5"), tiny_images()
    [tap] = choose_taps(body, images[:2], ["features"])
    cache = FeatureCache(tmp_path / "features")

    first = cache.features(body, images, tap)
    handle = body.net.register_forward_pre_hook(lambda *_: pytest.fail("the net was run"))
    again = cache.features(body, images, tap)
    handle.remove()

    assert torch.equal(first, extract(body, images, [tap])["features"])
    assert torch.equal(first, again)
    assert cache.key(tiny_body("convnet5", seed=1), images, tap) != cache.key(body, images, tap)
    assert cache.key(body, images[:3], tap) != cache.key(body, images, tap)
    again.zero_()  # what a consumer does to it does not reach the file
    assert torch.equal(cache.features(body, images, tap), first)
    assert len(list(cache.folder.iterdir())) == 1


def test_a_cache_of_half_precision_takes_half_the_space(tmp_path) -> None:
    body, images = tiny_body("mlp"), tiny_images()
    [tap] = choose_taps(body, images[:2], ["features"])

    found = FeatureCache(tmp_path, "float16").features(body, images, tap)

    [file] = tmp_path.iterdir()
    assert np.load(file).dtype == np.float16
    torch.testing.assert_close(
        found.float(), extract(body, images, [tap])["features"], rtol=2e-3, atol=2e-3
    )
    with pytest.raises(ParameterError, match=r"features\.dtype: 'float8' is not known"):
        FeatureCache(tmp_path, "float8").features(body, images, tap)


def test_the_digest_of_a_body_leaves_out_its_last_layer_and_nothing_else() -> None:
    body = tiny_body("convnet5")
    before = body_digest(body)

    find_head(body.net).module.weight.data.zero_()
    assert body_digest(body) == before
    body.net.blocks[0].norm.running_mean += 1e-6  # type: ignore[index, union-attr, operator]
    assert body_digest(body) != before


def test_a_body_without_a_last_layer_gives_its_output() -> None:
    body, images = Body(Headless(), (0.4,), (0.3,), head=None), tiny_images()

    [tap] = tap_points(body, images[:2])

    assert torch.equal(extract(body, images, [tap])["features"], body.net(body.feed(images)).data)
    assert choose_taps(body, images[:2], ["inner"])[0].width == 5


def test_float_images_are_taken_as_they_are() -> None:
    body = Body(Headless(), head=None)
    images = torch.randn(3, 1, 8, 8)

    [tap] = tap_points(body, images)

    assert torch.equal(extract(body, images, [tap])["features"], body.net(images).data)


class Writing(nn.Module):
    """Counts its calls in a buffer, which a frozen body must not."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()), persistent=False)
        self.head = nn.Linear(64, 2)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits."""
        self.calls += 1
        logits: Tensor = self.head(images.flatten(1))
        return logits


class Chance(nn.Module):
    """Drops units whatever its mode."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 2)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.head(nn.functional.dropout(images.flatten(1), training=True))
        return logits


def test_a_body_that_writes_to_itself_is_caught() -> None:
    body = Body(Writing(), (0.4,), (0.3,))

    with pytest.raises(TrainingError, match="Writing was changed while it was read \\(calls\\)"):
        tap_points(body, tiny_images(2))


@pytest.mark.parametrize(
    "net",
    [
        Chance(),
        nn.Sequential(
            nn.Flatten(), nn.BatchNorm1d(64, track_running_stats=False), nn.Linear(64, 2)
        ),
    ],
)
def test_a_body_that_is_no_function_of_the_image_is_caught(net: nn.Module) -> None:
    body = Body(net, (0.4,), (0.3,))
    taps = tap_points(body, tiny_images(4))

    with pytest.raises(TrainingError, match="depend on the images beside it or on chance"):
        extract(body, tiny_images(9), taps)


def test_features_that_are_not_finite_are_named() -> None:
    body = tiny_body("mlp")
    body.net.hidden[0].weight.data[0, 0] = float("nan")  # type: ignore[index, union-attr]
    taps = tap_points(body, tiny_images(2))

    with pytest.raises(TrainingError, match=r"'hidden\.0' images 0 to 8 .* NaN or infinite"):
        extract(body, tiny_images(), taps)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("stages.1.1.conv9", r"'stages\.1\.1\.conv9' is no tap point, did you mean stages\."),
        ("feature", "'feature' is no tap point, did you mean features\\? expected one of stem,"),
        ("", "'' is no tap point"),
    ],
)
def test_a_tap_point_that_does_not_exist_is_refused_with_the_nearest(name, message) -> None:
    with pytest.raises(ParameterError, match=rf"last_layer_probe\.features\.taps: {message}"):
        choose_taps(tiny_body("preact_resnet"), tiny_images(2), [name])


def test_other_bad_input_is_refused() -> None:
    body, images = tiny_body("mlp"), tiny_images()
    [tap] = choose_taps(body, images[:2], ["features"])

    with pytest.raises(DataError, match="got no images"):
        extract(body, images[:0], [tap])
    with pytest.raises(ParameterError, match=r"features\.batch: got 0"):
        next(iter(stream_features(body, images, [tap], batch=0)))
    with pytest.raises(ParameterError, match="none of them twice"):
        extract(body, images, [tap, tap])
    with pytest.raises(ParameterError, match=r"features\.widest: got 0"):
        tap_points(body, images[:2], widest=0)
