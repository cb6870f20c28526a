"""Joints, canonical pose, its inverse and its mirror."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from mvssl.skeleton import BONES, JOINTS, LEFT, PARENTS, RIGHT, canonicalise, heading, mirror, place, root_centre, turn

KINDS = {
    'numpy32': lambda a: a.astype(np.float32),
    'numpy64': lambda a: a.astype(np.float64),
    'torch32': lambda a: torch.tensor(a, dtype=torch.float32),
    'torch64': lambda a: torch.tensor(a, dtype=torch.float64),
}
TOLERANCE_MM = {'numpy32': 2e-2, 'torch32': 2e-2, 'numpy64': 1e-9, 'torch64': 1e-9}


def poses(*shape, seed=0):
    "Random joints about random places: a person's size, no person's shape."
    rng = np.random.default_rng(seed)
    return rng.normal(0, 400, (*shape, 17, 3)) + rng.normal(0, 2000, (*shape, 1, 3))


def slowly(pose):
    "The definition, with scalars."
    hx, hy = (pose[JOINTS.index('LHip')][i] - pose[JOINTS.index('RHip')][i] for i in (0, 1))
    length = math.hypot(hx, hy)
    cos, sin = hx / length, -hy / length
    rows = [[joint[i] - pose[0][i] for i in range(3)] for joint in pose]
    return np.array([[cos * x - sin * y, sin * x + cos * y, z] for x, y, z in rows])


def as_numpy(pose):
    return np.asarray(pose)


def test_the_table_is_human36m():
    assert JOINTS[:4] == ('Hip', 'RHip', 'RKnee', 'RFoot') and JOINTS[10] == 'Head' and len(set(JOINTS)) == 17
    assert PARENTS == (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15)
    assert BONES == tuple(zip(PARENTS[1:], range(1, 17)))
    assert {JOINTS[i] for i in LEFT} == {'LHip', 'LKnee', 'LFoot', 'LShoulder', 'LElbow', 'LWrist'}
    for left, right in zip(LEFT, RIGHT):
        assert JOINTS[left] == 'L' + JOINTS[right].removeprefix('R')


@pytest.mark.parametrize('kind', KINDS)
def test_canonical_pose_is_its_definition(kind):
    some = poses(50)
    ours = canonicalise(KINDS[kind](some))
    for pose, canonical in zip(some, as_numpy(ours)):
        np.testing.assert_allclose(canonical, slowly(pose), rtol=0, atol=TOLERANCE_MM[kind])


@pytest.mark.parametrize('kind', KINDS)
def test_dtype_kind_and_batch_shape_are_kept(kind):
    for shape in [(), (3,), (2, 0), (2, 3, 4)]:
        pose = KINDS[kind](poses(*shape))
        root = pose[..., 0, :]
        for out in (
            canonicalise(pose),
            root_centre(pose),
            mirror(pose),
            turn(pose, 0.3),
            place(pose, heading(pose), root),
        ):
            assert type(out) is type(pose) and out.dtype == pose.dtype and out.shape == pose.shape
        assert heading(pose).dtype == pose.dtype and heading(pose).shape == shape


@pytest.mark.parametrize('kind', KINDS)
def test_place_and_heading_leave_it_unchanged(kind):
    pose, atol = KINDS[kind](poses(40)), TOLERANCE_MM[kind]
    canonical = canonicalise(pose)
    for angle in np.linspace(-7, 7, 15):
        moved = turn(pose, angle) + KINDS[kind](np.array([1234.0, -987.0, 55.0]))
        np.testing.assert_allclose(canonicalise(moved), canonical, rtol=0, atol=5 * atol)
    hips = as_numpy(canonical[..., 4, :] - canonical[..., 1, :])
    assert (hips[:, 0] > 0).all() and np.abs(hips[:, 1]).max() < atol
    np.testing.assert_array_equal(canonical[:, 0], np.zeros((40, 3)))
    np.testing.assert_allclose(canonicalise(canonical), canonical, rtol=0, atol=atol)


@pytest.mark.parametrize('kind', KINDS)
def test_place_is_the_inverse(kind):
    pose, atol = KINDS[kind](poses(4, 5)), TOLERANCE_MM[kind]
    np.testing.assert_allclose(place(canonicalise(pose), heading(pose), pose[..., 0, :]), pose, rtol=0, atol=atol)
    again = place(canonicalise(pose), 1.25, [10, 20, 900])
    np.testing.assert_allclose(heading(again), np.full((4, 5), 1.25), rtol=0, atol=1e-5)
    np.testing.assert_allclose(canonicalise(again), canonicalise(pose), rtol=0, atol=atol)


def test_turn_keeps_distances_and_broadcasts():
    points, angle = poses(3), np.array([[0.1], [2.0]])
    turned = turn(points, angle)
    assert turned.shape == (2, 3, 17, 3)
    np.testing.assert_allclose(
        np.linalg.norm(turned, axis=-1), np.broadcast_to(np.linalg.norm(points, axis=-1), (2, 3, 17))
    )
    np.testing.assert_array_equal(turned[..., 2], np.broadcast_to(points[..., 2], (2, 3, 17)))
    assert_close(turn(torch.tensor(points), torch.tensor(angle)), torch.tensor(turned))
    np.testing.assert_allclose(
        turn(np.array([[1.0, 0, 5]]), np.pi / 2), [[0, 1, 5]], atol=1e-12
    )  # anticlockwise from above


@pytest.mark.parametrize('kind', KINDS)
def test_mirror(kind):
    pose = KINDS[kind](poses(20))
    np.testing.assert_array_equal(mirror(mirror(pose)), pose)
    np.testing.assert_allclose(canonicalise(mirror(pose)), mirror(canonicalise(pose)), rtol=0, atol=TOLERANCE_MM[kind])
    np.testing.assert_allclose(heading(mirror(pose)), -heading(pose), atol=1e-5)
    seen = as_numpy(mirror(pose))
    np.testing.assert_array_equal(
        seen[:, JOINTS.index('LWrist')], as_numpy(pose)[:, JOINTS.index('RWrist')] * [-1, 1, 1]
    )
    np.testing.assert_array_equal(seen[:, JOINTS.index('Head')], as_numpy(pose)[:, JOINTS.index('Head')] * [-1, 1, 1])


@pytest.mark.parametrize('kind', KINDS)
def test_missing_joints_stay_in_their_row(kind):
    pose = poses(6)
    whole = as_numpy(canonicalise(KINDS[kind](pose)))
    pose[1], pose[2, 0], pose[3, 4, 2], pose[4, 13] = np.nan, np.nan, np.nan, np.nan
    missing = np.isnan(as_numpy(canonicalise(KINDS[kind](pose))))
    assert missing[1:4].all()  # no label; no root; no hip
    assert missing[4, 13].all() and missing[4].sum() == 3  # one joint
    np.testing.assert_array_equal(as_numpy(canonicalise(KINDS[kind](pose)))[[0, 5]], whole[[0, 5]])


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('unit', [1.0, 0.001])
def test_no_heading_without_a_horizontal_hip_line(kind, unit):
    pose = poses(5)
    for row, (dx, dz) in enumerate([(0, 260), (0, -260), (2, 260), (0, 0)]):
        pose[row, 4] = pose[row, 1] + [dx, 0, dz]
    pose[4, 4] = pose[4, 1] + [4, 0, 260]  # 0.9 degrees off the vertical: barely a heading
    pose = KINDS[kind](pose * unit)
    np.testing.assert_array_equal(np.isnan(as_numpy(heading(pose))), [True, True, True, True, False])
    np.testing.assert_array_equal(np.isnan(as_numpy(canonicalise(pose))).all((1, 2)), [True, True, True, True, False])


def test_gradients():
    pose = torch.tensor(poses(3), requires_grad=True)
    assert torch.autograd.gradcheck(canonicalise, pose)
    assert torch.autograd.gradcheck(mirror, pose)
    assert torch.autograd.gradcheck(
        lambda p, a, r: place(p, a, r),
        (
            pose,
            torch.rand(3, dtype=torch.float64, requires_grad=True),
            torch.rand(3, 3, dtype=torch.float64, requires_grad=True),
        ),
    )


def test_a_row_without_heading_does_not_spoil_its_neighbours_gradient():
    pose = poses(3)
    pose[1, 4] = pose[1, 1]
    pose = torch.tensor(pose, requires_grad=True)
    canonical = canonicalise(pose)
    canonical[canonical.isfinite().all((1, 2))].square().sum().backward()
    assert pose.grad[[0, 2]].isfinite().all() and (pose.grad[[0, 2]] != 0).any()


def test_lists_and_integers_are_poses_too():
    pose = poses().round()
    np.testing.assert_array_equal(canonicalise(pose.tolist()), canonicalise(pose))
    np.testing.assert_array_equal(canonicalise(pose.astype(int)), canonicalise(pose))
    assert canonicalise(torch.tensor(pose).int()).is_floating_point()


@pytest.mark.parametrize(
    'function', [canonicalise, heading, mirror, root_centre, lambda pose: place(pose, 0, [0, 0, 0])]
)
@pytest.mark.parametrize('shape', [(17,), (16, 3), (32, 3), (17, 2), (5, 51), (3, 17)])
def test_wrong_shapes_are_refused(function, shape):
    for array in (np.zeros(shape), torch.zeros(shape)):
        with pytest.raises(ValueError, match=r'pose must have shape \(\.\.\., 17, 3\), got') as error:
            function(array)
        assert str(shape) in str(error.value)


def test_the_input_is_not_changed():
    pose = poses(2)
    before = pose.copy()
    canonicalise(pose), mirror(pose), root_centre(pose), place(pose, 1.0, [1, 2, 3])
    np.testing.assert_array_equal(pose, before)
