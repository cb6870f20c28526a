"""Augmentation against slow loops; batches the same wherever frames live, restored, and in shares; what is refused."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d
from torch.testing import assert_close

from mvssl import batches as module
from mvssl.batches import (
    GREY,
    Augmentation,
    Batches,
    Frames,
    augment,
    blur,
    colouring,
    cut_out,
    draw,
    move,
    placement,
    recolour,
)
from mvssl.sampler import ChunkPairSampler, ImageSampler
from mvssl.skeleton import canonicalise, mirror
from mvssl.sources.synthetic import make_dataset

STRONG = Augmentation(
    shift=0.2,
    zoom=0.4,
    stretch=0.2,
    rotation_deg=60.0,
    flip=0.5,
    brightness=0.5,
    contrast=0.5,
    saturation=0.8,
    hue_deg=120.0,
    grey=0.3,
    blur=0.4,
    blur_size=0.03,
    cutout=0.5,
    cutout_size=0.6,
)


@pytest.fixture(scope='module')
def store(tmp_path_factory):
    return make_dataset(
        tmp_path_factory.mktemp('data') / 'studio', subjects=('S1', 'U01'), instants=80, side=32, progress=False
    )


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def make(store, frames=None, seed=0, how=STRONG, n_pairs=6, kind='pairs', **share):
    "Batches of a store."
    sampler = (
        ChunkPairSampler(store.table, store.seen, n_pairs, generator=seeded(seed), drop_last=True, **share)
        if kind == 'pairs'
        else ImageSampler(store.seen, n_pairs, seeded(seed), drop_last=True, **share)
    )
    return Batches(frames or Frames(store), sampler, how, seeded(seed + 1))


def assert_same(a, b):
    for x, y in zip(a, b, strict=True):
        assert_close(x, y, rtol=0, atol=0, equal_nan=True)


def noise(N=4, S=12, seed=0):
    return torch.rand(N, 3, S, S, generator=seeded(seed))


# ---- single changes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('interpolation', ['nearest', 'bilinear'])
def test_move_against_a_loop_over_pixels(interpolation):
    images, matrix = noise().double(), torch.from_numpy(placement(draw(4, seeded(1)), STRONG)).double()
    moved, S = move(images.float(), matrix.float(), interpolation).double(), images.shape[-1]
    slow, sure = torch.zeros_like(images), torch.ones(4, S, S, dtype=torch.bool)
    for n in range(4):
        for row in range(S):
            for column in range(S):
                x, y = matrix[n] @ torch.tensor(
                    [(2 * column + 1) / S - 1, (2 * row + 1) / S - 1, 1], dtype=torch.float64
                )
                x, y = (min(max(((at + 1) * S - 1) / 2, 0), S - 1) for at in (x.item(), y.item()))
                if interpolation == 'nearest':
                    sure[n, row, column] = all(abs(at % 1 - 0.5) > 1e-4 for at in (x, y))  # else rounding decides
                    slow[n, :, row, column] = images[n, :, round(y), round(x)]
                else:
                    left, top = math.floor(x), math.floor(y)
                    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
                        slow[n, :, row, column] += (
                            images[n, :, min(top + i, S - 1), min(left + j, S - 1)]
                            * abs(1 - i - (y - top))
                            * abs(1 - j - (x - left))
                        )
    assert sure.float().mean() > 0.95
    where = sure[:, None].expand_as(images)
    assert_close(moved[where], slow[where], atol=2e-5, rtol=0)


def test_placement_stays_within_what_was_asked():
    "Corners of the picture, and size, for many draws."
    how = replace(Augmentation.none(), shift=0.05, zoom=0.1, stretch=0.05)
    matrix = placement(draw(2000, seeded(0)), how)
    assert abs(matrix[:, :, 2]).max() <= 0.1 and abs(matrix[:, :, 2]).max() > 0.099
    sizes = 1 / matrix[:, [0, 1], [0, 1]]
    assert (sizes > 0.9 / 1.06).all() and (sizes < 1.1 * 1.06).all() and not matrix[:, [0, 1], [1, 0]].any()
    turned = placement(draw(2000, seeded(0)), replace(Augmentation.none(), rotation_deg=10.0))
    angle = np.degrees(np.arctan2(turned[:, 1, 0], turned[:, 0, 0]))
    assert 9.9 < abs(angle).max() <= 10.001
    np.testing.assert_allclose(np.linalg.det(turned[:, :, :2]), 1, atol=1e-5)


def test_colours_against_a_loop_over_steps():
    "Hue, saturation, contrast, brightness one after the other, on every pixel."
    images, u = noise(), draw(4, seeded(2))
    slow = images.double().clone()
    for n in range(4):

        def within(name, size, n=n):
            return size * (2 * float(u[name][n]) - 1)

        angle, axis = math.radians(within('hue', STRONG.hue_deg)), np.ones(3) / 3**0.5
        for i in range(12):
            for j in range(12):
                c = slow[n, :, i, j].numpy()
                c = (
                    c * math.cos(angle)
                    + np.cross(axis, c) * math.sin(angle)
                    + axis * (axis @ c) * (1 - math.cos(angle))
                )
                keep = 0 if u['grey'][n] < STRONG.grey else 1 + within('saturation', STRONG.saturation)
                c = (1 - keep) * (np.array(GREY) @ c) + keep * c
                c = ((c - 0.5) * (1 + within('contrast', STRONG.contrast)) + 0.5) * (
                    1 + within('brightness', STRONG.brightness)
                )
                slow[n, :, i, j] = torch.from_numpy(np.clip(c, 0, 1))
    assert_close(recolour(images, torch.from_numpy(colouring(u, STRONG))).double(), slow, atol=1e-5, rtol=0)


def test_blur_against_scipy():
    images, sigma = noise(3, 24), torch.tensor([0.6, 1.1, 2.0])
    slow = np.stack(
        [
            gaussian_filter1d(
                gaussian_filter1d(image.double().numpy(), s, 1, mode='nearest', radius=5),
                s,
                2,
                mode='nearest',
                radius=5,
            )
            for image, s in zip(images, sigma.tolist())
        ]
    )
    assert_close(blur(images, sigma, 5).double(), torch.from_numpy(slow), atol=1e-5, rtol=0)
    assert_close(blur(images, torch.zeros(3), 5), images)


def test_cut_out_covers_the_box_and_nothing_else():
    rng = np.random.default_rng(0)
    box = np.sort(rng.uniform(-0.3, 1.3, (20, 2, 2)), axis=1).reshape(20, 4)
    which = rng.permutation(30)[:20]
    images = cut_out(torch.zeros(30, 3, 16, 16), which, box)
    for n in range(30):
        slow = torch.zeros(3, 16, 16)
        if n in which:
            left, top, right, bottom = np.clip(np.round(16 * box[list(which).index(n)]), 0, 16)
            for i in range(16):
                for j in range(16):
                    if top <= i < bottom and left <= j < right:
                        slow[:, i, j] = 0.5
        assert torch.equal(images[n], slow)


@pytest.mark.parametrize(
    'dtype_in_out',
    [
        (Augmentation.none(), torch.uint8),
        (Augmentation(), torch.float32),
        (replace(Augmentation.none(), cutout=0.5, cutout_size=0.3), torch.float32),
    ],
)
def test_dtypes_and_range(dtype_in_out):
    how, dtype = dtype_in_out
    images = torch.randint(0, 256, (50, 3, 16, 16), dtype=torch.uint8, generator=seeded(0))
    kept = images.clone()
    out = augment(images, draw(50, seeded(0)), how)
    assert out.dtype == dtype and out.shape == images.shape and torch.equal(images, kept)
    if dtype == torch.float32:
        assert out.min() >= 0 and out.max() <= 1


@pytest.mark.parametrize(
    'name',
    [
        'shift',
        'zoom',
        'stretch',
        'rotation_deg',
        'flip',
        'brightness',
        'contrast',
        'saturation',
        'hue_deg',
        'grey',
        'blur',
        'cutout',
    ],
)
def test_every_setting_changes_pictures_and_only_if_it_is_on(name):
    images = torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8, generator=seeded(0))
    how = replace(
        Augmentation.none(), blur_size=0.1, cutout_size=0.5, interpolation='bilinear'
    )  # a nearest pixel may stay the same
    assert augment(images, draw(8, seeded(0)), how) is images
    changed = augment(
        images,
        draw(8, seeded(0)),
        replace(
            how, **{name: 1.0 if name in ('flip', 'grey', 'blur', 'cutout') else 0.5 if 'deg' not in name else 40.0}
        ),
    )
    different = (changed != images / 255).flatten(1).any(1)
    assert different.all()


def test_images_do_not_depend_on_their_neighbours():
    images, u = torch.randint(0, 256, (9, 3, 16, 16), dtype=torch.uint8, generator=seeded(0)), draw(9, seeded(3))
    whole = augment(images, u, STRONG)
    for n in range(9):
        assert_close(
            augment(images[n : n + 1], {name: values[n : n + 1] for name, values in u.items()}, STRONG),
            whole[n : n + 1],
            atol=1e-6,
            rtol=0,
        )


@pytest.mark.parametrize(
    'wrong',
    [
        dict(shift=-0.1),
        dict(zoom=0.95),
        dict(brightness=1.1),
        dict(rotation_deg=181.0),
        dict(flip=math.nan),
        dict(interpolation='area'),
    ],
    ids=str,
)
def test_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=f'{next(iter(wrong))} must'):
        Augmentation(**wrong)


# ---- batches ---------------------------------------------------------------------------------------------------------


def test_pictures_and_labels_are_those_of_the_store(store):
    part = store.where(subject='U01')  # not at the store's beginning, and without labels
    for data in (store, part):
        for resident in (True, False):
            batch = next(make(data, Frames(data, resident=resident), how=Augmentation.none()))
            instant, view = batch.instant.numpy(), batch.view.numpy()
            assert np.array_equal(batch.images.permute(0, 2, 3, 1).numpy(), np.array(data.frames)[instant, view])
            assert np.array_equal(
                batch.pose.numpy(), canonicalise(data.poses)[instant].astype('float32'), equal_nan=True
            )
            names = data.table['subject'].unique()
            assert [names[n] for n in batch.subject] == data.table['subject'][instant].tolist()
    assert batch.pose.isnan().all()


def test_pairs_are_two_halves_augmented_apart(store):
    batch = next(make(store, how=Augmentation()))
    assert torch.equal(batch.instant[:6], batch.instant[6:]) and (batch.view[:6] != batch.view[6:]).all()
    sampler = ChunkPairSampler(store.table, store.seen, 6)
    sampler.rows[:] = sampler.rows[0]  # one instant
    twins = next(Batches(Frames(store), sampler, Augmentation()))
    images = {}
    for image, instant, view in zip(twins.images, twins.instant, twins.view):
        images.setdefault((instant.item(), view.item()), []).append(image)
    shared = [group for group in images.values() if len(group) > 1]
    assert shared and not any(torch.equal(*group[:2]) for group in shared)


def test_mirrored_pairs_are_mirrored_on_both_sides_with_their_pose(store):
    how = replace(Augmentation.none(), flip=0.5)
    batches, frames, count = make(store.where(subject='S1'), how=how), Frames(store.where(subject='S1')), 0
    for _ in range(10):
        batch = next(batches)
        plain = frames.images(batch.instant, batch.view) / 255
        is_mirrored = torch.tensor([not torch.equal(a, b) for a, b in zip(batch.images, plain)])
        assert torch.equal(is_mirrored[:6], is_mirrored[6:])
        assert_close(batch.images, torch.where(is_mirrored[:, None, None, None], plain.flip(-1), plain))
        assert_close(
            batch.pose,
            torch.where(is_mirrored[:, None, None], mirror(frames.pose[batch.instant]), frames.pose[batch.instant]),
        )
        count += is_mirrored.sum().item()
    assert 30 < count < 90


@pytest.mark.parametrize('kind', ['pairs', 'images'])
@pytest.mark.parametrize('resident', [True, False])
def test_state_of_any_moment_gives_the_same_continuation(store, kind, resident):
    frames = Frames(store, resident=resident)
    one, whole = make(store, frames, kind=kind), []
    states = [one.state_dict()]
    for _ in range(9):
        whole.append(next(one))
        states.append(one.state_dict())
    for done, state in enumerate(states):
        other = make(store, Frames(store, resident=not resident), seed=50, kind=kind)
        for _ in range(done % 3):
            next(other)
        other.load_state_dict(state)
        for batch in whole[done:]:
            assert_same(next(other), batch)


def test_reading_ahead_changes_nothing(store):
    apart = make(store, Frames(store, resident=True)), make(store, Frames(store, resident=False))
    for _ in range(30):
        assert_same(*map(next, apart))


@pytest.mark.parametrize('kind', ['pairs', 'images'])
def test_shares_make_up_the_batch(store, kind):
    whole, parts = make(store, kind=kind), [make(store, kind=kind, rank=rank, world_size=2) for rank in (0, 1)]
    for _ in range(8):
        batch, shares = next(whole), [next(part) for part in parts]
        sides = 2 if kind == 'pairs' else 1
        joined = [torch.cat([x.unflatten(0, (sides, -1)) for x in field], 1).flatten(0, 1) for field in zip(*shares)]
        for x, y in zip(joined, batch):
            assert_close(x, y, atol=1e-6, rtol=0, equal_nan=True)


def test_errors_of_the_reading_thread_arrive(store):
    batches = make(store, Frames(store, resident=False))
    next(batches)

    def broken(*_):
        raise OSError('the disk is gone')

    batches.frames.read = broken
    with pytest.raises(OSError, match='the disk is gone'):
        for _ in range(4):
            next(batches)


def test_the_rule_where_frames_live(store, monkeypatch):
    need = math.prod(store.frames.shape)
    for free, share, resident in [
        (2 * need, 0.5, True),
        (2 * need - 2, 0.5, False),
        (need, 1.0, True),
        (0, 1.0, False),
    ]:
        monkeypatch.setattr(module, 'free_bytes', lambda device, free=free: free)
        assert Frames(store, share=share).is_resident == resident
        assert Frames(store, share=share, resident=not resident).is_resident != resident


def test_free_memory_is_told():
    assert 2**20 < module.free_bytes('cpu') < 2**50
    assert module.free_bytes('meta') == 0


def test_what_does_not_fit_is_refused(store):
    sampler = ChunkPairSampler(store.table, store.seen, 4)
    with pytest.raises(ValueError, match='sampler must draw from the same dataset as frames'):
        Batches(Frames(store.where(subject='S1')), sampler)
    with pytest.raises(ValueError, match='ahead must be at least 1, got 0'):
        Batches(Frames(store), sampler, ahead=0)
    with pytest.raises(ValueError, match='state must come from a sampler made alike'):
        make(store).load_state_dict(make(store, n_pairs=4).state_dict())
    with pytest.raises(IndexError):
        Frames(store).read(torch.tensor([len(store)]), torch.tensor([0]))


@pytest.mark.parametrize('device', ['cpu', *['cuda'] * torch.cuda.is_available()])
@pytest.mark.parametrize('resident', [True, False])
def test_every_device_gives_the_same_batches(store, device, resident):
    how = replace(STRONG, interpolation='bilinear')  # a nearest pixel may change with the last bit of its place
    here, there = make(store, how=how), make(store, Frames(store, device, resident=resident), how=how)
    for _ in range(5):
        for x, y in zip(next(here), next(there)):
            assert_close(x, y.cpu(), atol=1e-3 if x.is_floating_point() else 0, rtol=0, equal_nan=True)
