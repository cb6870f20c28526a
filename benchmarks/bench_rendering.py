"""Images per second of the synthetic studio, per side length, on all cores; and on a GPU where there is one.

    python benchmarks/bench_rendering.py [--sides 64 128 224] [--seconds 10]

Filming only (motion, posing, drawing), without writing to disk. Aims: 1,500 at 64 px and 250 at 224 px on two cores; 20,000 at 128 px on a GPU.
"""

import argparse
import os
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import torch

from mvssl.sources.synthetic import RIGS, Studio, Take

AIMS = {('cpu', 64): 1500, ('cpu', 224): 250, ('cuda', 128): 20000}


def rate(side, device, workers, seconds):
    "Images per second of takes of 60 instants, the persons and the room being ready."
    studio = Studio(RIGS['studio'], side, device=device)
    takes = [Take('S1', action, 1, 60) for action in ('Walking', 'Sitting', 'Greeting', 'SittingDown')]
    for take in takes:
        studio.film(take)
    ends, number = [], count()
    start = time.perf_counter()

    def work(_):
        while time.perf_counter() < start + seconds:
            studio.film(takes[next(number) % len(takes)])
            ends.append(time.perf_counter())

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, range(workers)))
    return len(ends) * 60 * len(studio.rig.views) / (max(ends) - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--sides', type=int, nargs='+', default=[64, 96, 128, 224])
    parser.add_argument('--seconds', type=float, default=8.0)
    args = parser.parse_args()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    torch.set_num_threads(1)
    devices = [('cpu', cores)] + ([('cuda', 1)] if torch.cuda.is_available() else [])
    print('device  side  images/s  aim')
    for device, workers in devices:
        for side in args.sides:
            print(
                f'{device:6}  {side:4}  {rate(side, device, workers, args.seconds):8.0f}  {AIMS.get((device, side), "-")}',
                flush=True,
            )


if __name__ == '__main__':
    main()
