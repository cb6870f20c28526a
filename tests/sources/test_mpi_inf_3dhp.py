"""MPI-INF-3DHP from official files to a store: invented people there and back, each quirk of the format, damage."""

import pickle
import shutil
import signal
import subprocess
import sys
from functools import partial

import av
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import loadmat, savemat
from typer.testing import CliRunner

from films import MARKS, find_mark, frame_number, write_film
from invented_3dhp import (
    LAYOUTS,
    SIDE,
    calibration_text,
    make_rig,
    shown,
    write_frames,
    write_mat,
    write_sequence,
    write_test_cameras,
    write_test_sequence,
)
from mvssl.cli import app
from mvssl.dataset import DatasetError, MultiviewDataset, done_in, find_problems
from mvssl.evaluation import auc, pck
from mvssl.skeleton import JOINTS
from mvssl.sources import filming
from mvssl.sources import mpi_inf_3dhp as m
from mvssl.sources.filming import Target, needed_bytes

torch.set_num_threads(1)
prepare = partial(m.prepare, workers=1, sheet=None, progress=False)
prepare_test_set = partial(m.prepare_test_set, workers=1, sheet=None, progress=False)
CAMERAS = (0, 2, 7)


@pytest.fixture(scope='module')
def download(tmp_path_factory):
    "Folder and truths of a download: two sequences of S1, of 25 and 50 Hz; never changed."
    raw = tmp_path_factory.mktemp('download')
    truths = {
        'Seq1': write_sequence(raw / 'S1' / 'Seq1', 40, CAMERAS, hz=25),
        'Seq2': write_sequence(raw / 'S1' / 'Seq2', 60, CAMERAS, hz=50, seed=1, version=7.3),
    }
    return raw, truths


@pytest.fixture(scope='module')
def store(download, tmp_path_factory):
    return prepare(download[0], tmp_path_factory.mktemp('stores') / 'store', CAMERAS)


@pytest.fixture
def copy(download, tmp_path):
    "A copy of S1 Seq1 that may be damaged: its folder, and that of the download."
    shutil.copytree(download[0] / 'S1' / 'Seq1', tmp_path / 'raw' / 'S1' / 'Seq1')
    return tmp_path / 'raw' / 'S1' / 'Seq1', tmp_path / 'raw'


# ---- round trip ------------------------------------------------------------------------------------------------------


def kept(truth, hz_in, hz=10):
    return truth.poses[m.frames_shown(len(truth.poses), hz_in, hz)]


def test_known_poses_come_back(download, store):
    for (name, truth), hz in zip(download[1].items(), (25, 50)):
        part = store.where(action=name)
        assert abs(part.poses - kept(truth, hz)).max() < 0.1
        np.testing.assert_allclose(part.table['time_s'], m.frames_shown(len(truth.poses), hz, 10) / hz)
    assert find_problems(store.path) == []


def test_frames_are_of_their_instant_in_every_view(download, store):
    for name, hz in (('Seq1', 25), ('Seq2', 50)):
        part = store.where(action=name)
        wanted = m.frames_shown(len(download[1][name].poses), hz, 10)
        for view in range(len(CAMERAS)):
            assert [frame_number(part.frames[i, view]) for i in range(len(part))] == wanted.tolist()


def mark_deviations(ds):
    "Distance from each painted mark to where the label projects to, px of the crops, by view."
    found = {view: [] for view in ds.views}
    joints = m.joints_in_crops(ds, range(len(ds)))
    for i in range(len(ds)):
        for v, view in enumerate(ds.views):
            for name, colour in MARKS.items():
                found[view].append(
                    np.linalg.norm(find_mark(ds.frames[i, v], colour) - joints[i, v, JOINTS.index(name)])
                )
    return {view: np.array(off)[np.isfinite(off)] for view, off in found.items()}


@pytest.mark.parametrize('perspective', [False, True])
def test_labels_project_onto_the_painted_joints(download, tmp_path, perspective):
    ds = prepare(download[0], tmp_path / 'store', CAMERAS, perspective=perspective, take_s=1)
    for view, off in mark_deviations(ds).items():
        assert len(off) > 50
        assert np.quantile(off, 0.95) < 1.5 and np.median(off) < 1, (
            view,
            off,
        )  # wrist behind the body: the mark is drawn over it all the same


def test_views_stand_in_their_order(download, store):
    "Crops of another view do not fit the labels: the test above would see exchanged views."
    assert store.views == ['cam0', 'cam2', 'cam7']
    rig = download[1]['Seq1'].rig
    assert store.sequences['sequence'].tolist() == ['Seq1 1', 'Seq2 1']
    for v, c in enumerate(CAMERAS):
        np.testing.assert_allclose(store.cameras['R'][0][v], rig[c].R, atol=1e-6)
        np.testing.assert_allclose(store.cameras['t'][0][v], rig[c].t, atol=1e-4)
        np.testing.assert_allclose(store.cameras['K'][0][v], rig[c].K, rtol=1e-6)
    exchanged = MultiviewDataset.open(store.path)
    exchanged.__dict__['cameras'] = {name: array[:, [1, 0, 2]] for name, array in store.cameras.items()}
    assert all(np.median(off) > 3 for view, off in mark_deviations(exchanged).items() if view != 'cam7')


def test_universal_labels_are_scaled_about_the_hip(download, tmp_path):
    ds = prepare(download[0], tmp_path / 'store', CAMERAS, labels='univ_annot3', subjects=['S1'])
    truth = kept(download[1]['Seq1'], 25)
    hip = truth[:, :1]
    assert abs(ds.where(action='Seq1').poses - (hip + 0.93 * (truth - hip))).max() < 0.1
    assert ds.extra['labels'].startswith('univ_annot3') and '17 of' in ds.extra['skeleton']


def test_labels_do_not_depend_on_the_cameras(download, tmp_path, store):
    ds = prepare(download[0], tmp_path / 'store', (2, 7))
    np.testing.assert_array_equal(ds.poses, store.poses)
    np.testing.assert_array_equal(ds.frames[:], store.frames[:, 1:])


def test_the_world_is_upright(store):
    head, feet = store.poses[:, JOINTS.index('Head'), 2], store.poses[:, [3, 6], 2].min(1)
    assert (head > 1300).all() and (abs(feet) < 250).all()


@pytest.mark.parametrize('layout', LAYOUTS)
def test_extracted_frames_give_the_same_store(download, tmp_path, store, layout):
    write_sequence(tmp_path / 'raw' / 'S1' / 'Seq1', 40, CAMERAS, frames=layout)
    ds = prepare(tmp_path / 'raw', tmp_path / 'store', CAMERAS)
    part = store.where(action='Seq1')
    np.testing.assert_array_equal(ds.poses, part.poses)
    assert [frame_number(ds.frames[i, 1]) for i in range(len(ds))] == m.frames_shown(40, 25, 10).tolist()
    assert abs(ds.frames[:].astype(float) - part.frames[:]).mean() < 3


@pytest.mark.parametrize('bframes', [0, 3])
def test_frames_of_h264_in_avi(tmp_path, bframes):
    "Where frames are stored in another order than they are shown, and AVI does not say so."
    folder = tmp_path / 'raw' / 'S1' / 'Seq1'
    write_sequence(folder, 40, (0,))
    with av.open(str(folder / 'imageSequence' / 'video_0.avi'), 'w') as container:
        stream = container.add_stream('libx264', rate=25)
        stream.width = stream.height = SIDE
        stream.pix_fmt, stream.options = 'yuv420p', dict(bf=str(bframes), crf='16')
        for image in shown(42, 0):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format='rgb24')))
        container.mux(stream.encode())
    ds = prepare(tmp_path / 'raw', tmp_path / 'store', (0,))
    assert [frame_number(ds.frames[i, 0]) for i in range(len(ds))] == m.frames_shown(40, 25, 10).tolist()


def test_the_numbers_of_cameras_may_be_missing(copy, tmp_path, store):
    rewrite(copy[0], lambda variables: [variables.pop(name) for name in ('cameras', 'frames')])
    np.testing.assert_array_equal(
        prepare(copy[1], tmp_path / 'store', CAMERAS, side=32).poses, store.where(action='Seq1').poses
    )


def test_reduced_pictures_bring_reduced_cameras(tmp_path, store):
    half = SIDE // 2
    write_sequence(tmp_path / 'raw' / 'S1' / 'Seq1', 40, ())
    for c in CAMERAS:
        images = [
            np.asarray(Image.fromarray(image).resize((half, half), Image.Resampling.BOX)) for image in shown(42, c)
        ]
        write_frames(tmp_path / 'raw' / 'S1' / 'Seq1', c, images, 'margipose')
    ds = prepare(tmp_path / 'raw', tmp_path / 'store', CAMERAS)
    np.testing.assert_allclose((ds.boxes + 0.5) * 2 - 0.5, store.where(action='Seq1').boxes, atol=1e-3)
    assert all(np.median(off) < 1.5 for off in mark_deviations(ds).values())


def test_a_folder_around_the_download_will_do(download, tmp_path):
    shutil.copytree(download[0], tmp_path / 'around' / 'mpi_inf_3dhp')
    assert len(m.find_folders(tmp_path / 'around', 'S*/Seq*')) == 2
    for left in ('__MACOSX', '.Trash'):  # sorted before it, and what a system leaves
        (tmp_path / 'around' / left / 'S1' / 'Seq1').mkdir(parents=True)
        (tmp_path / 'around' / left / '._S1.zip').touch()
    assert {
        path.relative_to(tmp_path / 'around').parts[0] for path in m.find_folders(tmp_path / 'around', 'S*/Seq*')
    } == {'mpi_inf_3dhp'}
    shutil.rmtree(tmp_path / 'around' / 'mpi_inf_3dhp')
    (tmp_path / 'around' / '._S1.zip').touch()
    with pytest.raises(DatasetError, match='no S.*/Seq.* in it'):
        m.find_folders(tmp_path / 'around', 'S*/Seq*')


@pytest.mark.parametrize(
    'change',
    [
        *(lambda text, encoding=encoding: text.encode(encoding) for encoding in ('utf-8-sig', 'utf-16', 'utf-16-le')),
        lambda text: text.replace('\n', '\r\n').encode(),
        lambda text: text.replace('\n', '\r').encode(),
        lambda text: (text.partition('\n')[0] + '\n' + text.partition('\n')[2].replace('.', ',')).encode(),
        lambda text: (
            ('\ufeff' + text.replace(' ', '\t'))
            .replace('Skeletool\tCamera\tCalibration\tFile', 'Skeletool Camera Calibration File')
            .encode()
        ),
    ],
    ids=['mark', 'utf-16', 'utf-16-le', 'windows', 'mac', 'commas', 'tabs'],
)
def test_calibration_in_any_encoding(download, tmp_path, change):
    plain = m.read_calibration(download[0] / 'S1' / 'Seq1' / 'camera.calibration')
    (tmp_path / 'camera.calibration').write_bytes(change(plain.path.read_text()))
    found = m.read_calibration(tmp_path / 'camera.calibration')
    assert found.numbers == plain.numbers
    for name in ('K', 'R', 't', 'size'):
        np.testing.assert_array_equal(getattr(found, name), getattr(plain, name))


def test_what_systems_leave_is_not_taken(copy, download):
    "AppleDouble files beside videos and frames, and __MACOSX before the folder that holds everything."
    folder, raw = copy
    found = m.find_pictures(folder)
    for path in [*folder.rglob('*.*')]:
        (path.parent / f'._{path.name}').write_bytes(b'Mac OS X')
    assert m.find_pictures(folder) == found
    shutil.copytree(raw / 'S1', raw.parent / 'around' / 'inner' / 'S1')
    (raw.parent / 'around' / '__MACOSX' / 'S1' / 'Seq1').mkdir(parents=True)
    assert m.find_folders(raw.parent / 'around', m.TRAINING) == [raw.parent / 'around' / 'inner' / 'S1' / 'Seq1']


@pytest.mark.parametrize('link', ['S2', 'S1/Seq2', 'S1/Seq1/imageSequence/video_7.avi'])
def test_links_that_lead_nowhere(copy, tmp_path, link):
    folder, raw = copy
    (raw / link).unlink(missing_ok=True)
    (raw / link).symlink_to('/nowhere/at all')
    with pytest.raises(DatasetError, match=f'{link}, link: leads to /nowhere/at all, which is not there'):
        prepare(raw, tmp_path / 'store', CAMERAS)


# ---- rates -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('fps', [25, 50])
@pytest.mark.parametrize('hz', [10, 12.5, 5, 25, 7])
def test_frames_shown_by_a_slow_loop(fps, hz):
    n, expected, k = 100, [], 0
    while k * fps * 1000 < n * hz * 1000:
        expected.append(max(frame for frame in range(n) if frame * hz <= k * fps))  # on show since frame/fps <= k/hz
        k += 1
    assert m.frames_shown(n, fps, hz).tolist() == expected


def test_known_sequences_keep_their_official_rate(tmp_path):
    "Whatever the header of a video says."
    write_sequence(tmp_path / 'raw' / 'S1' / 'Seq2', 60, (0,), hz=25)
    ds = prepare(tmp_path / 'raw', tmp_path / 'store', (0,), side=32)
    assert len(ds) == 12 and any('25 frames per second, 50 are official' in note for note in ds.extra['notes'])


def test_rows_beyond_the_frames_do_not_count(download, copy, tmp_path, monkeypatch):
    "annot.mat may go on where the videos have ended."
    monkeypatch.setitem(m.SEQUENCES, ('S1', 'Seq1'), (30, 25))
    folder, raw = copy
    for c in CAMERAS:
        write_film(folder / 'imageSequence' / f'video_{c}.avi', shown(42, c)[:30], hz=25)
    ds = prepare(raw, tmp_path / 'store', CAMERAS, side=32)
    assert (
        len(ds) == len(m.frames_shown(30, 25, 10))
        and ds.seen.all()
        and not any('S1 Seq1:' in note for note in ds.extra['notes'])
    )


# ---- what is not seen ------------------------------------------------------------------------------------------------


def test_the_short_video_is_known(tmp_path, monkeypatch):
    "S6/Seq2/video_2: the other views go on."
    monkeypatch.setitem(m.SEQUENCES, ('S6', 'Seq2'), (40, 25))
    monkeypatch.setitem(m.SHORT, ('S6', 'Seq2', 2), 21)
    write_sequence(tmp_path / 'raw' / 'S6' / 'Seq2', 40, CAMERAS, lengths={2: 21})
    ds = prepare(tmp_path / 'raw', tmp_path / 'store', CAMERAS, side=32)
    assert (ds.seen == np.stack([np.ones(16), m.frames_shown(40, 25, 10) < 21, np.ones(16)], axis=1)).all() and (
        ds.frames[:][~ds.seen] == 0
    ).all()
    assert 'S6 Seq2: camera 2 lacks 19 of 40 frames' in ds.extra['notes']


def test_a_flash_is_not_seen(tmp_path):
    flashes = [(0, 5), (2, 5), (2, 10), *((c, 20) for c in CAMERAS)]
    write_sequence(tmp_path / 'raw' / 'S1' / 'Seq1', 40, CAMERAS, flashes=flashes)
    ds = prepare(tmp_path / 'raw', tmp_path / 'store', CAMERAS, side=32)
    unseen = {(CAMERAS[v], round(ds.table['time_s'][i] * 25)) for i, v in zip(*np.nonzero(~ds.seen))}
    assert unseen == {(0, 5), (2, 5), (2, 10)}
    assert len(ds) == 16 - 1 and 20 / 25 not in set(ds.table['time_s'])  # nobody saw that one


def test_who_leaves_the_picture_is_not_seen():
    pixels = np.stack([np.linspace(40, 60, 28), np.linspace(10, 90, 28)], axis=1)
    inside, half_out, out, behind = pixels, pixels - (48, 0), pixels - (90, 0), pixels
    depth = np.stack([np.ones(28), np.ones(28), np.ones(28), -np.ones(28)])
    boxes = m.boxes_in_picture(np.stack([inside, half_out, out, behind]), 3000 * depth, 100, (100, 100))
    assert np.isfinite(boxes).all(1).tolist() == [True, True, False, False]


def test_missing_views_are_accepted_when_asked(copy, tmp_path):
    folder, raw = copy
    (folder / 'imageSequence' / 'video_2.avi').unlink()
    shutil.copytree(folder, folder.parent / 'Seq2')
    write_film(folder.parent / 'Seq2' / 'imageSequence' / 'video_2.avi', shown(42, 2)[:30], hz=50)
    ds = prepare(raw, tmp_path / 'store', CAMERAS, side=32, incomplete=True)
    assert (
        not ds.where(action='Seq1').seen[:, 1].any()
        and ds.where(action='Seq2').seen[:6, 1].all()
        and not ds.where(action='Seq2').seen[6:, 1].any()
    )
    assert 'S1 Seq1: no pictures of camera 2' in ds.extra['notes']


# ---- damage ----------------------------------------------------------------------------------------------------------


def cut_file(path, share):
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def rewrite(folder, change, version=5):
    "annot.mat with other content."
    variables = {name: value for name, value in loadmat(folder / 'annot.mat').items() if not name.startswith('__')}
    change(variables)
    write_mat(folder / 'annot.mat', variables, version)


def in_metres(variables):
    for name in ('annot3', 'univ_annot3'):
        for c in range(14):
            variables[name][c, 0] = variables[name][c, 0] / 1000


def with_nan(variables):
    variables['annot3'][0, 0][5, 7] = np.nan


def with_50_columns(variables):
    variables['annot3'] = np.array([[cell[:, :50]] for cell in variables['annot3'][:, 0]] + [None], dtype=object)[
        :14
    ].reshape(14, 1)


def without_univ(variables):
    del variables['univ_annot3']


def swapped_cells(variables):
    variables['annot3'][[0, 2]] = variables['annot3'][[2, 0]]


def both_swapped(variables):
    for name in ('annot2', 'annot3'):
        variables[name][[0, 2]] = variables[name][[2, 0]]


def thinned(variables):
    for name in ('annot2', 'annot3', 'univ_annot3'):
        variables[name] = np.array([[cell[::5]] for cell in variables[name][:, 0]] + [None], dtype=object)[:14].reshape(
            14, 1
        )
    variables['frames'] = variables['frames'][::5]


def one_shorter(variables):
    variables['annot3'][2, 0] = variables['annot3'][2, 0][:-4]


def matrices_swapped(folder):
    text = calibration_text(make_rig())
    lines = text.split('\n')
    lines[4:7], lines[18:21] = lines[18:21], lines[4:7]
    (folder / 'camera.calibration').write_text('\n'.join(lines))


def packed(folder):
    for path in (folder / 'imageSequence').iterdir():
        path.unlink()
    (folder / 'imageSequence' / 'vnect_cameras.zip').write_bytes(b'PK')


def changed(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


DAMAGES = {  # what is done to a copy of a sequence -> what must be said: file, field, remedy
    'truncated annot.mat': (
        lambda f: cut_file(f / 'annot.mat', 0.6),
        ['annot.mat, file', 'truncated or damaged', 'take it from the archive again'],
    ),
    'truncated annot.mat 7.3': (
        lambda f: (rewrite(f, lambda v: None, 7.3), cut_file(f / 'annot.mat', 0.6)),
        ['annot.mat, file', 'truncated or damaged'],
    ),
    'empty annot.mat': (lambda f: (f / 'annot.mat').write_bytes(b''), ['annot.mat, file: empty']),
    'no annot.mat': (lambda f: (f / 'annot.mat').unlink(), ['annot.mat, file: does not exist', 'Unpack']),
    'text for annot.mat': (
        lambda f: (f / 'annot.mat').write_text('<html>404</html>'),
        ['annot.mat, file: cannot be read as a MATLAB file'],
    ),
    'wrong variable': (
        lambda f: savemat(f / 'annot.mat', dict(annot_2d=np.ones(3))),
        ['annot.mat, annot2, annot3', 'no such variable; there are annot_2d', 'official file'],
    ),
    'array for cells': (
        lambda f: rewrite(f, lambda v: v.update(annot3=np.ones((40, 84)))),
        ['annot.mat, annot3: no cells'],
    ),
    'other joints': (lambda f: rewrite(f, with_50_columns), ['annot.mat, annot3', 'all should be (frames, 84)']),
    'cells of different lengths': (lambda f: rewrite(f, one_shorter), ['annot.mat, annot3', '(36, 84), (40, 84)']),
    'every fifth row': (lambda f: rewrite(f, thinned), ['annot.mat, frames: do not count 0, 1, 2']),
    'NaN in annot3': (lambda f: rewrite(f, with_nan), ['annot.mat, annot3: 1 numbers are NaN']),
    'poses in metres': (
        lambda f: rewrite(f, in_metres),
        ['annot.mat, annot3', 'not in mm', 'multiply its 3D joints by 1000'],
    ),
    'annot3 in another order': (
        lambda f: rewrite(f, swapped_cells),
        ['annot.mat, camera 0', 'px off annot2', 'in their official order'],
    ),
    'annotations in another order': (
        lambda f: rewrite(f, both_swapped),
        ['annot.mat, camera 0, 2', 'mm away from that of the other cameras', 'in their official order'],
    ),
    'calibration in another order': (matrices_swapped, ['annot.mat, camera 0, 2', 'mm away', 'camera.calibration']),
    'calibration of another sequence': (
        lambda f: (f / 'camera.calibration').write_text(calibration_text(make_rig(SIDE // 2))),
        ['annot.mat, camera', 'px off annot2', 'of the same sequence'],
    ),
    'no calibration': (
        lambda f: (f / 'camera.calibration').unlink(),
        ['camera.calibration, file: does not exist', 'copy it there'],
    ),
    'a camera missing in it': (
        lambda f: (f / 'camera.calibration').write_text(calibration_text(make_rig(), [0, 1, 2])),
        ['camera.calibration, name 7: no such camera, only 0, 1, 2', '--cameras'],
    ),
    'calibration cut off': (
        lambda f: cut_file(f / 'camera.calibration', 0.5),
        ['camera.calibration, ', 'archive again'],
    ),
    'another calibration': (
        lambda f: (f / 'camera.calibration').write_text('tc camera calibration v0.3\n'),
        ['camera.calibration, line 1'],
    ),
    'no rotation': (
        lambda f: changed(f / 'camera.calibration', 'extrinsic   -0.', 'extrinsic   -9.'),
        ['camera.calibration, name 0, extrinsic', 'no rotation'],
    ),
    'no focal length': (
        lambda f: changed(f / 'camera.calibration', 'intrinsic   ', 'intrinsic   -'),
        ['camera.calibration, name 0, intrinsic', 'no camera matrix'],
    ),
    'video missing': (
        lambda f: (f / 'imageSequence' / 'video_7.avi').unlink(),
        ['video_7.avi, file: missing', 'vnect_cameras.zip', '--cameras', '--incomplete'],
    ),
    'video shorter': (
        lambda f: write_film(f / 'imageSequence' / 'video_2.avi', shown(42, 2)[:35], hz=25),
        ['video_2.avi, frames: 5 of the 40 that are annotated are missing', '--incomplete'],
    ),
    'video truncated': (
        lambda f: cut_file(f / 'imageSequence' / 'video_2.avi', 0.5),
        ['video_2.avi, ', 'copy it again'],
    ),
    'archive not unpacked': (packed, ['vnect_cameras.zip, archive: not unpacked', 'unzip vnect_cameras.zip']),
}


@pytest.mark.parametrize('name', DAMAGES)
def test_damage_is_told_before_anything_is_written(copy, tmp_path, name):
    folder, raw = copy
    damage, said = DAMAGES[name]
    damage(folder)
    with pytest.raises(DatasetError) as error:
        prepare(raw, tmp_path / 'store', CAMERAS)
    for words in said:
        assert words in str(error.value)
    assert not list(tmp_path.glob('store*'))


def test_a_wanted_variable_that_is_missing(copy, tmp_path):
    rewrite(copy[0], without_univ)
    with pytest.raises(DatasetError, match='univ_annot3: no such variable; there are annot2, annot3'):
        prepare(copy[1], tmp_path / 'store', CAMERAS, labels='univ_annot3')
    assert len(prepare(copy[1], tmp_path / 'store', CAMERAS, side=32)) == 16


def test_every_refused_sequence_is_told_at_once(copy, tmp_path):
    folder, raw = copy
    shutil.copytree(folder, folder.parent / 'Seq2')
    (folder / 'camera.calibration').unlink()
    (folder.parent / 'Seq2' / 'annot.mat').unlink()
    with pytest.raises(DatasetError) as error:
        prepare(raw, tmp_path / 'store', CAMERAS)
    assert len(error.value.problems) == 2


def test_a_damaged_frame_is_not_seen_and_many_are_an_error(tmp_path, download):
    folder = tmp_path / 'raw' / 'S1' / 'Seq1'
    write_sequence(folder, 60, (0, 2), frames='margipose')
    (folder / 'imageSequence' / 'video_2' / 'img_000006.jpg').write_bytes(b'no picture')
    ds = prepare(tmp_path / 'raw', tmp_path / 'store', (0, 2), side=32)
    assert (~ds.seen).sum() == 1 and not ds.seen[2, 1]
    for path in (folder / 'imageSequence' / 'video_2').iterdir():
        path.write_bytes(b'no picture') if path.name > 'img_000020' else None
    with pytest.raises(DatasetError, match='of 24 can be decoded'):
        prepare(tmp_path / 'raw', tmp_path / 'other', (0, 2), side=32)


def test_frames_left_out_on_purpose(tmp_path):
    "Every tenth frame was extracted."
    folder = tmp_path / 'raw' / 'S1' / 'Seq2'
    write_sequence(folder, 60, (0, 2), hz=50, frames='spin', extra=0)
    for path in (folder / 'imageFrames').rglob('*.jpg'):
        if (int(path.stem[-6:]) - 1) % 10:
            path.unlink()
    with pytest.raises(DatasetError, match='ask for fewer instants'):
        prepare(tmp_path / 'raw', tmp_path / 'store', (0, 2))
    ds = prepare(tmp_path / 'raw', tmp_path / 'store', (0, 2), hz=5, side=32)
    assert len(ds) == 6 and ds.seen.all()


@pytest.mark.parametrize('name, version', [('scipy.io', 5), ('h5py', 7.3)])
def test_a_missing_reader_is_named(tmp_path, monkeypatch, name, version):
    write_mat(tmp_path / 'annot.mat', dict(frames=np.arange(3)[None]), version)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DatasetError, match=f"{name.partition('.')[0]}.*is not installed.*mvssl\\[data"):
        m.read_mat(tmp_path / 'annot.mat', ['frames'])


def test_no_download_at_all(tmp_path):
    for make, words in (
        (lambda raw: None, 'does not exist'),
        (lambda raw: raw.mkdir(), r'no S\*/Seq\* in it'),
        (lambda raw: (raw / 'mpi_inf_3dhp.zip').write_bytes(b'PK'), 'mpi_inf_3dhp.zip, archive: not unpacked'),
    ):
        make(tmp_path / 'raw')
        with pytest.raises(DatasetError, match=words):
            prepare(tmp_path / 'raw', tmp_path / 'store')


def test_options_are_checked(download, tmp_path):
    for options, words in (
        (dict(labels='annot2'), 'labels must be annot3 or univ_annot3'),
        (dict(cameras='front'), 'cameras must be chest'),
        (dict(hz=30), 'hz must be positive and at most 25'),
        (dict(side=31), 'side must lie in'),
        (dict(padding=0.5), 'padding must be'),
        (dict(take_s=0), 'take_s must be'),
        (dict(subjects=['S4']), 'subjects must be among S1'),
    ):
        with pytest.raises(ValueError, match=words):
            prepare(download[0], tmp_path / 'store', **(dict(cameras=CAMERAS) | options))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    'sheet, words', [('sheet.doc', 'no kind of picture'), ('nowhere/sheet.png', 'there is no folder')]
)
def test_a_sheet_that_cannot_be_written_is_told_at_once(download, tmp_path, sheet, words):
    with pytest.raises(DatasetError, match=words):
        prepare(download[0], tmp_path / 'store', CAMERAS, sheet=tmp_path / sheet)
    assert not list(tmp_path.iterdir())


def test_no_room_is_told_before_anything_is_written(download, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: shutil._ntuple_diskusage(10**9, 10**9, 10**5))
    with pytest.raises(DatasetError, match='are needed, 0.00 GB are free.*--hz'):
        prepare(download[0], tmp_path / 'store', CAMERAS)
    assert not list(tmp_path.iterdir())


# ---- interruption ----------------------------------------------------------------------------------------------------


def test_goes_on_behind_the_last_whole_sequence(download, tmp_path, store, monkeypatch):
    filmed, film = [], filming.film

    def dies(shot, target, tick):
        filmed.append(shot.source.path.parent.parent.name)
        if len(filmed) == 5:
            raise KeyboardInterrupt
        return film(shot, target, tick)

    monkeypatch.setattr(filming, 'film', dies)
    with pytest.raises(KeyboardInterrupt):
        prepare(download[0], tmp_path / 'store', CAMERAS)
    assert not (tmp_path / 'store').exists()
    ds = prepare(download[0], tmp_path / 'store', CAMERAS)
    assert filmed == ['Seq1'] * 3 + ['Seq2'] * 2 + ['Seq2'] * 2 and ds.checksum == store.checksum  # its first is whole
    assert not list(tmp_path.glob('*.partial'))


def test_goes_on_behind_the_last_whole_take(download, tmp_path, monkeypatch):
    whole = prepare(download[0], tmp_path / 'whole', CAMERAS, side=32, take_s=0.5)
    assert whole.sequences['sequence'].tolist() == ['Seq1 1', 'Seq1 2', 'Seq1 3', 'Seq2 1', 'Seq2 2']

    class Stops(filming.DatasetWriter):
        def add(self, *args, **kwargs):
            if len(self.done) == 2:
                raise KeyboardInterrupt
            super().add(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(filming, 'DatasetWriter', Stops)
        with pytest.raises(KeyboardInterrupt):
            prepare(download[0], tmp_path / 'store', CAMERAS, side=32, take_s=0.5)
    assert prepare(download[0], tmp_path / 'store', CAMERAS, side=32, take_s=0.5).checksum == whole.checksum


def test_who_goes_on_needs_room_for_the_rest_alone(download, tmp_path, store, monkeypatch):
    filmed, film = [], filming.film

    def dies(shot, target, tick):
        filmed.append(shot)
        if len(filmed) == 5:
            raise KeyboardInterrupt
        return film(shot, target, tick)

    monkeypatch.setattr(filming, 'film', dies)
    with pytest.raises(KeyboardInterrupt):
        prepare(download[0], tmp_path / 'store', CAMERAS)
    monkeypatch.setattr(filming, 'film', film)
    takes = [{(one.subject, one.sequence): one.instants} for one in store.sequences.itertuples()]
    done = done_in(tmp_path / 'store')
    assert len(done) == 1 < len(takes)
    rest = needed_bytes(takes, len(CAMERAS), 128, 1, done)
    assert rest < 0.7 * needed_bytes(takes, len(CAMERAS), 128, 1)
    rest -= sum(512 * file.stat().st_blocks for file in (tmp_path / 'store.partial' / 'filming').glob('*.frames'))
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: shutil._ntuple_diskusage(10**9, 10**9, rest - 1))
    with pytest.raises(DatasetError, match='then run the same again'):
        prepare(download[0], tmp_path / 'store', CAMERAS)
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: shutil._ntuple_diskusage(10**9, 10**9, rest))
    assert prepare(download[0], tmp_path / 'store', CAMERAS).checksum == store.checksum


def test_a_worker_films_without_torch(download, tmp_path):
    plan = m.plan_sequence(download[0] / 'S1' / 'Seq1', CAMERAS, 'annot3', 10.0, 1.1, False)
    take = m._to_take(plan, [f'cam{c}' for c in CAMERAS], False, 32)
    job = take.shots['cam0'].ready(), Target(tmp_path / '0.frames', view=0, views=3, side=32)
    job[1].file.write_bytes(bytes(len(plan.frames) * 3 * 32 * 32 * 3))
    (tmp_path / 'job').write_bytes(pickle.dumps(job))
    code = (
        'import pickle, sys\nimport numpy as np\nfrom mvssl.sources.filming import film\n'
        f'squares = film(*pickle.load(open({str(tmp_path / "job")!r}, "rb")))\n'
        'print(np.isfinite(squares).all(1).sum(), "torch" in sys.modules, "mvssl.sources.rendering" in sys.modules)'
    )
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.split() == [
        str(len(plan.frames)),
        'False',
        'False',
    ]


def test_workers_write_the_same_bytes(download, tmp_path, store):
    assert prepare(download[0], tmp_path / 'store', CAMERAS, workers=2).checksum == store.checksum


def test_other_options_do_not_mix(download, store):
    with pytest.raises(DatasetError, match='is a finished store'):
        prepare(download[0], store.path, CAMERAS, hz=5)
    assert prepare(download[0], store.path, CAMERAS).checksum == store.checksum


# ---- test set --------------------------------------------------------------------------------------------------------

ACTIVITIES = [1] * 10 + [2] * 10 + [1] * 10


@pytest.fixture(scope='module')
def test_download(tmp_path_factory):
    raw = tmp_path_factory.mktemp('test')
    write_test_cameras(raw)
    return raw, {
        name: write_test_sequence(
            raw / name, 30, activities=ACTIVITIES, seed=seed, valid=range(1, 30, 3), version=version
        )
        for name, seed, version in (('TS1', 2, 7.3), ('TS5', 3, 5))
    }


@pytest.fixture(scope='module')
def test_store(test_download, tmp_path_factory):
    return prepare_test_set(test_download[0], tmp_path_factory.mktemp('stores') / 'test', labels='annot3')


def test_valid_frames_come_back(test_download, test_store):
    for subject, truth in test_download[1].items():
        part = test_store.where(subject=subject)
        assert abs(part.poses - truth.poses[1::3]).max() < 0.1
        assert [frame_number(part.frames[i, 0]) for i in range(len(part))] == list(range(1, 30, 3))
        assert part.seen.all() and part.sequences['sequence'].tolist() == [
            'Standing/Walking 1',
            'Exercising 1',
            'Standing/Walking 2',
        ]
    assert test_store.extra['evaluation_only'] and find_problems(test_store.path) == []


def test_two_sizes_of_pictures(test_store):
    "The lens of the wide one is in the pictures, not in the stored camera."
    for subject, limit in (('TS1', 1.0), ('TS5', 2.5)):
        (off,) = mark_deviations(test_store.where(subject=subject)).values()
        assert len(off) > 20 and np.median(off) < limit, (subject, off)


def test_universal_is_the_default_of_the_test_set(test_download, tmp_path):
    ds = prepare_test_set(test_download[0], tmp_path / 'test', side=32)
    truth = test_download[1]['TS1'].poses[1::3]
    assert abs(ds.where(subject='TS1').poses - (truth[:, :1] + 0.93 * (truth - truth[:, :1]))).max() < 0.1
    assert ds.extra['labels'].startswith('univ_annot3')


TEST_DAMAGES = {
    'no calibration': (
        lambda raw: shutil.rmtree(raw / 'test_util'),
        ['ts1-4cameras.calib, file: does not exist', 'which way is up'],
    ),
    'calibration of the other cameras': (
        lambda raw: shutil.copy(
            raw / 'test_util' / 'camera_calibration' / 'ts5-6cameras.calib',
            raw / 'test_util' / 'camera_calibration' / 'ts1-4cameras.calib',
        ),
        ['ts1-4cameras.calib, sensorSize', 'do not have the shape'],
    ),
    'focal length of another lens': (
        lambda raw: changed(
            raw / 'test_util' / 'camera_calibration' / 'ts1-4cameras.calib', 'focalLength\t7.3', 'focalLength\t14.6'
        ),
        ['annot_data.mat, annot2, annot3', 'px off'],
    ),
    'not upright': (
        lambda raw: changed(
            raw / 'test_util' / 'camera_calibration' / 'ts1-4cameras.calib', 'up\t-0.127', 'up\t-0.927'
        ),
        ['ts1-4cameras.calib, up, right', 'not at right angles'],
    ),
    'no valid frame': (
        lambda raw: write_test_sequence(raw / 'TS1', 12, valid=[]),
        ['annot_data.mat, valid_frame: none is valid'],
    ),
    'unknown activity': (
        lambda raw: write_test_sequence(raw / 'TS1', 12, activities=[8] * 12),
        ['annot_data.mat, activity_annotation: [8], 1 to 7 are known'],
    ),
    'a picture missing': (
        lambda raw: (raw / 'TS1' / 'imageSequence' / 'img_000005.jpg').unlink(),
        ['img_000005.jpg, file: missing'],
    ),
    'no pictures': (
        lambda raw: shutil.rmtree(raw / 'TS1' / 'imageSequence'),
        ['imageSequence, files: no picture in it', 'Unpack'],
    ),
    'truncated annotations': (
        lambda raw: cut_file(raw / 'TS1' / 'annot_data.mat', 0.5),
        ['annot_data.mat, file', 'truncated or damaged'],
    ),
    'half a calibration': (
        lambda raw: cut_file(raw / 'test_util' / 'camera_calibration' / 'ts1-4cameras.calib', 0.6),
        ['ts1-4cameras.calib', 'archive again'],
    ),
    'no test sequence': (lambda raw: shutil.rmtree(raw / 'TS1'), ['no TS* in it']),
}


@pytest.mark.parametrize('name', TEST_DAMAGES)
def test_damage_of_the_test_set(tmp_path, name):
    raw = tmp_path / 'raw'
    write_test_cameras(raw)
    write_test_sequence(raw / 'TS1', 12)
    damage, said = TEST_DAMAGES[name]
    damage(raw)
    with pytest.raises(DatasetError) as error:
        prepare_test_set(raw, tmp_path / 'test')
    for words in said:
        assert words in str(error.value)
    assert not list(tmp_path.glob('test*'))


# ---- a complete copy -------------------------------------------------------------------------------------------------


def test_official_numbers():
    assert (
        sum(n for _, n in m.TEST_SEQUENCES.values()) == 2929 and sum(n for n, _ in m.TEST_SEQUENCES.values()) == 24888
    )
    assert len(m.SEQUENCES) == 16 and {fps for _, fps in m.SEQUENCES.values()} == {25, 50}
    assert all(
        220 < n / fps < 275 for n, fps in m.SEQUENCES.values()
    )  # about four minutes each, at the right rate only


def test_survey_lists_what_is_missing(download, test_download, tmp_path):
    shutil.copytree(download[0], tmp_path / 'raw')
    shutil.copytree(test_download[0] / 'TS1', tmp_path / 'raw' / 'TS1')
    (tmp_path / 'raw' / 'S1' / 'Seq2' / 'imageSequence' / 'video_7.avi').unlink()
    table = m.survey(tmp_path / 'raw', CAMERAS).set_index(['subject', 'sequence'])
    assert len(table) == 22
    assert table['annotated']['S1', 'Seq1'] == 40 and 'video 0 has 42 frames' in table['problem']['S1', 'Seq1']
    assert 'no video of camera 7' in table['problem']['S1', 'Seq2'] and table['cameras']['S1', 'Seq2'] == '2 of 3'
    assert table['problem']['S4', 'Seq1'] == 'absent' and '10 valid frames, not 603' in table['problem']['TS1', '']


def test_a_store_is_compared_with_a_complete_copy(download, test_store, store, monkeypatch):
    told = m.compare_with_complete(store)
    assert told[0].startswith('absent: S2 Seq1, S2 Seq2') and 'S1 Seq1: cut, 40 of 6416 frames' in told
    assert 'TS1: cut, 10 of 603 valid frames' in m.compare_with_complete(test_store)
    for name, value in (
        ('SEQUENCES', {('S1', 'Seq1'): (40, 25), ('S1', 'Seq2'): (62, 50)}),
        ('TEST_SEQUENCES', dict(TS1=(30, 10), TS5=(30, 10))),
    ):
        monkeypatch.setattr(m, name, value)
    assert m.compare_with_complete(store) == m.compare_with_complete(test_store) == []


def test_views_without_pictures_are_told(copy, tmp_path):
    folder, raw = copy
    (folder / 'imageSequence' / 'video_2.avi').unlink()
    shutil.copytree(folder, folder.parent / 'Seq2')
    write_film(folder.parent / 'Seq2' / 'imageSequence' / 'video_2.avi', shown(42, 2)[:30], hz=50)
    told = m.compare_with_complete(prepare(raw, tmp_path / 'store', CAMERAS, side=32, incomplete=True))
    assert (
        'S1 Seq1, cam2: no picture at any of 16 instants' in told
        and 'S1 Seq2, cam2: no picture at the last 2 of 8 instants' in told
    )


def test_survey_of_a_whole_sequence_is_silent(download, monkeypatch):
    monkeypatch.setitem(m.SEQUENCES, ('S1', 'Seq1'), (40, 25))
    assert m.survey(download[0], CAMERAS)['problem'][0] == ''


# ---- official scores -------------------------------------------------------------------------------------------------

OFFICIAL_GROUPS = [
    [1],
    [2],
    [3, 6],
    [4, 7],
    [5, 8],
    [9, 12],
    [10, 13],
    [11, 14],
]  # head top, neck, shoulders ... of the test set's 17, from 1


def test_pck_and_auc_by_slow_loops():
    "The official evaluation: groups of joints weighted by their size, errors strictly below the threshold."
    rng = np.random.default_rng(0)
    true = rng.normal(0, 300, (20, 17, 3))
    pred = true + rng.normal(0, 60, true.shape)
    theirs_true, theirs_pred = (np.empty_like(x) for x in (true, pred))
    for ours, official in enumerate(m.FROM_17):
        theirs_true[:, official], theirs_pred[:, official] = true[:, ours], pred[:, ours]
    curve = []
    for threshold in range(0, 151, 5):
        total, joints = 0.0, 0
        for group in OFFICIAL_GROUPS:
            right = [
                np.linalg.norm(
                    (theirs_pred[n, j - 1] - theirs_pred[n, 14]) - (theirs_true[n, j - 1] - theirs_true[n, 14])
                )
                < threshold
                for n in range(20)
                for j in group
            ]
            total, joints = total + np.mean(right) * len(group), joints + len(group)
        curve.append(total / joints)
    assert joints == 14 and len(curve) == 31
    np.testing.assert_allclose(pck(pred, true).mean(), curve[-1])
    np.testing.assert_allclose(auc(pred, true).mean(), np.mean(curve))


# ---- command line ----------------------------------------------------------------------------------------------------


def run(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.output


def test_from_the_download_to_checked_stores_by_commands(download, test_download, tmp_path):
    options = ('--side', 32, '--workers', 1)
    code, said = run(
        'data',
        'mpi-inf-3dhp',
        download[0],
        '--cameras',
        '0,2,7',
        *options,
        '--take',
        1,
        '--labels',
        'univ_annot3',
        '--out',
        tmp_path / '3dhp',
    )
    assert (
        code == 0
        and 'labels univ_annot3' in said
        and 'note: S1 Seq1: 40 annotated frames' in said
        and (tmp_path / '3dhp-joints.png').stat().st_size > 10_000
    )
    code, said = run(
        'data',
        'mpi-inf-3dhp',
        test_download[0],
        '--test-set',
        *options,
        '--out',
        tmp_path / 'test',
        '--sheet',
        tmp_path / 'sheet.jpg',
    )
    assert code == 0 and 'lacks: absent: TS2' in said and (tmp_path / 'sheet.jpg').exists()
    for name in ('3dhp', 'test'):
        code, said = run('data', 'check', tmp_path / name)
        assert code == 0 and 'sound' in said and 'lacks: ' in said
        assert run('data', 'check', tmp_path / name, '--complete')[0] == 1


def test_commands_that_only_look_or_are_refused(download, tmp_path):
    code, said = run('data', 'mpi-inf-3dhp', download[0], '--check', '--cameras', '0,2')
    assert code == 0 and '0 of 22 sequences are complete' in said and not list(tmp_path.iterdir())
    for words, wrong in (
        ((download[0],), '--out must name'),
        ((download[0], '--out', tmp_path / 'no', '--labels', 'annot2'), 'labels must be'),
        ((download[0], '--out', tmp_path / 'no', '--cameras', 'chest'), 'video_4.avi, file: missing'),
        ((tmp_path / 'nowhere', '--check'), 'does not exist'),
    ):
        code, said = run('data', 'mpi-inf-3dhp', *words)
        assert code == 1 and wrong in said and not list(tmp_path.iterdir())


def test_a_killed_command_goes_on(download, tmp_path, store):
    "SIGKILL while the second sequence is filmed."
    command = [
        'data',
        'mpi-inf-3dhp',
        str(download[0]),
        '--cameras',
        '0,2,7',
        '--workers',
        '1',
        '--out',
        str(tmp_path / '3dhp'),
    ]
    code = (
        'import os, signal\nfrom mvssl.sources import filming\nfilm, n = filming.film, []\n'
        'def dies(*args):\n    n.append(1)\n    if len(n) == 5: os.kill(os.getpid(), signal.SIGKILL)\n'
        '    return film(*args)\nfilming.film = dies\nfrom mvssl.cli import main\nmain()'
    )
    killed = subprocess.run([sys.executable, '-c', code, *command], capture_output=True, text=True)
    assert (
        killed.returncode == -signal.SIGKILL
        and (tmp_path / '3dhp.partial').is_dir()
        and not (tmp_path / '3dhp').exists()
    )
    assert run(*command)[0] == 0
    assert MultiviewDataset.open(tmp_path / '3dhp').checksum == store.checksum
