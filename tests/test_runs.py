"""Runs under kills, second processes and damage; sidecars that say the truth."""

import errno
import hashlib
import json
import signal
import subprocess
import sys
import time

from matplotlib.figure import Figure
import numpy as np
import pandas as pd
import pytest

from mvssl import runs
from mvssl.refusal import Refusal
from mvssl.runs import (
    as_json,
    as_markdown,
    is_whole,
    open_run,
    provenance,
    save_figure,
    save_table,
    write_json,
    write_whole,
)

CONFIG = dict(margin=0.6, seed=0)


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    write_whole(tmp_path / 'x', b'old')
    monkeypatch.setattr(runs.os, 'fsync', lambda file: (_ for _ in ()).throw(OSError('disk full')))
    with pytest.raises(
        Refusal, match='x, disk: disk full. Make room on the disk of .*, or mend it, then run the same again.'
    ):
        write_whole(tmp_path / 'x', b'new and longer')
    assert (tmp_path / 'x').read_bytes() == b'old' and [file.name for file in tmp_path.iterdir()] == ['x'], (
        'nor half of the new one'
    )


@pytest.mark.parametrize(
    'value, expected',
    [
        (float('nan'), None),
        (float('-inf'), None),
        (np.float32(0.5), 0.5),
        (np.arange(3), [0, 1, 2]),
        ({'b', 'a'}, ['a', 'b']),
        ({1: (True, None)}, {'1': [True, None]}),
        (np.array([1.0, np.nan]), [1.0, None]),
    ],
)
def test_values_as_json(value, expected):
    assert as_json(value) == expected
    assert json.loads(json.dumps(as_json(value), allow_nan=False)) == expected


def test_values_that_json_has_not():
    with pytest.raises(ValueError, match='got object'):
        as_json([object()])


WRITER = """
import sys
from mvssl.runs import open_run, write_json
run = open_run(sys.argv[1], dict(margin=.6, seed=0), resume=True)
print('open', flush=True)
step = len(run.records)
while True:
    run.log(step=step, text='x'*1000)
    write_json(run.path/'state.json', dict(step=step, text='x'*20000))
    step += 1
"""


def test_a_kill_leaves_whole_files_and_lets_go(tmp_path):
    path = tmp_path / 'run'
    for pause in (0.05, 0.11, 0.17):
        writer = subprocess.Popen([sys.executable, '-c', WRITER, path], stdout=subprocess.PIPE)
        assert writer.stdout.readline() == b'open\n'
        time.sleep(pause)
        with pytest.raises(ValueError, match='another process is writing'):
            open_run(path, CONFIG, resume=True)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        if (path / 'state.json').exists():
            assert len(json.loads((path / 'state.json').read_text())['text']) == 20000
        with open_run(path, CONFIG, resume=True) as run:
            assert all(len(record['text']) == 1000 for record in run.records) and run.metrics is None
            run.rewind(3)
            assert [record['step'] for record in run.records] == list(range(len(run.records)))
    assert len(json.loads((path / 'provenance.json').read_text())) == 6


def test_whoever_may_look_at_a_run_sees_that_it_is_written(tmp_path):
    "Also where the lock is another's, and nothing is made by asking."
    assert not runs.is_held(tmp_path) and not list(tmp_path.iterdir())
    for mode, of_lock in ((0o755, 0o666), (0o750, 0o660), (0o700, 0o600)):
        tmp_path.chmod(mode)
        with runs.hold(tmp_path):
            assert (tmp_path / '.lock').stat().st_mode & 0o777 == of_lock, 'whoever reads the folder may ask'
        (tmp_path / '.lock').unlink()
    with runs.hold(tmp_path):
        code = 'import sys; from mvssl.runs import is_held; print(is_held(sys.argv[1]))'
        asked = subprocess.run([sys.executable, '-c', code, tmp_path], capture_output=True, text=True)
        assert asked.stdout == 'True\n', asked.stderr
        assert runs.is_held(tmp_path)
    assert not runs.is_held(tmp_path)


def test_a_disk_without_locks_is_written_all_the_same(tmp_path, monkeypatch):
    "Some clusters mount theirs so: nothing guards a run there. What else the system says is a refusal."
    said = [errno.ENOLCK]

    def acquire(lock, *given, **named):
        raise OSError(said[0], 'from a test')

    monkeypatch.setattr(runs.FileLock, 'acquire', acquire)
    with open_run(tmp_path / 'run', CONFIG) as run:
        (run.path / '.lock').touch()
        assert not runs.is_held(run.path)
        run.finish({})
    said[0] = errno.EACCES
    with pytest.raises(Refusal, match=r'\.lock, file: may not be written'):
        open_run(tmp_path / 'other', CONFIG)


def test_a_folder_whose_beginning_was_killed_is_begun_again(tmp_path):
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / '.provenance.json.partial').write_text('[{')
    with open_run(tmp_path / 'run', CONFIG) as run:
        run.finish({})
    assert json.loads((tmp_path / 'run' / 'config.json').read_text()) == CONFIG


def test_refusals_change_nothing(tmp_path):
    with open_run(tmp_path / 'run', CONFIG, dict(dataset='aa')) as run:
        run.log(step=0)
    before = {file.name: file.read_bytes() for file in run.path.iterdir()}
    for kwargs, message in (
        (dict(config=CONFIG), 'a run that was begun: resume it'),
        (dict(config=CONFIG | dict(beta=0.3), resume=True), 'beta was None and is 0.3'),
        (dict(config=CONFIG, inputs=dict(dataset='bb'), resume=True), "dataset was 'aa' and is 'bb'"),
    ):
        with pytest.raises(ValueError, match=message):
            open_run(tmp_path / 'run', **kwargs)
    assert {file.name: file.read_bytes() for file in run.path.iterdir()} == before
    (tmp_path / 'photos').mkdir()
    (tmp_path / 'photos' / 'a.jpg').write_bytes(b'x')
    for path, message in (
        (tmp_path / 'photos', 'which is something else'),
        (tmp_path / 'photos' / 'a.jpg', 'a.jpg, file: is a file, and a folder is wanted there'),
    ):
        with pytest.raises(Refusal, match=message):
            open_run(path, CONFIG)
    (run.path / 'config.json').write_text('{"mar')
    with pytest.raises(ValueError, match='config.json is damaged'):
        open_run(run.path, CONFIG, dict(dataset='aa'), resume=True)


def test_time_is_that_of_all_parts(tmp_path):
    with open_run(tmp_path / 'run', CONFIG) as run:
        run._began -= 100
        run.log(step=0)
        run._began -= 100
        run.log(step=1)
    with open_run(tmp_path / 'run', CONFIG, resume=True) as run:
        assert 200 <= run.seconds < 210
        run.rewind(0)
        assert 100 <= run.seconds < 110


def test_a_finished_run_is_left_as_it_is(tmp_path):
    with open_run(tmp_path / 'run', CONFIG) as run:
        run.finish(dict(mpjpe_mm=np.float32(80.5)))
    before = (run.path / 'provenance.json').read_bytes()
    with open_run(tmp_path / 'run', CONFIG, resume=True) as run:
        assert run.metrics == dict(mpjpe_mm=80.5)
    assert (run.path / 'provenance.json').read_bytes() == before


def test_provenance_names_the_commit_only_of_its_own_checkout(tmp_path, monkeypatch):
    git = lambda *words: subprocess.run(
        ['git', '-c', 'user.name=a', '-c', 'user.email=a@b.c', *words],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    git('init')
    module = tmp_path / 'runs.py'
    module.write_text('x')
    monkeypatch.setitem(runs._checkout.__globals__, '__file__', str(module))
    assert provenance()['commit'] is None, 'installed into a checkout of something else'
    git('add', 'runs.py')
    git('commit', '-m', 'x')
    assert (provenance()['commit'], provenance()['clean']) == (git('rev-parse', 'HEAD'), True)
    module.write_text('y')
    assert provenance()['clean'] is False
    monkeypatch.setenv('PATH', '')
    assert provenance()['commit'] is None


def test_sidecars(tmp_path):
    figure = Figure(figsize=(1, 1))
    figure.subplots().plot([0, 1])
    with open_run(tmp_path / 'run', CONFIG, dict(dataset='aa'), source='x.ipynb', figures=tmp_path / 'figures') as run:
        picture, table = (
            save_figure(figure, 'fig', run, note='a line'),
            save_table(pd.DataFrame(dict(a=[1])), 'table', run, folder=tmp_path / 'other', index=False),
        )
    assert (
        picture == tmp_path / 'figures' / 'fig.png'
        and table == tmp_path / 'other' / 'table.csv'
        and table.read_text() == 'a\n1\n'
    )
    for path, note in ((picture, 'a line'), (table, '')):
        sidecar = json.loads(path.with_suffix('.json').read_text())
        assert (
            sidecar['artefacts'][path.name] == hashlib.sha256(path.read_bytes()).hexdigest()
            and len(sidecar['artefacts']) == 2
            and sidecar['note'] == note
        )
        assert (
            sidecar['config'] == CONFIG
            and sidecar['inputs'] == dict(dataset='aa')
            and sidecar['source'] == 'x.ipynb'
            and sidecar['run'] == 'run'
        )
        assert {'commit', 'clean', 'versions', 'device', 'started', 'seconds', 'sittings'} <= set(sidecar)
        assert str(tmp_path) not in path.with_suffix('.json').read_text()
    with pytest.raises(ValueError, match='name must be'):
        save_figure(figure, '../fig', run)


def test_a_sidecar_belongs_to_one_run(tmp_path):
    "What another run said under the name is not mixed with what this one says."
    claim = dict(title='a', paper='b', ours='c', verdict='not', why='d')
    for name, numbers in (('old', dict(a=1)), ('new', dict(b=2))):
        with open_run(tmp_path / name, CONFIG, figures=tmp_path / 'figures') as run:
            save_table(pd.DataFrame(dict(a=[1])), 'x', run, results=numbers, claim=claim if name == 'old' else None)
            run.finish({})
    sidecar = json.loads((tmp_path / 'figures' / 'x.json').read_text())
    assert (sidecar['run'], sidecar['results'], sidecar['claim']) == ('new', dict(b=2), None)
    assert is_whole(tmp_path / 'new') and not is_whole(tmp_path / 'old'), 'replaced by the new run'


def test_nothing_is_written_that_json_or_a_claim_refuses(tmp_path):
    with open_run(tmp_path / 'run', CONFIG) as run:
        for wrong in (
            dict(results=dict(a=object())),
            dict(claim=dict(title='a')),
            dict(formats=()),
            dict(formats=('csv', 'xls')),
        ):
            with pytest.raises(ValueError):
                save_table(pd.DataFrame(dict(a=[1])), 'x', run, **wrong)
        assert not list(run.path.glob('x.*'))


@pytest.mark.parametrize('missing', ['figures/x.csv', 'figures/x.json', 'run/metrics.json'])
def test_a_run_is_whole_only_with_all_its_files(tmp_path, missing):
    with open_run(tmp_path / 'run', CONFIG, figures=tmp_path / 'figures') as run:
        save_table(pd.DataFrame(dict(a=[1])), 'x', run)
        run.finish({})
    assert is_whole(run.path)
    (tmp_path / missing).unlink()
    assert not is_whole(run.path)


def test_tables_as_markdown():
    table = pd.DataFrame(
        dict(n=[1, 2], mm=[123.456, np.nan], text=['a|b', 'c\nd']), index=pd.Index(['x', 'y'], name='arm')
    )
    assert as_markdown(table).splitlines() == [
        '| arm | n | mm | text |',
        '| --- | ---: | ---: | --- |',
        '| x | 1 | 123.5 | a\\|b |',
        '| y | 2 |  | c d |',
    ]


def test_a_batch_may_have_written_beside_a_run_before_it_began(tmp_path):
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'executed.ipynb').write_text('{}')
    with open_run(tmp_path / 'run', CONFIG) as run:
        assert run.config == CONFIG
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other' / 'thesis.tex').write_text('')
    with pytest.raises(ValueError, match='something else'):
        open_run(tmp_path / 'other', CONFIG)


def test_json_files_end_in_a_line_break_and_are_readable(tmp_path):
    write_json(tmp_path / 'x.json', dict(a=[1, float('nan')]))
    assert (tmp_path / 'x.json').read_text() == '{\n "a": [\n  1,\n  null\n ]\n}\n'
