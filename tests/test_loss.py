"""The loss against slow loops, torch and pytorch-metric-learning; precision, gradients, missing negatives."""

import itertools
import math
import re
import random

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning import distances, losses, miners, reducers
from torch.testing import assert_close

from mvssl.loss import (
    consistency_loss,
    hardest_negative,
    hinge,
    info_nce_loss,
    pairwise_distance,
    pose_error,
    pose_loss,
)
from mvssl.refusal import Refusal

STATISTICS = ['d_positive', 'd_negative', 'share_with_negative', 'share_under_beta', 'share_active', 'spread']


def cloud(B=32, D=8, noise=0.6, seed=0, dtype=torch.float64):
    "Pairs of unit vectors whose sides differ by noise."
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(B, D, generator=generator, dtype=dtype)
    return [F.normalize(base + noise * torch.randn(B, D, generator=generator, dtype=dtype), dim=1) for _ in range(2)]


def slow(z_a, z_p, margin=0.6, beta=0.3, may=None, k=1, semi_hard=False):
    "The loss and its statistics, scalar by scalar, in Python's floats."
    a, p = z_a.double().tolist(), z_p.double().tolist()
    B, D = len(a), len(a[0])
    may = [[True] * B] * B if may is None else may.tolist()
    per_pair, nearest, positive = [], [], []
    for i in range(B):
        own = math.dist(a[i], p[i])
        found = []
        for j in range(B):
            for x, y in ((i, j), (j, i)):
                d = math.dist(a[x], p[y])
                if j != i and may[x][y] and d > beta and not (semi_hard and d <= own):
                    found.append(d)
        found = sorted(found)[:k]
        costs = [max(0, margin + own - d) for d in found]
        per_pair.append(sum(costs) / max(len(costs), 1))
        positive.append(own)
        nearest += found[:1]
    entries = [math.dist(a[x], p[y]) for x in range(B) for y in range(B) if x != y and may[x][y]]

    def std(values):
        mean = sum(values) / len(values)
        return math.sqrt(sum((v - mean) ** 2 for v in values) / len(values))

    mean = lambda values: sum(values) / len(values) if values else math.nan
    return mean(per_pair), [
        mean(positive),
        mean(nearest),
        len(nearest) / B,
        sum(d <= beta for d in entries) / max(len(entries), 1),
        sum(c > 0 for c in per_pair) / B,
        mean([std([row[c] for row in a + p]) for c in range(D)]) * math.sqrt(D),
    ]


def some_rule(B, kind):
    "Who may be a negative of whom: None, same subject, and one that is not symmetric."
    if kind == 'subject':
        return torch.arange(B)[:, None] % 3 == torch.arange(B) % 3
    if kind == 'unsymmetric':
        return torch.rand(B, B, generator=torch.Generator().manual_seed(5)) < 0.5


# ---- the loss against loops ------------------------------------------------------------------------------------------


@pytest.mark.parametrize('rule', [None, 'subject', 'unsymmetric'])
@pytest.mark.parametrize('k, semi_hard', [(1, False), (3, False), (None, False), (1, True), (3, True), (None, True)])
@pytest.mark.parametrize('margin, beta, D', [(0.6, 0.3, 3), (1.0, 0.5, 8), (0.4, 0, 2), (1.0, 1.9, 2)])
def test_consistency_loss_is_the_loop(margin, beta, D, k, semi_hard, rule):
    z_a, z_p = cloud(17, D)
    may = some_rule(17, rule)
    expected, statistics = slow(z_a, z_p, margin, beta, may, k, semi_hard)
    loss, stats = consistency_loss(z_a, z_p, margin, beta, may, k, semi_hard)
    assert_close(loss.item(), expected, rtol=1e-9, atol=1e-9)
    assert list(stats) == STATISTICS
    assert_close([stats[name].item() for name in STATISTICS], statistics, rtol=1e-6, atol=1e-6, equal_nan=True)
    assert not any(value.requires_grad or value.ndim for value in stats.values())


def test_the_loop_meets_every_case():
    "Otherwise the comparison would prove less than it seems to."
    z_a, z_p = cloud(17, 3)
    assert 0 < slow(z_a, z_p)[1][3] < 1  # some distances under beta
    assert 0 < slow(z_a, z_p, 0.4, may=some_rule(17, 'subject'))[1][4] < 1  # some pairs active, some not
    assert (
        0 < slow(*cloud(17, 2), 1, 1.9, some_rule(17, 'subject'), semi_hard=True)[1][2] < 1
    )  # some pairs without a negative
    assert slow(z_a, z_p, beta=0)[0] > slow(z_a, z_p)[0] > slow(z_a, z_p, may=some_rule(17, 'subject'))[0]


def test_composed_of_its_parts():
    z_a, z_p = cloud()
    d = pairwise_distance(z_a, z_p)
    assert_close(consistency_loss(z_a, z_p)[0], hinge(d.diagonal(), hardest_negative(d)).mean())


@pytest.mark.parametrize('seed', range(20))
def test_hardest_negative_on_any_matrix(seed):
    rng = random.Random(seed)
    B, beta = rng.randint(1, 9), rng.choice([0, 0.3, 0.9])
    d = torch.tensor([[rng.choice([0.0, 0.3, 0.5, 0.9, 1.4, rng.random()]) for _ in range(B)] for _ in range(B)])
    may = torch.tensor([[rng.random() < 0.6 for _ in range(B)] for _ in range(B)])
    expected = [
        min(
            (d[x, y].item() for j in range(B) for x, y in ((i, j), (j, i)) if j != i and may[x, y] and d[x, y] > beta),
            default=math.inf,
        )
        for i in range(B)
    ]
    assert hardest_negative(d, beta, may).tolist() == expected


def test_beta_itself_is_not_above_beta():
    d = torch.tensor([[0, 0.5], [0.75, 0]])
    assert hardest_negative(d, 0.5).tolist() == [0.75, 0.75]
    assert hardest_negative(d, 0.75).tolist() == [math.inf, math.inf]


def test_hardest_negative_differentiates_to_one_entry_each():
    d = torch.tensor([[0.1, 0.5, 0.9], [0.8, 0.1, 0.7], [0.6, 0.4, 0.1]], requires_grad=True)
    hardest_negative(d).sum().backward()
    assert d.grad.tolist() == [[0, 1, 0], [0, 0, 0], [0, 2, 0]]


def test_info_nce_is_torch_cross_entropy_without_the_candidates_left_out():
    z_a, z_p = cloud(17, 3)
    may, own = some_rule(17, 'unsymmetric'), torch.eye(17, dtype=torch.bool)
    keep = own | may & (torch.cdist(z_a, z_p) > 0.3)
    logits = (z_a @ z_p.T / 0.2).masked_fill(~keep, -math.inf)
    expected = (F.cross_entropy(logits, torch.arange(17)) + F.cross_entropy(logits.T, torch.arange(17))) / 2
    loss, stats = info_nce_loss(z_a, z_p, 0.2, 0.3, may)
    assert_close(loss, expected)
    assert list(stats) == STATISTICS
    for name in ('d_positive', 'd_negative', 'share_with_negative', 'share_under_beta', 'spread'):
        assert_close(stats[name], consistency_loss(z_a, z_p, may_be_negative=may)[1][name])


# ---- against pytorch-metric-learning ---------------------------------------------------------------------------------


def peer(z_a, z_p, margin, beta):
    """The same loss by pytorch-metric-learning, which mines only the rows of a distance matrix.

    The same: chord lengths, one positive, the nearest negative of the row with a distance in [beta, 10], the hinge.
    Not there, so done here: both directions (a hinge falls with the negative's distance, so the nearer negative of row
    and column costs the larger of the two hinges), 0 for a pair without negative, the mean over all pairs. Differs: it
    allows a distance equal to beta, and it has no rule beyond labels. Labels must be two different tensors, or it takes
    both sides for one.
    """
    distance = distances.LpDistance(normalize_embeddings=False)
    miner = miners.BatchEasyHardMiner(
        pos_strategy='hard', neg_strategy='hard', allowed_neg_range=(beta, 10), distance=distance
    )
    triplet = losses.TripletMarginLoss(margin=margin, distance=distance, reducer=reducers.DoNothingReducer())
    label, other_label = torch.arange(len(z_a)), torch.arange(len(z_a))

    def rows(x, y):
        anchor, positive, _, negative = miner(x, label, y, other_label)
        costs = triplet(x, label, (anchor, positive, negative), y, other_label)['loss']['losses']
        return torch.zeros(len(x), dtype=x.dtype).index_add(0, anchor, costs)

    return torch.maximum(rows(z_a, z_p), rows(z_p, z_a)).mean()


@pytest.mark.parametrize('margin, beta', [(0.4, 0.2), (0.6, 0.3), (0.8, 0.4), (1.0, 0.5)])
@pytest.mark.parametrize('D', [3, 128])
def test_same_loss_and_gradient_as_pytorch_metric_learning(margin, beta, D):
    ours, theirs = ([z.requires_grad_() for z in cloud(40, D, noise=2)] for _ in range(2))
    loss, expected = consistency_loss(*ours, margin, beta)[0], peer(*theirs, margin, beta)
    assert loss > 0.01
    assert_close(loss, expected)
    loss.backward(), expected.backward()
    for mine, other in zip(ours, theirs):
        assert_close(mine.grad, other.grad)


# ---- distances -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'dtype, result, tolerance',
    [
        (torch.float64, torch.float64, 1e-12),
        (torch.float32, torch.float32, 1e-5),
        (torch.bfloat16, torch.float32, 1e-5),
        (torch.float16, torch.float32, 1e-5),
    ],
)
@pytest.mark.parametrize('autocast', [None, torch.bfloat16, torch.float16])
def test_distance_of_the_given_vectors_in_every_dtype(dtype, result, tolerance, autocast):
    "Also of vectors that rounding has moved off the sphere; from the direct difference in float64."
    z_a, z_p = (z.to(dtype) for z in cloud(30, 128))
    expected = torch.cdist(z_a[:20].double(), z_p.double(), compute_mode='donot_use_mm_for_euclid_dist')
    with torch.autocast('cpu', dtype=autocast or torch.bfloat16, enabled=autocast is not None):
        d = pairwise_distance(z_a[:20], z_p)
    assert d.dtype == result and d.shape == (20, 30)
    assert_close(d.double(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize('D', [2, 3, 128, 512])
def test_duplicates_are_exactly_zero_apart_and_do_not_pull(dtype, D):
    z = F.normalize(torch.randn(200, D, generator=torch.Generator().manual_seed(0)), dim=1).to(dtype)
    z_a, z_p = z.clone().requires_grad_(), z.clone().requires_grad_()
    d = pairwise_distance(z_a, z_p).diagonal()
    d.sum().backward()
    assert d.tolist() == [0] * 200
    assert z_a.grad.abs().max() == 0 and z_p.grad.abs().max() == 0


def test_what_single_precision_can_tell_apart_is_not_zero():
    angle = torch.tensor([0.0015, 0.003, 0.01])
    d = pairwise_distance(torch.tensor([[1.0, 0]]), torch.stack((angle.cos(), angle.sin()), 1))[0]
    assert_close(d, angle, rtol=0.1, atol=0)


def test_no_tensor_of_size_B_B_D_is_made():
    "Counted among all results of all operations, forward and backward."
    from torch.utils._python_dispatch import TorchDispatchMode

    B, D, sizes = 64, 48, []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            sizes.extend(
                t.numel() for t in (out if isinstance(out, (tuple, list)) else [out]) if isinstance(t, torch.Tensor)
            )
            return out

    for function in (consistency_loss, lambda *z: consistency_loss(*z, k=None), info_nce_loss):
        z_a, z_p = (z.requires_grad_() for z in cloud(B, D))
        with Watch():
            function(z_a, z_p)[0].backward()
    assert B * B <= max(sizes) <= 2 * B * B


# ---- gradients -------------------------------------------------------------------------------------------------------

LOSSES = {
    'hardest': consistency_loss,
    'three': lambda *z: consistency_loss(*z, k=3),
    'all': lambda *z: consistency_loss(*z, k=None),
    'semi_hard': lambda *z: consistency_loss(*z, semi_hard=True),
    'info_nce': info_nce_loss,
}


@pytest.mark.parametrize('name', LOSSES)
def test_gradcheck(name):
    z_a, z_p = (z.requires_grad_() for z in cloud(10, 4))
    assert torch.autograd.gradcheck(lambda *z: LOSSES[name](*z)[0], (z_a, z_p))


def test_gradcheck_of_distances():
    z_a, z_p = (z.requires_grad_() for z in cloud(6, 4))
    assert torch.autograd.gradcheck(pairwise_distance, (z_a, z_p))


@pytest.mark.parametrize('name', LOSSES)
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_duplicates_within_and_across_pairs_give_finite_gradients(name, dtype):
    z_a, z_p = cloud(12, 4, dtype=torch.float32)
    z_p[:4] = z_a[:4]
    z_a[5] = z_p[6]
    z_a[7:9] = z_p[7:9] = z_a[7].clone()
    z_a, z_p = (z.to(dtype).requires_grad_() for z in (z_a, z_p))
    loss, _ = LOSSES[name](z_a, z_p)
    loss.backward()
    assert loss.isfinite() and loss.dtype == torch.float32
    for z in (z_a, z_p):
        assert z.grad.dtype == dtype and z.grad.isfinite().all() and z.grad.abs().max() > 0


@pytest.mark.parametrize('name', LOSSES)
def test_nothing_depends_on_order_orientation_or_the_name_of_the_sides(name):
    z_a, z_p = cloud(20, 4)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    turned, _ = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2)))
    loss, stats = LOSSES[name](z_a, z_p)
    for other in ((z_a[order], z_p[order]), (z_a @ turned, z_p @ turned), (z_p, z_a)):
        value, values = LOSSES[name](*other)
        assert_close(value, loss)
        del values['spread']  # per dimension, so it depends on the orientation
        assert_close(values, {key: stats[key] for key in values})


def test_gradient_is_exactly_zero_from_the_margin_on():
    d_positive, d_negative = (
        torch.tensor([0.5, 0.5, 0.5], requires_grad=True),
        torch.tensor([1.0, 1.25, 1.5], requires_grad=True),
    )
    hinge(d_positive, d_negative, 0.75).sum().backward()
    assert d_positive.grad.tolist() == [1, 0, 0] and d_negative.grad.tolist() == [-1, 0, 0]


# ---- pairs without a negative, and broken input ----------------------------------------------------------------------


@pytest.mark.parametrize('k', [1, 3, None])
def test_a_pair_without_negative_adds_zero_and_counts(k):
    z_a, z_p = (z.requires_grad_() for z in cloud(8, 4))
    may = torch.ones(8, 8, dtype=torch.bool)
    may[3] = may[:, 3] = False
    loss, stats = consistency_loss(z_a, z_p, may_be_negative=may, k=k)
    rest = [i for i in range(8) if i != 3]
    without, _ = consistency_loss(z_a[rest], z_p[rest], k=k)
    assert_close(loss, without * 7 / 8)
    assert stats['share_with_negative'] == 7 / 8
    loss.backward()
    assert z_a.grad[3].abs().max() == 0 and z_a.grad[rest].abs().max() > 0


@pytest.mark.parametrize('name', LOSSES)
def test_no_negative_at_all(name):
    "One pair, and identical embeddings: loss 0, gradient 0, statistics that say so."
    z = F.normalize(torch.ones(5, 4), dim=1)
    for z_a, z_p in (cloud(1, 4), (z, z.clone())):
        z_a.requires_grad_()
        loss, stats = LOSSES[name](z_a, z_p)
        loss.backward()
        assert loss == 0 and z_a.grad.abs().max() == 0
        assert stats['share_with_negative'] == stats['share_active'] == 0 and stats['d_negative'].isnan()
    assert stats['share_under_beta'] == 1 and stats['spread'] < 1e-6


def test_identical_embeddings_with_beta_zero_still_have_no_negative():
    z = F.normalize(torch.randn(1, 128, generator=torch.Generator().manual_seed(0)), dim=1).expand(9, -1)
    loss, stats = consistency_loss(z, z.clone(), beta=0)
    assert loss == 0 and stats['share_with_negative'] == 0


@pytest.mark.parametrize('name', LOSSES)
@pytest.mark.parametrize('bad', [math.nan, math.inf])
def test_a_broken_embedding_is_never_hidden(name, bad):
    for side, far in itertools.product((0, 1), (0, 1)):
        pair = cloud(6, 4)
        pair[side][2] = bad
        may = None if not far else torch.eye(6, dtype=torch.bool)  # even where its pair has no negative
        function = info_nce_loss if name == 'info_nce' else consistency_loss
        options = dict(three=dict(k=3), all=dict(k=None), semi_hard=dict(semi_hard=True)).get(name, {})
        assert not function(*pair, may_be_negative=may, **options)[0].isfinite()


def test_spread_is_one_on_the_sphere_and_zero_in_a_point():
    z_a, z_p = cloud(4000, 64, noise=10)
    assert_close(consistency_loss(z_a[:1000], z_p[:1000])[1]['spread'].item(), 1.0, rtol=0, atol=0.02)


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(margin=-1), 'margin must be positive, got -1'),
        (dict(margin=math.nan), 'margin must be positive, got nan'),
        (dict(beta=-0.1), r'beta must lie in \[0, 2\), got -0.1'),
        (dict(beta=2), r'beta must lie in \[0, 2\), got 2'),
        (dict(k=0), 'k must be at least 1, or None for all, got 0'),
        (
            dict(may_be_negative=torch.ones(4, 3, dtype=torch.bool)),
            r'may_be_negative must be bool, of shape \(4, 4\), got torch.bool \(4, 3\)',
        ),
        (dict(z_p=torch.zeros(3, 4)), r'at least one pair, got \(4, 4\) and \(3, 4\)'),
        (dict(z_a=torch.zeros(0, 4), z_p=torch.zeros(0, 4)), 'at least one pair'),
        (dict(z_p=torch.zeros(4, 5)), r'same dimension D, got \(4, 4\) and \(4, 5\)'),
        (dict(z_a=torch.zeros(4, 4, dtype=torch.long)), 'z_a must be floating'),
    ],
)
def test_refusals(change, message):
    z_a, z_p = cloud(4, 4)
    with pytest.raises(ValueError, match=message):
        consistency_loss(**dict(z_a=z_a, z_p=z_p) | change)


# ---- several processes, batches in pieces ----------------------------------------------------------------------------


@pytest.mark.parametrize('name', LOSSES)
def test_gathered_embeddings_give_each_process_its_share_of_the_gradient(name):
    "Each takes the whole loss; only its own embeddings carry a gradient."
    whole = [z.requires_grad_() for z in cloud(12, 4)]
    LOSSES[name](*whole)[0].backward()
    for own in torch.arange(12).chunk(3):
        mine = [z.detach()[own].requires_grad_() for z in whole]
        gathered = [z.detach().index_copy(0, own, part) for z, part in zip(whole, mine)]
        LOSSES[name](*gathered)[0].backward()
        for z, part in zip(whole, mine):
            assert_close(part.grad, z.grad[own])


# ---- poses -----------------------------------------------------------------------------------------------------------


def some_poses(B=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pred, true = (300 * torch.randn(B, 17, 3, dtype=torch.float64, generator=generator) for _ in range(2))
    true[1] = math.nan
    true[2, 4:9] = math.nan
    true[3, 16, 1] = math.nan  # one coordinate is enough
    return pred, true


def slow_pose_loss(pred, true, kind):
    errors = []
    for p, t in zip(pred.tolist(), true.tolist()):
        for j in range(1, 17):
            off = [abs(a - b) for a, b in zip(p[j], t[j])]
            if any(math.isnan(x) for x in off):
                continue
            if kind == 'l1':
                errors.append(sum(off) / 3)
            if kind == 'l2':
                errors.append(math.hypot(*off))
            if kind == 'smooth':
                errors.append(sum(x * x / 100 if x < 50 else x - 25 for x in off) / 3)
    return sum(errors) / len(errors) / 300


@pytest.mark.parametrize('kind', ['l1', 'l2', 'smooth'])
def test_pose_loss_is_the_loop(kind):
    pred, true = some_poses()
    assert_close(pose_loss(pred, true, kind).item(), slow_pose_loss(pred, true, kind))
    assert torch.autograd.gradcheck(lambda p: pose_loss(p, true, kind), pred.requires_grad_())
    (grad,) = torch.autograd.grad(pose_loss(pred, true, kind), pred)
    unlabelled = true.isnan().any(-1)
    assert (grad[unlabelled] == 0).all() and (grad[:, 0] == 0).all() and (grad[~unlabelled][1:] != 0).any()


@pytest.mark.parametrize('kind', ['l1', 'l2', 'smooth'])
def test_pose_loss_where_it_could_break(kind):
    pred, true = some_poses()
    same = true.clone().requires_grad_()  # a perfect prediction: finite gradient
    clean = true.nan_to_num()
    assert torch.autograd.grad(pose_loss(same.nan_to_num(), clean, kind), same)[0].isfinite().all()
    nothing = pose_loss(pred.requires_grad_(), torch.full_like(true, math.nan), kind)
    assert nothing == 0 and (torch.autograd.grad(nothing, pred)[0] == 0).all()
    broken = pred.detach().index_fill(0, torch.tensor([0]), math.nan)
    assert pose_loss(broken, true, kind).isnan()  # of the network, not of the label
    assert pose_loss(pred.bfloat16(), true.float(), kind).dtype == torch.float32


def test_pose_error_keeps_batch_dimensions_and_says_where_there_is_no_label():
    pred, true = some_poses()
    error = pose_error(pred[None], true[None], 'l2')
    assert error.shape == (1, 5, 16)
    assert (error[0].isnan() == true[:, 1:].isnan().any(-1)).all()


# ---- misuse ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('loss', [consistency_loss, info_nce_loss])
@pytest.mark.parametrize(
    'change, told',
    [
        (lambda z: z.numpy(), 'must be a tensor, got numpy.ndarray: torch.as_tensor makes one'),
        (lambda z: z.tolist(), 'must be a tensor, got builtins.list'),
        (lambda z: 5 * z, 'must hold unit vectors, got lengths from 5 to 5'),
        (lambda z: z + 1, 'must hold unit vectors, got lengths from'),
    ],
)
@pytest.mark.parametrize('side', [0, 1])
def test_embeddings_that_are_none_are_refused(loss, change, told, side):
    "Of vectors of length 5 the loss was 0, and its gradient too."
    z = [torch.nn.functional.normalize(torch.randn(6, 8), dim=1) for _ in range(2)]
    z[side] = change(z[side])
    with pytest.raises(Refusal, match=f'z_{"ap"[side]} {re.escape(told)}'):
        loss(*z)


def test_half_precision_is_near_enough_to_length_one():
    z = [torch.nn.functional.normalize(torch.randn(64, 128), dim=1).bfloat16() for _ in range(2)]
    consistency_loss(*z)


def test_lengths_are_taken_on_trust_where_that_is_said():
    z = torch.randn(6, 8)
    assert consistency_loss(5 * z, 5 * z, unit=True)[0].isfinite()
