"""What `make quick` runs: on a made-up repository, and of this one for a change of the loss."""

import json
import re
import subprocess
import time
from pathlib import Path

import pytest

from touched import changed, main, touched

ROOT = Path(__file__).parents[1]


def notebook(*cells):
    return json.dumps(
        dict(
            cells=[
                dict(
                    cell_type='code',
                    source=cell.splitlines(keepends=True),
                    outputs=[],
                    metadata={},
                    execution_count=None,
                )
                for cell in cells
            ],
            metadata={},
            nbformat=4,
            nbformat_minor=5,
        )
    )


FILES = {
    'mvssl/__init__.py': '',
    'mvssl/ground.py': 'x = 1',
    'mvssl/loss.py': 'from .ground import x',
    'mvssl/train.py': 'def later():\n    from . import loss',
    'mvssl/sources/__init__.py': '',
    'mvssl/sources/film.py': 'import mvssl.ground',
    'nbs/00_ground.ipynb': notebook('#| default_exp ground'),
    'nbs/10_loss.ipynb': notebook('#| default_exp loss', 'from mvssl.ground import x\n%matplotlib inline', 'assert x'),
    'nbs/20_train.ipynb': notebook('#| default_exp train\n', 'from mvssl import loss'),
    'nbs/sources/11_film.ipynb': notebook('#| default_exp sources.film', 'import mvssl.ground'),
    'nbs/experiments/.notest': '',
    'nbs/experiments/one.ipynb': notebook('from mvssl.train import later'),
    'nbs/experiments/two_ways.ipynb': notebook('1'),
    'tests/conftest.py': '',
    'tests/rigs.py': 'from mvssl.sources.film import *',
    'tests/test_repository.py': "SETTINGS = 'settings.ini'",
    'tests/test_loss.py': 'from mvssl.loss import x',
    'tests/test_train.py': 'import rigs\nfrom mvssl import train',
    'tests/test_batch.py': "RUN = {'two_ways': 'one.ipynb'}",
    'settings.ini': '',
    'README.md': '',
}


def git(root, *words):
    subprocess.run(
        ['git', '-c', 'user.name=a', '-c', 'user.email=a@b.c', *words], cwd=root, check=True, capture_output=True
    )


@pytest.fixture
def repository(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    git(tmp_path, 'init', '-b', 'main')
    git(tmp_path, 'add', '.')
    git(tmp_path, 'commit', '-m', 'all')
    return tmp_path


# ---- what is changed -------------------------------------------------------------------------------------------------


def test_committed_staged_changed_new_moved_and_gone(repository):
    assert changed(repository) == set()
    git(repository, 'checkout', '-b', 'mine')
    (repository / 'mvssl' / 'loss.py').write_text('x = 2')
    git(repository, 'commit', '-a', '-m', 'loss')
    git(repository, 'checkout', 'main')
    (repository / 'README.md').write_text('others are not mine')
    git(repository, 'commit', '-a', '-m', 'readme')
    git(repository, 'checkout', 'mine')
    (repository / 'tests' / 'test_train.py').write_text('x = 3')
    (repository / 'tests' / 'test new ü.py').write_text('x = 4')
    git(repository, 'mv', 'tests/rigs.py', 'tests/stages.py')
    (repository / 'settings.ini').unlink()
    assert changed(repository) == {
        'mvssl/loss.py',
        'tests/test_train.py',
        'tests/test new ü.py',
        'tests/rigs.py',
        'tests/stages.py',
        'settings.ini',
    }
    assert (
        changed(repository, 'mine') == changed(repository, 'no such branch') == changed(repository) - {'mvssl/loss.py'}
    )


def test_without_git_it_says_what_to_do(tmp_path):
    with pytest.raises(SystemExit, match='no checkout of git.*make test'):
        changed(tmp_path)


# ---- what is touched -------------------------------------------------------------------------------------------------

ALL = {
    name for name in FILES if name.endswith('.ipynb') and 'experiments' not in name or name.startswith('tests/test_')
}


@pytest.mark.parametrize(
    'change, steps',
    [
        (
            'nbs/10_loss.ipynb',
            [
                ('tests/test_repository.py', 'nbs/10_loss.ipynb'),
                ('tests/test_loss.py', 'nbs/20_train.ipynb'),
                ('tests/test_train.py',),
                ('tests/test_batch.py',),
            ],
        ),
        (
            'mvssl/loss.py',
            [
                ('tests/test_repository.py',),
                ('tests/test_loss.py', 'nbs/20_train.ipynb'),
                ('tests/test_train.py',),
                ('tests/test_batch.py',),
            ],
        ),
        (
            'nbs/00_ground.ipynb',
            [
                ('tests/test_repository.py', 'nbs/00_ground.ipynb'),
                ('nbs/sources/11_film.ipynb',),
                ('tests/test_loss.py', 'nbs/20_train.ipynb'),
                ('tests/test_train.py',),
                ('tests/test_batch.py',),
            ],
        ),
        ('tests/rigs.py', [('tests/test_repository.py',), ('tests/test_train.py',)]),
        ('tests/test_loss.py', [('tests/test_loss.py', 'tests/test_repository.py')]),
        ('nbs/experiments/one.ipynb', [('tests/test_repository.py',), ('tests/test_batch.py',)]),
        ('nbs/experiments/two_ways.ipynb', [('tests/test_repository.py',), ('tests/test_batch.py',)]),
        ('settings.ini', [('tests/test_repository.py',)]),
        (
            'tests/conftest.py',
            [('tests/test_repository.py',), ('tests/test_batch.py', 'tests/test_loss.py', 'tests/test_train.py')],
        ),
    ],
)
def test_the_nearest_first_and_tests_before_notebooks(repository, change, steps):
    assert touched(repository, {change}) == {name: n for n, names in enumerate(steps) for name in names}
    assert list(touched(repository, {change})) == [name for names in steps for name in names]


def test_what_imported_a_file_that_is_gone(repository):
    (repository / 'mvssl' / 'loss.py').unlink()
    (repository / 'nbs' / '10_loss.ipynb').unlink()
    assert touched(repository, {'mvssl/loss.py', 'nbs/10_loss.ipynb'}) == {
        'tests/test_repository.py': 0,
        'tests/test_loss.py': 1,
        'nbs/20_train.ipynb': 1,
        'tests/test_train.py': 2,
        'tests/test_batch.py': 3,
    }


def test_nothing(repository, capsys):
    assert touched(repository, set()) == {}
    main([], repository)
    assert capsys.readouterr().out == 'Nothing is changed.\n'


def own(module):
    return (
        next(path for path in (ROOT / 'nbs').rglob('*.ipynb') if re.fullmatch(rf'\d+_{module}', path.stem))
        .relative_to(ROOT)
        .as_posix()
    )


def test_a_change_of_the_loss_of_this_repository():
    "Its own notebook and tests before those of what stands on it, and nothing of what it stands on."
    steps = touched(ROOT, {own('loss')})
    assert (
        steps[own('loss')] == 0
        and steps['tests/test_loss.py'] == steps[own('training')] == 1
        and steps['tests/test_training.py'] == 2
    )
    assert not {'tests/sources/test_motion.py', own('dataset')} & set(steps) and not any(
        name.startswith('nbs/experiments/') for name in steps
    )
    assert list(steps.values()) == sorted(steps.values())


def test_a_change_of_the_ground_of_this_repository():
    "Touches whoever uses a dataset, which stands on it."
    steps, users = (
        touched(ROOT, {own('skeleton')}),
        [
            path
            for path in (ROOT / 'tests').rglob('test_*.py')
            if '\nfrom mvssl.dataset import' in path.read_text(encoding='utf-8')
        ],
    )
    assert len(users) > 10 and {path.relative_to(ROOT).as_posix() for path in users} <= set(steps)


# ---- running it ------------------------------------------------------------------------------------------------------


def test_it_runs_what_is_touched_and_tells_what_failed(repository, capsys):
    (repository / 'mvssl' / 'loss.py').write_text('x = 2')
    (repository / 'tests' / 'test_repository.py').write_text('def test(): pass')
    (repository / 'tests' / 'test_loss.py').write_text('import mvssl.loss\ndef test(): assert 2 + 2 == 5')
    for name in ('tests/test_train.py', 'tests/test_batch.py'):
        (repository / name).unlink()
    for name in ('nbs/20_train.ipynb', 'nbs/10_loss.ipynb'):
        (repository / name).unlink()
    with pytest.raises(SystemExit) as end:
        main(['--workers', '1'], repository)
    assert end.value.code == 'failed: tests/test_loss.py'
    said = capsys.readouterr().out
    assert 's  tests/test_repository.py\n' in said and 'assert (2 + 2) == 5' in said and 'left' not in said


def test_what_does_not_end_in_time_is_stopped_and_the_rest_not_begun(repository, capsys):
    (repository / 'mvssl' / 'ground.py').write_text('x = 2')
    for name in ('tests/test_repository.py', 'nbs/sources/11_film.ipynb'):
        (repository / name).unlink()
    (repository / 'tests' / 'test_loss.py').write_text(f"""
import mvssl.loss, subprocess, sys, time
from pathlib import Path
def test():
    try: subprocess.run([sys.executable, '-c', 'import time; time.sleep(99)'])
    finally: Path({str(repository / 'stopped')!r}).touch()
""")
    began = time.monotonic()
    main(['--workers', '1', '--seconds', '15'], repository)
    said = capsys.readouterr().out
    assert time.monotonic() - began < 60 and (repository / 'stopped').exists(), 'as by Ctrl-C'
    assert 's  tests/test_loss.py: stopped\n' in said
    assert (
        said.splitlines()[-1] == 'Touched too, and left to `make test`: '
        'tests/test_loss.py nbs/20_train.ipynb tests/test_train.py tests/test_batch.py'
    )


def test_what_takes_long_comes_last_among_the_equally_near(repository):
    for name in ('test_training', 'test_utils'):
        (repository / 'tests' / f'{name}.py').write_text('import mvssl.loss')
    assert [name for name, n in touched(repository, {'mvssl/loss.py'}).items() if n == 1] == [
        'tests/test_loss.py',
        'tests/test_utils.py',
        'nbs/20_train.ipynb',
        'tests/test_training.py',
    ]


# ---- what tests share ------------------------------------------------------------------------------------------------


def test_it_is_made_once_and_again_only_if_that_failed(once):
    made = []

    def make(folder):
        made.append(folder)
        (folder / 'x').write_text(str(len(made)))
        if len(made) == 1:
            raise RuntimeError('stop')

    with pytest.raises(RuntimeError, match='stop'):
        once('of this test', make)
    assert once('of this test', make) == once('of this test', make) == made[1] and len(made) == 2
    assert [path.name for path in made[1].iterdir()] == ['x'] and (made[1] / 'x').read_text() == '2'
