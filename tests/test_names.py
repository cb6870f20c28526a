"""What `import mvssl` offers: as described, imported when it is used, under old names too."""

import pydoc
import subprocess
import sys
from importlib import import_module

import pytest

import mvssl
from mvssl.names import HOME, MOVED


def test_help_begins_with_what_there_is():
    lines = mvssl.__doc__.strip().splitlines()
    assert len(lines) <= 16 and max(map(len, lines)) <= 120
    assert [name for name in HOME if name not in mvssl.__doc__] == []
    shown = pydoc.plain(pydoc.render_doc(mvssl))
    assert shown.index('ChunkPairSampler PairBatch') < shown.index('PACKAGE CONTENTS')


def test_every_name_is_the_one_at_home():
    assert sorted(HOME) == sorted(mvssl.__all__) and set(HOME) < set(dir(mvssl))
    for name, module in HOME.items():
        assert getattr(mvssl, name) is getattr(import_module(f'mvssl.{module}'), name)
    with pytest.raises(AttributeError, match="no attribute 'nothing_of_ours'"):
        mvssl.nothing_of_ours  # noqa: B018


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
