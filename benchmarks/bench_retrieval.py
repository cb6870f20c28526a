"""Exact retrieval against faiss-cpu: 10,000 queries, 100,000 images, 128-d, 20 nearest.

    python benchmarks/bench_retrieval.py [--threads 2] [--queries 10000] [--rounds 5]

mvssl searches under Figure 1's rules on a test set like Human3.6M's (2 subjects, 4 views; synchronised instants), faiss
without any rule: IndexFlatIP has none. `retrieve` lets faiss propose where it is installed; "without faiss" are the
same searches as if it were not. All take turns in one run; printed are the best and the median times and their ratios
to faiss (below 1: mvssl is faster).

A processor without AVX-512 is imitated on one that has it by
    ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 \\
    FAISS_SIMD_LEVEL=AVX2 OPENBLAS_CORETYPE=Haswell python benchmarks/bench_retrieval.py
"""

import statistics
import time
from argparse import ArgumentParser
from unittest.mock import patch

import faiss
import torch
from torch.nn.functional import normalize

from mvssl import retrieval
from mvssl.ground.device import describe_device
from mvssl.retrieval import cross_subject_cross_view, match_rule, retrieve, same_subject_cross_view

IMAGES, DIM, K = 100_000, 128, 20
PEER = 'faiss-cpu IndexFlatIP, no rule'


def labels(n, generator):
    "A test set of 2 subjects and 4 views; images of one instant share its number."
    subject, view, moment = (torch.randint(0, high, (n,), generator=generator) for high in (2, 4, IMAGES // 8))
    return {'subject': subject.numpy(), 'view': view.numpy(), 'instant': (2 * moment + subject).numpy()}


def without_faiss(search):
    def run():
        with patch.object(retrieval, '_faiss', lambda: None):
            return search()

    return run


def searches(n_queries):
    "What takes turns, by name, and a check that what was found is what faiss finds."
    generator = torch.Generator().manual_seed(0)
    query, database = (normalize(torch.randn(n, DIM, generator=generator), dim=1) for n in (n_queries, IMAGES))
    tags = labels(n_queries, generator), labels(IMAGES, generator)
    index = faiss.IndexFlatIP(DIM)
    index.add(database.numpy())
    rules = {
        'no rule': None,
        'cross_subject_cross_view': cross_subject_cross_view(*tags),
        'same_subject_cross_view, other instant': same_subject_cross_view(*tags, same_instant=False),
        'any but the same instant': match_rule(*tags, same_instant=False),
    }
    runs = {PEER: lambda: index.search(query.numpy(), K)[1]}
    for name, rule in rules.items():
        runs[name] = lambda rule=rule: retrieve(query, database, K, rule).index
    return runs | {f'{name}, without faiss': without_faiss(runs[name]) for name in rules}


def main():
    parser = ArgumentParser()
    for name, value in (('threads', 2), ('queries', 10_000), ('rounds', 5)):
        parser.add_argument(f'--{name}', type=int, default=value)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    faiss.omp_set_num_threads(args.threads)
    runs = searches(args.queries)
    seconds, found = {name: [] for name in runs}, {}
    for _ in range(args.rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            found[name] = torch.as_tensor(run())
            seconds[name].append(time.perf_counter() - start)
    agree = (found['no rule'] == found[PEER]).float().mean()
    level = faiss.SIMDConfig.get_level_name() if hasattr(faiss, 'SIMDConfig') else faiss.get_compile_options()
    print(f'{describe_device()}; faiss-cpu {faiss.__version__}: {level}')
    print(
        f'{args.queries:,} x {IMAGES:,} x {DIM}, top {K}, {args.threads} threads, {args.rounds} rounds; '
        f'{agree:.4%} of the neighbours without a rule as faiss has them'
    )
    for name, times in seconds.items():
        best, median = (f(times) / f(seconds[PEER]) for f in (min, statistics.median))
        print(f'{name:55} best {min(times):7.2f} s   ratio {best:5.2f}, of medians {median:5.2f}')


if __name__ == '__main__':
    main()
