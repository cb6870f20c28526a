"""Guards of filming: people found by their motion, nothing half written, what was done is not done again, one message
for a full disk."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
from small_films import QUICK, SIZE, files_of, place, refused, shoot

import mvssl.sources.filming as filming
from mvssl.dataset import DatasetError, done_in
from mvssl.sources.decoding import probe
from mvssl.sources.videos import prepare


# ---- motion ----------------------------------------------------------------------------------------------------------


def test_the_figure_is_found_by_its_motion(walk, tmp_path):
    ds = prepare(walk / 'walk', tmp_path / 'out', **QUICK)
    assert ds.extra['boxes'] == 'found by motion' and ds.seen[:].all()
    middle = (ds.boxes[..., :2] + ds.boxes[..., 2:]) / 2
    true = np.array([place(t)[:2] for t in ds.table['time_s']])[:, None]
    assert np.median(np.linalg.norm(middle - true, axis=-1)) < 0.04 * SIZE[0]
    np.testing.assert_allclose(np.median(ds.boxes[..., 3] - ds.boxes[..., 1]), 1.2 * 0.55 * SIZE[1], rtol=0.25)


@pytest.mark.parametrize(
    'gop, held', [(15, 2**28), (9999, 2**28), (9999, 10**6)], ids=['key frames', 'all held back', 'a pass of its own']
)
def test_motion_however_the_background_is_made(long_walk, tmp_path, monkeypatch, gop, held):
    monkeypatch.setattr(filming, 'HELD_BYTES', held)
    video = probe(long_walk / f'gop{gop}' / 'cam0.mp4')
    assert (len(video.keys) > 20) == (gop == 15)
    read, most = [], []
    monkeypatch.setattr(
        filming,
        'median_background',
        lambda pictures, make=filming.median_background: read.append(len(pictures)) or make(pictures),
    )
    monkeypatch.setattr(filming, 'deque', lambda *args: most.append(Held(*args)) or most[-1])
    ds = prepare(
        long_walk / f'gop{gop}', tmp_path / 'out', **QUICK, turn={'cam0': 0, 'cam1': 0}
    )  # nobody need look how they stand
    true = np.array([place(t)[:2] for t in ds.table['time_s']])[:, None]
    assert np.median(np.linalg.norm((ds.boxes[..., :2] + ds.boxes[..., 2:]) / 2 - true, axis=-1)) < 0.04 * SIZE[0]
    assert ds.seen[:].all() and len(read) == 2 and all(20 <= n <= 25 for n in read)
    assert max(one.most for one in most) <= (
        120 if held == 2**28 and gop != 15 else 40
    )  # frames that wait; the first case is bounded by HELD_BYTES


class Held(list):
    "A deque that remembers how long it was."

    most = 0

    def append(self, item):
        super().append(item)
        self.most = max(self.most, len(self))

    def popleft(self):
        return self.pop(0)


def test_nobody_there(tmp_path):
    for view in (0, 1):
        shoot(tmp_path / 'in' / f'cam{view}.mp4', view=view, moves=view == 0)
    with pytest.raises(DatasetError, match=r'cam1.mp4, person: found in 0 of 20 instants.*--boxes'):
        prepare(tmp_path / 'in', tmp_path / 'out', **QUICK)
    assert not (tmp_path / 'out').exists()


# ---- disk, interruption, several processes ---------------------------------------------------------------------------


def test_several_processes_give_the_same_bytes(two, tmp_path):
    ds = prepare(two / 'in', tmp_path / 'out', **{**QUICK, 'workers': 2})
    assert files_of(ds.path) == files_of(two / 'whole')


@pytest.mark.parametrize('reader', ['videos', 'human36m', 'mpi_inf_3dhp'])
def test_what_every_decoding_worker_loads(reader):
    "Each process reads the module of its job anew: neither torch nor the renderer nor what draws is needed to decode."
    code = (
        f'import sys, mvssl.sources.{reader}\nprint(*sorted({{name.split(".")[0] for name in sys.modules}} | '
        f'{{name for name in sys.modules if name.startswith("mvssl.")}}))'
    )
    loaded = set(
        subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert f'mvssl.sources.{reader}' in loaded and 'numpy' in loaded
    heavy = {
        'torch',
        'torchvision',
        'matplotlib',
        'scipy',
        'sklearn',
        'mvssl.cameras',
        *(f'mvssl.sources.{name}' for name in ('synthetic', 'rendering', 'bodies', 'mocap')),
    }
    assert not heavy & loaded


def test_interrupted_and_started_again(two, tmp_path, monkeypatch):
    filmed, film = [], filming.film

    def film_or_fall(shot, target, tick):
        filmed.append(shot.source.path)
        if len(filmed) == 4:
            raise KeyboardInterrupt
        return film(shot, target, tick)

    monkeypatch.setattr(filming, 'film', film_or_fall)
    sheet = tmp_path / 'sheet.png'
    with pytest.raises(KeyboardInterrupt):
        prepare(two / 'in', tmp_path / 'out', **{**QUICK, 'sheet': sheet})
    assert not (tmp_path / 'out').exists() and not sheet.exists()
    kept = sorted(path.name for path in (tmp_path / 'out.partial' / 'filming').glob('1.*'))
    assert kept == ['1.0.npy', '1.frames']  # of the second sequence the first video, which is whole
    del filmed[:-2]
    monkeypatch.setattr(filming, 'film', lambda shot, *rest: filmed.append(shot.source.path) or film(shot, *rest))
    ds = prepare(two / 'in', tmp_path / 'out', **{**QUICK, 'sheet': sheet})
    assert [path.parent.name + ' ' + path.name for path in filmed[2:]] == ['walk cam1.mp4']  # nothing was filmed again
    assert files_of(ds.path) == files_of(two / 'whole') and sheet.exists()
    monkeypatch.setattr(filming, 'film', None)
    assert prepare(two / 'in', tmp_path / 'out', **QUICK).checksum == ds.checksum  # finished: opened


def test_killed_and_started_again(two, tmp_path):
    "SIGKILL while the second sequence is filmed."
    code = (
        'import os, signal, mvssl.sources.filming as f\nfrom mvssl.sources.videos import prepare\nfilm = f.film\n'
        """def killed(shot, target, tick):\n    if shot.source.path.parent.name == 'walk' and target.view == 1:
        os.kill(os.getpid(), signal.SIGKILL)\n    return film(shot, target, tick)\n"""
        f'f.film = killed\nprepare({str(two / "in")!r}, {str(tmp_path / "out")!r}, **{QUICK!r})'
    )
    assert subprocess.run([sys.executable, '-c', code], capture_output=True).returncode == -9
    assert (tmp_path / 'out.partial').exists()
    assert files_of(prepare(two / 'in', tmp_path / 'out', **QUICK).path) == files_of(two / 'whole')


def test_other_films_do_not_continue_a_store(two, tmp_path, monkeypatch):
    shutil.copytree(two / 'in', tmp_path / 'in')
    film = filming.film
    monkeypatch.setattr(
        filming,
        'film',
        lambda shot, target, tick: (
            (_ for _ in ()).throw(KeyboardInterrupt) if 'walk' in str(shot.source.path) else film(shot, target, tick)
        ),
    )
    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path / 'in', tmp_path / 'out', **QUICK)
    monkeypatch.undo()
    shoot(tmp_path / 'in' / 'walk' / 'cam1.mp4', view=9, n=36)
    with pytest.raises(DatasetError, match='extra'):
        prepare(tmp_path / 'in', tmp_path / 'out', **QUICK)


def test_a_finished_store_is_not_overwritten_unasked(two, tmp_path):
    shutil.copytree(two / 'whole', tmp_path / 'out')
    with pytest.raises(DatasetError, match='finished store'):
        prepare(two / 'in', tmp_path / 'out', **{**QUICK, 'side': 48})
    assert prepare(two / 'in', tmp_path / 'out', **{**QUICK, 'side': 48}, overwrite=True).side == 48


def free(n):
    return lambda path: shutil._ntuple_diskusage(10**9, 10**9 - n, n)


def test_a_disk_that_is_too_small(two, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, 'disk_usage', free(10**5))
    said = refused(two / 'in', out=tmp_path / 'out')
    assert 'GB are needed' in said and '--side' in said


def test_who_goes_on_needs_room_for_the_rest_alone(two, tmp_path, monkeypatch):
    "Of two sequences one is in the store: on a disk that has room for the other, and not for both, it goes on."
    per_take = 12 * 2 * 64 * 64 * 3

    def room(takes, done=()):
        return filming.needed_bytes([{('S1', name): 12} for name in takes], 2, 64, 1, {('S1', name) for name in done})

    assert (
        room(['sit', 'walk']) > room(['sit', 'walk'], ['sit']) >= 2 * per_take
        and room(['sit', 'walk'], ['sit', 'walk']) == 10**6
    )
    film = filming.film
    monkeypatch.setattr(
        filming,
        'film',
        lambda shot, target, tick: (
            (_ for _ in ()).throw(KeyboardInterrupt) if 'walk' in str(shot.source.path) else film(shot, target, tick)
        ),
    )
    big = {**QUICK, 'side': 64}
    with pytest.raises(KeyboardInterrupt):
        prepare(two / 'in', tmp_path / 'out', **big)
    assert done_in(tmp_path / 'out') == {('S1', 'sit')}
    monkeypatch.setattr(filming, 'film', film)
    monkeypatch.setattr(shutil, 'disk_usage', free(room(['sit', 'walk'], ['sit']) - 1))
    with pytest.raises(DatasetError, match='then run the same again: it continues') as caught:
        prepare(two / 'in', tmp_path / 'out', **big)
    assert '--side' not in str(caught.value)  # which would be refused: the store was begun with another
    monkeypatch.setattr(shutil, 'disk_usage', free(room(['sit', 'walk'], ['sit'])))
    assert len(prepare(two / 'in', tmp_path / 'out', **big)) == 24


@pytest.mark.skipif(sys.platform == 'win32', reason='Windows knows no limit of the size of files')
def test_a_disk_that_becomes_full(two, tmp_path):
    "Files may grow to 100 kB only: the error is a message, the rest continues."
    code = (
        'import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nfrom mvssl.sources.videos import '
        'prepare\nfrom mvssl.dataset import DatasetError\n'
        'resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))\n'
        f'try: prepare({str(two / "in")!r}, {str(tmp_path / "out")!r}, **{QUICK!r})\nexcept DatasetError as error: '
        f'print(error)'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert 'disk' in done.stdout and 'Make room' in done.stdout and not done.stderr, done.stdout + done.stderr
    assert not (tmp_path / 'out').exists()
    assert files_of(prepare(two / 'in', tmp_path / 'out', **QUICK).path) == files_of(two / 'whole')
