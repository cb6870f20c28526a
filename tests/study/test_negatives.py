"""Mined negatives against explicit loops, and what happens where poses or negatives are missing."""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from mvssl.batches import Augmentation
from mvssl.dataset import MultiviewDataset
from mvssl.loss import pairwise_distance
from mvssl.study.negatives import describe_negatives, find_hardest, mine, neighbour_mm
from mvssl.sampler import ChunkPairSampler
from mvssl.skeleton import canonicalise, mirror
from mvssl.sources.synthetic import make_dataset
from mvssl.training import TrainConfig, start_network

CONFIG = TrainConfig(
    arm='metric',
    n_pairs=12,
    subjects_per_batch=3,
    width=8,
    dim=8,
    validation=(),
    test=(),
    seed=3,
    precision='fp32',
    augmentation=None,
)


@pytest.fixture(scope='module')
def store(tmp_path_factory):
    return make_dataset(
        tmp_path_factory.mktemp('negatives') / 'studio',
        subjects=('S1', 'S5', 'S6'),
        instants=144,
        side=32,
        progress=False,
    )


@pytest.fixture(scope='module')
def network():
    return start_network(CONFIG)


def slow_hardest(d, beta, may):
    "Distance, pair and side of every pair's hardest negative, by looking at all in the order of `find_hardest`."
    found = []
    for i in range(len(d)):
        best = (math.inf, -1, None)
        for is_positive in (True, False):
            for j in range(len(d)):
                value = float(d[i, j] if is_positive else d[j, i])
                if j != i and may[i, j] and value > beta and value < best[0]:
                    best = (value, j, is_positive)
        found.append(best)
    return found


def vectors(n, seed, dim=3):
    rng = torch.Generator().manual_seed(seed)
    return (
        torch.nn.functional.normalize(torch.randn(n, dim, generator=rng, dtype=torch.float64), dim=1) for _ in range(2)
    )


@pytest.mark.parametrize('beta', [0.0, 0.3, 1.0, 1.9])
@pytest.mark.parametrize('n_subjects', [1, 4, 20])
def test_hardest_is_that_of_a_loop_over_all(beta, n_subjects):
    "With 20 subjects and 20 pairs nobody has a negative; with beta 1.9 few have."
    subject = torch.arange(20) % n_subjects
    may = subject[:, None] == subject
    d = pairwise_distance(*vectors(20, seed=n_subjects))
    found = find_hardest(d, beta, may)
    for i, (value, pair, is_positive) in enumerate(slow_hardest(d, beta, may)):
        assert (found.d[i].item(), found.pair[i].item()) == (value, pair)
        assert pair < 0 or found.is_positive[i].item() == is_positive


def test_ties_go_to_the_row_and_to_the_first():
    "A grid of distances with many equal ones; the own pair's distance is among them and never taken."
    d = torch.full((4, 4), 0.5)
    found = find_hardest(d, 0.3)
    assert found.pair.tolist() == [1, 0, 0, 0] and found.is_positive.all()
    assert slow_hardest(d, 0.3, torch.ones(4, 4, dtype=torch.bool)) == [(0.5, j, True) for j in found.pair.tolist()]


def slow_mined(store, network, config, n_batches, beta, who):
    "Mined negatives image by image, with a sampler of its own; the embedding standardised over the batch by hand."
    generator = torch.Generator().manual_seed(4 * config.seed)
    sampler = ChunkPairSampler(
        store.table,
        store.seen,
        config.n_pairs,
        config.chunk,
        generator,
        subjects=config.subjects_per_batch,
        drop_last=True,
    )
    network.eval()

    def project(instant, view):
        with torch.no_grad():
            features = network.encoder.features(
                torch.from_numpy(np.array(store.frames[instant, view])).permute(2, 0, 1)[None]
            )
            return network.encoder.projection(features)[0].double().numpy()

    def encode(pairs):
        raw = np.array([[project(i, a), project(i, p)] for i, a, p in pairs])
        raw = (raw - raw.mean((0, 1))) / np.sqrt(raw.var((0, 1)) + 1e-5)
        return torch.from_numpy(raw / np.linalg.norm(raw, axis=-1, keepdims=True))

    rows = []
    for batch in range(n_batches):
        pairs = [tuple(int(x) for x in pair) for pair in zip(*next(sampler))]
        z = encode(pairs)
        names = [store.table['subject'][i] for i, _, _ in pairs]
        poses = [canonicalise(store.poses[i]) for i, _, _ in pairs]
        between = [[np.linalg.norm(a - b, axis=-1).mean() for b in poses] for a in poses]
        for i in range(len(pairs)):
            others = [j for j in range(len(pairs)) if j != i and (who == 'any' or names[j] == names[i])]
            candidates = [((z[i][0] - z[j][1]).norm().item(), j, 2) for j in others] + [
                ((z[j][0] - z[i][1]).norm().item(), j, 1) for j in others
            ]
            candidates = [candidate for candidate in candidates if candidate[0] > beta]
            closest = min(between[i][j] for j in others)
            row = dict(
                batch=batch,
                instant=pairs[i][0],
                anchor_view=pairs[i][1],
                positive_view=pairs[i][2],
                d_positive=(z[i][0] - z[i][1]).norm().item(),
                closest_mm=closest,
            )
            if candidates:
                value, j, side = min(candidates)
                row |= dict(
                    negative_instant=pairs[j][0], negative_view=pairs[j][side], d_negative=value, pose_mm=between[i][j]
                )
            rows.append(row)
    return pd.DataFrame(rows)


@pytest.mark.parametrize('chunk', [1, 4])
@pytest.mark.parametrize('beta, who', [(0.3, 'same subject'), (0.0, 'any'), (1.3, 'same subject')])
def test_mined_negatives_are_those_of_slow_loops(store, network, chunk, beta, who):
    config = replace(CONFIG, chunk=chunk)
    fast = mine(network, store, config, n_batches=3, beta=(beta,), negatives=(who,))
    slow = slow_mined(store, network, config, 3, beta, who)
    assert (fast['beta'] == beta).all() and (fast['negatives'] == who).all()
    has = slow['negative_instant'].notna()
    assert has.any() and (fast['negative_instant'] >= 0).tolist() == has.tolist()
    for column in ('batch', 'instant', 'anchor_view', 'positive_view'):
        assert fast[column].tolist() == slow[column].tolist()
    for column in ('negative_instant', 'negative_view'):
        assert fast[column][has].tolist() == slow[column][has].astype(int).tolist()
    for column, within in (('d_positive', 1e-5), ('d_negative', 1e-5), ('pose_mm', 0.02), ('closest_mm', 0.02)):
        np.testing.assert_allclose(fast[column], slow[column], atol=within, rtol=0)


def test_rules_share_batches_and_embeddings(store, network):
    both = mine(network, store, CONFIG, n_batches=2)
    for (who, beta), part in both.groupby(['negatives', 'beta']):
        alone = mine(network, store, CONFIG, n_batches=2, beta=(beta,), negatives=(who,))
        pd.testing.assert_frame_equal(
            part.drop(columns='random_mm').reset_index(drop=True), alone.drop(columns='random_mm')
        )


def test_a_random_candidate_is_an_allowed_one(store, network):
    found = mine(network, store, CONFIG, n_batches=4, beta=(0.0,))
    pose, subject = canonicalise(store.poses), store.table['subject'].to_numpy()
    for who, part in found.groupby('negatives'):
        for _, pairs in part.groupby('batch'):
            instants = pairs['instant'].to_numpy()
            for i, value in zip(instants, pairs['random_mm']):
                others = [j for j in instants if j != i and (who == 'any' or subject[i] == subject[j])]
                assert min(abs(np.linalg.norm(pose[i] - pose[j], axis=-1).mean() - value) for j in others) < 0.02


def test_chunks_keep_near_poses_out_of_the_batch(store, network):
    at_hand = {
        chunk: describe_negatives(
            mine(network, store, replace(CONFIG, chunk=chunk), n_batches=9, beta=(0.0,), negatives=('same subject',)),
            20.0,
        )['share_false_at_hand']
        for chunk in (1, 8)
    }
    assert at_hand[8] < at_hand[1]


def test_a_pair_alone_of_its_subject_has_no_negative(store, network):
    found = mine(
        network,
        store,
        replace(CONFIG, n_pairs=3, subjects_per_batch=3),
        n_batches=2,
        beta=(0.3,),
        negatives=('same subject',),
    )
    assert (found['negative_instant'] == -1).all() and (found['negative_view'] == -1).all()
    assert found[['d_negative', 'pose_mm', 'closest_mm', 'random_mm']].isna().all(axis=None)
    facts = describe_negatives(found, 50.0)
    assert facts['share_with_negative'] == 0 and facts['without_pose'] == 0 and math.isnan(facts['share_false'])


@pytest.mark.parametrize('training', [True, False])
def test_a_network_is_left_as_it_was(store, network, training):
    before = {name: value.clone() for name, value in network.train(training).state_dict().items()}
    mine(network, store, CONFIG, n_batches=1)
    assert network.training == training and all(p.requires_grad for p in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_mirrored_picture_shows_the_mirrored_pose(store, network):
    "Half of the pairs are mirrored: their negatives are measured as they are shown."
    found = mine(
        network,
        store,
        replace(CONFIG, augmentation=replace(Augmentation.none(), flip=0.5)),
        n_batches=3,
        beta=(0.0,),
        negatives=('any',),
    )
    pose = torch.from_numpy(canonicalise(store.poses))
    a, b = pose[found['instant']], pose[found['negative_instant']]
    plain, mirrored = ((first - b).norm(dim=-1).mean(-1).numpy() for first in (a, mirror(a)))
    is_plain, is_mirrored = (np.isclose(found['pose_mm'], values, atol=0.02) for values in (plain, mirrored))
    assert (is_plain | is_mirrored).all() and is_plain.any() and is_mirrored.any()


def unlabelled(store, folder, subject):
    "A copy of the store that does not know the poses of one subject."
    shutil.copytree(store.path, folder)
    poses = np.load(folder / 'poses.npy')
    poses[store.table['subject'] == subject] = np.nan
    np.save(folder / 'poses.npy', poses)
    facts = json.loads((folder / 'dataset.json').read_text())
    facts['counts'] = {
        name: (int(np.isfinite(poses).all((1, 2)).sum()) if name == 'labelled' else value)
        for name, value in facts['counts'].items()
    }
    (folder / 'dataset.json').write_text(json.dumps(facts))
    return MultiviewDataset.open(folder)


def test_unknown_poses_are_left_out_and_counted(store, network, tmp_path):
    "The same is mined, only the distance is not known, and never counted as a false or as a true negative."
    whole, part = (
        mine(network, ds, CONFIG, n_batches=3, beta=(0.3,), negatives=('any',))
        for ds in (store, unlabelled(store, tmp_path / 'part', 'S5'))
    )
    assert part['negative_instant'].equals(whole['negative_instant'])
    is_of = {
        column: (store.table['subject'].to_numpy()[part[column]] == 'S5') for column in ('instant', 'negative_instant')
    }
    lost = is_of['instant'] | is_of['negative_instant']
    assert 0 < lost.sum() < len(lost) and part['pose_mm'].isna().tolist() == lost.tolist()
    assert part['closest_mm'].isna().tolist() == is_of['instant'].tolist()
    facts, known = describe_negatives(part, 100.0), part[~lost]
    assert facts['without_pose'] == lost.sum() and facts['share_false'] == pytest.approx(
        (known['pose_mm'] <= 100).mean()
    )
    assert len(neighbour_mm(MultiviewDataset.open(tmp_path / 'part'), 1)) < len(neighbour_mm(store, 1))


def test_neighbours_are_those_of_a_loop(store):
    "Also where instants are missing from a sequence: position counts, not the row."
    some = store.where(sequence=store.table['sequence'][0])
    pose, table = canonicalise(some.poses), some.table
    for apart in (1, 3):
        slow = [
            np.linalg.norm(pose[i] - pose[j], axis=-1).mean()
            for i in range(len(some))
            for j in range(len(some))
            if table['subject'][i] == table['subject'][j] and table['index'][j] - table['index'][i] == apart
        ]
        np.testing.assert_allclose(sorted(neighbour_mm(some, apart)), sorted(slow), atol=0.01)


def test_interval_draws_whole_batches():
    "Batches that are all false or all true: the interval is that of eight numbers, not of eighty."
    made_up = pd.DataFrame(
        dict(
            negatives='any',
            beta=0.3,
            batch=np.repeat(range(8), 10),
            instant=range(80),
            negative_instant=range(80),
            d_positive=1.0,
            d_negative=1.0,
            pose_mm=np.repeat([0.0, 100.0] * 4, 10),
            closest_mm=0.0,
            random_mm=100.0,
        )
    )
    facts = describe_negatives(made_up, 50.0)
    assert facts['share_false'] == 0.5 and facts['share_false_low'] < 0.2 and facts['share_false_high'] > 0.8
