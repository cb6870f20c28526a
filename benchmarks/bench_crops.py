"""Time per crop cut from the planes of a full-HD video frame, against converting the whole frame to RGB and resizing,
in one run.

    python benchmarks/bench_crops.py [--sides 64 128 224] [--square 800] [--repeats 60]

One thread. The square's side in the picture is that of a person 670 px tall. `whole frame` is PyAV's
to_ndarray('rgb24') and Pillow's resize of the square; `ratio` is how many times longer that takes than `cut_planes`.
`cut` alone is what remains once a frame is RGB already. Below: finding what moves.
"""

import argparse
import time
from functools import partial

import av
import numpy as np
from PIL import Image

from mvssl.sources.crops import cut, cut_planes, median_background, moving_box, reduced

WIDTH, HEIGHT = 1920, 1080


def frame(rng):
    "A noisy picture as a decoder gives it."
    coarse = Image.fromarray(rng.integers(0, 255, (HEIGHT // 20, WIDTH // 20, 3), dtype=np.uint8))
    picture = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)).astype(int) + rng.integers(
        -4, 5, (HEIGHT, WIDTH, 1)
    )
    return av.VideoFrame.from_ndarray(picture.clip(0, 255).astype(np.uint8), format='rgb24').reformat(format='yuv420p')


def planes(frame):
    return [
        np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        for plane in frame.planes
    ]


def whole_frame(frame, box, side):
    return np.asarray(
        Image.fromarray(frame.to_ndarray(format='rgb24')).resize(
            (side, side), Image.Resampling.BOX, box=tuple(np.add(box, 0.5))
        )
    )


def milliseconds(job, repeats):
    "The best of several: what else runs on the machine only adds."
    best = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        job()
        best = min(best, time.perf_counter() - start)
    return 1000 * best


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--sides', type=int, nargs='+', default=[64, 128, 224])
    parser.add_argument('--square', type=float, default=800.0)
    parser.add_argument('--repeats', type=int, default=60)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    video = frame(rng)
    box = np.array([500.3, 100.7, 500.3 + args.square, 100.7 + args.square])
    rgb, (y, u, v) = video.to_ndarray(format='rgb24'), planes(video)
    print('side  whole frame ms   cut ms   cut_planes ms   ratio')
    for side in args.sides:
        whole, part, own = (
            milliseconds(job, args.repeats)
            for job in (
                partial(whole_frame, video, box, side),
                partial(cut, rgb, box, side),
                partial(cut_planes, y, u, v, box, side),
            )
        )
        print(f'{side:4}  {whole:14.2f}  {part:7.2f}  {own:14.2f}  {whole / own:6.1f}', flush=True)
    small = reduced(y)
    background = median_background(np.stack([small] * 5))
    print(
        f'reduce luma {milliseconds(lambda: reduced(y), args.repeats):.2f} ms, moving_box '
        f'{milliseconds(lambda: moving_box(small, background), args.repeats):.2f} ms'
    )


if __name__ == '__main__':
    main()
