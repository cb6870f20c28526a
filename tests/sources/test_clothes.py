"""Guards of clothes: solid, seen alike by all cameras, and never in the way of what is known about the pose."""

import numpy as np
import pytest
import torch

from mvssl.cameras import crop_camera, project, ring
from mvssl.sources.bodies import Body, Look, make_body, make_skin
from mvssl.sources.clothes import BAGS, GARMENTS, GYM, HATS, PRINTS, STREET, Clothes, Print, Skirt, dress
from mvssl.sources.motion import ACTIONS, generate, make_style
from mvssl.sources.rendering import INWARD, Backdrop, Light, Room, day_light, make_room, photograph, room_surfaces
from mvssl.sources.synthetic import crop_boxes


@pytest.fixture(scope='module')
def rig():
    return ring(3, radius=(4500, 5000, 4700), height=(1500, 1400, 1600), size=(250, 250), focal_px=286.0)


def dressed(seed, habits=STREET):
    return dress(make_body(np.random.default_rng(seed)), np.random.default_rng([seed, 1]), habits)


def is_closed(faces):
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    there, opposite = (np.unique(e, axis=0, return_counts=True) for e in (edges, edges[:, ::-1]))
    return np.array_equal(there[0], opposite[0]) and np.array_equal(there[1], opposite[1])


WORN = [dict(kind=kind, length=1.5, flare_mm=110, folds=7) for kind in GARMENTS]
WORN += [dict(hat=hat) for hat in HATS] + [dict(bag=bag) for bag in BAGS]
WORN += [dict(trunk_mm=48, leg_mm=35, ankle_mm=60), dict(scarf=True, hood_down=True)]


@pytest.mark.parametrize('worn', WORN, ids=str)
def test_everything_that_can_be_worn_is_solid_and_leaves_the_joints(worn):
    skin, bare = make_skin(Body(clothes=Clothes(**worn)), 45), make_skin(Body(), 45)
    assert is_closed(skin.faces.numpy())
    assert torch.equal(skin.rest, bare.rest)
    torch.testing.assert_close(skin.weights.sum(1), torch.ones(len(skin.weights)))
    assert 0 <= skin.texture.min() and skin.texture.max() <= 1.1


@pytest.mark.parametrize('seed', range(8))
def test_whoever_is_dressed_is_solid(seed):
    assert is_closed(make_skin(dressed(seed, (STREET, GYM)[seed % 2]), 57).faces.numpy())


@pytest.mark.parametrize('action', ACTIONS)
def test_joints_are_on_the_dressed_person_and_inside_the_crop(rig, action):
    body, rng = dressed(len(action)), np.random.default_rng(3)
    motion = generate(action, make_style(rng), n_frames=60, rng=rng, hz=10)
    points = torch.tensor(motion.points(body.proportions))[5::18]
    crops = crop_camera(rig, crop_boxes(points, rig, np.random.default_rng(0)), 96)[0]
    room = Backdrop(Room(), rig, scale=0.4)
    _, share = photograph(make_skin(body, 45), points, crops, room, 96, coverage=True)
    near = torch.nn.functional.max_pool2d(share.flatten(0, 1)[:, None], 3, stride=1, padding=1)[:, 0]
    near = near.unflatten(0, share.shape[:2])
    at = project(points[:, None, :17].double(), crops).round().long()
    inside = near[torch.arange(len(points))[:, None, None], torch.arange(3)[:, None], at[..., 1], at[..., 0]] > 0
    assert inside.all(), f'{(~inside).sum()} joints beside the body'
    cut = torch.cat([share[:, :, 0], share[:, :, -1]], dim=-1)
    assert cut.sum() < 0.002 * share.sum(), 'the crop cuts more than the rim of a hat'


@pytest.mark.parametrize('worn', [dict(kind='coat', length=1.3), dict(bag='left'), dict(hat='brim')], ids=str)
def test_an_outline_is_that_of_one_solid_thing_in_every_view(rig, worn):
    "Every point of the one surface lies inside every view's outline, and no outline reaches beyond them."
    skin = make_skin(Body(clothes=Clothes(**worn)), 30)
    rng = np.random.default_rng(0)
    points = torch.tensor(generate('Walking', make_style(rng), n_frames=30, rng=rng, hz=10).points())[9:10]
    crops = crop_camera(rig, crop_boxes(points, rig, np.random.default_rng(0)), 64)[0]
    share = photograph(skin, points, crops, Backdrop(Room(), rig, scale=0.4), 64, coverage=True)[1][0]
    corners = skin.posed(points)[0][0][skin.faces].double()
    surface = torch.cat([corners.flatten(0, 1), (corners + corners.roll(1, 1)).flatten(0, 1) / 2, corners.mean(1)])
    for view, covered in enumerate(share > 0):
        at = project(surface, crops[0, view]).round().long()
        near = torch.nn.functional.max_pool2d(covered[None, None].float(), 3, stride=1, padding=1)[0, 0]
        assert (near[at[:, 1], at[:, 0]] > 0).all()
        hit = torch.zeros(64, 64)
        hit[at[:, 1], at[:, 0]] = 1
        spread = torch.nn.functional.max_pool2d(hit[None, None], 5, stride=1, padding=2)[0, 0]
        assert (spread[covered] > 0).all()


def outlines(rig, body, points):
    crops = crop_camera(rig, crop_boxes(points, rig, np.random.default_rng(0)), 64)[0]
    return photograph(make_skin(body, 36), points, crops, Backdrop(Room(), rig, scale=0.4), 64, coverage=True)[1]


@pytest.mark.parametrize(
    'worn, least',
    [
        (dict(kind='coat', length=1.4, trunk_mm=35), 1.15),
        (dict(kind='skirt', length=1.0, flare_mm=90), 1.1),
        (dict(bag='backpack'), 1.05),
        (dict(leg_mm=30, ankle_mm=55), 1.08),
        (dict(hat='brim'), 1.01),
    ],
    ids=str,
)
def test_clothes_change_the_outline(rig, worn, least):
    rng = np.random.default_rng(2)
    points = torch.tensor(generate('Walking', make_style(rng), n_frames=30, rng=rng, hz=10).points())[::10]
    bare, worn = (outlines(rig, Body(clothes=c), points).sum() for c in (None, Clothes(**worn)))
    assert worn > least * bare


def test_faces_stay_free():
    "In front, between the brows and the chin, the head is as it is without a hat."
    bare = make_skin(Body(), 30)
    for hat in HATS:
        skin = make_skin(Body(clothes=Clothes(hat=hat)), 30)
        nose = bare.vertices[:, 0] > bare.rest[9, 0] + 40
        tip = bare.vertices[nose & (bare.vertices[:, 2] > 1450)][:, 0].max()
        face = skin.vertices[
            (skin.vertices[:, 2] > 1520) & (skin.vertices[:, 2] < 1600) & (skin.vertices[:, 1].abs() < 25)
        ]
        assert face[:, 0].max() == pytest.approx(float(tip), abs=12), hat


def test_left_and_right_differ():
    "A bag hangs on its own side; two halves have two colours."
    left, right = (make_skin(Body(clothes=Clothes(bag=bag)), 36).vertices[:, 1] for bag in ('left', 'right'))
    hips = [float(y[y.abs() < 320].mean()) for y in (left, right)]
    assert hips[0] > 10 and hips[1] < -10
    clothes = Clothes(kind='coat', top_print=Print('halves', second=(0.9, 0.1, 0.1), weave=0.0))
    skin = make_skin(Body(look=Look(top=(0.1, 0.1, 0.9)), clothes=clothes), 40)
    side = skin.vertices[skin.faces].mean(1)[:, 1]
    red = skin.texture.mean(1)[:, 0] - skin.texture.mean(1)[:, 2]
    coat = red.abs() > 0.7
    assert coat.sum() > 100 and torch.equal(red[coat] > 0, side[coat] > 0)


@pytest.mark.parametrize('name', PRINTS[1:])
def test_prints_show_their_colours_and_are_the_same_again(name):
    clothes = Clothes(kind='dress', top_print=Print(name, (1.0, 0.0, 0.0), (0.0, 0.0, 1.0), size_mm=150, weave=0.0))
    one, two = (make_skin(Body(look=Look(top=(0.0, 1.0, 0.0)), clothes=clothes), 45).texture for _ in range(2))
    assert torch.equal(one, two)
    red, green, blue = (float((one[..., c] > 0.9).float().mean()) for c in range(3))
    assert green > 0.01 and (red > 0.01 or blue > 0.01 or name in ('plaid', 'gradient'))
    assert ((one - torch.tensor([0.0, 1, 0])).abs().sum(-1) > 0.3).float().mean() > 0.05


def test_a_skirt_follows_both_legs():
    "At the front of the hem as much the left as the right; sitting down, it lies on the thighs."
    body = Body(clothes=Clothes(kind='skirt', length=0.9))
    skin = make_skin(body, 36)
    rng = np.random.default_rng(0)
    motion = generate('Sitting', make_style(rng), n_frames=40, rng=rng, hz=10)
    points = torch.tensor(motion.points(body.proportions))[30:31]
    vertices, _ = skin.posed(points)
    hem = (skin.vertices[:, 2] < 640) & (skin.vertices[:, 2] > 540) & (skin.vertices[:, 1].abs() < 60)
    knees = points[0, [2, 5], 2].mean()
    assert hem.sum() > 3 and (vertices[0, hem, 2] - knees).abs().median() < 200
    assert (skin.vertices[hem, 2] - 590).abs().max() < 60


def test_skirts_are_first_order_distances():
    "Near the surface the gradient has length one, within a fifth."
    skirt = Skirt(dict(Hip=np.zeros(3)), (110, 160), (200, 280), 1000.0, 500.0)
    angle, height = np.meshgrid(np.linspace(0, 6.2, 30), np.linspace(560, 940, 9))
    t = (1000 - height.ravel()) / 500
    p = np.stack([(110 + 90 * t) * np.cos(angle.ravel()), (160 + 120 * t) * np.sin(angle.ravel()), height.ravel()], 1)
    np.testing.assert_allclose(skirt.distance(p), 0, atol=1e-9)
    g = np.stack([skirt.distance(p + e) - skirt.distance(p - e) for e in np.eye(3)], 1) / 2
    assert np.abs(np.linalg.norm(g, axis=1) - 1).max() < 0.2


# ---- the light of a day ----------------------------------------------------------------------------------------------


def test_a_day_changes_the_room_and_the_person_alike(rig):
    "A surface that faces as a wall does gets the same light as that wall, in every channel."
    room = make_room(np.random.default_rng(0), rig.centre)
    light = day_light(np.random.default_rng(1), room.light)
    usual = Backdrop(room, rig, scale=0.4)
    day = usual.under(light)
    gain = light.on(torch.tensor(INWARD)) / room.light.on(torch.tensor(INWARD))[:, None]
    for before, after, camera in zip(usual.pictures, day.pictures, usual.cameras):
        expected = before[:3] * gain[room_surfaces(room, camera)].permute(2, 0, 1)
        torch.testing.assert_close(after[:3], expected.clamp(max=1), atol=1e-6, rtol=0)
        assert torch.equal(after[3], before[3])
    assert usual.room.light == room.light and day.room.light == light


def first_plane(origin, ray, room):
    "Which of the six planes of a room a ray from inside meets first, one after the other."
    limits = [-room.half[0], room.half[0], -room.half[1], room.half[1], 0.0, room.height]
    distances = [(limit - origin[n // 2]) / ray[n // 2] if ray[n // 2] else np.inf for n, limit in enumerate(limits)]
    return min((d, n) for n, d in enumerate(distances) if d > 0)[1]


def test_room_surfaces_are_where_rays_end(rig):
    "A slow loop over some pixels of every camera, a wide picture with floor, ceiling and walls in it."
    seen_at_all = set()
    for camera in rig:
        K = camera.K.clone()
        K[:2, :2] /= 3
        wide = type(camera)(K, camera.R, camera.t, camera.size)
        seen = room_surfaces(Room(), wide)
        for row in range(5, 250, 35):
            for column in range(5, 250, 35):
                ray = wide.R.T @ torch.linalg.inv(K) @ torch.tensor([column, row, 1.0], dtype=K.dtype)
                assert int(seen[row, column]) == first_plane(wide.centre.tolist(), ray.tolist(), Room())
        seen_at_all |= set(seen.flatten().tolist())
    assert seen_at_all == set(range(6))


def test_white_light_has_one_channel_and_coloured_light_three():
    normals = torch.nn.functional.normalize(torch.randn(5, 7, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    white = Light(key_colour=(1.0, 1, 1))
    torch.testing.assert_close(white.on(normals), Light().on(normals)[..., None].expand(-1, -1, 3))
    red = Light(key_colour=(1.0, 0.5, 0.5)).on(normals)
    assert torch.equal(red[..., 1], red[..., 2]) and (red[..., 0] >= red[..., 1]).all()


def test_days_differ_but_are_lit():
    days = [day_light(np.random.default_rng(i)) for i in range(200)]
    up = torch.stack([day.on(torch.tensor([[0.0, 0, 1]]))[0] for day in days])
    brightness = up @ torch.tensor([0.2126, 0.7152, 0.0722])
    assert brightness.min() > 0.35 and brightness.max() < 1.9 and brightness.std() > 0.1
    assert (up[:, 0] / up[:, 2]).log().std() > 0.1
    assert len({day.key for day in days}) == 200 and all(day.key[2] > 0.4 for day in days)
