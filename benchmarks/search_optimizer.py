"""Which optimiser learns most in the same processor time?

python benchmarks/search_optimizer.py DATA OUT.csv [--seconds 22] [--seeds 3] [--arms ...] [--only ...]

DATA is the studio store of the laptop profile (mvssl reproduce --profile laptop --only stores). Every candidate gets
as many steps as fit into the same seconds of one core, from the cost of its steps in units of AdamW's, all candidates
taking turns; joint, whose steps pass twice the images, gets twice the seconds. Errors are those of validation people
only. A line is written as soon as it is known; what stands in OUT is not done again.
nbs/experiments/optimizer_search.csv was made so, with ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2.
"""

import argparse
import statistics
import time
from pathlib import Path

import pandas as pd
import torch

from mvssl import training
from mvssl.dataset import MultiviewDataset
from mvssl.ground.device import instruction_set
from mvssl.study.reproduce import PROFILES, groups
from mvssl.training import TrainConfig, Trainer, validate

ARMS = dict(everybody='supervised-all', supervised='supervised-100', control='control-100', joint='joint-100')
CANDIDATES = {
    'adamw': dict(optimizer='adamw', lr=2e-3),
    'adamw, faster': dict(optimizer='adamw', lr=3e-3),
    'adamw, grid 2': dict(optimizer='adamw', lr=2e-3, grid=2),
    'muon': dict(lr=0.01),
    'muon .02': dict(lr=0.02),
    'muon, grid 2': dict(lr=0.01, grid=2),
    'muon .02, grid 2': dict(lr=0.02, grid=2),
    'muon .03, grid 2': dict(lr=0.03, grid=2),
    'muon, grid 3': dict(lr=0.01, grid=3),
    'muon, grid 2, twice the batch': dict(lr=0.01, grid=2, n_labelled=64, n_pairs=32, subjects_per_batch=8),
}
BASE, ROUNDS = 'adamw', 12
LOOKED_AT = 480  # instants of validation: all of them


def config_of(name, arm, seed=0, steps=1000):
    "Candidate `name` in an arm, the rest as in the laptop profile."
    profile = PROFILES['laptop']
    fields = (
        profile.train
        | groups(profile)[ARMS[arm]]
        | dict(precision='fp32', memory_format='channels_last', grid=1, lr=None, validate_every=10, keep_every=0)
    )
    return TrainConfig(
        **fields | dict(seed=seed, steps=steps, validation=profile.validation, test=profile.test) | CANDIDATES[name]
    )


def relative_costs(names, arms, store):
    "Processor time of a step in units of the base's with everybody's labels, all taking turns."
    asked = dict.fromkeys([(BASE, 'everybody'), *((name, arm) for name in names for arm in arms)])
    trainers = {one: Trainer(config_of(*one), store) for one in asked}
    took = {one: [] for one in asked}
    for _ in range(ROUNDS):
        for one, trainer in trainers.items():
            began = time.thread_time()
            for _ in range(2):
                trainer.step()
            took[one].append((time.thread_time() - began) / 2)
    base = took[BASE, 'everybody']
    quiet = sorted(base)[len(base) // 4]
    return {
        one: (statistics.median(a / b for a, b in zip(seconds[2:], base[2:])), quiet) for one, seconds in took.items()
    }


def trained(name, arm, seed, steps, store):
    "Validation scores of the averaged weights after so many steps."
    config = config_of(name, arm, seed, steps)
    trainer = Trainer(config, store)
    while trainer.done < config.steps:
        trainer.step()
    scores = validate(trainer.average, store, trainer.parts, config)
    return {score: round(scores[score], 2) for score in ('mpjpe_mm', 'pa_mpjpe_mm', 'nearest_mm')}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('data', type=Path)
    parser.add_argument('out', type=Path)
    parser.add_argument('--seconds', type=float, default=22)
    parser.add_argument('--seeds', type=int, default=3)
    parser.add_argument('--arms', nargs='+', default=list(ARMS), choices=ARMS)
    parser.add_argument('--only', nargs='+', default=list(CANDIDATES), choices=CANDIDATES, metavar='NAME')
    asked = parser.parse_args()
    torch.set_num_threads(1)
    training.N_LOOKED_AT = LOOKED_AT
    store = MultiviewDataset.open(asked.data)
    costs = relative_costs(asked.only, asked.arms, store)
    for seed in range(asked.seeds):
        for arm in asked.arms:
            for name in asked.only:
                seconds = asked.seconds * (2 if arm == 'joint' else 1)
                done = (
                    pd.read_csv(asked.out)
                    if asked.out.exists()
                    else pd.DataFrame(columns=['name', 'arm', 'seed', 'seconds'])
                )
                if (
                    (done['name'] == name)
                    & (done['arm'] == arm)
                    & (done['seed'] == seed)
                    & (done['seconds'] == seconds)
                ).any():
                    continue
                relative, base = costs[name, arm]
                steps = max(20, int(seconds / (relative * base)))
                line = dict(
                    name=name,
                    arm=arm,
                    seed=seed,
                    seconds=seconds,
                    relative_cost=round(relative, 3),
                    steps=steps,
                    **trained(name, arm, seed, steps, store),
                    instructions=instruction_set(),
                )
                pd.DataFrame([line]).to_csv(asked.out, mode='a', header=not asked.out.exists(), index=False)
                print(line, flush=True)


if __name__ == '__main__':
    main()
