"""Guards of the BVH reader and of what is made of it: slow loops and an independent derivation as oracles, damaged
files, other studios' names."""

import dataclasses
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mvssl.dataset import DatasetError
from mvssl.skeleton import JOINTS
from mvssl.sources import mocap
from mvssl.sources.bodies import rest_points
from mvssl.sources.mocap import (
    AXES,
    NEEDED_POINTS,
    UNITS_MM,
    body_points,
    find_unit_mm,
    find_up,
    forward_kinematics,
    hear,
    match_joints,
    read_bvh,
    read_captures,
    read_index,
    read_names,
    resample,
    to_z_up,
    write_bvh,
)
from mvssl.sources.motion import POINTS, REFERENCE, generate, make_style
from mvssl.sources.synthetic import RIGS, Studio, in_all_views, make_dataset, set_down

SHARED = Path(os.environ.get('MVSSL_SHARED_DATA', Path(__file__).parents[3] / 'shared' / 'data'))
CMU = SHARED / 'cmu_mocap'
WHY = 'the CMU subset is not on this machine (set MVSSL_SHARED_DATA)'
needs_cmu = pytest.mark.skipif(not (CMU / 'bvh').is_dir(), reason=WHY)


def walk(n=60, seed=0, proportions=REFERENCE, action='Walking'):
    return generate(action, make_style(np.random.default_rng(seed)), n, np.random.default_rng(seed)).points(proportions)


@pytest.fixture(scope='module')
def text(tmp_path_factory):
    "A small whole file, as text."
    path = tmp_path_factory.mktemp('bvh') / 'A1_01.bvh'
    write_bvh(path, walk())
    return path.read_text()


def written(folder, text, name='A1_01.bvh'):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# ---- reading ---------------------------------------------------------------------------------------------------------


def random_bvh(rng, n_joints=9, frames=5):
    """A random tree with random channels, some of position, some joints with two ends; its text and its plain
    description."""
    parents = [-1] + [int(rng.integers(0, j)) for j in range(1, n_joints)]
    joints = []
    for j in range(n_joints):
        rotations = [f'{axis}rotation' for axis in rng.permutation(list('XYZ'))[: rng.integers(1, 4)]]
        positions = (
            [f'{axis}position' for axis in rng.permutation(list('XYZ'))[: rng.integers(0, 4)]]
            if j == 0 or rng.random() < 0.4
            else []
        )
        joints.append(
            (f'joint {j}', parents[j], rng.normal(size=3).round(3), list(rng.permutation(rotations + positions)))
        )
    ends = {j: rng.normal(size=(rng.integers(1, 3), 3)).round(3) for j in range(n_joints) if j not in parents}
    order, lines = [], []

    def write(j, pad):
        name, parent, offset, channels = joints[j]
        order.append(j)
        lines.extend(
            [
                f'{pad}{"ROOT" if parent < 0 else "JOINT"} {name}',
                pad + '{',
                f'{pad}  OFFSET {" ".join(map(str, offset))}',
                f'{pad}  CHANNELS {len(channels)} {" ".join(channels)}',
            ]
        )
        for child in [c for c in range(n_joints) if parents[c] == j]:
            write(child, pad + '  ')
        for end in ends.get(j, []):
            lines.extend([pad + '  End Site', pad + '  {', f'{pad}    OFFSET {" ".join(map(str, end))}', pad + '  }'])
        lines.append(pad + '}')

    write(0, '')
    values = rng.uniform(-170, 170, (frames, sum(len(joints[j][3]) for j in order))).round(4)
    text = '\n'.join(
        [
            'HIERARCHY',
            *lines,
            'MOTION',
            f'Frames: {frames}',
            'Frame Time: 0.033333',
            *(' '.join(map(str, row)) for row in values),
            '',
        ]
    )
    return text, joints, ends, order, values


def slow_positions(joints, ends, order, values):
    "Positions of joints and ends of every frame, by scipy, one joint at a time."
    frames = []
    for row in values:
        row, world, found = list(row), {}, {}
        for j in order:
            name, parent, offset, channels = joints[j]
            offset, turn = offset.copy(), Rotation.identity()
            for channel in channels:
                value = row.pop(0)
                if channel.endswith('rotation'):
                    turn = turn * Rotation.from_euler(channel[0].lower(), value, degrees=True)
                else:
                    offset['XYZ'.index(channel[0])] = value
            at, R = world[parent] if parent >= 0 else (np.zeros(3), Rotation.identity())
            world[j] = at + R.apply(offset), R * turn
            found[name] = world[j][0]
            for i, end in enumerate(ends.get(j, [])):
                found[f'{name} end' + "'" * i] = world[j][0] + world[j][1].apply(end)
        frames.append(found)
    return frames


@pytest.mark.parametrize('seed', range(6))
def test_positions_are_those_of_a_slow_loop(tmp_path, seed):
    text, joints, ends, order, values = random_bvh(np.random.default_rng(seed))
    bvh = read_bvh(written(tmp_path, text))
    np.testing.assert_array_equal(bvh.values, values)
    positions, _ = forward_kinematics(bvh, range(len(bvh.names)))
    frames = slow_positions(joints, ends, order, values)
    assert set(frames[0]) == set(bvh.names)
    for t, found in enumerate(frames):
        for j, name in enumerate(bvh.names):
            np.testing.assert_allclose(positions[t, j], found[name], atol=1e-8)


@pytest.mark.parametrize(
    'spell',
    [
        lambda t: t.replace('\n', '\r\n'),
        lambda t: t.replace('\n', '\r\n').encode('utf-8-sig'),
        lambda t: t.replace('  ', '\t'),
        lambda t: t.replace(' ', '\t'),
        lambda t: t.lower().replace('leftupleg', 'LeftUpLeg'),
        lambda t: t.upper(),
        lambda t: t.replace('Frames:', 'Frames').replace('Frame Time:', 'FrameTime'),
        lambda t: t.replace('Frames: ', 'Frames:').replace('Frame Time: ', 'Frame Time:\t'),
        lambda t: re.sub(r'\n\s*\{', ' {', t),
        lambda t: re.sub(r'(\w)\n(\s*)OFFSET', r'\1\n\n\2OFFSET', t),
        lambda t: t.replace('\n', ' \n'),
        lambda t: t + '\n\n',
        lambda t: t.rstrip('\n'),
        lambda t: re.sub(r'(-?\d+\.\d+)', lambda m: f'{float(m[1]):.9e}', t),
    ],
    ids=range(14),
)
def test_spellings_in_the_wild(tmp_path, text, spell):
    plain, other = read_bvh(written(tmp_path, text)), read_bvh(written(tmp_path, spell(text), 'B1_01.bvh'))
    assert (
        [name.lower() for name in other.names] == [name.lower() for name in plain.names]
        and other.parents == plain.parents
        and other.channels == plain.channels
    )
    np.testing.assert_allclose(other.values, plain.values, atol=1e-6)
    assert match_joints(other) == match_joints(plain) and other.hz == plain.hz == 50


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'utf-16-le-mark', 'utf-16-be-mark', 'utf-32'])
@pytest.mark.parametrize('end', ['\r', '\r\n', '\n', 'mixed', '\r\r\n'])
def test_every_line_end_and_every_mark(tmp_path, text, end, encoding):
    """What old Macs, editors and copying between systems make of a file reads the same; damage is still named by its
    line."""

    def spelt(t):
        ended = (
            ''.join(line + ('\r', '\r\n', '\n')[i % 3] for i, line in enumerate(t.splitlines()))
            if end == 'mixed'
            else t.replace('\n', end)
        )
        mark, encoding_ = ('\ufeff', encoding[:-5]) if encoding.endswith('-mark') else ('', encoding)
        return (mark + ended).encode(encoding_)

    plain, other = read_bvh(written(tmp_path, text)), read_bvh(written(tmp_path, spelt(text), 'B1_01.bvh'))
    assert (other.names, other.parents, other.channels, other.hz) == (
        plain.names,
        plain.parents,
        plain.channels,
        plain.hz,
    )
    np.testing.assert_array_equal(other.values, plain.values)
    np.testing.assert_array_equal(other.offsets, plain.offsets)
    if end != '\r\r\n':
        with pytest.raises(DatasetError, match=f"line {values_at(text, 7)}, joint Hips: 'nan' is not a number"):
            read_bvh(
                written(
                    tmp_path,
                    spelt(changed(text, values_at(text, 7), lambda line: 'nan' + line[line.index(' ') :])),
                    'C1_01.bvh',
                )
            )


def test_decimal_commas(tmp_path, text):
    """Numbers as half of Europe writes them; a file that has both spellings is refused, since nobody knows what its
    commas are."""
    plain = read_bvh(written(tmp_path, text))
    other = read_bvh(written(tmp_path, re.sub(r'(\d)\.(\d)', r'\1,\2', text), 'B1_01.bvh'))
    np.testing.assert_array_equal(other.values, plain.values)
    np.testing.assert_array_equal(other.offsets, plain.offsets)
    assert other.hz == plain.hz
    for at in (values_at(text, 3), line_of(text, 'OFFSET', 1), line_of(text, 'Frame Time')):
        with pytest.raises(DatasetError, match=rf'B1_01.bvh, line {at}.*,.*decimal points'):
            read_bvh(written(tmp_path, changed(text, at, lambda line: line.replace('.', ',')), 'B1_01.bvh'))


def row(text, n):
    return text.splitlines()[n - 1]


def line_of(text, start, nth=0):
    return [n for n, line in enumerate(text.splitlines(), 1) if line.strip().startswith(start)][nth]


def changed(text, n, new):
    lines = text.splitlines()
    lines[n - 1] = new if isinstance(new, str) else new(lines[n - 1])
    return '\n'.join(lines) + '\n'


def values_at(text, frame):
    return line_of(text, 'Frame Time') + 1 + frame


DAMAGE = {  # how a file is damaged: what it becomes, and what the message must say
    'truncated in a line': lambda t: (
        t[: len(t) - 60],
        rf'line {len(t.splitlines())}, joint \w+: \d+ numbers, the channels above need 64. The file was cut off',
    ),
    'frames missing': lambda t: (
        '\n'.join(t.splitlines()[:-10]) + '\n',
        rf'line {line_of(t, "Frames")}: 60 frames were announced, 50 follow',
    ),
    'a value too few': lambda t: (
        changed(t, values_at(t, 20), lambda line: line.rsplit(' ', 1)[0]),
        rf'line {values_at(t, 20)}, joint RightToeBase: 63 numbers',
    ),
    'a value too many': lambda t: (
        changed(t, values_at(t, 20), lambda line: line + ' 1'),
        rf'line {values_at(t, 20)}, joint \w+: 65 numbers',
    ),
    'all lines too long': lambda t: (
        '\n'.join(line + ' 0' if n >= values_at(t, 0) else line for n, line in enumerate(t.splitlines(), 1)),
        rf'line {values_at(t, 0)}, joint \w+: 65 numbers',
    ),
    'one more, one fewer': lambda t: (
        changed(
            changed(t, values_at(t, 8), lambda line: line + ' 1'), values_at(t, 9), lambda line: line.rsplit(' ', 1)[0]
        ),
        rf'line {values_at(t, 8)}, joint \w+: 65 numbers',
    ),
    'nan': lambda t: (
        changed(t, values_at(t, 7), lambda line: ' '.join(['nan', *line.split()[1:]])),
        rf"line {values_at(t, 7)}, joint Hips: 'nan' is not a number",
    ),
    'infinite': lambda t: (
        changed(t, values_at(t, 7), lambda line: ' '.join([*line.split()[:4], '1e999', *line.split()[5:]])),
        rf"line {values_at(t, 7)}, joint Spine: '1e999' is not a number",
    ),
    'text': lambda t: (
        changed(t, values_at(t, 0), lambda line: ' '.join([*line.split()[:-1], '0,5'])),
        rf"line {values_at(t, 0)}, joint \w+: '0,5' is not a number",
    ),
    'quotes': lambda t: (
        changed(t, values_at(t, 3), lambda line: '"' + line),
        rf'line {values_at(t, 3)}, joint Hips: .* is not a number',
    ),
    'unknown channel': lambda t: (
        t.replace('Zposition', 'Wposition', 2).replace('Wposition', 'Zposition', 1),
        r"line 9, joint Spine: unknown channel 'Wposition'",
    ),
    'channel twice': lambda t: (
        t.replace('Yposition', 'Xposition', 1),
        r'line 5, joint Hips: .* as many different channels',
    ),
    'wrong count': lambda t: (t.replace('CHANNELS 4', 'CHANNELS 6'), r'line 5, joint Hips: .* should be a count'),
    'unclosed brace': lambda t: (
        t.replace('}\nMOTION', 'MOTION'),
        rf'line {line_of(t, "MOTION") - 1}, joint Hips: MOTION before the closing brace',
    ),
    'no opening brace': lambda t: (changed(t, 3, ''), r"line 4, joint Hips: 'OFFSET' where \{ should be"),
    'closed too often': lambda t: (
        t.replace('}\nMOTION', '}\n}\nMOTION'),
        rf'line {line_of(t, "MOTION")}: .* where MOTION should be',
    ),
    'offset of words': lambda t: (
        re.sub(r'OFFSET \S+', 'OFFSET x', t, count=1),
        r"line 4, joint Hips: OFFSET 'x .*' should be 3 numbers",
    ),
    'offset missing': lambda t: (
        changed(t, line_of(t, 'OFFSET', 1), ''),
        r'joint Spine: no OFFSET before the closing brace',
    ),
    'two people': lambda t: (
        t.replace('MOTION', 'ROOT Hips2\n{\nOFFSET 0 0 0\n}\nMOTION'),
        r'line \d+: a second skeleton, Hips2',
    ),
    'cut in the tree': lambda t: (
        '\n'.join(t.splitlines()[:20]),
        r'line 20, joint \w+: the file ends where a closing brace',
    ),
    'no motion': lambda t: (t[: t.index('MOTION')], r'the file ends where MOTION should follow'),
    'no frames': lambda t: ('\n'.join(t.splitlines()[: line_of(t, 'Frame Time')]) + '\n', r'no frame follows'),
    'frames of words': lambda t: (
        t.replace('Frames: 60', 'Frames: many'),
        rf"line {line_of(t, 'Frames')}: Frames: N 'many' should be 1 number",
    ),
    'no time': lambda t: (
        re.sub('Frame Time.*', 'Frame Time: 0', t),
        rf'line {line_of(t, "Frame Time")}: Frame Time 0 s is no capture',
    ),
    'time in ms': lambda t: (re.sub('Frame Time.*', 'Frame Time: 8.333', t), r'Frame Time 8.333 s is no capture'),
    'not BVH': lambda t: ('solid cube\nfacet normal 0 0 0\n', r'line 1: .*not a BVH file'),
    'binary': lambda t: (bytes(range(256)) * 40, r'file: holds zero bytes: it is no text'),
    'letters': lambda t: (bytes(range(1, 256)) * 40, r'line 1: .*not a BVH file'),
    'empty': lambda t: ('', r'file: empty'),
    'blank': lambda t: (' \n\n', r'file: empty'),
    'hip missing': lambda t: (
        t.replace('LeftUpLeg', 'Stick'),
        r'joint LHip: not found among Hips, .*Stick.*Say which joints they are',
    ),
    'thighs missing': lambda t: (t.replace('UpLeg', 'Stick'), r'joint RHip, LHip|joint LHip, RHip'),
    'no head': lambda t: (t.replace('Head', 'Lamp'), r'joint Neck/Nose: not found'),
    'sides exchanged': lambda t: (
        t.replace('Left', 'TMP').replace('Right', 'Left').replace('TMP', 'Right'),
        r'the feet point backwards',
    ),
    'giant': lambda t: (
        re.sub(r'-?\d+\.\d{4}\b', lambda m: f'{float(m[0]) * 3.3:.4f}', t),
        r'unit: legs measure .*--unit-mm',
    ),
}


@pytest.mark.parametrize('how', DAMAGE)
def test_damage_is_named(tmp_path, text, how):
    damaged, message = DAMAGE[how](text)
    written(tmp_path, damaged)
    with pytest.raises(DatasetError, match=message) as refusal:
        make_dataset(tmp_path / 'out', motion=tmp_path, progress=False)
    assert str(refusal.value).startswith('A1_01.bvh, ') and str(refusal.value).count('\n') == 0
    assert [path.name for path in tmp_path.iterdir()] == ['A1_01.bvh']


# ---- skeletons -------------------------------------------------------------------------------------------------------

OURS = (
    'Hips',
    'Spine',
    'Neck',
    'Head',
    'HeadEnd',
    *(
        s + part
        for s in ('Left', 'Right')
        for part in ('UpLeg', 'Leg', 'Foot', 'ToeBase', 'Arm', 'ForeArm', 'Hand', 'HandMiddle1')
    ),
)


def sides(left, right, pattern, *parts):
    return [pattern.format(side=side, part=part) for side in (left, right) for part in parts]


STUDIOS = {
    'Mixamo': ['mixamorig:' + name for name in ('Hips', 'Spine1', 'Neck', 'Head', 'HeadTop_End', *OURS[5:])],
    'Xsens': [
        'Hips',
        'Chest2',
        'Neck',
        'Head',
        'HeadEnd',
        *sides('Left', 'Right', '{side}{part}', 'Hip', 'Knee', 'Ankle', 'Toe', 'Shoulder', 'Elbow', 'Wrist', 'Finger0'),
    ],
    'Rokoko': [
        'Hips',
        'Spine2',
        'Neck',
        'Head',
        'HeadEnd',
        *sides('Left', 'Right', '{side}{part}', 'Thigh', 'Shin', 'Foot', 'Toe', 'Arm', 'ForeArm', 'Hand', 'HandIndex1'),
    ],
    'LAFAN1': [
        'Hips',
        'Spine1',
        'Neck',
        'Head',
        'HeadEnd',
        *sides('Left', 'Right', '{side}{part}', 'UpLeg', 'Leg', 'Foot', 'Toe', 'Arm', 'ForeArm', 'Hand', 'HandEnd'),
    ],
    'SMPL': [
        'Pelvis',
        'Spine2',
        'Neck',
        'Head',
        'HeadEnd',
        *sides('L', 'R', 'm_avg_{side}_{part}', 'Hip', 'Knee', 'Ankle', 'Foot', 'Shoulder', 'Elbow', 'Wrist', 'Hand'),
    ],
    'Bandai': [
        'Hips',
        'Chest',
        'Neck',
        'Head',
        'Head_end',
        *sides(
            'L', 'R', '{part}_{side}', 'UpperLeg', 'LowerLeg', 'Foot', 'Toes', 'UpperArm', 'LowerArm', 'Hand', 'HandEnd'
        ),
    ],
    'ASF': [
        'root',
        'upperback',
        'upperneck',
        'head',
        'headend',
        *sides('l', 'r', '{side}{part}', 'femur', 'tibia', 'foot', 'toes', 'humerus', 'radius', 'wrist', 'hand'),
    ],
    'Blender': [
        'hips',
        'spine',
        'neck',
        'head',
        'head_end',
        *sides('L', 'R', '{part}.{side}', 'thigh', 'shin', 'foot', 'toe', 'upper_arm', 'forearm', 'hand', 'fingers'),
    ],
    '3ds Max': [
        'Bip01 Pelvis',
        'Bip01 Spine1',
        'Bip01 Neck',
        'Bip01 Head',
        'Bip01 HeadNub',
        *sides(
            'L', 'R', 'Bip01 {side} {part}', 'Thigh', 'Calf', 'Foot', 'Toe0', 'UpperArm', 'Forearm', 'Hand', 'Finger0'
        ),
    ],
    'Unreal': [
        'pelvis',
        'spine_02',
        'neck_01',
        'head',
        'head_end',
        *sides('l', 'r', '{part}_{side}', 'thigh', 'calf', 'foot', 'ball', 'upperarm', 'lowerarm', 'hand', 'middle_01'),
    ],
}


@pytest.mark.parametrize('studio', STUDIOS)
def test_names_of_other_studios(tmp_path, text, studio):
    there = re.sub(r'(ROOT|JOINT) (\w+)', lambda m: f'{m[1]} {STUDIOS[studio][OURS.index(m[2])]}', text)
    plain, other = read_bvh(written(tmp_path, text)), read_bvh(written(tmp_path, there, 'B1_01.bvh'))
    ours, theirs = match_joints(plain), match_joints(other)
    for point in (*NEEDED_POINTS, 'Thorax', 'Spine', 'LToe', 'RToe', 'Head'):
        assert theirs[point] == ours[point] or point[1:] == 'Toe' and abs(theirs[point] - ours[point]) <= 1, point
    a, b = (body_points(bvh, joints, 10, 'y')[:, : len(JOINTS)] for bvh, joints in ((plain, ours), (other, theirs)))
    np.testing.assert_allclose(a, b, atol=1e-9)


def turned_file(bvh, up):
    "The same capture in a file with another vertical axis."
    axes = {'y': (0, 1, 2), 'z': (2, 0, 1), 'x': (1, 2, 0)}[up[-1]]  # new axis a holds old axis axes[a]
    sign = (
        np.array([1, 1, 1])
        if up[0] != '-'
        else np.array({'y': (1, -1, -1), 'z': (-1, 1, -1), 'x': (-1, -1, 1)}[up[-1]])
    )
    names = {'xyz'[old]: 'xyz'[new] for new, old in enumerate(axes)}
    channels = tuple(tuple(names[c[0]] + c[1:] for c in joint) for joint in bvh.channels)
    signs = np.array([sign['xyz'.index(c[0])] for joint in channels for c in joint])
    return dataclasses.replace(bvh, offsets=bvh.offsets[:, axes] * sign, channels=channels, values=bvh.values * signs)


@pytest.mark.parametrize('up', AXES)
@pytest.mark.parametrize('unit', UNITS_MM)
def test_axes_and_units_are_found(tmp_path, up, unit):
    """Units in everyday use are found, others asked for with the right one in the list; axes are found from the
    skeleton at rest."""
    write_bvh(tmp_path / 'a.bvh', walk(20), unit_mm=UNITS_MM[unit])
    bvh = read_bvh(tmp_path / 'a.bvh')
    other = turned_file(bvh, up)
    joints = match_joints(other)
    assert find_up(other, joints) == up and find_unit_mm(other, joints, UNITS_MM[unit]) == UNITS_MM[unit]
    if unit in ('mm', 'cm', 'm'):
        assert find_unit_mm(other, joints) == UNITS_MM[unit]
    else:
        with pytest.raises(
            DatasetError,
            match=rf'a.bvh, unit: legs measure .* 1.7\d m in {unit} \(unit_mm {UNITS_MM[unit]:.4g}\).*--unit-mm',
        ):
            find_unit_mm(other, joints)
    a, b = body_points(bvh, joints, UNITS_MM[unit], 'y'), body_points(other, joints, UNITS_MM[unit], up)
    np.testing.assert_allclose(a[..., 2], b[..., 2], atol=1e-6)  # heights
    distances = [np.linalg.norm(p[:, :, None] - p[:, None], axis=-1) for p in (a, b)]
    np.testing.assert_allclose(*distances, atol=1e-6)
    volume = [np.linalg.det(np.stack([p[:, i] - p[:, 0] for i in (1, 7, 13)], -1)) for p in (a, b)]
    np.testing.assert_allclose(*volume, rtol=1e-6, atol=1e-3)  # not a mirror image


def test_axes_keep_hands():
    for up in ('x', 'y', 'z', '-x', '-y', '-z'):
        assert np.isclose(np.linalg.det(to_z_up(np.eye(3), up)), 1)
    with pytest.raises(ValueError, match="up must be x, y, z, -x, -y or -z, got 'w'"):
        to_z_up(np.eye(3), 'w')


# ---- units -----------------------------------------------------------------------------------------------------------

CM, M, INCH = UNITS_MM['cm'], UNITS_MM['m'], UNITS_MM['inch']


def sized(folder, **people):
    "A folder of walkers: name=(stature in m, unit in mm)."
    for name, (stature, unit) in people.items():
        write_bvh(folder / f'{name}.bvh', walk(60) * (stature / 1.75), unit_mm=unit)
    return folder


@pytest.mark.parametrize(
    'stature, unit, also',
    [
        (0.875, CM, '2.2. m in inch'),
        (0.75, CM, '1.9. m in inch'),
        (0.5, CM, '1.2. m in inch'),
        (1.1, INCH, '2.4. m in CMU'),
        (1.8, INCH, '0.71 m in cm'),
        (2.45, M, '0.75 m in foot'),
        (1.75, 100, '0.99 m in CMU'),
        (1.75, 304.8, None),
        (0.5, 100, '1.5. m in foot'),
        (0.45, CM, '1.1. m in inch'),
    ],
    ids=[
        'child',
        'small child',
        'of the size of a dog',
        'child in inches',
        'adult in inches',
        'giant in metres',
        'decimetres',
        'feet',
        'dog in decimetres',
        'doll',
    ],
)
def test_a_unit_that_is_not_plain_is_asked_for(tmp_path, stature, unit, also):
    "Each is told with what the units that fit would mean, and read right with what the message offers."
    sized(tmp_path, K1_walk=(stature, unit))
    with pytest.raises(DatasetError) as refusal:
        read_captures(tmp_path)
    message = str(refusal.value)
    assert (
        message.startswith('K1_walk.bvh, unit: legs measure ')
        and f'(unit_mm {unit:.4g})' in message
        and '--unit-mm' in message
        and (also is None or re.search(also, message))
    ), message
    captures = read_captures(tmp_path, unit_mm=unit)
    assert (
        abs(captures.skeletons[0]['stature_mm'] / 1000 - stature) < 0.03 * stature
        and captures.settings['unit_mm'] == unit
    )
    assert abs(np.median(captures.takes[0].points[:, POINTS.index('Head'), 2]) / 1000 - stature) < 0.06 * stature


@pytest.mark.parametrize('stature', [1.0, 1.2, 1.5, 1.75, 2.0, 2.25])
@pytest.mark.parametrize('unit', ['mm', 'cm', 'm'])
def test_a_plain_unit_is_taken_told_and_stored(tmp_path, stature, unit):
    captures = read_captures(sized(tmp_path, A1_walk=(stature, UNITS_MM[unit])))
    (one,) = captures.skeletons
    assert (
        captures.settings['unit_mm'] == one['unit_mm'] == UNITS_MM[unit]
        and abs(one['stature_mm'] / 1000 - stature) < 0.02 * stature
    )
    assert list(captures.told()) == [
        f'A1: 1 take, unit {UNITS_MM[unit]:g} mm ({unit}), {one["stature_mm"] / 1000:.2f} m tall, up is y',
        'vertical axis y: the skeleton at rest and 1 of 1 takes',
    ]


def test_a_child_beside_adults_has_their_unit(tmp_path):
    sized(tmp_path, K1_walk=(0.875, CM), A1_walk=(1.75, CM))
    captures = read_captures(tmp_path)
    assert [take.subject for take in captures.takes] == ['A1', 'K1'] and captures.settings['unit_mm'] == CM
    for take, stature in zip(captures.takes, (1750, 875)):
        assert abs(np.median(take.points[:, POINTS.index('Head'), 2]) - stature) < 0.06 * stature
    assert (
        read_captures(tmp_path, subjects=['K1']).skeletons == captures.skeletons[1:]
    )  # adults speak for children that are asked for alone


def test_takes_of_one_skeleton_that_disagree_are_refused(tmp_path):
    sized(tmp_path, A1_walk=(1.75, CM), A2_walk=(1.75, M))
    with pytest.raises(
        DatasetError,
        match=(
            r'A2_walk.bvh, unit: legs measure 0.8\d*, those of A1_walk.bvh 8\d.*, which are cm: takes of one '
            r'skeleton disagree. Say .* column unit_mm of an index'
        ),
    ):
        read_captures(tmp_path)
    (tmp_path / 'index.csv').write_text('file,subject,unit_mm\nA1_walk,A1,\nA2_walk,A2,1000\n')
    captures = read_captures(tmp_path)
    assert [one['unit_mm'] for one in captures.skeletons] == [CM, M] and captures.settings['unit_mm'] is None
    for take in captures.takes:
        assert abs(np.median(take.points[:, POINTS.index('Head'), 2]) - 1700) < 60
    sized(tmp_path, A2_walk=(40, CM))
    (tmp_path / 'index.csv').unlink()
    with pytest.raises(DatasetError, match='A2_walk.bvh, unit: .*disagree'):
        read_captures(tmp_path)


def test_cmus_own_skeleton_has_cmus_unit(tmp_path):
    write_bvh(tmp_path / '7_01.bvh', walk(60), unit_mm=UNITS_MM['CMU'])
    text = (tmp_path / '7_01.bvh').read_text()
    with pytest.raises(DatasetError, match='0.7. m in inch .* 1.7. m in CMU'):
        read_captures(tmp_path)
    for side in 'LR':
        text = re.sub(
            rf'(JOINT {dict(L="Left", R="Right")[side]}HandMiddle1\n)',
            rf'JOINT {side}Thumb\n{{\nOFFSET 0 0 0\nCHANNELS 0\nEnd Site\n{{\nOFFSET 0 0 0\n}}\n}}\nJOINT '
            rf'{side}HipJoint\n{{\nOFFSET 0 0 0\nCHANNELS 0\nEnd Site\n{{\nOFFSET 0 0 0\n}}\n}}\n\1',
            text,
        )
    assert read_captures(written(tmp_path, text, '7_01.bvh').parent).settings['unit_mm'] == UNITS_MM['CMU']


# ---- the vertical axis -----------------------------------------------------------------------------------------------

TURNS = dict(
    back=Rotation.from_euler('x', -90, degrees=True),
    front=Rotation.from_euler('x', 90, degrees=True),
    side=Rotation.from_euler('y', 90, degrees=True),
    other_side=Rotation.from_euler('y', -90, degrees=True),
    head_down=Rotation.from_euler('x', 180, degrees=True),
)  # of somebody who faces -y


def in_place(n=60, seed=0, action='Walking'):
    "A walker who does not get anywhere and faces -y, mm."
    points = walk(n, seed, action=action).astype(float)
    points -= points[:, :1] * [1, 1, 0]
    angle = np.arctan2(*(points[:, POINTS.index('LHip'), [1, 0]] - points[:, POINTS.index('RHip'), [1, 0]]).T)
    return (
        Rotation.from_euler('z', -np.repeat(angle, len(POINTS))[:, None])
        .apply(points.reshape(-1, 3))
        .reshape(points.shape)
    )


def lying(how, n=60, height=150):
    """Somebody who moves as a walker does, but lies on something, head where the floor has no axis, or is upside
    down; hips at a height."""
    points = in_place(n)
    points = TURNS[how].apply((points - points[:, :1]).reshape(-1, 3)).reshape(points.shape)
    return points + [700, 400, height if how != 'head_down' else 1000]


def of_the_first_frame(path):
    "The same file with the first frame's positions as offsets, as programs write it that know no pose at rest."
    bvh = read_bvh(path)
    first, lines, at = bvh.values[0], path.read_text().splitlines(), 0
    joints = [i for i, line in enumerate(lines) if line.strip().startswith('OFFSET') and 'CHANNELS' in lines[i + 1]]
    for i, channels in zip(joints, [c for c in bvh.channels if c]):
        lines[i] = 'OFFSET ' + ' '.join(f'{v:.4f}' for v in first[at : at + 3])
        at += len(channels)
    path.write_text('\n'.join(lines) + '\n')


def in_turns(path):
    "The same file with three angles of the root instead of one: it says nothing about a heading."
    bvh, text = read_bvh(path), path.read_text()
    head, body = text[: text.index('Frame Time')], text[text.index('Frame Time') :].splitlines()
    rows = [' '.join([*line.split()[:4], '0', '0', *line.split()[4:]]) for line in body[1:]]
    path.write_text(
        head.replace(
            'CHANNELS 4 Xposition Yposition Zposition Yrotation',
            'CHANNELS 6 Xposition Yposition Zposition Yrotation Xrotation Zrotation',
        )
        + '\n'.join([body[0], *rows])
        + '\n'
    )
    assert len(read_bvh(path)) == len(bvh)


def head_mm(take):
    return np.median(take.points[:, POINTS.index('Neck/Nose'), 2])


AS_WRITTEN = dict(
    skeleton=lambda path: None, heading=of_the_first_frame, pose=lambda path: (of_the_first_frame(path), in_turns(path))
)  # what there is to hear


@pytest.mark.parametrize('says', AS_WRITTEN)
@pytest.mark.parametrize('how', TURNS)
def test_who_lies_in_the_only_take_is_asked_for_and_not_stood_up(tmp_path, how, says):
    path = tmp_path / 'A1_floor.bvh'
    write_bvh(path, lying(how))
    AS_WRITTEN[says](path)
    with pytest.raises(DatasetError, match='vertical axis') as refusal:
        read_captures(tmp_path)
    message = str(refusal.value)
    assert message.startswith('A1_floor.bvh, vertical axis: ') and '--up' in message
    told = {axis: float(mm) * 1000 for axis, mm in re.findall(r'(-?[xyz]): head (\S+) m', message)}
    captures = read_captures(tmp_path, up='y')
    (take,) = captures.takes
    lowest = take.points[:, :, 2].min()
    assert abs(told['y'] - head_mm(take)) < 150 and -30 < lowest < 120, (
        told,
        head_mm(take),
        lowest,
    )  # what the message promised
    assert head_mm(take) < 700 and captures.vertical == 'y: as given'


@pytest.mark.parametrize('says', AS_WRITTEN)
@pytest.mark.parametrize('how', TURNS)
def test_an_upright_take_speaks_for_one_who_lies(tmp_path, how, says):
    "Of the same person, or of another: heads of those who lie stay low."
    for name, points in dict(A1_floor=lying(how), A1_walk=walk(100), B2_floor=lying(how)).items():
        write_bvh(tmp_path / f'{name}.bvh', points)
        AS_WRITTEN[says](tmp_path / f'{name}.bvh')
    captures = read_captures(tmp_path)
    assert (
        captures.settings['up'] == 'y'
        and [one['up'] for one in captures.skeletons] == ['y'] * len(captures.skeletons)
        and captures.vertical.startswith('y: ')
    )
    assert [round(head_mm(take), -2) for take in captures.takes[1:2]] == [1500] and all(
        head_mm(take) < 700 for take in captures.takes[::2]
    )
    for take in captures.takes:
        assert -90 < take.points[:, :, 2].min() < 120
    (alone,) = read_captures(tmp_path, subjects=['B2']).takes
    np.testing.assert_allclose(alone.points, captures.takes[2].points, atol=1e-3)


@pytest.mark.parametrize('up', AXES)
def test_steps_tell_the_floor_where_the_skeleton_says_nothing(tmp_path, up):
    "A file of any axis whose offsets are a frame: a walker's pose and floor agree; one who stands still is asked for."
    for name, points in dict(
        A1_walk=walk(150), A1_still=np.repeat(walk(1), 30, axis=0) + np.random.default_rng(0).normal(0, 1, (30, 1, 3))
    ).items():
        path = tmp_path / f'{name}.bvh'
        write_bvh(path, points)
        AS_WRITTEN['pose'](path)
        bvh = turned_file(read_bvh(path), up)
        witness = hear(bvh, match_joints(bvh))
        assert (
            witness.rest == witness.turns == ''
            and witness.pose == up
            and witness.steps == (up if name == 'A1_walk' else '')
        )
        if name == 'A1_walk':
            assert find_up(bvh, match_joints(bvh)) == up
        else:
            with pytest.raises(
                DatasetError,
                match=(
                    f'A1_still.bvh, vertical axis: the skeleton does not say it, from feet to head it is {up}.*--up '
                    f'x: head'
                ),
            ):
                find_up(bvh, match_joints(bvh))


def goes(supports, n=120, stride=500, hz=50):
    "How far each support of a walk has got, mm: it lies still, then catches up."
    phase = np.arange(n)[:, None] / hz * 1.2 + np.linspace(0, 1, supports, endpoint=False)
    return stride * (np.floor(phase) + (np.clip(phase % 1, 0.6, 1) - 0.6) / 0.4), phase % 1 > 0.6


def on_hands(n=120):
    "Somebody who walks on the hands: a still body upside down, whose hands take turns on the floor."
    points = np.repeat(rest_points()[None].astype(float), n, axis=0) * [1, -1, -1]
    points += [0, 0, 250 - points[0, :, 2].min()]
    at, lifted = goes(2, n)
    points[..., 0] += at.mean(axis=1)[:, None]
    for i, side in enumerate('LR'):
        for name, z in (('Hand', 0), ('Wrist', 80)):
            points[:, POINTS.index(side + name)] = np.stack(
                [at[:, i], np.full(n, (-150, 150)[i]), z + 120 * lifted[:, i]], axis=1
            )
        points[:, POINTS.index(side + 'Elbow')] = (
            points[:, POINTS.index(side + 'Wrist')] + points[:, POINTS.index(side + 'Shoulder')]
        ) / 2
    return points


def on_all_fours(n=200):
    "Somebody who crawls along x: trunk level, hands and knees take turns on the floor."
    at, lifted = goes(4, n, stride=300)
    body = dict(
        Hip=(0, 0, 480),
        LHip=(0, 130, 480),
        RHip=(0, -130, 480),
        Spine=(240, 0, 500),
        Thorax=(490, 0, 520),
        Head=(720, 0, 560),
        LShoulder=(480, 150, 510),
        RShoulder=(480, -150, 510),
    ) | {'Neck/Nose': (620, 0, 510)}
    points = np.zeros((n, len(POINTS), 3))
    for name, place in body.items():
        points[:, POINTS.index(name)] = np.array(place) + at.mean(axis=1)[:, None] * [1, 0, 0]
    for i, (side, y) in enumerate((('L', 140), ('R', -140))):
        hand, knee = at[:, i] + 450, at[:, 2 + i] - 30
        for name, x, z in (
            ('Wrist', hand - 60, 30),
            ('Hand', hand, 10),
            ('Knee', knee, 55),
            ('Foot', knee - 430, 70),
            ('Toe', knee - 560, 20),
        ):
            points[:, POINTS.index(side + name)] = np.stack(
                [x, np.full(n, y), z + 60 * lifted[:, i if name in ('Wrist', 'Hand') else 2 + i]], axis=1
            )
        points[:, POINTS.index(side + 'Elbow')] = (
            points[:, POINTS.index(side + 'Wrist')] + points[:, POINTS.index(side + 'Shoulder')]
        ) / 2
    return points


@pytest.mark.parametrize('move, pose, head', [(on_hands, '-y', (300, 500)), (on_all_fours, None, (380, 700))])
def test_a_floor_that_is_stepped_on_backs_the_skeleton_against_the_pose(tmp_path, move, pose, head):
    """On the hands, on all fours: feet are not lowest, and no take stands; up is found all the same, and the hands
    are on the floor."""
    write_bvh(tmp_path / 'A1_move.bvh', move())
    bvh = read_bvh(tmp_path / 'A1_move.bvh')
    witness = hear(bvh, match_joints(bvh))
    assert witness.rest == witness.steps == 'y' and witness.pose != 'y' and pose in (None, witness.pose)
    (take,) = read_captures(tmp_path).takes
    assert head[0] < head_mm(take) < head[1] and -30 < np.quantile(take.points[:, :, 2].min(axis=1), 0.1) < 40


def test_a_world_that_is_not_the_skeletons_is_asked_for(tmp_path):
    """Rest along y, steps and poses along z, as conversions from other programs have it: two answers, both listed,
    each as it says."""
    write_bvh(tmp_path / 'A1_walk.bvh', walk(150))
    bvh = read_bvh(tmp_path / 'A1_walk.bvh')
    other = dataclasses.replace(turned_file(bvh, 'z'), offsets=bvh.offsets)
    with pytest.raises(
        DatasetError,
        match=(
            r'the skeleton stands along y at rest, from feet to head it is z, it steps on a floor whose up is z. '
            r'A1_walk.bvh with --up y: head .*, z: head 1.5\d m'
        ),
    ):
        find_up(other, match_joints(other), 10)


@pytest.mark.parametrize('says', AS_WRITTEN)
def test_steps_on_a_ceiling_are_asked_for(tmp_path, says):
    """A walker turned upside down, whose file has its zero under the head: nobody is taken to walk under a floor,
    and up is no -y without a word."""
    write_bvh(tmp_path / 'A1_walk.bvh', walk(150) * [1, -1, -1] + [0, 0, 1800])
    AS_WRITTEN[says](tmp_path / 'A1_walk.bvh')
    with pytest.raises(
        DatasetError,
        match=(
            r'A1_walk.bvh, vertical axis: .*from feet to head it is -y, it steps on a floor whose up is -y.* y: head '
            r'0.1\d m .*-y: head 1.5\d m'
        ),
    ):
        read_captures(tmp_path)


def test_answers_hold_the_right_one_where_nothing_is_known(tmp_path):
    for name, how in dict(A1_a='back', A1_b='side').items():
        write_bvh(tmp_path / f'{name}.bvh', lying(how))
        AS_WRITTEN['pose'](tmp_path / f'{name}.bvh')
    with pytest.raises(DatasetError, match=', '.join(rf'{axis}: head \S+ m over the lowest point' for axis in AXES)):
        read_captures(tmp_path)


def test_files_that_disagree_are_named_and_told_apart_by_an_index(tmp_path):
    write_bvh(tmp_path / 'A1_walk.bvh', walk(100))
    path = tmp_path / 'B2_walk.bvh'
    write_bvh(path, walk(100))
    lines = path.read_text().splitlines()
    text = '\n'.join(lines)
    n = text.index('Frame Time')
    swapped = (
        re.sub(r'OFFSET (\S+) (\S+) (\S+)', r'OFFSET \3 \1 \2', text[:n])
        .replace('Xposition Yposition Zposition', 'Yposition Zposition Xposition')
        .replace('Yrotation', 'Zrotation')
        + text[n:]
    )
    path.write_text(swapped)  # the same in a file with z up
    with pytest.raises(
        DatasetError,
        match=(
            r'A1_walk.bvh, vertical axis: the skeleton stands along y at rest, from feet to head it is y; '
            r'B2_walk.bvh: the skeleton stands along z at rest, from feet to head it is z.* column up of an index'
        ),
    ):
        read_captures(tmp_path)
    (tmp_path / 'index.csv').write_text('file;subject;up\nA1_walk;A1;\nB2_walk;B2;z\n')
    captures = read_captures(tmp_path)
    np.testing.assert_allclose(captures.takes[0].points[..., 2], captures.takes[1].points[..., 2], atol=0.1)
    assert (
        captures.settings['up'] is None and captures.vertical == 'y: the skeleton at rest and 1 of 1 takes; z: as given'
    )


def test_a_leaning_pose_is_no_axis(tmp_path):
    "Where the skeleton says y, and no pose contradicts it, y it is; where it says nothing, the axis is asked for."
    points = walk(60)
    points = np.stack([points[..., 0] + points[..., 2], points[..., 1], points[..., 2]], axis=-1) * [
        0.7,
        1,
        0.7,
    ]  # leaning by 45 degrees
    write_bvh(tmp_path / 'A1_01.bvh', points)
    assert read_captures(tmp_path, unit_mm=10).settings['up'] == 'y'
    AS_WRITTEN['pose'](tmp_path / 'A1_01.bvh')
    with pytest.raises(DatasetError, match='from feet to head no axis stands out.* Say which axis is vertical'):
        read_captures(tmp_path, unit_mm=10)
    assert read_captures(tmp_path, unit_mm=10, up='y', hz=50).takes


@pytest.mark.parametrize('how', TURNS)
def test_what_is_said_of_the_vertical_is_what_the_store_takes(tmp_path, how):
    "Nothing is refused after the filming: a store of people who only lie is made, sound, and says why it may."
    write_bvh(tmp_path / 'A1_floor.bvh', lying(how))
    with pytest.raises(DatasetError, match='vertical axis'):
        make_dataset(tmp_path / 's', motion=tmp_path, side=32, progress=False)
    assert not (tmp_path / 's').exists() and not (tmp_path / 's.partial').exists()
    ds = make_dataset(tmp_path / 's', motion=read_captures(tmp_path, up='y'), side=32, progress=False)
    ds.validate()
    assert (
        ds.extra['vertical'] == 'y: as given'
        and ds.extra['capture']['unit_mm'] == 10
        and ds.extra['skeletons'][0]['stature_mm'] > 1500
    )
    assert np.median(ds.poses[:, JOINTS.index('Head'), 2]) < 700
    assert (
        make_dataset(tmp_path / 's', motion=read_captures(tmp_path, up='y'), side=32, progress=False).checksum
        == ds.checksum
    )


# ---- the floor -------------------------------------------------------------------------------------------------------


def hanging(height, n=60, sway=120):
    "Somebody who hangs by the hands, feet at a height, swaying."
    points = np.repeat(rest_points()[None].astype(float), n, axis=0)
    points += [0, 0, -points[0, :, 2].min()]
    grip = points[0, POINTS.index('Head'), 2] + 400
    for i, side in enumerate('LR'):
        for name, z in (('Elbow', -250), ('Wrist', 0), ('Hand', 80)):
            points[:, POINTS.index(side + name)] = [(250, -250)[i], 0, grip + z]
    swing = sway * np.sin(np.arange(n) / 50 * 2 * np.pi * 0.7)
    points[..., 1] += swing[:, None] * ((grip - points[..., 2]) / grip).clip(0)
    return points + [0, 0, height]


def stands_still(n=60):
    return np.repeat(rest_points()[None].astype(float), n, axis=0) + np.random.default_rng(0).normal(0, 1, (n, 1, 3))


def kneels(n=60):
    points = stands_still(n)
    points[..., 2] -= points[0, POINTS.index('LKnee'), 2] - 55
    for side in 'LR':
        knee = points[:, POINTS.index(side + 'Knee')]
        for name, back, z in (('Foot', 420, 65), ('Toe', 560, 15)):
            points[:, POINTS.index(side + name)] = np.stack([knee[:, 0], knee[:, 1] + back, np.full(n, z)], axis=1)
    return points


def feet_on_a_chair(n=60):
    "On the back, shanks on a seat: feet are the highest part of the body."
    points = lying('back', n, 90)
    points = np.repeat(points[:1], n, axis=0) + np.random.default_rng(0).normal(0, 1, (n, 1, 3))
    for side in 'LR':
        hip = points[:, POINTS.index(side + 'Hip')]
        for name, y, z in (('Knee', -60, 430), ('Foot', -480, 450), ('Toe', -500, 600)):
            points[:, POINTS.index(side + name)] = np.stack([hip[:, 0], hip[:, 1] + y, np.full(n, z)], axis=1)
    return points


@pytest.mark.parametrize(
    'move, lowest',
    [
        (on_hands, ('LHand', 'RHand')),
        (on_all_fours, ('LToe', 'RToe', 'LHand', 'RHand', 'LKnee', 'RKnee')),
        (kneels, ('LToe', 'RToe', 'LKnee', 'RKnee')),
        (
            feet_on_a_chair,
            (
                'Hip',
                'LHip',
                'RHip',
                'LShoulder',
                'RShoulder',
                'Thorax',
                'Spine',
                'Head',
                'Neck/Nose',
                'LElbow',
                'RElbow',
                'LWrist',
                'RWrist',
                'LHand',
                'RHand',
            ),
        ),
        (stands_still, ('LToe', 'RToe')),
    ],
)
@pytest.mark.parametrize('offset', [0, 777, -640])
def test_everybody_rests_on_what_is_lowest(tmp_path, move, lowest, offset):
    "Whatever a body rests on is within its flesh of the floor, and nothing is below it, wherever the file's zero lies."
    write_bvh(tmp_path / 'A1_01.bvh', move() + [0, 0, offset])
    (take,) = read_captures(tmp_path, up='y', hz=50).takes
    low = take.points[:, :, 2].min(axis=1)
    assert {POINTS[i] for i in take.points[:, :, 2].argmin(axis=1)} <= set(lowest)
    assert -25 < np.median(low) < 95 and low.min() > -45, (np.median(low), low.min())


def test_who_hangs_is_over_the_floor_of_the_others(tmp_path):
    "Of the same person, of the folder, or of the file; where takes have no floor in common, each has its own."

    def feet(names, offsets=(0, 0)):
        folder = tmp_path / '_'.join(names)
        folder.mkdir(exist_ok=True)
        for name, offset in zip(names, offsets):
            write_bvh(folder / f'{name}.bvh', (hanging(600) if 'hang' in name else walk(100)) + [0, 0, offset])
        captures = read_captures(folder, up='y')
        return {
            take.sequence: float(
                np.quantile(take.points[:, [POINTS.index('LToe'), POINTS.index('RToe')], 2].min(axis=1), 0.1)
            )
            for take in captures.takes
        }, captures.left_out

    for names, offsets in (
        (('A1_hang', 'A1_walk'), (300, 300)),
        (('A1_hang', 'B2_walk'), (-200, -200)),
        (('C3_hang',), (0,)),
    ):
        low, told = feet(names, offsets)
        assert abs(low[names[0]] - 600) < 60 and any(
            'rests on nothing, its lowest point is 0.' in sentence for sentence in told
        ), (names, low, told)
        assert all(abs(low[name]) < 60 for name in names[1:])
    folder = tmp_path / 'no_floor_in_common'
    folder.mkdir()
    for name, points in dict(A1_hang=hanging(600), A1_walk=walk(100), A1_more=walk(100, 1) + [0, 0, 900]).items():
        write_bvh(folder / f'{name}.bvh', points)
    assert all(
        abs(np.quantile(take.points[:, [POINTS.index('LToe'), POINTS.index('RToe')], 2].min(axis=1), 0.1)) < 60
        for take in read_captures(folder, up='y').takes
    )


def test_a_foot_is_not_bent_where_nobody_stands_on_it(tmp_path):
    "Toes of somebody who only lies point where they were captured; with an upright take, by that one's angle."
    for others in ((), ('A1_walk',)):
        write_bvh(tmp_path / 'A1_floor.bvh', lying('back'))
        for name in others:
            write_bvh(tmp_path / f'{name}.bvh', walk(100))
        take = read_captures(tmp_path, up='y', hz=50).takes[0]

        def toes(points):
            return np.stack([points[:, POINTS.index(s + 'Toe')] - points[:, POINTS.index(s + 'Foot')] for s in 'LR'])

        a, b = toes(take.points.astype(float)), toes(lying('back'))
        a, b = (
            Rotation.from_euler('z', -np.arctan2(*(p[0, POINTS.index('Head'), [1, 0]] - p[0, 0, [1, 0]]))).apply(
                v.reshape(-1, 3)
            )
            for v, p in ((a, take.points), (b, lying('back')))
        )
        angle = np.degrees(
            np.arccos(((a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)).clip(-1, 1))
        )
        assert np.median(angle) < 15, (others, np.median(angle))


# ---- skeletons without a neck ----------------------------------------------------------------------------------------


def without_neck(text, collars=False):
    """The same take of a skeleton whose head and arms hang on the spine, perhaps over collar joints at the base of
    the neck."""
    lines, head = text.splitlines(), text.index('MOTION')
    bvh_lines = lines[: text[:head].count('\n')]
    names = re.findall(r'(?:ROOT|JOINT) (\w+)', text[:head])
    rows = [np.array(line.split(), float) for line in lines[len(bvh_lines) + 3 :]]
    starts = {name: (0 if i == 0 else 4 + 3 * (i - 1)) for i, name in enumerate(names)}

    def at(row, name):
        return row[starts[name] : starts[name] + 3]

    i = next(n for n, line in enumerate(bvh_lines) if line.strip() == 'JOINT Neck')
    neck = np.array(bvh_lines[i + 2].split()[1:], float)
    out = []
    for n, line in enumerate(bvh_lines):
        if n in (i, i + 1, i + 2, i + 3):
            continue  # Neck, its brace, offset, channels
        out.append(line)
    # the brace that closed Neck: the first that closes one too many
    open_ = 0
    for n, line in enumerate(out[i:], i):
        open_ += line.count('{') - line.count('}')
        if open_ < 0:
            del out[n]
            break
    moved = ('Head', 'LeftArm', 'RightArm')
    for n, line in enumerate(out):
        if any(line.strip() == f'JOINT {name}' for name in moved):
            old = np.array(out[n + 2].split()[1:], float)
            out[n + 2] = 'OFFSET ' + ' '.join(f'{v:.4f}' for v in old + neck)
    new = []
    for row in rows:
        row = row.copy()
        for name in moved:
            row[starts[name] : starts[name] + 3] += at(row, 'Neck')
        new.append(' '.join(f'{v:.4f}' for v in np.delete(row, np.arange(starts['Neck'], starts['Neck'] + 3))))
    return '\n'.join([*out, *lines[len(bvh_lines) : len(bvh_lines) + 3], *new]) + '\n'


def with_collars(text):
    "Collar joints between the spine and the arms, 40 mm beside the base of the neck, that do not move."
    for side, x in (('Left', 4.0), ('Right', -4.0)):
        place = f'{x:.4f} 23.0000 0.0000'
        lines = text.splitlines()
        i = next(n for n, line in enumerate(lines) if line.strip() == f'JOINT {side}Arm')
        end, depth = i + 1, 0
        while True:
            depth += lines[end].count('{') - lines[end].count('}')
            end += 1
            if depth == 0:
                break
        arm = lines[i:end]
        offset = np.array(arm[2].split()[1:], float) - [x, 23, 0]
        arm[2] = 'OFFSET ' + ' '.join(f'{v:.4f}' for v in offset)
        names = [
            name
            for name in re.findall(r'(?:ROOT|JOINT) (\w+)', text[: text.index('MOTION')])
            if not name.endswith('Shoulder')
        ]  # those have no channels
        at = 4 + 3 * (names.index(f'{side}Arm') - 1)
        first = next(n for n, line in enumerate(lines) if line.startswith('Frame Time')) + 1
        for n in range(first, len(lines)):
            row = np.array(lines[n].split(), float)
            row[at : at + 3] -= [x, 23, 0]
            lines[n] = ' '.join(f'{v:.4f}' for v in row)
        text = (
            '\n'.join(
                lines[:i] + [f'JOINT {side}Shoulder', '{', f'OFFSET {place}', 'CHANNELS 0', *arm, '}'] + lines[end:]
            )
            + '\n'
        )
    return text


@pytest.mark.parametrize('collars', [False, True], ids=['arms on the spine', 'collars'])
def test_a_skeleton_without_a_neck(tmp_path, text, collars):
    """The base of the neck is between the collar joints, or over the middle of the shoulders: as a skeleton with a
    neck has it."""
    bare = without_neck(text)
    path = written(tmp_path, with_collars(bare) if collars else bare)
    joints = match_joints(read_bvh(path))
    assert 'Thorax' not in joints and ('LCollar' in joints) == collars
    (take,) = read_captures(tmp_path, hz=50).takes
    (whole,) = read_captures(written(tmp_path, text).parent, hz=50).takes
    off = np.linalg.norm(take.points - whole.points, axis=-1).max(axis=0)
    assert (
        off[POINTS.index('Thorax')] < 60 and np.delete(off, [POINTS.index('Thorax'), POINTS.index('Spine')]).max() < 1
    ), dict(zip(POINTS, off.round()))
    assert abs(take.proportions.neck - whole.proportions.neck) < 45


def test_a_neck_that_nobody_has_leads_to_the_name_of_the_joint(tmp_path, text):
    written(tmp_path, text)
    with pytest.raises(DatasetError, match=r'nobody has .*neck \d+ mm.*Thorax is the base of the neck'):
        read_captures(tmp_path, names=dict(Thorax='Spine'))
    assert read_captures(tmp_path, names=dict(Thorax='Neck')).takes


def test_a_face_follows_the_head_where_the_pose_at_rest_says_nothing(tmp_path):
    "Skeletons whose offsets all point along one axis: the face is then, on average, where the chest is."
    write_bvh(tmp_path / 'a.bvh', walk(60))
    bvh = read_bvh(tmp_path / 'a.bvh')
    odd = dataclasses.replace(bvh, offsets=np.linalg.norm(bvh.offsets, axis=1, keepdims=True) * [1.0, 0, 0])
    joints = match_joints(bvh)
    a, b = (body_points(b_, joints, 10, 'y') for b_ in (bvh, odd))
    nose = POINTS.index('Neck/Nose')
    assert np.linalg.norm(a - b, axis=-1)[:, nose].max() < 25
    np.testing.assert_allclose(np.delete(a, nose, 1), np.delete(b, nose, 1), atol=1e-9)


def test_ones_own_names(tmp_path, text):
    odd = text.replace('LeftUpLeg', 'Bone 7').replace('Head\n', 'Top\n')
    path = written(tmp_path, odd)
    (tmp_path / 'names.json').write_text('{"LHip": "Bone 7", "Neck/Nose": "Top"}')
    (tmp_path / 'names.csv').write_text('point,joint\nLHip,Bone 7\nNeck/Nose,Top\n')
    for file in ('names.json', 'names.csv'):
        assert match_joints(read_bvh(path), read_names(tmp_path / file)) == match_joints(
            read_bvh(written(tmp_path, text, 'B1_01.bvh'))
        )
    with pytest.raises(DatasetError, match='joint Bone8: the skeleton has no such joint'):
        match_joints(read_bvh(path), dict(LHip='Bone8'))
    for wrong, message in (('{"LHup": "a"}', 'LHup: not a point'), ('[1]', 'not a mapping'), ('{', 'not a mapping')):
        (tmp_path / 'bad.json').write_text(wrong)
        with pytest.raises(DatasetError, match=message):
            read_names(tmp_path / 'bad.json')
    (tmp_path / 'bad.csv').write_text('a,b\n1,2\n')
    with pytest.raises(DatasetError, match='not a mapping'):
        read_names(tmp_path / 'bad.csv')


@pytest.mark.parametrize(
    'spell',
    [
        lambda t: t.encode('utf-8-sig'),
        lambda t: t.encode('utf-16'),
        lambda t: t.replace('\n', '\r').encode(),
        lambda t: t.replace('\n', '\r\n').encode('utf-8-sig'),
    ],
)
def test_tables_of_every_system(tmp_path, text, spell):
    "An index and names as Excel, a German Excel, an old Mac and editors write them."
    for name in ('A1_01', 'Zoë'):
        written(tmp_path, text, name + '.bvh')
    for sep in ',;\t':
        (tmp_path / 'list.csv').write_bytes(
            spell(
                sep.join(['File', 'SUBJECT', 'Description'])
                + '\n'
                + sep.join(['Zoe\u0308.BVH', 'Zoë', f'"walk{sep} run"'])
                + '\n\n'
                + sep.join(['A1_01', 'A1'])
                + '\n'
            )
        )
        index = read_index(tmp_path / 'list.csv')
        assert {name: (said.subject, said.action) for name, said in index.items()} == {
            'Zoë': ('Zoë', 'walk run'),
            'A1_01': ('A1', ''),
        }
        assert [take.subject for take in read_captures(tmp_path, index=tmp_path / 'list.csv').takes] == ['A1', 'Zoë']
        (tmp_path / 'names.csv').write_bytes(
            spell(sep.join(['point', 'joint']) + '\n' + sep.join(['LHip', 'Bone 7']) + '\n')
        )
        (tmp_path / 'names.json').write_bytes(spell('{\n"LHip":\n"Bone 7"\n}\n'))
        for file in ('names.csv', 'names.json'):
            assert read_names(tmp_path / file) == {'LHip': 'Bone 7'}


def test_tables_name_line_and_field(tmp_path):
    for wrong, message in (
        ('{\n"LHip": "a",\n"RHip" "b"}', "bad.json, line 3: not a mapping"),
        ('{"LHip": "a", "LHip": "b"}', 'bad.json, LHip: is there twice'),
        ('{"LHip": 3}', 'bad.json, LHip: 3 is no name'),
        ('["LHip"]', 'not a mapping'),
    ):
        (tmp_path / 'bad.json').write_text(wrong)
        with pytest.raises(DatasetError, match=message):
            read_names(tmp_path / 'bad.json')
    for wrong, message in (
        ('point,joint\nLHip,a\nLup,b\n', 'bad.csv, line 3, Lup: not a point'),
        ('point,joint\nLHip,a,b\n', 'bad.csv, line 2: 3 cells, the first line has 2'),
        ('', 'bad.csv, file: .*empty'),
    ):
        (tmp_path / 'bad.csv').write_text(wrong)
        with pytest.raises(DatasetError, match=message):
            read_names(tmp_path / 'bad.csv')
    for wrong, message in (
        (
            'sequence,subject,description\nx,1,walk, run\n',
            'list.csv, line 2: 4 cells, the first line has 3. Put a text with commas',
        ),
        ('sequence,subject,up\ny,1,y\nx,1,w\n', "list.csv, line 3, up: 'w' is no axis"),
        ('sequence;subject;unit_mm\nx;1;2,54\ny;1;zehn\n', "list.csv, line 3, unit_mm: 'zehn' is no length"),
        ('sequence,subject\n"x,1\ny,2\n', 'list.csv, line'),
    ):
        (tmp_path / 'list.csv').write_text(wrong)
        with pytest.raises(DatasetError, match=message):
            read_index(tmp_path / 'list.csv')


def test_no_toes_no_hands_no_crown(tmp_path, text):
    "The points that a file lacks are made: feet point ahead, hands along the arm."
    bare = re.sub(r'(ToeBase|HandMiddle1|HeadEnd)', lambda m: 'Prop' + m[1][:3], text)
    bvh = read_bvh(written(tmp_path, bare))
    assert not {'LToe', 'RHand', 'Head'} & set(match_joints(bvh))
    (take,) = read_captures(tmp_path, hz=50).takes
    whole = read_captures(written(tmp_path, text).parent, hz=50).takes[0]
    assert np.isfinite(take.points).all()
    toes = [take.points[:, POINTS.index(s + 'Toe')] - take.points[:, POINTS.index(s + 'Foot')] for s in 'LR']
    same = [whole.points[:, POINTS.index(s + 'Toe')] - whole.points[:, POINTS.index(s + 'Foot')] for s in 'LR']
    for a, b in zip(toes, same):
        assert np.median((a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)) > 0.9


# ---- takes -----------------------------------------------------------------------------------------------------------


def test_resampling():
    line = np.arange(121.0)[:, None, None] * np.ones((1, 2, 3))
    for rate, hz in ((120, 10), (120, 120), (119.88, 10), (100, 30), (60, 50)):
        got = resample(line, rate, hz)[:, 0, 0]
        np.testing.assert_allclose(got, np.arange(len(got)) * rate / hz, atol=1e-9)
        assert got[-1] <= 120 < got[-1] + rate / hz + 1e-6


@pytest.mark.parametrize('stand', [0, 1, 3])
def test_a_t_pose_at_the_start_is_dropped(tmp_path, stand):
    take = walk(100)
    write_bvh(
        tmp_path / 'A1_01.bvh', np.concatenate([np.repeat(rest_points()[None] + [0, 0, 400], stand, axis=0), take])
    )
    captures = read_captures(tmp_path, hz=50)
    assert captures.takes[0].instants == 100 and len(captures.left_out) == (stand > 0)
    assert read_captures(tmp_path, hz=50, skip=10).takes[0].instants == 90 + stand


def test_who_is_who(tmp_path, text):
    for name in ('49_02', 'S7_walk_fast', 'dance1_subject3', 'anna/walk', 'ben/deep/run'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        written(tmp_path, text, name + '.BVH' if name == '49_02' else name + '.bvh')
    said = {take.sequence: (take.subject, take.action) for take in read_captures(tmp_path).takes}
    assert said == {
        '49_02': ('49', '02'),
        'S7_walk_fast': ('S7', 'walk_fast'),
        'dance1_subject3': ('subject3', 'dance1'),
        'walk': ('anna', 'walk'),
        'run': ('ben', 'run'),
    }
    written(tmp_path, text, 'nobody.bvh')
    with pytest.raises(DatasetError, match='nobody.bvh, name: does not say who it is'):
        read_captures(tmp_path)
    (tmp_path / 'index.csv').write_text('file,subject,description,more\nnobody.bvh,7,"walk, run/jog",x\n49_02,49,,x\n')
    captures = read_captures(tmp_path)
    assert [(take.subject, take.action) for take in captures.takes] == [('7', 'walk run jog'), ('49', '49_02')] and len(
        captures.left_out
    ) == 4
    assert read_captures(tmp_path, subjects=['49']).subjects == ('49',)


@pytest.mark.parametrize(
    'left',
    [
        '._A1_01.bvh',
        '._A1_01.BVH',
        '.hidden.bvh',
        '.DS_Store',
        'Thumbs.db',
        '._index.csv',
        '__MACOSX/._A1_01.bvh',
        '.git/A1_01.bvh',
        '@eaDir/A1_01.bvh',
    ],
)
def test_what_systems_leave_in_a_folder(tmp_path, text, left):
    "A Mac's ._A1_01.bvh is no motion; a folder that has one is read like any other."
    written(tmp_path, text)
    (tmp_path / left).parent.mkdir(exist_ok=True)
    (tmp_path / left).write_bytes(bytes.fromhex('000516070002000000000000') + bytes(50))
    captures = read_captures(tmp_path)
    assert list(captures.files) == ['A1_01.bvh'] and captures.left_out == ()


def test_an_index_in_capitals_and_other_motion_among_the_files(tmp_path, text):
    written(tmp_path, text, 'walk.BVH')
    written(tmp_path, 'file,subject\rwalk,Anna\r', 'INDEX.CSV')
    for name in ('b.fbx', 'c.fbx', 'd.c3d'):
        (tmp_path / name).touch()
    captures = read_captures(tmp_path)
    assert captures.subjects == ('Anna',) and captures.left_out == ('2 .fbx, 1 .c3d: only BVH files are read',)
    (tmp_path / 'walk.BVH').unlink()
    with pytest.raises(DatasetError, match='no BVH file in it, but 2 .fbx, 1 .c3d'):
        read_captures(tmp_path)


def test_a_link_that_leads_nowhere_is_named(tmp_path, text):
    written(tmp_path, text)
    (tmp_path / 'A1_02.bvh').symlink_to(tmp_path / 'gone.bvh')
    with pytest.raises(DatasetError, match='A1_02.bvh, file: No such file'):
        read_captures(tmp_path)


@pytest.mark.parametrize(
    'wrong, message',
    [
        ('a,b\n1,2\n', 'columns: .* without sequence'),
        ('sequence\nx\n', 'without subject'),
        ('sequence,subject\nx,\n', 'line 2: sequence or subject is empty'),
        ('sequence,subject\nx,1\nx.bvh,2\n', 'line 3: x is there twice'),
        ('', 'not readable as CSV'),
        ('sequence,subject\nx,1\n', 'names none of the 1 BVH files'),
    ],
)
def test_wrong_indices(tmp_path, text, wrong, message):
    written(tmp_path, text)
    (tmp_path / 'list.csv').write_text(wrong)
    with pytest.raises(DatasetError, match=f'list.csv, .*{message}'):
        read_captures(tmp_path, index=tmp_path / 'list.csv')
    with pytest.raises(DatasetError, match='none.csv, file'):
        read_index(tmp_path / 'none.csv')


@pytest.mark.parametrize(
    'name', ['A1_walk .bvh', 'A1_walk\t1.bvh', 'A1_ wal\u200bk.bvh', '(((/walk.bvh', '( )/A1_b.bvh']
)
def test_names_that_a_store_would_not_take_are_mended_or_refused_before_the_work(tmp_path, text, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    written(tmp_path, text, name)
    if name == '(((/walk.bvh':
        with pytest.raises(DatasetError, match='walk.bvh, name: does not say who it is'):
            read_captures(tmp_path)
        return
    (take,) = read_captures(tmp_path).takes
    assert take.subject == 'A1' and all(
        value == value.strip() != '' and value.isprintable() for value in (take.subject, take.action, take.sequence)
    )
    assert len(make_dataset(tmp_path / 's', motion=tmp_path, side=32, progress=False)) == take.instants


def test_the_same_take_twice(tmp_path, text):
    for place in ('a', 'b'):
        (tmp_path / place).mkdir()
        written(tmp_path / place, text)
    with pytest.raises(DatasetError, match='is the same take A1_01 of subject A1'):
        read_captures(tmp_path)


@pytest.mark.parametrize(
    'wrong, message',
    [
        (dict(hz=0), 'hz must lie'),
        (dict(hz=60), '50 frames per second, 60 instants'),
        (dict(unit_mm=-1), 'unit_mm must be positive'),
        (dict(unit_mm=1), 'units of 1 mm'),
        (dict(up='q'), 'up must be'),
        (dict(skip=-1), 'skip must not be negative'),
        (dict(subjects=['B']), 'subjects not there: B; the folder has A1'),
        (dict(subjects=[]), 'subjects must be'),
        (dict(names=dict(LHup='Hips')), 'names must map'),
        (dict(hz=1), 'no take is as long as 8 instants at 1 Hz'),
    ],
)
def test_wrong_options(tmp_path, text, wrong, message):
    written(tmp_path, text)
    with pytest.raises(ValueError, match=message):
        read_captures(tmp_path, **wrong)


def test_bones_are_those_of_the_body_and_two_skeletons_of_one_subject_stay_apart(tmp_path):
    small = REFERENCE.scaled(stature=0.85, arms=1.1)
    for trial, p in ((1, REFERENCE), (2, small)):
        write_bvh(tmp_path / f'A1_0{trial}.bvh', walk(60, trial, p))
    for take, p in zip(read_captures(tmp_path).takes, (REFERENCE, small)):
        for name in (
            'thigh',
            'shank',
            'upper_arm',
            'forearm',
            'spine',
            'chest',
            'hip_half_width',
            'ankle_height',
            'foot',
        ):
            assert abs(getattr(take.proportions, name) / getattr(p, name) - 1) < 0.02, name


@pytest.mark.parametrize('action', ['Walking', 'Greeting', 'Sitting', 'SittingDown'])
def test_feet_stand_on_the_floor_wherever_it_was(tmp_path, action):
    "Captured in the air, set down: ankles as high as the motion has them over its own floor."
    true = walk(200, 1, action=action)
    write_bvh(tmp_path / 'A1_01.bvh', true + np.float32([500, 300, 777]))
    (take,) = read_captures(tmp_path, hz=50).takes
    if action != 'SittingDown':
        assert np.abs(take.points[:, :17, 2] - true[:, :17, 2]).max() < 25  # on the floor, legs lie about
    assert take.points[:, :, 2].min() > -80


# ---- stores ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp('takes')
    for seed, name in enumerate(('A1_01', 'A1_02', 'U02_01', 'B3_01')):
        write_bvh(path / f'{name}.bvh', walk(100, seed))
    return path


SMALL = dict(side=32, progress=False)


def files_of(path):
    return {f.name: f.read_bytes() for f in path.iterdir()}


@pytest.fixture(scope='module')
def store(folder, tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp('store') / 'x', motion=folder, **SMALL)


def test_a_store_of_real_motion(store):
    store.validate()
    assert store.hz == 10 and store.stride == 5 and list(store.table['subject'].unique()) == ['A1', 'B3', 'U02']
    assert (
        'synthetic views of real motion' in store.name
        and store.extra['motion'] == 'motion capture'
        and store.extra['synthetic'] == 'synthetic views of real motion'
    )
    assert (
        np.isnan(store.where(subject='U02').poses[:]).all()
        and np.isfinite(store.where(subject=['A1', 'B3']).poses[:]).all()
    )
    np.testing.assert_allclose(store.where(subject='B3').table['time_s'], np.arange(20) / 10)


@pytest.mark.parametrize('workers', [1, 3])
def test_same_seed_same_bytes(store, folder, tmp_path, workers):
    assert files_of(make_dataset(tmp_path / 'y', motion=folder, **SMALL, workers=workers).path) == files_of(store.path)
    assert make_dataset(store.path, motion=folder, **SMALL).checksum == store.checksum


def test_interrupted_and_started_again(store, folder, tmp_path, monkeypatch):
    film, calls = Studio.film, []

    def stop_at_third(self, take):
        calls.append(take)
        if len(calls) > 2:
            raise RuntimeError('stop')
        return film(self, take)

    monkeypatch.setattr(Studio, 'film', stop_at_third)
    with pytest.raises(RuntimeError, match='stop'):
        make_dataset(tmp_path / 'y', motion=folder, **SMALL, workers=1)
    monkeypatch.undo()
    assert (tmp_path / 'y.partial').exists() and not (tmp_path / 'y').exists()
    assert files_of(make_dataset(tmp_path / 'y', motion=folder, **SMALL).path) == files_of(store.path)


def test_other_files_are_another_store(store, folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / 'other')
    path = other / 'A1_01.bvh'
    path.write_text(path.read_text() + '\n')
    with pytest.raises(DatasetError, match='finished store'):
        make_dataset(store.path, motion=other, **SMALL)


def test_a_subject_does_not_depend_on_the_others(store, folder, tmp_path):
    alone = make_dataset(tmp_path / 'y', motion=folder, subjects=['B3'], **SMALL)
    np.testing.assert_array_equal(alone.frames[:], store.where(subject='B3').frames[:])
    np.testing.assert_array_equal(alone.poses[:], store.where(subject='B3').poses[:])


def test_instants_limit(folder, tmp_path):
    some = make_dataset(tmp_path / 'a', motion=folder, instants=dict(A1=29, B3=8, U02=20), labels='all', **SMALL)
    assert some.table.groupby(['subject', 'sequence']).size().to_dict() == {
        ('A1', 'A1_01'): 20,
        ('A1', 'A1_02'): 9,
        ('B3', 'B3_01'): 8,
        ('U02', 'U02_01'): 20,
    }
    assert np.isfinite(some.poses[:]).all()
    with pytest.raises(ValueError, match='instants must be at least 8 for each of 3 subjects'):
        make_dataset(tmp_path / 'b', motion=folder, instants=12, **SMALL)
    with pytest.raises(ValueError, match='instants must name the subjects'):
        make_dataset(tmp_path / 'b', motion=folder, instants=dict(A1=20), **SMALL)
    with pytest.raises(ValueError, match='no take of subjects C; there are A1'):
        make_dataset(tmp_path / 'b', motion=read_captures(folder), subjects=['C'], **SMALL)
    assert not (tmp_path / 'b').exists()


@pytest.mark.parametrize('rig', RIGS)
def test_only_what_all_cameras_see(tmp_path, rig):
    points = walk(400).astype(float)
    points[..., 0] += np.linspace(0, 9000, 400)[:, None]
    write_bvh(tmp_path / 'A1_01.bvh', points)
    (take,) = read_captures(tmp_path).takes
    seen = set_down(take, RIGS[rig], 0)
    assert mocap.SHORTEST <= seen.instants < take.instants and in_all_views(seen.points, RIGS[rig].cameras).all()
    start = next(
        i
        for i in range(take.instants)
        if np.allclose(take.points[i] - take.points[i, 0], take.points[i] - take.points[i, 0])
        and np.allclose(
            np.linalg.norm(take.points[i] - take.points[i, 0], axis=-1),
            np.linalg.norm(seen.points[0] - seen.points[0, 0], axis=-1),
            atol=0.01,
        )
    )
    np.testing.assert_allclose(
        seen.points[..., 2], take.points[start : start + seen.instants, :, 2], atol=1e-3
    )  # one stretch, nothing left out inside
    ds = make_dataset(tmp_path / 's', rig=rig, motion=tmp_path, side=32, progress=False)
    assert f'{take.instants - seen.instants} instants in which some camera of {rig}' in ' '.join(ds.extra['left_out'])


# ---- the CMU subset --------------------------------------------------------------------------------------------------

HEAD_AHEAD = {'mb2': 'Neck/Nose', 'max': 'Neck/Nose', 'daz': 'Head'}  # defined otherwise there, see below


@needs_cmu
def test_cmu_against_an_independent_derivation():
    """All 56 files against joints17_60fps.npz (raw frames 3, 5, 7, ...; metres, y up): equal but for one point of each
    rig.

    Neck/Nose of mb2 and max: the reference is the head joint itself, ours lies ahead of it by .42 of the way to the
    head's top. Head of daz, which has no end: the reference lies 170 mm on from neck to head joint, ours 170 mm up the
    head's own axis, so that it nods.
    """
    index = {
        row['sequence']: row['rig']
        for row in map(dict, __import__('pandas').read_csv(CMU / 'index.csv').to_dict('records'))
    }
    with np.load(CMU / 'joints17_60fps.npz') as truth:
        files = sorted((CMU / 'bvh').glob('*.bvh'))
        assert len(files) == 56
        for path in files:
            bvh, other = read_bvh(path), HEAD_AHEAD[index[path.stem]]
            joints = match_joints(bvh)
            points = body_points(bvh, joints, find_unit_mm(bvh, joints), find_up(bvh, joints))[3::2, : len(JOINTS)]
            true = truth[f'pos_{path.stem}'][..., [2, 0, 1]] * 1000.0
            points, off = points[: len(true)], np.linalg.norm(points[: len(true)] - true, axis=-1)
            assert len(points) == len(true)
            for name, mm in zip(JOINTS, off.T):
                assert mm.max() < 0.05 or name == other, (path.name, name, mm.max())
            mm = off[:, JOINTS.index(other)]
            if other == 'Neck/Nose':
                np.testing.assert_allclose(mm, mm[0], atol=0.05)
                assert 35 < mm[0] < 50
            else:
                assert np.median(mm) < 80
                head = np.linalg.norm(
                    points[:, JOINTS.index('Head')]
                    - to_z_up(forward_kinematics(bvh, [joints['Neck/Nose']])[0][3::2, 0] * 10, 'y')[: len(true)],
                    axis=-1,
                )
                np.testing.assert_allclose(head, 170, atol=1e-6)


def laid_down(path, out, turn_by, place):
    """A real capture whose root is turned and kept at a place, in the file's unit: the same movements of somebody
    who lies."""
    bvh, text = read_bvh(path), path.read_text()
    head, values, channels = text[: text.index('\n', text.index('Frame Time')) + 1], bvh.values.copy(), bvh.channels[0]
    turns = [i for i, channel in enumerate(channels) if channel.endswith('rotation')]
    order = ''.join(channels[i][0] for i in turns).upper()
    values[:, turns] = (turn_by * Rotation.from_euler(order, values[:, turns], degrees=True)).as_euler(
        order, degrees=True
    )
    values[:, [channels.index(axis + 'position') for axis in 'xyz']] = place
    out.write_text(head + '\n'.join(' '.join(f'{v:.5f}' for v in row) for row in values) + '\n')


@needs_cmu
@pytest.mark.parametrize('turn_by', [('x', -90), ('x', 90), ('z', 90), ('z', -90), ('x', 180)], ids=str)
def test_cmus_people_laid_down(tmp_path, turn_by):
    """A skeleton that turns: alone it is asked for, beside a take that walks, of whomever, it lies, and not deeper
    than the floor."""
    walks = [path for path in (CMU / 'bvh').glob('*.bvh') if path.stem in ('02_01', '07_01')]
    laid_down(
        CMU / 'bvh' / '02_01.bvh',
        tmp_path / '02_99.bvh',
        Rotation.from_euler(*turn_by, degrees=True),
        [0, 15 if turn_by[1] == 180 else 2.5, 0],
    )
    with pytest.raises(
        DatasetError,
        match=r'02_99.bvh, vertical axis: the skeleton stands along y at rest, from feet to head it is -?[xyz].*--up ',
    ):
        read_captures(tmp_path)
    (told,) = read_captures(tmp_path, up='y').takes
    assert head_mm(told) < 600 and -60 < np.quantile(told.points[:, :, 2].min(axis=1), 0.05) < 100
    for path in walks:
        shutil.copy(path, tmp_path)
        takes = {take.sequence: take for take in read_captures(tmp_path).takes}
        (tmp_path / path.name).unlink()
        assert head_mm(takes['02_99']) < 600 and head_mm(takes[path.stem]) > 1300
    assert read_bvh(tmp_path / '02_99.bvh').crc != read_bvh(walks[0]).crc


@needs_cmu
def test_what_is_told_of_cmu():
    "Every subject's unit and axis, in one folder of two units: CMU's, and centimetres of its Daz release."
    captures = read_captures(CMU / 'bvh', index=CMU / 'index.csv')
    rigs = dict(__import__('pandas').read_csv(CMU / 'index.csv', dtype=str)[['sequence', 'rig']].values)
    daz = {sequence.split('_')[0].lstrip('0') for sequence, rig in rigs.items() if rig == 'daz'}
    units = {(one['subject'], one['unit_mm']) for one in captures.skeletons}
    assert {subject for subject, unit in units if unit == 10} == daz and {unit for _, unit in units} == {
        10,
        UNITS_MM['CMU'],
    }
    assert (
        all(1400 < one['stature_mm'] < 1900 and one['up'] == 'y' for one in captures.skeletons)
        and captures.settings['unit_mm'] is None
        and captures.settings['up'] == 'y'
    )
    assert captures.vertical == 'y: the skeleton at rest and 56 of 56 takes' and len(captures.left_out) == 1


@needs_cmu
def test_cmu_as_a_store(tmp_path):
    ds = make_dataset(
        tmp_path / 'cmu',
        motion=read_captures(CMU / 'bvh', index=CMU / 'index.csv', subjects=['7', '131', '10']),
        side=32,
        instants=dict.fromkeys(('7', '131', '10'), 40),
        progress=False,
    )
    ds.validate()
    assert ds.stride == 12 and 'soccer - kick ball' in set(ds.table['action']) and 'LICENSE_TERMS.txt' in ds.licence
