"""The rendering loss by hand, in both modes."""

import pytest
import torch

from gmn_encoder.training.representation.rendering_loss import RenderingLossConfig, rendering_loss, target_colour

# Two NeRFs; the first has two rays and one point, the second one ray and two points.
COLOUR = torch.tensor([[0.5, 0.5, 0.5], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
TARGET = torch.tensor([[0.5, 0.5, 0.5], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
RAY_NERF, POINT_NERF = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1])
RGB = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]], dtype=torch.float64)
DENSITY = torch.tensor([[2.0], [1.0], [5.0]], dtype=torch.float64)
BACKGROUND = torch.ones(2, 3, dtype=torch.float64)


def loss(**options):
    return rendering_loss(
        COLOUR,
        TARGET,
        ray_nerf=RAY_NERF,
        point_rgb=RGB,
        point_density=DENSITY,
        point_nerf=POINT_NERF,
        background=BACKGROUND,
        config=RenderingLossConfig(**options),
    )


def test_clean():
    """Smooth L1 is d^2 / 2 below 1 and d - 1/2 from there on.

    Rays: 0, 1/2 | (1/2 + 0 + 0) / 3 = 1/6. Means over NeRFs: (1/4 + 1/6) / 2 = 5/24.
    Points, step 0.1, black before white: the error is the opacity 1 - e^-0.2 = 0.181269, squared / 2 = 0.016429;
    1 - e^-0.1 = 0.095163, squared / 2 = 0.004528, and white before white is 0. (0.016429 + 0.002264) / 2 = 0.0093465.
    """
    result = loss(step=0.1)
    assert result.foreground.item() == pytest.approx(5 / 24)
    assert result.background.item() == pytest.approx(0.0093465, abs=1e-6)
    assert result.total.item() == pytest.approx(0.8 * 5 / 24 + 0.2 * 0.0093465, abs=1e-6)


def test_released():
    """Plain means: (0 + 1/2 + 1/6) / 3 = 2/9. The raw density is the opacity: errors 2 - 1/2 = 3/2, 1/2 and 0.
    Lists of one and two points are padded to two with zeros: (3/2 + 1/2 + 0) / 4 = 1/2.
    """
    result = loss(mode="released")
    assert result.foreground.item() == pytest.approx(2 / 9)
    assert result.background.item() == pytest.approx(0.5)
    assert result.total.item() == pytest.approx(0.8 * 2 / 9 + 0.1)


def test_target_colour():
    """Premultiplied 0.3 at opacity 1/2 over white: 0.8; released, over white once more: 0.8 / 2 + 0.5 = 0.9."""
    colour, opacity = torch.full((1, 3), 0.3), torch.tensor([0.5])
    assert target_colour(colour, opacity, torch.ones(3))[0].tolist() == pytest.approx([0.8] * 3)
    released = target_colour(colour, opacity, torch.ones(3), mode="released")
    assert released[0].tolist() == pytest.approx([0.9] * 3)


@pytest.mark.parametrize("mode", ["clean", "released"])
def test_gradients_against_finite_differences(mode):
    leaves = [(COLOUR + 0.1).requires_grad_(), (0.8 * RGB + 0.1).requires_grad_(), (0.37 * DENSITY).requires_grad_()]

    def total(colour, rgb, density):
        return rendering_loss(
            colour,
            TARGET,
            ray_nerf=RAY_NERF,
            point_rgb=rgb,
            point_density=density,
            point_nerf=POINT_NERF,
            background=BACKGROUND,
            config=RenderingLossConfig(mode=mode, step=0.1),
        ).total

    assert torch.autograd.gradcheck(total, leaves)


def test_no_points_cost_nothing():
    empty = torch.zeros(0, dtype=torch.int64)
    result = rendering_loss(
        COLOUR,
        TARGET,
        ray_nerf=RAY_NERF,
        point_rgb=RGB[:0],
        point_density=DENSITY[:0],
        point_nerf=empty,
        background=BACKGROUND,
    )
    assert result.background.item() == 0


def test_bad_input():
    with pytest.raises(ValueError, match="mode is 'exact'; expected one of clean, released"):
        RenderingLossConfig(mode="exact")
    with pytest.raises(ValueError, match="foreground_weight"):
        RenderingLossConfig(foreground_weight=-1)
    with pytest.raises(ValueError, match="step is 0"):
        RenderingLossConfig(step=0)
