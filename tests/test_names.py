"""What `import mvssl` offers: as described, imported when it is used, under old names too."""

import doctest
import inspect
import pydoc
import subprocess
import sys
from importlib import import_module

import pytest

import mvssl
from mvssl.names import HOME, MOVED


def test_help_begins_with_what_there_is():
    lines = mvssl.__doc__.strip().splitlines()
    assert len(lines) <= 22 and max(map(len, lines)) <= 120
    assert [name for name in HOME if name not in mvssl.__doc__] == []
    shown = pydoc.plain(pydoc.render_doc(mvssl))
    assert shown.index('ChunkPairSampler PairBatch') < shown.index('PACKAGE CONTENTS')


def test_every_name_is_the_one_at_home():
    assert sorted(HOME) == sorted(mvssl.__all__) and set(HOME) < set(dir(mvssl))
    for name, module in HOME.items():
        assert getattr(mvssl, name) is getattr(import_module(f'mvssl.{module}'), name)
    with pytest.raises(AttributeError, match="no attribute 'nothing_of_ours'"):
        mvssl.nothing_of_ours  # noqa: B018


EXAMPLES = doctest.DocTestParser()


def run(text, name, known):
    "Runs the examples in a text; the names that are known afterwards."
    test = EXAMPLES.get_doctest(text, dict(known), name, None, None)
    said = []
    doctest.DocTestRunner(verbose=False).run(test, out=said.append, clear_globs=False)
    assert said == [], ''.join(said)
    return test.globs


@pytest.fixture(scope='module')
def begun(tmp_path_factory):
    "The folder in which examples run and what they begin from, as the package's help says."
    folder = tmp_path_factory.mktemp('examples')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return folder, run(mvssl.__doc__, 'mvssl', {})


@pytest.mark.parametrize('name', [name for name in HOME if callable(getattr(mvssl, name))])
def test_every_public_class_and_function_has_an_example_that_runs(name, begun, monkeypatch):
    text = inspect.getdoc(getattr(mvssl, name))
    lines = [line for one in EXAMPLES.get_examples(text) for line in one.source.splitlines()]
    assert 1 <= len(lines) <= 5
    monkeypatch.chdir(begun[0])
    run(text, name, begun[1])


def test_an_example_that_says_something_else_would_be_seen():
    with pytest.raises(AssertionError, match='Got:\n +3'):
        run('>>> 1 + 2\n4', 'wrong', {})


@pytest.mark.parametrize('old', MOVED)
def test_a_module_that_has_moved_is_one_module(old):
    "Whichever name is imported first."
    code = f"""
import sys
from importlib import import_module
old, new = (import_module('mvssl.' + name) for name in ({old!r}, {MOVED[old]!r}))
assert old is new and old.__spec__.name == 'mvssl.' + {MOVED[old]!r}
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
