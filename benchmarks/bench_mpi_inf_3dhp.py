"""Making a store of MPI-INF-3DHP against bare decoding: 2048 x 2048 px, every fifth frame of 50, one process, one
thread.

    python benchmarks/bench_mpi_inf_3dhp.py [frames]

For each codec that such videos come in, frames of the source per second of processor time: decoded by PyAV and thrown
away; filmed into the file of a sequence, plain and perspective-correct; the ratios are of the same run. The pictures
are noise in front of which a block moves, harder to decode than a studio. Also how long annotations take, of a whole
sequence of 12,820 frames before 14 cameras.
"""

import os
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

os.environ['OMP_NUM_THREADS'] = '1'
sys.path.insert(0, str(Path(__file__).parents[1] / 'tests'))
import av  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

from films import walk, write_film  # noqa: E402
from invented_3dhp import annotation, calibration_text, make_rig, write_mat  # noqa: E402
from mvssl.sources.decoding import probe  # noqa: E402
from mvssl.sources.filming import Shot, Target, film  # noqa: E402
from mvssl.sources.mpi_inf_3dhp import (  # noqa: E402
    frames_shown,
    homographies,
    is_flash,
    read_annotations,
    read_calibration,
    turned_crops,
)

torch.set_num_threads(1)

FRAMES = int(sys.argv[1]) if len(sys.argv) > 1 else 150
SIZE, SIDE, REPEATS = 2048, 128, 3


def made(n):
    rng = np.random.default_rng(0)
    room = np.repeat(np.repeat(rng.integers(40, 200, (SIZE // 8, SIZE // 8, 3), 'uint8'), 8, 0), 8, 1)
    for i in range(n):
        picture = room + rng.integers(0, 6, room.shape, 'uint8')
        picture[600:1500, 700 + 3 * i : 1000 + 3 * i] = 30
        yield picture


def bare(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count, stream.codec_context.thread_type = 1, 'NONE'
        return sum(1 for _ in container.decode(stream))


def timed(function):
    began = time.process_time()
    function()
    return time.process_time() - began


def compare(home, codec):
    "Prints frames per second of each way."
    path, out = write_film(home / f'{codec}.avi', made(FRAMES), hz=50, codec=codec), home / 'frames'
    video, frames = probe(path), frames_shown(FRAMES, 50, 10)
    squares = np.array([[500.0, 500, 1600, 1600]] * len(frames)) + np.arange(len(frames))[:, None]
    K = np.array([[1500.0, 0, 1024], [0, 1500, 1024], [0, 0, 1]])
    turns = homographies(K, np.eye(3), np.zeros(3), (SIZE, SIZE), squares, SIDE)
    plain, target = Shot(video, frames, squares, is_spoilt=is_flash), Target(out, view=0, views=1, side=SIDE)
    turned = replace(plain, crops=partial(turned_crops, turns))
    out.write_bytes(bytes(len(frames) * SIDE * SIDE * 3))
    ways = dict(
        decoding=lambda: bare(path),
        plain=lambda: film(plain, target),
        perspective=lambda: film(turned, target),
    )
    best = {name: min(timed(way) for _ in range(REPEATS)) for name, way in ways.items()}
    print(
        f'{codec:8s} {path.stat().st_size / FRAMES / 1e3:6.0f} kB/frame  '
        + '  '.join(
            f'{name} {FRAMES / seconds:6.0f} ({best["decoding"] / seconds:.2f})' for name, seconds in best.items()
        )
        + f'  probing {FRAMES / timed(lambda: probe(path)):.0f}'
    )


def read_annotated(home, n=12820):
    "Prints how long the annotations of the longest sequence take."
    rig = make_rig()
    write_mat(home / 'annot.mat', annotation(np.resize(walk(200), (n, 21, 3)), rig))
    (home / 'camera.calibration').write_text(calibration_text(rig))
    calibration = read_calibration(home / 'camera.calibration')
    seconds = timed(
        lambda: read_annotations(
            home / 'annot.mat', calibration, (0, 1, 2, 4, 5, 6, 7, 8), rows=lambda n: frames_shown(n, 50, 10)
        )
    )
    print(
        f"annotations of {n:,} frames x 14 cameras, {(home / 'annot.mat').stat().st_size / 1e6:.0f} MB: {seconds:.1f} s"
    )


with tempfile.TemporaryDirectory() as home:
    print(
        f'{FRAMES} frames of {SIZE} x {SIZE} px, {SIDE} px crops; frames/s and share of bare decoding, best of '
        f'{REPEATS}'
    )
    for codec in ('mpeg4', 'libx264'):
        compare(Path(home), codec)
    read_annotated(Path(home))
