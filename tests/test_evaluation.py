"""Errors and intervals against scipy, slow loops and brute force; NaN, dtypes, degenerate poses; coverage."""

import math

import numpy as np
import pandas as pd
import pytest
import scipy.linalg
import scipy.optimize
import scipy.spatial
import scipy.stats
import torch
from torch.testing import assert_close

from mvssl.evaluation import (
    AIMS,
    ERRORS_MM,
    NO_ESTIMATE,
    Estimate,
    arms_table,
    auc,
    bootstrap_ci,
    gain_over_subjects,
    gap_closed,
    image_means,
    mpjpe,
    n_mpjpe,
    over_seeds,
    pa_mpjpe,
    pck,
    procrustes,
    relative_gain,
    seeds_ci,
    verdict_on_gain,
)

METRICS = [mpjpe, n_mpjpe, pa_mpjpe, pck, auc]


@pytest.fixture
def poses():
    "Predictions and truths in mm, 40 of each, away from the origin."
    rng = np.random.default_rng(0)
    true = rng.normal(0, 300, (40, 17, 3)) + rng.normal(0, 2000, (40, 1, 3))
    return true + rng.normal(0, 80, true.shape) + rng.normal(0, 500, (40, 1, 3)), true


# ---- oracles ---------------------------------------------------------------------------------------------------------


def slow(pred, true, scale=lambda p, g: 1.0, joints=range(17)):
    "MPJPE by loops, after a scale that is found from the centred poses."
    errors = []
    for p, g in zip(pred, true):
        p, g = p - p[0], g - g[0]
        s = scale(p, g)
        errors.append(sum(math.dist(s * p[j], g[j]) for j in joints) / len(joints))
    return np.array(errors)


def brute_scale(p, g):
    return scipy.optimize.minimize_scalar(
        lambda s: ((s * p - g) ** 2).sum(), bounds=(-5, 5), method='bounded', options={'xatol': 1e-10}
    ).x


def test_mpjpe_is_a_loop(poses):
    assert_close(mpjpe(*poses), slow(*poses))
    assert_close(mpjpe(*poses, count_root=False), slow(*poses, joints=range(1, 17)))
    assert_close(mpjpe(*poses, count_root=False), mpjpe(*poses) * 17 / 16)


def test_n_mpjpe_is_the_best_scale_by_search(poses):
    assert_close(n_mpjpe(*poses), slow(*poses, scale=brute_scale), rtol=1e-6, atol=1e-6)
    assert_close(n_mpjpe(*poses, count_root=False), n_mpjpe(*poses) * 17 / 16)


def test_pa_mpjpe_is_scipys_procrustes(poses):
    "scipy.spatial.procrustes allows reflections: compared where its best is a rotation, as for these small errors."
    for pred, true, error in zip(*poses, pa_mpjpe(*poses)):
        a, b, _ = scipy.spatial.procrustes(true, pred)
        assert_close(np.linalg.norm(a - b, axis=-1).mean() * np.linalg.norm(true - true.mean(0)), error)


def test_procrustes_is_scipys_orthogonal_procrustes_or_the_best_rotation():
    "Random pairs are reflections half of the time: there scipy's Rotation.align_vectors, always proper, is the oracle."
    rng = np.random.default_rng(1)
    pred, true = rng.normal(0, 300, (2, 60, 17, 3))
    reflections = 0
    for p, g, aligned in zip(pred, true, procrustes(pred, true)):
        mean, p, g = g.mean(0), p - p.mean(0), g - g.mean(0)
        r, total = scipy.linalg.orthogonal_procrustes(p, g)
        if np.linalg.det(r) < 0:
            reflections += 1
            r = scipy.spatial.transform.Rotation.align_vectors(g, p)[0].as_matrix().T
            total = np.trace(r.T @ p.T @ g)
        assert_close(total / (p**2).sum() * p @ r + mean, aligned, rtol=1e-6, atol=1e-6)
    assert 10 < reflections < 50


def test_no_similarity_has_a_smaller_squared_error(poses):
    rng = np.random.default_rng(2)
    pred, true = poses[0][:3], poses[1][:3]
    aligned = procrustes(pred, true)
    least = ((aligned - true) ** 2).sum((1, 2))
    centre = aligned.mean(1, keepdims=True)
    for size in (1e-4, 1e-3, 1e-2, 1e-1):
        for turn in scipy.spatial.transform.Rotation.from_rotvec(rng.normal(0, size, (20, 3))).as_matrix():
            moved = (1 + rng.normal(0, size)) * (aligned - centre) @ turn + centre + rng.normal(0, 100 * size, 3)
            assert (((moved - true) ** 2).sum((1, 2)) >= least).all()


def test_pa_mpjpe_forgives_similarities_and_no_reflection(poses):
    _, true = poses
    turns = scipy.spatial.transform.Rotation.random(len(true), random_state=3).as_matrix()
    scales = np.random.default_rng(4).uniform(0.2, 5, (len(true), 1, 1))
    assert_close(pa_mpjpe(scales * (true @ turns) + 100, true), np.zeros(len(true)), atol=1e-8, rtol=0)
    assert (pa_mpjpe(scales * (true @ -turns) + 100, true) > 50).all()


def test_pck_and_auc_are_loops(poses):
    pred, true = poses[0][:5], poses[1][:5]
    scored = [j for j in range(17) if j not in (0, 7, 9)]
    errors = [[math.dist(p[j] - p[0], g[j] - g[0]) for j in scored] for p, g in zip(pred, true)]
    assert_close(pck(pred, true), np.array([sum(e < 150 for e in row) / 14 for row in errors]))
    assert_close(
        auc(pred, true), np.array([sum(e < 5 * t for t in range(31) for e in row) / (14 * 31) for row in errors])
    )
    assert 0 < auc(pred, true).mean() < pck(pred, true).mean() < 1
    off = true.copy()
    off[:, 5] += [0, 150, 0]  # not nearer than 150 mm
    assert_close(pck(off.round(), true.round()), np.full(5, 13 / 14))


# ---- inputs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('metric', METRICS)
@pytest.mark.parametrize(
    'given, returned',
    [
        (np.float64, np.float64),
        (np.float32, np.float32),
        (np.float16, np.float32),
        (np.int64, np.float32),
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
    ],
)
def test_dtypes(metric, given, returned, poses):
    pred, true = (
        [x.round().astype(given) - x[:, :1].round().astype(given) for x in poses]
        if isinstance(given, type)
        else [torch.tensor(x - x[:, :1]).to(given) for x in poses]
    )
    error = metric(pred, true)
    assert error.dtype == returned and error.shape == (40,)
    assert isinstance(error, torch.Tensor) == (not isinstance(given, type))
    as_double = [x.double().numpy() if isinstance(x, torch.Tensor) else x.astype(float) for x in (pred, true)]
    assert_close(torch.as_tensor(error).double().numpy(), metric(*as_double), rtol=1e-4, atol=1e-3)


def test_inputs_are_left_as_they_are_and_may_be_read_only(poses, recwarn):
    before = [x.copy() for x in poses]
    for x in poses:
        x.setflags(write=False)
    for metric in METRICS:
        metric(*poses)
    assert all((a == b).all() for a, b in zip(before, poses))
    assert not len(recwarn)


@pytest.mark.parametrize('metric', METRICS)
def test_nan_labels_stay_alone_and_nan_predictions_are_refused(metric, poses):
    pred, true = poses
    whole = metric(pred, true)
    true[3, 5, 1] = true[7] = np.nan
    pred[7] = np.nan  # nothing to say where nothing is known
    error = metric(pred, true)
    assert np.isnan(error).nonzero()[0].tolist() == [3, 7]
    assert_close(np.delete(error, [3, 7]), np.delete(whole, [3, 7]))
    pred[9, 0, 0] = np.inf
    with pytest.raises(ValueError, match=r'pred must be finite .* pose \[9\]'):
        metric(pred, true)


@pytest.mark.parametrize('metric', METRICS)
def test_shapes_that_only_broadcast_are_refused(metric, poses):
    pred, true = poses
    for p, g in [
        (pred, true[:1]),
        (pred, true[0]),
        (pred[0], true[0]),
        (pred[None], true[None]),
        (pred[:, :16], true[:, :16]),
    ]:
        with pytest.raises(ValueError, match='17, 3'):
            metric(p, g)


@pytest.mark.parametrize('metric', METRICS)
def test_no_pose_gives_no_error(metric):
    assert metric(np.zeros((0, 17, 3)), np.zeros((0, 17, 3))).shape == (0,)


def test_degenerate_poses(poses):
    _, true = poses
    point, line = np.full_like(true, 7.0), np.arange(17.0)[None, :, None] * np.array([30.0, 40, 0])
    assert_close(n_mpjpe(point, true), mpjpe(point, true))
    assert_close(pa_mpjpe(point, true), np.linalg.norm(true - true.mean(1, keepdims=True), axis=-1).mean(1))
    assert_close(pa_mpjpe(true, point), np.zeros(len(true)), atol=1e-9, rtol=0)
    turned = 3 * line @ scipy.spatial.transform.Rotation.random(random_state=0).as_matrix() + 5
    assert_close(pa_mpjpe(line, turned), np.zeros(1), atol=1e-6, rtol=0)
    flat = true * [1, 1, 0]
    assert_close(
        pa_mpjpe(flat * [-1, 1, 1], flat), np.zeros(len(true)), atol=1e-6, rtol=0
    )  # a flat pose's mirror image is a turn


def test_errors_have_gradients(poses):
    pred, true = (torch.tensor(x[:4]) for x in poses)
    pred.requires_grad_()
    for metric in (mpjpe, n_mpjpe, pa_mpjpe):
        (grad,) = torch.autograd.grad(metric(pred, true).sum(), pred)
        assert grad.isfinite().all() and grad.abs().max() > 0


# ---- intervals -------------------------------------------------------------------------------------------------------


# Student's quantiles as tables print them: degrees of freedom -> for two-sided levels of 50, 80, 95 and 99 %.
PRINTED = {
    1: (1.000, 3.078, 12.706, 63.657),
    2: (0.816, 1.886, 4.303, 9.925),
    3: (0.765, 1.638, 3.182, 5.841),
    5: (0.727, 1.476, 2.571, 4.032),
    10: (0.700, 1.372, 2.228, 3.169),
    30: (0.683, 1.310, 2.042, 2.750),
    100: (0.677, 1.290, 1.984, 2.626),
}


@pytest.mark.parametrize('at, level', [(0, 0.5), (1, 0.8), (2, 0.95), (3, 0.99)])
def test_student_is_that_of_the_tables(at, level):
    for dof, quantiles in PRINTED.items():
        values = np.linspace(-1, 1, dof + 1) * math.sqrt((dof + 1) / np.square(np.linspace(-1, 1, dof + 1)).sum() * dof)
        assert abs(seeds_ci(values, level).high - quantiles[at]) < 6e-4, 'of values with mean 0 and standard error 1'
    two = 7 + np.array([-1, 1])  # one degree of freedom: the quantile is a tangent, the standard error 1
    assert_close(seeds_ci(two, level).high - 7, math.tan(math.pi / 2 * level), rtol=1e-12, atol=0)


def test_seeds_ci_is_scipys():
    values = [83.4, 83.5, 84.1, 90]
    for level in (0.8, 0.95):
        expected = scipy.stats.t.interval(level, 3, np.mean(values), scipy.stats.sem(values))
        assert_close(list(seeds_ci(values, level)), [float(x) for x in expected])
    assert np.isnan(seeds_ci([1.0])).all()
    with pytest.raises(ValueError, match='values'):
        seeds_ci([])
    with pytest.raises(ValueError, match='level'):
        seeds_ci([1.0, 2.0], 95)


def slow_draws(values, groups, n, rng):
    "The cluster bootstrap as one would tell it: put whole groups into a bag."
    names = np.unique(groups)
    return [np.concatenate([values[groups == name] for name in rng.choice(names, len(names))]).mean() for _ in range(n)]


def test_bootstrap_draws_whole_groups():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), rng.integers(1, 30, 20))
    values = rng.normal(0, 10, 20)[groups] + rng.normal(0, 5, len(groups))
    tail = scipy.stats.norm.cdf(-math.sqrt(20 / 19) * scipy.stats.t.ppf(0.975, 19))
    slow = np.quantile(slow_draws(values, groups, 8000, rng), (tail, 1 - tail))
    assert_close(np.array(bootstrap_ci(values, groups, n=20000)), slow, atol=0.5, rtol=0)  # of a width of 9
    shuffled = rng.permutation(len(values))
    assert_close(
        list(bootstrap_ci(values[shuffled], groups[shuffled].astype(str))),
        list(bootstrap_ci(values, groups.astype(str))),
    )


@pytest.mark.parametrize('n_groups, least, most', [(8, 0.90, 0.98), (12, 0.92, 0.98), (30, 0.93, 0.98)])
def test_coverage(n_groups, least, most):
    "Share of 500 worlds whose interval holds the true mean; sequences differ in level and length, errors are skewed."
    rng, held, frames_held = np.random.default_rng(n_groups), 0, 0
    for _ in range(500):
        groups = np.repeat(np.arange(n_groups), rng.integers(20, 40, n_groups))
        values = 20 * rng.gamma(9, 1 / 3, n_groups)[groups] + rng.normal(0, 10, len(groups))
        low, high = bootstrap_ci(values, groups, n=400)
        held += low <= 60 <= high
        half = 1.96 * values.std() / math.sqrt(len(values))
        frames_held += abs(values.mean() - 60) <= half
    assert least <= held / 500 <= most
    assert frames_held / 500 < 0.5  # what counting frames would have promised to be 95 %


def test_coverage_of_the_mean_over_strata():
    "15 actions of very different difficulty, 4 sequences in each, as in Human3.6M's test set."
    rng, held, unstratified = np.random.default_rng(0), 0, 0
    action = np.repeat(np.arange(15), 4)
    for _ in range(400):
        level = 60 + 10 * np.arange(15)[action] + rng.normal(0, 15, 60)
        values, groups, strata = (np.repeat(x, 10) for x in (level, np.arange(60), action))
        low, high = bootstrap_ci(values, groups, strata, n=400)
        held += low <= 130 <= high
        low, high = bootstrap_ci(values, groups, n=400)
        unstratified += low <= 130 <= high
    assert 0.92 <= held / 400 <= 0.98
    assert unstratified == 400  # it takes the actions for chance


def test_bootstrap_with_strata_names_the_mean_of_means():
    values, groups, strata = [1, 1, 1, 1, 9, 9.0], [0, 0, 1, 1, 2, 3], list('aaaabb')
    assert bootstrap_ci(values, groups, strata) == (5, 5)
    assert np.isnan(bootstrap_ci(values, [0, 0, 1, 1, 2, 2], strata)).all()  # one sequence in b
    assert bootstrap_ci(values + [np.nan], groups + [7], strata + ['c']) == (5, 5)  # nothing known of c


def test_bootstrap_leaves_nan_out():
    rng = np.random.default_rng(1)
    values, groups = rng.normal(size=50), np.arange(50) // 5
    expected = bootstrap_ci(values[10:].copy(), groups[10:])
    values[:10] = np.nan
    assert bootstrap_ci(values, groups) == expected
    assert np.isnan(bootstrap_ci(np.full(3, np.nan), [0, 1, 2])).all()
    assert np.isnan(bootstrap_ci([], [])).all()


def test_bootstrap_refuses():
    with pytest.raises(ValueError, match='level must lie between 0 and 1, got 95'):
        bootstrap_ci([1.0, 2.0], [0, 1], level=95)
    with pytest.raises(ValueError, match='one shape'):
        bootstrap_ci([1.0, 2.0], [0])
    with pytest.raises(ValueError, match='one shape'):
        bootstrap_ci([[1.0], [2.0]], [[0], [1]])


def test_weights_are_repetitions():
    rng = np.random.default_rng(4)
    values, groups, strata, times = rng.normal(size=30), np.arange(30) // 5, np.arange(30) // 15, rng.integers(1, 6, 30)
    for strata in (None, np.arange(30) // 15):
        repeated = bootstrap_ci(
            values.repeat(times), groups.repeat(times), None if strata is None else strata.repeat(times)
        )
        assert_close(list(bootstrap_ci(values, groups, strata, weights=times)), list(repeated))
    with pytest.raises(ValueError, match='weights must be positive, got 0'):
        bootstrap_ci([1.0, 2.0], [0, 1], weights=[1, 0])


# ---- two trainings compared ------------------------------------------------------------------------------------------


def test_over_seeds():
    assert over_seeds([83.4, 83.5, 84.1])[1:3] == seeds_ci([83.4, 83.5, 84.1]) and over_seeds([1, 2, 6])[::3] == (3, 3)
    assert over_seeds([7.0])[::3] == (7, 1) and np.isnan(over_seeds([7.0])[1:3]).all()
    assert over_seeds([]).n == 0 and np.isnan(over_seeds([])[:3]).all()


def test_relative_gain_is_a_paired_t_interval():
    rng = np.random.default_rng(0)
    baseline = rng.uniform(80, 120, 6)
    ours = baseline * rng.uniform(0.7, 0.9, 6)
    gains = [100 * (b - o) / b for b, o in zip(baseline, ours)]
    for level in (0.8, 0.95):
        expected = scipy.stats.t.interval(level, 5, np.mean(gains), scipy.stats.sem(gains))
        assert_close(list(relative_gain(baseline, ours, level)), [float(np.mean(gains)), *map(float, expected), 6])


def test_seeds_are_paired_by_name_not_by_place():
    baseline, ours, bound = (
        pd.Series(values, index=[3, 1, 2]) for values in ([100.0, 110, 105], [80.0, 84, 85], [60.0, 61, 64])
    )
    assert_close(list(relative_gain(baseline, ours[[2, 3, 1]])), list(relative_gain(baseline, ours)))
    assert_close(list(gap_closed(baseline, ours[[2, 3, 1]], bound[[1, 2, 3]])), list(gap_closed(baseline, ours, bound)))
    assert relative_gain(baseline, ours[[1]]).n == 1 and gap_closed(baseline, ours, bound[[1, 3]]).n == 2
    with pytest.raises(ValueError, match='all Series by seed, got Series of 3, ndarray of 3'):
        relative_gain(baseline, ours.to_numpy())


def slow_fieller(closed, gap, level):
    "Shares that scipy's t test of one sample does not reject, by trying them all."
    shares = np.linspace(-5, 5, 100001)
    kept = shares[scipy.stats.ttest_1samp(closed[:, None] - shares * gap[:, None], 0, axis=0).pvalue >= 1 - level]
    return kept.min(), kept.max()


@pytest.mark.parametrize('n', [2, 3, 5, 20])
def test_gap_closed_is_what_a_t_test_does_not_reject(n):
    rng, given = np.random.default_rng(n), 0
    for level in (0.5, 0.8, 0.95):
        for _ in range(6):
            bound = rng.normal(70, 3, n)
            gap = rng.normal(30, 4, n)
            closed = rng.uniform(0, 1) * gap + rng.normal(0, 3, n)
            share, low, high, n_seeds = gap_closed(bound + gap, bound + gap - closed, bound, level)
            assert n_seeds == n and math.isclose(share, 100 * closed.sum() / gap.sum())
            rejects_no_gap = scipy.stats.ttest_1samp(gap, 0).pvalue < 1 - level
            assert math.isnan(low) == math.isnan(high) == (not rejects_no_gap)
            if rejects_no_gap and -500 < low and high < 500:
                assert_close(
                    (low / 100, high / 100), tuple(map(float, slow_fieller(closed, gap, level))), atol=2e-4, rtol=0
                )
                given += 1
    assert given > 6


def test_gap_closed_holds_the_truth():
    "Share of 1000 worlds of 3 seeds whose interval holds the true 40 %; the bound's error varies too."
    rng, held = np.random.default_rng(0), 0
    for _ in range(1000):
        common = rng.normal(0, 3, 3)
        baseline, ours, bound = (level + common + rng.normal(0, 1.5, 3) for level in (100, 86, 65))
        low, high = gap_closed(baseline, ours, bound)[1:3]
        held += not low > 40 and not high < 40  # no interval excludes nothing
    assert 0.93 <= held / 1000 <= 0.97


def test_a_certain_bound_is_one_number():
    baseline, ours = [100.0, 110, 105], [80.0, 84, 85]
    assert_close(list(gap_closed(baseline, ours, 60)), list(gap_closed(baseline, ours, [60, 60, 60])))
    assert_close(
        list(gap_closed(pd.Series(baseline, [4, 5, 6]), pd.Series(ours, [4, 5, 6]), 60.0)),
        list(gap_closed(baseline, ours, 60)),
    )
    one = gap_closed([100.0], [90.0], [80.0])
    assert one[::3] == (50, 1) and np.isnan(one[1:3]).all()
    assert (
        gap_closed([100.0, 100], [90.0, 90], [100.0, 100]).n == 2
        and np.isnan(gap_closed([100.0, 100], [90.0, 90], [100.0, 100])[:3]).all()
    )
    with pytest.raises(ValueError, match='ours_mm must be positive, got nan'):
        gap_closed([100.0], [np.nan], [80.0])
    with pytest.raises(ValueError, match='arrays of one length'):
        gap_closed([100.0, 1], [90.0, 1], [80.0])


def test_gain_over_subjects_is_the_bootstrap_of_the_ratio():
    "To first order: drawing whole subjects, and each time taking the ratio of the means."
    rng = np.random.default_rng(1)
    baseline, images = rng.uniform(80, 125, 12), rng.integers(200, 400, 12)
    ours = baseline * rng.uniform(0.7, 0.95, 12)
    draws = rng.integers(0, 12, (20000, 12))
    gains = 100 * (1 - (images * ours)[draws].sum(1) / (images * baseline)[draws].sum(1))
    tail = scipy.stats.norm.cdf(-math.sqrt(12 / 11) * scipy.stats.t.ppf(0.975, 11))
    gain, low, high, n = gain_over_subjects(baseline, ours, images, n=20000)
    assert n == 12 and math.isclose(gain, 100 * (1 - (images * ours).sum() / (images * baseline).sum()))
    assert_close(np.array([low, high]), np.quantile(gains, (tail, 1 - tail)), atol=0.25, rtol=0)  # of a width of 8
    assert low < gain < high
    with pytest.raises(ValueError, match='one shape'):
        gain_over_subjects([], [])


def test_image_means_count_images():
    rng = np.random.default_rng(0)
    images = pd.DataFrame(
        dict(
            part=rng.choice(['a', 'b'], 500),
            subject=rng.integers(0, 4, 500),
            action=rng.integers(0, 3, 500),
            **{name: rng.uniform(50, 150, 500) for name in ERRORS_MM},
        )
    )
    rows = (
        images.assign(images=1)
        .groupby(['part', 'subject', 'action'])
        .agg(images=('images', 'sum'), **{name: (name, 'mean') for name in ERRORS_MM})
        .reset_index()
    )
    for by in (['part'], ['part', 'subject']):
        expected = images.groupby(by, sort=False)[list(ERRORS_MM)].mean().sort_index()
        found = image_means(rows, by).set_index(by)
        pd.testing.assert_frame_equal(found[list(ERRORS_MM)].sort_index(), expected)
        assert found['images'].sum() == 500
    assert image_means(rows.iloc[::-1], ['part'])['part'].tolist() == ['b', 'a']  # order of first appearance


def test_arms_table_is_made_of_its_parts():
    rng = np.random.default_rng(1)
    scores = pd.DataFrame(
        [
            dict(labels=labels, arm=arm, seed=seed, **{name: rng.uniform(60, 120) for name in ERRORS_MM})
            for labels in (100, 10)
            for arm in ('supervised', 'control', 'joint', 'info_nce')
            for seed in (2, 0, 1)
            if (labels, arm, seed) != (10, 'control', 1)
        ]
    )
    of = lambda labels, arm, name='mpjpe_mm': scores.query('labels == @labels and arm == @arm').set_index('seed')[name]
    for bound, used in (
        (pd.Series({0: 50.0, 1: 51, 2: 52}), pd.Series({0: 50.0, 1: 51, 2: 52})),
        (pd.Series({0: 50.0}), 50.0),
    ):
        table = arms_table(scores.sample(frac=1, random_state=0), bound)
        assert len(table) == 8
        for labels in (100, 10):
            for arm in ('control', 'joint', 'info_nce'):
                row, n = table.loc[(labels, arm)], len(of(labels, arm))
                assert row['seeds'] == n
                expected = [over_seeds(of(labels, arm, name)) for name in ERRORS_MM] + [
                    relative_gain(of(labels, 'supervised'), of(labels, arm))
                ]
                expected += [
                    relative_gain(of(labels, 'control'), of(labels, arm)) if arm != 'control' else NO_ESTIMATE,
                    gap_closed(of(labels, 'supervised'), of(labels, arm), used),
                ]
                for name, value in zip((*ERRORS_MM, 'gain', 'over control', 'closed'), expected):
                    assert_close(
                        row[[name, f'{name} low', f'{name} high']].to_numpy(float, copy=True),
                        np.array(value[:3]),
                        equal_nan=True,
                    )
    assert (
        table.loc[(100, 'supervised'), ['gain', 'closed']].isna().all()
        and table.loc[(100, 'supervised'), 'over control'] != 0
    )
    assert (
        arms_table(scores)['closed'].isna().all() and arms_table(scores, pd.Series(dtype=float))['closed'].isna().all()
    )


@pytest.mark.parametrize(
    'gain, over_control, closed, verdict',
    [
        ((25, 5, 45, 3), (15, 1, 29, 3), NO_ESTIMATE, 'replicated'),
        ((24.9, 5, 45, 3), (15, 1, 29, 3), NO_ESTIMATE, 'partly'),
        ((25, 5, 45, 3), (14.9, 1, 29, 3), (49, 40, 60, 3), 'partly'),
        ((12, 5, 20, 3), (3, 1, 5, 3), (50, 1, 90, 3), 'replicated'),
        ((12, 5, 20, 3), (3, 1, 5, 3), (50, math.nan, math.nan, 3), 'partly'),
        ((25, 0, 50, 3), (15, 1, 29, 3), (80, 70, 90, 3), 'not'),
        ((40, 30, 50, 3), (2, -1, 5, 3), (80, 70, 90, 3), 'not'),
        ((-5, -9, -1, 3), (2, 1, 5, 3), NO_ESTIMATE, 'not'),
        ((40, 30, 50, 2), (20, 10, 30, 2), (80, 70, 90, 2), 'not tested'),
        ((40, math.nan, math.nan, 1), (20, math.nan, math.nan, 1), NO_ESTIMATE, 'not tested'),
        ((40, 30, 50, 3), NO_ESTIMATE, (80, 70, 90, 3), 'not tested'),
    ],
)
def test_verdicts(gain, over_control, closed, verdict):
    found, why = verdict_on_gain(Estimate(*gain), Estimate(*over_control), Estimate(*closed))
    assert found == verdict and 'nan' not in why
    assert AIMS == dict(gain=25, over_control=15, closed=50)
