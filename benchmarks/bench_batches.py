"""What loading costs a training step: python benchmarks/bench_batches.py [side] [width] [pairs].

The same step (PoseNet and consistency loss, forward, backward, AdamW; bfloat16, channels_last) on batches from the loader and on one
batch that lies ready, taking turns, so that a busy machine slows both. On a CPU the time that its cores worked counts, on a GPU the wall
clock; the least of many turns, which others on the machine disturb least. Printed for resident frames, for frames read ahead from the page cache by a thread, and for costlier augmentation. Wanted: resident
frames with the default augmentation cost at most 5 % of a step; a run ends with an error if it is missed. Without arguments: 64 px,
width 16, 32 pairs on a CPU; 224 px, width 64, 256 pairs on a GPU.
"""
import sys
import tempfile
import time
from dataclasses import replace

import torch

from mvssl.batches import Augmentation, Batches, Frames
from mvssl.encoder import PoseNet
from mvssl.loss import consistency_loss
from mvssl.sampler import ChunkPairSampler
from mvssl.sources.synthetic import make_dataset

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
TURNS, WANTED = 40, .05
LOUD = replace(Augmentation(), blur=.5, blur_size=.015, interpolation='bilinear')
KINDS = {'resident, default augmentation': (True, Augmentation()), 'resident, no augmentation': (True, Augmentation.none()),
         'resident, bilinear': (True, replace(Augmentation(), interpolation='bilinear')), 'resident, bilinear, half of all blurred': (True, LOUD),
         'read ahead, default augmentation': (False, Augmentation())}


def trainer(width):
    "A function that trains on a batch of images, pair by pair."
    torch.manual_seed(0)
    net = PoseNet(width, norm='group').to(DEVICE, memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(net.parameters(), 1e-4)

    def step(images):
        with torch.autocast(DEVICE, dtype=torch.bfloat16): z, _ = net(images)
        loss, _ = consistency_loss(*z.chunk(2))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return step


def clock():
    "Seconds of work so far."
    if DEVICE == 'cpu': return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def main(side=224 if DEVICE == 'cuda' else 64, width=64 if DEVICE == 'cuda' else 16, n_pairs=256 if DEVICE == 'cuda' else 32, steps=8 if DEVICE == 'cuda' else 1):
    if DEVICE == 'cpu': torch.set_num_threads(1)
    step = trainer(width)
    with tempfile.TemporaryDirectory() as folder:
        store = make_dataset(f'{folder}/store', subjects=('S1', 'S5', 'S6'), instants=max(600, 12*n_pairs), side=side, progress=False)
        frames = {resident: Frames(store, DEVICE, resident=resident) for resident in (True, False)}
        ways = {name: Batches(frames[resident], ChunkPairSampler(store.table, store.seen, n_pairs, drop_last=True), how) for name, (resident, how) in KINDS.items()}
        ready = next(ways['resident, default augmentation']).images
        seconds = {name: [] for name in ('one batch that lies ready', *ways)}
        for turn in range(-3, TURNS):
            for name, times in seconds.items():
                start = clock()
                for _ in range(steps): step(next(ways[name]).images if name in ways else ready)
                if turn >= 0: times.append((clock() - start)/steps)
    base = seconds.pop('one batch that lies ready')
    print(f'{DEVICE}, {n_pairs} pairs, {side} px, width {width}, torch {torch.__version__}, least of {TURNS}')
    print(f'{"one batch that lies ready":42} {1e3*min(base):8.1f} ms   {2*n_pairs/min(base):8.0f} images/s')
    for name, times in seconds.items():
        print(f'{name:42} {1e3*min(times):8.1f} ms   {100*(min(times)/min(base) - 1):+8.1f} %')
    if min(seconds['resident, default augmentation']) > (1 + WANTED)*min(base): sys.exit(f'loading costs more than {WANTED:.0%} of a step')


if __name__ == '__main__':
    main(*map(int, sys.argv[1:]))
