"""The notebook of the recipe search, on made-up searches: its choice, its refusals, and a configuration run again."""

import json
import shutil
from pathlib import Path

import nbformat
import pandas as pd
import papermill
import pytest
from papermill.exceptions import PapermillExecutionError

from mvssl.study.reproduce import Batch
from mvssl.sources.synthetic import make_dataset

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / 'nbs' / 'experiments' / 'recipe_search.ipynb'
LINES = [  # stage, name, arm, data_seed, seed, validation error, overrides
    ('A: arms', 'first', 'joint', 0, 0, 60.0, {}),
    ('B: arms', 'plain', 'supervised', 0, 0, 100.0, {}),
    ('B: arms', 'everybody', 'supervised', 0, 0, 70.0, dict(labelled='all')),
    ('B: rate', 'lucky once', 'joint', 0, 0, 78.0, {}),
    ('B: rate', 'lucky once', 'joint', 0, 1, 92.0, {}),
    ('B: rate', 'steady', 'joint', 0, 0, 80.0, {}),
    ('B: rate', 'steady', 'joint', 0, 1, 82.0, {}),
    ('B: control', 'no loss', 'control', 0, 0, 98.0, {}),
]


def searched(lines, **more):
    return pd.DataFrame(
        [
            dict(
                stage=stage,
                name=name,
                data_seed=data_seed,
                seed=seed,
                arm=arm,
                steps=600,
                seconds=60.0,
                overrides=json.dumps(overrides),
                val_mpjpe_mm=error,
                **more,
            )
            for stage, name, arm, data_seed, seed, error, overrides in lines
        ]
    )


@pytest.fixture
def run(tmp_path, monkeypatch):
    "Runs the notebook beside made-up files; returns the sidecar and the outputs as text."
    (tmp_path / 'nbs').mkdir()
    monkeypatch.setenv('MVSSL_NOTEBOOKS', str(tmp_path / 'nbs'))
    shutil.copy(NOTEBOOK, tmp_path / 'nbs')

    def run(search, confirmation=None, **parameters):
        search.to_csv(tmp_path / 'nbs' / 'recipe_search.csv', index=False)
        if confirmation is not None:
            confirmation.to_csv(tmp_path / 'nbs' / 'recipe_confirmation.csv', index=False)
        papermill.execute_notebook(
            tmp_path / 'nbs' / 'recipe_search.ipynb',
            tmp_path / 'executed.ipynb',
            parameters=dict(out=str(tmp_path), chosen='') | parameters,
            progress_bar=False,
            kernel_name='python3',
            cwd=tmp_path,
        )
        texts = [
            str(output)
            for cell in nbformat.read(tmp_path / 'executed.ipynb', 4).cells
            if cell.cell_type == 'code'
            for output in cell.outputs
        ]
        return {path.name: json.loads(path.read_text()) for path in tmp_path.rglob('recipe_search.json')}.get(
            'recipe_search.json'
        ), '\n'.join(texts)

    return run


def test_the_choice_is_by_the_mean_over_seeds_on_the_last_set_of_people(run, tmp_path):
    confirmation = pd.concat(
        [
            searched(
                [('B', 'plain', 'supervised', at, 0, 101.0, {}), ('B', 'steady', 'joint', at, 0, 81.0, {})]
            ).assign(test_mpjpe_mm=[100.0, 80.0 - at])
            for at in range(3)
        ]
    )
    sidecar, text = run(searched(LINES), confirmation)
    assert sidecar['results']['chosen'] == {
        'joint': 'steady',
        'supervised': 'plain',
        'supervised-all': 'everybody',
        'control': 'no loss',
    }
    assert sidecar['results']['validation_mm']['joint'] == 81 and sidecar['results']['trainings'] == len(LINES)
    assert (
        sidecar['results']['confirmation']['supervised']['mean'] == pytest.approx(21)
        and sidecar['results']['confirmation']['supervised']['n'] == 3
    )
    assert (
        set(sidecar['artefacts']) == {'recipe_search.png', 'recipe_search.pdf', 'recipe_search.csv', 'recipe_search.md'}
        and (tmp_path / 'figures' / 'laptop-synthetic' / 'recipe_search.png').exists()
    )
    shown = pd.read_csv(tmp_path / 'figures' / 'laptop-synthetic' / 'recipe_search.csv')
    assert (
        shown['name'].tolist()[-1] == 'first'
        and shown.loc[shown['name'] == 'plain', 'gain, %'].item() == 0
        and shown['val_mpjpe_mm'].iloc[:-1].is_monotonic_increasing
    )


def test_a_search_that_has_seen_test_errors_is_refused(run):
    with pytest.raises(PapermillExecutionError, match='a search that has seen test errors'):
        run(searched(LINES, test_mpjpe_mm=80.0))


def test_a_configuration_is_run_again(run, tmp_path):
    (tmp_path / 'data' / 'smoke').mkdir(parents=True)
    make_dataset(
        tmp_path / 'data' / 'smoke' / 'studio',
        subjects=dict.fromkeys((*Batch('smoke').profile.validation, *Batch('smoke').profile.test, 'S1', 'S5'), 12),
        side=32,
        seed=0,
    )
    asked = [
        dict(
            stage='A: rate',
            name='bound, faster',
            seed=3,
            overrides=dict(arm='supervised', labelled='all', lr=0.004, steps=5, log_every=5, validate_every=5),
        )
    ]
    sidecar, _ = run(searched(LINES), mode='run', configurations=json.dumps(asked), profile='smoke')
    folder = next((tmp_path / 'runs' / 'smoke-synthetic').glob('recipe_search-*'))
    found = pd.read_csv(folder / 'search.csv')
    assert (
        found['name'].tolist() == ['bound, faster']
        and found['seed'].tolist() == [3]
        and (found['val_mpjpe_mm'] > 0).all()
    )
    config = json.loads((folder / 'trainings' / 'bound--faster-s3' / 'config.json').read_text())
    assert (
        config['lr'] == 0.004
        and config['steps'] == 5
        and config['test'] == ['S9', 'S11', 'T1']
        and len(config['labelled']) > 1
    )
    assert (
        sidecar['results']['trainings'] == 1
        and (folder / 'recipe_search.png').exists()
        and not (tmp_path / 'figures').exists()
    )
