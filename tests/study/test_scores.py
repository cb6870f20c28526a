"""Scores of a network on a store, by slow loops; the command that prints them."""

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from mvssl.cli import app
from mvssl.dataset import DatasetWriter, MultiviewDataset
from mvssl.encoder import PoseNet, save_weights
from mvssl.evaluation import auc, mpjpe, n_mpjpe, pa_mpjpe, pck
from mvssl.study.scores import mean_scores, score_poses, score_store
from mvssl.skeleton import canonicalise

torch.set_num_threads(1)


@pytest.fixture(scope='module')
def store(tmp_path_factory):
    "Two subjects, two actions, one unseen picture, one pose missing and one without heading."
    path, rng = tmp_path_factory.mktemp('stores') / 'tiny', np.random.default_rng(0)
    with DatasetWriter(
        path, name='tiny', source='random pixels', licence='free', hz=10, stride=5, side=32, views=['left', 'right']
    ) as writer:
        for subject in ('S1', 'S9'):
            for action in ('Sitting', 'Walking'):
                poses, seen = (
                    rng.normal(0, 250, (6, 17, 3)) + np.linspace(0, 900, 17)[:, None] * [0, 0, 1],
                    np.ones((6, 2), bool),
                )
                if (subject, action) == ('S9', 'Walking'):
                    poses[1], poses[2, 4, :2], seen[3, 0] = np.nan, poses[2, 1, :2], False
                writer.add(
                    subject, action, f'{action} 1', rng.integers(1, 256, (6, 2, 32, 32, 3), 'uint8'), poses, seen
                )
    return MultiviewDataset.open(path)


@pytest.fixture(scope='module')
def network():
    torch.manual_seed(0)
    return PoseNet(width=8).eval()


@torch.no_grad()
def test_every_seen_picture_with_a_heading_by_a_slow_loop(store, network):
    scores, expected = score_store(network, store, n_images=5), []
    true = canonicalise(np.asarray(store.poses, float))
    for i in range(len(store)):
        for v, view in enumerate(store.views):
            if not store.seen[i, v] or not np.isfinite(true[i]).all():
                continue
            said = network(torch.from_numpy(store.frames[i, v].copy()).permute(2, 0, 1)[None])[1].numpy()
            expected.append(
                (
                    i,
                    view,
                    *(
                        float(score(said, true[i][None])[0]) * (100 if score in (pck, auc) else 1)
                        for score in (mpjpe, n_mpjpe, pa_mpjpe, pck, auc)
                    ),
                )
            )
    assert len(expected) == 48 - 2 - 2 - 1
    found = scores.set_index(['instant', 'view'])[['mpjpe_mm', 'n_mpjpe_mm', 'pa_mpjpe_mm', 'pck', 'auc']]
    for i, view, *values in expected:
        np.testing.assert_allclose(found.loc[(i, view)], values, rtol=2e-3, atol=1e-3)
    assert len(found) == len(expected)


def test_a_part_of_a_store(store, network):
    part = score_store(network, store.where(subject='S9'))
    assert set(part['subject']) == {'S9'}
    np.testing.assert_allclose(
        part['mpjpe_mm'], score_store(network, store).query("subject == 'S9'")['mpjpe_mm'], rtol=1e-4
    )


def test_the_limit_is_strict_and_the_hip_does_not_count():
    true = np.zeros((3, 17, 3)) + np.arange(17)[:, None]
    pred = true.copy()
    pred[0, 3, 0] += 150  # not below 150
    pred[1, 3, 0] += 149.9
    pred[2, 7, 0] += 400  # the spine is not among the fourteen
    np.testing.assert_allclose(score_poses(pred, true)['pck'], [100 * 13 / 14, 100, 100])


def test_means_weigh_pictures_alike(store, network):
    scores = score_store(network, store)
    for by in ('subject', 'action', 'sequence', 'view'):
        table = mean_scores(scores, by)
        for name, row in table.iterrows():
            own = scores if name == 'all' else scores[scores[by] == name]
            assert (
                row['images'] == len(own)
                and row['auc'] == pytest.approx(own['auc'].mean())
                and row['mpjpe_mm'] == pytest.approx(own['mpjpe_mm'].mean())
            )


def test_a_store_without_poses_is_refused(tmp_path, network):
    with DatasetWriter(
        tmp_path / 'bare', name='bare', source='random pixels', licence='free', hz=10, stride=5, side=32, views=['left']
    ) as writer:
        writer.add('S1', 'a', 'a', np.ones((3, 1, 32, 32, 3), 'uint8'))
    with pytest.raises(ValueError, match='must have poses to score against'):
        score_store(network, MultiviewDataset.open(tmp_path / 'bare'))


def run(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.output


def test_command(store, network, tmp_path):
    for name, arm in (('joint', 'joint'), ('metric', 'metric')):
        save_weights(tmp_path / f'{name}.safetensors', network, dict(side=32, train=dict(arm=arm)))
    code, said = run(
        'score',
        '--run',
        tmp_path / 'joint.safetensors',
        '--data',
        store.path,
        '--by',
        'subject',
        '--out',
        tmp_path / 'scores.csv',
    )
    assert code == 0 and 'S9' in said and '4 of 47 images left out: no pose, or hips above each other' in said
    assert len(pd.read_csv(tmp_path / 'scores.csv')) == 43
    for words, wrong in (
        (('--by', 'camera'), 'by must be'),
        (('--subjects', 'S2'), "no 'S2'"),
        (('--out', tmp_path / 'scores.txt'), '.csv'),
    ):
        code, said = run('score', '--run', tmp_path / 'joint.safetensors', '--data', store.path, *words)
        assert code == 1 and wrong in said
    code, said = run('score', '--run', tmp_path / 'metric.safetensors', '--data', store.path)
    assert code == 1 and 'trained by pairs alone' in said
