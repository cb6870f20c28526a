"""What a step of training costs, part by part: python benchmarks/bench_training.py [pairs] [width] [side].

Ratios to a bare forward and backward pass of the same network on the same pictures in the same run: every turn does a
step in parts, then the bare pass, so that a busy machine slows both. On a CPU the time that its core worked counts,
one thread; on a GPU the wall clock. Wanted: a whole step at most 1.15 of the bare one. Without pairs both batches are
tried that the profiles have. The other kind of processor, on one that has bfloat16: ATEN_CPU_CAPABILITY=avx2
ONEDNN_MAX_CPU_ISA=AVX2 python benchmarks/bench_training.py
"""

import statistics
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from mvssl import batches
from mvssl.ground.device import describe_device
from mvssl.runs import open_run
from mvssl.sources.synthetic import make_dataset
from mvssl.study.profiles import PROFILES
from mvssl.training import TrainConfig, Trainer, Window, _line, _log

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
TURNS, WARM_UP = 40, 5
LIGHT = PROFILES['laptop'].train['augmentation']
PARTS = ('read', 'augment', 'forward', 'backward', 'optimiser', 'average', 'log')


def clock():
    "Seconds of work so far."
    if DEVICE == 'cpu':
        return time.thread_time()
    torch.cuda.synchronize()
    return time.perf_counter()


class Stopwatch:
    "Seconds by part, summed within a turn."

    def __init__(self):
        self.turns = [defaultdict(float)]

    @contextmanager
    def timing(self, part):
        start = clock()
        try:
            yield
        finally:
            self.turns[-1][part] += clock() - start

    def timed(self, part, function):
        def run(*args, **kwargs):
            with self.timing(part):
                return function(*args, **kwargs)

        return run


def step_in_parts(trainer, watch, window, run):
    "A training step as `Trainer.step` and the loop around it do it, timed part by part."
    with watch.timing('loader'):
        given = trainer.next_batches()
    with watch.timing('forward'):
        loss, stats = trainer.loss(*given)
    with watch.timing('backward'):
        loss.backward()
    with watch.timing('optimiser'):
        stats['grad_norm'] = trainer.update()
    with watch.timing('average'):
        trainer.follow()
    trainer.done += 1
    with watch.timing('log'):
        window.add(stats)
        if trainer.done % trainer.config.log_every == 0:
            _log(trainer, run, _line(trainer, window), {})
            window = Window()
    return given, window


def bare(trainer, images):
    "Forward and backward of the network alone."
    with trainer.way.autocast(trainer.device):
        z, pose = trainer.network(images)
    (z.square().sum() + pose.square().mean()).backward()
    trainer.network.zero_grad()


def measured(config, store, folder):
    "Median of each part over the turns, in units of the bare pass; its seconds; the way."
    trainer, watch, window = Trainer(config, store, DEVICE), Stopwatch(), Window()
    kept, batches.augment = batches.augment, watch.timed('augment', batches.augment)
    try:
        with open_run(folder, dict(seed=config.seed)) as run:
            for _ in range(WARM_UP + TURNS):
                (pairs, labelled), window = step_in_parts(trainer, watch, window, run)
                images = torch.cat([pairs.images, labelled.images])
                with watch.timing('bare'):
                    bare(trainer, images)
                watch.turns.append(defaultdict(float))
    finally:
        batches.augment = kept
    turns = watch.turns[WARM_UP:-1]
    for turn in turns:
        turn['read'] = turn['loader'] - turn['augment']
    base = statistics.median(turn['bare'] for turn in turns)
    # a line of the log is written once in log_every steps, so its mean counts; of all else the median, which an
    # interruption does not move
    cost = {
        part: (statistics.mean if part == 'log' else statistics.median)(turn[part] / turn['bare'] for turn in turns)
        for part in PARTS
    }
    return cost, base, trainer.way


def main(n_pairs=None, width=64 if DEVICE == 'cuda' else 16, side=128 if DEVICE == 'cuda' else 48):
    if DEVICE == 'cpu':
        torch.set_num_threads(1)
    print(f'{describe_device(DEVICE)}, torch {torch.__version__}, width {width}, {side} px')
    with tempfile.TemporaryDirectory() as folder:
        store = make_dataset(
            f'{folder}/store', subjects=('S1', 'S5', 'S6', 'S8', 'S9'), instants=1500, side=side, progress=False
        )
        print(
            f'{"optimiser":9} {"images":>6} {"way":>22} {"bare ms":>8} '
            + ' '.join(f'{part:>9}' for part in PARTS)
            + f' {"step":>6}'
        )
        for pairs in [n_pairs] if n_pairs else ([128] if DEVICE == 'cuda' else [16, 32]):
            for optimizer in ('adamw', 'muon'):
                config = TrainConfig(
                    optimizer=optimizer,
                    steps=10**6,
                    n_pairs=pairs,
                    n_labelled=2 * pairs,
                    subjects_per_batch=4,
                    test=('S9',),
                    width=width,
                    grid=2,
                    augmentation=LIGHT,
                )
                cost, base, way = measured(replace(config), store, Path(folder) / f'{optimizer}-{pairs}')
                print(
                    f'{optimizer:9} {4 * pairs:6} {str(way):>22} {1e3 * base:8.1f} '
                    + ' '.join(f'{cost[part]:9.3f}' for part in PARTS)
                    + f' {sum(cost.values()):6.2f}',
                    flush=True,
                )


if __name__ == '__main__':
    main(*map(int, sys.argv[1:]))
