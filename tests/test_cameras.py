"""Projection against scalar loops, lenses, rigs, and crops whose cameras must agree with their pixels."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from mvssl.cameras import (
    Camera,
    backproject,
    crop_camera,
    distort,
    human36m_camera,
    intrinsics,
    look_at,
    project,
    ring,
    square_box,
    to_camera,
    transform,
    undistort,
    virtual_camera,
)

K1, K2, K3, P1, P2 = -0.21, 0.24, -0.004, -0.0016, 0.0011  # invented; Human3.6M's order of magnitude
COEFFICIENTS = [K1, K2, P1, P2, K3]
MODELS = [None, 'opencv', 'human36m']


def some_rig(model=None, dtype=torch.float64, n=3):
    "Cameras with unequal focal lengths, skew and unequal picture sizes."
    K = torch.tensor([[1150.0, 3, 510], [0, 1140, 495], [0, 0, 1]], dtype=torch.float64)
    R, t = look_at([[4000, 100, 1500], [-300, 4500, 2500], [-3800, -2000, 700]][:n], [0, 0, 900])
    lens = {} if model is None else dict(distortion=COEFFICIENTS, model=model)
    return Camera(K, R, t, [[1000, 1002], [1000, 1000], [1920, 1080]][:n], **lens).to(dtype)


def some_points(*batch, n=17, seed=0):
    return torch.randn(
        *batch, n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    ) * 350 + torch.tensor([0, 0, 900])


def slow_project(X, K, R, t, model):
    "One point, scalar by scalar, from the formulas."
    xc, yc, zc = (R[i][0] * X[0] + R[i][1] * X[1] + R[i][2] * X[2] + t[i] for i in range(3))
    x, y = xc / zc, yc / zc
    r2 = x * x + y * y
    radial = 1 + K1 * r2 + K2 * r2 * r2 + K3 * r2 * r2 * r2
    if model == 'opencv':
        x, y = x * radial + 2 * P1 * x * y + P2 * (r2 + 2 * x * x), y * radial + P1 * (r2 + 2 * y * y) + 2 * P2 * x * y
    elif model == 'human36m':
        tangential = P1 * y + P2 * x
        x, y = x * (radial + tangential) + P2 * r2, y * (radial + tangential) + P1 * r2
    return [K[0][0] * x + K[0][1] * y + K[0][2], K[1][1] * y + K[1][2]]


# ---- projection ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('model', MODELS)
def test_project_is_the_formula(model):
    rig, points = some_rig(model), some_points(2, 1)
    expected = [
        [
            [slow_project(X, K, R, t, model) for X in pose[0]]
            for K, R, t in zip(rig.K.tolist(), rig.R.tolist(), rig.t.tolist())
        ]
        for pose in points.tolist()
    ]
    assert_close(project(points, rig), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-9)


def test_models_differ_by_the_extra_tangential_term():
    rig = some_rig('opencv', n=1)[0]
    xyz = to_camera(some_points(), rig)
    x, y = (xyz[:, :2] / xyz[:, 2:]).T
    away = torch.stack((1150 * x + 3 * y, 1140 * y), -1) * (P1 * y + P2 * x)[:, None]
    assert_close(
        project(some_points(), rig) - project(some_points(), replace(rig, model='human36m')), away, rtol=0, atol=1e-9
    )


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_dtype_is_the_cameras(dtype):
    rig = some_rig('opencv', dtype)
    assert {part.dtype for part in (rig.K, rig.R, rig.t, rig.distortion, rig.centre)} == {
        dtype
    } and rig.size.dtype == torch.int64
    for points in (some_points(1), some_points(1).float(), some_points(1).numpy(), some_points(1).tolist()):
        assert project(points, rig).dtype == dtype
        assert_close(project(points, rig).double(), project(points, some_rig('opencv')), rtol=0, atol=2e-3)
    crop, to_picture = crop_camera(rig, [400, 300, 600, 500], 64)
    assert crop.K.dtype == to_picture.dtype == dtype
    turned, to_ideal = virtual_camera(rig, [400, 300, 600, 500], 64)
    assert turned.K.dtype == to_ideal.dtype == turned.R.dtype == dtype


def test_autocast_and_reduced_matmul_change_nothing():
    rig, points = some_rig('opencv', torch.float32), some_points(1).float()
    expected = project(points, virtual_camera(rig, [400, 300, 600, 500], 64)[0])
    with torch.autocast('cpu', torch.bfloat16):
        assert_close(project(points, virtual_camera(rig, [400, 300, 600, 500], 64)[0]), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    'depth, seen', [(1000, True), (1e-3, True), (0, False), (-1e-3, False), (-1000, False), (math.nan, False)]
)
def test_only_what_is_in_front_has_a_pixel(depth, seen):
    camera = Camera(intrinsics(1000.0, (1000, 1000)), torch.eye(3), torch.zeros(3), (1000, 1000), COEFFICIENTS)
    assert project([[0, 0, depth]], camera).isfinite().all() == seen
    assert not project([[0, 0, depth]], camera).isinf().any()
    assert project([[10, 20, depth], [0, 0, 1000]], camera)[1].isfinite().all()


@pytest.mark.parametrize('model', MODELS)
def test_backproject_is_the_inverse(model):
    rig, points = some_rig(model), some_points(4, 1)
    assert_close(
        backproject(project(points, rig), to_camera(points, rig)[..., 2], rig),
        points.expand(4, 3, 17, 3),
        rtol=0,
        atol=1e-6,
    )
    assert_close(backproject([[0, 0], [999, 999]], 0.0, rig), rig.centre[:, None].expand(3, 2, 3))


def test_gradients():
    camera = some_rig('human36m', n=1)[0]
    points = some_points(n=3).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: project(p, camera), points)
    assert torch.autograd.gradcheck(
        lambda t, d: project(points.detach(), replace(camera, t=t, distortion=d)),
        (camera.t.clone().requires_grad_(), camera.distortion.clone().requires_grad_()),
    )
    pixels = project(points, camera).detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda p: undistort(p, camera), pixels)


# ---- lenses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('model', ['opencv', 'human36m'])
@pytest.mark.parametrize('dtype, atol', [(torch.float32, 1e-2), (torch.float64, 1e-8)])
@pytest.mark.parametrize(
    'coefficients',
    [
        COEFFICIENTS,
        [-0.3, 0.1, 0.001, -0.001],
        [0.12, -0.03, 0, 0, 0],
        [0, 0, 0.004, -0.003, 0],
        [-0.0007, 0.002, 1e-5, 1e-5],
    ],
)
def test_undistort_round_trip(model, dtype, atol, coefficients):
    camera = Camera(
        intrinsics(1145.0, (1000, 1000)), torch.eye(3), torch.zeros(3), (1000, 1000), coefficients, model
    ).to(dtype)
    ideal = torch.cartesian_prod(*[torch.linspace(0, 999, 21, dtype=dtype)] * 2)
    bent = distort(ideal, camera)
    assert (bent - ideal).abs().max() > 0.01
    assert_close(undistort(bent, camera), ideal, rtol=0, atol=atol)
    assert_close(distort(undistort(ideal, camera), camera), ideal, rtol=0, atol=atol)


def test_pixels_no_lens_makes_are_nan():
    camera = Camera(intrinsics(1000.0, (1001, 1001)), torch.eye(3), torch.zeros(3), (1001, 1001), [-0.3, 0, 0, 0])
    radius = torch.linspace(0, 2000, 201, dtype=torch.float64)
    reachable = radius < 1000 * 2 / 3 * math.sqrt(1 / 0.9) - 5  # largest r (1 - 0.3 r^2); slow just below it
    back = undistort(torch.stack((500 + radius, torch.full_like(radius, 500)), -1), camera)
    beyond = radius > 1000 * 2 / 3 * math.sqrt(1 / 0.9)
    assert back[beyond].isnan().all() and back[reachable].isfinite().all()
    assert (back[reachable, 0] - 500 < 1000 * math.sqrt(1 / 0.9)).all()  # the branch that belongs to the picture


def test_no_lens_is_the_zero_lens():
    without, zero = some_rig(), replace(some_rig(), distortion=np.zeros(5))
    assert_close(project(some_points(1), without), project(some_points(1), zero))
    assert_close(undistort(project(some_points(1), without), without), project(some_points(1), without))
    assert_close(
        replace(zero, distortion=[0.1, 0.2, 0.3, 0.4]).distortion[0],
        torch.tensor([0.1, 0.2, 0.3, 0.4, 0], dtype=torch.float64),
    )


def test_human36m_camera():
    rig = some_rig('human36m')
    theirs = human36m_camera(
        rig.R.numpy(), rig.centre.numpy(), [1150, 1140], [[510, 495]] * 3, [K1, K2, K3], [P1, P2], (1000, 1000)
    )
    K = rig.K.clone()
    K[:, 0, 1] = 0  # their intrinsics have no skew
    assert_close(theirs.K, K)
    for name in ('R', 't', 'distortion', 'centre'):
        assert_close(getattr(theirs, name), getattr(rig, name))
    assert theirs.model == 'human36m'
    with pytest.raises(ValueError, match=r'k must have shape \(\.\.\., 3\), got \(2,\)'):
        human36m_camera(np.eye(3), [0, 0, 0], [1, 1], [0, 0], [K1, K2], [P1, P2], (10, 10))


# ---- batches ---------------------------------------------------------------------------------------------------------


def test_fields_broadcast_and_index_like_tensors():
    rig = some_rig('opencv')
    assert rig.shape == (3,) and rig.distortion.shape == (3, 5) and rig.K.shape == (3, 3, 3)
    views = torch.tensor([2, 0, 0, 1])
    for index, shape in [
        (1, ()),
        (slice(1, 3), (2,)),
        (views, (4,)),
        (..., (3,)),
        ((slice(None), None), (3, 1)),
        (torch.tensor([True, False, True]), (2,)),
        ([0, 2], (2,)),
    ]:
        picked = rig[index]
        assert picked.shape == shape and picked.model == 'opencv'
        assert_close(picked.t, rig.t[index])
    assert [len(camera.shape) for camera in rig] == [0, 0, 0]
    with pytest.raises(IndexError):
        rig[3]
    assert_close(project(some_points(4), rig[views]), project(some_points(4)[:, None], rig)[range(4), views])
    grid = rig[:, None][:, [0, 0]].reshape(-1)
    assert grid.shape == (6,) and grid.reshape(3, 2)[2, 1].t.tolist() == rig[2].t.tolist()


def test_numpy_input_is_copied():
    R = np.eye(3)
    camera = Camera(np.eye(3), R[::-1][::-1], np.zeros(3), (10, 10))
    R[:] = 7
    assert_close(camera.R, torch.eye(3, dtype=torch.float64))
    with pytest.raises(AttributeError):
        camera.t = 0


# ---- refusals --------------------------------------------------------------------------------------------------------

GOOD = dict(K=np.diag([100.0, 100, 1]), R=np.eye(3), t=np.zeros(3), size=(64, 64))
CYCLE = np.eye(3)[[1, 2, 0]]


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(R=np.diag([1.0, 1, -1])), 'R must be a rotation, not a reflection'),
        (dict(R=CYCLE[[1, 0, 2]]), 'R must be a rotation, not a reflection'),
        (dict(R=np.eye(3) * 1.01), 'R must be orthonormal'),
        (dict(R=np.eye(3) + 0.01), 'R must be orthonormal'),
        (dict(R=np.full((3, 3), np.nan)), 'R must be orthonormal'),
        (dict(R=np.stack([np.eye(3), 2 * np.eye(3)])), r'R must be orthonormal, got \[\[2.0'),
        (dict(R=np.eye(4)), r'R must have shape \(\.\.\., 3, 3\), got \(4, 4\)'),
        (dict(R=np.zeros(3)), r'R must have shape \(\.\.\., 3, 3\), got \(3,\)'),
        (dict(K=np.diag([-100.0, 100, 1])), 'K must be'),
        (dict(K=np.diag([100.0, 100, 2])), 'K must be'),
        (dict(K=np.diag([100.0, 100, 1]).T + np.tril(np.ones((3, 3)), -1)), 'K must be'),
        (dict(K=np.diag([np.nan, 100, 1])), 'K must be'),
        (dict(K=np.eye(3)[:2]), r'K must have shape \(\.\.\., 3, 3\), got \(2, 3\)'),
        (dict(t=np.zeros((3, 1))), r't must have shape \(\.\.\., 3\), got \(3, 1\)'),
        (dict(t=np.array([0, np.inf, 0])), 't must be finite'),
        (dict(size=(0, 64)), 'size must be positive'),
        (dict(size=64), r'size must have shape \(\.\.\., 2\), got \(\)'),
        (dict(distortion=np.zeros(8)), r'distortion must have shape \(\.\.\., 5\), got \(8,\)'),
        (dict(distortion=[np.nan] * 5), 'distortion must be finite'),
        (dict(model='fisheye'), "model must be 'opencv' or 'human36m', got 'fisheye'"),
        (dict(R=np.stack([np.eye(3)] * 2), t=np.zeros((3, 3))), r'batch shapes do not fit: K \(\), R \(2,\), t \(3,\)'),
    ],
)
def test_what_is_no_camera_is_refused(change, message):
    assert Camera(**GOOD).shape == () and Camera(**GOOD | dict(R=CYCLE)).shape == ()
    with pytest.raises(ValueError, match=message):
        Camera(**GOOD | change)


@pytest.mark.parametrize('crop', [crop_camera, virtual_camera])
@pytest.mark.parametrize(
    'box, side, message',
    [
        ([0, 0, 10, 12], 64, r'box must be square .*, got \[0.0, 0.0, 10.0, 12.0\]'),
        ([10, 10, 0, 0], 64, 'box must be square with left < right'),
        ([5, 5, 5, 5], 64, 'box must be square with left < right'),
        ([np.nan] * 4, 64, 'without NaN'),
        ([[0, 0, 10, 10], [0, 0, 10, 99]], 64, r'got \[0.0, 0.0, 10.0, 99.0\]'),
        ([0, 0, 10], 64, r'box must have shape \(\.\.\., 4\), got \(3,\)'),
        ([0, 0, 10, 10], 0, 'side must be positive, got 0'),
        ([0, 0, 10, 10], -3, 'side must be positive, got -3'),
        ([[0, 0, 10, 10]] * 2, 64, r'batch shapes do not fit: box \(2,\), camera \(3,\)'),
    ],
)
def test_bad_boxes_are_refused(crop, box, side, message):
    camera = some_rig() if 'batch' in message else some_rig()[0]
    with pytest.raises(ValueError, match=message):
        crop(camera, box, side)


def test_a_box_outside_the_lens_is_refused():
    camera = Camera(intrinsics(1000.0, (1001, 1001)), torch.eye(3), torch.zeros(3), (1001, 1001), [-0.3, 0, 0, 0])
    with pytest.raises(ValueError, match='box must lie where the camera can be turned to'):
        virtual_camera(camera, [1400, 400, 1600, 600], 64)


@pytest.mark.parametrize(
    'call, message',
    [
        (lambda c: project(np.zeros(3), c), r'points must have shape \(\.\.\., N, 3\), got \(3,\)'),
        (lambda c: project(np.zeros((5, 2)), c), r'points must have shape \(\.\.\., N, 3\), got \(5, 2\)'),
        (lambda c: project(np.zeros((5, 17, 3)), c), r'batch shapes do not fit: points \(5,\), camera \(3,\)'),
        (lambda c: undistort(np.zeros((5, 3)), c), r'pixels must have shape \(\.\.\., N, 2\), got \(5, 3\)'),
        (lambda c: square_box(np.zeros(4)), r'points must have shape \(\.\.\., N, 2\), got \(4,\)'),
        (lambda c: square_box(np.zeros((5, 2)), 0), 'padding must be positive, got 0'),
        (lambda c: transform(np.zeros((5, 2)), np.eye(2)), r'matrix must have shape \(\.\.\., 3, 3\), got \(2, 2\)'),
        (lambda c: look_at([0, 0, 0], [0, 0, 900]), 'target must not lie straight above or below the eye'),
        (lambda c: look_at([[9, 9, 9], [1, 2, 3]], [1, 2, 3]), 'nor at it'),
        (lambda c: look_at([1, 2], [1, 2, 3]), r'eye must have shape \(\.\.\., 3\), got \(2,\)'),
        (lambda c: ring(0, 5000, 1500), 'n must be at least 1, got 0'),
        (lambda c: ring(1, 5000, [1500] * 8), r'height must be a number or have shape \(1,\), got \(8,\)'),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(some_rig())


# ---- rigs ------------------------------------------------------------------------------------------------------------


def test_look_at_is_upright_and_aims():
    generator = torch.Generator().manual_seed(0)
    eye, target = (torch.randn(50, 3, dtype=torch.float64, generator=generator) * 3000 for _ in range(2))
    R, t = look_at(eye, target)
    camera = Camera(intrinsics(1000.0, (800, 600)), R, t, (800, 600))
    assert_close(camera.centre, eye)
    assert_close(project(target[:, None], camera), torch.tensor([399.5, 299.5]).double().expand(50, 1, 2))
    assert_close(R[:, 0, 2], torch.zeros(50).double())  # x is horizontal
    above = project(target[:, None] + torch.tensor([0, 0, 1.0]), camera)
    assert (above[..., 1] < 299.5).all()  # up in the world is up in the picture
    assert_close(to_camera(target[:, None], camera)[:, 0, 2], (target - eye).norm(dim=-1))


def test_x_is_to_the_right():
    camera = Camera(intrinsics(1000.0, (1001, 1001)), *look_at([0, -4000, 0], [0, 0, 0]), (1001, 1001))
    assert_close(project([[1000, 0, 500]], camera), torch.tensor([[750, 375]]).double())


def test_ring():
    rig = ring(4, 5000, 1500, target=[100, 200, 900], size=(1000, 800), start_deg=0)
    assert_close(
        rig.centre,
        torch.tensor([[5100, 200, 1500], [100, 5200, 1500], [-4900, 200, 1500], [100, -4800, 1500]]).double(),
        rtol=0,
        atol=1e-9,
    )
    assert_close(project([[100, 200, 900]], rig), torch.tensor([499.5, 399.5]).double().expand(4, 1, 2))
    mixed = ring(2, [4000, 6000], [900, 3000], focal_px=[1000, 2000])
    assert_close(mixed.centre[:, 2], torch.tensor([900, 3000.0]).double())
    assert_close(mixed.K[:, 0, 0], torch.tensor([1000, 2000.0]).double())


@pytest.mark.parametrize('fov', [10, 47.18, 90, 150])
def test_intrinsics_span_their_angle_of_view(fov):
    focal_px = 640 / 2 / math.tan(math.radians(fov) / 2)
    camera = Camera(intrinsics(focal_px, (640, 480)), torch.eye(3), torch.zeros(3), (640, 480))
    left, right = backproject([[-0.5, 239.5], [639.5, 239.5]], 1.0, camera)
    assert math.degrees(math.acos(torch.cosine_similarity(left, right, dim=0))) == pytest.approx(fov)


# ---- crops -----------------------------------------------------------------------------------------------------------


def test_square_box():
    points = torch.tensor([[0, 0], [10, 40], [math.nan, 500]])
    assert square_box(points, 1.0).tolist() == [-15, 0, 25, 40]
    assert square_box(points, 1.5).tolist() == [-25, -10, 35, 50]
    box = torch.tensor([[10, 20, 30, 80.0]])
    assert square_box(box.reshape(-1, 2, 2), 1.0).tolist() == [[-10, 20, 50, 80]]
    batch = torch.stack([points, torch.full((3, 2), math.nan), torch.ones(3, 2)])
    boxes = square_box(batch)
    assert boxes[1].isnan().all() and boxes[2].tolist() == [1, 1, 1, 1] and boxes.shape == (3, 4)


@pytest.mark.parametrize('model', MODELS)
@pytest.mark.parametrize('dtype, atol', [(torch.float32, 2e-2), (torch.float64, 1e-8)])
def test_crop_cameras_agree_with_the_reprojected_pixels(model, dtype, atol):
    "K_new R_new (X - C) = the source's 2D projection taken through the crop's map, for T x V crops in one call."
    rig, points = some_rig(model, dtype), some_points(5, 1) + torch.randn(5, 1, 1, 3) * 300
    pixels = project(points, rig)
    box = square_box(pixels)

    crop, to_picture = crop_camera(rig, box, 96)
    assert crop.shape == (5, 3) and crop.model == rig.model and (crop.distortion is None) == (model is None)
    assert_close(transform(pixels, torch.linalg.inv(to_picture)), project(points, crop), rtol=0, atol=atol)
    assert_close(crop.centre, rig.centre.expand(5, 3, 3), rtol=0, atol=100 * atol)
    if model is None:
        assert_close(pinhole(crop, points), transform(pixels, torch.linalg.inv(to_picture)), rtol=0, atol=atol)

    turned, to_ideal = virtual_camera(rig, box, 96)
    assert turned.shape == (5, 3) and turned.distortion is None
    ideal = undistort(pixels, rig)
    assert_close(transform(ideal, torch.linalg.inv(to_ideal)), pinhole(turned, points), rtol=0, atol=atol)
    assert_close(pinhole(turned, points), project(points, turned), rtol=0, atol=atol)
    assert_close(distort(transform(project(points, turned), to_ideal), rig), pixels, rtol=0, atol=5 * atol)
    assert_close(turned.centre, rig.centre.expand(5, 3, 3), rtol=0, atol=100 * atol)
    for view in (crop, turned):
        assert (view.size == 96).all()
        inside = project(points, view)
        assert (inside > -0.5).all() and (inside < 95.5).all()


def pinhole(camera, points):
    "K R (X - C), homogeneous."
    uvw = (camera.K @ camera.R) @ (points.to(camera.K) - camera.centre[..., None, :]).mT
    return (uvw[..., :2, :] / uvw[..., 2:, :]).mT


def test_box_edges_are_crop_edges():
    box, side = torch.tensor([100, 50, 420, 370]).double(), 64
    crop, to_picture = crop_camera(some_rig()[0], box, side)
    corners = torch.tensor([[-0.5, -0.5], [side - 0.5, side - 0.5]]).double()
    assert_close(transform(corners, to_picture), box.reshape(2, 2))
    whole, identity = crop_camera(some_rig()[0], [-0.5, -0.5, 999.5, 999.5], 1000)
    assert_close(identity, torch.eye(3).double())
    assert_close(whole.K, some_rig()[0].K)


def test_crop_of_a_crop_is_a_crop():
    camera = some_rig('human36m')[0]
    half, to_whole = crop_camera(camera, [100, 100, 612, 612], 256)
    nested, to_half = crop_camera(half, [31.5, 31.5, 159.5, 159.5], 64)
    left, right = transform([[31.5, 31.5], [159.5, 159.5]], to_whole)
    direct, to_picture = crop_camera(camera, torch.cat((left, right)), 64)
    assert_close(nested.K, direct.K)
    assert_close(to_whole @ to_half, to_picture)


def test_virtual_camera_looks_at_the_box_centre_and_keeps_its_size():
    rig = some_rig('opencv')
    box = torch.tensor([[300, 200, 500, 400], [700, 650, 900, 850], [-50, 500, 150, 700]]).double()
    turned, to_ideal = virtual_camera(rig, box, 128)
    middle = ((box[:, :2] + box[:, 2:]) / 2)[:, None]
    assert_close(distort(transform([[63.5, 63.5]], to_ideal), rig), middle)
    assert_close(project(backproject(middle, 3000.0, rig), turned), torch.full((3, 1, 2), 63.5).double())
    left, top, right, bottom = box.unbind(-1)
    u, v = (left + right) / 2, (top + bottom) / 2
    edges = torch.stack((left, v, right, v, u, top, u, bottom), -1).unflatten(-1, (2, 2, 2))
    seen = project(backproject(edges.flatten(1, 2), 3000.0, rig), turned).unflatten(1, (2, 2))
    assert_close(
        (seen[:, :, 1] - seen[:, :, 0]).norm(dim=-1).amax(-1), torch.full((3,), 128.0).double()
    )  # longer midline
    assert_close(turned.K[:, 0, 0], turned.K[:, 1, 1])


def test_virtual_camera_in_the_middle_is_the_plain_crop():
    camera = Camera(intrinsics(1000.0, (1001, 1001)), *look_at([4000, 0, 900], [0, 0, 900]), (1001, 1001))
    plain, to_picture = crop_camera(camera, [400, 400, 600, 600], 50)
    turned, to_ideal = virtual_camera(camera, [400, 400, 600, 600], 50)
    for name in ('K', 'R', 't'):
        assert_close(getattr(turned, name), getattr(plain, name))
    assert_close(to_ideal, to_picture)


def test_virtual_cameras_of_a_level_camera_stay_upright():
    camera = Camera(intrinsics(800.0, (1000, 1000)), *look_at([0, -4000, 1500], [0, 0, 1500]), (1000, 1000))
    for box in ([0, 0, 200, 200], [800, 700, 1000, 900], [0, 800, 200, 1000]):
        turned, _ = virtual_camera(camera, box, 64)
        assert_close(turned.R[0, 2], torch.zeros(()).double())  # x stays horizontal in the world
        assert turned.R[1, 2] < 0  # and y points down


@pytest.mark.parametrize('model', MODELS)
@pytest.mark.parametrize('which', ['plain', 'turned'])
def test_a_spot_in_the_picture_lands_where_the_crop_camera_sees_it(model, which):
    "Pictures, not formulas: paint a spot where the camera sees a point, resample, find the spot again."
    camera = some_rig(model, n=1)[0]
    point = torch.tensor([[300.0, 900, 1600]]).double()
    u, v = project(point, camera)[0].tolist()
    rows, columns = torch.meshgrid(torch.arange(1002.0), torch.arange(1000.0), indexing='ij')
    picture = torch.exp(-((columns - u) ** 2 + (rows - v) ** 2) / (2 * 12**2)).double()
    box, side = [u - 130, v - 90, u + 70, v + 110], 80
    view, to_picture = (crop_camera if which == 'plain' else virtual_camera)(camera, box, side)
    i, j = torch.meshgrid(torch.arange(side), torch.arange(side), indexing='ij')
    source = transform(torch.stack((j, i), -1).reshape(-1, 2), to_picture)
    if which == 'turned':
        source = distort(source, camera)
    grid = (2 * source + 1) / camera.size - 1  # integer = pixel centre: align_corners=False
    crop = torch.nn.functional.grid_sample(picture[None, None], grid.reshape(1, side, side, 2), align_corners=False)[
        0, 0
    ]
    spot = torch.stack(((crop * j).sum(), (crop * i).sum())) / crop.sum()
    assert_close(spot, project(point, view)[0], rtol=0, atol=0.1)
