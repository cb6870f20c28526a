"""Guards of the synthetic rigs: the same bytes always, known geometry, and nothing stored that no camera gives."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from mvssl.cameras import project
from mvssl.dataset import DatasetError
from mvssl.skeleton import canonicalise, mirror
from mvssl.sources.motion import ACTIONS
from mvssl.sources.synthetic import (
    ORDER,
    RIGS,
    SHORTEST,
    Studio,
    Take,
    make_dataset,
    plan,
    stream,
    take_motion,
    with_unlabelled,
)

SMALL = dict(subjects=('S1', 'S9', 'U01'), instants=72, side=32, progress=False)


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp('synthetic') / 'studio', **SMALL)


def files_of(path):
    return {f.name: f.read_bytes() for f in path.iterdir()}


def test_shape_and_validity(small):
    assert small.validate() is None
    assert small.frames.shape == (72, 4, 32, 32, 3) and small.hz == 10 and small.stride == 5
    assert small.seen.all() and small.frames[:].std() > 20
    assert {f.name for f in small.path.iterdir()} == {
        'dataset.json',
        'frames.npy',
        'seen.npy',
        'instants.csv',
        'poses.npy',
        'boxes.npy',
        'cameras.npz',
    }
    facts = json.loads((small.path / 'dataset.json').read_text())
    assert facts['extra']['synthetic'] and facts['extra']['stands_for'] == 'Human3.6M' and 'synthetic' in facts['name']


@pytest.mark.parametrize('workers', [1, 2, 3])
def test_same_seed_same_bytes(small, tmp_path, workers):
    again = make_dataset(tmp_path / 'again', **SMALL, workers=workers)
    assert files_of(again.path) == files_of(small.path)


def test_another_seed_is_another_dataset(small, tmp_path):
    other = make_dataset(tmp_path / 'other', **{**SMALL, 'seed': 1})
    assert other.checksum != small.checksum


def test_a_subject_does_not_depend_on_the_others(small, tmp_path):
    alone = make_dataset(tmp_path / 'alone', subjects=('S9',), instants=24, side=32, progress=False)
    np.testing.assert_array_equal(alone.frames[:], small.where(subject='S9').frames[:])
    np.testing.assert_array_equal(alone.poses[:], small.where(subject='S9').poses[:])


def test_killed_and_called_again_gives_the_same_bytes(small, tmp_path):
    "SIGKILL at several moments of making, then once more to the end."
    target = tmp_path / 'killed'
    code = f"from mvssl.sources.synthetic import make_dataset; make_dataset({str(target)!r}, **{SMALL!r})"
    partial, sequences = tmp_path / 'killed.partial', 0
    for at_least in (1, 4):
        process = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            if (
                partial.exists()
                and sum(f.stat().st_size for f in partial.iterdir()) > at_least * SHORTEST * 4 * 32 * 32 * 3
            ):
                break
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not target.exists() and partial.exists(), 'killed too late to test anything'
        sequences = max(sequences, sum(f.stat().st_size for f in partial.iterdir()))
    assert sequences > 0
    assert files_of(make_dataset(target, **SMALL).path) == files_of(small.path)
    assert not partial.exists()


def test_another_setting_does_not_continue(tmp_path):
    with pytest.raises(Exception, match='stop'):
        studio_film, calls = Studio.film, []

        def stop_at_second(self, take):
            calls.append(take)
            if len(calls) > 1:
                raise RuntimeError('stop')
            return studio_film(self, take)

        try:
            Studio.film = stop_at_second
            make_dataset(tmp_path / 'half', **SMALL, workers=1)
        finally:
            Studio.film = studio_film
    with pytest.raises(DatasetError, match='side'):
        make_dataset(tmp_path / 'half', **{**SMALL, 'side': 48})
    assert len(make_dataset(tmp_path / 'half', **SMALL)) == 72


@pytest.mark.parametrize('rig', RIGS)
@pytest.mark.parametrize('perspective', [False, True])
def test_poses_cameras_and_boxes_agree(tmp_path, rig, perspective):
    ds = make_dataset(
        tmp_path / 'x', rig=rig, subjects=('S1',), instants=16, side=32, perspective=perspective, progress=False
    )
    for i in range(len(ds)):
        pixels = project(torch.tensor(ds.poses[i])[None].double(), RIGS[rig].cameras).numpy()
        boxes = ds.boxes[i]
        assert ((pixels > boxes[:, None, :2]) & (pixels < boxes[:, None, 2:])).all()
    with np.load(ds.path / 'cameras.npz') as cameras:
        for name in ('K', 'R', 't'):
            assert any(
                np.allclose(
                    array.reshape(-1, *getattr(RIGS[rig].cameras, name).shape)[0], getattr(RIGS[rig].cameras, name)
                )
                for array in cameras.values()
            )


def test_unlabelled_people_have_no_poses_unless_asked(small, tmp_path):
    assert np.isnan(small.where(subject='U01').poses[:]).all()
    told = make_dataset(tmp_path / 'all', **SMALL, labels='all')
    assert not np.isnan(told.poses[:]).any()
    np.testing.assert_array_equal(told.frames[:], small.frames[:])
    assert with_unlabelled('stage', 2)[-2:] == ('U01', 'U02') and len(with_unlabelled('studio', 120)[-1]) == 4


def test_rigs_have_people_and_rooms_of_their_own():
    studios = [Studio(rig, 16) for rig in RIGS.values()]
    (body_a, _, _), (body_b, _, _) = (studio.person('S1') for studio in studios)
    assert body_a != body_b and studios[0].backdrop.room != studios[1].backdrop.room
    bodies = [studios[0].person(s)[0] for s in RIGS['studio'].subjects]
    assert len({body.look for body in bodies}) == len(bodies) and len({body.proportions for body in bodies}) == len(
        bodies
    )


def test_one_trial_of_two_is_mirrored():
    style = Studio(RIGS['studio'], 16).person('S1')[1]
    motions = [take_motion(0, 'studio', Take('S1', 'Phoning', trial, 20), style) for trial in (1, 2)]
    assert sorted(m.mirrored for m in motions) == [False, True]


def test_mirrored_motion_is_the_mirror_image():
    from mvssl.sources.motion import mirror as mirror_motion

    motion = take_motion(0, 'studio', Take('S1', 'Directions', 1, 20), Studio(RIGS['studio'], 16).person('S1')[1])
    one, other = (torch.tensor(m.points()[:, :17]).double() for m in (motion, mirror_motion(motion)))
    torch.testing.assert_close(canonicalise(other), mirror(canonicalise(one)), atol=1e-3, rtol=0)


def test_plan_is_even_and_shared():
    takes = plan(('a', 'b', 'c'), 1000)
    counts = {s: sum(t.instants for t in takes if t.subject == s) for s in 'abc'}
    assert sum(counts.values()) == 1000 and max(counts.values()) - min(counts.values()) <= 1
    assert len({tuple(t.sequence for t in takes if t.subject == s) for s in 'abc'}) == 1
    assert min(t.instants for t in takes) >= SHORTEST and set(ORDER) == set(ACTIONS)
    assert len({t.sequence for t in plan(('a',), 30 * SHORTEST)}) == 30


def test_people_look_in_all_directions():
    "Over a subject's takes every view sees the person from all sides: headings fill eight sectors."
    style = Studio(RIGS['studio'], 16).person('S5')[1]
    headings = np.concatenate([take_motion(0, 'studio', take, style).heading for take in plan(('S5',), 30 * 40)])
    share = np.histogram(headings % (2 * np.pi), bins=8, range=(0, 2 * np.pi))[0] / len(headings)
    assert share.min() > 0.02


def test_streams_are_stable():
    "Pinned: a change here would change every dataset that was made before."
    assert stream(0, 'studio', 'S1').integers(0, 1000, 3).tolist() == PINNED


PINNED = [int(i) for i in np.random.default_rng([0, 1244334006, 2173770834]).integers(0, 1000, 3)]  # crc32 of the names


@pytest.mark.parametrize(
    'wrong, message',
    [
        (dict(rig='garden'), 'rig must be one of studio, stage'),
        (dict(side=31), r'side must lie in \[32, 1024\] px, got 31'),
        (dict(instants=5), 'instants must be at least 8'),
        (dict(subjects=()), 'subjects must be different names'),
        (dict(subjects=('S1', 'S1')), 'subjects must be different names'),
        (dict(labels='some'), "labels must be 'named' or 'all'"),
        (dict(people='robots'), "people must be one of painted, dressed, got 'robots'"),
        (dict(motion='bvh'), 'there is no such folder'),
    ],
)
def test_refusals_leave_nothing(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        make_dataset(tmp_path / 'x', **{**SMALL, **wrong})
    assert list(tmp_path.iterdir()) == []


def test_a_finished_store_is_opened_and_never_replaced_by_accident(small):
    before = files_of(small.path)
    assert make_dataset(small.path, **SMALL).checksum == small.checksum
    with pytest.raises(DatasetError, match='is a finished store'):
        make_dataset(small.path, **{**SMALL, 'seed': 1})
    assert files_of(small.path) == before


# ---- dressed people --------------------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def dressed(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp('dressed') / 'studio', **SMALL, people='dressed', workers=1)


def test_dressed_people_do_the_same_with_the_same_labels(small, dressed):
    "What is known of the poses does not depend on who is dressed how; what is seen does."
    for name in ('poses.npy', 'boxes.npy', 'instants.csv', 'seen.npy'):
        assert (dressed.path / name).read_bytes() == (small.path / name).read_bytes(), name
    assert np.abs(dressed.frames[:].astype(int) - small.frames[:]).mean() > 5


def test_a_store_says_which_people_it_has(small, dressed):
    told, silent = (json.loads((store.path / 'dataset.json').read_text())['extra'] for store in (dressed, small))
    assert told['people'] == 'dressed' and 'people' not in silent
    assert {key: value for key, value in told.items() if key != 'people'} == silent


def test_dressed_people_do_not_depend_on_threads_or_on_the_others(dressed, tmp_path):
    again = make_dataset(tmp_path / 'again', **SMALL, people='dressed', workers=3)
    assert files_of(again.path) == files_of(dressed.path)
    alone = make_dataset(tmp_path / 'alone', subjects=('S9',), instants=24, side=32, people='dressed', progress=False)
    np.testing.assert_array_equal(alone.frames[:], dressed.where(subject='S9').frames[:])


def test_other_people_are_no_continuation(dressed):
    with pytest.raises(DatasetError, match='is a finished store'):
        make_dataset(dressed.path, **SMALL)


def test_a_subject_is_recorded_in_one_light_and_one_set_of_clothes(monkeypatch):
    "All takes of a subject; also when more subjects have come since than there are days kept."
    monkeypatch.setattr('mvssl.sources.synthetic.DAYS_KEPT', 2)
    studio = Studio(RIGS['studio'], 32, people='dressed')
    first = studio.day('S1')
    assert len({studio.day(s).room.light for s in ('S1', 'S5', 'S6', 'S7')}) == 4 and len(studio.days) == 2
    assert studio.day('S1') is not first and torch.equal(studio.day('S1').pictures, first.pictures)
    assert studio.person('S1')[0].clothes == Studio(RIGS['studio'], 32, people='dressed').person('S1')[0].clothes


def test_painted_people_are_as_they_always_were(tmp_path):
    "Pictures committed before there were others; other processors may round a shade differently."
    with np.load(Path(__file__).parent / 'painted_people.npz') as kept:
        for rig in RIGS:
            ds = make_dataset(
                tmp_path / rig, rig=rig, subjects=('S1', 'U01'), instants=16, side=32, seed=8, progress=False
            )
            apart = np.abs(ds.frames[:].astype(int)[:, ::2] - kept[rig])
            assert apart.max() <= 2 or (apart > 2).mean() < 1e-3
