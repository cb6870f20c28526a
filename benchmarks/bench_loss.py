"""The consistency loss against pytorch-metric-learning, forward and backward: python benchmarks/bench_loss.py [B] [D].

Both compute the same number (hardest negative above beta, in both directions, chord lengths, hinge, mean over all
pairs), ours with its statistics besides. pytorch-metric-learning mines rows only, so it mines twice; the ratio to one
direction alone, which is a weaker loss, is printed as well. The two take turns, so that a busy machine slows both;
medians. Wanted on 2 cores, B = 1024, D = 128: at least 3 times as fast. Measured: printed; a run ends with an error if
it is missed.
"""

import statistics
import sys
import time

import torch
import torch.nn.functional as F
from pytorch_metric_learning import distances, losses, miners, reducers

from mvssl.loss import consistency_loss

MARGIN, BETA, TURNS, WANTED = 0.6, 0.3, 25, 3.0

distance = distances.LpDistance(normalize_embeddings=False)
miner = miners.BatchEasyHardMiner(
    pos_strategy='hard', neg_strategy='hard', allowed_neg_range=(BETA, 10), distance=distance
)
triplet = losses.TripletMarginLoss(margin=MARGIN, distance=distance, reducer=reducers.DoNothingReducer())


def peer_rows(x, y):
    "Loss of every pair with negatives from its row, by pytorch-metric-learning."
    label, other_label = torch.arange(len(x)), torch.arange(len(x))
    anchor, positive, _, negative = miner(x, label, y, other_label)
    costs = triplet(x, label, (anchor, positive, negative), y, other_label)['loss']['losses']
    return torch.zeros(len(x)).index_add(0, anchor, costs)


CONTENDERS = {
    'mvssl': lambda z_a, z_p: consistency_loss(z_a, z_p, MARGIN, BETA)[0],
    'pytorch-metric-learning': lambda z_a, z_p: torch.maximum(peer_rows(z_a, z_p), peer_rows(z_p, z_a)).mean(),
    'pytorch-metric-learning, rows only': lambda z_a, z_p: peer_rows(z_a, z_p).mean(),
}


def pairs(B, D):
    "Pairs of unit vectors, as far apart as early in training."
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(B, D, generator=generator)
    return [F.normalize(base + torch.randn(B, D, generator=generator), dim=1) for _ in range(2)]


def timed(loss, zs):
    "Seconds for forward and backward, and the loss and gradients."
    zs = [z.clone().requires_grad_() for z in zs]
    start = time.perf_counter()
    value = loss(*zs)
    value.backward()
    return time.perf_counter() - start, torch.cat((value.detach()[None], *(z.grad.flatten() for z in zs)))


def main(B=1024, D=128):
    torch.set_num_threads(2)
    zs = pairs(B, D)
    results = {name: timed(loss, zs)[1] for name, loss in CONTENDERS.items()}  # also warms up
    torch.testing.assert_close(results['mvssl'], results['pytorch-metric-learning'])
    seconds = {name: [] for name in CONTENDERS}
    for _ in range(TURNS):
        for name, loss in CONTENDERS.items():
            seconds[name].append(timed(loss, zs)[0])
    median = {name: statistics.median(times) for name, times in seconds.items()}
    way = f'{torch.get_num_threads()} threads, torch {torch.__version__}, medians of {TURNS}'
    print(f'forward and backward, B = {B}, D = {D}, {way}')
    for name, value in median.items():
        fastest, times = min(seconds[name]), value / median['mvssl']
        print(f'{name:36} {1e3 * value:8.1f} ms   fastest {1e3 * fastest:8.1f} ms   {times:5.1f} x')
    if median['pytorch-metric-learning'] < WANTED * median['mvssl']:
        sys.exit(f'less than {WANTED:g} times as fast')


if __name__ == '__main__':
    main(*map(int, sys.argv[1:]))
