"""Exact retrieval against faiss-cpu: 10,000 queries, 100,000 images, 128-d, 20 nearest.

    python benchmarks/bench_retrieval.py [THREADS]      2 threads unless told otherwise, for both

mvssl searches under Figure 1's rules on a test set like Human3.6M's (2 subjects, 4 views; synchronised instants), faiss without any rule:
IndexFlatIP has none. Both take turns in one run; printed are the best times, which other load on the machine disturbs least, and their
ratio (below 1: mvssl is faster).
"""
import sys
import time

import faiss
import torch
from torch.nn.functional import normalize

from mvssl.retrieval import cross_subject_cross_view, match_rule, retrieve, same_subject_cross_view

THREADS = int(sys.argv[1]) if len(sys.argv) > 1 else 2
QUERIES, IMAGES, DIM, K, ROUNDS = 10_000, 100_000, 128, 20, 4


def labels(n, generator):
    "A test set of 2 subjects and 4 views; images of one instant share its number."
    subject, view, moment = (torch.randint(0, high, (n,), generator=generator) for high in (2, 4, IMAGES // 8))
    return {'subject': subject.numpy(), 'view': view.numpy(), 'instant': (2*moment + subject).numpy()}


def main():
    torch.set_num_threads(THREADS)
    faiss.omp_set_num_threads(THREADS)
    generator = torch.Generator().manual_seed(0)
    query, database = (normalize(torch.randn(n, DIM, generator=generator), dim=1) for n in (QUERIES, IMAGES))
    tags = labels(QUERIES, generator), labels(IMAGES, generator)
    index = faiss.IndexFlatIP(DIM)
    index.add(database.numpy())
    rules = {
        'no rule': None,
        'cross_subject_cross_view': cross_subject_cross_view(*tags),
        'same_subject_cross_view, other instant': same_subject_cross_view(*tags, same_instant=False),
        'any but the same instant': match_rule(*tags, same_instant=False),
    }
    runs = {'faiss-cpu IndexFlatIP, no rule': lambda: index.search(query.numpy(), K)}
    runs |= {f'mvssl, {name}': lambda rule=rule: retrieve(query, database, K, rule) for name, rule in rules.items()}
    seconds = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            start = time.perf_counter()
            found = run()
            seconds[name].append(time.perf_counter() - start)
            if name == 'faiss-cpu IndexFlatIP, no rule': peer = torch.tensor(found[1])
            if name == 'mvssl, no rule': agree = (found.index == peer).float().mean().item()
    base = min(next(iter(seconds.values())))
    print(f'{QUERIES:,} x {IMAGES:,} x {DIM}, top {K}, {THREADS} threads, best of {ROUNDS}; {agree:.4%} of the neighbours as faiss has them')
    for name, times in seconds.items(): print(f'{name:45} {min(times):6.2f} s   ratio {min(times)/base:.2f}')


if __name__ == '__main__':
    main()
