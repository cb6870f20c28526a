"""How much of PyAV's bare decoding rate is left when a store is made: frames per second and core, and their ratio, in
one run.

    python benchmarks/bench_videos.py [--seconds 20] [--folder FOLDER_OF_REAL_VIDEOS]

Bare: a loop over `container.decode(video=0)` that looks at nothing, one thread. Ours: `film`, one process, one thread,
10 frames a second kept as crops of 128 px, boxes given and boxes found by motion (a background first), and the reading
of the file that goes before (`probe`). On a made film (1080 x 1920, H.264 with B-frames, 50 per second, a key frame
each 250) and, where it is there, on real film. Aim: 80 %.

Frames that no other frame needs and nobody wants are not decoded at all, so more than 100 % is possible.
"""

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

import av
import numpy as np

from mvssl.sources.decoding import probe
from mvssl.sources.filming import Moving, Shot, Target, film

SHARED = (
    Path(os.environ.get('MVSSL_SHARED_DATA', Path(__file__).parents[2] / 'shared' / 'data'))
    / 'pose2sim_balancing'
    / 'videos'
)


def shoot(path, seconds, hz=50, size=(1080, 1920)):
    "Somebody, a bar of noise, sways in front of a wall; the camera is noisy too."
    rng = np.random.default_rng(0)
    wall = rng.integers(30, 200, (size[1] // 20, size[0] // 20, 3), 'uint8').repeat(20, 0).repeat(20, 1)
    body = rng.integers(60, 255, (1000 // 10, 300 // 10, 3), 'uint8').repeat(10, 0).repeat(10, 1)
    with av.open(str(path), 'w') as container:
        stream = container.add_stream(
            'libx264', rate=hz, options={'preset': 'veryfast', 'bf': '3', 'crf': '23', 'g': '250'}
        )
        (stream.width, stream.height), stream.pix_fmt = size, 'yuv420p'
        for i in range(int(seconds * hz)):
            image = wall.copy()
            x = int((0.5 + 0.3 * np.sin(i / hz)) * (size[0] - 300))
            image[500:1500, x : x + 300] = np.roll(body, 10 * (i // 5), 0)
            image[rng.integers(0, size[1], 20000), rng.integers(0, size[0], 20000)] += 8
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, 'rgb24')))
        container.mux(stream.encode())
    return path


def bare(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        return sum(1 for _ in container.decode(stream))


def ours(path, by_motion, hz=10, side=128):
    video = probe(path)
    stride = round(video.hz / hz)
    frames = np.arange(0, len(video), stride)
    given = np.tile([100.0, 400.0, 1000.0, 1300.0], (len(frames), 1))
    squares = Moving(video.hz / stride, padding=1.2) if by_motion else given
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / '0.frames'
        out.write_bytes(bytes(len(frames) * side * side * 3))
        film(Shot(video, frames, squares), Target(out, view=0, views=1, side=side))
    return len(video)


def spent(function, *args):
    "Processor seconds of the best of two; what it returned."
    best = None
    for _ in range(2):
        start = time.process_time()
        n = function(*args)
        best = min(filter(None, (best, time.process_time() - start)))
    return best, n


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seconds', type=float, default=20.0)
    parser.add_argument('--folder', type=Path, default=SHARED)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        films = [shoot(Path(home) / 'made.mp4', args.seconds)] + (
            sorted(args.folder.glob('*.mp4')) if args.folder.is_dir() else []
        )
        print(
            f"{'film':12} {'frames':>6} {'bare/s':>7} {'boxes given/s':>14} {'ratio':>6} {'by motion/s':>12} "
            f"{'ratio':>6}"
        )
        for path in films:
            seconds, n = spent(bare, path)
            given, motion = (n / spent(ours, path, by_motion)[0] for by_motion in (False, True))
            print(
                f'{path.name:12} {n:6} {n / seconds:7.0f} {given:14.0f} {given * seconds / n:6.2f} {motion:12.0f} '
                f'{motion * seconds / n:6.2f}',
                flush=True,
            )
    print(f'largest memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB')


if __name__ == '__main__':
    main()
