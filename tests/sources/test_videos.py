"""Guards of the store made from videos: the right frame at the right instant whatever the file, nothing half written,
every refusal names its file."""

import json
import os
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from small_films import (
    N,
    QUICK,
    RATE,
    SIZE,
    STANDING,
    box_table,
    joint,
    moving,
    numbers,
    place,
    refused,
    shoot,
    write_trc,
)
from typer.testing import CliRunner

import mvssl.sources.filming as filming
import mvssl.sources.videos as videos_module
from mvssl.cli import app
from mvssl.dataset import DatasetError, MultiviewDataset, find_problems
from mvssl.sources.crops import follow_person, read_keypoints
from mvssl.sources.decoding import decode
from mvssl.sources.labels import _UP, map_joints
from mvssl.sources.videos import (
    find_recordings,
    nearest_frames,
    prepare,
    probe,
    quarter_turns,
    read_manifest,
    stance,
    synchronise,
    turn_boxes,
    turns_to_ask,
)

SHARED = Path(os.environ.get('MVSSL_SHARED_DATA', Path(__file__).parents[3] / 'shared' / 'data')) / 'pose2sim_balancing'


# ---- time ------------------------------------------------------------------------------------------------------------


def test_instants_show_every_nth_frame(walk, tmp_path):
    ds = prepare(walk / 'walk', tmp_path / 'out', boxes=walk / 'boxes', **QUICK)
    ds.validate()
    assert (ds.hz, ds.stride, ds.views, len(ds)) == (10, 3, ['cam0', 'cam1'], 20)
    np.testing.assert_allclose(numbers(ds.frames[:]), np.arange(0, 60, 3)[:, None].repeat(2, 1), atol=0.45)
    np.testing.assert_allclose(ds.table['time_s'], np.arange(20) / 10)
    assert ds.extra['boxes'] == 'given' and ds.extra['sequences'][0]['videos'][1]['file'] == 'cam1.mp4'
    middle = (ds.boxes[..., :2] + ds.boxes[..., 2:]) / 2
    np.testing.assert_allclose(middle[:, 0], [place(t)[:2] for t in ds.table['time_s']], atol=0.05 * SIZE[0])


@pytest.mark.parametrize(
    'hz, stride, kept', [(None, None, 3), (10, None, 3), (7, None, 4), (30, None, 1), (10, 5, 5), (None, 5, 5)]
)
def test_rates(walk, tmp_path, hz, stride, kept):
    ds = prepare(walk / 'walk', tmp_path / 'out', boxes=walk / 'boxes', hz=hz, stride=stride, **QUICK)
    assert ds.stride == kept and ds.hz == 30 / kept
    np.testing.assert_allclose(numbers(ds.frames[:, 0]), np.arange(0, 60, kept), atol=0.45)


@pytest.mark.parametrize(
    'rate, hz, stride, told',
    [
        (Fraction(1), 1, 1, '1 instants per second, as the cameras took no more frames'),
        (Fraction(6), 6, 1, '6 instants per second, as the cameras took no more frames'),
        (Fraction(15, 2), 7.5, 1, '7.5 instants per second, as the cameras took no more frames'),
        (Fraction(10000, 1001), 10000 / 1001, 1, ''),
        (Fraction(10), 10, 1, ''),
        (Fraction(12), 12, 1, ''),
        (Fraction(15), 7.5, 2, ''),
        (Fraction(25), 12.5, 2, ''),
    ],
    ids=lambda value: str(value)[:6],
)
def test_cameras_that_take_few_frames(tmp_path, rate, hz, stride, told):
    "Their own rate is taken and said, unless somebody asks for more than there is."
    for view in (0, 1):
        shoot(tmp_path / 'walk' / f'cam{view}.mp4', view=view, rate=rate, times=np.arange(24) / float(rate))
    said = []
    ds = prepare(tmp_path / 'walk', tmp_path / 'out', **QUICK, padding=1.5, say=said.append)
    ds.validate()
    assert ds.hz == pytest.approx(hz, rel=1e-6) and ds.stride == stride and len(ds) == -(-24 // stride)
    np.testing.assert_allclose(ds.table['time_s'], np.arange(len(ds)) / hz, atol=1e-3)
    assert ds.seen[:].mean() > 0.9 and f'{len(ds)} instants, {hz:g} per second' in said[-1]
    assert [note for note in ds.extra['notes'] if 'instants per second' in note] == [told] * bool(
        told
    ) and told in said[-1]
    middle = (ds.boxes[:, 0, :2] + ds.boxes[:, 0, 2:]) / 2
    true = np.array([place(t)[:2] for t in ds.table['time_s']])
    assert np.nanmedian(np.linalg.norm(middle - true, axis=1)) < 0.06 * SIZE[0]
    if rate < 9:
        message = refused(tmp_path / 'walk', out=tmp_path / 'other', hz=10)
        assert (
            f'{hz:g} per second, 10 instants per second were asked for' in message
            and f'at most {hz:g} (--hz)' in message
        )


def rig(home, *cameras):
    "A sequence from dicts of shoot's arguments, with boxes at its own frames."
    for view, options in enumerate(cameras):
        shoot(home / 'walk' / f'cam{view}.mp4', view=view, **options)
        box_table(
            home / 'boxes' / f'cam{view}.csv', options.get('n', N), options.get('rate', RATE), options.get('size', SIZE)
        )
    return home / 'walk', home / 'boxes'


def test_sizes_may_differ(tmp_path):
    folder, boxes = rig(tmp_path, {}, dict(size=(240, 320)))
    ds = prepare(folder, tmp_path / 'out', boxes=boxes, **QUICK)
    np.testing.assert_allclose(numbers(ds.frames[:]), np.arange(0, 60, 3)[:, None].repeat(2, 1), atol=0.45)
    assert [video['size'] for video in ds.extra['sequences'][0]['videos']] == [[160, 120], [240, 320]]


def test_a_longer_film_is_cut_and_that_is_said(tmp_path):
    folder, boxes = rig(tmp_path, {}, dict(n=75))
    ds = prepare(folder, tmp_path / 'out', boxes=boxes, **QUICK)
    assert len(ds) == 20 and 'cam1 ends 0.50 s after cam0, cut' in ds.extra['notes'][0]


def test_lengths_that_differ_much_are_refused_unless_accepted(tmp_path):
    folder, boxes = rig(tmp_path, {}, dict(n=120))
    said = refused(folder, out=tmp_path / 'out', boxes=boxes)
    assert 'cam0.mp4' in said and 'ends at 2.00 s' in said and '4.00 s' in said and '--max-cut 2' in said
    assert len(prepare(folder, tmp_path / 'out', boxes=boxes, max_cut_s=2, **QUICK)) == 20


def test_other_frame_rates_are_refused_or_resampled(tmp_path):
    folder, boxes = rig(tmp_path, {}, dict(rate=24, n=48), {})
    said = refused(folder, out=tmp_path / 'out', boxes=boxes)
    assert 'cam1.mp4' in said and '24 per second' in said and '--resample' in said
    ds = prepare(folder, tmp_path / 'out', boxes=boxes, resample=True, **QUICK)
    assert ds.hz == 10 and ds.extra['resample']
    found = numbers(ds.frames[:])
    np.testing.assert_allclose(found[:, 0], np.arange(20) * 3, atol=0.45)
    np.testing.assert_allclose(
        found[:, 1], np.arange(20) * 3, atol=0.5 * 30 / 24 + 0.45
    )  # half of its own frames away at most
    np.testing.assert_allclose(found[::5, 1], np.arange(0, 60, 15), atol=0.45)  # and exact where frames coincide


def test_rates_of_television_are_one(tmp_path):
    "30000/1001 and 30 per second differ by 0.1 %: stamps decide."
    folder, boxes = rig(tmp_path, {}, dict(times=np.arange(60) * 1001 / 30000))
    ds = prepare(folder, tmp_path / 'out', boxes=boxes, **QUICK)
    np.testing.assert_allclose(numbers(ds.frames[:]), np.arange(0, 60, 3)[:, None].repeat(2, 1), atol=0.55)


def test_time_stamps_decide_not_positions(tmp_path):
    "A film that jitters and lost half a second: instants without a frame are not seen, the others are in time."
    rng = np.random.default_rng(0)
    times = np.delete(np.arange(60) / 30 + np.r_[0, rng.uniform(-0.008, 0.008, 59)], np.arange(31, 46))
    shoot(tmp_path / 'walk' / 'cam0.mp4')
    shoot(tmp_path / 'walk' / 'cam1.mp4', view=1, times=times)
    ds = prepare(tmp_path / 'walk', tmp_path / 'out', **QUICK, padding=1.5)
    seen = ds.seen[:]
    assert seen[:, 0].all() and not seen[11:15, 1].any() and seen[:11, 1].all() and seen[16:, 1].all()
    assert not ds.frames[:][~seen].any()
    assert 'cam1 lacks frames at' in ds.extra['notes'][-1]
    video = probe(tmp_path / 'walk' / 'cam1.mp4')
    assert video.hz == pytest.approx(30, rel=0.03) and len(video) == 45
    away = [min(abs(times - t)) for t in ds.table['time_s'][seen[:, 1]]]
    assert max(away) < 0.5 / 30 + 0.002


def test_nearest_frames_by_a_slow_loop():
    rng = np.random.default_rng(1)
    times_s = np.cumsum(np.r_[0, rng.uniform(0.02, 0.06, 199)])
    video = videos_module.Video(Path('x'), 'x', (1, 1), 0, np.arange(200), (), times_s, 0.04, 1)
    wanted = rng.uniform(-0.1, times_s[-1] + 0.1, 300)
    for t, found in zip(wanted, nearest_frames(video, wanted)):
        best = min(range(200), key=lambda i: abs(times_s[i] - t))
        assert found == (best if abs(times_s[best] - t) <= 0.022 else -1)


@pytest.mark.parametrize('column, value', [('offset_s', 0.5), ('offset_frames', 15)])
def test_offsets_in_a_table(tmp_path, column, value):
    "cam1 began half a second later: its first frame belongs to frame 15 of cam0."
    shoot(tmp_path / 'a.mp4')
    shoot(tmp_path / 'b.mp4', view=1, first=15, n=45)
    (tmp_path / 'list.csv').write_text(
        f'file,subject,sequence,view,{column}\na.mp4,anna,walk 1,front,\nb.mp4,anna,walk 1,side,{value}\n'
    )
    ds = prepare(tmp_path / 'list.csv', tmp_path / 'out', **QUICK, padding=1.5)
    assert ds.views == ['front', 'side'] and len(ds) == 15
    assert ds.table.iloc[0][['subject', 'action', 'sequence', 'time_s']].tolist() == ['anna', 'walk', 'walk 1', 0.5]
    assert 'front begins 0.50 s before the last camera, cut' in ds.extra['notes'][0]
    found = numbers(ds.frames[:])
    np.testing.assert_allclose(found[:, 0], found[:, 1], atol=1.2)
    np.testing.assert_allclose(np.median(found - np.arange(15, 60, 3)[:, None], 0), 0, atol=0.6)


# ---- folders and tables ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'layout, expected',
    [
        (['cam2.mp4', 'cam10.mp4'], [('S1', 'FOLDER', ['cam2', 'cam10'])]),
        (
            ['walk 2/a.mp4', 'walk 2/b.avi', 'sit/a.mov', 'sit/b.mov', 'notes/readme.txt'],
            [('S1', 'sit', ['a', 'b']), ('S1', 'walk 2', ['a', 'b'])],
        ),
        (
            ['anna/walk/a.mp4', 'anna/walk/b.mp4', 'ben/walk/a.MP4', 'ben/walk/._a.mp4', 'ben/walk/b.mp4'],
            [('anna', 'walk', ['a', 'b']), ('ben', 'walk', ['a', 'b'])],
        ),
    ],
)
def test_layouts(tmp_path, layout, expected):
    for name in layout:
        (tmp_path / 'FOLDER' / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / 'FOLDER' / name).touch()
    found = find_recordings(tmp_path / 'FOLDER')
    assert [(one.subject, one.sequence, [clip.view for clip in one.clips]) for one in found] == expected


@pytest.mark.parametrize(
    'layout, said',
    [(['notes.txt'], 'no video'), (['a.mp4', 'walk/a.mp4'], 'both'), (['walk/a.mp4', 'walk/a.avi'], 'more than once')],
)
def test_layouts_that_are_refused(tmp_path, layout, said):
    lay(tmp_path / 'in', layout)
    assert said in refused(tmp_path / 'in', out=tmp_path / 'out')
    assert 'does not exist' in refused(tmp_path / 'nowhere', out=tmp_path / 'out')


def lay(folder, names):
    "Empty files; a name that ends in / is an empty folder."
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith('/'):
            (folder / name).mkdir(exist_ok=True)
        else:
            (folder / name).touch()
    return folder


def cameras(*folders, names=('cam1.mp4', 'cam2.mp4')):
    return [f'{folder}/{name}' for folder in folders for name in names]


@pytest.mark.parametrize(
    'layout, said',
    [
        (
            cameras('calibration', 'anna/walk', 'ben/walk'),
            ('both calibration and anna/walk, ben/walk hold videos, at different depths', '.csv'),
        ),
        (cameras('anna/walk', 'anna/walk/more'), ('both anna/walk and anna/walk/more',)),
        ([*cameras('anna/walk', 'ben/walk'), 'intro.mov'], ('both the folder itself and anna/walk, ben/walk',)),
        ([*cameras('anna/walk', 'ben/walk'), 'ben/INTRO.MOV'], ('both ben and anna/walk, ben/walk',)),
        (cameras('walk', 'a/b/walk'), ('both walk and a/b/walk',)),
        (
            cameras('mo/anna/walk', 'mo/ben/walk'),
            ('videos lie 3 folders down (mo/anna/walk, mo/ben/walk)', 'in/mo, or list'),
        ),
        (cameras('mo/anna/walk', 'tu/anna/walk'), ('3 folders down', 'in/mo or ', 'in/tu, or list')),
        (cameras('a/b/c/anna/walk'), ('5 folders down', 'in/a/b/c, or list')),
        (
            ['walk/left/a.mp4', 'walk/right/a.mp4', 'sit/left/a.mp4', 'sit/right/a.mp4'],
            ('one video alone in each of sit/left, sit/right, walk/left, walk/right', 'If these are cameras'),
        ),
        (['left/a.mp4', 'right/a.mp4'], ('one video alone in each of left, right', 'If these are cameras')),
        (['anna/walk/cam1/a.mp4', 'anna/walk/cam2/a.mp4'], ('cam1, cam2 are named after cameras',)),
        (
            [*cameras('walk'), *cameras('run', names=('CAM1.mp4', 'cam2.mp4'))],
            ('CAM1 and cam1 differ in capitals alone', 'alike'),
        ),
        ([*cameras('walk'), *cameras('walk ')], ('S1 walk, as that of', 'a name of its own')),
        (['walk/cam1.jpg', 'notes.txt'], ('single pictures',)),
        (['walk/cam1.txt', 'notes.txt'], ('no video in it',)),
        ([], ('no video in it',)),
        (['walk/', 'sit/'], ('no video in it',)),
    ],
)
def test_folders_of_which_nobody_can_say_what_is_what(tmp_path, layout, said):
    (tmp_path / 'in').mkdir()
    message = refused(lay(tmp_path / 'in', layout), out=tmp_path / 'out')
    assert all(part in message for part in said), message


def test_the_folder_that_a_refusal_names_is_taken(tmp_path):
    lay(tmp_path / 'in', cameras('mo/anna/walk', 'mo/ben/walk'))
    assert [one.name for one in find_recordings(tmp_path / 'in' / 'mo')] == ['anna walk', 'ben walk']


@pytest.mark.parametrize(
    'names, said',
    [
        (
            {'walk': ('walk_cam1', 'walk_cam2'), 'run': ('run_cam1', 'run_cam2'), 'sit': ('sit_cam1', 'sit_cam2')},
            ('no two of 3 sequences share a camera name', 'run_cam1.mp4 would be cam1.mp4', 'column view'),
        ),
        (
            {'walk': ('cam1-walk', 'cam2-walk'), 'run': ('cam1-run', 'cam2-run')},
            ('no two of 2 sequences share', 'cam1-run.mp4 would be cam1.mp4'),
        ),
        (
            {'walk': ('A001', 'B001'), 'run': ('A002', 'B002')},
            ('no two of 2 sequences share', 'cam1.mp4, cam2.mp4 in each of them'),
        ),
        (
            {'walk': ('cam1', 'cam2'), 'run': ('cam1', 'cam2'), 'sit': ('sit_cam1', 'sit_cam2')},
            ('S1 sit shares with no other sequence a camera name', 'sit_cam1'),
        ),
    ],
)
def test_cameras_that_share_no_name(tmp_path, names, said):
    folder = lay(tmp_path / 'in', [f'{sequence}/{view}.mp4' for sequence, views in names.items() for view in views])
    message = refused(folder, out=tmp_path / 'out')
    assert all(part in message for part in said), message


def test_a_table_may_name_cameras_that_share_nothing(two, tmp_path):
    "Who writes a table has said which camera is which: it is told, not refused."
    for sequence in ('sit', 'walk'):
        shutil.copytree(two / 'in' / sequence, tmp_path / sequence)
    rows = [
        f'{sequence}/cam{view}.mp4,S1,{sequence},{sequence}{view}' for sequence in ('sit', 'walk') for view in (0, 1)
    ]
    (tmp_path / 'list.csv').write_text('\n'.join(['file,subject,sequence,view', *rows]) + '\n')
    done = run('data', 'videos', tmp_path / 'list.csv', '--out', tmp_path / 'out', '--side', 32, '--workers', 1)
    assert done.exit_code == 0 and 'S1 sit: sit0, sit1; without walk0, walk1' in done.output, done.output
    assert 'note: walk0 did not film S1 sit' in done.output and 'for want of' not in done.output


@pytest.mark.parametrize(
    'link, target', [('walk/cam3.mp4', './not_there.mp4'), ('run', '/nowhere/run'), ('walk/cam3.MP4', 'cam3.MP4')]
)
def test_a_link_that_leads_nowhere_is_refused_by_name(two, tmp_path, link, target):
    shutil.copytree(two / 'in' / 'walk', tmp_path / 'in' / 'walk')
    (tmp_path / 'in' / link).symlink_to(target)
    message = refused(tmp_path / 'in', out=tmp_path / 'out')
    assert f'{tmp_path}/in/{link}, link: ' in message and (target in message), message


def test_what_a_table_or_an_option_names_and_is_not_there(walk, tmp_path):
    shutil.copytree(walk, tmp_path / 'rig')
    (tmp_path / 'rig' / 'boxes' / 'cam1.csv').unlink()
    (tmp_path / 'rig' / 'boxes' / 'cam1.csv').symlink_to('gone.csv')
    assert 'leads to gone.csv' in refused(
        tmp_path / 'rig' / 'walk', out=tmp_path / 'out', boxes=tmp_path / 'rig' / 'boxes'
    )
    (tmp_path / 'rig' / 'list.csv').write_text('file,subject,sequence,view\nwalk/cam0.mp4,a,b,c\nlinked.mp4,a,b,d\n')
    (tmp_path / 'rig' / 'linked.mp4').symlink_to('/nowhere/cam1.mp4')
    assert 'linked.mp4, link: leads to /nowhere/cam1.mp4' in refused(
        tmp_path / 'rig' / 'list.csv', out=tmp_path / 'out'
    )


def test_links_that_lead_somewhere(two, tmp_path):
    "A folder of links is what it links to; a link back leads nowhere new; a link is no second camera."
    (tmp_path / 'in').mkdir()
    for sequence in ('sit', 'walk'):
        (tmp_path / 'in' / f'{sequence} 1').symlink_to(two / 'in' / sequence)
    (tmp_path / 'in' / 'back').symlink_to(tmp_path / 'in')
    found = find_recordings(tmp_path / 'in')
    assert [(one.sequence, [clip.view for clip in one.clips]) for one in found] == [
        ('sit 1', ['cam0', 'cam1']),
        ('walk 1', ['cam0', 'cam1']),
    ]
    assert videos_module.left_out(tmp_path / 'in', [clip.file for one in found for clip in one.clips]) == [
        'back/: a link back to a folder that it lies in'
    ]
    (tmp_path / 'in' / 'walk 2').symlink_to(two / 'in' / 'walk')
    assert f'cam0.mp4, file: the same as {tmp_path}/in/walk 1/cam0.mp4' in refused(
        tmp_path / 'in', out=tmp_path / 'out'
    )
    (tmp_path / 'one').mkdir()
    for name in ('cam0.mp4', 'cam1.mp4'):
        (tmp_path / 'one' / name).symlink_to(two / 'in' / 'walk' / 'cam0.mp4')
    assert 'a link makes no second camera' in refused(tmp_path / 'one', out=tmp_path / 'out')
    (tmp_path / 'list.csv').write_text('file,subject,sequence,view\none/cam0.mp4,a,b,c\none/cam1.mp4,a,b,d\n')
    assert 'c and d are the same file' in refused(tmp_path / 'list.csv', out=tmp_path / 'out')


def test_what_is_not_taken_is_told_before_anything_is_decoded(two, tmp_path, monkeypatch):
    shutil.copytree(two / 'in', tmp_path / 'in')
    (tmp_path / 'in' / 'sit' / 'cam1.mp4').rename(tmp_path / 'in' / 'sit' / 'cam2.mp4')
    lay(
        tmp_path / 'in',
        [
            'notes.txt',
            'walk/._cam0.mp4',
            'walk/cam0.LRV',
            'walk/cam1.LRV',
            'empty/',
            'photos/a.jpg',
            'photos/b.jpg',
            '.DS_Store',
        ],
    )
    lay(tmp_path / 'labels', ['jump.trc', 'readme.md'])
    write_trc(tmp_path / 'labels' / 'walk.TRC', moving(72))
    told = []
    monkeypatch.setattr(videos_module, 'probe', lambda path: told.append('probed') or probe(path))
    ds = prepare(tmp_path / 'in', tmp_path / 'out', **QUICK, poses=tmp_path / 'labels', say=told.append)
    assert told[1] == 'probed'
    assert told[0].splitlines() == [
        'found: 2 sequences of 1 person, 3 cameras',
        '  S1 sit: cam0, cam2; without cam1; no labels',
        '  S1 walk: cam0, cam1; without cam2; labels walk.TRC',
        'not taken:',
        '  empty/: empty',
        '  photos/: no video in it',
        '  walk/cam0.LRV and 1 more .LRV beside it: no video',
        '  walk/._cam0.mp4: hidden, or written by a system',
        '  notes.txt: no video',
        '  .DS_Store: hidden, or written by a system',
        f'  {tmp_path}/labels/jump.trc: of no sequence that is taken',
        f'  {tmp_path}/labels/readme.md: of no sequence that is taken',
    ]
    assert told[-1] == '24 instants, 10 per second: one of 3 frames' and ds.where(sequence='walk').is_labelled.all()


def test_a_folder_that_may_not_be_read(two, tmp_path, monkeypatch):
    shutil.copytree(two / 'in', tmp_path / 'in')
    listed = os.listdir

    def listdir(path='.'):
        if Path(path).name == 'walk':
            raise PermissionError(13, 'Permission denied', str(path))
        return listed(path)

    monkeypatch.setattr(os, 'listdir', listdir)
    assert f'{tmp_path}/in/walk, folder: Permission denied' in refused(tmp_path / 'in', out=tmp_path / 'out')


def test_a_file_that_may_not_be_read(walk, tmp_path, monkeypatch):
    shutil.copytree(walk / 'walk', tmp_path / 'in')
    monkeypatch.setattr(
        videos_module.os,
        'access',
        lambda path, mode, access=os.access: not str(path).endswith('cam1.mp4') and access(path, mode),
    )
    assert 'cam1.mp4, file: may not be read' in refused(tmp_path / 'in', out=tmp_path / 'out')


@pytest.mark.parametrize('name', ['wa\nlk', 'walk\x07'])
def test_names_that_no_store_takes(two, tmp_path, name):
    shutil.copytree(two / 'in' / 'walk', tmp_path / 'in' / name)
    shutil.copytree(two / 'in' / 'sit', tmp_path / 'in' / 'sit')
    assert 'sequence: ' in refused(tmp_path / 'in', out=tmp_path / 'out')


def test_one_file_for_two_people(two, tmp_path):
    "Of whom are the labels in walk.trc, if anna and ben walk?"
    for subject in ('anna', 'ben'):
        shutil.copytree(two / 'in' / 'walk', tmp_path / 'in' / subject / 'walk')
    (tmp_path / 'labels').mkdir()
    write_trc(tmp_path / 'labels' / 'walk.trc', moving(72))
    assert 'walk.trc, file: is that of anna walk and of ben walk' in refused(
        tmp_path / 'in', out=tmp_path / 'out', poses=tmp_path / 'labels'
    )
    for view in (0, 1):
        box_table(tmp_path / 'boxes' / 'walk' / f'cam{view}.csv')
    assert 'cam0.csv, file: is that of anna walk cam0 and of ben walk cam0' in refused(
        tmp_path / 'in', out=tmp_path / 'out', boxes=tmp_path / 'boxes'
    )
    (tmp_path / 'labels' / 'anna').mkdir()
    (tmp_path / 'labels' / 'walk.trc').rename(tmp_path / 'labels' / 'anna' / 'walk.trc')
    shutil.copy(tmp_path / 'labels' / 'anna' / 'walk.trc', tmp_path / 'labels' / 'anna' / 'walk.TRC')
    assert 'anna walk: could be anna/walk.TRC or anna/walk.trc' in refused(
        tmp_path / 'in', out=tmp_path / 'out', poses=tmp_path / 'labels'
    )


def test_a_camera_that_was_off_in_one_sequence(tmp_path):
    for sequence, views in (('sit', (0, 1, 2)), ('walk', (0, 2))):
        for view in views:
            shoot(tmp_path / 'in' / sequence / f'cam{view}.mp4', view=view, n=30)
    ds = prepare(
        tmp_path / 'in',
        tmp_path / 'out',
        sheet=tmp_path / 'sheet.png',
        **{name: value for name, value in QUICK.items() if name != 'sheet'},
    )
    ds.validate()
    assert ds.views == ['cam0', 'cam1', 'cam2']
    np.testing.assert_array_equal(ds.seen[:].all(0), [True, False, True])
    assert ds.where(sequence='sit').seen.all() and not ds.where(sequence='walk').seen[:, 1].any()
    assert (tmp_path / 'sheet.png').stat().st_size > 10000


TABLE = 'file,subject,sequence,view\na.mp4,anna,walk,front\nb.mp4,anna,walk,side\n'


@pytest.mark.parametrize(
    'change, said',
    [
        (lambda t: t.replace('b.mp4', 'c.mp4'), ('line 3', 'no file c.mp4')),
        (lambda t: t.replace('side', 'front'), ('line 3', 'there twice')),
        (lambda t: t.replace('view', 'camera'), ('columns', 'camera')),
        (
            lambda t: t.replace('view', 'view,ofset').replace('front', 'front,1').replace('side', 'side,1'),
            ('ofset unknown',),
        ),
        (
            lambda t: t.replace('view', 'view,offset_s').replace('front', 'front,soon').replace('side', 'side,'),
            ('line 2, offset_s', "'soon' is not a number"),
        ),
        (lambda t: t.replace(',side\n', '\n'), ('line 3', 'view empty')),
        (lambda t: t.replace(',side\n', ',side,1\n'), ('line 3', '5 cells, 4 columns')),
        (lambda t: t.splitlines()[0], ('rows', 'none')),
        (
            lambda t: (
                t.replace('view', 'view,offset_s,offset_frames').replace('front', 'front,1,2').replace('side', 'side,,')
            ),
            ('line 2', 'both'),
        ),
        (lambda t: t.replace('anna,walk,side', ',walk,side'), ('line 3', 'subject empty')),
        (
            lambda t: t.replace('view', 'view,poses').replace('front', 'front,a.trc').replace('side', 'side,b.trc'),
            ('line 3', 'other poses'),
        ),
        (lambda t: '', ('list.csv, file', 'not a line')),
        (lambda t: t.rsplit('\n', 2)[0] + '\n', ('only one camera',)),
    ],
)
def test_tables_that_are_refused(tmp_path, walk, change, said):
    for name, camera in (('a', 'cam0'), ('b', 'cam1')):
        shutil.copy(walk / 'walk' / f'{camera}.mp4', tmp_path / f'{name}.mp4')
    (tmp_path / 'list.csv').write_text(TABLE)
    assert len(read_manifest(tmp_path / 'list.csv')[0].clips) == 2
    (tmp_path / 'list.csv').write_text(change(TABLE))
    message = refused(tmp_path / 'list.csv', out=tmp_path / 'out')
    assert all(part in message for part in said), message


@pytest.mark.parametrize(
    'change',
    [
        *(lambda text, encoding=encoding: text.encode(encoding) for encoding in ('utf-8-sig', 'utf-16', 'utf-16-le')),
        lambda text: text.replace('\n', '\r').encode(),
        lambda text: text.replace('\n', '\r\n\r\n').encode(),
        lambda text: text.replace(',', ';').replace('0.5', '0,5').encode('utf-8-sig'),
        lambda text: text.replace(',', '\t').encode(),
        lambda text: text.replace(',', ' , ').encode(),
        lambda text: text.replace('0.5', '"0,5"').encode(),
    ],
    ids=['mark', 'utf-16', 'utf-16-le', 'mac', 'windows', 'semicolons', 'tabs', 'spaces', 'quoted'],
)
def test_tables_that_say_the_same(tmp_path, change):
    for name in ('vörne.mp4', 'b.mp4'):
        (tmp_path / name).touch()
    text = 'file,subject,sequence,view,offset_s\nvörne.mp4,anna,walk,front,\nb.mp4,anna,walk,side,0.5\n'
    (tmp_path / 'list.csv').write_bytes(change(text))
    (recording,) = read_manifest(tmp_path / 'list.csv')
    assert [(clip.file.name, clip.view, clip.offset_s) for clip in recording.clips] == [
        ('vörne.mp4', 'front', 0.0),
        ('b.mp4', 'side', 0.5),
    ]


def test_a_table_in_an_old_code_page_is_refused_by_line(tmp_path):
    (tmp_path / 'list.csv').write_bytes(
        'file,subject,sequence,view\na.mp4,anna,walk,front\nvörne.mp4,anna,walk,side\n'.encode('cp1252')
    )
    with pytest.raises(DatasetError, match='list.csv, line 3: .* is no letter in UTF-8. Save it as UTF-8'):
        read_manifest(tmp_path / 'list.csv')


# ---- where the person is ---------------------------------------------------------------------------------------------


def openpose(folder, n=N, scale=1.0, bystander=False):
    "OpenPose's files of the figure: its corners and its middle."
    folder.mkdir(parents=True)
    for i in range(n):
        x, y, w, h = (scale * a for a in place(i / RATE))
        people = [[(x + a * w / 2, y + b * h / 2, 0.9) for a, b in ((-1, -1), (1, -1), (0, 0), (-1, 1), (1, 1))]]
        if bystander:
            people.insert(
                0,
                [(scale * (8 + a), scale * (60 + 9 * b), 0.9) for a, b in ((-1, -1), (1, -1), (0, 0), (-1, 1), (1, 1))],
            )
        text = json.dumps(dict(version=1.3, people=[dict(pose_keypoints_2d=np.ravel(one).tolist()) for one in people]))
        (folder / f'cam_{i:012d}_keypoints.json').write_text(text)


def test_keypoints_of_a_detector_and_a_bystander(walk, tmp_path):
    for view in (0, 1):
        openpose(tmp_path / 'kp' / f'cam{view}_json', bystander=True)
    ds = prepare(walk / 'walk', tmp_path / 'out', boxes=tmp_path / 'kp', **QUICK)
    np.testing.assert_allclose(numbers(ds.frames[:]), np.arange(0, 60, 3)[:, None].repeat(2, 1), atol=0.45)


def test_keypoints_of_another_picture_size(walk, tmp_path):
    for view in (0, 1):
        openpose(tmp_path / 'kp' / f'cam{view}_json', scale=4)
    assert 'cam0_json' in refused(walk / 'walk', out=tmp_path / 'out', boxes=tmp_path / 'kp')
    ds = prepare(walk / 'walk', tmp_path / 'out', boxes=tmp_path / 'kp', keypoint_size=(640, 480), **QUICK)
    np.testing.assert_allclose(numbers(ds.frames[:]), np.arange(0, 60, 3)[:, None].repeat(2, 1), atol=0.45)


def test_boxes_that_are_missing(walk, tmp_path):
    shutil.copytree(walk / 'boxes', tmp_path / 'boxes')
    (tmp_path / 'boxes' / 'cam1.csv').unlink()
    said = refused(walk / 'walk', out=tmp_path / 'out', boxes=tmp_path / 'boxes')
    assert 'cam1' in said and 'cam1.csv' in said and 'cam1_json' in said
    assert 'no such folder' in refused(walk / 'walk', out=tmp_path / 'out', boxes=tmp_path / 'no')


def test_an_instant_whose_box_is_far_away_in_time_is_not_seen(walk, tmp_path):
    shutil.copytree(walk / 'boxes', tmp_path / 'boxes')
    rows = (walk / 'boxes' / 'cam1.csv').read_text().splitlines()
    (tmp_path / 'boxes' / 'cam1.csv').write_text(
        '\n'.join([rows[0], *rows[1:13], *rows[49:]]) + '\n'
    )  # without frames 12 to 47
    ds = prepare(walk / 'walk', tmp_path / 'out', boxes=tmp_path / 'boxes', **QUICK)
    assert ds.seen[:, 0].all() and ds.seen[[0, 3, 16, 19], 1].all() and not ds.seen[[10], 1].any()
    assert np.isnan(ds.boxes[10, 1]).all()


# ---- cameras on their side -------------------------------------------------------------------------------------------


@pytest.mark.parametrize('degrees', [0, 90, 180, 270, None])
@pytest.mark.parametrize('size', [(7, 4), (5, 9)])
def test_boxes_turn_as_pictures_do(degrees, size):
    "Marked pixels of a picture, turned by numpy, lie in the turned box and fill it."
    rng = np.random.default_rng(0)
    for _ in range(20):
        left, right = sorted(rng.integers(0, size[0], 2))
        top, bottom = sorted(rng.integers(0, size[1], 2))
        marked = np.zeros(size[::-1], bool)
        marked[top : bottom + 1, left : right + 1] = True
        y, x = np.nonzero(np.rot90(marked, -(degrees or 0) // 90))
        np.testing.assert_array_equal(
            turn_boxes((left - 0.5, top - 0.5, right + 0.5, bottom + 0.5), size, degrees),
            (x.min() - 0.5, y.min() - 0.5, x.max() + 0.5, y.max() + 0.5),
        )
    assert turn_boxes(np.full((3, 2, 4), np.nan), size, degrees).shape == (3, 2, 4)


@pytest.mark.parametrize(
    'degrees, expected',
    [(0, 0), (90, 90), (180, 180), (270, 270), (360, 0), (-90, 270), (-270, 90), (None, None), (90.0, 90)],
)
def test_quarters(degrees, expected):
    assert quarter_turns(degrees) == expected


@pytest.fixture(scope='module')
def leaning(tmp_path_factory):
    """Three cameras, upright; and the same with the second one stored lying and the third upside down, of which
    their files say nothing."""
    home = tmp_path_factory.mktemp('leaning')
    for view, lying in enumerate((0, 90, 180)):
        shoot(home / 'upright' / f'cam{view}.mp4', view=view, n=36)
        shoot(home / 'lying' / f'cam{view}.mp4', view=view, n=36, lying=lying)
        box_table(home / 'boxes' / f'cam{view}.csv', 36)
        table = [
            np.array(line.split(','), float)
            for line in (home / 'boxes' / f'cam{view}.csv').read_text().splitlines()[1:]
        ]
        rows = [f'{i:g},' + ','.join(f'{x:.2f}' for x in turn_boxes(box, SIZE, -lying % 360)) for i, *box in table]
        (home / 'their boxes').mkdir(exist_ok=True)
        (home / 'their boxes' / f'cam{view}.csv').write_text('\n'.join(['frame,left,top,right,bottom', *rows]) + '\n')
    return home


TURNS = {'cam1': 90, 'cam2': 180}


@pytest.mark.parametrize('boxes', [None, 'their boxes'])
def test_turned_cameras_give_the_store_of_upright_ones(leaning, tmp_path, boxes):
    given = dict(boxes=leaning / boxes) if boxes else {}
    upright = prepare(
        leaning / 'upright', tmp_path / 'upright', **QUICK, **(dict(boxes=leaning / 'boxes') if boxes else {})
    )
    ds = prepare(leaning / 'lying', tmp_path / 'lying', **QUICK, turn=TURNS, **given)
    ds.validate()
    np.testing.assert_allclose(numbers(ds.frames[:]), np.arange(0, 36, 3)[:, None].repeat(3, 1), atol=0.45)
    assert abs(ds.frames[:].astype(int) - upright.frames[:]).mean() < 3
    np.testing.assert_allclose(ds.boxes[:], upright.boxes[:], atol=0.03 if boxes else 6)
    videos = ds.extra['sequences'][0]['videos']
    assert [video.get('turn', 0) for video in videos] == [0, 90, 180] and [video['size'] for video in videos] == [
        list(SIZE)
    ] * 3
    assert 'turn' not in upright.extra['sequences'][0]['videos'][1]


def test_a_table_says_how_each_file_stands(leaning, tmp_path):
    """In a table a camera may be turned in one sequence and upright in another; what it says of a file counts before
    --turn."""
    rows = [
        f'{kind}/cam{view}.mp4,S1,{kind},cam{view},{turn}'
        for kind, turns in (('upright', ('', 0, '')), ('lying', ('', 90, 180)))
        for view, turn in enumerate(turns)
    ]
    (leaning / 'list.csv').write_text('\n'.join(['file,subject,sequence,view,turn', *rows]) + '\n')
    ds = prepare(leaning / 'list.csv', tmp_path / 'out', **QUICK, turn={'cam1': 270})
    np.testing.assert_allclose(numbers(ds.frames[:]), np.tile(np.arange(0, 36, 3), 2)[:, None].repeat(3, 1), atol=0.45)
    (leaning / 'list.csv').write_text(
        '\n'.join(['file,subject,sequence,view,turn', *rows]).replace(',90', ',45') + '\n'
    )
    with pytest.raises(ValueError, match='list.csv, line 6, turn must be 0, 90, 180 or 270 degrees clockwise, got 45'):
        prepare(leaning / 'list.csv', tmp_path / 'other', **QUICK)


@pytest.mark.parametrize('flag', [90, 180, -90])
@pytest.mark.parametrize('turn', [90, 180, 270])
def test_a_turn_adds_to_what_the_file_says(tmp_path, flag, turn):
    "The file is turned by its own flag first, as every player does; what is said turns that picture."
    plain = shoot(tmp_path / 'plain.mp4', n=12)
    both = videos_module.turned(probe(shoot(tmp_path / 'both.mp4', n=12, turned=flag, lying=turn)), turn)
    (_, a), (_, b) = next(decode(probe(plain), [5])), next(decode(both, [5]))
    assert both.size == b.size == SIZE and abs(a.planes[0].astype(int) - b.planes[0]).mean() < 3
    assert abs(a.rgb(60).astype(int) - b.rgb(60)).mean() < 4


def test_keypoints_turn_along(leaning, tmp_path):
    "Found in the picture as the file shows it, or, if their size says so, in one that was turned before."
    for view, lying in enumerate((0, 90, 180)):
        for kind, degrees in (('shown', lying), ('turned', 0)):
            openpose(tmp_path / kind / f'cam{view}_json', n=36)
            for file in (tmp_path / kind / f'cam{view}_json').iterdir():
                points = np.array(json.loads(file.read_text())['people'][0]['pose_keypoints_2d']).reshape(-1, 3)
                points[:, :2] = turn_boxes(np.concatenate([points[:, :2]] * 2, axis=1), SIZE, -degrees % 360)[:, :2]
                file.write_text(json.dumps(dict(people=[dict(pose_keypoints_2d=points.ravel().tolist())])))
    for kind, options in (('shown', {}), ('turned', dict(keypoint_size=SIZE))):
        if kind == 'turned':
            (
                shutil.rmtree(tmp_path / kind / 'cam2_json'),
                shutil.copytree(tmp_path / 'shown' / 'cam2_json', tmp_path / kind / 'cam2_json'),
            )  # upside down has no other shape
        ds = prepare(
            leaning / 'lying', tmp_path / f'store {kind}', **QUICK, turn=TURNS, boxes=tmp_path / kind, **options
        )
        np.testing.assert_allclose(numbers(ds.frames[:]), np.arange(0, 36, 3)[:, None].repeat(3, 1), atol=0.45)
    assert 'keypoint_size: 120 x 160 is of another shape than the picture, 160 x 120' in refused(
        leaning / 'lying', out=tmp_path / 'out', turn=TURNS, boxes=tmp_path / 'shown', keypoint_size=(120, 160)
    )


def test_a_camera_that_seems_to_lie_is_asked_about(leaning, tmp_path):
    "By what moves or by boxes that were given; before anything is written, and once answered no more."
    for options in ({}, dict(boxes=leaning / 'their boxes')):
        message = refused(leaning / 'lying', out=tmp_path / 'out', **options)
        assert (
            message.count('cam1.mp4, picture: whoever moves is') == 1
            and 'higher than wide in cam0, cam2' in message
            and 'cam2.mp4' not in message
        )
        assert '--turn cam1=90 or --turn cam1=270; --turn cam1=0 if it is right as it is' in message
    as_it_is = prepare(leaning / 'lying', tmp_path / 'zero', **QUICK, turn={'cam1': 0})
    assert as_it_is.seen[:].all() and as_it_is.extra['sequences'][0]['videos'][1]['size'] == [120, 160]
    prepare(leaning / 'lying', tmp_path / 'turned', **QUICK, turn={'cam1': 90})


def test_nobody_is_asked_where_the_person_lies(leaning, tmp_path):
    for view in (0, 1):
        shoot(tmp_path / 'in' / f'cam{view}.mp4', view=view, n=36, lying=90)
    assert prepare(tmp_path / 'in', tmp_path / 'out', **QUICK).seen[:].all()


PERSON = np.array(
    [
        (0, -0.5),
        (0.05, -0.45),
        (-0.06, -0.3),
        (0.07, -0.28),
        (-0.1, -0.1),
        (0.12, -0.12),
        (-0.05, 0.02),
        (0.05, 0.02),
        (-0.06, 0.25),
        (0.08, 0.24),
        (-0.07, 0.5),
        (0.06, 0.48),
    ]
)


@pytest.mark.parametrize('turns', [(0, 0, 90, 180), (0, 270, 0), (180, 0, 0), (0, 0, 0, 0), (90, 0, 270, 0, 0)])
def test_keypoints_say_by_how_much(turns):
    "Whatever their names: heights within the body are alike in cameras that stand."
    rng = np.random.default_rng(sum(turns))

    def seen(lying):
        steps = (
            PERSON * [rng.choice([-1, 1]), 1] * 100
            + rng.normal(0, 4, (60, len(PERSON), 2))
            + rng.uniform(200, 400, (60, 1, 2))
        )
        points = turn_boxes(np.concatenate([steps] * 2, axis=-1), (640, 480), -lying % 360)[..., :2]
        points[:, 3] = np.nan if rng.random() < 0.3 else points[:, 3]
        boxes = np.concatenate([np.nanmin(points, axis=1), np.nanmax(points, axis=1)], axis=1)
        return stance(boxes, np.concatenate([points, np.ones_like(points[..., :1])], axis=-1))

    views = [f'cam{i}' for i in range(len(turns))]
    asked = turns_to_ask(views, [seen(lying) for lying in turns])
    assert {view: degrees for view, (degrees, _) in asked.items()} == {
        view: [lying] for view, lying in zip(views, turns) if lying
    }
    assert all(others == [view for view, lying in zip(views, turns) if not lying] for _, others in asked.values())


@pytest.mark.parametrize(
    'aspects, asked',
    [
        ((0.4, 0.5, 2.0), {'c': [90, 270]}),
        ((0.4, 1.0, 2.0), {'c': [90, 270]}),
        ((2.0, 2.0, 0.4), {}),
        ((0.4, 2.0), {'b': [90, 270]}),
        ((0.4, 0.5, 1.2), {}),
        ((0.9, 1.3, 1.4), {}),
        ((np.nan, 0.4, 2.0), {'c': [90, 270]}),
        ((np.nan,) * 3, {}),
        ((2.0, 2.0, 0.4, 0.4), {'a': [90, 270], 'b': [90, 270]}),
    ],
)
def test_shapes_ask_only_where_it_is_plain(aspects, asked):
    views = 'abcd'[: len(aspects)]
    assert {
        view: degrees
        for view, (degrees, _) in turns_to_ask(
            list(views), [videos_module.Stance(aspect, None) for aspect in aspects]
        ).items()
    } == asked


def test_turns_are_on_the_check_sheet(leaning, tmp_path, monkeypatch):
    sheets = []
    make = filming.box_sheet

    def seen(pictures, boxes, crops, rows, columns):
        sheets.append((pictures, columns))
        return make(pictures, boxes, crops, rows, columns)

    monkeypatch.setattr(filming, 'box_sheet', seen)
    prepare(leaning / 'lying', tmp_path / 'out', **{**QUICK, 'sheet': True}, turn=TURNS)
    ((pictures, columns),) = sheets
    assert columns == ['cam0', 'cam1, turned by 90°', 'cam2, turned by 180°']
    assert (tmp_path / 'out-boxes.png').exists()
    assert all(picture.shape[1] > picture.shape[0] for line in pictures for picture in line)  # all upright: 160 x 120


@pytest.mark.parametrize(
    'words, said',
    [
        (('--turn', 'cam9=90'), 'turn must name cameras among cam0, cam1, cam2, got cam9'),
        (('--turn', 'cam1=45'), 'turn of cam1 must be 0, 90, 180 or 270 degrees clockwise, got 45'),
        (('--turn', 'cam1'), '--turn must be CAMERA=DEGREES as in cam01=90, got cam1'),
        (('--turn', 'cam1=left'), 'CAMERA=DEGREES'),
        (('--turn', '=90'), 'CAMERA=DEGREES'),
        (('--turn', 'cam1=90', '--turn', 'cam1=180'), '--turn must say one thing of cam1, got 90 and 180'),
    ],
)
def test_turns_that_are_refused(leaning, tmp_path, words, said):
    done = run('data', 'videos', leaning / 'lying', '--out', tmp_path / 'out', *words)
    assert done.exit_code == 1 and said in done.output and not list(tmp_path.iterdir())


def test_command_turns(leaning, tmp_path):
    done = run(
        'data',
        'videos',
        leaning / 'lying',
        '--out',
        tmp_path / 'out',
        '--side',
        32,
        '--workers',
        1,
        '--turn',
        'cam1=-270',
        '--turn',
        'cam2=180',
    )
    assert done.exit_code == 0 and 'cam1 (turned by 90 degrees clockwise)' in done.output, done.output


# ---- files that are broken -------------------------------------------------------------------------------------------


def cut_off(source, to, keep):
    data = source.read_bytes()
    to.write_bytes(data[: int(keep * len(data))])


@pytest.mark.parametrize(
    'how, said',
    [
        ('empty', 'empty'),
        ('text', 'cannot be read as a video'),
        ('end missing', 'cannot be read as a video'),
        ('end missing, index first', 'header announces'),
        ('end missing, webm', 'header announces'),
        ('only sound', 'no picture in it'),
        ('one picture', '1 of them'),
    ],
)
def test_broken_files(walk, tmp_path, how, said):
    folder = tmp_path / 'in'
    shutil.copytree(walk / 'walk', folder)
    bad = folder / 'cam1.mp4'
    if how == 'empty':
        bad.write_bytes(b'')
    if how == 'text':
        bad.write_text('a film\n' * 999)
    if how == 'end missing':
        cut_off(walk / 'walk' / 'cam1.mp4', bad, 0.6)
    if how == 'end missing, index first':
        with (
            av.open(str(walk / 'walk' / 'cam1.mp4')) as source,
            av.open(str(tmp_path / 'fast.mp4'), 'w', options={'movflags': 'faststart'}) as copy,
        ):
            stream = copy.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    copy.mux(packet)
        cut_off(tmp_path / 'fast.mp4', bad, 0.6)
    if how == 'end missing, webm':
        bad.unlink()
        cut_off(shoot(tmp_path / 'whole.webm', codec='libvpx-vp9', n=120), bad := folder / 'cam1.webm', 0.6)
    if how == 'only sound':
        with av.open(str(bad), 'w') as container:
            stream = container.add_stream('aac', rate=44100)
            for i in range(20):
                frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), 'float32'), 'fltp', 'stereo')
                frame.sample_rate, frame.pts = 44100, 1024 * i
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    if how == 'one picture':
        shoot(bad, n=1)
    message = refused(folder, out=tmp_path / 'out')
    assert bad.name in message and said in message, message


def test_damage_in_the_middle_is_not_seen_or_refused(tmp_path):
    "Bytes of some frames overwritten: what does not decode is not seen; where much is lost the file is refused."
    for view in (0, 1):
        shoot(tmp_path / 'in' / f'cam{view}.avi', codec='mjpeg', pix_fmt='yuvj420p', view=view)
    whole = (tmp_path / 'in' / 'cam1.avi').read_bytes()
    starts = [i for i in range(len(whole) - 1) if whole[i : i + 3] == b'\xff\xd8\xff']

    def spoil(frames):
        data = bytearray(whole)
        for i in frames:
            data[starts[i] : starts[i] + 3000] = bytes(3000)
        (tmp_path / 'in' / 'cam1.avi').write_bytes(data)

    spoil([30])
    ds = prepare(tmp_path / 'in', tmp_path / 'one', **QUICK)
    assert ds.seen[:, 0].all() and np.flatnonzero(~ds.seen[:, 1]).tolist() == [10]
    spoil(range(15, 45))
    with pytest.raises(DatasetError, match='cam1.avi, frames: 10 of 20 can be decoded'):
        prepare(tmp_path / 'in', tmp_path / 'many', **QUICK)
    assert not (tmp_path / 'many').exists()


def test_one_camera(walk, tmp_path):
    (tmp_path / 'in').mkdir()
    shutil.copy(walk / 'walk' / 'cam0.mp4', tmp_path / 'in')
    assert 'only one camera' in refused(tmp_path / 'in', out=tmp_path / 'out')


@pytest.mark.parametrize(
    'options, said',
    [
        (dict(side=31), 'side must lie in .32, 1024. px, got 31'),
        (dict(padding=0.5), 'padding'),
        (dict(hz=0), 'hz'),
        (dict(stride=0), 'stride'),
        (dict(hz=50), 'asked for'),
        (dict(sheet='sheet.txt'), 'sheet.txt'),
    ],
)
def test_settings_that_are_refused(walk, tmp_path, options, said):
    with pytest.raises(ValueError, match=said):
        prepare(walk / 'walk', tmp_path / 'out', **{**QUICK, **options})
    assert not list(tmp_path.iterdir())


# ---- labels ----------------------------------------------------------------------------------------------------------


def test_labels_in_the_store(walk, tmp_path):
    points = moving(120)
    points[30:36] = np.nan
    ds = prepare(
        walk / 'walk', tmp_path / 'out', boxes=walk / 'boxes', poses=write_trc(tmp_path / 'a.trc', points), **QUICK
    )
    ds.validate()
    assert ds.is_labelled.tolist() == [i != 5 for i in range(20)]  # rows 30 to 35 of 60 per second are instant 5
    np.testing.assert_allclose(
        joint(ds.poses[:], 'Hip')[ds.is_labelled, 0], np.delete(np.arange(20) * 100, 5), atol=0.01
    )
    assert (
        ds.extra['sequences'][0]['poses']['unit'] == 'm' and '1 of 20 instants without a pose' in ds.extra['notes'][0]
    )


def test_labels_of_another_length(walk, tmp_path):
    said = refused(
        walk / 'walk', out=tmp_path / 'out', boxes=walk / 'boxes', poses=write_trc(tmp_path / 'a.trc', moving(600))
    )
    assert 'a.trc' in said and '--max-cut 9' in said and '--poses-start' in said
    assert 'a.trc' in refused(
        walk / 'walk', out=tmp_path / 'out', boxes=walk / 'boxes', poses=write_trc(tmp_path / 'a.trc', moving(30))
    )
    ds = prepare(walk / 'walk', tmp_path / 'out', boxes=walk / 'boxes', poses=tmp_path / 'a.trc', max_cut_s=2, **QUICK)
    assert ds.is_labelled.sum() == 5


def test_labels_of_several_sequences(two, tmp_path):
    said = refused(two / 'in', out=tmp_path / 'out', poses=write_trc(tmp_path / 'a.trc', moving(72)))
    assert 'one file for 2 sequences' in said
    (tmp_path / 'labels').mkdir()
    assert 'sit.trc' in refused(two / 'in', out=tmp_path / 'out', poses=tmp_path / 'labels')
    write_trc(tmp_path / 'labels' / 'walk.trc', moving(72))
    ds = prepare(two / 'in', tmp_path / 'out', poses=tmp_path / 'labels', **QUICK)
    assert ds.where(sequence='walk').is_labelled.all() and not ds.where(sequence='sit').is_labelled.any()


def lying_down(n, hz=60.0):
    "Somebody who lies on the floor for the whole take: head along x, face up, z up, mm."
    return moving(n, hz)[..., [2, 0, 1]] * [1, 1, -1] + [0, 0, 200]


def test_a_person_who_really_lies(walk, tmp_path):
    "Refused before anything is filmed, with advice; and the advice works."
    path = write_trc(tmp_path / 'a.trc', lying_down(120))
    message = refused(walk / 'walk', out=tmp_path / 'out', boxes=walk / 'boxes', poses=path)
    assert 'from feet to head points along z, not y' in message and '--up=y if the person really lies' in message
    ds = prepare(walk / 'walk', tmp_path / 'out', boxes=walk / 'boxes', poses=path, up='y', **QUICK)
    ds.validate()
    assert ds.extra['vertical'] == 'told: y' and find_problems(ds.path) == [] and ds.is_labelled.all()
    np.testing.assert_allclose(ds.poses[0], map_joints(lying_down(120)[:1], list(STANDING))[0], atol=0.01)
    done = run('data', 'check', ds.path)
    assert done.exit_code == 0 and 'sound' in done.output


@pytest.mark.parametrize('axis', ['z', '-y', 'x'])
def test_the_advice_of_a_vertical_works_whatever_the_axis(walk, tmp_path, axis):
    "Standing people in a file whose vertical is another: the first advice; the store is upright."
    points = moving(120) @ np.array(_UP[axis], float)  # z up -> AXIS up
    path = write_trc(tmp_path / 'a.trc', points, up='as it is')
    message = refused(walk / 'walk', out=tmp_path / 'out', boxes=walk / 'boxes', poses=path)
    assert f'--up={axis}; ' in message
    ds = prepare(walk / 'walk', tmp_path / 'out', boxes=walk / 'boxes', poses=path, up=axis, **QUICK)
    np.testing.assert_allclose(ds.poses[0], map_joints(moving(1), list(STANDING))[0], atol=0.01)


def test_a_person_who_lies_in_one_of_several_takes(two, tmp_path):
    (tmp_path / 'labels').mkdir()
    write_trc(tmp_path / 'labels' / 'walk.trc', moving(72))
    write_trc(tmp_path / 'labels' / 'sit.trc', lying_down(72))
    assert 'sit.trc, vertical axis' in refused(two / 'in', out=tmp_path / 'out', poses=tmp_path / 'labels')
    ds = prepare(two / 'in', tmp_path / 'out', poses=tmp_path / 'labels', up='y', **QUICK)
    ds.validate()
    assert ds.is_labelled.all()


def test_somebody_who_lies_in_the_part_that_was_filmed(walk, tmp_path):
    "Six seconds of labels, in most of which somebody stands: what would be refused afterwards is refused before."
    path = write_trc(tmp_path / 'a.trc', np.concatenate([lying_down(120), moving(240)]))
    message = refused(walk / 'walk', out=tmp_path / 'out', boxes=walk / 'boxes', poses=path, max_cut_s=9)
    assert (
        'a.trc, vertical axis: from feet to head does not point along y, which was taken for the vertical' in message
        and '--up=y if the person really lies' in message
    )
    prepare(walk / 'walk', tmp_path / 'out', boxes=walk / 'boxes', poses=path, max_cut_s=9, up='y', **QUICK).validate()


def test_a_small_child_of_whom_the_unit_is_told(walk, tmp_path):
    "0.6 m from corner to corner: no unit makes an adult of it; who says mm is believed, as far as a store would be."
    path = write_trc(tmp_path / 'a.trc', moving(120) * 0.33, unit='mm')
    assert 'unit' in refused(walk / 'walk', out=tmp_path / 'out', boxes=walk / 'boxes', poses=path)
    ds = prepare(walk / 'walk', tmp_path / 'out', boxes=walk / 'boxes', poses=path, unit='mm', **QUICK)
    ds.validate()
    np.testing.assert_allclose(joint(ds.poses[0], 'Head'), np.array(STANDING['Head']) * 0.33, atol=0.01)
    assert 'unit' in refused(walk / 'walk', out=tmp_path / 'other', boxes=walk / 'boxes', poses=path, unit='cm')


def test_what_can_be_refused_before_the_work_is(walk, long_walk, tmp_path, monkeypatch):
    "Nothing is decoded for what is refused in the end."
    monkeypatch.setattr(filming, 'decode', None)
    for view, n in ((0, 360), (1, 3)):
        box_table(tmp_path / 'boxes' / f'cam{view}.csv', n)
    assert 'cam1.csv, person: found in 6 of 120 instants' in refused(
        long_walk / 'gop15', out=tmp_path / 'out', boxes=tmp_path / 'boxes'
    )
    shoot(tmp_path / 'short' / 'cam0.mp4', n=14, options={'g': '9999'})
    shoot(tmp_path / 'short' / 'cam1.mp4', n=14, view=1)
    assert 'are too few to tell a person from the background' in refused(tmp_path / 'short', out=tmp_path / 'out', hz=6)
    assert 'sheet.png, --sheet: there is no folder' in refused(
        walk / 'walk', out=tmp_path / 'out', sheet=tmp_path / 'none' / 'sheet.png'
    )
    (tmp_path / 'folder.png').mkdir()
    with pytest.raises(ValueError, match='folder.png, file: is a folder'):
        prepare(walk / 'walk', tmp_path / 'out', **{**QUICK, 'sheet': tmp_path / 'folder.png'})
    assert 'in no row within S1 walk are all joints known' in refused(
        walk / 'walk',
        out=tmp_path / 'out',
        boxes=walk / 'boxes',
        max_cut_s=99,
        poses_start_s=60,
        poses=write_trc(tmp_path / 'a.trc', moving(120)),
    )


# ---- the command -----------------------------------------------------------------------------------------------------


def run(*words):
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def test_command(walk, tmp_path):
    out = tmp_path / 'out'
    done = run(
        'data',
        'videos',
        walk / 'walk',
        '--out',
        out,
        '--side',
        32,
        '--workers',
        1,
        '--subject',
        'anna',
        '--licence',
        'ours',
    )
    assert done.exit_code == 0, done.output
    for part in (
        '20 instants x 2 views of 32 px at 10 Hz',
        'licence: ours',
        'anna',
        f'{out}-boxes.png',
        'found by motion',
        f'made: {out}',
    ):
        assert part in done.output, part
    assert (tmp_path / 'out-boxes.png').stat().st_size > 10000
    assert MultiviewDataset.open(out).name == 'walk'


def test_command_refuses_in_one_line(walk, tmp_path):
    (tmp_path / 'in').mkdir()
    done = run('data', 'videos', tmp_path / 'in', '--out', tmp_path / 'out')
    assert done.exit_code == 1 and done.output.count('error:') == 1 and 'no video' in done.output
    done = run('data', 'videos', walk / 'walk', '--out', tmp_path / 'out', '--keypoint-size', 'big')
    assert done.exit_code == 1 and 'WIDTHxHEIGHT' in done.output
    assert not (tmp_path / 'out').exists()


# ---- real film -------------------------------------------------------------------------------------------------------


WHY = f'the films of {SHARED.name} are not here; MVSSL_SHARED_DATA names their folder'
needs_real = pytest.mark.skipif(not SHARED.exists(), reason=WHY)


@needs_real
def test_real_film_with_keypoints_and_labels(tmp_path):
    ds = prepare(
        SHARED / 'videos',
        tmp_path / 'out',
        boxes=SHARED / 'pose2d_body25b',
        keypoint_size=(1088, 1920),
        poses=SHARED / 'pose3d' / 'S00_P00_T01_BalancingTrial_0-100.trc',
        progress=False,
    )
    ds.validate()
    assert (len(ds), ds.views, ds.hz, ds.stride) == (17, ['cam01', 'cam02', 'cam03', 'cam04'], 10, 6)
    assert ds.seen[:].all() and ds.is_labelled.all()
    assert [video['codec'] for video in ds.extra['sequences'][0]['videos']] == ['h264', 'vp9', 'h264', 'h264']
    assert [video['size'] for video in ds.extra['sequences'][0]['videos']] == [[1080, 1920]] * 2 + [[1088, 1920]] * 2
    with np.load(SHARED / 'balancing_multiview.npz') as theirs:
        np.testing.assert_allclose(joint(ds.poses[:], 'RKnee'), theirs['trc_world_m'][::6, 1] * 1000, atol=0.1)
        keypoints = theirs['kp2d'][:, ::6, :, :2]
    inside = np.mean(
        [(keypoints[v] > ds.boxes[:, v, None, :2]) & (keypoints[v] < ds.boxes[:, v, None, 2:]) for v in range(4)]
    )
    assert inside > 0.95


@needs_real
def test_real_keypoints_say_how_cameras_hang():
    "Four cameras that stand; and the same, two of which are turned."
    views = ['cam01', 'cam02', 'cam03', 'cam04']
    size = (1088, 1920)
    people = {view: read_keypoints(SHARED / 'pose2d_body25b' / f'{view}_json', 100, size) for view in views}
    for turns in ((0, 0, 0, 0), (0, 90, 0, 180), (270, 0, 0, 0)):
        seen = []
        for view, lying in zip(views, turns):
            boxes, points = follow_person(people[view], size)
            corners = turn_boxes(np.concatenate([points[..., :2]] * 2, axis=-1), size, -lying % 360)
            seen.append(
                stance(
                    turn_boxes(boxes, size, -lying % 360), np.concatenate([corners[..., :2], points[..., 2:]], axis=-1)
                )
            )
        assert {view: degrees for view, (degrees, _) in turns_to_ask(views, seen).items()} == {
            view: [lying] for view, lying in zip(views, turns) if lying
        }


@needs_real
def test_a_real_camera_on_its_side_is_asked_about(tmp_path):
    """By what moves: a table says of the second camera that it hangs turned by 90 degrees, so the first picture of
    it lies."""
    rows = [
        f'{SHARED}/videos/cam0{n}.mp4,S1,balance,cam0{n},{turn}' for n, turn in ((1, ''), (2, ''), (3, ''), (4, ''))
    ]
    (tmp_path / 'list.csv').write_text('\n'.join(['file,subject,sequence,view,turn', *rows]) + '\n')
    takes, hz, _ = synchronise(read_manifest(tmp_path / 'list.csv'))
    videos_module.ask_for_turns(takes)  # all stand: nobody is asked
    takes[0].videos[1] = videos_module.turned(takes[0].videos[1], 90)
    with pytest.raises(
        DatasetError,
        match=(
            'cam02.mp4, picture: whoever moves is 1.. times as wide as high, and higher than wide in cam01, cam03, '
            'cam04'
        ),
    ) as caught:
        videos_module.ask_for_turns(takes)
    assert len(caught.value.problems) == 1


@needs_real
def test_real_film_without_boxes(tmp_path):
    "By motion, of a man who hardly leaves his place: most of him is in most squares."
    ds = prepare(SHARED / 'videos', tmp_path / 'out', progress=False)
    assert ds.seen[:].mean() > 0.95 and (tmp_path / 'out-boxes.png').exists()
    with np.load(SHARED / 'balancing_multiview.npz') as theirs:
        keypoints = theirs['kp2d'][:, ::6, :, :2]
    inside = np.mean(
        [(keypoints[v] > ds.boxes[:, v, None, :2]) & (keypoints[v] < ds.boxes[:, v, None, 2:]) for v in range(4)]
    )
    assert inside > 0.85
