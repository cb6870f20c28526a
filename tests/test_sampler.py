"""The sampler against slow counting: every chunk once, no kind twice, any options; state, shares, what it refuses."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch

from mvssl.sampler import ChunkPairSampler, ImageNumbers, ImageSampler, deal, draw_views, find_chunks


def table_of(lengths, subjects=1):
    "Sequences of these lengths for each of the subjects; sequences of different subjects share their names."
    rows = [
        (f'S{s}', f'Walking {q}', i) for s in range(subjects) for q, length in enumerate(lengths) for i in range(length)
    ]
    return pd.DataFrame(rows, columns=['subject', 'sequence', 'index'])


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def random_cases(n):
    rng = np.random.default_rng(0)
    for _ in range(n):
        table = table_of(rng.integers(1, 30, rng.integers(1, 7)), rng.integers(1, 4))
        yield (
            table,
            rng.random((len(table), rng.integers(2, 6))) < rng.choice([0.5, 0.8, 1]),
            int(rng.integers(1, 7)),
            int(rng.integers(1, 4)),
        )


# ---- parts -----------------------------------------------------------------------------------------------------------


def test_chunks_against_a_loop():
    for table, seen, chunk, stride in random_cases(60):
        usable = seen.sum(1) >= 2
        slow = {}
        for row, (subject, sequence, index) in enumerate(table.itertuples(index=False)):
            if usable[row] and index % stride == 0:
                slow.setdefault((subject, sequence, index // (stride * chunk)), []).append(row)
        rows, starts = find_chunks(table, usable, chunk, stride)
        assert [part.tolist() for part in np.split(rows, starts[1:-1]) if len(part)] == list(slow.values())


def test_chunks_of_a_shuffled_table_hold_the_same_instants():
    table = table_of([9, 4, 5], 2)
    order = np.random.default_rng(0).permutation(len(table))
    parts = [
        {tuple(sorted(part)) for part in np.split(rows, starts[1:-1])}
        for rows, starts in (
            find_chunks(table, np.ones(len(table), bool)),
            find_chunks(table.iloc[order].reset_index(drop=True), np.ones(len(table), bool)),
        )
    ]
    assert parts[0] == {tuple(sorted(order[list(part)])) for part in parts[1]}


def test_deal_makes_as_many_full_hands_as_there_can_be():
    rng = np.random.default_rng(0)
    for _ in range(400):
        kind, size = rng.integers(0, rng.integers(1, 9), rng.integers(1, 60)), int(rng.integers(1, 9))
        hands = deal(kind, size, rng)
        assert sorted(np.concatenate(hands)) == list(range(len(kind)))
        assert all(len(set(kind[hand])) == len(hand) <= size for hand in hands)
        assert [len(hand) for hand in hands] == sorted(map(len, hands), reverse=True)
        count = np.bincount(kind)
        possible = max(r for r in range(len(kind) + 1) if np.minimum(count, r).sum() >= r * size)
        assert sum(len(hand) == size for hand in hands) == possible


def test_deal_favours_nobody():
    "Which of six equal kinds come together: all 15 couples about equally often."
    rng, kind = np.random.default_rng(0), np.arange(6).repeat(10)
    couples = np.zeros((6, 6))
    for _ in range(100):
        for hand in deal(kind, 2, rng):
            np.add.at(couples, tuple(sorted(kind[hand])), 1)
    share = couples[np.triu_indices(6, 1)] / couples.sum()
    assert abs(share * 15 - 1).max() < 0.15


def test_deal_of_nothing():
    assert deal(np.zeros(0, int), 3, np.random.default_rng(0)) == []


def test_views_are_seen_and_differ():
    rng = np.random.default_rng(0)
    seen = rng.random((5000, 6)) < 0.6
    seen = seen[seen.sum(1) >= 2]
    anchor, positive = draw_views(seen, rng)
    at = np.arange(len(seen))
    assert seen[at, anchor].all() and seen[at, positive].all() and (anchor != positive).all()


# ---- epochs ----------------------------------------------------------------------------------------------------------

OPTIONS = [
    dict(subjects=subjects, one_per_sequence=one, drop_last=drop)
    for subjects, one, drop in itertools.product((None, 1, 2), (False, True), (False, True))
]


@pytest.mark.parametrize('options', OPTIONS, ids=str)
def test_epochs_of_every_option(options):
    table = table_of([13, 8, 21, 3, 40], 3)
    seen = np.random.default_rng(0).random((len(table), 4)) < 0.8
    sampler = ChunkPairSampler(table, seen, 4, generator=seeded(0), **options)
    chunk_of = dict(zip(sampler.rows.tolist(), np.arange(sampler.n_chunks).repeat(np.diff(sampler.starts)).tolist()))
    orders = []
    for _ in range(4):
        n, batches = len(sampler), list(sampler)
        assert len(batches) == n
        for batch in batches:
            instant = batch.instant.numpy()
            assert all(values.dtype == torch.int64 and values.shape == batch.instant.shape for values in batch)
            assert len({chunk_of[i] for i in instant}) == len(instant) <= 4
            assert (batch.anchor_view != batch.positive_view).all()
            assert seen[instant, batch.anchor_view].all() and seen[instant, batch.positive_view].all()
            if options['one_per_sequence']:
                assert not table.iloc[instant].duplicated(['subject', 'sequence']).any()
            if options['subjects'] and len(instant) == 4:
                counts = table['subject'][instant].value_counts()
                assert (counts == 4 // options['subjects']).all() and len(counts) == options['subjects']
        visited = [chunk_of[i] for batch in batches for i in batch.instant.tolist()]
        assert len(set(visited)) == len(visited)
        assert (
            {len(batch.instant) for batch in batches} == {4}
            if options['drop_last']
            else len(visited) == sampler.n_chunks
        )
        orders.append(tuple(visited))
    assert len(set(orders)) == 4


def test_every_instant_of_a_chunk_is_drawn_equally_often():
    table = table_of([7])  # chunks of 4 and 3
    sampler = ChunkPairSampler(table, np.ones((7, 2), bool), 2)
    share = np.bincount(np.concatenate([next(sampler).instant for _ in range(4000)]), minlength=7) / 4000
    np.testing.assert_allclose(share, [1 / 4] * 4 + [1 / 3] * 3, atol=0.03)


def test_left_out_counts_only_instants_on_the_stride():
    seen = np.ones((12, 3), bool)
    seen[[0, 1, 4], 1:] = False
    sampler = ChunkPairSampler(table_of([12]), seen, 2, chunk=2, stride=2)
    assert (sampler.n_left_out, sampler.n_chunks, sampler.rows.tolist()) == (2, 3, [2, 6, 8, 10])


def test_equal_seeds_give_equal_batches_and_others_do_not():
    table, seen = table_of([50, 60]), np.ones((110, 3), bool)
    a, b, c = (ChunkPairSampler(table, seen, 8, generator=seeded(seed)) for seed in (1, 1, 2))
    batches = [list(itertools.islice(iter(lambda sampler=sampler: next(sampler), None), 9)) for sampler in (a, b, c)]
    assert all(same(x, y) for x, y in zip(*batches[:2]))
    assert not any(same(x, y) for x, y in zip(batches[0], batches[2]))


# ---- state -----------------------------------------------------------------------------------------------------------

MAKERS = {
    'pairs': lambda seed: ChunkPairSampler(
        table_of([23, 30, 17], 2), np.ones((140, 3), bool), 6, generator=seeded(seed), subjects=2
    ),
    'images': lambda seed: ImageSampler(np.random.default_rng(0).random((30, 4)) < 0.7, 16, generator=seeded(seed)),
}


@pytest.mark.parametrize('make', MAKERS.values(), ids=MAKERS)
def test_state_of_any_moment_gives_the_same_continuation(make):
    one = make(3)
    whole = []
    states = [one.state_dict()]
    for _ in range(3 * len(one)):
        whole.append(next(one))
        states.append(one.state_dict())
    for done, state in enumerate(states):
        other = make(99)
        next(other)
        other.load_state_dict(state)
        assert all(same(next(other), batch) for batch in whole[done:])


def test_state_survives_a_file(tmp_path):
    sampler = MAKERS['pairs'](0)
    next(sampler)
    torch.save(sampler.state_dict(), tmp_path / 'state.pt')
    other = MAKERS['pairs'](1)
    other.load_state_dict(torch.load(tmp_path / 'state.pt', weights_only=True))
    assert same(next(sampler), next(other))


def test_taking_a_state_changes_nothing():
    a, b = MAKERS['pairs'](0), MAKERS['pairs'](0)
    for _ in range(30):
        a.state_dict()
        assert same(next(a), next(b))


def test_a_loop_that_was_left_is_continued():
    a, b = MAKERS['images'](0), MAKERS['images'](0)
    whole = list(a)
    first = [batch for batch, _ in zip(b, range(2))]  # zip takes a third batch and drops it
    assert all(same(x, y) for x, y in zip([*first, *b], [*whole[:2], *whole[3:]]))


@pytest.mark.parametrize(
    'change',
    [
        dict(n_pairs=4),
        dict(chunk=5),
        dict(stride=2),
        dict(subjects=2),
        dict(one_per_sequence=True),
        dict(drop_last=True),
        dict(seen=0),
    ],
    ids=str,
)
def test_state_of_another_sampler_is_refused(change):
    table, seen = table_of([23, 30, 17], 2), np.ones((140, 3), bool)
    state = ChunkPairSampler(table, seen, 2).state_dict()
    if 'seen' in change:
        change, seen = {}, seen & (np.arange(140) > 5)[:, None]
    with pytest.raises(ValueError, match='state must come from a sampler made alike'):
        ChunkPairSampler(table, seen, **dict(n_pairs=2) | change).load_state_dict(state)


# ---- shares of processes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize('options', [dict(), dict(subjects=2), dict(one_per_sequence=True)], ids=str)
@pytest.mark.parametrize('world_size', [2, 3])
def test_shares_make_up_the_batch(options, world_size):
    def make(**share):
        return ChunkPairSampler(
            table_of([40, 20, 30, 25, 9, 12], 2),
            np.ones((272, 3), bool),
            6,
            generator=seeded(4),
            drop_last=True,
            **options,
            **share,
        )

    whole, parts = make(), [make(rank=rank, world_size=world_size) for rank in range(world_size)]
    assert [len(part) for part in parts] == [len(whole)] * world_size
    for _ in range(2 * len(whole)):
        assert same(next(whole), map(torch.cat, zip(*map(next, parts))))


def test_number_of_processes_may_change_between_save_and_restore():
    def make(**share):
        return ImageSampler(np.ones((30, 2), bool), 12, drop_last=True, **share)

    one = make()
    next(one)
    half = make(rank=1, world_size=2)
    half.load_state_dict(one.state_dict())
    assert torch.equal(next(half).instant, next(one).instant[6:])


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'wrong, message',
    [
        (dict(n_pairs=0), 'n_pairs must be at least 1, got 0'),
        (dict(chunk=0), 'chunk must be at least 1'),
        (dict(stride=0), 'stride must be at least 1'),
        (dict(subjects=0), 'subjects must be at least 1, got 0'),
        (dict(n_pairs=11), 'n_pairs must be at most 10, the number of chunks, got 11'),
        (dict(subjects=3, n_pairs=3), 'subjects must be at most 2'),
        (dict(n_pairs=3, subjects=2), 'n_pairs must be a multiple of subjects=2, got 3'),
        (dict(n_pairs=5, one_per_sequence=True), 'needs 5 sequences'),
        (
            dict(n_pairs=6, subjects=2, one_per_sequence=True),
            "needs 3 sequences of each subject, there are {'S0': 2, 'S1': 2}",
        ),
        (dict(rank=2, world_size=2, drop_last=True), 'rank must lie in'),
        (dict(n_pairs=3, world_size=2, drop_last=True), 'multiple of world_size=2, got 3'),
        (dict(world_size=2), 'drop_last must be True'),
        (dict(seen=np.ones((40, 2))), 'seen must be bool'),
        (dict(seen=np.ones((39, 2), bool)), r'seen must be bool of shape \(40, V\)'),
        (
            dict(seen=np.eye(2, dtype=bool).repeat(20, 0)),
            'n_pairs must be at most 0, the number of chunks, got 2 .40 instants have fewer than 2 views',
        ),
        (
            dict(table=pd.DataFrame(dict(subject=['S1'] * 40))),
            "table must have the columns subject, sequence, index, 'sequence' is not there",
        ),
    ],
)
def test_refusals(wrong, message):
    with pytest.raises(ValueError, match=message):
        ChunkPairSampler(**dict(table=table_of([12, 8], 2), seen=np.ones((40, 2), bool), n_pairs=2) | wrong)


def test_image_sampler_refuses():
    for wrong, message in [
        (dict(n_images=13), 'n_images must be at most 12'),
        (dict(n_images=0), 'got 0'),
        (dict(seen=np.ones(4, bool)), 'seen must be bool of shape'),
    ]:
        with pytest.raises(ValueError, match=message):
            ImageSampler(**dict(seen=np.ones((4, 3), bool), n_images=2) | wrong)


def test_images_of_an_epoch():
    seen = np.random.default_rng(0).random((50, 3)) < 0.5
    for drop_last in (False, True):
        sampler = ImageSampler(seen, 7, drop_last=drop_last)
        batches = list(sampler)
        drawn = np.concatenate([3 * batch.instant + batch.view for batch in batches])
        assert len(set(drawn)) == len(drawn) and set(drawn) <= set(np.flatnonzero(seen))
        assert len(drawn) == (seen.sum() // 7 * 7 if drop_last else seen.sum())


# ---- in a DataLoader -------------------------------------------------------------------------------------------------


def test_a_loader_with_workers_gives_both_sides_of_every_pair():
    "Own images and labels, an ordinary loop: sampler, loader, loss."
    table = pd.DataFrame(dict(subject='A', sequence='walk', index=range(40)))
    seen = np.ones((40, 3), bool)
    seen[::7, 0] = False
    images = torch.arange(120.0)[:, None].expand(-1, 8).clone()
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(images),
        batch_sampler=ImageNumbers(ChunkPairSampler(table, seen, 5)),
        num_workers=2,
    )
    drawn = []
    for (batch,) in loader:
        anchor, positive = batch[:, 0].long().chunk(2)
        assert (anchor // 3 == positive // 3).all() and (anchor != positive).all()
        assert seen.reshape(-1)[batch[:, 0].long().numpy()].all()
        drawn.append(anchor // 3)
    assert len(torch.cat(drawn).unique()) == len(torch.cat(drawn)) == 10
