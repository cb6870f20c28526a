"""Images per second of the synthetic studio, per side length, on all cores; and on a GPU where there is one.

    python benchmarks/bench_rendering.py [--sides 64 128 224] [--seconds 10] [--people painted dressed]

Filming only (motion, posing, drawing), without writing to disk. Aims: 1,500 at 64 px and 250 at 224 px on two cores;
20,000 at 128 px on a GPU; dressed people at most 1.3 of the seconds of painted ones. Takes of both are filmed in turn,
so that other work on the machine slows both alike.
"""

import argparse
import os
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import torch

from mvssl.sources.synthetic import PEOPLE, RIGS, Studio, Take, with_unlabelled

AIMS = {('cpu', 64): 1500, ('cpu', 224): 250, ('cuda', 128): 20000}


def takes_of(studio):
    "A walk and a sitting down of twelve people, 40 instants each, the persons and their days being ready."
    names = with_unlabelled(studio.rig.name, 12)[-12:]
    takes = [Take(name, action, 1, 40) for name in names for action in ('Walking', 'Sitting')]
    for name in names:
        studio.person(name)
    return takes


def rates(side, device, workers, seconds, people):
    "Images per second of each kind of people, filmed in turn."
    studios = {kind: Studio(RIGS['studio'], side, device=device, people=kind) for kind in people}
    takes = takes_of(next(iter(studios.values())))
    spent, images = dict.fromkeys(people, 0.0), dict.fromkeys(people, 0)
    for studio in studios.values():
        takes_of(studio)
        studio.film(takes[0])
    start, turns = time.perf_counter(), count()
    with ThreadPoolExecutor(workers) as pool:
        while time.perf_counter() < start + seconds * len(people):
            some = [takes[next(turns) % len(takes)] for _ in range(2 * workers)]
            for kind, studio in studios.items():
                began = time.perf_counter()
                filmed = list(pool.map(studio.film, some))
                spent[kind] += time.perf_counter() - began
                images[kind] += sum(frames.shape[0] * frames.shape[1] for frames, _, _ in filmed)
    return {kind: images[kind] / spent[kind] for kind in people}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--sides', type=int, nargs='+', default=[48, 64, 96, 128, 224])
    parser.add_argument('--seconds', type=float, default=8.0)
    parser.add_argument('--people', nargs='+', choices=PEOPLE, default=PEOPLE)
    args = parser.parse_args()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    torch.set_num_threads(1)
    devices = [('cpu', cores)] + ([('cuda', 1)] if torch.cuda.is_available() else [])
    print('device  side  people   images/s  seconds an image / painted    aim')
    for device, workers in devices:
        for side in args.sides:
            found = rates(side, device, workers, args.seconds, args.people)
            for kind, rate in found.items():
                ratio = f'{found["painted"] / rate:.2f}' if 'painted' in found else '-'
                aim = AIMS.get((device, side), '-') if kind == 'painted' else '1.3'
                print(f'{device:6}  {side:4}  {kind:7}  {rate:8.0f}  {ratio:>25}  {aim:>5}', flush=True)


if __name__ == '__main__':
    main()
