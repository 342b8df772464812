"""Quaternion conventions against scipy, and the loss's gradients."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from gmn_encoder.pose.rotations import (
    conjugate,
    euler_angles,
    geodesic_angle,
    matrix_of,
    multiply,
    quaternion_of,
    quaternion_of_vector,
    random_rotations,
    spread_rotations,
    unit_quaternion,
)


@pytest.fixture(scope="module")
def pairs():
    """200 random rotations, and some at the borders: none, half turns about each axis, nearly half turns."""
    generator = torch.Generator().manual_seed(0)
    quaternions = random_rotations(200, generator).double()
    special = torch.tensor(
        [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1e-9, 1, 0, 0], [0.5, 0.5, -0.5, 0.5]]
    )
    quaternions = unit_quaternion(torch.cat([quaternions, special.double()]))
    return quaternions, Rotation.from_quat(quaternions.numpy(), scalar_first=True)


def test_conventions_are_those_of_scipy(pairs):
    quaternions, theirs = pairs
    assert np.allclose(matrix_of(quaternions), theirs.as_matrix())
    product = multiply(quaternions, quaternions.roll(1, 0))
    expected = theirs * Rotation.from_quat(quaternions.roll(1, 0).numpy(), scalar_first=True)
    assert np.allclose(matrix_of(product), expected.as_matrix())
    assert np.allclose(matrix_of(conjugate(quaternions)), theirs.inv().as_matrix())
    angles = geodesic_angle(quaternions, quaternions.roll(1, 0))
    assert np.allclose(angles, (theirs * expected.inv() * theirs).magnitude())
    vectors = torch.from_numpy(theirs.as_rotvec())
    assert np.allclose(matrix_of(quaternion_of_vector(vectors)), theirs.as_matrix())


def test_matrices_and_back(pairs):
    quaternions, _ = pairs
    back = quaternion_of(matrix_of(quaternions))
    assert torch.allclose(matrix_of(back), matrix_of(quaternions), atol=1e-12)
    assert bool((back[:, 0] >= 0).all())


def test_euler_angles_are_about_fixed_x_y_z(pairs):
    quaternions, _ = pairs
    locked = Rotation.from_euler("xyz", [[30, 90, 0], [-50, -90, 0]], degrees=True).as_matrix()
    matrices = torch.cat([matrix_of(quaternions), torch.from_numpy(locked)])
    rebuilt = Rotation.from_euler("xyz", euler_angles(matrices).numpy(), degrees=True)
    assert np.allclose(rebuilt.as_matrix(), matrices, atol=1e-6)


def test_the_loss_does_not_tell_q_from_minus_q_and_has_a_gradient_at_equal_views():
    generator = torch.Generator().manual_seed(1)
    a, b = random_rotations(2, generator).double()
    assert geodesic_angle(a, b) == pytest.approx(float(geodesic_angle(a, -b)))
    for other in (a, -a):
        free = a.clone().requires_grad_()
        loss = geodesic_angle(free, other).square()
        loss.backward()
        assert float(loss.detach()) == pytest.approx(0, abs=1e-12)
        assert bool(free.grad.isfinite().all()) and float(free.grad.norm()) < 1e-6
    near = quaternion_of_vector(torch.tensor([1e-4, 0, 0], dtype=torch.float64)).requires_grad_()
    loss = geodesic_angle(near, torch.tensor([1.0, 0, 0, 0], dtype=torch.float64)).square()
    loss.backward()
    # The angle is 2 |vec| to first order, its square 4 x^2: 8 x at x = 5e-5.
    assert float(near.grad[1]) == pytest.approx(8 * 5e-5, rel=1e-4)


def test_gradients_are_right():
    generator = torch.Generator().manual_seed(2)
    a, b = random_rotations(2, generator).double()
    assert torch.autograd.gradcheck(lambda q: geodesic_angle(q / q.norm(), b).square(), a.requires_grad_())


def test_no_quaternion_of_norm_zero():
    for wrong in (torch.zeros(4), torch.tensor([math.nan, 0, 0, 1]), torch.ones(3)):
        with pytest.raises(ValueError, match="expected four numbers"):
            unit_quaternion(wrong)


def test_rotations_are_spread_evenly():
    quaternions = spread_rotations(2000)
    near = (quaternions @ quaternions.T).abs().fill_diagonal_(0).amax(dim=1).clamp(max=1)
    degrees = torch.rad2deg(2 * near.acos())
    assert float(degrees.min()) > 10  # no two of them close together
    others = random_rotations(2000, torch.Generator().manual_seed(0))
    gap = torch.rad2deg(2 * (others @ quaternions.T).abs().amax(dim=1).clamp(max=1).acos())
    assert float(gap.max()) < 18  # and no hole anywhere
