"Guards for mvssl.sources.motion: what every take must hold, for every action, over subjects and seeds."

import inspect
import time

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mvssl.skeleton import JOINTS, PARENTS, canonicalise
from mvssl.sources import motion as motion_module
from mvssl.sources.motion import (
    ACTIONS,
    ARMS,
    BALL,
    DOFS,
    HEEL,
    POINTS,
    REFERENCE,
    SIDES,
    TOE_HEIGHT,
    Motion,
    Proportions,
    Style,
    arm_angles,
    forward_kinematics,
    generate,
    limb_turns,
    make_style,
    mirror,
    plan_steps,
    reach,
    rotation,
)

SEEDS = range(4)
BODIES = {
    'reference': REFERENCE,
    'tall': REFERENCE.scaled(1.12, legs=1.03, hips=0.97, arms=1.03),
    'small': REFERENCE.scaled(0.88, legs=0.97, hips=1.03, trunk=1.03, head=1.05),
}
AT = {name: i for i, name in enumerate(POINTS)}
CHILDREN = [(PARENTS[i], i) for i in range(1, 17)] + [
    (AT['LFoot'], AT['LToe']),
    (AT['RFoot'], AT['RToe']),
    (AT['LWrist'], AT['LHand']),
    (AT['RWrist'], AT['RHand']),
]


@pytest.fixture(scope='module')
def takes():
    "Action -> takes of four subjects, 20 s each."

    def make(action, seed):
        rng = np.random.default_rng(1000 + seed)
        return generate(action, make_style(rng), 1000, rng)

    return {action: [make(action, seed) for seed in SEEDS] for action in ACTIONS}


def soles(points, side, body):
    "Heel and ball on the underside of the sole, found from ankle and toe tip alone, mm, two arrays (T, 3)."
    ankle, toe = (points[:, AT[side[0].upper() + name]].astype(float) for name in ('Foot', 'Toe'))
    drop = (1 - TOE_HEIGHT) * body.ankle_height
    length = np.hypot(body.foot, drop)
    along = (toe - ankle) / length
    up = np.cross(along, np.cross([0, 0, 1.0], along))
    up /= np.linalg.norm(up, axis=1, keepdims=True)
    forward, up = (along * body.foot + up * drop) / length, (up * body.foot - along * drop) / length
    return [ankle + forward * x * body.leg - up * body.ankle_height for x in (HEEL, BALL)]


def slide_mm_s(points, body, hz=50):
    "Horizontal speed of the carrying point of both soles while they rest on the floor for seven frames, mm/s, (N,)."
    speeds = []
    for side in SIDES:
        heel, ball = soles(points, side, body)
        rests = np.convolve(np.minimum(heel, ball)[:, 2] < 6, np.ones(7), 'same')[1:] > 6.5
        speeds.append(
            np.minimum(*(np.linalg.norm(np.diff(s, axis=0)[:, :2], axis=1) * hz for s in (heel, ball)))[rests]
        )
    return np.concatenate(speeds)


def to_segment(points, a, b):
    "Distance of points (T, N, 3) to the segment from a to b (T, 3), mm."
    a, d = a[:, None], (b - a)[:, None]
    u = np.clip(((points - a) * d).sum(-1) / (d * d).sum(-1), 0, 1)
    return np.linalg.norm(points - a - u[..., None] * d, axis=-1)


def test_points_are_the_joints_and_four_ends():
    assert POINTS[:17] == JOINTS and POINTS[17:] == ('LToe', 'RToe', 'LHand', 'RHand')
    assert len(ACTIONS) == 15 and {'SittingDown', 'Photo', 'WalkDog', 'WalkTogether'} <= set(ACTIONS)


def test_exported_code_needs_numpy_only():
    source = inspect.getsource(motion_module)
    imports = [line.split()[1] for line in source.splitlines() if line.startswith(('import ', 'from '))]
    assert set(imports) == {'dataclasses', 'typing', 'numpy', '..refusal', '..skeleton'}


@pytest.mark.parametrize('action', ACTIONS)
def test_angles_stay_inside_human_limits(takes, action):
    low, high = np.array(list(DOFS.values())).T
    for take in takes[action]:
        assert take.angles.shape == (1000, len(DOFS)) and np.isfinite(take.angles).all()
        assert (take.angles >= low).all() and (take.angles <= high).all()


@pytest.mark.parametrize('body', BODIES)
@pytest.mark.parametrize('action', ACTIONS)
def test_every_body_keeps_its_segments_and_its_feet_on_the_floor(takes, action, body):
    body = BODIES[body]
    for take in takes[action]:
        points = take.points(body)
        assert points.dtype == np.float32 and points.shape == (1000, 21, 3)
        for a, b in CHILDREN:
            length = np.linalg.norm(points[:, b].astype(float) - points[:, a], axis=1)
            assert np.ptp(length) < 1e-3 * length.mean()
        assert points[..., 2].min() > -20
        sole = np.min([np.minimum(*(s[:, 2] for s in soles(points, side, body))) for side in SIDES], axis=0)
        upright = points[:, 0, 2] > 0.8 * body.leg
        assert sole.min() > -15 and sole[upright].max(initial=0) < 20


@pytest.mark.parametrize('action', ACTIONS)
def test_carrying_feet_do_not_slide(takes, action):
    slides = np.concatenate([slide_mm_s(take.points(), REFERENCE) for take in takes[action]])
    assert len(slides) > 1000
    assert np.percentile(slides, 98) < 40 and slides.mean() < 5


def test_the_slide_guard_sees_a_moonwalk(takes):
    points = takes['Walking'][0].points()
    drift = np.linspace(0, 2000, len(points))[:, None, None] * [1, 0, 0]  # 2 m in 20 s
    assert slide_mm_s(points + drift, REFERENCE).mean() > 90


@pytest.mark.parametrize('action', ACTIONS)
def test_movements_are_smooth(takes, action):
    for take in takes[action]:
        velocity = np.diff(take.points().astype(float), axis=0) * take.hz / 1000
        assert np.linalg.norm(velocity, axis=-1).max() < 6.5  # m/s
        assert np.linalg.norm(np.diff(velocity, axis=0), axis=-1).max() * take.hz < 150  # m/s^2


@pytest.mark.parametrize('action', ACTIONS)
def test_hands_and_elbows_stay_out_of_trunk_and_head(takes, action):
    for take in takes[action]:
        p = take.points().astype(float)
        hands, elbows = (
            p[:, [AT[n] for n in ('LWrist', 'RWrist', 'LHand', 'RHand')]],
            p[:, [AT['LElbow'], AT['RElbow']]],
        )
        for points in (hands, elbows):
            assert min(to_segment(points, p[:, 0], p[:, 7]).min(), to_segment(points, p[:, 7], p[:, 8]).min()) > 50
        assert np.linalg.norm(hands - p[:, [9, 10]].mean(axis=1, keepdims=True), axis=-1).min() > 40


@pytest.mark.parametrize('action', ACTIONS)
def test_people_stay_in_the_room_and_are_seen_from_all_sides(takes, action):
    headings = []
    for seed in range(24):
        rng = np.random.default_rng(seed)
        take = generate(action, make_style(rng), 100, rng, hz=10)
        headings.append(take.heading)
    for take in takes[action]:
        assert np.abs(take.root[:, :2]).max() * REFERENCE.leg < 1300  # mm
    sides = np.histogram(np.concatenate(headings) % (2 * np.pi), bins=8, range=(0, 2 * np.pi))[0]
    assert (sides > 0).all()


def test_face_direction_is_read_off_the_points(takes):
    for take in takes['Waiting'] + takes['Walking']:
        p = take.points().astype(float)
        forward = np.stack([np.cos(take.heading), np.sin(take.heading), 0 * take.heading], axis=1)
        along = (p[:, 10] - p[:, 8]) / np.linalg.norm(p[:, 10] - p[:, 8], axis=1, keepdims=True)
        nose = (p[:, 9] - p[:, 8]) - along * ((p[:, 9] - p[:, 8]) * along).sum(1, keepdims=True)
        assert 35 < np.linalg.norm(nose, axis=1).mean() < 75  # in front of the line from neck to head
        assert (nose * forward).sum(1).min() > 0


def near(take, hand, ahead, up, radius=150):
    "Share of frames with that hand within `radius` mm of a place, mm ahead of and above the nose base."
    p = take.points().astype(float)
    facing = rotation('z', np.degrees(take.heading))
    place = p[:, 9] + facing @ [ahead, 0, up]
    return np.mean(np.linalg.norm(p[:, AT[hand]] - place, axis=1) < radius)


def test_hands_are_at_the_head_where_the_action_says_so(takes):
    def best(take, *where):
        return max(near(take, 'LHand', *where), near(take, 'RHand', *where))

    for take in takes['Phoning']:
        assert best(take, -40, 10, 200) > 0.4
    for take in takes['Smoking'] + takes['Eating']:
        assert best(take, 20, -30, 190) > 0.1
    for take in takes['Photo']:
        assert np.mean([near(take, hand, 60, 40, 260) for hand in ('LHand', 'RHand')]) > 0.25


def test_actions_are_what_they_are_called(takes):
    "One fact per action that its points must show."
    for take in takes['SittingDown']:
        assert take.root[:, 2].min() < 0.15 and take.root[:, 2].max() > 0.9
    for take in takes['Sitting'] + takes['Eating']:
        assert take.seat and abs(np.ptp(take.root[:, 2])) < 0.05
    for action in ('Walking', 'WalkDog', 'WalkTogether'):
        for take in takes[action]:
            assert np.linalg.norm(np.diff(take.root[:, :2], axis=0), axis=1).sum() > 8

    def raised(take):
        return (take.points()[:, [AT['LWrist'], AT['RWrist']], 2].max(axis=1) > take.points()[:, 9, 2]).mean()

    assert (
        np.mean([raised(take) for take in takes['Greeting']]) > 0.05
        and min(raised(take) for take in takes['Posing']) > 0.05
    )
    assert max(raised(take) for take in takes['Waiting'] + takes['Walking']) == 0
    for take in takes['Purchases']:
        assert take.root[:, 2].min() < 0.9
    for take in takes['WalkTogether']:
        p = take.points().astype(float)
        side = 'R' if np.mean(p[:, AT['RWrist'], 2]) > np.mean(p[:, AT['LWrist'], 2]) else 'L'
        assert np.linalg.norm(p[:, AT[side + 'Wrist']] - p[:, AT[side + 'Shoulder']], axis=1).max() > 350


def test_a_chair_stands_where_someone_sits(takes):
    for action in ACTIONS:
        for take in takes[action]:
            sits = take.seat is not None
            assert sits == (take.root[:, 2].max() < 0.6)
            if sits:
                assert_allclose(take.root[:, :2], np.broadcast_to([take.seat.x, take.seat.y], (1000, 2)), atol=0.02)
                assert (take.root[:, 2] > take.seat.height).all()


@pytest.mark.parametrize('action', ACTIONS)
def test_same_seed_same_take_and_its_mirror_image(action):
    def make(mirrored=False, seed=3, left_handed=False):
        return generate(action, Style(left_handed=left_handed), 200, np.random.default_rng(seed), mirrored=mirrored)

    take, again, reflected = make(), make(), make(mirrored=True)
    for name in ('angles', 'root', 'heading'):
        assert_array_equal(getattr(take, name), getattr(again, name))
    order = [AT[{'L': 'R', 'R': 'L'}[n[0]] + n[1:]] if n[0] in 'LR' else AT[n] for n in POINTS]
    assert_allclose(reflected.points(), take.points()[:, order] * [1, -1, 1], atol=1e-2)
    assert_array_equal(reflected.angles, mirror(take).angles)
    assert (take.mirrored, reflected.mirrored, reflected.action) == (False, True, action)
    assert take.seat is None or reflected.seat == take.seat._replace(y=-take.seat.y, heading=-take.seat.heading)
    left_handed = make(left_handed=True)
    assert_array_equal(left_handed.angles, reflected.angles)
    assert not left_handed.mirrored
    assert np.abs(make(seed=4).angles - take.angles).max() > 5


def test_slower_frame_rates_take_every_nth_frame():
    slow = generate('Greeting', Style(), 40, np.random.default_rng(0), hz=10)
    fast = generate('Greeting', Style(), 196, np.random.default_rng(0))
    assert_array_equal(slow.points(), fast.points()[::5])
    assert len(generate('Greeting', Style(), 1, np.random.default_rng(0))) == 1


def test_forty_seconds_take_no_time():
    generate('Walking', Style(), 10, np.random.default_rng(0))
    best = np.inf
    for _ in range(3):
        start = time.perf_counter()
        generate('Discussion', Style(), 2000, np.random.default_rng(0)).points()
        best = min(best, time.perf_counter() - start)
    assert best < 0.5


def test_poses_recur_between_subjects_but_never_exactly():
    def poses(seed):
        rng = np.random.default_rng(seed)
        body = REFERENCE.scaled(np.exp(rng.normal(0, 0.06)))
        style = make_style(rng)
        return np.concatenate(
            [canonicalise(generate(action, style, 60, rng, hz=5).points(body)[:, :17]) for action in ACTIONS]
        )

    first, *others = (poses(seed) for seed in range(4))
    others = np.concatenate(others)
    d = np.stack([np.linalg.norm(others - pose, axis=-1).mean(-1) for pose in first[::6]])
    assert 10 < d.min(axis=1).mean() < 70 and d.mean() > 150


def test_forward_kinematics_agrees_with_a_slow_walk_down_the_tree():
    rng = np.random.default_rng(0)
    low, high = np.array(list(DOFS.values())).T
    angles = rng.uniform(low, high, (5, len(DOFS)))
    root, heading = rng.normal(size=(5, 3)), rng.uniform(-3, 3, 5)
    points = forward_kinematics(angles, root, heading)

    def about(axis, degrees):
        k = dict(x=[1, 0, 0], y=[0, 1, 0], z=[0, 0, 1])[axis]
        K, angle = np.array([[0, -k[2], k[1]], [k[2], 0, -k[0]], [-k[1], k[0], 0]]), np.radians(degrees)
        return np.eye(3) + np.sin(angle) * K + (1 - np.cos(angle)) * K @ K  # Rodrigues

    for i in range(5):
        a, p = dict(zip(DOFS, angles[i])), REFERENCE
        facing = about('z', np.degrees(heading[i]) + a['pelvis_twist'])
        pelvis = facing @ about('y', a['pelvis_tilt']) @ about('x', a['pelvis_obliquity'])

        def bend(part, a=a):
            return about('z', a[part + '_twist']) @ about('y', a[part + '_flexion']) @ about('x', -a[part + '_side'])

        chest = pelvis @ bend('spine') @ bend('chest')
        thorax = root[i] * p.leg + pelvis @ bend('spine') @ [0, 0, p.spine] + chest @ [0, 0, p.chest]
        assert_allclose(points[i, 8], thorax, atol=1e-2)
        for side, s in (('left', 1), ('right', -1)):
            b = {name.removeprefix(side + '_'): v for name, v in a.items() if name.startswith(side)}
            thigh = (
                pelvis
                @ about('y', -b['hip_flexion'])
                @ about('x', s * b['hip_abduction'])
                @ about('z', -s * b['hip_rotation'])
            )
            shank = thigh @ about('y', b['knee_flexion'])
            foot = shank @ about('y', -b['ankle_dorsiflexion']) @ about('x', -s * b['ankle_inversion'])
            toe = (
                root[i] * p.leg
                + pelvis @ [0, s * p.hip_half_width, 0]
                + thigh @ [0, 0, -p.thigh]
                + shank @ [0, 0, -p.shank]
                + foot @ [p.foot, 0, -0.7 * p.ankle_height]
            )
            assert_allclose(points[i, AT[side[0].upper() + 'Toe']], toe, atol=1e-2)
            girdle = chest @ about('x', s * b['clavicle_elevation']) @ about('z', -s * b['clavicle_protraction'])
            arm = (
                chest
                @ about('y', -b['shoulder_flexion'])
                @ about('x', s * b['shoulder_abduction'])
                @ about('z', -s * b['shoulder_rotation'])
            )
            lower = arm @ about('y', -b['elbow_flexion'])
            hand = (
                lower
                @ about('z', -s * b['forearm_pronation'])
                @ about('x', -s * b['wrist_flexion'])
                @ about('y', -b['wrist_deviation'])
            )
            end = (
                thorax
                + girdle @ [0, s * p.shoulder_half_width, -p.shoulder_drop]
                + arm @ [0, 0, -p.upper_arm]
                + lower @ [0, 0, -p.forearm]
                + hand @ [0, 0, -p.hand]
            )
            assert_allclose(points[i, AT[side[0].upper() + 'Hand']], end, atol=1e-2)


@pytest.mark.parametrize('side', SIDES)
@pytest.mark.parametrize(('first', 'second', 'bend'), [(280, 250, -1), (447, 445, 1)])
def test_reach_arrives_wherever_it_can(side, first, second, bend):
    rng = np.random.default_rng(0)
    direction = rng.normal(size=(500, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    target = direction * rng.uniform(abs(first - second) + 20, first + second - 5, (500, 1))
    pole = rng.normal(size=(500, 3))
    angles = reach(target, pole, first, second, side, bend)
    upper, lower = limb_turns(side, *angles, bend)
    middle = first * upper @ [0, 0, -1]
    assert_allclose(middle + second * lower @ [0, 0, -1], target, atol=1e-6)
    assert (angles[3] >= 0).all()
    assert ((middle - direction * (middle * direction).sum(1, keepdims=True)) * pole).sum(
        1
    ).min() > -1e-9  # the joint points to the pole
    far = reach(direction * 5000, pole, first, second, side, bend)
    upper, lower = limb_turns(side, *far, bend)
    assert_allclose(
        first * upper @ [0, 0, -1] + second * lower @ [0, 0, -1], direction * (first + second), rtol=0.03, atol=1
    )


def test_arm_poses_are_the_same_on_both_sides_and_reach_their_wrists():
    arms = list(ARMS.values())
    left, right = arm_angles(arms, 'left'), arm_angles(arms, 'right')
    assert_allclose(left, right, atol=1e-9)
    names = ['shoulder_flexion', 'shoulder_abduction', 'shoulder_rotation', 'elbow_flexion']
    angles = np.zeros((len(arms), len(DOFS)))
    for i, name in enumerate(names):
        angles[:, list(DOFS).index('left_' + name)] = left[:, i]
    points = forward_kinematics(angles, np.zeros((len(arms), 3)), np.zeros(len(arms)))
    wrist = points[:, AT['LWrist']] - points[:, AT['Thorax']]
    assert_allclose(wrist, np.array(arms)[:, :3], atol=1)


def test_steps_alternate_hold_still_and_arrive():
    rng = np.random.default_rng(0)
    t = np.arange(0, 30, 0.02)
    way = np.cumsum(np.convolve(rng.normal(0, 1, (len(t))), np.ones(100) / 100, 'same')) * 0.02  # wanders to and fro
    wanted = np.zeros((len(t), 2, 4))
    wanted[:, :, 0], wanted[:, :, 1], wanted[:, :, 2] = way[:, None], [0.1, -0.1], 40 * np.sin(t / 4)[:, None]
    wanted[-300:] = wanted[-300]  # then stands
    footing = plan_steps(t, wanted, 0.5, 0.4)
    assert not footing.air.all(axis=1).any()
    stays = ~(footing.air[1:] | footing.air[:-1])
    assert np.abs(np.diff(footing.place[..., :3], axis=0)).max(-1)[stays].max() < 1e-9
    assert (footing.lift >= 0).all() and (footing.lift[~footing.air] == 0).all()
    assert_allclose(footing.place[-1, :, :3], wanted[-1, :, :3], atol=5)
    assert_allclose(footing.place[-1, :, :2], wanted[-1, :, :2], atol=0.016)
    assert not footing.air[-100:].any()  # never a foot left hanging
    assert len(set(footing.air.argmax(axis=0))) == 2  # the feet take turns


def test_refusals_name_the_argument():
    rng = np.random.default_rng(0)
    for call, words in [
        (lambda: generate('Jumping', Style(), 10, rng), 'action .*Jumping'),
        (lambda: generate('Walking', Style(), -1, rng), 'n_frames.*-1'),
        (lambda: generate('Walking', Style(), 10, rng, hz=24), 'hz.*24'),
        (lambda: generate('Walking', Style(), 10, rng, hz=0), 'hz.*0'),
        (lambda: Proportions(shank=0), 'shank'),
        (lambda: Proportions(hand=float('nan')), 'hand'),
        (lambda: REFERENCE.scaled(torso=1.1), 'torso'),
        (lambda: Motion(np.zeros((4, 3)), np.zeros((4, 3)), np.zeros(4), 'Walking').points(), r'\(4, 3\)'),
    ]:
        with pytest.raises(ValueError, match=words):
            call()
