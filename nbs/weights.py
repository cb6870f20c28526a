"""Adds a network to those that come along: python nbs/weights.py RUN NAME --data STORE

RUN is the folder of a finished training, STORE what it was trained on. The file of weights gets what its card shows
(mvssl.trained.card): whom it has seen, how it was trained, at which commit, how good it is on test subjects.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mvssl.dataset import MultiviewDataset
from mvssl.encoder import load_network, read_header, save_weights
from mvssl.refusal import Refusal
from mvssl.retrieval import cross_subject_cross_view, retrieval_scores
from mvssl.skeleton import canonicalise
from mvssl.training import embed

FOLDER = Path(__file__).resolve().parents[1] / 'mvssl' / 'weights'
MOST_INSTANTS, MOST_QUERIES = 600, 600


def nearest(network, store):
    "Pose distance of the nearest image of another test subject from another view, and of chance, mm."
    rows = np.unique(np.linspace(0, len(store) - 1, min(len(store), MOST_INSTANTS)).round().astype(int))
    found = embed(network, store, rows)
    labels = store.table.iloc[found.instant].reset_index(drop=True)
    labels = labels.assign(view=found.view, instant=found.instant, sequence=store.sequence_index[found.instant])
    poses = torch.from_numpy(canonicalise(store.poses[found.instant]))
    lot = np.sort(np.random.default_rng(0).choice(len(labels), min(len(labels), MOST_QUERIES), replace=False))
    how = dict(same_instant=False, queries=lot, ks=(1,), intervals=())
    scores = retrieval_scores({'it': found.z}, poses, labels, cross_subject_cross_view, **how).loc[('MPJPE', 1)]
    return dict(nearest_mm=float(scores['it']), chance_mm=float(scores['chance']))


def pose_error(run):
    "Mean error of the last weights over test images; {} for an arm that learns no pose."
    errors = pd.read_csv(run / 'errors.csv')
    test = errors[(errors['weights'] == 'last') & (errors['part'] == 'test')]
    return dict(mpjpe_mm=float(np.average(test['mpjpe_mm'], weights=test['images']))) if len(test) else {}


def kind_of(store):
    return 'synthetic people' + ' in clothes of their own' * (store.extra.get('people') == 'dressed')


def about(run, store, network, notes, command):
    "What the card is made of, beside what the file says already."
    made, train = json.loads((run / 'provenance.json').read_text(encoding='utf-8'))[-1], notes['train']
    if notes['dataset'] != store.checksum:
        raise Refusal(f'--data must be the store that {run.name} was trained on, {store.path} is another one')
    if not made['clean']:
        raise Refusal(f'{run.name} was trained in a checkout with changes: train it from a commit')
    test = store.where(subject=train['test'])
    held_out = {*train['validation'], *train['test']}
    return dict(
        data=store.name,
        kind=kind_of(store),
        people=dict(pairs=len({*store.table['subject']} - held_out), test=len(train['test'])),
        test=pose_error(run) | nearest(network, test),
        made_by=command,
        commit=made['commit'],
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('run', type=Path, metavar='RUN')
    parser.add_argument('name', metavar='NAME')
    parser.add_argument('--data', type=Path, required=True, metavar='STORE')
    parser.add_argument('--by', default='mvssl reproduce --profile desk', help='the command that trained it')
    asked = parser.parse_args()
    file = asked.run / 'weights.safetensors'
    notes, network = read_header(file)['notes'], load_network(file)
    notes |= about(asked.run, MultiviewDataset.open(asked.data), network, notes, asked.by)
    FOLDER.mkdir(exist_ok=True)
    save_weights(FOLDER / f'{asked.name}.safetensors', network, notes)
    print(json.dumps(notes['test'], indent=1))


if __name__ == '__main__':
    main()
