"""Guards of mvssl.show.embedding_map: rules for pictures and windows, and spread, against loops; maps that repeat."""

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest

from mvssl.show import embedding_map
from mvssl.show.embedding_map import in_window, pick_windows, place_pictures, pose_spread, tsne_map


def cloud(seed, n=150, knots=6):
    "Places in knots of uneven size, and vectors that go with the knots."
    rng = np.random.default_rng(seed)
    knot = rng.choice(knots, n, p=np.arange(1, knots + 1) / sum(range(1, knots + 1)))
    return rng.uniform(-0.5, 0.5, (knots, 2))[knot] + 0.04 * rng.normal(size=(n, 2)), rng.normal(size=(knots, 5))[
        knot
    ] + 0.1 * rng.normal(size=(n, 5))


def overlap(a, b, side):
    return abs(a[0] - b[0]) < side and abs(a[1] - b[1]) < side


# ---- pictures --------------------------------------------------------------------------------------------------------


def placed_by_loop(xy, side):
    "The rule as one would tell it."
    middle = xy.mean(0)
    chosen = [min(range(len(xy)), key=lambda i: np.hypot(*(xy[i] - middle)))]
    while free := [i for i in range(len(xy)) if not any(overlap(xy[i], xy[j], side) for j in chosen)]:
        chosen.append(min(free, key=lambda i: min(max(abs(xy[i] - xy[j])) for j in chosen)))
    return chosen


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('side', [0.03, 0.1, 0.4])
def test_pictures_follow_the_rule(seed, side):
    xy = cloud(seed)[0]
    assert place_pictures(xy, side).tolist() == placed_by_loop(xy, side)


@pytest.mark.parametrize('side', [0.02, 0.05, 0.2])
def test_pictures_overlap_nowhere_and_no_other_fits(side):
    xy = cloud(5, 2000)[0]
    shown = place_pictures(xy, side)
    assert not any(overlap(xy[i], xy[j], side) for i, j in itertools.combinations(shown, 2))
    left_out = np.setdiff1d(np.arange(2000), shown)
    assert all(any(overlap(xy[i], xy[j], side) for j in shown) for i in left_out)


def test_pictures_do_not_depend_on_the_order_of_images():
    xy = cloud(6)[0]
    order = np.random.default_rng(0).permutation(len(xy))
    assert (xy[place_pictures(xy, 0.05)] == xy[order][place_pictures(xy[order], 0.05)]).all()


def test_pictures_of_nothing_and_of_equal_places():
    assert len(place_pictures(np.zeros((0, 2)), 0.1)) == 0
    assert place_pictures(np.zeros((5, 2)), 0.1).tolist() == [0]


# ---- windows ---------------------------------------------------------------------------------------------------------


def offered(xy, side):
    "A window around each image, moved to the mean place of what is in it."
    return [xy[[j for j in range(len(xy)) if max(abs(xy[i] - xy[j])) <= side / 2]].mean(0) for i in range(len(xy))]


def picked_by_loop(xy, vectors, n, side):
    centre = offered(xy, side)
    inside = [[j for j in range(len(xy)) if max(abs(centre[i] - xy[j])) <= side / 2] for i in range(len(xy))]
    count, mean = [len(rows) for rows in inside], [vectors[rows].mean(0) if rows else 0 * vectors[0] for rows in inside]
    chosen = [count.index(max(count))]
    while len(chosen) < n:
        free = [i for i in range(len(xy)) if all(max(abs(centre[i] - centre[c])) > side for c in chosen)]
        dense = [i for i in free if 2 * count[i] >= max(count)] or [
            i for i in free if count[i] == max(count[j] for j in free)
        ]

        def score(i):
            return min(np.linalg.norm(centre[i] - centre[c]) * np.linalg.norm(mean[i] - mean[c]) for c in chosen)

        chosen.append(max(dense, key=score))
    return [centre[c] for c in chosen]


@pytest.mark.parametrize('seed', range(6))
@pytest.mark.parametrize('side', [0.06, 0.15])
def test_windows_follow_the_rule(seed, side):
    xy, vectors = cloud(seed)
    np.testing.assert_allclose(pick_windows(xy, vectors, 4, side), picked_by_loop(xy, vectors, 4, side), atol=1e-12)


@pytest.mark.parametrize('seed', range(4))
def test_windows_never_touch_and_stay_when_vectors_are_scaled(seed):
    xy, vectors = cloud(seed, 400)
    centres = pick_windows(xy, vectors, 3, 0.1)
    assert all(max(abs(a - b)) > 0.1 for a, b in itertools.combinations(centres, 2))
    assert (pick_windows(xy, 1000 * vectors, 3, 0.1) == centres).all()
    first = len(in_window(xy, centres[0], 0.1))
    assert all(len(in_window(xy, centre, 0.1)) <= first for centre in offered(xy, 0.1))


def test_poses_serve_as_vectors():
    xy, _ = cloud(8)
    poses = np.random.default_rng(0).normal(size=(150, 17, 3))
    assert (pick_windows(xy, poses, 3, 0.1) == pick_windows(xy, poses.reshape(150, -1), 3, 0.1)).all()


def test_windows_refuse():
    xy, vectors = cloud(9)
    with pytest.raises(ValueError, match='n windows of side 3 must fit without touching, 1 of 2 do'):
        pick_windows(xy, vectors, 2, 3)
    with pytest.raises(ValueError, match='vectors must be finite'):
        pick_windows(xy, np.where(np.arange(150)[:, None] == 3, np.nan, vectors))
    with pytest.raises(ValueError, match='n and side must be positive, got 0 and 0.1'):
        pick_windows(xy, vectors, 0, 0.1)
    with pytest.raises(ValueError, match=r'xy must have shape \(N, 2\), got \(150, 5\)'):
        in_window(vectors, (0, 0), 1)


# ---- map -------------------------------------------------------------------------------------------------------------

MAPS = """
import hashlib
import numpy as np
from mvssl.show.embedding_map import tsne_map
z = np.random.default_rng(0).normal(size=(130, 16))
made = [tsne_map(z, 20, library=library) for library in ('openTSNE', 'scikit-learn')]
maps = [hashlib.sha256(xy.tobytes()).hexdigest() for xy in made]
"""


def test_maps_are_the_same_in_another_process():
    here = {}
    exec(MAPS, here)
    there = subprocess.run(
        [sys.executable, '-c', MAPS + 'print(maps)'], capture_output=True, text=True, check=True
    ).stdout
    assert there.strip() == str(here['maps']) and len(set(here['maps'])) == 2


@pytest.mark.parametrize('library', ['openTSNE', 'scikit-learn'])
def test_a_map_is_centred_and_keeps_neighbours(library):
    rng = np.random.default_rng(1)
    knot = np.repeat(np.arange(5), 30)
    xy = tsne_map(rng.normal(size=(5, 32))[knot] + 0.1 * rng.normal(size=(150, 32)), 15, library=library)
    assert np.allclose(xy.min(0) + xy.max(0), 0) and np.isclose(np.ptp(xy, axis=0).max(), 1)
    nearest = (np.linalg.norm(xy[:, None] - xy, axis=2) + 9 * np.eye(150)).argmin(1)
    assert (knot[nearest] == knot).all()


def test_scikit_learn_stands_in(monkeypatch):
    "Without openTSNE the map is scikit-learn's."
    z = np.random.default_rng(2).normal(size=(100, 8))
    other = tsne_map(z, 10)
    monkeypatch.setitem(sys.modules, 'openTSNE', None)
    assert not embedding_map._has_open_tsne()
    assert (tsne_map(z, 10) == tsne_map(z, 10, library='scikit-learn')).all() and not (tsne_map(z, 10) == other).all()


# ---- spread ----------------------------------------------------------------------------------------------------------


def test_spread_is_a_loop_over_pairs():
    rng = np.random.default_rng(3)
    poses, groups = 200 * rng.normal(size=(600, 17, 3)).astype(np.float32), rng.choice(list('abcd'), 600)
    poses -= poses[:, :1]
    poses[17, 4] = np.nan
    known = [i for i in range(600) if i != 17]
    expected = (
        np.mean(
            [
                np.linalg.norm(poses[known] - poses[i], axis=2).mean(1)[groups[known] != groups[i]].mean()
                * (groups[known] != groups[i]).sum()
                for i in known
            ]
        )
        * len(known)
        / sum((groups[known] != groups[i]).sum() for i in known)
    )
    assert np.isclose(pose_spread(poses, groups), expected, rtol=1e-5)


def test_spread_without_a_pair_is_nan():
    assert np.isnan(pose_spread(np.zeros((4, 17, 3)), [1, 1, 1, 1])) and np.isnan(
        pose_spread(np.full((4, 17, 3), np.nan), range(4))
    )


# ---- embeddings that have collapsed, or nearly -----------------------------------------------------------------------

CASES = """
import json, sys, warnings
import numpy as np
from mvssl.show.embedding_map import tsne_map
warnings.simplefilter('ignore')
rng = np.random.default_rng(0)
z = rng.normal(size=(40, 8))
one = np.repeat(z[:1], 40, 0)
noise = rng.normal(size=one.shape)
cases = {'equal': one, 'zeros': 0*one, 'equal, single': one.astype('float32'),
         'rounded': (one + 1e-8*noise).astype('float32'), 'rounding': one + 1e-17*noise,
         'noise of 1e-10': one + 1e-10*noise, 'noise of 1e-4': one + 1e-4*noise,
         'noise in single': (one + 1e-5*noise).astype('float32'), 'one other': np.vstack([one[1:], z[1:2]]),
         'two places': np.repeat(z[:2], 20, 0), 'half equal': np.vstack([one[:20], z[:20]]),
         'on a line': np.outer(np.arange(40), z[0]),
         'in a plane': z[:, :2] @ rng.normal(size=(2, 8)), 'huge': z*1e200, 'tiny': z*1e-200,
         'subnormal': z*1e-310, 'far away': z + 1e6, 'whole numbers': np.round(3*z).astype(int)}
print(json.dumps({name: tsne_map(case, 5, library=sys.argv[1]).tolist() for name, case in cases.items()}))
"""


@pytest.mark.parametrize('library', ['scikit-learn', 'openTSNE'])
def test_a_collapsed_embedding_is_one_place_and_nothing_ends_the_process(library):
    "In a process of its own: equal embeddings ended in a segmentation fault."
    done = subprocess.run([sys.executable, '-c', CASES, library], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    for name, xy in json.loads(done.stdout).items():
        xy = np.array(xy)
        assert xy.shape == (40, 2) and np.isfinite(xy).all(), name
        collapsed = name in ('equal', 'zeros', 'equal, single', 'rounded', 'rounding')
        assert np.ptp(xy, 0).max() == pytest.approx(0 if collapsed else 1) and (not collapsed or not xy.any()), name


@pytest.mark.parametrize('scale, shift', [(1e-9, 0), (1e9, 0), (1, 1000.0)])
def test_the_map_depends_on_neither_scale_nor_place(scale, shift):
    "As far as numbers can say it: the neighbours on the map are the same."
    z = np.random.default_rng(0).normal(size=(60, 8))

    def nearest(xy):
        return np.linalg.norm(xy[:, None] - xy, axis=-1).argsort(1)[:, 1:4]

    found, expected = nearest(tsne_map(z * scale + shift, 5)), nearest(tsne_map(z, 5))
    assert np.mean([len({*a} & {*b}) / 3 for a, b in zip(found, expected)]) > 0.6


@pytest.mark.parametrize(
    'z, message',
    [
        (np.zeros((0, 4)), 'N > 3 perplexity'),
        (np.zeros((3, 4)), 'N > 3 perplexity'),
        (np.zeros(40), 'z must have shape'),
        (5.0, 'z must have shape'),
        (np.full((40, 4), np.nan), 'not in row 0'),
        (np.where(np.arange(40)[:, None] == 9, np.inf, np.ones((40, 4))), 'not in row 9'),
        (np.ones((40, 1)), 'at least 2 dimensions'),
    ],
)
def test_what_is_no_map_is_refused(z, message):
    with pytest.raises(ValueError, match=message):
        tsne_map(z, 5)
