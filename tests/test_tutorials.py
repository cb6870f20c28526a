"""Notebooks that are run with other data than their own: the tutorial of one's own cameras, the experiment on real
footage."""

import os
import shutil
from pathlib import Path

import numpy as np
import papermill
import pytest

from mvssl.dataset import DatasetWriter, MultiviewDataset
from mvssl.sources.synthetic import make_dataset

NBS = Path(__file__).parents[1] / 'nbs'
FOOTAGE = (
    Path(os.environ.get('MVSSL_SHARED_DATA') or Path(__file__).parents[2] / 'shared' / 'data')
    / 'pose2sim_balancing'
    / 'videos'
)


def outputs(nb):
    "What a notebook said, as one text."
    return '\n'.join(
        ''.join(output.get('text', '') or output.get('data', {}).get('text/plain', ''))
        for cell in nb.cells
        for output in cell.get('outputs', ())
    )


@pytest.mark.skipif(not FOOTAGE.exists(), reason='the four real videos are not on this machine')
def test_own_cameras_on_real_videos(tmp_path):
    nb = papermill.execute_notebook(
        NBS / 'tutorials' / 'own_cameras.ipynb',
        tmp_path / 'mine.ipynb',
        dict(videos=str(FOOTAGE), out=str(tmp_path), hz=20.0, steps=20),
        kernel_name='python3',
        progress_bar=False,
    )
    store = MultiviewDataset.open(tmp_path / 'store')
    assert len(store.views) == 4 and 30 <= len(store) <= 34 and store.seen.mean() > 0.9
    assert (tmp_path / 'run' / 'weights.safetensors').exists() and (tmp_path / 'atlas.html').stat().st_size > 1e6
    assert 'seen in training (S1)' in outputs(nb) and 'never seen' not in outputs(nb), (
        'nobody else is there to be held out'
    )


def test_real_footage_on_a_made_rig(smoke_study, tmp_path):
    "Whole, at the smallest size: a take of one person and the networks of the smoke profile."
    root = shutil.copytree(smoke_study, tmp_path / 'root')
    whole = make_dataset(tmp_path / 'made', subjects=('U01',), instants=60, side=32, progress=False)
    with DatasetWriter(
        tmp_path / 'take', name='take', source='made', licence='free', hz=60, stride=1, side=32, views=whole.views
    ) as writer:
        writer.add('man', 'balance', 'take', np.asarray(whole.frames))
    asked = dict(
        data=str(tmp_path / 'take'),
        profile='smoke',
        out=str(root),
        steps=40,
        queries=whole.views[0],
        searched=whole.views[2],
    )
    nb = papermill.execute_notebook(
        NBS / 'experiments' / 'real_footage.ipynb',
        tmp_path / 'out.ipynb',
        asked,
        kernel_name='python3',
        progress_bar=False,
    )
    table = (root / 'figures' / 'real-footage' / 'real_footage.md').read_text()
    assert all(
        f'| {arm} ' in table
        for arm in (
            'untrained',
            'synthetic',
            'synthetic, statistics',
            'synthetic + video, all negatives',
            'video, hardest negative',
            'chance',
        )
    )
    assert 'Held-out frames:' in '\n'.join(
        str(output.get('data', '')) for cell in nb.cells for output in cell.get('outputs', ())
    )
    assert (root / 'figures' / 'real-footage' / 'real_footage.png').exists()

    two = make_dataset(tmp_path / 'two', subjects=('U01', 'U02'), instants=16, side=32, progress=False)
    with pytest.raises(papermill.PapermillExecutionError, match='data must hold one take'):
        papermill.execute_notebook(
            NBS / 'experiments' / 'real_footage.ipynb',
            tmp_path / 'out.ipynb',
            asked | dict(data=str(two.path)),
            kernel_name='python3',
            progress_bar=False,
        )
