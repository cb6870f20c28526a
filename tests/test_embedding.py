"""Embeddings are those of one image after the other, and what has no pose changes no score."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from mvssl.embedding import Embeddings, embed, view_scores
from mvssl.encoder import PoseNet
from mvssl.sources.synthetic import make_dataset


@pytest.fixture(scope='module')
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data') / 'studio'
    return make_dataset(folder, subjects=('S1', 'S5', 'S6', 'S8', 'S9'), instants=120, side=32, progress=False)


def test_embeddings_by_a_slow_loop(store):
    network = PoseNet(8, 16, 'group').train()
    rows = np.array([3, 40, 41, 100])
    found = embed(network, store, rows, n_images=7, precision='fp32')
    assert network.training
    network.eval()
    for n in range(len(found.z)):
        i, v = found.instant[n].item(), found.view[n].item()
        with torch.no_grad():
            z, pose = network(torch.from_numpy(np.array(store.frames[i, v])).permute(2, 0, 1)[None])
        assert_close(found.z[n], z[0], rtol=1e-4, atol=1e-5)
        assert_close(found.pose[n], pose[0], rtol=1e-4, atol=1e-2)
    assert sorted(zip(found.instant.tolist(), found.view.tolist())) == [
        (i, v) for i in rows for v in range(4) if store.seen[i, v]
    ]


def test_view_scores_leave_out_what_has_no_pose():
    z = torch.nn.functional.normalize(torch.tensor([[1.0, 0], [1, 0.1], [1, 0.2], [1, 0.3]]), dim=1)
    poses = torch.zeros(2, 17, 3)
    poses[1, 1:] = 100.0
    found = Embeddings(z, poses[[0, 0, 1, 1]], torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1]))
    whole, partly = (
        view_scores(found, poses[[0, 0, 1, 1]]),
        view_scores(found, poses[[0, 0, 1, 1]].index_fill(0, torch.tensor([0, 1]), math.nan)),
    )
    assert whole['nearest_mm'] > 0 and whole['recall'] == partly['recall']
    assert math.isnan(partly['nearest_mm']) and math.isnan(partly['chance_mm'])
