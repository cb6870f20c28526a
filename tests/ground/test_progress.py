"""What long jobs show in a terminal of 80 columns, in a file and in a notebook, and what a signal does to them."""

import fcntl
import io
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from mvssl.ground import progress
from mvssl.ground.progress import Progress, counted, duration, fitted, in_columns, stoppable, watched

LONG = 'a-store-with-a-name-that-is-much-longer-than-it-need-be'


def in_terminal(code, columns=80):
    "What a Python that runs this code writes to a terminal: the states of its lines, without colours and movements."
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack('HHHH', 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ('COLUMNS', 'LINES')}
    running = subprocess.Popen([sys.executable, '-c', code], stdin=child, stdout=child, stderr=child, env=environment)
    os.close(child)
    written = b''
    while True:
        try:
            some = os.read(parent, 65536)
        except OSError:
            break  # Linux says so at the end
        if not some:
            break
        written += some
    os.close(parent)
    assert running.wait() == 0, written.decode()
    return [
        line for line in re.split(r'[\r\n]+', re.sub(r'\x1b\[[0-9;]*[A-Za-z]', '', written.decode())) if line.strip()
    ]


JOB = """
import time
from mvssl.ground.progress import Progress
with Progress(4000, {what!r}, 'step') as bar:
    for step in range(40):
        time.sleep(.02)
        bar.note(*'412 images/s|val 98.2 mm|pose 0.178|pairs 0.412|d+ 0.41|d- 0.98|recall 34%|too much'.split('|'))
        bar.update(100)
"""


@pytest.mark.parametrize('what, columns', [('joint', 80), (LONG, 80), ('joint', 60)])
def test_a_bar_fits_the_terminal(what, columns):
    lines = in_terminal(JOB.format(what=what), columns)
    assert max(map(len, lines)) < columns, 'one more, and some terminals break the line'
    assert all('%|' in line and line.startswith(what[:28]) for line in lines)
    assert (
        re.search(r'\d,\d00 of 4,000 steps, \d+ s left', lines[1])
        and '100%' in lines[-1]
        and re.search(r'4,000 steps in \d+ s', lines[-1])
    )


def test_bars_of_several_jobs_fit_too():
    lines = in_terminal(f"""
from mvssl.ground.progress import Board
board = Board()
for done in (.2, .5):
    first = ({LONG!r}, done, ['220 of 1,100', '412 images/s', '2 min left', 'more', 'and more'])
    board.show([first, ('joint-100-s0', done/2, ['110 of 1,100'])])
board.show([('joint-100-s0', 1, ['1,100 of 1,100'])])
board.close()
""")
    assert (
        max(map(len, lines)) < 80
        and any('joint-100-s0  25%|' in line for line in lines)
        and any(LONG[:28] in line and '220 of 1,100, 412 images/s' in line for line in lines)
    )


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def lines_of(seconds_per_step, steps, before=0, unit='step', fails=False):
    "What a job leaves in a file, on a clock that jumps."
    log, clock = io.StringIO(), Clock()
    try:
        with Progress(steps, 'joint', unit, before, log, clock=clock) as job:
            for _ in range(before, steps):
                clock.now += seconds_per_step
                job.note('412 images/s', 'x' * 60)
                job.update()
                if fails:
                    raise OSError
    except OSError:
        pass
    return log.getvalue().splitlines()


def test_a_file_gets_at_least_a_line_a_minute():
    lines = lines_of(1, 400)
    at = [int(line.split()[1]) for line in lines[:-1]]  # a step a second
    assert (
        at[0] <= 15
        and max(b - a for a, b in zip(at, at[1:])) <= 60
        and lines[-1] == 'joint: 400 steps in 7 min, 412 images/s'
    )
    assert lines[0] == 'joint: 10 of 400 steps, 6 min left, 412 images/s' and max(map(len, lines)) <= 80


def test_a_slow_step_is_told_at_once_and_a_quick_job_never():
    assert [line.split(',')[0] for line in lines_of(90, 3)] == [
        'joint: 1 of 3 steps',
        'joint: 2 of 3 steps',
        'joint: 3 steps in 4 min',
    ]
    assert lines_of(0.01, 500) == []
    assert len(lines_of(20, 3, fails=True)) == 1, 'what did not end is not said to have ended'


def test_what_was_done_before_does_not_count_for_the_pace():
    assert lines_of(10, 100, before=90)[0].startswith('joint: 91 of 100 steps, 90 s left')


def test_bytes_and_images_have_a_pace():
    assert lines_of(10, 100, unit='image')[0].startswith('joint: 1 of 100 images, 16 min left, 0 images/s')
    assert counted(1, 'image') == '1 image' and counted(25_000_000, 'B') == '25 MB'
    assert duration(float('nan')) == 'unknown time' and duration(7200) == '2.0 h'


def test_nothing_is_shown_where_nobody_asked(capsys):
    assert list(watched(range(3), 'job', show=False)) == [0, 1, 2]
    with Progress(3, 'job', show=False, clock=Clock()) as job:
        job.update(3)
    assert capsys.readouterr() == ('', '')


def test_lists_in_columns():
    names = [f'joint-{n}-s{seed}' for n in (100, 10, 2) for seed in range(5)]
    lines = in_columns(names, 80, indent=10)
    assert (
        max(map(len, lines)) <= 80
        and ' '.join(lines).split() == names
        and len({line.find('joint', 12) for line in lines if len(line.split()) > 1}) == 1
    )
    assert in_columns([LONG * 2], 80) == [LONG * 2], 'a name is never cut'
    assert fitted(['a' * 81, 'b'], 80) == 'b'


def test_in_a_notebook_one_output_changes(tmp_path):
    "A real kernel, as JupyterLab and papermill have it; the clock jumps five seconds a step."
    from nbclient import NotebookClient

    code = """
class Clock:
    now = 0
    def __call__(self): return self.now
from mvssl.ground.progress import Progress
clock = Clock()
with Progress(10, 'joint', 'step', clock=clock) as job:
    for _ in range(10):
        clock.now += 5
        job.update()
with Progress(10, 'quick', 'step', clock=clock) as job: job.update(10)
with Progress(10, 'within', 'step', leave=False, clock=clock) as job:
    clock.now += 5
    job.update()
"""
    nb = new_notebook(cells=[new_code_cell(code)])
    NotebookClient(nb, kernel_name='python3').execute()
    nbformat.validate(nb)
    shown = [out for out in nb.cells[0].outputs if out.output_type == 'display_data']
    assert [out.data['text/plain'] for out in shown] == [
        'joint: 10 steps in 50 s',
        '',
    ] and '<progress max="1" value="1.000">' in shown[0].data['text/html']
    assert not [out for out in nb.cells[0].outputs if out.output_type == 'stream']


# ---- stopping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_ends(number):
    asked, before = [], signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        with stoppable(lambda: asked.append(1)) as stop:
            assert not stop
            os.kill(os.getpid(), number)
            assert stop and asked == [1]
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) == before


def test_handlers_of_others_and_other_threads_are_left_alone():
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *args: heard.append(1))
    try:
        with stoppable() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            assert not stop and heard == [1]
    finally:
        signal.signal(signal.SIGTERM, before)
    found = []

    def elsewhere():
        with stoppable() as stop:
            found.append(bool(stop))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found == [False]
    with stoppable(only_if=False), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_where_things_are_shown(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    kinds = lambda show: [type(painter).__name__ for painter in progress._painters(show)]
    monkeypatch.setattr(sys, 'stderr', io.StringIO())
    assert (kinds(True), kinds(io.StringIO()), kinds(False)) == (['_InFile'], ['_InFile'], [])
    monkeypatch.setattr(sys, 'stderr', Terminal())
    assert (kinds(True), kinds(io.StringIO())) == (['_InTerminal'], ['_InTerminal', '_InFile']), (
        'mvssl train > log: a bar, and lines in the log'
    )
