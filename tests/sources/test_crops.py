"""Guards of the crops: slow loops and full conversions as oracles, files of every kind and every damage, people who
cross, vanish and stand, the real videos."""

import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from mvssl.cameras import Camera, crop_camera, intrinsics, look_at, project, square_box
from mvssl.refusal import Refusal
from mvssl.sources.crops import (
    Background,
    cut,
    cut_planes,
    follow_person,
    is_in_picture,
    median_background,
    moving_box,
    moving_pixels,
    read_box_csv,
    read_keypoints,
    reduced,
    steady_squares,
)

SIZE = (640, 480)
SHARED = Path(os.environ.get('MVSSL_SHARED_DATA', Path(__file__).parents[3] / 'shared' / 'data'))
REAL = SHARED / 'pose2sim_balancing'


def refused(job, *words):
    "The one problem of a refusal, which must name these words."
    with pytest.raises(Refusal) as caught:
        job()
    (problem,) = caught.value.problems
    assert all(word in str(problem) for word in words), str(problem)
    return problem


# ---- boxes from a table ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'text',
    [
        'frame,left,top,right,bottom\n0,10,20,30,60\n2,12,20,32,60\n',
        'bottom, Right ,TOP,left,note,frame\n60,30,20,10,hello,0\n60,32,20,12,,2\n',
        '\ufeffframe,x,y,width,height\n0,10,20,20,40\n2,12,20,20,40\n',
        'frame,left,top,right,bottom,confidence\n0,1,1,5,5,.2\n0,10,20,30,60,.9\n2,12,20,32,60,.5\n2,90,90,99,99,.1\n',
        'frame,left,top,right,bottom\n2,12,20,32,60\n0,10,20,30,60\n',
        'frame,left,top,right,bottom,view\n0,10,20,30,60,01\n2,12,20,32,60,01\n1,1,1,5,5,02\n',
    ],
)
def test_tables_that_say_the_same(tmp_path, text):
    (tmp_path / 'boxes.csv').write_text(text, encoding='utf-8')
    found = read_box_csv(tmp_path / 'boxes.csv', 4, SIZE, view='01' if 'view' in text else '')
    np.testing.assert_array_equal(found, [[10, 20, 30, 60], [np.nan] * 4, [12, 20, 32, 60], [np.nan] * 4])
    assert found.dtype == np.float64


@pytest.mark.parametrize(
    'change',
    [
        *(
            lambda text, encoding=encoding: text.encode(encoding)
            for encoding in ('utf-8-sig', 'utf-16', 'utf-16-be', 'utf-32')
        ),
        lambda text: text.replace('\n', '\r').encode(),
        lambda text: text.replace('\n', '\r\n').encode(),
        lambda text: text.replace(',', ';').replace('.', ',').encode('utf-8-sig'),
        lambda text: text.replace(',', '\t').encode(),
    ],
    ids=['mark', 'utf-16', 'utf-16-be', 'utf-32', 'mac', 'windows', 'semicolons', 'tabs'],
)
def test_boxes_as_any_program_writes_them(tmp_path, change):
    (tmp_path / 'boxes.csv').write_bytes(change('frame,left,top,right,bottom\n0,10.5,20,30,60.25\n2,12,20,32,60\n'))
    np.testing.assert_array_equal(
        read_box_csv(tmp_path / 'boxes.csv', 4, SIZE),
        [[10.5, 20, 30, 60.25], [np.nan] * 4, [12, 20, 32, 60], [np.nan] * 4],
    )


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16', 'utf-16-le'])
def test_keypoints_in_any_encoding(tmp_path, encoding):
    folder = openpose(tmp_path / 'json', {0: [person(18)], 1: [person(18, 1)]})
    plain = read_keypoints(folder, 2, SIZE)
    for file in folder.iterdir():
        file.write_bytes(file.read_text().encode(encoding))
    file.rename(file.with_suffix('.JSON'))
    for ours, theirs in zip(read_keypoints(folder, 2, SIZE), plain):
        np.testing.assert_array_equal(ours, theirs)


def test_which_squares_lie_in_a_picture():
    "By their middle; pixels have theirs at whole numbers, so that a picture reaches from -0.5 to 639.5."
    squares = [
        (-9, -9, 10, 10),
        (-12, 0, 10.9, 22.9),
        (-12, 0, 11.1, 23.1),
        (630, 0, 648.9, 18.9),
        (630, 0, 649.1, 19.1),
        (0, 470, 20, 490),
        (0, 0, 20, np.nan),
    ]
    assert is_in_picture(squares, (640, 480)).tolist() == [True, False, True, True, False, False, False]


def test_low_rates_lose_no_boxes():
    "At one box a second somebody may well be elsewhere in between: nothing is an outlier of its neighbours."
    rng = np.random.default_rng(0)
    middles = rng.uniform(100, 500, (40, 2))
    boxes = np.concatenate([middles - (20, 50), middles + (20, 50)], axis=1)
    squares = steady_squares(boxes, 1.0, padding=1.2)
    np.testing.assert_allclose((squares[:, :2] + squares[:, 2:]) / 2, middles, atol=1e-6)
    assert not np.allclose(
        (steady_squares(boxes, 10.0)[:, :2] + steady_squares(boxes, 10.0)[:, 2:]) / 2, middles, atol=5
    )


@pytest.mark.parametrize('keypoint_size', [(480, 640), (640, 640), (1280, 480)])
def test_keypoints_of_a_picture_of_another_shape(tmp_path, keypoint_size):
    folder = openpose(tmp_path / 'json', {0: [person(18)], 1: [person(18, 1)]})
    refused(
        lambda: read_keypoints(folder, 2, SIZE, keypoint_size=keypoint_size),
        'keypoint_size',
        'of another shape than the picture, 640 x 480',
    )


def test_frames_counted_from_one(tmp_path):
    (tmp_path / 'boxes.csv').write_text(
        'frame,left,top,right,bottom\n' + ''.join(f'{i},{i},0,{i + 9},9\n' for i in (1, 2, 3))
    )
    assert read_box_csv(tmp_path / 'boxes.csv', 3, SIZE)[:, 0].tolist() == [1, 2, 3]
    assert np.isnan(read_box_csv(tmp_path / 'boxes.csv', 4, SIZE)[0]).all()  # 1, 2, 3 of four: as they stand


@pytest.mark.parametrize(
    'text, words',
    [
        ('', ['file', 'not a line', 'CSV']),
        ('\n\n', ['file', 'not a line']),
        ('frame,left,left,right,bottom\n', ['line 1', 'left', 'twice']),
        ('frame,left,top,right,bottom\n\n0,10,20,30,60\n\n1,10,20,soon,60\n', ['line 5, right', 'soon']),
        ('frame,left,top,right\n0,1,2,3\n', ['bottom missing']),
        ('left,top,right,bottom\n0,1,2,3\n', ['frame missing']),
        ('frame,x,y,width\n0,1,2,3\n', ['height missing']),
        ('frame,left,top,right,bottom\n', ['there are none']),
        ('frame,left,top,right,bottom\n0,10,20,abc,60\n', ['right', 'abc', 'line 2']),
        ('frame,left,top,right,bottom\n0,10,20,,60\n', ['right', 'line 2']),
        ('frame,left,top,right,bottom\n0.5,10,20,30,60\n', ['frame', '0.5']),
        ('frame,left,top,right,bottom\n-1,10,20,30,60\n', ['frame -1']),
        ('frame,left,top,right,bottom\n0,10,20,30,60\n9,10,20,30,60\n', ['frame 9', 'has 4 frames']),
        ('frame,left,top,right,bottom\n0,10,20,30,60\n0,11,20,30,60\n', ['more than once']),
        ('frame,left,top,right,bottom\n0,10,60,30,20\n', ['no area']),
        ('frame,left,top,right,bottom\n0,1000,20,1100,60\n', ['outside', '640 x 480']),
        ('frame,view,left,top,right,bottom\n0,a,10,20,30,60\n0,b,10,20,30,60\n', ['a, b', 'view']),
    ],
)
def test_damaged_tables(tmp_path, text, words):
    (tmp_path / 'boxes.csv').write_text(text)
    problem = refused(lambda: read_box_csv(tmp_path / 'boxes.csv', 4, SIZE), *words)
    assert 'boxes.csv' in problem.file and problem.remedy


def test_no_table(tmp_path):
    refused(lambda: read_box_csv(tmp_path / 'none.csv', 4, SIZE), 'none.csv')


# ---- keypoints -------------------------------------------------------------------------------------------------------


def person(J, seed=0, confidence=0.9):
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.uniform(0, SIZE, (J, 2)), np.full(J, confidence)])


def openpose(folder, frames, name='cam_{:012d}_keypoints.json'):
    folder.mkdir(exist_ok=True)
    for number, people in frames.items():
        (folder / name.format(number)).write_text(
            json.dumps(dict(version=1.3, people=[dict(pose_keypoints_2d=one.ravel().tolist()) for one in people]))
        )
    return folder


@pytest.mark.parametrize('J', [18, 25])
@pytest.mark.parametrize('name', ['cam_{:012d}_keypoints.json', 'cam01.{:04d}.json', 'v2_{}.json'])
def test_openpose_folders(tmp_path, J, name):
    frames = {0: [person(J, 1), person(J, 2)], 2: [person(J, 3)], 3: []}
    people = read_keypoints(openpose(tmp_path / 'json', frames, name), 5, SIZE)
    assert [one.shape for one in people] == [(2, J, 3), (0, J, 3), (1, J, 3), (0, J, 3), (0, J, 3)]
    np.testing.assert_allclose(people[0], frames[0])


def test_what_systems_leave_among_keypoints(tmp_path):
    folder = openpose(tmp_path / 'json', {1: [person(18, 1)], 2: [person(18, 2)]})
    for name in ('._cam_000000000001_keypoints.json', '.hidden.json'):
        (folder / name).write_bytes(b'\0\5\x16\7')
    assert len(read_keypoints(folder, 2, SIZE)) == 2


def test_files_numbered_from_one(tmp_path):
    people = read_keypoints(openpose(tmp_path / 'json', {1: [person(18, 1)], 2: [person(18, 2)]}), 2, SIZE)
    np.testing.assert_allclose(people[0][0], person(18, 1))


def coco_files():
    "The same two people as a list of results, as AlphaPose writes them, and as annotations."
    one, two = person(17, 1), person(17, 2)
    results = [
        dict(image_id=0, keypoints=one.ravel().tolist(), score=0.9),
        dict(image_id=2, keypoints=two.ravel().tolist(), score=0.9),
    ]
    alphapose = [
        dict(image_id=f'{i}.jpg', keypoints=p.ravel().tolist(), box=[0, 0, 1, 1]) for i, p in ((0, one), (2, two))
    ]
    labelled = [np.column_stack([p[:, :2], np.full(17, 2)]) for p in (one, two)]
    annotations = dict(
        images=[
            dict(id=901, file_name='cam01_000000.png', width=640, height=480),
            dict(id=7, file_name='cam01_000002.png', width=640, height=480),
        ],
        annotations=[
            dict(id=1, image_id=901, keypoints=labelled[0].ravel().tolist()),
            dict(id=2, image_id=7, keypoints=labelled[1].ravel().tolist()),
        ],
    )
    return dict(results=results, alphapose=alphapose, annotations=annotations)


@pytest.mark.parametrize('kind', coco_files())
def test_single_files(tmp_path, kind):
    (tmp_path / 'k.json').write_text(json.dumps(coco_files()[kind]))
    people = read_keypoints(tmp_path / 'k.json', 4, SIZE)
    assert [len(one) for one in people] == [1, 0, 1, 0]
    np.testing.assert_allclose(people[2][0][:, :2], person(17, 2)[:, :2])
    assert set(people[0][..., 2].ravel()) == {1.0 if kind == 'annotations' else 0.9}


def test_stated_size_is_compared(tmp_path):
    (tmp_path / 'k.json').write_text(json.dumps(coco_files()['annotations']))
    refused(
        lambda: read_keypoints(tmp_path / 'k.json', 4, (1280, 960)),
        'k.json',
        'width, height',
        '640 x 480',
        'keypoint_size=(640, 480)',
    )
    doubled = read_keypoints(tmp_path / 'k.json', 4, (1280, 960), keypoint_size=(640, 480))
    np.testing.assert_allclose(doubled[0][0][:, :2], 2 * person(17, 1)[:, :2] + 0.5)


LINE = np.column_stack([np.linspace((5, 5), (638, 470), 18), np.full(18, 0.9)])


@pytest.mark.parametrize('keypoint_size', [(960, 720), (1280, 960), (1, 1)])
def test_keypoints_of_another_size(tmp_path, keypoint_size):
    there = LINE * [*np.divide(keypoint_size, SIZE), 1]
    folder = openpose(tmp_path / 'json', {i: [there] for i in range(20)})
    refused(lambda: read_keypoints(folder, 20, SIZE), 'json', 'keypoint_size')
    scaled = read_keypoints(folder, 20, SIZE, keypoint_size=keypoint_size)
    assert np.abs(scaled[0][0][:, :2] - LINE[:, :2]).max() < 0.501  # pixel centres are not edges


def test_keypoints_a_little_outside(tmp_path):
    folder = openpose(tmp_path / 'json', {i: [LINE * [1.02, 1.02, 1]] for i in range(20)})
    np.testing.assert_allclose(read_keypoints(folder, 20, SIZE)[0][0], LINE * [1.02, 1.02, 1])


def test_a_single_mad_point_is_no_other_size(tmp_path):
    mad = person(18)
    mad[3, :2] = 5000
    read_keypoints(openpose(tmp_path / 'json', {0: [mad]} | {i: [person(18, i)] for i in range(1, 20)}), 20, SIZE)


DAMAGED = {  # what the first file holds
    'not JSON': '{"people": [',
    'no people': '{"version": 1.3}',
    'a list': '[1, 2]',
    'people of numbers': '{"people": [1]}',
    'four numbers': '{"people": [{"pose_keypoints_2d": [1, 2, 3, 4]}]}',
    'text': '{"people": [{"pose_keypoints_2d": ["a", 2, 3]}]}',
    'not finite': '{"people": [{"pose_keypoints_2d": [NaN, 2, 3]}]}',
}
WRITTEN = {  # people by frame, written over or beside those of the folder, and perhaps other names of the files
    'two body models': ({0: [person(25)]},),
    'nobody': ({0: [], 1: []},),
    'unsure': ({0: [person(18, confidence=0.01)], 1: []},),
    'two videos': ({0: [person(18)]}, 'other_{:012d}_keypoints.json'),
    'longer': ({200: [person(18)]},),
}


def damage(tmp_path, kind):
    good = openpose(tmp_path / 'json', {0: [person(18)], 1: [person(18, 1)]})
    first = next(good.iterdir())
    if kind in DAMAGED:
        first.write_text(DAMAGED[kind])
    elif kind in WRITTEN:
        openpose(good, *WRITTEN[kind])
    elif kind == 'empty folder':
        [file.unlink() for file in good.iterdir()]
    else:
        first.rename(good / 'readme.json')
    return good


@pytest.mark.parametrize(
    'kind, words',
    [
        ('empty folder', ['no .json']),
        ('not JSON', ['cam_00000000000', 'JSON']),
        ('no people', ['people']),
        ('a list', ['people']),
        ('people of numbers', ['people']),
        ('four numbers', ['pose_keypoints_2d']),
        ('text', ['pose_keypoints_2d']),
        ('not finite', ['pose_keypoints_2d']),
        ('two body models', ['18 or 25']),
        ('nobody', ['nobody']),
        ('unsure', ['confidence']),
        ('no number', ['readme.json', 'frame number']),
        ('two videos', ['folder for each video']),
        ('longer', ['frame 200', '2 frames']),
    ],
)
def test_damaged_folders(tmp_path, kind, words):
    refused(lambda: read_keypoints(damage(tmp_path, kind), 2, SIZE), *words)


@pytest.mark.parametrize(
    'content, words',
    [
        ('nothing', ['JSON']),
        ({'a': 1}, ['neither']),
        ([{'image_id': 1}], ['keypoints']),
        ([1], ['keypoints']),
        ([], ['nobody']),
        ([dict(image_id='first', keypoints=[1, 2, 3])], ['image_id', 'first']),
        ([dict(image_id=397133, keypoints=[1, 2, 3])], ['frame 397133']),
        (dict(images=[dict(id=0, width=1, height=1), dict(id=1, width=2, height=2)], annotations=[]), ['2 sizes']),
        (dict(images=3, annotations=[]), ['images']),
    ],
)
def test_damaged_files(tmp_path, content, words):
    (tmp_path / 'k.json').write_text(content if isinstance(content, str) else json.dumps(content))
    refused(lambda: read_keypoints(tmp_path / 'k.json', 4, SIZE), 'k.json', *words)


# ---- one person ------------------------------------------------------------------------------------------------------

BODY = np.array(
    [
        [0, -0.5],
        [0, -0.35],
        [-0.1, -0.3],
        [0.1, -0.3],
        [-0.12, -0.1],
        [0.12, -0.1],
        [-0.06, 0],
        [0.06, 0],
        [-0.08, 0.25],
        [0.08, 0.25],
        [-0.08, 0.5],
        [0.08, 0.5],
    ]
)


def body(x, y, height, rng, phase=0.0, confidence=0.8, noise=0.01):
    swing = np.zeros_like(BODY)
    swing[4:, 0] = 0.12 * np.sin(phase) * np.where(np.arange(8) % 2, 1, -1)
    return np.column_stack(
        [(BODY + swing + rng.normal(0, noise, BODY.shape)) * height + (x, y), np.full(len(BODY), confidence)]
    )


def scene(n=120, bystander=0.5, seed=0, paths=None):
    "Frames with a walker and somebody who stands, in any order; and the walker alone."
    rng = np.random.default_rng(seed)
    people, walker = [], []
    for i in range(n):
        walker.append(body(100 + 3.5 * i, 250, 200, rng, i / 4))
        others = [body(400, 230, 200 * bystander, rng)] if bystander else []
        everybody = [walker[-1], *others]
        people.append(np.stack([everybody[k] for k in rng.permutation(len(everybody))]))
    return people, np.stack(walker)


@pytest.mark.parametrize('bystander', [0, 0.5, 1, 1.5])
def test_the_one_who_walks_is_followed(bystander):
    "Past somebody who stands, even nearer to the camera."
    people, walker = scene(bystander=bystander)
    boxes, keypoints = follow_person(people, SIZE)
    assert np.abs(keypoints[..., :2] - walker[..., :2]).max() == 0
    np.testing.assert_allclose(boxes, square_free(walker))


def square_free(keypoints):
    return np.concatenate([keypoints[..., :2].min(1), keypoints[..., :2].max(1)], axis=1)


def test_order_within_frames_does_not_matter():
    people, _ = scene(seed=3)
    first = follow_person(people, SIZE)[0]
    for seed in range(3):
        rng = np.random.default_rng(seed)
        np.testing.assert_array_equal(follow_person([one[rng.permutation(len(one))] for one in people], SIZE)[0], first)


def test_two_walkers_who_cross_keep_their_names():
    rng = np.random.default_rng(0)
    left = [body(60 + 5 * i, 250, 200, rng, i / 4) for i in range(100)]
    right = [body(560 - 5 * i, 240, 180, rng, i / 3) for i in range(100)]
    people = [np.stack([a, b][:: rng.choice([-1, 1])]) for a, b in zip(left, right)]
    for start, own in (((60, 250), left), ((560, 240), right)):
        _, keypoints = follow_person(people, SIZE, start=start)
        away = np.abs(keypoints - np.stack(own)).max((1, 2))
        assert (away < 60).all() and (away == 0).mean() > 0.9  # where they overlap either may stand for both


def test_gaps_and_mad_detections():
    people, walker = scene(bystander=0.5)
    rng = np.random.default_rng(1)
    for i in (20, 21, 22, *range(50, 75)):
        people[i] = people[i][[np.ptp(one[:, 1]) < 150 for one in people[i]]]  # the walker is lost
    people[90] = np.concatenate(
        [people[90][[np.ptp(one[:, 1]) < 150 for one in people[90]]], body(300, 100, 60, rng)[None]]
    )  # a chair
    boxes, keypoints = follow_person(people, SIZE)
    lost = np.isnan(boxes).all(1)
    assert np.flatnonzero(lost).tolist() == [20, 21, 22, *range(50, 75), 90]
    assert np.abs(keypoints - walker)[~lost].max() == 0


def test_somebody_named_by_a_place_and_a_frame():
    people, walker = scene(bystander=0.5)
    assert np.ptp(follow_person(people, SIZE, start=(400, 230))[0][:, 0]) < 20
    np.testing.assert_array_equal(follow_person(people, SIZE, start=(100 + 3.5 * 100, 250, 100))[1], walker)
    with pytest.raises(ValueError, match='start must be a place near somebody at frame 0'):
        follow_person(people, SIZE, start=(620, 20))


def test_keypoints_that_do_not_count():
    "Unsure ones, those at (0, 0) with confidence 0 as OpenPose writes what it did not find, and those outside."
    people, walker = scene(bystander=0)
    for one in people:
        one[0, 0], one[0, 5], one[0, 7] = (0, 0, 0), (600, 400, 0.05), (2000, 100, 0.9)
    boxes, keypoints = follow_person(people, SIZE)
    np.testing.assert_allclose(boxes, square_free(np.delete(walker, (0, 5, 7), axis=1)))
    assert np.isnan(keypoints[:, [0, 5, 7]]).all()


def test_nobody():
    with pytest.raises(ValueError, match='nobody in 3'):
        follow_person([np.zeros((0, 18, 3))] * 3)


# ---- movement --------------------------------------------------------------------------------------------------------

W, H = 160, 120


def wall(rng, noise=1.0):
    yy, xx = np.mgrid[:H, :W]
    return 110 + 45 * np.sin(xx / 11) * np.cos(yy / 7) + rng.normal(0, noise, (H, W))


def filmed(path, noise=1.0, gain=None, level=220, seed=0):
    "Luma of a bright upright figure with a gap at its neck; path: its middle in each picture, NaN = not there."
    rng, pictures, boxes = np.random.default_rng(seed), [], []
    for i, x in enumerate(path):
        picture = wall(rng, noise)
        if np.isfinite(x):
            left = round(x) - 8
            picture[30:38, max(left + 4, 0) : left + 12] = level
            picture[41:90, max(left, 0) : left + 16] = level
        boxes.append([left - 0.5, 29.5, left + 15.5, 89.5] if np.isfinite(x) else [np.nan] * 4)
        pictures.append((picture * (1 if gain is None else gain[i])).round().clip(0, 255).astype(np.uint8))
    return np.stack(pictures), np.array(boxes)


def iou(a, b):
    overlap = (np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])).clip(0).prod(1)
    return overlap / ((a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - overlap)


def test_usual_levels_are_the_slow_loop():
    rng = np.random.default_rng(0)
    frames = rng.choice([40, 60, 100, 130, 200], (12, 4, 5), p=[0.1, 0.2, 0.4, 0.2, 0.1]).astype(np.uint8)
    frames[:, 0, 0] = [0] * 6 + [255] * 6  # levels at both ends
    background = median_background(frames)
    median = np.median(frames, axis=0)
    levels = []
    for frame in frames:  # brightness as that of the median
        gain = np.median((median / np.maximum(frame, 1))[median >= 32])
        levels.append(np.clip(np.round(frame * gain), 0, 255))
    levels = np.stack(levels)
    reach = round(22 + 3 * np.quantile(np.abs(levels - median), 0.68))
    for row, column in np.ndindex(4, 5):
        support = [sum(abs(level - sample) <= reach for sample in levels[:, row, column]) for level in range(256)]
        np.testing.assert_array_equal(background.is_usual[row, column], np.array(support) >= 0.6 * max(support))


WALK = np.linspace(10, 150, 60)


@pytest.mark.parametrize('noise', [0.0, 1.0, 4.0, 8.0])
def test_walking_through_noise(noise):
    pictures, boxes = filmed(WALK, noise)
    background = median_background(pictures[::3])
    found = np.stack([moving_box(picture, background) for picture in pictures])
    assert np.quantile(iou(found, boxes), 0.1) > 0.8


@pytest.mark.parametrize(
    'gain',
    [1 + 0.2 * np.sin(np.arange(60)), np.linspace(0.7, 1.1, 60)],
    ids=['lamps that flicker', 'a camera that adjusts itself'],
)
def test_changing_brightness(gain):
    pictures, boxes = filmed(WALK, 1.0, gain, level=200)
    background = median_background(pictures[::3])
    assert np.quantile(iou(np.stack([moving_box(picture, background) for picture in pictures]), boxes), 0.1) > 0.8


def test_no_ghost_where_somebody_stood():
    "A quarter of the time at one place: found there, and later not found there."
    pictures, boxes = filmed(np.concatenate([np.full(22, 40.0), np.linspace(40, 140, 66)]))
    background = median_background(pictures[::4])
    assert np.quantile(iou(np.stack([moving_box(picture, background) for picture in pictures]), boxes), 0.1) > 0.8


def test_who_stands_all_the_time_is_not_found_and_that_is_said():
    pictures, _ = filmed(np.full(40, 70.0))
    background = median_background(pictures[::2])
    found = np.stack([moving_box(picture, background) for picture in pictures])
    assert np.isnan(found).all()
    with pytest.raises(ValueError, match='got 0 of 40: give boxes or keypoints'):
        steady_squares(found, 20)


def test_nobody_there():
    pictures, _ = filmed([*WALK, *[np.nan] * 20])
    background = median_background(pictures[::4])
    assert all(np.isnan(moving_box(picture, background)).all() for picture in pictures[60:])
    nothing = median_background(filmed([np.nan] * 20, noise=6.0)[0])
    assert all(np.isnan(moving_box(picture, nothing)).all() for picture in filmed([np.nan] * 20, noise=6.0, seed=1)[0])


def test_boxes_are_of_the_source_picture():
    pictures, boxes = filmed(WALK)
    large = [np.kron(picture, np.ones((4, 4), np.uint8)) for picture in pictures]
    small = [reduced(picture, 160) for picture in large]
    np.testing.assert_array_equal(small, pictures)
    background = median_background(small[::3])
    found = np.stack([moving_box(picture, background, (4 * W, 4 * H)) for picture in small])
    np.testing.assert_allclose(found[30], 4 * (moving_box(pictures[30], background) + 0.5) - 0.5)
    assert np.median(iou(found, 4 * (boxes + 0.5) - 0.5)) > 0.9


def test_the_largest_is_taken():
    pictures, boxes = filmed(WALK)
    for i, picture in enumerate(pictures):
        picture[108:119, 5 + 2 * i : 17 + 2 * i] = 230  # a dog
    background = median_background(pictures[::3])
    assert np.quantile(iou(np.stack([moving_box(picture, background) for picture in pictures]), boxes), 0.1) > 0.8


def test_backgrounds_are_checked():
    pictures, _ = filmed(WALK)
    with pytest.raises(ValueError, match='reduced to at most 640 px'):
        median_background(np.zeros((5, 700, 700), np.uint8))
    with pytest.raises(ValueError, match='at least 5'):
        median_background(pictures[:4])
    with pytest.raises(ValueError, match='shape'):
        moving_pixels(pictures[0][:50], median_background(pictures))
    assert isinstance(median_background(pictures), Background)


# ---- steady squares --------------------------------------------------------------------------------------------------


def middles(boxes):
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def sides(boxes):
    return boxes[:, 2:] - boxes[:, :2]


def wandering(n=200, hz=50, noise=4.0, seed=0):
    rng, at = np.random.default_rng(seed), np.arange(n) / hz
    truth = np.column_stack([300 + 80 * np.sin(2 * np.pi * 0.5 * at), 200 + 10 * np.sin(2 * np.pi * 1.8 * at)])
    half = np.column_stack([40 + 8 * np.sin(2 * np.pi * 1.8 * at), np.full(n, 100)])
    return np.concatenate([truth - half, truth + half], axis=1) + rng.normal(0, noise, (n, 4)), truth


def test_less_jitter_without_lag():
    boxes, truth = wandering()
    squares = steady_squares(boxes, 50)
    jitter = [np.abs(np.diff(middles(one), n=2, axis=0)).mean() for one in (boxes, squares)]
    assert jitter[1] < jitter[0] / 15
    lag = [np.abs(middles(squares)[20:-20, 0] - np.roll(truth[:, 0], shift)[20:-20]).mean() for shift in range(-5, 6)]
    assert np.argmin(lag) == 5
    assert (
        np.abs(middles(squares) - truth)[:, 0].mean() < 4 and np.abs(middles(squares) - truth)[:, 1].mean() < 6
    )  # of 200 px; steps are smoothed away, the walk is not
    assert np.ptp(sides(squares)[:, 0]) < 0.06 * sides(squares).mean()
    np.testing.assert_allclose(sides(squares)[:, 0], sides(squares)[:, 1])


def test_a_straight_walk_stays_where_it_is():
    walk = np.arange(50)[:, None] * [3.0, 1, 3, 1] + [10, 20, 60, 170]
    squares = steady_squares(walk, 25, padding=1)
    np.testing.assert_allclose(middles(squares), middles(walk), atol=1e-9)
    np.testing.assert_allclose(squares, square_box(torch.tensor(walk).reshape(-1, 2, 2), 1).numpy(), atol=1e-9)


def test_single_mad_boxes_and_gaps():
    boxes, truth = wandering(noise=0)
    spoilt = boxes.copy()
    for i in (3, 60, 61, 120, 199):
        spoilt[i] += [200, -100, 250, 150]
    spoilt[90] = [0, 0, 640, 480]
    spoilt[140:160] = np.nan
    spoilt[:2] = np.nan
    squares, clean = steady_squares(spoilt, 50), steady_squares(boxes, 50)
    assert np.isfinite(squares).all()
    assert np.abs(squares - clean)[10:135].max() < 4
    assert np.abs(squares - clean).max() < 40  # bridged by a straight line where the path bends


def test_the_person_is_inside():
    boxes, _ = wandering()
    boxes[100:110, 2] += 60  # an arm put out
    squares = steady_squares(boxes, 50)
    assert ((squares[:, :2] <= boxes[:, :2]) & (squares[:, 2:] >= boxes[:, 2:])).all()


@pytest.mark.parametrize('n, hz', [(1, 10), (2, 10), (3, 50), (5, 1), (30, 0.5)])
def test_short_and_slow(n, hz):
    boxes = np.arange(n)[:, None] + np.array([[10.0, 20, 30, 60]])
    squares = steady_squares(boxes, hz)
    assert squares.shape == (n, 4) and (sides(squares) > 0).all()
    np.testing.assert_allclose(middles(squares), middles(boxes), atol=1e-9)


def test_squares_are_checked():
    boxes = np.tile([10.0, 20, 30, 60], (20, 1))
    few = np.where(np.arange(20)[:, None] < 4, boxes, np.nan)
    for kwargs, words in (
        (dict(boxes=boxes[:, :3]), 'shape'),
        (dict(boxes=few), '4 of 20'),
        (dict(boxes=boxes * np.nan, found=0), '0 of 20'),
        (dict(boxes=boxes, hz=0), 'hz'),
        (dict(boxes=boxes, padding=-1), 'padding'),
        (dict(boxes=boxes[:0]), 'n > 0'),
    ):
        with pytest.raises(ValueError, match=words):
            steady_squares(**(dict(hz=10) | kwargs))
    assert np.isfinite(steady_squares(few, 10, found=0.1)).all()
    np.testing.assert_allclose(sides(steady_squares(boxes, 10, least_px=200)), 200)
    with pytest.warns(UserWarning, match='48 px, crops of 64 px are enlarged: side=32'):
        steady_squares(boxes, 10, crop_side=64)


# ---- cutting ---------------------------------------------------------------------------------------------------------


def scenery(rng, width, height):
    "Smooth, with some texture: what area averages and antialiasing filters agree upon."
    yy, xx = np.mgrid[:height, :width]
    parts = [
        128
        + 60 * np.sin(xx / rng.uniform(15, 40) + rng.uniform(0, 6)) * np.cos(yy / rng.uniform(15, 40))
        + 20 * np.sin((xx + 2 * yy) / 9 + k)
        for k in range(3)
    ]
    return np.stack(parts, axis=-1).round().clip(0, 255).astype(np.uint8)


def slow_area(image, box, side):
    "Mean over each crop pixel of what it covers, one source pixel at a time; beyond the picture its edge."
    h, w = image.shape[:2]
    left, top, right, bottom = np.asarray(box) + 0.5
    step = (right - left) / side
    out = np.zeros((side, side) + image.shape[2:])
    for row, column in np.ndindex(side, side):
        y0, x0 = top + row * step, left + column * step
        total = 0
        for y, x in itertools.product(
            range(int(np.floor(y0)), int(np.ceil(y0 + step))), range(int(np.floor(x0)), int(np.ceil(x0 + step)))
        ):
            share = (min(y + 1, y0 + step) - max(y, y0)) * (min(x + 1, x0 + step) - max(x, x0))
            out[row, column] += share * image[min(max(y, 0), h - 1), min(max(x, 0), w - 1)]
            total += share
        out[row, column] /= total
    return out


@pytest.mark.parametrize(
    'box, side',
    [
        ((10.3, 20.8, 90.3, 100.8), 16),
        ((10, 20, 90, 100), 32),
        ((-30.5, -12.2, 60.5, 78.8), 20),
        ((70.1, 60.1, 150.1, 140.1), 20),
        ((5.5, 5.5, 165.5, 165.5), 8),
        ((-40, -40, 200, 200), 24),
    ],
)
def test_cut_is_the_slow_area_average(box, side):
    image = scenery(np.random.default_rng(0), 130, 110)
    off = cut(image, box, side) - slow_area(image, box, side)
    assert np.sqrt((off**2).mean()) < 4 and abs(off.mean()) < 0.5


CAMERA = Camera(intrinsics(400.0, (320, 240)), *look_at((0.0, -4000, 1500), (0.0, 0, 900)), (320, 240))
SQUARES = [
    (100.3, 60.9, 200.3, 160.9),
    (80.0, 40.0, 208.0, 168.0),
    (90.77, 33.1, 290.77, 233.1),
    (-30.2, -20.6, 259.8, 269.4),
    (138.25, 88.75, 178.25, 128.75),
]


@pytest.mark.parametrize('side', [17, 64, 128])
@pytest.mark.parametrize('box', SQUARES)
@pytest.mark.parametrize('way', ['cut', 'planes'])
def test_a_point_lands_where_the_crops_camera_sees_it(box, side, way):
    point = torch.tensor([[-30.0, 60, 1020]]).double()
    u, v = project(point, CAMERA)[0].numpy()
    yy, xx = np.mgrid[:240, :320]
    spot = (250 * np.exp(-((xx - u) ** 2 + (yy - v) ** 2) / (2 * 4**2))).round().astype(np.uint8)
    if way == 'cut':
        seen = cut(np.repeat(spot[..., None], 3, axis=-1), box, side)[..., 1]
    else:
        seen = cut_planes(spot, *[np.full((120, 160), 128, np.uint8)] * 2, box, side, full_range=True)[..., 1]
    rows, columns = np.mgrid[:side, :side]
    expected = project(point, crop_camera(CAMERA, box, side)[0])[0].numpy()
    assert (
        np.abs(
            [(seen * columns.astype(float)).sum() / seen.sum(), (seen * rows.astype(float)).sum() / seen.sum()]
            - expected
        ).max()
        < 0.1
    )


def test_colour_lands_where_luma_does():
    "A coloured spot: its colour samples on even columns, between rows."
    yy, xx = np.mgrid[:240, :320]
    u, v = 151.3, 97.8
    spot = lambda x, y: 128 + (100 * np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * 6**2)))
    chroma = spot(xx[::2, ::2], yy[::2, ::2] + 0.5).round().astype(np.uint8)
    box = (100.3, 60.9, 200.3, 160.9)
    red = (
        cut_planes(
            np.full((240, 320), 100, np.uint8), np.full((120, 160), 128, np.uint8), chroma, box, 50, full_range=True
        )[..., 0].astype(float)
        - 100
    )
    rows, columns = np.mgrid[:50, :50]
    seen = np.array([(red * columns).sum(), (red * rows).sum()]) / red.sum()
    assert np.abs(seen - [(u - box[0]) / 2 - 0.5, (v - box[1]) / 2 - 0.5]).max() < 0.1


def bt_to_rgb(y, cb, cr, red, blue, full_range):
    "The formulas of the standard, pixel by pixel in float64."
    y, cb, cr = (
        (y / 255, (cb - 128) / 255, (cr - 128) / 255)
        if full_range
        else ((y - 16) / 219, (cb - 128) / 224, (cr - 128) / 224)
    )
    r, b = y + 2 * (1 - red) * cr, y + 2 * (1 - blue) * cb
    return 255 * np.stack([r, (y - red * r - blue * b) / (1 - red - blue), b], axis=-1)


@pytest.mark.parametrize(
    'matrix, red, blue', [('bt601', 0.299, 0.114), ('bt709', 0.2126, 0.0722), ('bt2020', 0.2627, 0.0593)]
)
@pytest.mark.parametrize('full_range', [False, True])
@pytest.mark.parametrize('sub', [(2, 2), (2, 1), (1, 1)])
def test_planes_against_the_whole_picture_converted(matrix, red, blue, full_range, sub):
    rng = np.random.default_rng(1)
    picture = (scenery(rng, 160, 120) * 0.5 + 60).round().astype(np.uint8)
    fx, fy = sub
    y, cb, cr = picture[..., 0], picture[::fy, ::fx, 1], picture[::fy, ::fx, 2]
    yy, xx = np.mgrid[:120, :160]
    import scipy.ndimage

    at = lambda plane: scipy.ndimage.map_coordinates(
        plane.astype(float), [(yy - (fy - 1) / 2) / fy, xx / fx], order=1, mode='nearest'
    )
    whole = bt_to_rgb(y.astype(float), at(cb), at(cr), red, blue, full_range).clip(0, 255)
    box = (20.3, 10.7, 110.3, 100.7)
    off = cut_planes(y, cb, cr, box, 30, matrix, full_range) - slow_area(whole, box, 30)
    assert np.abs(off).mean() < 3 and np.abs(off.mean((0, 1))).max() < 0.8


def test_planes_with_padding_after_each_row():
    "A decoder's rows are longer than the picture."
    buffer = np.random.default_rng(0).integers(0, 255, (48, 96), dtype=np.uint8)
    y, u = buffer[:, :64], buffer[:24, :32]
    np.testing.assert_array_equal(
        cut_planes(y, u, u, (3.2, 5.1, 33.2, 35.1), 12),
        cut_planes(y.copy(), u.copy(), u.copy(), (3.2, 5.1, 33.2, 35.1), 12),
    )


@pytest.mark.parametrize(
    'box, words',
    [
        ((0, 0, 10, 20), 'square'),
        ((10, 10, 5, 5), 'square'),
        ((0, 0, np.nan, 10), 'square'),
        ((0, 0, 10), 'square'),
        ((200, 0, 220, 20), 'must meet'),
        ((-30, 0, -10, 20), 'must meet'),
    ],
)
def test_boxes_that_cannot_be_cut(box, words):
    image = np.zeros((100, 120, 3), np.uint8)
    with pytest.raises(ValueError, match=words):
        cut(image, box, 16)
    with pytest.raises(ValueError, match=words):
        cut_planes(image[..., 0], image[:50, :60, 0], image[:50, :60, 0], box, 16)


def test_planes_are_checked():
    y, u = np.zeros((20, 20), np.uint8), np.zeros((10, 10), np.uint8)
    for planes, words in (((y.astype(np.uint16), u, u), 'uint8'), ((y, u, u[:5]), 'alike'), ((y[None], u, u), 'uint8')):
        with pytest.raises(ValueError, match=words):
            cut_planes(*planes, (0, 0, 10, 10), 4)
    with pytest.raises(ValueError, match='side'):
        cut_planes(y, u, u, (0, 0, 10, 10), 0)


# ---- four real videos ------------------------------------------------------------------------------------------------

WHY = 'needs the videos of pose2sim_balancing, which are not part of the project'
pytestmark_real = pytest.mark.skipif(not REAL.is_dir(), reason=WHY)


def real_keypoints(view):
    return read_keypoints(REAL / 'pose2d_body25b' / f'{view}_json', 100, (1088, 1920))


@pytestmark_real
@pytest.mark.parametrize('view', ['cam01', 'cam02', 'cam03', 'cam04'])
def test_real_man_is_followed(view):
    """As the association in the archive says; a bystander is in cam01 and cam02. In one frame of cam01 the man was
    found in two halves, either may be taken."""
    with np.load(REAL / 'balancing_multiview.npz') as archive:
        expected = archive['kp2d'][int(view[-1]) - 1]
    _, keypoints = follow_person(real_keypoints(view), (1088, 1920))
    known = np.isfinite(keypoints[..., 0])
    assert known.mean() > 0.85
    is_same = np.isclose(keypoints, expected, atol=0.01).all(-1) | ~known
    assert is_same.all(1).sum() >= (99 if view == 'cam01' else 100)


@pytestmark_real
def test_real_keypoints_fit_a_slightly_narrower_video():
    assert len(read_keypoints(REAL / 'pose2d_body25b' / 'cam01_json', 100, (1080, 1920))) == 100
    refused(
        lambda: read_keypoints(REAL / 'pose2d_body25b' / 'cam01_json', 100, (540, 960)), 'cam01_json', 'keypoint_size'
    )


@pytestmark_real
@pytest.mark.parametrize('view', ['cam01', 'cam02', 'cam03', 'cam04'])
def test_real_squares_from_movement(view):
    "A man who hardly leaves his place, 1.7 s: movement alone gives the squares of the keypoints."
    import av

    with av.open(str(REAL / 'videos' / f'{view}.mp4')) as video:
        small = []
        for frame in video.decode(video=0):
            size, plane = (frame.width, frame.height), frame.planes[0]
            small.append(
                reduced(np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width])
            )
    background = median_background(np.stack(small)[np.linspace(0, 99, 25).astype(int)])
    moved = steady_squares([moving_box(picture, background, size) for picture in small], 60)
    expected = steady_squares(
        follow_person(
            read_keypoints(REAL / 'pose2d_body25b' / f'{view}_json', 100, size, keypoint_size=(1088, 1920)), size
        )[0],
        60,
    )
    assert np.median(iou(moved, expected)) > 0.75 and iou(moved, expected).min() > 0.6
    assert np.median(np.abs(middles(moved) - middles(expected)).max(1) / sides(expected)[:, 0]) < 0.08
