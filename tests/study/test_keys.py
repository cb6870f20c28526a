"""Keys: results are stale when code, configuration or data have changed, and only then."""

import re
import shutil
from pathlib import Path

import nbformat
import pytest
from experiments_fixture import EXPERIMENTS, analysis
from nbformat.v4 import new_code_cell

from mvssl.study import keys
from mvssl.study.batch import Study
from mvssl.study.keys import OF_NO_TRAINING, code_key
from mvssl.study.profiles import NEEDS
from mvssl.study.reproduce import reproduce

ROOT = Path(__file__).parents[2]


@pytest.fixture
def copy(tmp_path, monkeypatch):
    "A copy of the library that a key is computed of, and a notebook that uses its training."
    shutil.copytree(ROOT / 'mvssl', tmp_path / 'mvssl', ignore=shutil.ignore_patterns('__pycache__'))
    monkeypatch.setattr(keys, '_HOME', tmp_path / 'mvssl')
    nb = nbformat.v4.new_notebook(
        cells=[
            new_code_cell('seed: int = 0', metadata=dict(tags=['parameters'])),
            new_code_cell('from mvssl.training import train\nfrom mvssl.study.reproduce import Batch'),
        ]
    )
    nbformat.write(nb, tmp_path / 'x.ipynb')
    return tmp_path


def change(path, old, new):
    text = path.read_text(encoding='utf-8')
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding='utf-8')


@pytest.mark.parametrize(
    'file, old, new, matters',
    [
        ('loss.py', 'import', '# a remark\nimport', False),
        ('loss.py', '"""', '"""Better said. ', False),
        ('loss.py', 'def pose_loss(', 'FACTOR = 2\n\n\ndef pose_loss(', True),  # which training imports
        ('skeleton.py', 'JOINTS =', 'JOINTS = ()\nJOINTS =', True),  # which evaluation imports, which training imports
        ('show/plots.py', 'import', 'x = 1\nimport', False),  # which it does not use
        (
            'study/reproduce.py',
            'import',
            'x = 1\nimport',
            False,
        ),  # what this decides stands in the configuration and the inputs
        ('study/paper.py', '111.9', '111.8', False),  # which this notebook does not show
        ('study/batch.py', '# %%', 'x = 1\n# %%', False),
        ('study/profiles.py', '# %%', 'x = 1\n# %%', False),
        ('ground/progress.py', '# %%', 'x = 1\n# %%', False),
        ('../x.ipynb', 'import train', 'import train, embed', True),
        ('../x.ipynb', 'seed: int = 0', 'seed: int = 1', False),  # its value stands in the configuration
    ],
)
def test_keys_change_with_code_and_not_with_words(copy, file, old, new, matters):
    before = code_key(copy / 'x.ipynb')
    change(copy / 'mvssl' / file, old, new)
    assert (code_key(copy / 'x.ipynb') != before) == matters


@pytest.mark.parametrize(
    'file, matters',
    [('study/errors.py', True), ('evaluation.py', True), ('show/plots.py', False), ('runs.py', False)],
)
def test_a_training_hangs_on_its_table_of_errors_and_not_on_drawings(copy, file, matters):
    before = code_key(EXPERIMENTS / 'train.ipynb', OF_NO_TRAINING)
    with open(copy / 'mvssl' / file, 'a', encoding='utf-8') as code:
        code.write('x = 1\n')
    assert (code_key(EXPERIMENTS / 'train.ipynb', OF_NO_TRAINING) != before) == matters


@pytest.mark.parametrize('notebook', sorted(EXPERIMENTS.glob('*.ipynb')), ids=lambda path: path.stem)
def test_what_an_experiment_imports_is_looked_at_where_it_is(notebook):
    "A module that was moved can be imported by its old name; its code would not be found by that name."
    nb = nbformat.read(notebook, as_version=4)
    code = '\n'.join(cell.source for cell in nb.cells if cell.cell_type == 'code' and 'mvssl' in cell.source)
    found = set(re.findall(r'^\s*from mvssl\.([\w.]+) import', code, re.M))
    assert found and [name for name in found if not (ROOT / 'mvssl' / f"{name.replace('.', '/')}.py").exists()] == []


ANALYSES = sorted(path for path in EXPERIMENTS.glob('*.ipynb') if path.stem in NEEDS)


@pytest.mark.parametrize('notebook', ANALYSES, ids=lambda path: path.stem)
def test_a_corrected_number_of_the_paper_makes_every_analysis_stale(copy, notebook):
    "Each shows one: in its claim, in its table."
    assert len(ANALYSES) == len(NEEDS)
    before, training = code_key(notebook), code_key(EXPERIMENTS / 'train.ipynb')
    change(copy / 'mvssl/study/paper.py', 'first_mm=111.9', 'first_mm=112.9')
    assert code_key(notebook) != before and code_key(EXPERIMENTS / 'train.ipynb') == training


def test_what_shows_no_number_of_the_paper_is_not_run_again(root, copy, made_up):
    "Both were run; a number is corrected; only what shows one is to be run again."
    analysis(made_up, '4_embedding_space', 'from mvssl.study.paper import PAPER')
    analysis(made_up, '1_selection_of_negatives')
    names = ('1_selection_of_negatives', '4_embedding_space')
    assert set(names) <= set(reproduce('smoke', out=root, only=names, say=lambda text: None, foresee=False).done)
    is_done = lambda: [Study('smoke', out=root).analysis(name).is_done for name in names]
    assert is_done() == [True, True]
    change(copy / 'mvssl/study/paper.py', 'first_mm=111.9', 'first_mm=112.9')
    assert is_done() == [True, False]
