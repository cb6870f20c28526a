"""Human3.6M: frames per second and core against bare decoding, what that makes of all 840 videos, and the whole of it
with decoding left out.

    python benchmarks/bench_human36m.py [--frames 600] [--rounds 3]
    python benchmarks/bench_human36m.py --simulate [--side 32]

The first films a person in a room, 1000 x 1000 px, 50 per second, H.264, decodes all of it with PyAV (one thread), and
cuts the crops of every 5th frame out of it; processor time is compared, so that other programs do not matter. Aim: at
least 0.8 of bare decoding. Frames that nobody wants are not decoded where no other frame needs them (B-frames), so
that more than 1 is possible.

The second makes a store of 210 sequences x 4 cameras, 2.1 million frames, through all of `prepare` but the decoder:
memory must not grow.
"""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path.append(str(Path(__file__).parents[1] / 'tests'))
from films import pictures, walk, write_film  # noqa: E402
from human36m_fixture import VIEWS, camera_numbers, cameras_of  # noqa: E402

from mvssl.sources import filming, human36m  # noqa: E402
from mvssl.sources.human36m import (  # noqa: E402
    ACTIONS,
    RATE_HZ,
    SUBJECTS,
    TOTALS,
    Chosen,
    Metadata,
    Options,
    Sequence,
    prepare,
)

SHOWN = 12  # different pictures in the film: they come again, forwards and backwards


def make_film(home, n, b_frames):
    """Film, camera and points of N frames. Without B-frames every frame is needed by the next one, so that none can
    be left out."""
    camera = cameras_of(*camera_numbers(1000), 1000)['S1'][1]
    points = walk(SHOWN)
    order = [abs((i + SHOWN) % (2 * SHOWN - 2) - SHOWN + 1) for i in range(n)]
    shots = list(pictures(points, camera, room=True))
    grain = np.random.default_rng(0).integers(-3, 4, (4, *shots[0].shape)).astype(np.int16)  # as sensors have it
    return (
        write_film(
            home / 'film.mp4',
            ((shots[k] + grain[i % 4]).clip(0, 255).astype(np.uint8) for i, k in enumerate(order)),
            b_frames=b_frames,
        ),
        camera,
        points[order],
    )


def bare(path):
    "Processor seconds to decode a film and do nothing."
    import av

    start = time.process_time()
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for _ in container.decode(video=0):
            pass
    return time.process_time() - start


def filmed(path, camera, points, home, options):
    "Processor seconds to make the crops of a film."
    frames = np.arange(0, len(points), options.stride)
    sequence = Sequence('S1', 'Walking', 1, 'Walking', None, None, {VIEWS[0]: path})
    take = Chosen(
        sequence, camera.reshape(1), points[frames, :17], frames, frames, np.zeros(3), {VIEWS[0]: len(points)}, {}
    )
    out = home / '0.frames'
    with open(out, 'wb') as file:
        file.truncate(len(frames) * options.side**2 * 3)
    start = time.process_time()
    shot = human36m._shot(take, 0, VIEWS[0], options).ready()
    squares = filming.film(shot, filming.Target(out, view=0, views=1, side=options.side))
    spent = time.process_time() - start
    assert np.isfinite(squares).all()
    return spent


def rates(home, n, rounds, b_frames):
    path, camera, points = make_film(home, n, b_frames)
    print(
        f'{n} frames, {"B-frames" if b_frames else "no B-frames"}, {path.stat().st_size / n * RATE_HZ * 8 / 1e6:.1f} '
        f'Mbit/s, per core:'
    )
    ways = {'bare decoding': lambda: bare(path)} | {
        name: lambda options=options: filmed(path, camera, points, home, options)
        for name, options in (
            ('plain crops, 128 px', Options()),
            ('plain crops, 224 px', Options(side=224)),
            ('turned cameras, 128 px', Options(perspective=True)),
            ('every frame, 128 px', Options(stride=1)),
        )
    }
    spent = {
        name: min(times) for name, times in zip(ways, zip(*([way() for way in ways.values()] for _ in range(rounds))))
    }  # in turns: other programs disturb all alike
    total = sum(TOTALS.values())
    for name, seconds in spent.items():
        print(
            f'  {name:24} {n / seconds:6.0f} frames/s   {spent["bare decoding"] / seconds:5.2f} of bare decoding   '
            f'all {total / 1e6:.2f} M frames: {total * seconds / n / 3600:5.1f} h on one core, '
            f'{total * seconds / n / 3600 / 16:4.1f} h on 16',
            flush=True,
        )


class Stub:
    "In place of a decoded frame."

    size = (1000, 1000)

    def __init__(self):
        self.made = {}

    def crop(self, square, side):
        return self.made.setdefault(side, np.random.default_rng(0).integers(1, 256, (side, side, 3), 'uint8'))


def resident():
    "Memory of this process in MB, now."
    with open('/proc/self/status') as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith('VmRSS'))


def owned():
    "The same without pages of files, which the system takes back when it wants."
    with open('/proc/self/status') as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith('RssAnon'))


def simulate(home, side):
    "The whole of Human3.6M with decoder and pose files left out."
    names = [(action, trial) for action in ACTIONS.values() for trial in (1, 2)]
    lengths = {Path(f'{s} {action} {trial}.cdf'): TOTALS[s] // 4 // 30 for s in SUBJECTS for action, trial in names}
    points = walk(200)[:, :17]
    picture = Stub()

    def pictures_of(source, wanted, threads, tick):
        for position in wanted:
            tick(5)
            yield position, picture

    class Endless:
        "In place of a probed video."

        def __init__(self, path):
            self.path = path

        def __len__(self):
            return 10**6

    cameras = cameras_of(*camera_numbers(1000), 1000)
    metadata = Metadata(Path('metadata.xml'), VIEWS, cameras, {}, {})
    sequences = [
        Sequence(
            s, action, trial, action, Path(f'{s} {action} {trial}.cdf'), None, {view: Path('video') for view in VIEWS}
        )
        for s in SUBJECTS
        for action, trial in names
    ]
    human36m.read_layout = lambda *_: (sequences, metadata, 'downloaded', [])
    human36m.read_cdf = lambda path, dims=3: np.resize(points, (lengths[path], 17, 3))
    human36m._video_facts = lambda path, camera: 10**6
    human36m._moving_at = lambda path, rows: np.full((len(rows), 2), np.nan)
    filming.decode, filming.probe = pictures_of, Endless
    real, log = filming.DatasetWriter.add, []

    def add(self, *args, **kwargs):
        real(self, *args, **kwargs)
        log.append((self.folder.files['frames.npy'].size, resident(), owned()))
        if len(log) % 30 == 0:
            print(
                f'  {len(log)} sequences: {log[-1][0] / 1e9:6.2f} GB written, {log[-1][1]:.0f} MB resident, '
                f'{log[-1][2]:.0f} MB of them its own',
                flush=True,
            )

    filming.DatasetWriter.add = add
    start, clock = time.perf_counter(), time.process_time()
    ds = prepare('raw', home / 'store', side=side, s11_directions='keep', workers=1, progress=False)
    took, cpu, own = time.perf_counter() - start, time.process_time() - clock, [mb for *_, mb in log]
    sizes = np.diff([0] + [size for size, *_ in log])
    print(
        f'{len(ds.sequences)} sequences, {5 * len(ds) * len(ds.views) / 1e6:.2f} M frames, {ds.disk_bytes / 1e9:.2f} '
        f'GB of {side} px: {took:.0f} s, {cpu:.0f} s of processor, {1e6 * cpu / (5 * len(ds) * 4):.1f} us per frame '
        f'besides decoding and cutting'
    )
    print(
        f'memory of its own: {own[9]:.0f} MB after 10 sequences, {own[len(own) // 2]:.0f} MB half way, {own[-1]:.0f} '
        f'MB at the end; frames.npy only grew at its end: {bool((sizes > 0).all())}'
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--frames', type=int, default=600)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--simulate', action='store_true')
    parser.add_argument('--side', type=int, default=32)
    args = parser.parse_args()
    torch.set_num_threads(1)
    home = Path(tempfile.mkdtemp())
    try:
        if args.simulate:
            simulate(home, args.side)
        else:
            for b_frames in (True, False):
                rates(home, args.frames, args.rounds, b_frames)
    finally:
        shutil.rmtree(home)


if __name__ == '__main__':
    main()
