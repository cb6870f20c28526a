"From files in the official formats of both datasets to Figure 1, by the functions behind the commands."

import json

import pytest
from human36m_fixture import write_human36m
from invented_3dhp import write_sequence

from mvssl.study.reproduce import Batch, reproduce
from mvssl.sources import human36m, mpi_inf_3dhp

SEQUENCES = tuple(
    (subject, action, trial, f'{name} {trial}')
    for subject, takes in dict(S1=(14, 5), S5=(14, 5), S8=(14,), S9=(14, 5), S11=(14,)).items()
    for action, name in ((14, 'Walking'), (5, 'Greeting'))
    if action in takes
    for trial in (1, 2)
)
CAMERAS = (0, 2)


@pytest.fixture(scope='module')
def stores(tmp_path_factory):
    "Both datasets, invented, filmed, written as they are downloaded, and prepared."
    root = tmp_path_factory.mktemp('official')
    write_human36m(root / 'h36m', SEQUENCES, n=80, size=120, masks=False)
    for i, subject in enumerate(('S7', 'S8')):
        write_sequence(root / '3dhp' / subject / 'Seq1', 60, CAMERAS, hz=25, seed=i)
    first = human36m.prepare(root / 'h36m', root / 'human36m', side=32, workers=1, incomplete=True, progress=False)
    second = mpi_inf_3dhp.prepare(
        root / '3dhp', root / 'mpi-inf-3dhp', cameras=CAMERAS, side=32, workers=1, incomplete=True, progress=False
    )
    return first, second


def test_figure_1_from_official_files(stores, tmp_path):
    first, second = stores
    assert set(first.table['subject']) == {'S1', 'S5', 'S8', 'S9', 'S11'} and set(second.table['subject']) == {
        'S7',
        'S8',
    }
    asked = dict(out=tmp_path, only='3_pose_retrieval', foresee=False)
    summary = reproduce('smoke', first.path, second.path, **asked, say=lambda text: None)
    assert summary.is_whole, summary.failed
    batch = Batch('smoke', first.path, second.path, out=tmp_path)
    assert (batch.roles.labelled, batch.roles.validation, batch.roles.test, batch.second_test) == (
        ('S1',),
        ('S8',),
        ('S9', 'S11'),
        ('S7', 'S8'),
    )
    sidecar = json.loads((batch.figures / 'fig1_pose_retrieval.json').read_text())
    assert len({name.split(':')[0] for name in sidecar['results']['images']}) == 2, 'both datasets are in the figure'
    assert sidecar['results']['people'] == first.name and sidecar['claim']['verdict'] == 'not tested'
    assert (batch.figures / 'fig1_pose_retrieval.png').stat().st_size > 10_000
