"""What people's own files do to other programs, rebuilt here from nothing.

Each case has its source, a public thread as repository#number, and the right value.
"""

import shutil
import unicodedata

import numpy as np
import pandas as pd
import pytest
from small_films import QUICK, STANDING, box_table, moving, numbers, shoot, write_trc

from mvssl.dataset import DatasetError
from mvssl.show.embedding_map import tsne_map
from mvssl.refusal import Refusal
from mvssl.sampler import ChunkPairSampler
from mvssl.skeleton import JOINTS
from mvssl.sources.mocap import read_bvh, read_captures
from mvssl.sources.videos import find_recordings, prepare, read_labels, read_manifest
from mvssl.training import TrainConfig


def touched(home, *names):
    for name in names:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).touch()
    return home


def message(function, *args, **kwargs):
    with pytest.raises(DatasetError) as error:
        function(*args, **kwargs)
    return str(error.value)


# ---- folders of videos -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'files, said',
    [
        (
            ['walk-camA.mp4', 'walk-camB.mp4', 'run-camA.mp4', 'run-camB.mp4'],
            ('run-camA and walk-camA are of one camera', 'one folder per take', '.csv'),
        ),  # lambdaloop/anipose#97
        (
            ['Video1Cam1.avi', 'Video1Cam2.avi', 'Video2Cam1.avi', 'Video2Cam2.avi'],
            ('Video1Cam1 and Video2Cam1 are of one camera',),
        ),  # lambdaloop/anipose#97
        (
            ['take_cam01.mp4', 'take_cam2.mp4', 'other_cam1.mp4'],
            ('other_cam1 and take_cam01 are of one camera',),
        ),  # lambdaloop/anipose#98
        (
            ['Cam0/walk.mov', 'Cam0/run.mov', 'Cam1/walk.mov', 'Cam1/run.mov'],
            ('Cam0, Cam1 are named after cameras', 'run/Cam0.mov'),
        ),  # perfanalytics/pose2sim#142, OpenCap's folders
        (['S1/camera_a/walk.mp4', 'S1/camera_b/walk.mp4'], ('camera_a, camera_b are named after cameras',)),
        (
            ['cam1/GX010012.MP4', 'cam1/GX020012.MP4', 'cam2/GX010044.MP4'],
            ('GX010012 and GX020012 are chapters of one film', 'ffmpeg'),
        ),  # lambdaloop/anipose#50, rubegartor/ReelSteady-Joiner#99
        (['GOPR0012.MP4', 'GP010012.MP4', 'side.mp4'], ('GOPR0012 and GP010012 are chapters',)),
        (
            ['walk/a/frame_1.png', 'walk/a/frame_10.png', 'walk/b/frame_1.png'],
            ('single pictures (walk/a/frame_1.png', 'ffmpeg'),
        ),  # lambdaloop/anipose#78
        (
            ['x/Cam1.mp4', 'x/Cam2.mp4', 'y/cam1.mp4', 'y/Cam2.mp4'],
            ('Cam1 and cam1 differ in capitals alone',),
        ),  # lambdaloop/anipose#97
    ],
)
def test_takes_are_not_taken_for_cameras(tmp_path, files, said):
    told = message(find_recordings, touched(tmp_path / 'rig', *files))
    assert all(part in told for part in said), told


@pytest.mark.parametrize(
    'files, views',
    [
        (
            ['left_high.mp4', 'left_low.mp4', 'right_high.mp4', 'right_low.mp4'],
            ['left_high', 'left_low', 'right_high', 'right_low'],
        ),
        (['cam1.mp4', 'cam2.mp4', 'cam12.mp4'], ['cam1', 'cam2', 'cam12']),
        (['take 1 cam 1.mp4', 'take 1 cam 2.mp4'], ['take 1 cam 1', 'take 1 cam 2']),
        (['GX010012.MP4', 'GX010044.MP4'], ['GX010012', 'GX010044']),
        (['cam 1 (left) 100%.mp4', 'cam#2 [b].mp4'], ['cam 1 (left) 100%', 'cam#2 [b]']),
    ],
)
def test_cameras_of_one_take_are_taken(tmp_path, files, views):
    (found,) = find_recordings(touched(tmp_path / 'a walk', *files))
    assert [clip.view for clip in found.clips] == views


def test_a_name_is_one_however_its_letters_are_composed(tmp_path):
    "macOS and Linux write letters with dots in two ways: zed-industries/zed#30503, vgough/encfs#316."
    composed, apart = (unicodedata.normalize(form, 'Tür') for form in ('NFC', 'NFD'))
    assert composed != apart
    for sequence, name in (('x', composed), ('y', apart)):
        for view, stem in ((0, name), (1, 'b ')):
            shoot(tmp_path / 'in' / sequence / f'{stem}.mp4', view=view, n=24)
            box_table(
                tmp_path / 'boxes' / sequence / f'{apart if sequence == "x" else composed}.csv'
                if view == 0
                else tmp_path / 'boxes' / sequence / 'b.csv',
                n=24,
            )
    ds = prepare(tmp_path / 'in', tmp_path / 'out', boxes=tmp_path / 'boxes', **QUICK)
    assert ds.views == [composed, 'b'] and ds.seen[:].all()
    (tmp_path / 'list.csv').write_text(
        'file,subject,sequence,view\n'
        f'in/x/{apart}.mp4,anna,w,{apart}\n'
        'in/x/b .mp4,anna,w,b\n'
        f'in/y/{composed}.mp4,anna,v,{composed}\n',
        encoding='utf-8',
    )
    assert {clip.view for one in read_manifest(tmp_path / 'list.csv') for clip in one.clips} == {composed, 'b'}


def test_one_film_under_two_names_is_refused(tmp_path):
    "OpenCap and others keep copies beside the films: perfanalytics/pose2sim#142."
    for view, name in enumerate('ab'):
        shoot(tmp_path / 'in' / f'{name}.mp4', view=view, n=24)
    shutil.copy(tmp_path / 'in' / 'a.mp4', tmp_path / 'in' / 'a_sync.mp4')
    told = message(prepare, tmp_path / 'in', tmp_path / 'out', **QUICK)
    assert 'a_sync.mp4' in told and 'a.mp4 holds, byte for byte' in told
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    'ending, options',
    [
        ('.mp4', dict(pix_fmt='yuv420p10le')),
        ('.mkv', dict(codec='ffv1', pix_fmt='gray')),
        ('.mkv', dict(codec='ffv1', pix_fmt='gray10le')),
        ('.mp4', dict(size=(161, 121), pix_fmt='yuv444p')),
    ],
)
def test_unusual_pictures_are_read_right(tmp_path, ending, options):
    "Ten bits, grey, odd sides: PyAV-Org/PyAV#570 and its like."
    for view, name in enumerate('ab'):
        shoot(tmp_path / 'in' / f'{name}{ending}', view=view, n=24, **options)
        box_table(tmp_path / 'boxes' / f'{name}.csv', n=24)
    ds = prepare(tmp_path / 'in', tmp_path / 'out', boxes=tmp_path / 'boxes', **QUICK)
    found = numbers(ds.frames[:])
    np.testing.assert_allclose(found[:, 0], found[:, 1], atol=1.2)
    np.testing.assert_allclose(np.diff(found[:, 0]), 3, atol=1.5)


def test_a_phone_that_slows_down_keeps_its_time(tmp_path):
    "Phones film half as often when it gets dark: Kinovea/Kinovea#154, TadasBaltrusaitis/OpenFace#304."
    shoot(tmp_path / 'in' / 'phone.mp4', view=0, times=np.concatenate([np.arange(30) / 30, 1 + np.arange(15) / 15]))
    shoot(tmp_path / 'in' / 'camera.mp4', view=1)
    ds = prepare(tmp_path / 'in', tmp_path / 'out', **QUICK)
    both, found = ds.seen[:].all(1), numbers(ds.frames[:])
    assert both[:10].all() and 4 <= both[10:].sum() < 10 and 'phone lacks frames' in ds.extra['notes'][0]
    np.testing.assert_allclose(found[both, 0], found[both, 1], atol=1.2)


# ---- labels ----------------------------------------------------------------------------------------------------------

KNEE = list(STANDING).index('RKnee')


def gap(value):
    "120 rows of which 40 to 59 lack the right knee."
    points = moving(120)
    points[40:60, KNEE] = points[39, KNEE] if value == 'held' else value
    return points


@pytest.mark.parametrize(
    'value, lost, said',
    [
        (np.nan, range(40, 60), None),
        (0.0, range(40, 60), 'exactly 0, 0, 0'),  # csu-hmc/GaitAnalysisToolKit#69, pyomeca/ezc3d#128
        ('held', range(39, 60), 'keeps its place'),  # perfanalytics/pose2sim#114: gaps are filled with the last place
    ],
)
@pytest.mark.parametrize('ending', ['.trc', '.npz'])
def test_points_that_were_not_seen_are_no_labels(tmp_path, value, lost, said, ending):
    points = gap(value)
    if ending == '.trc':
        path = write_trc(tmp_path / 'a.trc', points)
    else:
        np.savez(path := tmp_path / 'a.npz', points_mm=points, joints=np.array(list(STANDING)), hz=60.0)
    labels, whole = read_labels(path), read_labels(write_trc(tmp_path / 'whole.trc', moving(120))).poses
    assert np.flatnonzero(np.isnan(labels.poses).any((1, 2))).tolist() == list(lost)
    is_left = np.isfinite(labels.poses).all((1, 2))
    np.testing.assert_allclose(labels.poses[is_left], whole[is_left], atol=1e-2)
    assert not labels.notes if said is None else said in labels.notes[0]


def test_what_stands_still_is_no_gap(tmp_path):
    "A foot on the floor, a body that rests, and the hip of poses around their hip."
    points = moving(120)
    for foot in ('RAnkle', 'LAnkle'):
        points[30:60, list(STANDING).index(foot)] = points[30, list(STANDING).index(foot)]
    assert np.isfinite(read_labels(write_trc(tmp_path / 'a.trc', points)).poses).all()
    points[:] = points[0]
    assert np.isfinite(read_labels(write_trc(tmp_path / 'b.trc', points)).poses).all()
    poses = read_labels(write_trc(tmp_path / 'c.trc', moving(120))).poses
    np.savez(tmp_path / 'd.npz', poses_mm=poses - poses[:, :1], joints=np.array(JOINTS), hz=60.0)
    assert np.isfinite(read_labels(tmp_path / 'd.npz').poses).all()


def test_whole_numbers_are_numbers(tmp_path):
    "Poses in whole mm, as tables of marker systems have them."
    poses = read_labels(write_trc(tmp_path / 'c.trc', moving(120))).poses
    np.savez(tmp_path / 'd.npz', poses_mm=poses.round().astype('int32'), joints=np.array(JOINTS), hz=60)
    np.testing.assert_allclose(read_labels(tmp_path / 'd.npz').poses, poses.round())


# ---- motion capture --------------------------------------------------------------------------------------------------


def bones():
    "A person in cm, name -> (parent, offset), and ends."
    side = {'Left': 1, 'Right': -1}
    tree = dict(
        Hips=(None, (0, 95, 0)), Spine=('Hips', (0, 25, 0)), Neck=('Spine', (0, 27, 0)), Head=('Neck', (0, 10, 1))
    )
    for s, x in side.items():
        tree |= {
            f'{s}Arm': ('Neck', (17 * x, -4, 0)),
            f'{s}ForeArm': (f'{s}Arm', (28 * x, 0, 0)),
            f'{s}Hand': (f'{s}ForeArm', (26 * x, 0, 0)),
            f'{s}UpLeg': ('Hips', (10 * x, -3, 0)),
            f'{s}Leg': (f'{s}UpLeg', (0, -43, 0)),
            f'{s}Foot': (f'{s}Leg', (0, -42, 0)),
        }
    return tree, dict(
        Head=(0, 18, 0), LeftHand=(9, 0, 0), RightHand=(-9, 0, 0), LeftFoot=(0, -5, 15), RightFoot=(0, -5, 15)
    )


def angle(name, time):
    "Angle about x of a joint of somebody who walks, degrees."
    swing = np.sin(2 * np.pi * time) * (1 if name.startswith('Left') else -1)
    return (
        -25 * swing
        if name.endswith('UpLeg')
        else 20 + 15 * swing
        if name.endswith('Leg')
        else 20 * swing
        if name.endswith('Arm') and 'Fore' not in name
        else 0
    )


def bvh(positions='', offsets=True, announced=None, n=60, hz=30, number='{:.4f}'):
    """A file of rotations.

    Joints below the root have no position channels, or the places of the bones ('bones'), or 0 ('zero'),
    or small shifts ('shifts').
    """
    tree, ends = bones()
    lines, joints = ['HIERARCHY'], []

    def write(name, pad=''):
        parent, offset = tree[name]
        joints.append(name)
        channels = (
            'Xposition Yposition Zposition ' if positions or not parent else ''
        ) + 'Zrotation Xrotation Yrotation'
        lines.extend(
            [
                f'{pad}{"JOINT" if parent else "ROOT"} {name}',
                pad + '{',
                f'{pad} OFFSET {"{} {} {}".format(*(offset if offsets or not parent else (0, 0, 0)))}',
                f'{pad} CHANNELS {len(channels.split())} {channels}',
            ]
        )
        for child in [child for child, (above, _) in tree.items() if above == name]:
            write(child, pad + ' ')
        if name in ends:
            lines.extend([pad + ' End Site', pad + ' {', f'{pad}  OFFSET {"{} {} {}".format(*ends[name])}', pad + ' }'])
        lines.append(pad + '}')

    write('Hips')
    for i in range(n):
        row = []
        for name in joints:
            parent, offset = tree[name]
            if not parent:
                row += [0, 95, 100 * i / hz]
            elif positions:
                row += {'bones': offset, 'zero': (0, 0, 0), 'shifts': (0.2, -0.1, 0.1)}[positions]
            row += [0, angle(name, i / hz), 0]
        lines.append(' '.join(number.format(value) for value in row))
    at = len(lines) - n
    lines[at:at] = ['MOTION', f'Frames: {n if announced is None else announced}', f'Frame Time: {1 / hz:.6f}']
    return '\n'.join(lines) + '\n'


def captured(home, text):
    home.mkdir()
    (home / 'A1_01.bvh').write_text(text)
    return read_captures(home, hz=10).takes[0].points


@pytest.mark.parametrize(
    'how, tolerance_mm',
    [
        (dict(positions='bones'), 0.01),  # Wasserwecken/bvhio#5, Anytop2025/Anytop#9: six channels at every joint
        (
            dict(positions='bones', offsets=False),
            0.01,
        ),  # DeepMotionEditing/deep-motion-editing#121: places in the channels, offsets of 0
        (dict(positions='zero'), 0.01),  # facebookresearch/AnimatedDrawings#173: channels of 0 beside the offsets
        (dict(positions='shifts'), 15),  # the same with small shifts
        (dict(number='{:.7e}'), 0.01),  # emilianavt/BVHTools#11, jbrd/usdBVHAnim#36: 1.25358e-05
        (dict(announced=59), 0.01),  # facebookresearch/AnimatedDrawings#140 and #144: one frame more than announced
        (dict(announced=0), 0.01),
    ],
)
def test_the_same_walk_however_it_is_written(tmp_path, how, tolerance_mm):
    plain, other = captured(tmp_path / 'plain', bvh()), captured(tmp_path / 'other', bvh(**how))
    assert len(plain) == 20
    np.testing.assert_allclose(other, plain, atol=tolerance_mm)


def test_more_frames_than_announced_are_all_read(tmp_path):
    (tmp_path / 'a.bvh').write_text(bvh(announced=59))
    assert len(read_bvh(tmp_path / 'a.bvh')) == 60


@pytest.mark.parametrize(
    'change, said',
    [
        (
            lambda t: t.replace('MOTION', t[len('HIERARCHY\n') : t.index('MOTION')] + 'MOTION'),
            ('a second skeleton, Hips', 'one person per file'),
        ),
        (
            lambda t: t.replace(' 0.0000 0.0000 0.0000', ' 0.0000-0.0000 0.0000', 1),
            ("'0.0000-0.0000' is not a number",),
        ),  # SlimeVR/SlimeVR-Server#995: a space is missing
        (lambda t: t.replace('0.033333', '33.3333'), ('Frame Time 33.3333 s', 'in s')),
        (lambda t: t.replace('0.033333', '0.000000'), ('Frame Time 0 s',)),
        (lambda t: t[: int(0.9 * len(t))], ('cut off',)),
        (lambda t: t.replace(' 0.0000 0.0000', ' nan 0.0000', 1), ("'nan' is not a number", 'joint')),
    ],
)
def test_motion_that_is_refused(tmp_path, change, said):
    (tmp_path / 'a.bvh').write_text(change(bvh()))
    told = message(read_bvh, tmp_path / 'a.bvh')
    assert all(part in told for part in ('a.bvh, line', *said)), told


# ---- tables of a sampler, parameters from a shell --------------------------------------------------------------------


def instants(n=40, **columns):
    return pd.DataFrame(dict(subject='S1', action='walk', sequence='a', index=np.arange(n)) | columns)


@pytest.mark.parametrize(
    'change',
    [
        lambda t: t.set_index(np.arange(len(t))[::-1] * 3),  # rows have labels of their own, as after a filter
        lambda t: t.sample(frac=1, random_state=0),  # in any order
        lambda t: t.assign(
            subject=pd.Categorical(t['subject'], categories=['S0', 'S1'])
        ),  # with a class that nobody has
        lambda t: t.assign(subject=7, index=t['index'].astype(float)),
        lambda t: pd.concat([t.iloc[:36], t.iloc[:4]]),  # the same instants twice
        lambda t: t[t['index'] % 3 == 0],  # most left out
    ],
)
def test_pairs_of_any_table(change):
    "KevinMusgrave/pytorch-metric-learning#611 and #124: a batch holds no class twice, whatever the labels are."
    table = change(instants())
    seen = np.random.default_rng(0).random((len(table), 4)) < 0.6
    sampler = ChunkPairSampler(table, seen, 3)
    chunk, index = 4, table['index'].to_numpy()
    visited = []
    for batch in sampler:
        rows, anchor, positive = (values.numpy() for values in batch)
        chunks = index[rows] // chunk
        assert len(set(chunks)) == len(chunks)
        assert seen[rows, anchor].all() and seen[rows, positive].all() and (anchor != positive).all()
        visited += chunks.tolist()
    assert sorted(visited) == sorted(set(index[seen.sum(1) >= 2] // chunk))


@pytest.mark.parametrize(
    'change, options, said',
    [
        (
            lambda t: t.assign(subject=[None] * 20 + ['S1'] * 20),
            {},
            'subject of every row, it is missing in 20, first in row 0',
        ),  # KevinMusgrave/pytorch-metric-learning#611: errors of other libraries
        (
            lambda t: t.assign(sequence=['a'] * 39 + [np.nan]),
            {},
            'sequence of every row, it is missing in 1, first in row 39',
        ),
        (
            lambda t: t.assign(index=t['index'].where(t['index'] != 3)),
            {},
            'index of every row, it is missing in 1, first in row 3',
        ),
        (lambda t: t.assign(index=t['index'].astype(str)), {}, "index must be whole numbers, got object, such as '0'"),
        (lambda t: t.assign(index=t['index'] + 0.5), {}, 'index must be whole numbers'),
        (lambda t: t, dict(n_pairs='4'), "n_pairs must be a whole number, got '4'"),
        (lambda t: t, dict(n_pairs=4.0), 'n_pairs must be a whole number'),
        (lambda t: t, dict(n_pairs=64), 'n_pairs must be at most 10, the number of chunks'),
    ],
)
def test_tables_that_say_too_little(change, options, said):
    with pytest.raises(Refusal, match=said):
        ChunkPairSampler(change(instants()), np.ones((40, 4), bool), **dict(n_pairs=4) | options)


@pytest.mark.parametrize(
    'values, said',
    [
        (
            dict(margin='0,6'),
            "margin must be a number, with a decimal point, got '0,6'",
        ),  # nteract/papermill#724 and #264: values that come as texts
        (dict(margin='0.6'), 'margin must be a number'),
        (dict(margin=[0.6, 0.5]), 'margin must be a number'),
        (dict(beta=None), 'beta must be a number'),
        (dict(seed=True), 'seed must be a whole number, got True'),
        (dict(steps=600.0), 'steps must be a whole number, got 600.0'),
        (dict(compile='no'), "compile must be True or False, got 'no'"),
        (dict(lr='1e-3'), 'lr must be a number'),
    ],
)
def test_parameters_of_the_wrong_kind(values, said):
    with pytest.raises(Refusal, match=said):
        TrainConfig(**values)


def test_numbers_of_any_library_are_parameters():
    config = TrainConfig(margin=np.float32(0.5), steps=np.int64(100), standardise=np.bool_(True), lr=1, beta=0, ema=0)
    assert (config.margin, config.steps, config.lr) == (0.5, 100, 1)


@pytest.mark.parametrize(
    'shape, perplexity, said',
    [
        (
            (10, 8),
            30,
            'N > 3 perplexity = 90, got',
        ),  # scikit-learn/scikit-learn#10805, satijalab/seurat#1424: too few points
        ((60, 8), 0, 'perplexity must be at least 1, got 0'),
        ((60, 1), 5, 'at least 2 dimensions'),
    ],
)
def test_maps_that_cannot_be_drawn(shape, perplexity, said):
    with pytest.raises(Refusal, match=said):
        tsne_map(np.random.default_rng(0).normal(size=shape), perplexity)
