"""What loading costs a training step: python benchmarks/bench_batches.py [side] [width] [pairs].

The same step (PoseNet and consistency loss, forward, backward, AdamW; in the fastest way of the device) on batches
from the loader and on one batch that lies ready, taking turns, so that a busy machine slows both. On a CPU the time
that its cores worked counts, one thread, on a GPU the wall clock. Printed: time in the loader, as a share of a step
on the ready batch, and by how much load and step together take longer than that step, which also counts the work of
the reading thread. Wanted: resident frames with the default augmentation load in at most 5 % of a step; a run ends
with an error beyond 6 %, since other work on the machine moves it by nearly one. Without arguments: 64 px, width 16,
32 pairs on a CPU; 224 px, width 64, 256 pairs on a GPU.
"""

import statistics
import sys
import tempfile
import time
from dataclasses import replace

import torch

from mvssl.batches import Augmentation, Batches, Frames
from mvssl.ground.device import describe_device, fastest_way
from mvssl.encoder import PoseNet
from mvssl.loss import consistency_loss
from mvssl.sampler import ChunkPairSampler
from mvssl.sources.synthetic import make_dataset

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
TURNS, LIMIT = 40, 0.06
LOUD = replace(Augmentation(), blur=0.5, blur_size=0.015, interpolation='bilinear')
KINDS = {
    'resident, default augmentation': (True, Augmentation()),
    'resident, no augmentation': (True, Augmentation.none()),
    'resident, bilinear': (True, replace(Augmentation(), interpolation='bilinear')),
    'resident, bilinear, half of all blurred': (True, LOUD),
    'read ahead, default augmentation': (False, Augmentation()),
}


def trainer(width, side):
    "A function that trains on a batch of images, pair by pair."
    torch.manual_seed(0)
    net = PoseNet(width, norm='group')
    way = fastest_way(net.encoder, side, DEVICE)
    net = way.place(net, DEVICE)
    print(describe_device(DEVICE), way, sep=', ')
    optimiser = torch.optim.AdamW(net.parameters(), 1e-4)

    def step(images):
        with way.autocast(DEVICE):
            z, _ = net(way.arrange(images))
        loss, _ = consistency_loss(*z.chunk(2))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def clock():
    "Seconds of work so far."
    if DEVICE == 'cpu':
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def main(
    side=224 if DEVICE == 'cuda' else 64, width=64 if DEVICE == 'cuda' else 16, n_pairs=256 if DEVICE == 'cuda' else 32
):
    if DEVICE == 'cpu':
        torch.set_num_threads(1)
    step = trainer(width, side)
    with tempfile.TemporaryDirectory() as folder:
        store = make_dataset(
            f'{folder}/store', subjects=('S1', 'S5', 'S6'), instants=max(1500, 12 * n_pairs), side=side, progress=False
        )
        frames = {resident: Frames(store, DEVICE, resident=resident) for resident in (True, False)}
        ways = {
            name: Batches(frames[resident], ChunkPairSampler(store.table, store.seen, n_pairs, drop_last=True), how)
            for name, (resident, how) in KINDS.items()
        }
        ready = next(ways['resident, default augmentation']).images
        loads, steps = ({name: [] for name in ('one batch that lies ready', *ways)} for _ in range(2))
        for turn in range(-3, TURNS):
            for name in loads:
                start = clock()
                images = next(ways[name]).images if name in ways else ready
                loaded = clock()
                step(images)
                if turn >= 0:
                    loads[name].append(loaded - start)
                    steps[name].append(clock() - loaded)
    loads, steps = (
        {name: 1e3 * statistics.median(times) for name, times in seconds.items()} for seconds in (loads, steps)
    )
    base = steps.pop('one batch that lies ready')
    print(f'{DEVICE}, {n_pairs} pairs, {side} px, width {width}, torch {torch.__version__}, medians of {TURNS}')
    print(f'{"one batch that lies ready":42} {base:18.1f} ms step   {2e3 * n_pairs / base:.0f} images/s')
    for name in steps:
        print(
            f'{name:42} {loads[name]:6.2f} ms load {steps[name]:6.1f} ms step   load {loads[name] / base:6.1%}   '
            f'together {(loads[name] + steps[name]) / base - 1:+6.1%}'
        )
    if loads['resident, default augmentation'] > LIMIT * base:
        sys.exit(f'loading takes more than {LIMIT:.0%} of a step')


if __name__ == '__main__':
    main(*map(int, sys.argv[1:]))
