"""Reading BVH, from bytes to the 17 joints in mm, against a plain loop over frames and joints: python
benchmarks/bench_mocap.py [FOLDER].

Without a folder: a made-up capture with CMU's skeleton, 31 joints that turn and 96 numbers per frame. Both take turns
in one run, one thread; the best processor times count, which other work on the machine disturbs least. The loop reads
a part of the frames, since it is slow, and must find the same positions. Beside them what np.array(text.split(),
float), the usual way, takes for the numbers alone. Printed ratios: how many times as fast reading with joints is.
Wanted: 20,000 frames/s; a run ends with an error if it is missed.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from mvssl.sources.mocap import body_points, find_unit_mm, find_up, forward_kinematics, match_joints, read_bvh
from mvssl.skeleton import JOINTS

WANTED, ROUNDS, LOOP_FRAMES = 20_000, 3, 200
BONES = {  # CMU's tree: name, parent, offset
    'Hips': (None, 0, 0, 0),
    'LHipJoint': ('Hips', 0, 0, 0),
    'LeftUpLeg': ('LHipJoint', 1.6, -1.8, 0.6),
    'LeftLeg': ('LeftUpLeg', 2.6, -7.1, 0),
    'LeftFoot': ('LeftLeg', 2.5, -6.8, 0),
    'LeftToeBase': ('LeftFoot', 0.2, -0.5, 2.1),
    'RHipJoint': ('Hips', 0, 0, 0),
    'RightUpLeg': ('RHipJoint', -1.6, -1.8, 0.6),
    'RightLeg': ('RightUpLeg', -2.6, -7.1, 0),
    'RightFoot': ('RightLeg', -2.5, -6.8, 0),
    'RightToeBase': ('RightFoot', -0.2, -0.6, 2.1),
    'LowerBack': ('Hips', 0, 0, 0),
    'Spine': ('LowerBack', 0, 2, -0.1),
    'Spine1': ('Spine', 0, 2, 0),
    'Neck': ('Spine1', 0, 0, 0),
    'Neck1': ('Neck', 0, 1.6, 0.1),
    'Head': ('Neck1', 0, 1.6, -0.1),
}
for side, sign in (('Left', 1), ('Right', -1)):
    BONES |= {
        f'{side}Shoulder': ('Spine1', 0, 0, 0),
        f'{side}Arm': (f'{side}Shoulder', 3.5 * sign, 0.9, -0.2),
        f'{side}ForeArm': (f'{side}Arm', 4.9 * sign, 0, 0),
        f'{side}Hand': (f'{side}ForeArm', 3.3 * sign, 0, 0),
        f'{side}FingerBase': (f'{side}Hand', 0, 0, 0),
        f'{side}HandIndex1': (f'{side}FingerBase', 0.7 * sign, 0, 0),
        f'{side[0]}Thumb': (f'{side}Hand', 0, 0, 0),
    }


def write(path, frames, rng):
    "A body that sways about a standing pose."

    def lines(name, pad=''):
        parent, *offset = BONES[name]
        below = [line for other in BONES if BONES[other][0] == name for line in lines(other, pad + '\t')]
        return [
            f'{pad}{"JOINT" if parent else "ROOT"} {name}',
            pad + '{',
            f'{pad}\tOFFSET {" ".join(map(str, offset))}',
            f'{pad}\tCHANNELS {3 if parent else 6} {"" if parent else "Xposition Yposition Zposition "}Zrotation '
            f'Yrotation Xrotation',
            *(below or [f'{pad}\tEnd Site', pad + '\t{', f'{pad}\t\tOFFSET 0 1 0', pad + '\t}']),
            pad + '}',
        ]

    values = np.cumsum(rng.normal(scale=0.05, size=(frames, 3 + 3 * len(BONES))), axis=0) + [
        0,
        17,
        0,
        *[0] * 3 * len(BONES),
    ]
    path.write_text(
        '\n'.join(
            [
                'HIERARCHY',
                *lines('Hips'),
                'MOTION',
                f'Frames: {frames}',
                'Frame Time: .0083333',
                *(' '.join(f'{v:.4f}' for v in row) for row in values),
                '',
            ]
        )
    )


def read(path):
    "What is measured: points in mm, z up."
    bvh = read_bvh(path)
    joints = match_joints(bvh)
    return bvh, body_points(bvh, joints, find_unit_mm(bvh, joints), find_up(bvh, joints))[:, : len(JOINTS)]


def loop(bvh, lines):
    "The same joints by the formula, frame by frame and joint by joint."
    turn = {
        'x': lambda c, s: [[1, 0, 0], [0, c, -s], [0, s, c]],
        'y': lambda c, s: [[c, 0, s], [0, 1, 0], [-s, 0, c]],
        'z': lambda c, s: [[c, -s, 0], [s, c, 0], [0, 0, 1]],
    }
    frames = []
    for line in lines:
        values, world = iter([float(word) for word in line.split()]), []
        for parent, offset, channels in zip(bvh.parents, bvh.offsets, bvh.channels):
            offset, R = offset.copy(), np.eye(3)
            for channel in channels:
                value = next(values)
                if channel.endswith('position'):
                    offset['xyz'.index(channel[0])] = value
                else:
                    R = R @ turn[channel[0]](np.cos(np.radians(value)), np.sin(np.radians(value)))
            at, above = world[parent] if parent >= 0 else (np.zeros(3), np.eye(3))
            world.append((at + above @ offset, above @ R))
        frames.append([at for at, _ in world])
    return np.array(frames)


def best(do, *args):
    start = time.process_time()
    result = do(*args)
    return time.process_time() - start, result


def main(folder=None):
    with tempfile.TemporaryDirectory() as made:
        paths = sorted(Path(folder).rglob('*.bvh')) if folder else [Path(made) / f'{i}.bvh' for i in range(4)]
        if not folder:
            for i, path in enumerate(paths):
                write(path, 3000, np.random.default_rng(i))
        bvhs = [read(path)[0] for path in paths]  # also warms up
        n = sum(map(len, bvhs))
        body = paths[0].read_text().splitlines()[-len(bvhs[0]) :]
        part = body[:LOOP_FRAMES]
        rates = {
            'mvssl, bytes to 17 joints': 0.0,
            'mvssl, reading alone': 0.0,
            'np.array(text.split(), float), numbers alone': 0.0,
            'loop over frames and joints': 0.0,
        }
        for _ in range(ROUNDS):
            seconds = [
                best(lambda: [read(path) for path in paths])[0],
                best(lambda: [read_bvh(path) for path in paths])[0],
            ]
            seconds += [best(lambda: np.array(' '.join(body).split(), float))[0] * n / len(body)]
            took, slow = best(loop, bvhs[0], part)
            seconds += [took * n / len(part)]
            for name, s in zip(rates, seconds):
                rates[name] = max(rates[name], n / s)
        np.testing.assert_allclose(
            forward_kinematics(bvhs[0], range(len(bvhs[0].names)), slice(0, len(part)))[0], slow, atol=1e-6
        )
    ours = rates['mvssl, bytes to 17 joints']
    print(f'{len(paths)} files, {n:,} frames of {sum(map(len, bvhs[0].channels))} numbers, best of {ROUNDS}')
    for name, rate in rates.items():
        print(f'{name:46} {rate:9,.0f} frames/s   ratio {ours / rate:.2f}')
    if ours < WANTED:
        sys.exit(f'fewer than {WANTED:,} frames/s')


if __name__ == '__main__':
    main(*sys.argv[1:])
