"""Human3.6M: every layout to the same store, every known quirk, every damage to one message. All files are invented by
human36m_fixture."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from human36m_fixture import KEPT, VIEWS, write_cdf, write_human36m
from films import MARKS, find_mark, frame_number
from typer.testing import CliRunner

from mvssl.cameras import project, virtual_camera
from mvssl.cli import app
from mvssl.dataset import DatasetError, MultiviewDataset, done_in
from mvssl.skeleton import JOINTS
from mvssl.sources import filming, human36m
from mvssl.sources.human36m import (
    ACTIONS,
    SUBJECTS,
    TOTALS,
    Metadata,
    Options,
    compare_with_complete,
    make_plan,
    prepare,
    read_cdf,
    read_layout,
    read_masks,
    read_metadata,
    read_name,
    read_pickle,
    trials_of,
)
from mvssl.sources.filming import Target, film, needed_bytes

QUICK = dict(workers=1, progress=False)


@pytest.fixture(scope='module')
def truth(tmp_path_factory):
    torch.set_num_threads(1)
    return write_human36m(tmp_path_factory.mktemp('human36m') / 'raw')


@pytest.fixture
def raw(truth, tmp_path):
    "A copy to damage; the films themselves are not copied."
    return Path(shutil.copytree(truth.root, tmp_path / 'raw', copy_function=os.link))


@pytest.fixture(scope='module')
def plain(truth):
    return prepare(truth.root, truth.root.parent / 'plain', **QUICK)


@pytest.mark.parametrize(
    'left',
    ['._Directions.54138969.mp4', 'Thumbs.db', '__MACOSX/S1/Videos/Directions.54138969.mp4', '@eaDir/S1/Videos/x.mp4'],
)
def test_what_systems_leave_in_a_copy(raw, left):
    "Not read, not told of, not taken for a second copy."
    before = human36m.look_into(raw)
    place = raw / left if '/' in left else next(path.parent for path in sorted(raw.rglob('*.mp4'))) / left
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b'\0\5\x16\7')
    after = human36m.look_into(raw)
    assert (before.files, before.unknown, before.archives, before.metadata) == (
        after.files,
        after.unknown,
        after.archives,
        after.metadata,
    )


def check_store(ds, truth, stride=5, camera_of=None):
    "Poses as invented, crops from the right frame of the right camera, marks where joints are: the worst distances."
    mm, px = 0.0, []
    for i, instant in enumerate(ds.table.itertuples()):
        true = truth.poses[instant.subject, instant.sequence][stride * instant.index]
        mm = max(mm, float(np.abs(ds.poses[i] - true).max()))
        assert instant.time_s == pytest.approx(stride * instant.index / 50)
        for v in np.flatnonzero(ds.seen[i]):
            assert frame_number(ds.frames[i][v], 45) == stride * instant.index
            camera = truth.cameras[instant.subject][VIEWS.index(ds.views[v])]
            box = ds.boxes[i, v].astype(float)
            if camera_of:
                at = project(true, camera_of(camera, box)).numpy()
            else:
                at = (project(true, camera).numpy() - box[:2]) * ds.side / (box[2] - box[0]) - 0.5
            px += [
                np.linalg.norm(find_mark(ds.frames[i][v], colour) - at[JOINTS.index(joint)])
                for joint, colour in MARKS.items()
            ]
    assert np.isfinite(px).mean() > 0.95  # a mark may be hidden by the edge
    return mm, float(np.nanmax(px)) * 128 / ds.side


# ---- round trips -----------------------------------------------------------------------------------------------------


def test_as_downloaded(plain, truth):
    plain.validate()
    mm, px = check_store(plain, truth)
    assert mm < 0.1 and px < 1
    assert list(plain.views) == list(VIEWS) and plain.hz == 10 and plain.stride == 5
    assert set(plain.table.sequence) == {'Photo 1', 'Photo 2', 'Greeting 1', 'Greeting 2', 'Directions 2'}
    assert plain.extra['layout'] == 'downloaded' and 'own' in plain.extra['skeleton'] and plain.extra['joints'] == KEPT
    for v in range(4):
        np.testing.assert_allclose(plain.cameras['t'][0, v], truth.cameras['S1'][v].t.numpy(), atol=1e-6)
    seen = plain.seen[plain.table.subject == 'S11']
    assert not seen[:, 0].any() and seen[:, 1:].all() and plain.seen[plain.table.subject != 'S11'].all()


@pytest.mark.parametrize('layout', ['extracted', 'by kind', 'processed', 'toolbox', 'videopose3d'])
def test_layouts_of_others(truth, plain, tmp_path, layout):
    ds = prepare(truth.as_layout(tmp_path / layout, layout), tmp_path / 'store', allow_pickle=True, **QUICK)
    ds.validate()
    mm, px = check_store(ds, truth)
    assert mm < 0.1 and px < 1.5  # pictures are converted once more on their way: half a pixel of colour
    own = (plain.table.subject != 'S11') | (layout != 'videopose3d')  # where that sequence is left out
    pd.testing.assert_frame_equal(ds.table, plain.table[own])
    np.testing.assert_array_equal(ds.seen, plain.seen[own])
    assert not any('cut' in line for line in compare_with_complete(ds))
    assert ds.extra['layout'] == dict(processed='h36m-fetch', toolbox='H36M-Toolbox', videopose3d='VideoPose3D').get(
        layout, 'downloaded'
    )


def test_turned_cameras(truth, tmp_path):
    ds = prepare(truth.root, tmp_path / 'store', perspective=True, subjects=['S1', 'S9'], **QUICK)
    mm, px = check_store(ds, truth, camera_of=lambda camera, box: virtual_camera(camera, torch.tensor(box), ds.side)[0])
    assert mm < 0.1 and px < 1


def test_official_boxes(truth, plain, tmp_path):
    ds = prepare(truth.root, tmp_path / 'store', boxes='masks', **QUICK)
    mm, px = check_store(ds, truth)
    assert mm < 0.1 and px < 1
    off = np.abs(ds.boxes - plain.boxes)[ds.seen]
    assert 0 < off.max() < 14  # px of pictures of 200: alike, not the same


def test_another_stride(truth, tmp_path):
    ds = prepare(truth.root, tmp_path / 'store', stride=3, subjects=['S9'], **QUICK)
    assert ds.hz == pytest.approx(50 / 3) and len(ds) == 2 * 14
    mm, px = check_store(ds, truth, stride=3)
    assert mm < 0.1 and px < 1


def test_two_processes_give_the_same_bytes(truth, plain, tmp_path):
    again = prepare(truth.root, tmp_path / 'store', workers=2, progress=False)
    assert again.checksum == plain.checksum


def test_a_finished_store_is_opened_not_made_again(truth, plain, monkeypatch):
    monkeypatch.setattr(filming, 'DatasetWriter', None)
    assert prepare(truth.root, plain.path, **QUICK).checksum == plain.checksum


# ---- quirks ---------------------------------------------------------------------------------------------------------


def test_shifted_clips(truth, tmp_path):
    kept = prepare(truth.root, tmp_path / 'kept', s9_shifted='keep', subjects=['S9'], side=32, **QUICK)
    away = kept.where(sequence='Greeting 2').poses - truth.poses['S9', 'Greeting 2'][::5]
    np.testing.assert_allclose(away, np.broadcast_to([200, 0, 0], away.shape), atol=0.01)
    dropped = prepare(truth.root, tmp_path / 'dropped', s9_shifted='drop', subjects=['S9'], side=32, **QUICK)
    assert (
        set(dropped.table.sequence) == {'Greeting 1'} and 'S9 Greeting 2: left out as asked' in dropped.extra['notes']
    )


def test_broken_view(truth, tmp_path):
    kept = prepare(truth.root, tmp_path / 'kept', s11_directions='keep', subjects=['S11'], side=32, **QUICK)
    assert kept.seen.all()
    with pytest.raises(DatasetError, match='nothing whole is left'):
        prepare(truth.root, tmp_path / 'dropped', s11_directions='drop', subjects=['S11'], **QUICK)


def test_broken_view_may_be_absent_or_damaged(truth, raw, tmp_path):
    file = truth.video('S11', 'Directions', VIEWS[0]).relative_to(truth.root)
    (raw / file).unlink()
    make_plan(*read_layout(raw)[:2], Options(subjects=('S11',)))
    with pytest.raises(DatasetError, match=f'S11 Directions 2, {VIEWS[0]}: no pictures'):
        make_plan(*read_layout(raw)[:2], Options(subjects=('S11',), s11_directions='keep'))
    (raw / file).write_bytes(b'not a video')
    make_plan(*read_layout(raw)[:2], Options(subjects=('S11',)))


def test_all_is_skipped_and_names_are_read(truth):
    assert truth.video('S1', '_ALL', VIEWS[0]).exists() and truth.video('S1', '_ALL 1', VIEWS[0]).exists()
    assert {s.action for s in read_layout(truth.root)[0]} == {'Photo', 'Greeting', 'Directions'}
    for name in ('TakingPhoto 1', 'Photo 1', 'TakingPhoto-1', 'TakingPhoto_1', 'takingphoto 1.54138969.mp4'):
        assert read_name(name)[:2] == ('Photo', 1)
    for name in ('WalkTogether', 'WalkingTogether.58860488.cdf.mat'):
        assert read_name(name)[:2] == ('WalkTogether', 0)
    assert (
        read_name('Sitting.cdf')[0] == 'Sitting'
        and read_name('SittingDown.cdf')[0] == 'SittingDown'
        and read_name('Walking 1.cdf')[0] == 'Walking'
    )
    assert read_name('_ALL.54138969.cdf') is None and read_name('notes.txt') is None


@pytest.mark.parametrize(
    'subject, action, numbers, expected',
    [
        ('S1', 'Waiting', [0, 1], {1: 1, 0: 2}),
        ('S5', 'Photo', [0, 2], {0: 1, 2: 2}),
        ('S6', 'Photo', [1, 0], {0: 1, 1: 2}),
        ('S8', 'Photo', [1, 0], {1: 1, 0: 2}),
        ('S8', 'SittingDown', [0, 1], {0: 1, 1: 2}),
        ('S6', 'SittingDown', [0, 1], {1: 1, 0: 2}),
        ('S5', 'Discussion', [3, 2], {2: 1, 3: 2}),
        ('S9', 'Eating', [0], {0: 2}),
    ],
)
def test_order_of_trials_without_metadata(subject, action, numbers, expected):
    assert trials_of(subject, action, numbers) == expected


def test_order_of_trials_is_that_of_metadata(truth, tmp_path):
    truth.metadata(tmp_path / 'metadata.xml', sequences=[('S9', 5, 2, 'Greeting 1'), ('S9', 5, 1, 'Greeting')])
    sequences = read_layout(truth.root, tmp_path / 'metadata.xml')[0]
    assert {s.name: s.trial for s in sequences if s.subject == 'S9'} == {'Greeting 1': 2, 'Greeting': 1}


def test_cameras_from_json(truth, tmp_path):
    "The same cameras in OpenCV's convention, as they are passed around without metadata.xml."
    own = {s: truth.cameras[s] for s in truth.subjects}
    lens = own['S1'].distortion.numpy()
    content = dict(
        intrinsics={
            view: dict(calibration_matrix=own['S1'].K[v].tolist(), distortion=lens[v].tolist())
            for v, view in enumerate(VIEWS)
        },
        extrinsics={
            s: {view: dict(R=c.R[v].tolist(), t=c.t[v][:, None].tolist()) for v, view in enumerate(VIEWS)}
            for s, c in own.items()
        },
    )
    (tmp_path / 'camera-parameters.json').write_text(json.dumps(content))
    found = read_metadata(tmp_path / 'camera-parameters.json')
    for s in own:
        torch.testing.assert_close(
            project([[300.0, 200.0, 1200.0]], found.cameras[s]),
            project([[300.0, 200.0, 1200.0]], own[s]),
            rtol=1e-9,
            atol=1e-9,
        )
    assert [s.title for s in read_layout(truth.root, tmp_path / 'camera-parameters.json')[0]] == [
        s.title for s in read_layout(truth.root)[0]
    ]


def test_pose_files_of_either_shape_and_precision(truth, tmp_path):
    from cdflib import cdfwrite

    joints = truth.joints['S1', 'Photo 1']
    for name, shape, kind in (('rows', [96], 45), ('one record', [len(joints), 96], 44)):
        file = cdfwrite.CDF(str(tmp_path / f'{name}.cdf'), cdf_spec={'Compressed': 0})
        values = joints.reshape(len(joints), 96).astype('float64' if kind == 45 else 'float32')
        file.write_var(
            {
                'Variable': 'Pose',
                'Data_Type': kind,
                'Num_Elements': 1,
                'Rec_Vary': True,
                'Var_Type': 'zVariable',
                'Dim_Sizes': shape,
                'Compress': 6,
            },
            var_data=values if kind == 45 else values[None],
        )
        file.close()
        np.testing.assert_allclose(read_cdf(tmp_path / f'{name}.cdf'), joints[:, KEPT], atol=1e-3)


def test_masks_of_both_versions(truth):
    folder = truth.root / 'S9' / 'MySegmentsMat' / 'ground_truth_bb'
    from human36m_fixture import mask_boxes

    for v, start in ((0, b'MATLAB 7.3'), (3, b'MATLAB 5.0')):
        path = folder / f'Greeting 1.{VIEWS[v]}.mat'
        assert path.read_bytes()[:10] == start
        true = mask_boxes(truth.joints['S9', 'Greeting 1'], truth.cameras['S9'][v])
        np.testing.assert_array_equal(
            read_masks(path, [0, 7, 41, 99])[:3], true[[0, 7, 41]] - 0.5
        )  # from half-open edges to pixel centres
        assert np.isnan(read_masks(path, [99])).all()


# ---- counts ----------------------------------------------------------------------------------------------------------


def cut_video(path, n):
    "Keeps the first N frames."
    import av
    from films import write_film

    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format='rgb24') for frame in container.decode(video=0)]
    path.unlink()
    write_film(path, frames[:n])


def test_two_frames_less_are_nothing(truth, raw, tmp_path):
    cut_video(raw / 'S9' / 'Videos' / f'Greeting 1.{VIEWS[2]}.mp4', 40)
    takes, notes = make_plan(*read_layout(raw)[:2], Options(subjects=('S9',), stride=1))
    assert [len(take.frames) for take in takes] == [40, 42] and not notes
    write_cdf(raw / 'S9' / 'MyPoseFeatures' / 'D3_Positions' / 'Greeting.cdf', truth.joints['S9', 'Greeting 2'][:40])
    assert [len(take.frames) for take in make_plan(*read_layout(raw)[:2], Options(subjects=('S9',), stride=1))[0]] == [
        40,
        40,
    ]


def test_incomplete_copies(truth, raw, tmp_path):
    """A short video, an absent camera, cut poses: all told at once; accepted, the rest becomes a store that says
    what it lacks."""
    cut_video(raw / 'S1' / 'Videos' / f'TakingPhoto 1.{VIEWS[1]}.mp4', 23)
    (raw / 'S9' / 'Videos' / f'Greeting 1.{VIEWS[3]}.mp4').unlink()
    write_cdf(
        raw / 'S9' / 'MyPoseFeatures' / 'D3_Positions' / 'Greeting.cdf',
        truth.joints['S9', 'Greeting 2'][:30] + [200, 0, 0],
    )
    (raw / 'S1' / 'MyPoseFeatures' / 'D3_Positions' / 'TakingPhoto.cdf').unlink()
    with pytest.raises(DatasetError) as found:
        prepare(raw, tmp_path / 'store', **QUICK)
    text = str(found.value)
    for part in (
        f'S1 Photo 1, {VIEWS[1]}: the video ends after 23 frames, its poses after 42',
        f'S9 Greeting 1, {VIEWS[3]}: no pictures',
        'S9 Greeting 2: 30 poses, metadata.xml has 42: cut',
        "S1 Photo 2: videos without poses",
        '--incomplete',
    ):
        assert part in text
    assert not (tmp_path / 'store.partial').exists()
    ds = prepare(raw, tmp_path / 'store', incomplete=True, **QUICK)
    ds.validate()
    assert set(ds.table.sequence) == {'Photo 1', 'Greeting 1', 'Greeting 2', 'Directions 2'}
    assert ds.seen[ds.table.sequence == 'Photo 1'][:, 1].tolist() == [True] * 5 + [False] * 4
    mm, px = check_store(ds, truth)
    assert mm < 0.1 and px < 1
    told = compare_with_complete(ds)
    for part in (
        'S5: missing',
        f'S1 Photo 1, {VIEWS[1]}: no picture at 4 of 9 instants',
        f'S9 Greeting 1, {VIEWS[3]}: no picture at 9 of 9 instants',
        'S9 Greeting 2: cut, 30 of 42 frames',
    ):
        assert part in told
    assert any(line.startswith('S1: 29 of 30 sequences missing') for line in told)


def whole(cut=0):
    "A store that has all of Human3.6M, but its pictures; CUT frames less in each sequence."
    names = [f'{action} {trial}' for action in ACTIONS.values() for trial in (1, 2)]
    sequences = [
        dict(subject=s, sequence=name, poses=n - cut, expected=n)
        for s in SUBJECTS
        for total in [TOTALS[s] // 4]
        for i, name in enumerate(names)
        for n in [total // 30 + (i < total % 30)]
    ]
    table = pd.DataFrame([dict(subject=one['subject'], sequence=one['sequence']) for one in sequences])
    return SimpleNamespace(
        extra=dict(sequences=sequences, layout='downloaded'),
        table=table,
        seen=np.ones((len(table), 4), bool),
        views=list(VIEWS),
    )


def test_a_complete_copy_lacks_nothing():
    assert compare_with_complete(whole()) == compare_with_complete(whole(cut=2)) == []
    assert len(compare_with_complete(whole(cut=3))) == 7 * 31  # each sequence, and each subject's sum
    less = whole()
    less.extra['sequences'].pop(40)
    assert len(compare_with_complete(less)) == 1


# ---- damage ----------------------------------------------------------------------------------------------------------

POSES, PIXELS, VIDEOS = ('S1/MyPoseFeatures/D3_Positions', 'S1/MyPoseFeatures/D2_Positions', 'S1/Videos')


def truncate(path, share=0.5):
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: int(len(content) * share)])


def rewrite(path, **options):
    path.unlink()
    write_cdf(path, **options)


def exchanged(raw):
    text = (raw / 'metadata.xml').read_text()
    (raw / 'metadata.xml').unlink()
    (raw / 'metadata.xml').write_text(text.replace(VIEWS[0], 'xx').replace(VIEWS[2], VIEWS[0]).replace('xx', VIEWS[2]))


def only_archives(raw):
    for subject in ('S1', 'S9', 'S11'):
        shutil.rmtree(raw / subject)
    (raw / 'Videos_S1.tgz').touch()
    (raw / 'Poses_D3_Positions_S1.tgz').touch()


DAMAGES = {
    'truncated pose file': (
        lambda raw, truth: truncate(raw / POSES / 'TakingPhoto 1.cdf'),
        'TakingPhoto 1.cdf, file: cannot be read as CDF',
        'extract its archive again',
    ),
    'empty pose file': (
        lambda raw, truth: truncate(raw / POSES / 'TakingPhoto 1.cdf', 0),
        'TakingPhoto 1.cdf, file: cannot be read as CDF',
        'extract its archive again',
    ),
    'wrong variable': (
        lambda raw, truth: rewrite(
            raw / POSES / 'TakingPhoto 1.cdf', values=truth.joints['S1', 'Photo 1'], variable='Angles'
        ),
        'TakingPhoto 1.cdf, Pose: no variable of this name, only Angles',
        'D3_Positions',
    ),
    '2D in place of 3D': (
        lambda raw, truth: rewrite(raw / POSES / 'TakingPhoto 1.cdf', values=truth.joints['S1', 'Photo 1'][..., :2]),
        'no 3 coordinates of 32 joints',
        'D3_Positions',
    ),
    'poses in metres': (
        lambda raw, truth: rewrite(raw / POSES / 'TakingPhoto 1.cdf', values=truth.joints['S1', 'Photo 1'] / 1000),
        'these are metres',
        'millimetres',
    ),
    'camera coordinates': (
        lambda raw, truth: rewrite(
            raw / POSES / 'TakingPhoto 1.cdf',
            values=(truth.joints['S1', 'Photo 1'] @ truth.cameras['S1'][0].R.numpy().T)
            + truth.cameras['S1'][0].t.numpy(),
        ),
        'camera coordinates, not world coordinates',
        'D3_Positions_mono',
    ),
    'not finite': (
        lambda raw, truth: rewrite(
            raw / POSES / 'TakingPhoto 1.cdf',
            values=np.where(np.arange(42)[:, None, None] == 3, np.nan, truth.joints['S1', 'Photo 1']),
        ),
        '1 of 42 rows are not finite',
        'extract',
    ),
    'video shorter than poses': (
        lambda raw, truth: cut_video(raw / VIDEOS / f'TakingPhoto 1.{VIEWS[0]}.mp4', 30),
        f'S1 Photo 1, {VIEWS[0]}: the video ends after 30 frames, its poses after 42',
        'truncated',
    ),
    'truncated video': (
        lambda raw, truth: truncate(raw / VIDEOS / f'TakingPhoto 1.{VIEWS[0]}.mp4'),
        f'TakingPhoto 1.{VIEWS[0]}.mp4, file: cannot be read as a video',
        'extract its archive again',
    ),
    'missing camera': (
        lambda raw, truth: (raw / VIDEOS / f'TakingPhoto 1.{VIEWS[2]}.mp4').unlink(),
        f'S1 Photo 1, {VIEWS[2]}: no pictures of this camera',
        'Extract the videos',
    ),
    'missing sequence': (
        lambda raw, truth: [path.unlink() for path in raw.rglob('Greeting 1.*')],
        "S9 Greeting 1: neither poses nor videos of 'Greeting 1'",
        'Extract the archives',
    ),
    'missing metadata.xml': (
        lambda raw, truth: (raw / 'metadata.xml').unlink(),
        'metadata.xml, file: missing',
        'Release-v1.2/metadata.xml',
    ),
    'damaged metadata.xml': (
        lambda raw, truth: truncate(raw / 'metadata.xml'),
        'metadata.xml, line 2: not readable as XML',
        'Release-v1.2',
    ),
    'cameras of other files': (lambda raw, truth: exchanged(raw), 'exchanged', 'index2id'),
    'archives not extracted': (
        lambda raw, truth: only_archives(raw),
        'archives: not extracted: Poses_D3_Positions_S1.tgz, Videos_S1.tgz',
        'tar -xzf',
    ),
    'a copy of a copy': (
        lambda raw, truth: shutil.copytree(raw / 'S9', raw / 'backup' / 'S9'),
        'there is also',
        'one copy of each',
    ),
    'another rate': (
        lambda raw, truth: reframed(raw / VIDEOS / f'TakingPhoto 1.{VIEWS[0]}.mp4', hz=25),
        'frame rate: 25 per second, Human3.6M has 50',
        'as they were downloaded',
    ),
    'scaled video': (
        lambda raw, truth: reframed(raw / VIDEOS / f'TakingPhoto 1.{VIEWS[0]}.mp4', step=2),
        'scaled or cut pictures',
        'size they were downloaded in',
    ),
}


def reframed(path, hz=50, step=1):
    import av
    from films import write_film

    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format='rgb24')[::step, ::step] for frame in container.decode(video=0)]
    path.unlink()
    write_film(path, [frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2] for frame in frames], hz=hz)


@pytest.mark.parametrize('name', DAMAGES)
def test_damage_is_told_before_anything_is_written(truth, raw, tmp_path, name):
    damage, what, remedy = DAMAGES[name]
    damage(raw, truth)
    with pytest.raises(DatasetError) as error:
        prepare(raw, tmp_path / 'store', side=32, **QUICK)
    assert what in str(error.value) and remedy in str(error.value)
    assert all(problem.file and problem.field and problem.what and problem.remedy for problem in error.value.problems)
    assert not (tmp_path / 'store').exists() and not (tmp_path / 'store.partial').exists()


def test_exchanged_videos_are_told_by_what_moves(tmp_path):
    "Without D2_Positions and masks."
    truth = write_human36m(
        tmp_path / 'raw', [('S1', 14, 1, 'Walking 1')], n=60, every=3, room=True, masks=False, at=(900, 500)
    )
    shutil.rmtree(truth.root / 'S1' / 'MyPoseFeatures' / 'D2_Positions')
    assert make_plan(*read_layout(truth.root)[:2])[1] == []
    first, third = (truth.video('S1', 'Walking 1', VIEWS[v]) for v in (0, 2))
    first.rename(tmp_path / 'first.mp4')
    third.rename(first)
    (tmp_path / 'first.mp4').rename(third)
    with pytest.raises(DatasetError, match='exchanged'):
        make_plan(*read_layout(truth.root)[:2])


def test_archives_beside_extracted_ones(raw):
    (raw / 'Videos_S5.tgz').touch()
    (raw / 'Videos_S9.tgz').touch()
    assert read_layout(raw)[3] == ['Videos_S5.tgz: not extracted']


def test_metadata_above_the_folder(truth, tmp_path):
    root = truth.as_layout(tmp_path / 'fetch', 'extracted')
    assert read_layout(root / 'extracted')[1].path == (root / 'metadata.xml').resolve()


def test_videos_alone(truth, raw):
    for folder in raw.glob('S*/MyPoseFeatures'):
        shutil.rmtree(folder)
    with pytest.raises(DatasetError, match='D3_Positions: videos without any pose file.*Extract'):
        read_layout(raw)


def test_damaged_masks(truth, raw, tmp_path):
    path = raw / 'S1' / 'MySegmentsMat' / 'ground_truth_bb' / f'TakingPhoto 1.{VIEWS[0]}.mat'
    truncate(path)
    with pytest.raises(DatasetError, match='Masks: cannot be read'):
        read_masks(path)
    path.unlink()
    with pytest.raises(DatasetError, match=f'S1 Photo 1, {VIEWS[0]}: no masks'):
        make_plan(*read_layout(raw)[:2], Options(boxes='masks'))


def test_a_video_damaged_inside(truth, raw, tmp_path):
    "Its header is whole, so only decoding tells."
    path = raw / VIDEOS / f'TakingPhoto 1.{VIEWS[0]}.mp4'
    content = bytearray(path.read_bytes())
    at = content.find(b'mdat') + 900
    content[at : at + 3 * (len(content) - at) // 5] = b'\0' * (3 * (len(content) - at) // 5)
    if content.find(b'moov') < 0 or bytes(content[:at]).find(b'mdat') < 0:
        pytest.fail('the film is built otherwise')
    path.unlink()
    path.write_bytes(content)
    with pytest.raises(DatasetError) as error:
        prepare(raw, tmp_path / 'store', subjects=['S1'], side=32, **QUICK)
    assert f'TakingPhoto 1.{VIEWS[0]}.mp4' in str(error.value)
    shutil.rmtree(tmp_path / 'store.partial')
    ds = prepare(raw, tmp_path / 'store', subjects=['S1'], side=32, incomplete=True, **QUICK)
    assert not ds.seen[ds.table.sequence == 'Photo 1'][:, 0].all() and ds.seen[:, 1:].all()
    assert any(f'S1 Photo 1, {VIEWS[0]}: no picture at' in line for line in compare_with_complete(ds))


def test_no_room_on_the_disk(truth, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, 'disk_usage', lambda place: SimpleNamespace(free=10**6))
    with pytest.raises(DatasetError, match=r'disk: 0\.\d+ GB are needed, 0.00 GB are free.*--side'):
        prepare(truth.root, tmp_path / 'store', **QUICK)
    assert not (tmp_path / 'store.partial').exists()


@pytest.mark.skipif(not Path('/dev/full').exists(), reason='needs a device that is always full')
def test_a_disk_that_gets_full(truth, tmp_path):
    takes, _ = make_plan(*read_layout(truth.root)[:2], Options(subjects=('S1',)))
    shot = human36m._shot(takes[0], 0, VIEWS[0], Options()).ready()
    with pytest.raises(DatasetError, match='disk: No space left'):
        film(shot, Target(Path('/dev/full'), view=0, views=4, side=128))


def test_a_store_of_another_schema(truth, plain, tmp_path):
    copy = Path(shutil.copytree(plain.path, tmp_path / 'store'))
    (copy / 'dataset.json').write_text((copy / 'dataset.json').read_text().replace('"schema": 1', '"schema": 2'))
    with pytest.raises(DatasetError, match='schema: version 2, this code reads 1'):
        prepare(truth.root, copy, **QUICK)


def test_pickles_only_if_asked_for(truth, tmp_path):
    for layout in ('toolbox', 'videopose3d'):
        with pytest.raises(DatasetError, match='can run any program.*--allow-pickle'):
            prepare(truth.as_layout(tmp_path / layout, layout), tmp_path / 'store', **QUICK)


class Harmful:
    def __init__(self, call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize('call', [(os.system, ('true',)), (eval, ('1',)), (np.load, ('x',)), (getattr, (1, 'real'))])
def test_pickles_that_do_more_than_data_are_refused(tmp_path, call):
    (tmp_path / 'h36m_train.pkl').write_bytes(pickle.dumps([Harmful(call)]))
    with pytest.raises(DatasetError, match='it asks for'):
        read_pickle(tmp_path / 'h36m_train.pkl', True)
    np.savez(tmp_path / 'data_3d_h36m.npz', positions_3d=np.array({'S1': Harmful(call)}, dtype=object))
    with pytest.raises(DatasetError, match='it asks for'):
        read_pickle(tmp_path / 'data_3d_h36m.npz', True, 'positions_3d')


@pytest.mark.parametrize('protocol', [0, 2, 4, 5])
def test_pickles_of_any_age(tmp_path, protocol):
    content = [
        dict(a=np.arange(6.0).reshape(2, 3), b=np.float32(3), c='text', d=np.array([[1]], dtype='float32'), e=(1, 2))
    ]
    (tmp_path / 'h36m_train.pkl').write_bytes(pickle.dumps(content, protocol=protocol))
    found = read_pickle(tmp_path / 'h36m_train.pkl', True)
    np.testing.assert_array_equal(found[0]['a'], content[0]['a'])
    assert found[0]['b'] == 3 and found[0]['c'] == 'text'


# ---- killed and called again -----------------------------------------------------------------------------------------


def test_finished_videos_are_not_decoded_again(truth, plain, tmp_path, monkeypatch):
    "Stopped in the third video of the second sequence: the first sequence and two videos stay."
    real, filmed = filming.film, []

    def film(shot, target, tick):
        if len(filmed) == 6:
            raise KeyboardInterrupt
        filmed.append((target.file.name, target.view))
        return real(shot, target, tick)

    monkeypatch.setattr(filming, 'film', film)
    with pytest.raises(KeyboardInterrupt):
        prepare(truth.root, tmp_path / 'store', **QUICK)
    before = list(filmed)
    filmed[:] = [None] * 10  # so that it does not stop again
    assert prepare(truth.root, tmp_path / 'store', **QUICK).checksum == plain.checksum
    after = filmed[10:]
    assert len(before) == 6 and not set(before) & set(after) and len(before) + len(after) == 19
    assert not (tmp_path / 'store.partial').exists()


def test_other_options_do_not_continue_what_was_begun(truth, tmp_path, monkeypatch):
    def stop(shot, target, tick):
        raise KeyboardInterrupt

    monkeypatch.setattr(filming, 'film', stop)
    with pytest.raises(KeyboardInterrupt):
        prepare(truth.root, tmp_path / 'store', side=64, **QUICK)
    with pytest.raises(DatasetError, match='side: 32 was asked for'):
        prepare(truth.root, tmp_path / 'store', side=32, **QUICK)


def test_who_goes_on_needs_room_for_the_rest_alone(truth, plain, tmp_path, monkeypatch):
    "Stopped in the third sequence: two are in the store and need no room again."
    real, filmed = filming.film, []

    def film(shot, target, tick):
        filmed.append(shot)
        if len(filmed) == 10:
            raise KeyboardInterrupt
        return real(shot, target, tick)

    monkeypatch.setattr(filming, 'film', film)
    with pytest.raises(KeyboardInterrupt):
        prepare(truth.root, tmp_path / 'store', **QUICK)
    monkeypatch.setattr(filming, 'film', real)
    takes = [{(one['subject'], one['sequence']): one['instants']} for one in plain.extra['sequences']]
    done = done_in(tmp_path / 'store')
    assert len(done) == 2
    rest = needed_bytes(takes, 4, 128, 1, done)
    assert rest < 0.8 * needed_bytes(takes, 4, 128, 1)
    monkeypatch.setattr(shutil, 'disk_usage', lambda place: SimpleNamespace(free=rest // 2))
    with pytest.raises(DatasetError, match='then run the same again'):
        prepare(truth.root, tmp_path / 'store', **QUICK)
    monkeypatch.setattr(shutil, 'disk_usage', lambda place: SimpleNamespace(free=rest))
    assert prepare(truth.root, tmp_path / 'store', **QUICK).checksum == plain.checksum


def test_a_worker_films_without_torch(truth, tmp_path):
    takes, _ = make_plan(*read_layout(truth.root)[:2])
    shot = human36m._shot(takes[0], 0, VIEWS[0], Options(side=32)).ready()
    job = shot, Target(tmp_path / '0.frames', view=0, views=4, side=32)
    (tmp_path / '0.frames').write_bytes(bytes(len(takes[0].frames) * 4 * 32 * 32 * 3))
    (tmp_path / 'job').write_bytes(pickle.dumps(job))
    code = (
        'import pickle, sys\nfrom mvssl.sources.filming import film\n'
        f'squares = film(*pickle.load(open({str(tmp_path / "job")!r}, "rb")))\n'
        'print(len(squares), "torch" in sys.modules, "matplotlib" in sys.modules)'
    )
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.split() == [
        str(len(takes[0].frames)),
        'False',
        'False',
    ]
    assert any((tmp_path / '0.frames').read_bytes())


# ---- texts, and what systems leave -----------------------------------------------------------------------------------


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16', 'utf-16-le'])
@pytest.mark.parametrize('end', ['\n', '\r\n', '\r'])
def test_metadata_in_any_encoding(truth, tmp_path, encoding, end):
    plain = read_metadata(truth.root / 'metadata.xml')
    (tmp_path / 'metadata.xml').write_bytes(
        (truth.root / 'metadata.xml').read_text().replace('\n', end).encode(encoding)
    )
    found = read_metadata(tmp_path / 'metadata.xml')
    assert (found.views, found.trials, found.frames) == (plain.views, plain.trials, plain.frames)
    for subject, cameras in plain.cameras.items():
        torch.testing.assert_close(found.cameras[subject].K, cameras.K, rtol=0, atol=0)


def test_a_number_in_the_metadata_that_is_none(truth, tmp_path):
    text = (truth.root / 'metadata.xml').read_text()
    at = text.index('<w0>') + len('<w0>[')
    (tmp_path / 'metadata.xml').write_text(text[:at] + 'soon' + text[text.index(' ', at) :])
    with pytest.raises(DatasetError, match="metadata.xml, w0: 'soon' is not a number"):
        read_metadata(tmp_path / 'metadata.xml')


def test_cameras_as_json_in_any_encoding(tmp_path):
    content = dict(
        intrinsics={
            view: dict(calibration_matrix=[[1000, 0, 500], [0, 1000, 500], [0, 0, 1]], distortion=[0] * 5)
            for view in VIEWS
        },
        extrinsics={'S1': {view: dict(R=np.eye(3).tolist(), t=[[0], [0], [4000]]) for view in VIEWS}},
    )
    for encoding in ('utf-8', 'utf-8-sig', 'utf-16'):
        (tmp_path / 'cameras.json').write_bytes(json.dumps(content).encode(encoding))
        assert read_metadata(tmp_path / 'cameras.json').views == VIEWS
    (tmp_path / 'cameras.json').write_text('{"intrinsics":\n{]')
    with pytest.raises(DatasetError, match='cameras.json, line 2: not readable as JSON'):
        read_metadata(tmp_path / 'cameras.json')


def test_what_systems_leave_is_not_taken(truth, raw):
    "AppleDouble files, and a second copy in __MACOSX, as an archive made on a Mac has them; a link that leads back."
    plain, notes = make_plan(*read_layout(truth.root)[:2])
    for path in [*raw.rglob('*.mp4'), *raw.rglob('*.cdf')]:
        (path.parent / f'._{path.name}').write_bytes(b'Mac OS X')
    shutil.copytree(raw / 'S9', raw / '__MACOSX' / 'S9')
    (raw / '.Spotlight-V100').mkdir()
    (raw / 'S9' / 'again').symlink_to(raw)
    takes, told = make_plan(*read_layout(raw)[:2])
    assert [(take.sequence.title, len(take.frames), take.lengths) for take in takes] == [
        (take.sequence.title, len(take.frames), take.lengths) for take in plain
    ] and told == notes


@pytest.mark.parametrize(
    'link', ['S8', 'S9/Videos/Greeting 3.54138969.mp4', 'S1/MyPoseFeatures/D3_Positions/Eating.cdf']
)
def test_links_that_lead_nowhere(raw, tmp_path, link):
    (raw / link).symlink_to('/nowhere/at all')
    with pytest.raises(DatasetError, match=f'{link}, link: leads to /nowhere/at all, which is not there'):
        prepare(raw, tmp_path / 'store', **QUICK)


def test_a_folder_that_may_not_be_read(raw, tmp_path, monkeypatch):
    scandir = os.scandir

    def refuse(path='.'):
        if str(path).endswith('S9/Videos'):
            raise PermissionError(13, 'Permission denied', str(path))
        return scandir(path)

    monkeypatch.setattr(os, 'scandir', refuse)
    with pytest.raises(DatasetError, match='S9/Videos, folder: Permission denied'):
        prepare(raw, tmp_path / 'store', **QUICK)


# ---- full size -------------------------------------------------------------------------------------------------------


def test_room_for_the_whole_dataset():
    "About as much as its pictures, and little more for what is under way."
    lengths = [total // 4 // 30 // 5 for total in TOTALS.values() for _ in range(30)]
    pictures = sum(lengths) * 4 * 128 * 128 * 3
    assert pictures < needed_bytes([{('S', i): n} for i, n in enumerate(lengths)], 4, 128) < 1.02 * pictures + 1e8


# ---- command line ----------------------------------------------------------------------------------------------------


def run(*words):
    result = CliRunner().invoke(app, [str(word) for word in words], prog_name='mvssl')
    return result.exit_code, result.output


def test_command_line(truth, tmp_path):
    code, text = run('data', 'human36m', truth.root, '--check')
    assert code == 0 and 'sound: downloaded, 5 sequences' in text and 'S9: 2 sequences, 18 instants, 8 views' in text
    code, text = run(
        'data', 'human36m', truth.root, '--out', tmp_path / 'store', '--side', 48, '--workers', 1, '--subjects', 'S1,S9'
    )
    assert code == 0 and 'made:' in text and 'lacks: S5: missing' in text
    code, text = run('data', 'check', tmp_path / 'store', '--sheet', tmp_path / 'sheet.png')
    assert (
        code == 0
        and 'sound:' in text
        and 'lacks: S11: missing' in text
        and 'incomplete: compared' in text
        and (tmp_path / 'sheet.png').exists()
    )
    assert run('data', 'check', tmp_path / 'store', '--complete')[0] == 1
    code, text = run('data', 'human36m', truth.root, '--out', tmp_path / 'other', '--s9-shifted', 'forget')
    assert code == 1 and 'correct, drop, keep' in text and 'Traceback' not in text
    assert MultiviewDataset.open(tmp_path / 'store').extra['s9_shifted'] == 'correct'


def test_counts_of_other_videos_are_not_believed(truth, tmp_path):
    "A table that does not know the videos says nothing about the poses."
    truth.metadata(
        tmp_path / 'metadata.xml',
        frames={('S9', 5, 1): (900, 901, 901, 900, 3600), ('S9', 5, 2): (43, 901, 901, 900, 172)},
    )
    takes, _ = make_plan(*read_layout(truth.root, tmp_path / 'metadata.xml')[:2], Options(subjects=('S9',)))
    assert [take.facts['expected'] for take in takes] == [None, 43]


def test_metadata_without_counts_is_enough(truth, tmp_path):
    truth.metadata(tmp_path / 'metadata.xml', frames={})
    takes, notes = make_plan(*read_layout(truth.root, tmp_path / 'metadata.xml')[:2])
    assert len(takes) == 5 and all(take.facts['expected'] is None for take in takes)
    assert isinstance(read_metadata(tmp_path / 'metadata.xml'), Metadata)
