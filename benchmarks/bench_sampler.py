"""Sampling from as many instants as Human3.6M has at 10 Hz: python benchmarks/bench_sampler.py [instants] [pairs].

Whole epochs, so that planning them counts; once for each way of filling a batch. No peer's sampler knows chunks,
instants and views, so a batch of labels from pytorch-metric-learning's MPerClassSampler (2 images of each chunk) is
timed beside it as the nearest thing. Wanted: less than 1 ms for a batch of 256 pairs from 78,000 instants; a run ends
with an error if it is missed.
"""

import sys
import time

import numpy as np
import pandas as pd
from pytorch_metric_learning.samplers import MPerClassSampler

from mvssl.sampler import ChunkPairSampler

WANTED_MS, EPOCHS, LENGTH, PER_SUBJECT = 1.0, 5, 325, 24
OPTIONS = {
    'as they come': {},
    'plain frames': dict(chunk=1),
    'one subject': dict(subjects=1),
    '4 subjects': dict(subjects=4),
    'one per sequence': dict(n_pairs=128, one_per_sequence=True),
    '8 subjects x 4, one per sequence': dict(n_pairs=32, subjects=8, one_per_sequence=True),
}


def main(T=78_000, n_pairs=256):
    sequence = np.arange(T) // LENGTH
    table = pd.DataFrame(
        dict(
            subject=[f'S{q}' for q in sequence // PER_SUBJECT],
            sequence=sequence.astype(str),
            index=np.arange(T) % LENGTH,
        )
    )
    slow = []
    print(f'{T} instants, {sequence[-1] + 1} sequences, 4 views')
    for name, options in OPTIONS.items():
        start = time.perf_counter()
        sampler = ChunkPairSampler(table, np.ones((T, 4), bool), **dict(n_pairs=n_pairs) | options)
        made, epochs = time.perf_counter() - start, []
        for _ in range(EPOCHS):
            start = time.perf_counter()
            n = sum(1 for _ in sampler)
            epochs.append(time.perf_counter() - start)
        ms = 1e3 * min(epochs) / n
        slow += [name] * (ms > WANTED_MS)
        print(
            f'{name:34} {sampler.n_pairs:4} pairs   {ms:6.3f} ms a batch, {1e3 * min(epochs):6.1f} ms an epoch of {n}'
            f'   ({1e3 * made:.0f} ms to make)'
        )
    start = time.perf_counter()
    sum(1 for _ in MPerClassSampler(np.arange(T) // 4, 2, batch_size=2 * n_pairs, length_before_new_iter=T // 2))
    ms = 1e3 * (time.perf_counter() - start) * 2 * n_pairs / (T // 2)
    print(f'{"pytorch-metric-learning":34} {n_pairs:4} pairs   {ms:6.3f} ms a batch')
    if slow:
        sys.exit(f'more than {WANTED_MS:g} ms: {", ".join(slow)}')


if __name__ == '__main__':
    main(*map(int, sys.argv[1:]))
