import itertools

import pytest
import torch

from relearn.data.ball import Ball, require_pixels
from relearn.data.randomness import generator_of
from relearn.errors import DataError, ParameterError

BALLS = [Ball(n, e) for n, e in itertools.product(("linf", "l2"), (0.01, 0.3, 1.0))]


def pixels_of(seed, batch=6):
    """Pixels with many at the very ends of the range."""
    draw = generator_of(seed, "test.pixels")
    return (torch.rand(batch, 3, 5, 4, generator=draw) * 2 - 0.5).clamp(0, 1)


def distances(ball, points, pixels):
    order = float("inf") if ball.norm == "linf" else 2
    return torch.linalg.vector_norm((points - pixels).flatten(1), order, dim=1)


@pytest.mark.parametrize("ball", BALLS, ids=str)
@pytest.mark.parametrize("seed", range(5))
def test_whatever_comes_out_lies_in_the_ball_and_in_the_pixel_range(ball, seed):
    pixels = pixels_of(seed)
    draw = generator_of(seed, "test.points")
    far = torch.randn(pixels.shape, generator=draw) * 3
    start = ball.random_start(pixels, draw)
    moved = ball.ascend(start, pixels, far, ball.epsilon * 4)
    for points in (start, ball.project(far, pixels), moved):
        assert points.shape == pixels.shape
        assert points.min() >= 0
        assert points.max() <= 1
        assert distances(ball, points, pixels).max() <= ball.epsilon * (1 + 1e-5)


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_points_inside_stay_where_they_are_and_projecting_twice_changes_nothing(ball):
    pixels = pixels_of(0)
    start = ball.random_start(pixels, generator_of(0, "test.points"))
    torch.testing.assert_close(ball.project(start, pixels), start)
    once = ball.project(torch.randn(pixels.shape, generator=generator_of(1, "x")), pixels)
    torch.testing.assert_close(ball.project(once, pixels), once)


@pytest.mark.parametrize("ball", [Ball("linf", 0.1), Ball("l2", 0.1)], ids=str)
def test_no_other_direction_of_one_step_gains_more_than_steepest_ascent(ball):
    pixels = torch.full((1, 1, 4, 4), 0.5)
    gradient = torch.randn(pixels.shape, generator=generator_of(0, "test.gradient"))
    best = (gradient * (ball.ascend(pixels, pixels, gradient, ball.epsilon) - pixels)).sum()
    others = ball.random_start(pixels.expand(500, -1, -1, -1), generator_of(0, "test.others"))
    assert ((others - pixels) * gradient).flatten(1).sum(1).max() < best


def test_the_nearest_point_of_the_euclidean_ball_is_on_the_line_to_its_centre():
    pixels = torch.full((1, 1, 4, 4), 0.5)
    away = torch.randn(pixels.shape, generator=generator_of(0, "test.away"))
    found = Ball("l2", 0.2).project(pixels + away, pixels)
    torch.testing.assert_close(found - pixels, 0.2 * away / away.norm())


def test_random_starts_fill_the_volume_evenly():
    centre = torch.full((4000, 1, 2, 1), 0.5)
    for norm, inside in (("linf", 0.25), ("l2", 0.25)):  # half the radius in two dimensions
        ball = Ball(norm, 0.2)
        points = ball.random_start(centre, generator_of(0, "test.fill"))
        share = (distances(ball, points, centre) < 0.1).float().mean()
        assert abs(float(share) - inside) < 0.03
        assert distances(ball, points, centre).max() > 0.195


def test_random_starts_are_a_function_of_the_generator_and_not_of_the_layout():
    pixels = pixels_of(0)
    last = pixels.to(memory_format=torch.channels_last)
    for ball in BALLS:
        one, other = (ball.random_start(p, generator_of(3, "a")) for p in (pixels, last))
        assert torch.equal(one, other)
        assert other.stride() == last.stride()
        assert not torch.equal(one, ball.random_start(pixels, generator_of(3, "b")))


def test_a_zero_gradient_moves_nothing():
    pixels = pixels_of(0)
    for ball in BALLS:
        assert torch.equal(ball.ascend(pixels, pixels, torch.zeros_like(pixels), 0.1), pixels)


@pytest.mark.parametrize("norm_and_radius", [("linf", 0), ("linf", 1.01), ("l2", -1)])
def test_an_unusable_radius_names_the_parameter(norm_and_radius):
    with pytest.raises(ParameterError, match=r"^forget_relearn\.attack\.epsilon: got"):
        Ball(*norm_and_radius)
    with pytest.raises(ParameterError, match=r"^forget_relearn\.attack\.epsilon: got nan"):
        Ball("l2", float("nan"))


def test_an_unknown_norm_suggests_the_near_miss():
    with pytest.raises(ParameterError, match=r"forget_relearn\.attack\.norm.*did you mean linf"):
        Ball("l_inf", 0.1)


def test_normalised_images_are_refused_with_the_remedy():
    require_pixels(pixels_of(0))
    for images in (pixels_of(0) - 0.5, pixels_of(0) * 2, torch.full((1, 1, 2, 2), torch.nan)):
        with pytest.raises(DataError, match="NormalisedNet"):
            require_pixels(images)
    with pytest.raises(DataError, match="divide by 255"):
        require_pixels(torch.zeros(1, 1, 2, 2, dtype=torch.uint8))
