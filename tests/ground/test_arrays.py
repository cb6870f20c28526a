"""Numbers in any form: every public function gives for them what it gives for a plain array, half precision too."""

import math
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import torch

from mvssl import evaluation, loss, skeleton
from mvssl.ground.arrays import as_array, as_floats, as_tensor
from mvssl.show.atlas import neighbours_of
from mvssl.cameras import Camera, intrinsics, look_at, project, square_box
from mvssl.dataset import DatasetWriter, MultiviewDataset
from mvssl.show.embedding_map import in_window, pick_windows, place_pictures, pose_spread, tsne_map
from mvssl.study.margins import unsteadiness
from mvssl.show.plots import contact_sheet, map_figure
from mvssl.refusal import Refusal
from mvssl.retrieval import pose_distance, retrieval_scores, retrieve, temporal_scores
from mvssl.study.scores import score_poses

RNG = np.random.default_rng(0)


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


FORMS = {  # of the same numbers
    'backwards': lambda a: a[::-1].copy()[::-1],
    'backwards in every axis': lambda a: np.flip(np.flip(a).copy()),
    'big-endian': lambda a: a.astype(a.dtype.newbyteorder('>')),
    'read-only': read_only,
    'columns first': np.asfortranarray,
    'every second': lambda a: np.repeat(a, 2, axis=0)[::2],
    'Python objects': lambda a: a.astype(object),
    'decimals': lambda a: np.vectorize(lambda x: Decimal(float(x)), otypes=[object])(a),
    'lists': lambda a: a.tolist(),
    'nothing masked': lambda a: np.ma.array(a),
    'long double': lambda a: a.astype(np.longdouble),
    'tensor': lambda a: torch.tensor(a),
    'tensor with a gradient': lambda a: torch.tensor(a, requires_grad=True),
}

POSES, OTHERS, Z, XY = (
    RNG.normal(size=(24, 17, 3)) * 300,
    RNG.normal(size=(24, 17, 3)) * 300,
    RNG.normal(size=(24, 8)),
    RNG.uniform(-0.5, 0.5, (24, 2)),
)
VALUES, GROUPS = RNG.normal(size=24) + 5, np.repeat(np.arange(8), 3)
LABELS = pd.DataFrame(
    dict(
        subject=np.repeat(['S1', 'S2'], 12),
        view=np.tile(['left', 'right'], 12),
        instant=np.repeat(np.arange(12), 2),
        sequence=np.repeat(['a', 'b', 'c', 'd'], 6),
        index=np.repeat(np.arange(12), 2),
    )
)
CAMERA = Camera(intrinsics(600.0, (640, 480)), *look_at([0.0, -4000, 1500], [0.0, 0, 1000]), (640, 480))

FUNCTIONS = {  # name -> takes poses, others, embeddings, places and values in any form
    **{
        name: lambda p, o, z, xy, v, name=name: getattr(evaluation, name)(p, o)
        for name in ('mpjpe', 'n_mpjpe', 'pa_mpjpe', 'procrustes', 'pck', 'auc')
    },
    **{
        name: lambda p, o, z, xy, v, name=name: getattr(skeleton, name)(p)
        for name in ('root_centre', 'heading', 'canonicalise', 'mirror')
    },
    'turn': lambda p, o, z, xy, v: skeleton.turn(p, v),
    'place': lambda p, o, z, xy, v: skeleton.place(p, v, POSES[:, 0]),
    'bootstrap_ci': lambda p, o, z, xy, v: tuple(evaluation.bootstrap_ci(v, GROUPS, weights=v)),
    'seeds_ci': lambda p, o, z, xy, v: tuple(evaluation.seeds_ci(v)),
    'over_seeds': lambda p, o, z, xy, v: tuple(evaluation.over_seeds(v)),
    'relative_gain': lambda p, o, z, xy, v: tuple(evaluation.relative_gain(v, v)),
    'gap_closed': lambda p, o, z, xy, v: tuple(evaluation.gap_closed(v, as_array(v) * 0.9, as_array(v) * 0.5)),
    'gain_over_subjects': lambda p, o, z, xy, v: tuple(evaluation.gain_over_subjects(v, v, v)),
    'unsteadiness': lambda p, o, z, xy, v: unsteadiness(v),
    'score_poses': lambda p, o, z, xy, v: score_poses(p, o).to_numpy(),
    'retrieve': lambda p, o, z, xy, v: retrieve(z, z, 3).index,
    'retrieve by pose': lambda p, o, z, xy, v: retrieve(p, o, 3, distance=pose_distance).index,
    'pose_distance': lambda p, o, z, xy, v: pose_distance(p, o),
    'retrieve what may be': lambda p, o, z, xy, v: retrieve(Z, Z, 3, as_array(np.eye(24))[::-1] == 0).index,
    'retrieval_scores': lambda p, o, z, xy, v: retrieval_scores(z, p, LABELS, ks=(1,), intervals=()).to_numpy(float),
    'temporal_scores': lambda p, o, z, xy, v: temporal_scores(z, LABELS, 1).to_numpy(float),
    'neighbours_of': lambda p, o, z, xy, v: neighbours_of(z, LABELS, 2)[0].index,
    'tsne_map': lambda p, o, z, xy, v: tsne_map(z, 5),
    'place_pictures': lambda p, o, z, xy, v: place_pictures(xy, 0.1),
    'pick_windows': lambda p, o, z, xy, v: pick_windows(xy, p, 2),
    'in_window': lambda p, o, z, xy, v: in_window(xy, (0, 0), 0.5),
    'pose_spread': lambda p, o, z, xy, v: pose_spread(p, GROUPS),
    'project': lambda p, o, z, xy, v: project(p, CAMERA),
    'square_box': lambda p, o, z, xy, v: square_box(xy),
}


def plain(found):
    if isinstance(found, torch.Tensor):
        found = found.detach().numpy()
    return np.asarray(found, float)


@pytest.mark.parametrize('form', FORMS.values(), ids=list(FORMS))
@pytest.mark.parametrize('function', FUNCTIONS.values(), ids=list(FUNCTIONS))
def test_any_form_of_the_same_numbers_gives_the_same(function, form):
    given = POSES, OTHERS, Z, XY, VALUES
    found = function(*map(form, given))
    expected = function(*given)
    np.testing.assert_allclose(plain(found), plain(expected), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('function', FUNCTIONS.values(), ids=list(FUNCTIONS))
def test_what_is_given_is_left_as_it_is(function):
    given = [a.copy() for a in (POSES, OTHERS, Z, XY, VALUES)]
    function(*given)
    for a, before in zip(given, (POSES, OTHERS, Z, XY, VALUES)):
        assert np.array_equal(a, before)


@pytest.mark.parametrize(
    'words',
    [
        np.array(['a', 'b']),
        [[1, 2], [3]],
        np.array([1j]),
        np.array(['2020-01-01'], 'datetime64[D]'),
        [None, 'x'],
        np.zeros(2, [('x', 'f4')]),
    ],
    ids=repr,
)
def test_what_is_no_number_is_refused_by_name(words):
    for take in (as_array, as_tensor, as_floats):
        with pytest.raises(Refusal, match='poses must consist of numbers'):
            take(words, 'poses')
    with pytest.raises(Refusal, match='pred must consist of numbers'):
        evaluation.mpjpe(words, POSES)
    with pytest.raises(Refusal, match='query must consist of numbers'):
        retrieve(words, Z, 1)
    with pytest.raises(Refusal, match='z must consist of numbers'):
        tsne_map(words)


@pytest.mark.parametrize(
    'kind',
    ['int8', 'uint8', 'int16', 'uint16', 'int32', 'uint32', 'int64', 'uint64', 'float16', 'float32', 'float64', 'bool'],
)
def test_every_type_of_number(kind):
    poses = (np.abs(POSES) % 100).astype(kind)
    np.testing.assert_allclose(
        evaluation.mpjpe(poses, poses[::-1]),
        evaluation.mpjpe(poses.astype(float), poses[::-1].astype(float)),
        rtol=1e-5,
    )
    np.testing.assert_allclose(skeleton.heading(poses), skeleton.heading(poses.astype(float)), rtol=1e-5, atol=1e-6)
    assert (
        np.array_equal(retrieve(poses.reshape(24, -1), poses.reshape(24, -1), 1).index, np.arange(24)[:, None])
        or kind == 'bool'
    )
    assert as_tensor(np.array([1], kind)).item() == 1


def test_what_is_masked_is_no_label():
    poses = np.ma.array(POSES, mask=False)
    poses[3] = np.ma.masked
    error = evaluation.mpjpe(OTHERS, poses)
    assert np.isnan(error[3]) and np.isfinite(np.delete(error, 3)).all()


# ---- half precision --------------------------------------------------------------------------------------------------

HALF = {
    'numpy': lambda a: np.asarray(a, 'float16'),
    'torch': lambda a: torch.tensor(a).half(),
    'bfloat16': lambda a: torch.tensor(a).bfloat16(),
}


def hips(right, left):
    pose = np.zeros((17, 3))
    pose[1], pose[4] = right, left
    return pose


@pytest.mark.parametrize('form', HALF.values(), ids=list(HALF))
@pytest.mark.parametrize('angle', [0, 30, 135, -90])
def test_the_heading_of_an_ordinary_hip_line(form, angle):
    "266 mm from hip to hip: its square is beyond what half precision can say."
    turn = math.radians(angle)
    pose = form(
        hips((-133 * math.cos(turn), -133 * math.sin(turn), 900), (133 * math.cos(turn), 133 * math.sin(turn), 900))
    )
    found = skeleton.heading(pose)
    assert found.dtype in (np.float32, torch.float32) and abs(math.degrees(float(found)) - angle) < 0.4
    canonical = skeleton.canonicalise(pose)
    assert canonical.dtype in (np.float32, torch.float32)
    assert np.allclose(np.asarray(canonical)[4], [133, 0, 900] - np.asarray([0, 0, 0]), atol=2)


def test_half_precision_is_no_missing_label():
    "NaN means that elsewhere."
    for form in HALF.values():
        assert np.isfinite(
            plain(
                skeleton.canonicalise(form(POSES)).float()
                if form is not HALF['numpy']
                else skeleton.canonicalise(form(POSES))
            )
        ).all()
    assert math.isnan(skeleton.heading(hips((0, 0, -133), (0, 0, 133)).astype('float16'))), (
        'hips above each other have none in any precision'
    )


@pytest.mark.parametrize('form', HALF.values(), ids=list(HALF))
@pytest.mark.parametrize(
    'name',
    [
        'mpjpe',
        'n_mpjpe',
        'pa_mpjpe',
        'pck',
        'auc',
        'pose_distance',
        'mirror',
        'turn',
        'place',
        'retrieve',
        'temporal_scores',
        'retrieval_scores',
        'project',
        'pose_spread',
        'square_box',
    ],
)
def test_half_precision_is_rounded_and_nothing_worse(form, name):
    "The same as for the rounded numbers in double precision."
    given = [form(a) for a in (POSES, OTHERS, Z, XY, VALUES)]
    rounded = [as_floats(a).double().numpy() if isinstance(a, torch.Tensor) else a.astype(float) for a in given]
    found, expected = plain(as_floats(FUNCTIONS[name](*given))), plain(FUNCTIONS[name](*rounded))
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-2)


@pytest.mark.parametrize('kind', [torch.float16, torch.bfloat16])
def test_losses_in_half_precision_are_those_of_the_rounded_numbers(kind):
    z = torch.nn.functional.normalize(torch.tensor(Z), dim=1)
    z_a, z_p = z[:12].to(kind), z[12:].to(kind)
    d = loss.pairwise_distance(z_a, z_p)
    for found, expected in (
        (loss.consistency_loss(z_a, z_p)[0], loss.consistency_loss(z_a.double(), z_p.double())[0]),
        (loss.info_nce_loss(z_a, z_p)[0], loss.info_nce_loss(z_a.double(), z_p.double())[0]),
        (
            loss.pose_loss(torch.tensor(POSES).to(kind), torch.tensor(OTHERS).to(kind)),
            loss.pose_loss(torch.tensor(POSES).to(kind).double(), torch.tensor(OTHERS).to(kind).double()),
        ),
        (loss.hardest_negative(d.to(kind)).mean(), loss.hardest_negative(d.to(kind).double()).mean()),
        (loss.hinge(d.to(kind), d.T.to(kind)).mean(), loss.hinge(d.to(kind).double(), d.T.to(kind).double()).mean()),
    ):
        assert found.dtype == torch.float32 and abs(found.item() - expected.item()) < 1e-4 * max(
            1, abs(expected.item())
        )


def test_cameras_of_half_precision_project_in_single():
    "A pixel of 1000 would be off by half a pixel."
    K = np.array([[1145.0, 0, 500], [0, 1145, 500], [0, 0, 1]])
    camera = Camera(K.astype('float16'), np.eye(3, dtype='float16'), np.array([0, 0, 4000], 'float16'), (1000, 1000))
    assert camera.K.dtype == torch.float32 and torch.equal(camera.K, torch.tensor(K.astype('float16')).float())


# ---- stores and figures ----------------------------------------------------------------------------------------------

PICTURE_FORMS = {
    name: FORMS[name] for name in ('backwards', 'backwards in every axis', 'read-only', 'columns first', 'every second')
}


@pytest.mark.parametrize('form', PICTURE_FORMS.values(), ids=list(PICTURE_FORMS))
def test_a_store_and_a_figure_of_any_form(tmp_path, form):
    frames, poses, seen = RNG.integers(1, 255, (3, 2, 8, 8, 3), 'uint8'), np.zeros((3, 17, 3)), np.ones((3, 2), bool)
    poses[:, 10, 2] = 1700
    with DatasetWriter(
        tmp_path / 'store', name='tiny', source='made up', licence='free', hz=10, stride=1, side=8, views=['a', 'b']
    ) as writer:
        writer.add(
            'S1',
            'Walking',
            'Walking 1',
            form(frames),
            form(poses).astype('>f8'),
            form(seen),
            boxes=form(np.tile([0.0, 0, 8, 8], (3, 2, 1))),
            time_s=form(np.arange(3) / 10),
        )
    ds = MultiviewDataset.open(tmp_path / 'store')
    assert np.array_equal(ds.frames[:], frames) and np.array_equal(ds.poses, poses.astype('float32'))

    def drawn(frames, xy):
        for figure in (
            contact_sheet(frames),
            map_figure(
                xy,
                [0, 1, 2],
                frames[:, 0],
                0.2,
                [dict(centre=(0, 0), side=0.4, rows=[0], pictures=frames[:1, 0], picture_side=0.1, text='')],
            ),
        ):
            figure.canvas.draw()
            yield np.asarray(figure.canvas.buffer_rgba()).copy()

    for found, expected in zip(drawn(form(frames), form(XY)), drawn(frames, XY)):
        assert np.array_equal(found, expected)
