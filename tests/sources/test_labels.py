"""Guards of labels: files of many programs give one pose, units and axes are found or asked for, every refusal names
its line."""

import re

import numpy as np
import pytest
from small_films import STANDING, joint, moving, write_trc

import mvssl.sources.labels as labels_module
from mvssl.dataset import DatasetError
from mvssl.skeleton import JOINTS
from mvssl.sources.labels import map_joints, read_labels


@pytest.mark.parametrize('unit', ['m', 'cm', 'mm'])
@pytest.mark.parametrize('up', ['y', 'z'])
def test_trc_in_any_unit_and_axis(tmp_path, unit, up):
    labels = read_labels(write_trc(tmp_path / 'a.trc', moving(120), unit=unit, up=up), up='' if up == 'y' else 'z')
    assert (labels.unit, labels.up) == (unit, up)
    for ours, theirs in (
        ('RFoot', 'RAnkle'),
        ('LWrist', 'LWrist'),
        ('Thorax', 'Neck'),
        ('Neck/Nose', 'Nose'),
        ('Head', 'Head'),
    ):
        np.testing.assert_allclose(joint(labels.poses, ours)[0], STANDING[theirs], atol=0.01)
    np.testing.assert_allclose(joint(labels.poses, 'Hip')[60], (1000, 0, 900), atol=0.01)
    np.testing.assert_allclose(joint(labels.poses, 'Spine')[0], (0, 0, 1175), atol=0.01)


@pytest.mark.parametrize('axis', ['x', 'y', 'z', '-x', '-y', '-z'])
def test_axes_turn_and_never_mirror(axis):
    turn = np.array(labels_module._UP[axis])
    assert np.linalg.det(turn) == 1
    up = np.zeros(3)
    up['xyz'.index(axis[-1])] = -1 if axis[0] == '-' else 1
    np.testing.assert_array_equal(turn @ up, (0, 0, 1))


OPENPOSE = 'RHip RKnee RAnkle LHip LKnee LAnkle Neck Nose Head LShoulder LElbow LWrist RShoulder RElbow RWrist'.split()
NAMES = {
    'openpose': OPENPOSE,
    'snake': [
        'right_hip',
        'right_knee',
        'right_ankle',
        'left_hip',
        'left_knee',
        'left_ankle',
        'neck',
        'nose',
        'head_top',
        'left_shoulder',
        'left_elbow',
        'left_wrist',
        'right_shoulder',
        'right_elbow',
        'right_wrist',
    ],
    'opensim': [
        'hip_r',
        'knee_r',
        'ankle_r',
        'hip_l',
        'knee_l',
        'ankle_l',
        'Neck',
        'Nose',
        'Head',
        'shoulder_l',
        'elbow_l',
        'wrist_l',
        'shoulder_r',
        'elbow_r',
        'wrist_r',
    ],
    'bvh': [
        'RightUpLeg',
        'RightLeg',
        'RightFoot',
        'LeftUpLeg',
        'LeftLeg',
        'LeftFoot',
        'Neck',
        'Nose',
        'Head',
        'LeftArm',
        'LeftForeArm',
        'LeftHand',
        'RightArm',
        'RightForeArm',
        'RightHand',
    ],
    'low': [
        'rhip',
        'rknee',
        'rankle',
        'lhip',
        'lknee',
        'lankle',
        'neck',
        'nose',
        'head',
        'lshoulder',
        'lelbow',
        'lwrist',
        'rshoulder',
        'relbow',
        'rwrist',
    ],
    'subject': [f'Anna:{name}' for name in OPENPOSE],
}


@pytest.mark.parametrize('kind', NAMES)
def test_joints_by_many_names(kind):
    rng = np.random.default_rng(0)
    order, points = rng.permutation(15), moving(2)
    found = map_joints(points[:, order], [NAMES[kind][i] for i in order])
    np.testing.assert_array_equal(found, map_joints(points, list(STANDING)))


def test_coco_has_neither_neck_nor_head():
    ears = {'LEar': (70, -20, 1630), 'REar': (-70, -20, 1630)}
    points = np.array([point for name, point in (STANDING | ears).items() if name not in ('Neck', 'Head')], float)[None]
    found = map_joints(points, [name for name in STANDING | ears if name not in ('Neck', 'Head')])
    np.testing.assert_allclose(joint(found, 'Thorax')[0], (0, 0, 1440))
    assert np.linalg.norm(joint(found, 'Head')[0] - STANDING['Head']) < 30


def test_our_own_names_are_taken_as_they_are():
    points = np.random.default_rng(0).normal(size=(3, 17, 3))
    np.testing.assert_array_equal(map_joints(points, JOINTS), points)
    order = np.random.default_rng(1).permutation(17)
    np.testing.assert_array_equal(map_joints(points[:, order], [JOINTS[i] for i in order]), points)


def test_unknown_joints_are_named():
    with pytest.raises(ValueError, match=r'RKnee, LElbow.*Neck'):
        map_joints(moving(1), [{'RKnee': 'Bone7', 'LElbow': 'Bone8'}.get(name, name) for name in STANDING])


def trc_changed(tmp_path, change):
    path = write_trc(tmp_path / 'a.trc', moving(120))
    path.write_text(change(path.read_text()))
    return path


@pytest.mark.parametrize(
    'make, said',
    [
        (lambda home: write_trc(home / 'a.trc', moving(120), unit='mm', header='m'), ('a.trc', 'unit', '--unit mm')),
        (lambda home: write_trc(home / 'a.trc', moving(120) * 1000), ('unit', 'person of')),
        (lambda home: write_trc(home / 'a.trc', moving(120), up='z'), ('vertical axis', 'along z, not y', '--up=z')),
        (lambda home: trc_changed(home, lambda text: text.replace('RKnee', 'Bone1')), ('RKnee', 'Bone1', 'Rename')),
        (lambda home: trc_changed(home, lambda text: text[: int(0.6 * len(text))]), ('a.trc', 'line')),
        (lambda home: trc_changed(home, lambda text: '\n'.join(text.splitlines()[:60])), ('NumFrames', '120', '55')),
        (lambda home: trc_changed(home, lambda text: text.replace('60\t60', '50\t50', 1)), ('DataRate', '50', '60')),
        (lambda home: trc_changed(home, lambda text: 'hello'), ('first line',)),
        (
            lambda home: trc_changed(home, lambda text: text.replace('1.450000', '1.45.00', 1)),
            ('line 6, Neck Y', "'1.45.00' is not a number"),
        ),
        (
            lambda home: trc_changed(home, lambda text: text.replace('60\t60', 'sixty\t60', 1)),
            ('line 3, DataRate', "'sixty' is not a number"),
        ),
        (
            lambda home: trc_changed(home, lambda text: text.replace('60\t60\t120', '60\t60\tmany', 1)),
            ('line 3, NumFrames', "'many' is not a number"),
        ),
        (
            lambda home: trc_changed(home, lambda text: text.replace('1.450000', '1,450000', 1)),
            ('line 6', 'decimal comma'),
        ),
        (
            lambda home: trc_changed(home, lambda text: text.replace('\t0.016667\t', '\tlater\t', 1)),
            ('line 7, Time', "'later' is not a number"),
        ),
        (
            lambda home: trc_changed(home, lambda text: text.replace('\t0.050000\t', '\t0.010000\t', 1)),
            ('line 9, Time', '0.01 after 0.0333', 'does not rise'),
        ),
        (
            lambda home: trc_changed(home, lambda text: text.replace('RKnee\t\t\t', '', 1)),
            ('line 4', '14 names of markers', 'counts 15'),
        ),
        (lambda home: trc_changed(home, lambda text: '\n'.join(text.splitlines()[:5])), ('rows', 'none')),
        (lambda home: trc_changed(home, lambda text: '\n'.join(text.splitlines()[:2])), ('rows', 'none')),
        (lambda home: trc_changed(home, lambda text: ''), ('first line',)),
        (
            lambda home: trc_changed(
                home, lambda text: text + text.splitlines()[-1].replace('120\t1.98', '121\t2.00') + '\t7\n'
            ),
            ('line 126', '48 columns, 47 are needed'),
        ),
        (
            lambda home: trc_changed(
                home,
                lambda text: re.sub(
                    r'^(\d+)\t(\d\.\d+)', lambda m: f'{m[1]}\t{float(m[2]) * 1000:.0f}', text, flags=re.M
                ),
            ),
            ('DataRate', '60 per second, the column Time counts 0.06', 'times are in seconds'),
        ),
        (lambda home: write_trc(home / 'a.trc', np.full((120, 15, 3), np.nan)), ('in no row',)),
        (lambda home: home / 'missing.trc', ('missing.trc', 'does not exist')),
        (lambda home: home / 'poses.json', ('neither .trc nor .npz',)),
    ],
)
def test_labels_that_are_refused(tmp_path, make, said):
    with pytest.raises(DatasetError) as caught:
        read_labels(make(tmp_path))
    assert all(part in str(caught.value) for part in said), caught.value


@pytest.mark.parametrize('hz', [1, 6, 24, 25, 29.97, 30, 50, 59.94, 60, 100, 119.88, 120, 240, 300, 500, 600])
@pytest.mark.parametrize('decimals', [3, 6])
def test_the_rate_is_that_of_the_whole_column(tmp_path, hz, decimals):
    "OpenSim's own example has 60 per second and times in milliseconds: 0.017 from the first row to the second."
    path = write_trc(tmp_path / 'a.trc', moving(240, hz), hz=hz, decimals=decimals)
    labels = read_labels(path)
    assert 1 / labels.period_s == pytest.approx(hz, rel=2e-3)
    np.testing.assert_allclose(joint(labels.at(np.array([0, 50 / hz])), 'Hip')[:, 0], (0, 50 / hz * 1000), atol=2)
    path.write_text(re.sub(r'\n[\d.]+\t[\d.]+\t240', f'\n{hz * 1.03:g}\t{hz * 1.03:g}\t240', path.read_text()))
    with pytest.raises(DatasetError, match='DataRate: .* per second, the column Time counts'):
        read_labels(path)


def test_a_column_of_times_that_jumps(tmp_path):
    "Two seconds without a row: the rate is right, and there is no pose in them."
    path = write_trc(tmp_path / 'a.trc', moving(240), decimals=3)
    lines = path.read_text().replace('\t240\t', '\t120\t').splitlines()
    path.write_text('\n'.join([*lines[:65], *lines[185:]]) + '\n')
    labels = read_labels(path)
    assert len(labels.times_s) == 120 and 1 / labels.period_s == pytest.approx(60, rel=1e-3)
    x = joint(labels.at(np.array([0.5, 59 / 60, 1.5, 2.9, 181 / 60, 3.5])), 'Hip')[:, 0]
    np.testing.assert_allclose(x[[0, 1, 4, 5]], (500, 59000 / 60, 181000 / 60, 3500), atol=2)
    assert np.isnan(x[2:4]).all()


@pytest.mark.parametrize(
    'change',
    [
        *(
            lambda text, encoding=encoding: text.encode(encoding)
            for encoding in ('utf-8-sig', 'utf-16', 'utf-16-le', 'utf-16-be')
        ),
        lambda text: text.replace('\n', '\r').encode(),
        lambda text: text.replace('\n', '\r\n').encode(),
        lambda text: ('PathFileType\t4\t(X/Y/Z)\tGehübung.trc\n' + text.partition('\n')[2]).encode('cp1252'),
        lambda text: ''.join([text[: (at := text.index('Frame#'))], text[at:].replace('.', ',')]).encode(),
        lambda text: text.replace('.', ',').replace('60\t60', '60,00\t60,00', 1).encode('utf-8-sig'),
        lambda text: text.replace('60\t60', '60,0\t60,0', 1).encode(),
        lambda text: re.sub('\t+', '  ', text).encode(),
        lambda text: re.sub(r'(?<=\d)\t(?=\d+\.\d+\t)', '\t ', text).encode(),
        lambda text: (
            re.sub(r'^(\d+)\t', r'\1   ', text, flags=re.M).replace('Frame#\tTime\t', 'Frame#  Time\t').encode()
        ),
        lambda text: text.replace('\n1\t0', '\n\n1\t0', 1).encode(),
        lambda text: text.replace('\n', '\t\t\n').encode(),
    ],
    ids=[
        'mark',
        'utf-16',
        'utf-16-le',
        'utf-16-be',
        'mac',
        'windows',
        'code page',
        'commas',
        'commas and mark',
        'comma in the rate',
        'spaces',
        'tabs and spaces',
        'spaces first',
        'empty line',
        'tabs at the end',
    ],
)
def test_trc_files_that_say_the_same(tmp_path, change):
    path = write_trc(tmp_path / 'a.trc', moving(120))
    plain = read_labels(path)
    path.write_bytes(change(path.read_text()))
    labels = read_labels(path)
    np.testing.assert_array_equal(labels.poses, plain.poses)
    np.testing.assert_array_equal(labels.times_s, plain.times_s)
    assert (labels.unit, labels.up) == ('m', 'y')


def test_names_with_spaces_between_tabs(tmp_path):
    names = [re.sub('(?<=^[LR])', ' ', name) for name in STANDING]
    assert 'R Hip' in names
    np.testing.assert_array_equal(
        read_labels(write_trc(tmp_path / 'b.trc', moving(120), names=names)).poses,
        read_labels(write_trc(tmp_path / 'a.trc', moving(120))).poses,
    )


def test_npz_with_named_joints(tmp_path):
    points = moving(50, 50.0).astype('float32')
    np.savez(tmp_path / 'a.npz', points=points, joints=list(STANDING), hz=50.0)
    labels = read_labels(tmp_path / 'a.npz')
    assert (labels.unit, labels.up, round(labels.period_s, 9)) == ('mm', 'z', 0.02)
    np.savez(tmp_path / 'b.npz', one_m=points / 1000, two_m=points / 1000, joints=list(STANDING), fps=50.0)
    with pytest.raises(DatasetError, match='one_m, two_m all fit.*b.npz:one_m'):
        read_labels(tmp_path / 'b.npz')
    np.testing.assert_allclose(read_labels(f'{tmp_path}/b.npz:two_m').poses, labels.poses, atol=0.01)
    with pytest.raises(DatasetError, match='three'):
        read_labels(f'{tmp_path}/b.npz:three')
    np.savez(tmp_path / 'c.npz', points=points, joints=list(STANDING))
    with pytest.raises(DatasetError, match='hz: missing'):
        read_labels(tmp_path / 'c.npz')
    np.savez(tmp_path / 'd.npz', points=points, hz=50)
    with pytest.raises(DatasetError, match='array of J names'):
        read_labels(tmp_path / 'd.npz')
    (tmp_path / 'e.npz').write_text('no archive')
    with pytest.raises(DatasetError, match='e.npz, file'):
        read_labels(tmp_path / 'e.npz')


def test_labels_between_their_rows(tmp_path):
    points = moving(100, 100.0)
    points[50] = np.nan
    labels = read_labels(write_trc(tmp_path / 'a.trc', points, hz=100.0))
    times = np.array([0, 0.01, 0.015, 0.333, 0.49, 0.495, 0.5, 0.51, 0.99, 0.992, 1.2, -0.1])
    x = joint(labels.at(times), 'Hip')[:, 0]
    np.testing.assert_allclose(x[[0, 1, 2, 3, 4, 7, 8]], [0, 10, 15, 333, 490, 510, 990], atol=0.01)
    assert np.isnan(x[[5, 6, 10, 11]]).all()


@pytest.mark.parametrize(
    'first_s, start_s, expected', [(0, None, 0), (1 / 60, None, 0), (2.0, None, 2), (2.0, 0.5, 0.5)]
)
def test_when_labels_begin(tmp_path, first_s, start_s, expected):
    labels = read_labels(write_trc(tmp_path / 'a.trc', moving(120), first_s=first_s), start_s=start_s)
    assert labels.times_s[0] == pytest.approx(expected, abs=1e-6)
