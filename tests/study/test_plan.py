"""The plan of a study before anything is made, and its status after."""

import pytest
from experiments_fixture import analysis, command, edited

from mvssl.runs import hold
from mvssl.study.batch import Study
from mvssl.study.plan import status
from mvssl.study.profiles import NEEDS, PROFILES
from mvssl.study.reproduce import planned, reproduce

N = sum(PROFILES['smoke'].seeds.values())  # trainings


def test_status_without_a_batch_says_how_to_begin(tmp_path):
    told = command('status', '--profile', 'smoke', '--out', tmp_path)
    assert told.returncode == 0 and told.stdout.splitlines() == [
        'batch smoke-synthetic: not begun',
        f'  nothing of it is in {tmp_path} yet. Begin:',
        f'  mvssl reproduce --profile smoke --out {tmp_path}',
    ]
    batch = Study('smoke', out=tmp_path)
    batch.runs.mkdir(parents=True)
    assert str(status('smoke', out=tmp_path)).splitlines()[1] == '  its stores are not finished. Go on:'
    with hold(batch.runs):
        assert str(status('smoke', out=tmp_path)) == 'batch smoke-synthetic: running\n  its stores are being made'


def test_status_is_columns_of_eighty(root, made_up):
    for name in NEEDS:
        analysis(made_up, name)
    edited(
        made_up / 'train.ipynb',
        made_up / 'train.ipynb',
        f'raise RuntimeError({"out of luck, " * 20!r})',
        after='import json',
    )
    asked = dict(out=root, only='supervised-100-s0', say=lambda text: None, foresee=False)
    assert not reproduce('smoke', **asked).is_whole
    lines = str(status('smoke', out=root)).splitlines()
    assert (
        max(map(len, lines)) <= 80
        and lines[0] == 'batch smoke-synthetic:'
        and lines[1].startswith(f'  0 of {N} trainings and 0 of 6 analyses done; not running')
    )
    assert any(line.startswith('  failed  supervised-100-s0 ') for line in lines)
    missing = [line for line in lines[next(i for i, line in enumerate(lines) if line.startswith('  missing')) :]]
    assert (
        sum(len(line.removeprefix('  missing').split()) for line in missing) == N + 6 - 1
        and len(missing) <= -(-(N + 5) // 3) + 1
    ), 'three a line, none left out'


# ---- before anything is made -----------------------------------------------------------------------------------------


def test_the_plan_of_a_study_that_is_not_begun(tmp_path):
    "A row for each store, training and analysis, in a file of eighty columns; nothing is made."
    told = command('reproduce', '--profile', 'smoke', '--out', tmp_path / 'new', '--plan')
    assert told.returncode == 0 and not told.stderr and not (tmp_path / 'new').exists()
    lines = told.stdout.splitlines()
    assert lines[0] == f'study smoke-synthetic: 3 stores, {N} trainings, 6 analyses; 0 of {3 + N + 6} done'
    rows = {line.split()[0]: line.split()[1:] for line in lines[2:] if line[0] != ' '}
    trainings = [f'{group}-s{seed}' for group, n in PROFILES['smoke'].seeds.items() for seed in range(n)]
    assert {name for name in rows if name in {'studio', 'stage', 'pool', *trainings, *NEEDS}} == {
        'studio',
        'stage',
        'pool',
        *trainings,
        *NEEDS,
    }
    assert rows['studio'] == ['missing', '-', '-'] and rows['joint-100-s1'] == ['missing', '-', 'studio']
    assert rows['paper-joint-s0'] == ['missing', '-', 'studio,', 'pool']
    assert rows['4_embedding_space'] == ['missing', '-', 'studio,', 'stage,', 'pool,', 'joint-100']
    assert lines[-1] == f'Run it:  mvssl reproduce --profile smoke --out {tmp_path / "new"}'
    assert [line for line in lines[:-1] if len(line) > 80] == []
    assert command('reproduce', '--profile', 'desk', '--plan').returncode == 0


def test_a_plan_knows_keys_and_states(root, made_up):
    "Once the stores are there: the keys are those of the folders; one training is done, one has failed."
    edited(
        made_up / 'train.ipynb',
        made_up / 'train.ipynb',
        "if seed == 1: raise RuntimeError('out of luck')",
        after='import json',
    )
    reproduce('smoke', out=root, only='supervised-100', say=lambda text: None, foresee=False)
    found = planned('smoke', out=root, only='supervised-100').jobs.set_index('name')
    first, second = Study('smoke', out=root).planned('supervised-100')
    assert found['state'].to_dict() == {
        'studio': 'done',
        'stage': 'done',
        'pool': 'done',
        'supervised-100-s0': 'done',
        'supervised-100-s1': 'failed',
    }
    assert f"supervised-100-s0-{found.loc['supervised-100-s0', 'key']}" == first.folder.name
    assert f"supervised-100-s1-{found.loc['supervised-100-s1', 'key']}" == second.folder.name
    assert found.loc['studio', 'key'] == Study('smoke', out=root).dataset.checksum[:8]


def test_a_plan_of_a_store_of_ones_own_keeps_no_roles(root, made_up):
    asked = dict(profile='smoke', data=root / 'data/smoke/studio', out=root / 'new')
    found = planned(**asked, roles=dict(validation=['S8'], test=['S9', 'S11']))
    assert 'joint-100-s0' in set(found.jobs['name']) and not (root / 'new').exists()
    with pytest.raises(ValueError, match='--test must name subjects of studio, .*, got S99'):
        planned(**asked, roles=dict(test=['S99']))
    with pytest.raises(ValueError, match="got 'nosuch'"):
        planned('smoke', out=root, only='nosuch')
