"""Guards of the renderer: a slow loop, batches, threads, cameras, and what may not show in a picture."""

import numpy as np
import pytest
import torch

from mvssl.cameras import crop_camera, project, ring, virtual_camera
from mvssl.sources.bodies import CASUAL, SPORT, Body, Build, bone_maps, make_body, make_skin, rest_points
from mvssl.sources.motion import ACTIONS, generate, make_style
from mvssl.sources.rendering import (
    Backdrop,
    Box,
    Light,
    Room,
    chair,
    make_room,
    on_screen,
    photograph,
    rasterise,
    room_view,
)
from mvssl.sources.synthetic import crop_boxes


@pytest.fixture(scope='module')
def rig():
    return ring(3, radius=(4500, 5000, 4700), height=(1500, 1400, 1600), size=(250, 250), focal_px=286.0)


@pytest.fixture(scope='module')
def skin():
    return make_skin(Body(), step_mm=45)


def points_of(action, n=4, seed=0):
    rng = np.random.default_rng(seed)
    return torch.tensor(generate(action, make_style(rng), n_frames=n * 50, rng=rng).points())[::50]


def crops_of(rig, points, side):
    return crop_camera(rig, crop_boxes(points, rig, np.random.default_rng(0)), side)[0]


def slow_rasterise(x, y, depth, faces, side, samples):
    "(picture, row, column) of a sample -> nearest face, in float64, one triangle and sample at a time."
    found = {}
    for b in range(len(x)):
        for f, face in enumerate(faces.tolist()):
            p = [np.array([float(x[b, v]), float(y[b, v])]) for v in face]
            M = np.stack([p[1] - p[0], p[2] - p[0]], axis=1)
            if np.linalg.det(M) >= 0:
                continue
            for row in range(side * samples):
                for column in range(side * samples):
                    b1, b2 = np.linalg.solve(M, ((column + 0.5) / samples - 0.5, (row + 0.5) / samples - 0.5) - p[0])
                    if min(b1, b2, 1 - b1 - b2) < 0:
                        continue
                    near = sum(w * float(depth[b, v]) for w, v in zip((1 - b1 - b2, b1, b2), face))
                    if near < found.get((b, row, column), (np.inf,))[0]:
                        found[b, row, column] = near, f
    return {key: f for key, (_, f) in found.items()}


@pytest.mark.parametrize('samples, side', [(1, 7), (2, 8), (3, 5)])
@pytest.mark.parametrize('seed', [0, 1])
def test_rasterise_is_the_slow_loop(samples, side, seed):
    g = torch.Generator().manual_seed(seed)
    x, y = (torch.rand(3, 20, generator=g, dtype=torch.float64) * 2 * side - side / 2 for _ in range(2))
    depth = torch.rand(3, 20, generator=g, dtype=torch.float64) * 3000 + 500
    faces = torch.stack([torch.randperm(20, generator=g)[:3] for _ in range(25)])
    sample, number, b1, b2 = rasterise(x.float(), y.float(), depth.float(), faces, side, samples)
    ours = {}
    for s, f in zip(sample.tolist(), number.tolist()):
        picture, rest = divmod(s, (side * samples) ** 2)
        pixel, place = divmod(rest, samples**2)
        ours[picture, pixel // side * samples + place // samples, pixel % side * samples + place % samples] = (
            f - picture * len(faces)
        )
    expected = slow_rasterise(x, y, depth, faces, side, samples)
    assert expected and ours == expected
    assert (sample.diff() > 0).all() and (b1 > -1e-3).all() and (b2 > -1e-3).all()


def test_nothing_on_the_screen(rig, skin):
    points = points_of('Waiting')[:1] + torch.tensor([0.0, 0, 0])
    away = crop_camera(rig, torch.tensor([-225.0, -225, -200, -200]).expand(1, 3, 4), 16)[0].to(torch.float32)
    vertices, _ = skin.posed(points)
    assert all(len(part) == 0 for part in rasterise(*on_screen(vertices, away), skin.faces, 16))


def test_covered_area_is_the_polygon(rig):
    "A flat square of known size: its share of the picture is its projected area."
    x, y = torch.tensor([[3.3, 3.3, 11.8, 11.8]]), torch.tensor([[2.1, 9.9, 9.9, 2.1]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    sample = rasterise(x, y, torch.ones(1, 4), faces, side=16, samples=8)[0]
    assert len(sample) / 64 == pytest.approx(8.5 * 7.8, rel=0.02)


def test_batches_and_threads_change_no_byte(rig, skin):
    points = points_of('Directions', 5)
    backdrop = Backdrop(make_room(np.random.default_rng(0), rig.centre), rig, scale=0.8)
    one = photograph(skin, points, crops_of(rig, points, 40), backdrop, 40, batch=1)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        many = photograph(skin, points, crops_of(rig, points, 40), backdrop, 40, batch=5)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(one, many)


@pytest.mark.parametrize('action', ACTIONS)
def test_joints_are_on_the_person_in_every_action(rig, action):
    body = make_body(np.random.default_rng(len(action)), SPORT if len(action) % 2 else CASUAL)
    rng = np.random.default_rng(3)
    points = torch.tensor(generate(action, make_style(rng), n_frames=60, rng=rng, hz=10).points(body.proportions))[
        5::18
    ]
    crops = crops_of(rig, points, 96)
    _, share = photograph(
        make_skin(body, step_mm=45), points, crops, Backdrop(Room(), rig, scale=0.4), 96, coverage=True
    )
    near = torch.nn.functional.max_pool2d(share.flatten(0, 1)[:, None], 3, stride=1, padding=1)[:, 0].unflatten(
        0, share.shape[:2]
    )
    pixel = project(points[:, None, :17].double(), crops).round().long()
    inside = near[torch.arange(len(points))[:, None, None], torch.arange(3)[:, None], pixel[..., 1], pixel[..., 0]] > 0
    assert inside.all(), f'{(~inside).sum()} joints beside the body'
    assert share[:, :, 0].max() == 0 and share[:, :, -1].max() == 0, 'the crop cuts the person'


def test_a_turned_camera_sees_the_same_room(rig, skin):
    room = make_room(np.random.default_rng(1), rig.centre)
    box = torch.tensor([38.0, 63, 163, 188]).expand(1, 3, 4)
    turned = virtual_camera(rig, box, 64)[0]
    looked_up = Backdrop(room, rig, scale=1.6).crops(turned.to(torch.float32), 64)
    drawn = torch.stack([room_view(room, camera) for camera in turned[0]])
    assert (looked_up - drawn)[:, :3].abs().mean() < 0.015


def test_far_from_the_person_there_is_only_the_room(rig, skin):
    points = points_of('Waiting')[:1]
    backdrop = Backdrop(make_room(np.random.default_rng(0), rig.centre), rig, scale=1.6)
    crops = crops_of(rig, points, 64)
    picture, share = photograph(skin, points, crops, backdrop, 64, coverage=True)
    room = backdrop.crops(crops.to(torch.float32), 64)
    unshadowed = (share.flatten(0, 1) == 0) & (room[:, 3] == 0)
    expected = room[:, :3].permute(0, 2, 3, 1)[unshadowed] * 255
    assert unshadowed.float().mean() > 0.2
    assert (picture.flatten(0, 1)[unshadowed].float() - expected).abs().max() <= 0.51


def test_the_person_darkens_the_floor(rig, skin):
    points = points_of('Waiting')[:1]
    backdrop = Backdrop(Room(floor='carpet'), rig, scale=1.6)
    crops = crops_of(rig, points, 64)
    picture, share = photograph(skin, points, crops, backdrop, 64, coverage=True)
    room = backdrop.crops(crops.to(torch.float32), 64)
    floor = (share.flatten(0, 1) == 0) & (room[:, 3] == 1)
    ratio = (picture.flatten(0, 1).float().mean(-1) / 255 / room[:, :3].mean(1))[floor]
    assert ratio.max() < 1.02 and ratio.min() < 0.75


def test_tones_scale_views(rig, skin):
    points = points_of('Waiting')[:2]
    crops, room = crops_of(rig, points, 32), Room(floor='carpet')
    plain = photograph(skin, points, crops, Backdrop(room, rig, scale=0.8), 32).float()
    toned = photograph(
        skin, points, crops, Backdrop(room, rig, scale=0.8, tones=[[1.0, 1, 1], [0.5, 1, 1], [1, 1, 0.8]]), 32
    ).float()
    assert (toned[:, 0] - plain[:, 0]).abs().max() == 0
    assert (toned[:, 1, ..., 0] - 0.5 * plain[:, 1, ..., 0]).abs().max() <= 1.01
    assert (toned[:, 2, ..., 2] - 0.8 * plain[:, 2, ..., 2]).abs().max() <= 1.01


def test_light_and_room_do_not_depend_on_the_view(rig, skin):
    "The same vertex has the same brightness for all cameras; two rooms differ."
    _, normals = skin.posed(points_of('Walking'))
    assert Light().on(normals).shape == normals.shape[:2] and (Light().on(normals) > 0.2).all()
    one, two = (room_view(make_room(np.random.default_rng(i), rig.centre), rig[0]) for i in (0, 1))
    assert (one - two).abs().mean() > 0.02


def test_a_chair_hides_who_sits_behind_it(rig, skin):
    points = torch.tensor(rest_points(), dtype=torch.float32)[None]
    crops = crops_of(rig, points, 48)
    backdrop = Backdrop(Room(), rig, scale=0.4)
    eye = rig.centre[0]
    wall = chair(float(eye[0]) * 0.3, float(eye[1]) * 0.3, 0.0, 1500.0)
    without, with_chair = (photograph(skin, points, crops, backdrop, 48, mesh=m) for m in (None, wall))
    assert (without[0, 0] != with_chair[0, 0]).any(-1).float().mean() > 0.02


def test_room_refuses_an_unknown_floor(rig):
    with pytest.raises(ValueError, match="floor must be 'planks', 'tiles' or 'carpet', got 'lava'"):
        room_view(Room(floor='lava'), rig[0])


def test_boxes_are_drawn_wherever_they_stand(rig):
    "Clipping a box to its rectangle may not change the picture: compare with a room of boxes cut into small ones."
    big = Box((-1500, -1500, 0), (-700, -900, 1200), (0.8, 0.2, 0.2))
    halves = (
        Box((-1500, -1500, 0), (-1100, -900, 1200), (0.8, 0.2, 0.2)),
        Box((-1100, -1500, 0), (-700, -900, 1200), (0.8, 0.2, 0.2)),
    )
    whole, split = (room_view(Room(boxes=boxes), rig[0]) for boxes in ((big,), halves))
    same = (whole[:3] - split[:3]).abs().amax(0) < 1e-3
    is_box = (whole[0] - whole[1]) > 0.3
    assert is_box.sum() > 30 and same[is_box].float().mean() > 0.99


def test_bones_stretch_but_do_not_tear():
    "A pose with other limb lengths than the rest: joints stay joined."
    rest = torch.tensor(rest_points())
    other = torch.tensor(rest_points(Body().proportions.scaled(legs=1.1, arms=0.9)))[None]
    maps, _ = bone_maps(other, rest)
    from mvssl.sources.bodies import AT, BONE, BONES, PARENT

    for name in PARENT:
        for which in (0, 1):
            point = torch.cat([rest[AT[BONES[name][which]]], torch.ones(1)])
            torch.testing.assert_close(point @ maps[0, BONE[name]], other[0, AT[BONES[name][which]]], atol=1e-6, rtol=0)


def test_heads_follow_noses_and_survive_without():
    "Turning the nose turns the head; a nose on the neck's line (some motion capture) falls back on the chest."
    from mvssl.sources.bodies import AT, trunk_frames

    rest = torch.tensor(rest_points())
    straight = rest.clone()
    straight[AT['Neck/Nose'], 0] = (
        straight[AT['Thorax'], 0] + (straight[AT['Head'], 0] - straight[AT['Thorax'], 0]) * 0.5
    )
    left = rest.clone()
    offset = left[AT['Neck/Nose']] - left[AT['Thorax']]
    left[AT['Neck/Nose']] = left[AT['Thorax']] + torch.tensor([0.0, float(offset[0]), float(offset[2])])
    assert trunk_frames(rest)['head'][0, 0] > 0.9  # forward is +x
    assert trunk_frames(left)['head'][1, 0] > 0.7  # now +y, the left
    torch.testing.assert_close(
        trunk_frames(straight)['head'][:, 1], trunk_frames(straight)['chest'][:, 1], atol=1e-6, rtol=0
    )


@pytest.mark.parametrize('seed', range(6))
def test_bodies_are_closed_and_weighted(seed):
    skin = make_skin(make_body(np.random.default_rng(seed)), step_mm=40)
    faces = skin.faces.numpy()
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    there = {}
    for a, b in edges.tolist():
        there[a, b] = there.get((a, b), 0) + 1
    assert all(there.get((b, a)) == n for (a, b), n in there.items()), 'an edge without its opposite: a gap'
    torch.testing.assert_close(skin.weights.sum(1), torch.ones(len(skin.weights)))
    assert 0 <= skin.texture.min() and skin.texture.max() <= 1.1 and skin.faces.max() == len(skin.vertices) - 1


def test_girth_shows(rig):
    points = torch.tensor(rest_points(), dtype=torch.float32)[None]
    crops = crops_of(rig, points, 48)
    thin, thick = (
        photograph(
            make_skin(Body(build=Build(girth=g)), 45),
            points,
            crops,
            Backdrop(Room(), rig, scale=0.4),
            48,
            coverage=True,
        )[1].sum()
        for g in (0.85, 1.2)
    )
    assert thick > 1.1 * thin


def test_an_empty_picture_is_the_room(rig, skin):
    points = points_of('Waiting')[:1]
    away = crop_camera(rig, torch.tensor([-60.0, -60, 0, 0]).expand(1, 3, 4), 16)[0]
    backdrop = Backdrop(Room(), rig, scale=0.8)
    picture, share = photograph(skin, points, away, backdrop, 16, coverage=True)
    assert share.max() == 0
    expected = backdrop.crops(away.to(torch.float32), 16)
    ceiling = expected[:, 3] == 0
    assert (
        picture.flatten(0, 1)[ceiling].float() - expected[:, :3].permute(0, 2, 3, 1)[ceiling] * 255
    ).abs().max() <= 0.51
