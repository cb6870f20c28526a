"""Guards of mvssl.retrieval: scikit-learn and slow loops as oracles; ties, collapse, memory, labels, scores."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch.nn.functional import normalize
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mvssl import retrieval
from mvssl.evaluation import mpjpe, pa_mpjpe
from mvssl.retrieval import (
    cross_subject_cross_view,
    match_rule,
    pick_queries,
    pose_distance,
    retrieval_scores,
    retrieve,
    same_subject_cross_view,
)
from mvssl.skeleton import canonicalise


def draw(seed, n_query=90, n_database=700, dim=12):
    "Unit embeddings and labels of queries and database."
    rng = np.random.default_rng(seed)

    def some(n):
        z = normalize(torch.tensor(rng.normal(size=(n, dim)), dtype=torch.float32), dim=1)
        return z, {
            'subject': rng.choice(['S9', 'S11', 'S5'], n),
            'view': rng.integers(0, 4, n),
            'instant': rng.integers(0, 40, n),
        }

    return *some(n_query), *some(n_database)


def allowed_by_loop(a, b, subject, view, same_instant):
    "The rule as one would tell it, for one query label and one item."
    if subject != 'any' and (a['subject'] == b['subject']) != (subject == 'same'):
        return False
    if view != 'any' and (a['view'] == b['view']) != (view == 'same'):
        return False
    if not same_instant and a['instant'] == b['instant']:
        return False
    return not (a['view'] == b['view'] and a['instant'] == b['instant'])


def by_sklearn(query, database, k, allowed):
    "scikit-learn's brute force over each query's own candidates."
    distance, index = np.full((len(query), k), np.inf), np.full((len(query), k), -1)
    for i, may in enumerate(allowed):
        candidates = may.nonzero()[0]
        if not len(candidates):
            continue
        n = min(k, len(candidates))
        knn = NearestNeighbors(n_neighbors=n, algorithm='brute').fit(database[candidates].double().numpy())
        d, at = knn.kneighbors(query[i : i + 1].double().numpy())
        distance[i, :n], index[i, :n] = d[0], candidates[at[0]]
    return distance, index


def all_distances(query, database):
    return (query[:, None].double() - database[None].double()).norm(dim=-1)


def sorted_in_full(query, database, k, allowed=None, distance=all_distances):
    "Every distance in float64, sorted with ties by index."
    d = distance(query, database)
    if allowed is not None:
        d = d.masked_fill(~torch.as_tensor(allowed), math.inf)
    d, index = d.sort(dim=1, stable=True)
    return d[:, :k], index[:, :k].masked_fill(d[:, :k] == math.inf, -1)


# ---- neighbours ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('subject', ['same', 'other', 'any'])
@pytest.mark.parametrize('view', ['same', 'other', 'any'])
@pytest.mark.parametrize('same_instant', [True, False])
def test_rules_are_sklearn_with_masks_by_loops(subject, view, same_instant):
    z, tags, gallery, gallery_tags = draw(0)
    rows = [[dict(zip(t, row)) for row in zip(*t.values())] for t in (tags, gallery_tags)]
    allowed = np.array([[allowed_by_loop(a, b, subject, view, same_instant) for b in rows[1]] for a in rows[0]])
    rule = match_rule(tags, gallery_tags, subject, view, same_instant)
    assert (rule(torch.arange(90)[:, None], torch.arange(700)[None]).numpy() == allowed).all()
    found = retrieve(z, gallery, 60, rule, block_mb=0.01)
    distance, index = by_sklearn(z, gallery, 60, allowed)
    assert (found.index.numpy() == index).all()
    assert_close(found.distance.double().numpy(), distance, atol=1e-6, rtol=0)
    named = {('other', 'other'): cross_subject_cross_view, ('same', 'other'): same_subject_cross_view}.get(
        (subject, view)
    )
    if named:
        assert (retrieve(z, gallery, 60, named(tags, gallery_tags, same_instant)).index == found.index).all()


def test_twins_are_dropped_however_many_there_are():
    "Few are asked for on top, many are masked."
    z, _, gallery, _ = draw(21)
    for n_instants in (700, 100, 30, 3, 1):
        instants = [{'instant': np.arange(n) % n_instants} for n in (90, 700)]
        rule = match_rule(*instants, same_instant=False)
        allowed = instants[0]['instant'][:, None] != instants[1]['instant']
        found = retrieve(z, gallery, 12, rule, block_mb=0.05)
        assert torch.equal(found.index, sorted_in_full(z, gallery, 12, allowed)[1])


def test_more_neighbours_than_folds_in_a_block():
    z, _, gallery, _ = draw(22)
    for k in (100, 500, 700):
        found = retrieve(z, gallery, k, block_mb=0.02)
        assert torch.equal(found.index, sorted_in_full(z, gallery, k)[1])


def test_every_way_to_say_who_may_match_gives_the_same():
    z, tags, gallery, gallery_tags = draw(1)
    rule = cross_subject_cross_view(tags, gallery_tags)
    matrix = rule(torch.arange(90)[:, None], torch.arange(700)[None])
    expected = retrieve(z, gallery, 5, rule)
    for may in (matrix, matrix.numpy(), lambda i, j: matrix[i, j]):
        found = retrieve(z, gallery, 5, may)
        assert (found.index == expected.index).all() and (found.distance == expected.distance).all()


@pytest.mark.parametrize('block_mb', [0.001, 0.01, 0.05, 16])
@pytest.mark.parametrize('n_database', [0, 1, 7, 16, 100, 1001])
def test_blocks_leave_no_trace(block_mb, n_database):
    z, _, gallery, _ = draw(2, 40, n_database)
    found = retrieve(z, gallery, 9, block_mb=block_mb)
    distance, index = sorted_in_full(z, gallery, 9)
    n = index.shape[1]
    assert (
        (found.index[:, :n] == index).all()
        and (found.index[:, n:] == -1).all()
        and (found.distance[:, n:] == math.inf).all()
    )
    assert_close(found.distance[:, :n], distance.float(), atol=1e-7, rtol=0)


@pytest.mark.parametrize('order', ['far to near', 'near to far', 'clusters'])
def test_databases_in_any_order(order):
    "Blocks that are all better than what came before, or all worse."
    rng = np.random.default_rng(3)
    gallery = torch.tensor(rng.normal(size=(3000, 4)), dtype=torch.float32)
    if order == 'clusters':
        gallery = gallery * 0.01 + torch.tensor(rng.normal(size=(10, 1, 4)), dtype=torch.float32).expand(
            -1, 300, -1
        ).flatten(0, 1)
    else:
        gallery = gallery[gallery.norm(dim=1).argsort(descending=order == 'far to near')]
    query = torch.tensor(rng.normal(size=(50, 4)) * 0.1, dtype=torch.float32)
    assert (retrieve(query, gallery, 20, block_mb=0.02).index == sorted_in_full(query, gallery, 20)[1]).all()


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('kind', ['copies', 'collapsed', 'far from the origin', 'all the same'])
def test_exact_where_rounding_and_ties_bite(kind, dtype, monkeypatch):
    "Index by index equal to sorted float64 distances: ties in the order of the database."
    gen = torch.Generator().manual_seed(4)
    z = normalize(torch.randn(400, 16, generator=gen), dim=1).to(dtype)
    if kind == 'copies':
        z = z[torch.randint(0, 20, (400,), generator=gen)]
    if kind == 'collapsed':
        z = normalize(z * 1e-6 + 1, dim=1)
    if kind == 'far from the origin':
        z = z + 1000
    if kind == 'all the same':
        z = z[:1].expand(400, -1).clone()
    slow = []
    kept = retrieval._in_full
    monkeypatch.setattr(retrieval, '_in_full', lambda i, *rest: slow.append(len(i)) or kept(i, *rest))
    found = retrieve(z, z, 10, lambda i, j: i != j, block_mb=0.02)
    assert (found.index == sorted_in_full(z, z, 10, ~torch.eye(400, dtype=torch.bool))[1]).all()
    assert found.distance.dtype == dtype
    if kind in ('copies', 'all the same'):
        assert sum(slow) > 200  # the spare candidates do not reach beyond the ties
    if kind == 'far from the origin':
        assert sum(slow) < 40


def test_ordinary_embeddings_need_no_second_search(monkeypatch):
    monkeypatch.setattr(retrieval, '_in_full', lambda *_: pytest.fail('searched again'))
    z, _, gallery, _ = draw(5, 200, 5000, 128)
    retrieve(z, gallery, 20)


def test_coarse_products_are_made_good(monkeypatch):
    "Where the user lets float32 products be coarse (here: bfloat16), the proposals are wrong, the answer is not."
    z, _, gallery, _ = draw(6, 50, 20000, 3)
    kept, before = torch.mm, torch.get_float32_matmul_precision()
    monkeypatch.setattr(torch, 'mm', lambda a, b, out: kept(a.bfloat16().float(), b.bfloat16().float(), out=out))
    expected = sorted_in_full(z, gallery, 10)[1]
    assert (retrieve(z, gallery, 10).index != expected).any()  # as nobody said so
    try:
        torch.set_float32_matmul_precision('medium')
        with torch.autocast('cpu', dtype=torch.bfloat16):
            found = retrieve(z, gallery, 10)
    finally:
        torch.set_float32_matmul_precision(before)
    assert (found.index == expected).all()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.int64, torch.float32, torch.float64])
def test_dtypes(dtype):
    gen = torch.Generator().manual_seed(7)
    z = (10 * torch.randn(200, 6, generator=gen)).to(dtype)
    found = retrieve(z[:20], z, 3)
    assert (found.index == sorted_in_full(z[:20], z, 3)[1]).all()
    assert (
        found.distance.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        and found.index.dtype == torch.int64
    )


def test_numpy_in_numpy_out():
    z, _, gallery, _ = draw(8)
    found = retrieve(z.numpy(), gallery.numpy(), 3)
    assert isinstance(found.index, np.ndarray) and (found.index == retrieve(z, gallery, 3).index.numpy()).all()


@pytest.mark.parametrize('device', ['cpu', *(['cuda'] if torch.cuda.is_available() else [])])
def test_devices(device):
    z, tags, gallery, gallery_tags = draw(13, 100, 8000, 128)
    for rule in (None, cross_subject_cross_view(tags, gallery_tags)):
        found = retrieve(z.to(device), gallery.to(device), 20, rule)
        allowed = None if rule is None else rule(torch.arange(100)[:, None], torch.arange(8000)[None])
        assert found.index.device.type == device
        assert (
            found.index.cpu()
            == sorted_in_full(z, gallery, 20, allowed, lambda a, b: torch.cdist(a.double(), b.double()))[1]
        ).all()


def test_other_distances():
    "Ties among whole numbers, NaN as never found."
    rng = np.random.default_rng(9)
    a, b = (torch.tensor(rng.integers(0, 3, (n, 4))) for n in (30, 500))
    manhattan = lambda p, q: (p[:, None] - q[None]).abs().sum(-1).double()
    with_holes = lambda p, q: manhattan(p, q).masked_fill(q[None, :, 0].expand(len(p), -1) == 1, math.nan)
    found = retrieve(a, b, 12, distance=with_holes, block_mb=0.01)
    d, index = sorted_in_full(a, b, 12, distance=lambda p, q: with_holes(p, q).nan_to_num(math.inf))
    assert (found.index == index).all() and (found.distance == d).all()


def test_empty_and_lonely():
    z, tags, gallery, gallery_tags = draw(10)
    assert retrieve(z[:0], gallery, 3).index.shape == (0, 3)
    assert (retrieve(z, gallery, 3, lambda i, j: (i < 0) & (j < 0)).index == -1).all()
    alone = {'subject': ['a'] * 5, 'view': [0, 1, 2, 3, 4], 'instant': [0] * 5}
    found = retrieve(z[:5], z[:5], 3, cross_subject_cross_view(alone))
    assert (found.index == -1).all() and (found.distance == math.inf).all()


def test_refusals():
    z, tags, gallery, gallery_tags = draw(11)
    for bad in (math.nan, math.inf):
        broken = gallery.clone()
        broken[13, 2] = bad
        with pytest.raises(ValueError, match='database must be finite, it is not in row 13'):
            retrieve(z, broken, 3)
    with pytest.raises(ValueError, match=r'got \(90, 12\) and \(700, 5\)'):
        retrieve(z, gallery[:, :5], 3)
    with pytest.raises(ValueError, match='k must be at least 1, got -1'):
        retrieve(z, gallery, -1)
    with pytest.raises(ValueError, match=r'may_match must be bool of shape \(90, 700\), got torch.float32'):
        retrieve(z, gallery, 3, torch.ones(90, 700))
    with pytest.raises(ValueError, match='made for 90 queries and 700 items, got 700 and 90'):
        retrieve(gallery, z, 3, match_rule(tags, gallery_tags))
    with pytest.raises(ValueError, match="must have a column 'instant'"):
        match_rule({'subject': [1]}, subject='same')


# ---- by faiss --------------------------------------------------------------------------------------------------------


@pytest.fixture
def proposed(monkeypatch):
    "Lets faiss propose however small the search is; what it was asked for, as (queries, items, how many)."
    asked, kept = [], retrieval._products

    def watched(faiss, q, d, n):
        asked.append((len(q), len(d), n))
        return kept(faiss, q, d, n)

    monkeypatch.setattr(retrieval, 'WORTH_FAISS', 0)
    monkeypatch.setattr(retrieval, '_products', watched)
    return asked


@pytest.mark.parametrize('subject', ['same', 'other', 'any'])
@pytest.mark.parametrize('view', ['same', 'other', 'any'])
@pytest.mark.parametrize('same_instant', [True, False])
def test_faiss_finds_the_same(subject, view, same_instant, proposed):
    z, tags, gallery, gallery_tags = draw(14)
    rule = match_rule(tags, gallery_tags, subject, view, same_instant)
    allowed = rule(torch.arange(90)[:, None], torch.arange(700)[None])
    for k in (1, 12, 60):
        found = retrieve(z, gallery, k, rule)
        distance, index = sorted_in_full(z, gallery, k, allowed)
        assert torch.equal(found.index, index)
        assert_close(found.distance, distance.float(), atol=1e-7, rtol=0)
    assert sum(n for n, _, _ in proposed) >= 90  # where an instant is in more images than are kept, masks take over


@pytest.mark.parametrize('kind', ['copies', 'collapsed', 'far from the origin', 'all the same'])
def test_faiss_is_exact_where_rounding_and_ties_bite(kind, proposed):
    gen = torch.Generator().manual_seed(15)
    z = normalize(torch.randn(400, 16, generator=gen), dim=1)
    if kind == 'copies':
        z = z[torch.randint(0, 20, (400,), generator=gen)]
    if kind == 'collapsed':
        z = normalize(z * 1e-6 + 1, dim=1)
    if kind == 'far from the origin':
        z = z + 1000
    if kind == 'all the same':
        z = z[:1].expand(400, -1).clone()
    assert torch.equal(retrieve(z, z, 10).index, sorted_in_full(z, z, 10)[1])
    image = {'instant': np.arange(400), 'view': np.zeros(400, int)}
    found = retrieve(z, z, 10, match_rule(image))
    assert torch.equal(found.index, sorted_in_full(z, z, 10, ~torch.eye(400, dtype=torch.bool))[1])
    assert proposed == [(400, 400, 18), (400, 400, 19)]


@pytest.mark.parametrize('n_database', [1, 7, 17, 40])
def test_faiss_and_few_candidates(n_database, proposed):
    z, tags, gallery, gallery_tags = draw(16, 40, n_database)
    rule = cross_subject_cross_view(tags, gallery_tags)
    found = retrieve(z, gallery, 9, rule)
    index = sorted_in_full(z, gallery, 9, rule(torch.arange(40)[:, None], torch.arange(n_database)[None]))[1]
    assert torch.equal(found.index[:, : index.shape[1]], index) and (found.index[:, index.shape[1] :] == -1).all()
    assert proposed


def test_many_queries_are_given_to_faiss_in_parts(proposed, monkeypatch):
    monkeypatch.setattr(retrieval, 'FAISS_QUERIES', 64)
    z, tags, gallery, gallery_tags = draw(17, 200)
    assert torch.equal(retrieve(z, gallery, 5).index, sorted_in_full(z, gallery, 5)[1])
    assert [n for n, _, _ in proposed] == [64, 64, 64, 8]


def test_faiss_is_asked_only_for_what_it_can_do(proposed, monkeypatch):
    z, tags, gallery, gallery_tags = draw(18)
    once = dict(tags, instant=np.zeros(90, int)), dict(gallery_tags, instant=np.zeros(700, int))
    retrieve(z, gallery, 5, lambda i, j: (i + j) % 2 == 0)
    retrieve(z, gallery, 5, torch.ones(90, 700, dtype=torch.bool))
    retrieve(z.double(), gallery.double(), 5)
    retrieve(z, gallery, 5, block_mb=16)
    retrieve(z, gallery, 5, distance=all_distances)
    assert (retrieve(z, gallery, 5, match_rule(*once, same_instant=False)).index == -1).all()
    monkeypatch.setattr(retrieval.sys, 'platform', 'darwin')
    retrieve(z, gallery, 5)
    monkeypatch.undo()
    retrieve(z, gallery, 5)  # too small to be worth it
    assert proposed == []


def test_a_search_without_faiss_is_the_same(proposed, monkeypatch):
    z, tags, gallery, gallery_tags = draw(19)
    rule = match_rule(tags, gallery_tags, same_instant=False)
    expected = retrieve(z, gallery, 20, rule)
    assert proposed
    monkeypatch.setitem(retrieval.sys.modules, 'faiss', None)  # as if it were not installed
    found = retrieve(z, gallery, 20, rule)
    assert len(proposed) == 1
    assert torch.equal(found.index, expected.index) and torch.equal(found.distance, expected.distance)


def test_settings_of_faiss_are_left_alone(proposed):
    import faiss

    settings = lambda: (faiss.omp_get_max_threads(), faiss.cvar.distance_compute_blas_threshold)
    before = settings()
    z, _, gallery, _ = draw(20)
    retrieve(z, gallery, 5)
    assert proposed and settings() == before


# ---- memory ----------------------------------------------------------------------------------------------------------


class LargestTensor(TorchDispatchMode):
    "Watches the size of everything torch makes, in bytes."

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if isinstance(x, torch.Tensor):
                self.bytes = max(self.bytes, x.untyped_storage().nbytes())
        return out


@pytest.mark.parametrize('how', ['no rule', 'rule', 'many twins', 'function', 'all the same'])
def test_memory_is_that_of_blocks(how):
    "3,000 x 6,000 scores would be 72 MB; no tensor exceeds a block of 0.5 MiB (twice in int64), or the inputs' 0.4 MB."
    z, tags, gallery, gallery_tags = draw(12, 3000, 6000)
    moments = [{'instant': np.arange(n) % 2} for n in (3000, 6000)]  # a query has 3,000 twins
    may = {
        'rule': match_rule(tags, gallery_tags, 'other', 'any', False),
        'function': lambda i, j: (i + j) % 3 > 0,
        'many twins': match_rule(*moments, same_instant=False),
    }.get(how)
    if how == 'all the same':
        z, gallery = torch.ones(30, 12), torch.ones(6000, 12)
    with LargestTensor() as watched:
        found = retrieve(z, gallery, 20, may, block_mb=0.5)
    assert (found.index >= 0).all()
    assert watched.bytes <= 2 * 0.5 * 2**20


# ---- scores ----------------------------------------------------------------------------------------------------------


def scene(seed, n_instants=24, n_views=3):
    "Images of 2 subjects with poses in the world, embeddings that are the poses with noise, and labels."
    rng = np.random.default_rng(seed)
    base = rng.normal(0, 300, (17, 3)) * [1, 1, 2]
    base[0], base[1], base[4] = 0, [-130, 0, 0], [130, 0, 0]
    subject = np.arange(n_instants) % 2
    pose = base + np.cumsum(rng.normal(0, 25, (n_instants, 17, 3)), 0)
    image = np.repeat(np.arange(n_instants), n_views)
    labels = pd.DataFrame(
        {
            'subject': subject[image],
            'view': np.tile(np.arange(n_views), n_instants),
            'instant': image,
            'sequence': [f'{s}-{i // 6}' for s, i in zip(subject[image], image)],
        }
    )
    z = normalize(torch.tensor(pose.reshape(n_instants, -1)[image] + rng.normal(0, 120, (len(image), 51))), dim=1)
    return z, torch.tensor(pose)[image], labels


def scores_by_loop(order, poses, labels, allowed, k):
    "Means over queries from neighbours in `order`, by loops."
    poses, out = (
        canonicalise(poses).numpy(),
        {name: [] for name in ('MPJPE', 'PA-MPJPE', 'Hit', 'same instant', 'MAP@R')},
    )
    for i, row in enumerate(order):
        found = [j for j in row if allowed[i, j]]
        pairs = [(poses[j][None], poses[i][None]) for j in found[:k]]
        pa = [pa_mpjpe(*pair)[0] for pair in pairs]
        unit = np.linalg.norm(poses[i][0] - poses[i][7]) + np.linalg.norm(poses[i][7] - poses[i][8])
        out['MPJPE'].append(np.mean([mpjpe(*pair)[0] for pair in pairs]))
        out['PA-MPJPE'].append(np.mean(pa))
        out['Hit'].append(float(min(pa) / unit <= 0.1))
        own = [labels.instant[j] == labels.instant[i] for j in found]
        if not any(own):
            continue
        out['same instant'].append(float(any(own[:k])))
        r = sum(own)
        out['MAP@R'].append(sum(own[n] * sum(own[: n + 1]) / (n + 1) for n in range(r)) / r)
    return {name: np.mean(values) for name, values in out.items() if values}


@pytest.mark.parametrize('protocol', [cross_subject_cross_view, same_subject_cross_view])
@pytest.mark.parametrize('same_instant', [True, False])
def test_scores_are_loops(protocol, same_instant):
    z, poses, labels = scene(0)
    allowed = protocol(labels)(torch.arange(72)[:, None], torch.arange(72)[None]).numpy()
    if not same_instant:
        allowed &= labels.instant.to_numpy()[:, None] != labels.instant.to_numpy()
    table = retrieval_scores(z, poses, labels, protocol, same_instant, ks=(1, 4))
    canonical = canonicalise(poses)
    orders = {'embedding': all_distances(z, z), 'oracle': pose_distance(canonical, canonical)}
    for name, distance in orders.items():
        for k in (1, 4):
            expected = scores_by_loop(distance.sort(dim=1, stable=True).indices.tolist(), poses, labels, allowed, k)
            assert (
                ('same instant' in expected)
                == (protocol is same_subject_cross_view and same_instant)
                == ('same instant' in table.index)
            )
            for score, value in expected.items():
                row = ('same instant', 'MAP@R') if score == 'MAP@R' else (score, k)
                assert_close(float(table.loc[row, name]), float(value), rtol=1e-6, atol=1e-9)


def test_pose_distance_is_mpjpe_of_every_pair():
    a, b = canonicalise(scene(7)[1][:5]), canonicalise(scene(8)[1][:9])
    assert_close(pose_distance(a, b), torch.stack([mpjpe(b, p.expand(9, -1, -1)) for p in a]))


def test_chance_is_the_mean_over_all_that_may_match():
    z, poses, labels = scene(1)
    allowed = cross_subject_cross_view(labels)(torch.arange(72)[:, None], torch.arange(72)[None])
    canonical = canonicalise(poses)
    expected = (pose_distance(canonical, canonical) * allowed).sum() / allowed.sum()
    tables = [retrieval_scores(z, poses, labels, ks=(1, 5), seed=seed) for seed in range(20)]
    drawn = np.array([table.loc[('MPJPE', 5), 'chance'] for table in tables])
    assert abs(drawn.mean() - float(expected)) < 4 * drawn.std() / math.sqrt(20)
    assert drawn.std() < 0.1 * float(expected)
    pd.testing.assert_frame_equal(tables[3], retrieval_scores(z, poses, labels, ks=(1, 5), seed=3))


def test_the_oracle_is_a_bound():
    z, poses, labels = scene(2)
    table = retrieval_scores(z, poses, labels, same_subject_cross_view, ks=(1, 5, 10))
    mm = table.loc['MPJPE']
    assert (mm.oracle < mm.embedding).all() and (mm.embedding < mm.chance).all()
    perfect = retrieval_scores(canonicalise(poses).flatten(1), poses, labels, same_subject_cross_view, ks=(1,))
    assert_close(perfect.loc[('MPJPE', 1), 'embedding'], 0.0)
    assert perfect.loc[('same instant', 'MAP@R'), 'embedding'] == 1


def test_unlabelled_images_are_left_out_of_every_row():
    z, poses, labels = scene(3)
    expected = retrieval_scores(z[6:], poses[6:], labels[6:], ks=(1, 5))
    poses[:6, 3] = math.nan
    table = retrieval_scores(z, poses, labels, ks=(1, 5))
    assert table.attrs == {'without_label': 6} and (table.queries == 66).all()
    columns = ['embedding', 'oracle', 'embedding low', 'embedding high']
    pd.testing.assert_frame_equal(table[columns], expected[columns])


def test_queries_and_database_are_parts():
    z, poses, labels = scene(4)
    is_query = (labels['view'] == 0).to_numpy()
    table = retrieval_scores(
        z, poses, labels, same_subject_cross_view, queries=is_query, database=np.flatnonzero(~is_query), ks=(1,)
    )
    whole = retrieval_scores(z, poses, labels, same_subject_cross_view, queries=is_query, ks=(1,))
    assert (table.queries == 24).all()
    pd.testing.assert_series_equal(table.embedding, whole.embedding)  # view 0 may not be found anyway


def test_intervals_draw_the_queries_sequences():
    z, poses, labels = scene(5)
    one = retrieval_scores(z, poses, labels.assign(sequence=0), ks=(1,))
    assert one['embedding low'].isna().all() and one.embedding.notna().all()
    own = retrieval_scores(z, poses, labels, ks=(1,)).loc[('MPJPE', 1)]
    assert own['embedding low'] < own['embedding'] < own['embedding high']


def test_scores_refuse():
    z, poses, labels = scene(6)
    with pytest.raises(ValueError, match='labels must have a row per image'):
        retrieval_scores(z[:5], poses[:5], labels)
    with pytest.raises(ValueError, match='queries must leave at least one image with a label, got 72 without'):
        retrieval_scores(z, poses * math.nan, labels)


def test_scores_refuse_before_anything_is_searched(monkeypatch):
    monkeypatch.setattr(retrieval, 'retrieve', lambda *_: pytest.fail('searched'))
    z, poses, labels = scene(6)
    one = (labels['subject'] == 0).to_numpy()

    def refused(text, *args, **kwargs):
        with pytest.raises(ValueError, match=text):
            retrieval_scores(*args, **kwargs)

    refused(r"not there: view; it has \['subject', 'instant', 'sequence'\]", z, poses, labels.drop(columns='view'))
    refused('not there: view, sequence', z, poses, labels[['subject', 'instant']].to_dict('list'))
    nobody = 'labels must leave a query something to find'
    refused(
        rf'{nobody}: .* none of 36 queries match any of 36 images \(subject \[0\] against \[0\]',
        z,
        poses,
        labels,
        queries=one,
        database=one,
    )
    refused(nobody, z, poses, labels.assign(view=0))
    refused(nobody, z, poses, labels.assign(subject=0, instant=0), same_subject_cross_view, False)
    refused('poses must be given where no query may find its own instant', z, None, labels)
    refused('queries must leave at least one image, got none of 72', z, poses, labels, queries=[])
    refused('database must leave at least one image, got none of 72', z, poses, labels, database=np.zeros(72, bool))
    refused('queries must be indices or bools of 72 images', z, poses, labels, queries=[72])
    refused('database must be indices or bools of 72 images', z, poses, labels, database=one[:5])
    poses[~one] = math.nan
    refused(
        'database must leave at least one image with a label, got 36 without',
        z,
        poses,
        labels,
        queries=one,
        database=~one,
    )
    for ks in ((), (0, 5)):
        refused('ks must hold numbers of at least 1', z, poses, labels, ks=ks)


def test_how_many_a_query_may_match_is_counted_right():
    _, tags, _, gallery_tags = draw(23)
    for subject in ('same', 'other', 'any'):
        for view in ('same', 'other', 'any'):
            for same_instant in (True, False):
                rule = match_rule(tags, gallery_tags, subject, view, same_instant)
                by_loop = rule(torch.arange(90)[:, None], torch.arange(700)[None]).sum(1)
                assert torch.equal(retrieval._n_allowed(rule), by_loop)


def test_several_embeddings_are_scored_as_each_alone():
    z, poses, labels = scene(9)
    several = {'all': z, 'part': z[:, :3], 'as numbers': z.numpy()}
    table = retrieval_scores(several, poses, labels, same_subject_cross_view, ks=(1, 5), seed=4)
    for name, one in several.items():
        alone = retrieval_scores(one, poses, labels, same_subject_cross_view, ks=(1, 5), seed=4)
        columns = [
            f'{column}{end}' for column in ('embedding', 'oracle', 'chance') for end in ('', ' low', ' high')
        ] + ['queries']
        renamed = {column: column.replace('embedding', name) for column in columns}
        pd.testing.assert_frame_equal(table[list(renamed.values())], alone[columns].rename(columns=renamed))
    assert (table.part != table['all']).any()
    some = retrieval_scores(
        several, poses, labels, same_subject_cross_view, ks=(1, 5), seed=4, intervals=('part', 'oracle')
    )
    pd.testing.assert_frame_equal(some, table[some.columns])
    assert [name for name in table if name not in some] == [
        f'{name} {end}' for name in ('all', 'as numbers', 'chance') for end in ('low', 'high')
    ]


def test_several_embeddings_refuse():
    z, poses, labels = scene(10)
    for wrong in ({}, {'chance': z}):
        with pytest.raises(ValueError, match='z must hold embeddings under names of their own'):
            retrieval_scores(wrong, poses, labels)
    with pytest.raises(ValueError, match="'b' has 5 for 72 images"):
        retrieval_scores({'a': z, 'b': z[:5]}, poses, labels)


# ---- queries of a figure ---------------------------------------------------------------------------------------------


def uneven(seed):
    "Labels with subjects and actions in very different numbers, not all of them together."
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        dict(
            subject=rng.choice(['A', 'B', 'C'], 400, p=[0.9, 0.08, 0.02]),
            action=rng.choice(list('uvwxyz'), 400, p=[0.5, 0.3, 0.1, 0.05, 0.03, 0.02]),
        )
    )


def picked_by_loop(labels, n, seed, allowed):
    "The rule as one would tell it."
    order, taken = list(np.random.default_rng(seed).permutation(allowed)), []
    for _ in range(n):

        def times(row):
            return tuple(sum(labels[name][t] == labels[name][row] for t in taken) for name in ('subject', 'action'))

        best = min(times(row) for row in order)
        taken.append(next(row for row in order if times(row) == best))
        order.remove(taken[-1])
    return taken


@pytest.mark.parametrize('seed', range(5))
def test_queries_are_picked_by_the_rule(seed):
    labels = uneven(seed)
    allowed = np.random.default_rng(100 + seed).choice(400, 60, replace=False)
    assert pick_queries(labels, 9, seed, allowed).tolist() == picked_by_loop(labels, 9, seed, allowed)
    is_allowed = np.isin(np.arange(400), allowed)
    assert pick_queries(labels, 9, seed, is_allowed).tolist() == picked_by_loop(labels, 9, seed, np.sort(allowed))
    assert len(set(pick_queries(labels, 400, seed))) == 400


def test_a_lot_decides_which_images_are_queries():
    labels = uneven(7)
    drawn = [pick_queries(labels, 6, seed) for seed in range(60)]
    assert len({tuple(one) for one in drawn}) == 60
    counts = np.bincount(np.concatenate(drawn), minlength=400)[labels.subject == 'A']
    assert counts.max() <= 6  # no image of the large subject is preferred: 120 draws of some 360
    assert all(sorted(labels.subject[one].value_counts()) == [2, 2, 2] for one in drawn)


def test_queries_refuse():
    for n in (0, 401):
        with pytest.raises(ValueError, match=f'n must lie between 1 and the 400 images that may be taken, got {n}'):
            pick_queries(uneven(0), n)
