"""Small films whose frames tell their own number, labels of who is in them, and what is made of both: for tests of
what reads videos."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mvssl.dataset import DatasetError
from mvssl.skeleton import JOINTS
from mvssl.sources.decoding import decode, probe
from mvssl.sources.videos import prepare

SIZE, RATE, N = (160, 120), 30, 60
LIGHT, PER_FRAME = 60, 3  # grey level of the figure in frame 0, and how much lighter it gets with each frame


def place(moment, size=SIZE):
    "Middle of the figure, px, and its width and height, at a moment in s."
    return (0.5 + 0.25 * np.sin(3 * moment)) * size[0], 0.5 * size[1], 0.15 * size[0], 0.55 * size[1]


def picture(moment, number, view, size=SIZE, moves=True):
    "A figure of the grey level of its frame in front of a texture."
    small = np.random.default_rng(view).integers(20, 120, (size[1] // 8 + 1, size[0] // 8 + 1, 3), 'uint8')
    image = small.repeat(8, 0).repeat(8, 1)[: size[1], : size[0]].copy()
    x, y, w, h = place(moment, size)
    if moves:
        image[round(y - h / 2) : round(y + h / 2), round(x - w / 2) : round(x + w / 2)] = min(
            LIGHT + PER_FRAME * number, 250
        )
    return image


def shoot(
    path,
    n=N,
    view=0,
    size=SIZE,
    rate=RATE,
    codec='libx264',
    pix_fmt='yuv420p',
    sound=False,
    turned=0,
    moves=True,
    times=None,
    options=None,
    first=0,
    lying=0,
):
    """Writes a video whose frames show when they were taken: number i is the one at i/RATE s, whatever the rate of
    the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    times = np.arange(first, first + n) / rate if times is None else np.asarray(times)
    with av.open(str(path), 'w') as container:
        audio = container.add_stream('aac', rate=44100) if sound else None
        stream = container.add_stream(codec, rate=rate, options=options or ({'crf': '8'} if codec == 'libx264' else {}))
        # stored turned anticlockwise by LYING degrees, of which the file says nothing, and by -TURNED, which it says
        quarters = (lying - turned) // 90
        upright = np.rot90(picture(0, 0, view, size), quarters)
        stream.height, stream.width = upright.shape[:2]
        stream.pix_fmt = pix_fmt
        if codec not in ('libx264', 'libx265'):
            stream.bit_rate = 4_000_000
        stream.time_base = stream.codec_context.time_base = (
            Fraction(1, 90000) if path.suffix in ('.mp4', '.mov') else Fraction(1, rate)
        )
        if turned:
            stream.set_display_rotation(turned)
        for moment in times:
            frame = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(np.rot90(picture(moment, moment * RATE, view, size, moves), quarters)), 'rgb24'
            )
            frame.time_base = stream.time_base
            frame.pts = round((moment - times[0]) / frame.time_base)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound:
            for i in range(int(44100 * (len(times) / rate + 0.5)) // 1024):
                frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), 'float32'), 'fltp', 'stereo')
                frame.sample_rate, frame.pts = 44100, 1024 * i
                container.mux(audio.encode(frame))
            container.mux(audio.encode())
    return path


def box_table(path, n=N, rate=RATE, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = ['frame,left,top,right,bottom']
    for i in range(n):
        x, y, w, h = place(i / rate, size)
        rows.append(f'{i},{x - w / 2:.2f},{y - h / 2:.2f},{x + w / 2:.2f},{y + h / 2:.2f}')
    path.write_text('\n'.join(rows) + '\n')


def numbers(crops):
    "Frame numbers that crops (..., S, S, 3) tell by their middle."
    s = crops.shape[-2]
    middle = (
        crops[..., s // 2 - s // 12 : s // 2 + s // 12, s // 2 - s // 24 : s // 2 + s // 24, :]
        .astype(float)
        .mean((-3, -2, -1))
    )
    return (middle - LIGHT) / PER_FRAME


def numbers_in(path, wanted, view=0):
    "Frame numbers in the middle of the figure of decoded frames."
    video, found = probe(path), {}
    for position, shown in decode(video, wanted):
        x, y, w, h = place(position / RATE, video.size)
        found[position] = numbers(shown.crop((x - w / 4, y - w / 4, x + w / 4, y + w / 4), 24))
    return found


QUICK = dict(side=32, workers=1, progress=False, sheet=None)


def files_of(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


def refused(*args, field='', **kwargs):
    "What prepare says when it refuses; nothing may be left behind."
    out = kwargs.pop('out')
    with pytest.raises(DatasetError) as caught:
        prepare(*args, out, **{**QUICK, **kwargs})
    assert not out.exists() and not Path(f'{out}.partial').exists(), 'written before everything was checked'
    return str(caught.value)


# ---- labels ----------------------------------------------------------------------------------------------------------

STANDING = {
    'RHip': (-100, 0, 900),
    'RKnee': (-110, 0, 480),
    'RAnkle': (-110, 20, 90),
    'LHip': (100, 0, 900),
    'LKnee': (110, 0, 480),
    'LAnkle': (110, 20, 90),
    'Neck': (0, 0, 1450),
    'Nose': (0, -90, 1580),
    'Head': (0, -30, 1740),
    'LShoulder': (180, 0, 1440),
    'LElbow': (200, 0, 1140),
    'LWrist': (210, -20, 890),
    'RShoulder': (-180, 0, 1440),
    'RElbow': (-200, 0, 1140),
    'RWrist': (-210, -20, 890),
}  # mm, z up, looking along -y


def moving(n, hz=60.0):
    "Points (n, J, 3) in mm of somebody who walks 1 m/s along x."
    return np.array(list(STANDING.values()), float) + np.arange(n)[:, None, None] / hz * [1000, 0, 0]


def write_trc(path, points_mm, hz=60.0, unit='m', up='y', first_s=0.0, header=None, names=tuple(STANDING), decimals=6):
    scale = {'m': 1000, 'cm': 10, 'mm': 1}[unit]
    points = points_mm / scale
    if up == 'y':
        points = points[..., [1, 2, 0]]  # z up (x, y, z) -> y up (y, z, x)
    lines = [
        f'PathFileType\t4\t(X/Y/Z)\t{path.name}',
        'DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames',
        f'{hz:g}\t{hz:g}\t{len(points)}\t{len(names)}\t{header or unit}\t{hz:g}\t0\t{len(points)}',
        'Frame#\tTime\t' + '\t\t\t'.join(names) + '\t\t\t',
        '\t\t' + '\t'.join(f'{axis}{i + 1}' for i in range(len(names)) for axis in 'XYZ'),
    ]
    for i, row in enumerate(points):
        lines.append(
            '\t'.join(
                [
                    str(i + 1),
                    f'{first_s + i / hz:.{decimals}f}',
                    *('' if np.isnan(a) else f'{a:.6f}' for a in row.ravel()),
                ]
            )
        )
    path.write_text('\n'.join(lines) + '\n')
    return path


def joint(poses, name):
    return poses[..., JOINTS.index(name), :]


# ---- made once for each file of tests that asks for it --------------------------------------------------------------


@pytest.fixture(scope='module')
def walk(tmp_path_factory):
    "One sequence of two cameras, with boxes."
    home = tmp_path_factory.mktemp('rig')
    for view in (0, 1):
        shoot(home / 'walk' / f'cam{view}.mp4', view=view)
        box_table(home / 'boxes' / f'cam{view}.csv')
    return home


@pytest.fixture(scope='module')
def two(tmp_path_factory):
    home = tmp_path_factory.mktemp('two')
    for sequence in ('sit', 'walk'):
        for view in (0, 1):
            shoot(home / 'in' / sequence / f'cam{view}.mp4', view=view + 2 * (sequence == 'sit'), n=36)
    prepare(home / 'in', home / 'whole', **QUICK)
    return home


@pytest.fixture(scope='module')
def long_walk(tmp_path_factory):
    "12 s, once with a key frame in each half second, once with one at the beginning."
    home = tmp_path_factory.mktemp('long')
    for gop in (15, 9999):
        for view in (0, 1):
            shoot(
                home / f'gop{gop}' / f'cam{view}.mp4',
                view=view,
                times=np.arange(360) / 30,
                options={'crf': '18', 'g': str(gop), 'keyint_min': str(min(gop, 250)), 'sc_threshold': '0'},
                moves=True,
            )
    return home
