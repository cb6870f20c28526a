"""Guards of the experiments' committed outputs: all of them belong to figures/; and whoever checks that can fail."""

import base64
import importlib.util
import io
import json
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest
from execnb.nbio import read_nb
from nbdev.clean import nbdev_clean

from mvssl.study.profiles import NEEDS

ROOT = Path(__file__).parents[1]
EXPERIMENTS = sorted((ROOT / 'nbs' / 'experiments').glob('*.ipynb'))


def loaded(name):
    "A script of nbs/ as a module."
    spec = importlib.util.spec_from_file_location(name, ROOT / 'nbs' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


answers = loaded('answers')


@pytest.mark.parametrize('path', EXPERIMENTS, ids=lambda path: path.stem)
def test_committed_answers_belong_to_committed_artefacts(path):
    "Without a word on whose they are there are none."
    nb = read_nb(path)
    if 'answers' not in nb['metadata']:
        assert answers.outputs_of(nb) == []
        return
    assert list(answers.problems(path.stem, nb, ROOT / 'figures' / nb['metadata']['answers']['study'])) == []


def test_every_notebook_says_whose_answers_it_shows():
    "Of a study that is meant to be shown, in the line under its parameters."
    for name, nb, figures in answers.answered():
        if name in NEEDS or name == 'train':
            said = nb['metadata']['answers']
            assert said['study'] in answers.STUDIES
            (shown,) = [cell['outputs'] for cell in answers.code_cells(nb) if answers.has_tag(cell, 'parameters')]
            sidecars = answers.sidecars_of(name, figures)
            assert answers.text_of(shown[0]['data']['text/markdown']) == answers.whose(said['study'], sidecars, figures)


@pytest.fixture(scope='module')
def made(smoke_study, tmp_path_factory):
    "The notebooks of the smoke study with their answers, by name, and the folder of its figures."
    into = tmp_path_factory.mktemp('answers')
    done = taken(smoke_study, into)
    assert done.returncode == 0, done.stdout + done.stderr
    return {path.stem: path for path in into.glob('*.ipynb')}, smoke_study / 'figures' / 'smoke-synthetic'


def taken(root, into):
    words = ['--study', 'smoke-synthetic', '--runs', root / 'runs', '--figures', root / 'figures', '--into', into]
    return subprocess.run([sys.executable, ROOT / 'nbs' / 'answers.py', *words], capture_output=True, text=True)


def test_a_study_gives_answers_to_all_its_notebooks(made):
    paths, figures = made
    assert set(paths) == {'train', *NEEDS}
    for name, path in paths.items():
        nb, before = read_nb(path), read_nb(ROOT / 'nbs' / 'experiments' / path.name)
        assert list(answers.problems(name, nb, figures)) == []
        assert path.stat().st_size < 400_000, f'{name}: {path.stat().st_size}'
        assert [cell['source'] for cell in nb['cells']] == [cell['source'] for cell in before['cells']]
        assert [cell['metadata'] for cell in nb['cells']] == [cell['metadata'] for cell in before['cells']]
        assert str(figures.parents[1]) not in path.read_text(encoding='utf-8'), 'a path of this machine'
        first = answers.text_of(answers.outputs_of(nb)[0]['data']['text/markdown'])
        assert first.startswith('**The answers below are of profile `smoke`, synthetic data**')


def test_cleaning_leaves_answers_as_they_are(made, tmp_path):
    for path in made[0].values():
        copy = tmp_path / path.name
        copy.write_bytes(path.read_bytes())
        nbdev_clean(str(copy))
        assert copy.read_bytes() == path.read_bytes()


NAME = '2_margin_ablation'


@pytest.fixture
def nb(made):
    return read_nb(made[0][NAME])


def resealed(nb, figures):
    "As if whoever changed the outputs had known of the digest."
    return answers.sealed(nb, NAME, figures)


def wrong(nb, figures):
    return ' | '.join(answers.problems(NAME, nb, figures))


def test_an_edited_output_is_seen(nb, made):
    said = next(output for output in answers.outputs_of(nb) if output['output_type'] == 'stream')
    said['text'] = ['better than it was\n']
    assert 'its outputs are others' in wrong(nb, made[1])


def test_an_edited_number_of_a_table_is_seen_though_it_is_sealed_again(nb, made):
    saved = answers.rows_of_markdown((made[1] / 'table1_margin_ablation.md').read_text(encoding='utf-8'))
    number = saved[0][1]
    for output in answers.outputs_of(nb):
        data = output.get('data', {})
        if number in answers.text_of(data.get('text/html')):
            data['text/html'] = answers.text_of(data['text/html']).replace(number, '12.3 (11.0 to 13.0)')
    assert 'table1_margin_ablation.md' in wrong(resealed(nb, made[1]), made[1])


def test_an_edited_claim_is_seen(nb, made):
    for output in answers.outputs_of(nb):
        text = answers.text_of(output.get('data', {}).get('text/markdown'))
        if 'not tested' in text:
            output['data']['text/markdown'] = text.replace('not tested', 'replicated')
    assert 'the claim of table1_margin_ablation.json' in wrong(resealed(nb, made[1]), made[1])


def test_another_picture_is_seen(nb, made):
    shown = [output for output in answers.outputs_of(nb) if output.get('metadata', {}).get('alt')]
    assert len(shown) >= 2
    one, other = shown[:2]
    one['data'], other['data'] = other['data'], one['data']
    assert 'a picture is not' in wrong(resealed(nb, made[1]), made[1])


def test_a_picture_with_something_drawn_over_is_seen(nb, made):
    shown = next(output for output in answers.outputs_of(nb) if output.get('metadata', {}).get('alt'))
    kind = next(kind for kind in shown['data'] if kind.startswith('image/'))
    picture = answers.opened(base64.b64decode(answers.text_of(shown['data'][kind])))
    picture.paste((0, 0, 0), (picture.width // 3, picture.height // 3, picture.width // 2, picture.height // 2))
    file = io.BytesIO()
    picture.save(file, 'PNG')
    shown['data'] = {'image/png': base64.b64encode(file.getvalue()).decode()}
    assert 'a picture is not' in wrong(resealed(nb, made[1]), made[1])


def test_changed_code_is_seen_and_a_comment_is_none(nb, made):
    cell = answers.code_cells(nb)[-1]
    source = answers.text_of(cell['source'])
    cell['source'] = source + '  # as it was'
    assert wrong(nb, made[1]) == ''
    cell['source'] = source + '\nprint(1)'
    assert 'its code has changed since it ran' in wrong(nb, made[1])


def test_artefacts_made_again_are_seen(nb, made, tmp_path):
    figures = tmp_path / 'figures' / 'smoke-synthetic'
    figures.mkdir(parents=True)
    for path in made[1].iterdir():
        (figures / path.name).write_bytes(path.read_bytes())
    sidecar = json.loads((figures / 'margin_stability.json').read_text(encoding='utf-8'))
    sidecar['artefacts']['margin_stability.png'] = '0' * 64
    (figures / 'margin_stability.json').write_text(json.dumps(sidecar), encoding='utf-8')
    assert 'the artefacts have been made again' in wrong(nb, figures)


def test_what_ran_with_other_code_is_not_taken(made, nb, tmp_path):
    executed = tmp_path / 'executed.ipynb'
    other = deepcopy(nb)
    answers.code_cells(other)[-1]['source'] = 'print(1)'
    executed.write_text(json.dumps(other), encoding='utf-8')
    with pytest.raises(answers.Wrong, match='its code is not what was run'):
        answers.taken(NAME, executed, made[1])


def test_what_does_not_belong_keeps_no_other_from_being_taken(smoke_study, made, tmp_path):
    runs, other = smoke_study / 'runs', '3_pose_retrieval'
    _, executed, figures = next(one for one in answers.executed_in(made[1], runs) if one[0] == NAME)
    left = answers.take([(other, executed, figures), (NAME, executed, figures)], tmp_path)
    assert [path.stem for path in tmp_path.iterdir()] == [NAME]
    assert len(left) == 1 and left[0].startswith(f'not taken: {other}: its code is not what was run')


def test_a_study_that_was_not_run_here_is_refused(tmp_path):
    (tmp_path / 'figures' / 'smoke-synthetic').mkdir(parents=True)
    done = taken(tmp_path, tmp_path)
    assert done.returncode == 1 and 'has no executed notebook under' in done.stderr


@pytest.mark.parametrize(
    ('saved', 'shown', 'same'),
    [
        ('89.1', '89.1', True),
        ('89.09', '89.1', True),
        ('134.2', '134.23', True),
        ('1300', '1300.0', True),
        ('89.1', '89.2', False),
        ('0.85', '0.84', False),
        ('joint', 'control', False),
        ('joint', '1', False),
    ],
)
def test_numbers_are_compared_as_far_as_they_are_written(saved, shown, same):
    assert answers.is_same(saved, shown) == same


def test_cells_that_span_rows_stand_in_each():
    page = '<table><tr><th rowspan="2">a</th><td>1</td></tr><tr><td>2</td></tr></table>'
    assert answers.Tables(page).rows == [['a', '1'], ['a', '2']]
