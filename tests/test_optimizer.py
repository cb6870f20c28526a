"""The optimiser against singular values, torch's Muon and AdamW; layouts in memory, states, what each trains."""

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from mvssl.encoder import PoseNet
from mvssl.optimizer import COEFFICIENTS, ITERATIONS, Muon, optimizers, orthogonalised


def seeded(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def by_svd(X):
    "What the iterations should give: the polynomial applied to singular values, one matrix at a time."
    a, b, c = COEFFICIENTS
    results = []
    for x in X:
        U, s, Vh = torch.linalg.svd(x, full_matrices=False)
        s = s / (s.square().sum().sqrt() + 1e-7)
        for _ in range(ITERATIONS):
            s = a * s + b * s**3 + c * s**5
        results.append(U * s @ Vh)
    return torch.stack(results)


@pytest.mark.parametrize(
    'shape', [(1, 1, 1), (2, 1, 9), (3, 9, 1), (2, 8, 8), (3, 16, 24), (3, 24, 16), (2, 32, 288), (1, 128, 1152)]
)
@pytest.mark.parametrize('dtype, tolerance', [(torch.float64, 1e-9), (torch.float32, 2e-4)])
def test_orthogonalised_as_singular_values_say(shape, dtype, tolerance):
    X = seeded(*shape)
    found = orthogonalised(X.to(dtype))
    assert found.dtype == dtype
    assert_close(found.double(), by_svd(X), rtol=0, atol=tolerance)


def test_matrices_of_low_rank_and_zeros():
    X = seeded(2, 16, 3) @ seeded(2, 3, 64, seed=1)
    found = orthogonalised(torch.cat((X, torch.zeros(1, 16, 64, dtype=torch.float64))))
    assert_close(found[:2], by_svd(X), rtol=0, atol=1e-6)
    assert found[2].abs().max() == 0


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single(dtype):
    X = seeded(2, 8, 32).to(dtype)
    assert_close(orthogonalised(X), orthogonalised(X.float()), rtol=0, atol=0)


def test_steps_like_torchs_muon():
    "Torch rounds to bfloat16, hence the tolerance; directions and lengths agree."
    ours, theirs = (nn.Parameter(seeded(16, 48, dtype=torch.float32)) for _ in range(2))
    options = dict(lr=0.02, momentum=0.95, weight_decay=0.1)
    one, other = Muon([ours], **options), torch.optim.Muon([theirs], **options)
    for step in range(4):
        for p, optimizer in ((ours, one), (theirs, other)):
            p.grad = seeded(16, 48, seed=step + 1, dtype=torch.float32)
            before = p.detach().clone()
            optimizer.step()
            p.moved = p.detach() - before
        assert torch.cosine_similarity(ours.moved.flatten(), theirs.moved.flatten(), dim=0) > 0.999
        assert_close(ours.moved.norm(), theirs.moved.norm(), rtol=0.03, atol=0)


def test_a_slow_loop_of_the_whole_step():
    p = nn.Parameter(seeded(6, 2, 3, 3))
    optimizer, mean, expected = (
        Muon([p], lr=0.1, momentum=0.9, weight_decay=0.2),
        torch.zeros(6, 18, dtype=torch.float64),
        p.detach().clone(),
    )
    for step in range(3):
        p.grad = seeded(6, 2, 3, 3, seed=step + 1)
        gradient = p.grad.reshape(6, 18)
        mean = 0.9 * mean + 0.1 * gradient
        update = by_svd((0.1 * gradient + 0.9 * mean)[None])[0]
        expected = expected * (1 - 0.1 * 0.2) - 0.1 * update.reshape(6, 2, 3, 3)  # wider than high: no factor
        optimizer.step()
        assert_close(p.detach(), expected, rtol=0, atol=1e-7)


def test_a_direction_is_kept_for_as_many_steps_as_asked():
    kept, anew = (nn.Parameter(torch.zeros(4, 16)) for _ in range(2))
    slow, fast = Muon([kept], lr=0.1, refresh=3), Muon([anew], lr=0.1)
    moved = []
    for step in range(6):
        before = kept.detach().clone(), anew.detach().clone()
        for p in (kept, anew):
            p.grad = seeded(4, 16, seed=step, dtype=torch.float32)
        slow.step()
        fast.step()
        moved.append([(p.detach() - earlier) for p, earlier in zip((kept, anew), before)])
    for step, (ours, newest) in enumerate(moved):
        if step % 3 == 0:
            assert_close(ours, newest)  # momentum is followed at every step
        else:
            assert_close(ours, moved[step - step % 3][0], rtol=1e-4, atol=1e-6)


def test_a_high_matrix_takes_longer_steps():
    wide, high = nn.Parameter(torch.zeros(4, 16)), nn.Parameter(torch.zeros(16, 4))
    wide.grad, high.grad = seeded(4, 16, dtype=torch.float32), seeded(4, 16, dtype=torch.float32).T.contiguous()
    Muon([wide, high], lr=0.1).step()
    assert_close(high.detach(), 2 * wide.detach().T, rtol=1e-4, atol=1e-6)


def trained_network(memory_format, state=None, steps=3):
    network = PoseNet(8, 16, 'group', head_reads='features')
    torch.manual_seed(0)
    for p in network.parameters():
        nn.init.normal_(p, std=0.1)
    network = network.to(memory_format=memory_format)
    made = optimizers(network, ends=(network.encoder.conv1, network.head.leave))
    for step in range(steps):
        for i, p in enumerate(network.parameters()):
            p.grad = torch.empty_like(p).copy_(
                torch.randn(p.shape, generator=torch.Generator().manual_seed(100 * step + i))
            )  # laid out as p, as backward() does
        for optimizer in made:
            optimizer.step()
    return network, made


def test_layouts_in_memory_give_the_same_weights():
    first, _ = trained_network(torch.contiguous_format)
    last, _ = trained_network(torch.channels_last)
    for (name, a), b in zip(first.named_parameters(), last.parameters()):
        assert_close(b, a, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f'{name}: {text}')


def test_every_parameter_has_one_optimiser_and_stem_and_last_layer_have_adamw():
    network = PoseNet(8, 16, 'group', head_reads='features')
    made = optimizers(network, ends=(network.encoder.conv1, network.head.leave))
    of = {
        id(p): type(optimizer).__name__
        for optimizer in made
        for group in optimizer.param_groups
        for p in group['params']
    }
    assert (
        sum(len(group['params']) for optimizer in made for group in optimizer.param_groups)
        == len(of)
        == len(list(network.parameters()))
    )
    names = {name: of[id(p)] for name, p in network.named_parameters()}
    assert names['encoder.conv1.weight'] == names['head.leave.weight'] == names['encoder.bn1.weight'] == 'AdamW'
    assert (
        {names[f'encoder.layer{i}.0.conv2.weight'] for i in (1, 2, 3, 4)}
        == {names['encoder.projection.weight'], names['head.enter.weight']}
        == {'Muon'}
    )
    assert all(
        group['weight_decay'] == 0
        for optimizer in made
        for group in optimizer.param_groups
        if any(p.ndim < 2 for p in group['params'])
    )


def test_adamw_alone_is_torchs():
    ours, theirs = (PoseNet(8, 16, 'group') for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    (one,) = optimizers(ours, 'adamw', lr=1e-2, weight_decay=0.1)
    other = torch.optim.AdamW(
        [
            dict(params=[p for p in theirs.parameters() if p.ndim > 1], weight_decay=0.1),
            dict(params=[p for p in theirs.parameters() if p.ndim < 2], weight_decay=0.0),
        ],
        lr=1e-2,
    )
    for step in range(3):
        for network in (ours, theirs):
            for i, p in enumerate(network.parameters()):
                p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(100 * step + i))
        one.step()
        other.step()
    for a, b in zip(ours.parameters(), theirs.parameters()):
        assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_a_state_restored_continues_alike():
    network, made = trained_network(torch.channels_last)
    again = copy.deepcopy(network)
    restored = optimizers(again, ends=(again.encoder.conv1, again.head.leave))
    for optimizer, kept in zip(restored, made):
        optimizer.load_state_dict(copy.deepcopy(kept.state_dict()))
    for one, those in ((network, made), (again, restored)):
        for p in one.parameters():
            p.grad = torch.ones_like(p)
        for optimizer in those:
            optimizer.step()
    for a, b in zip(network.parameters(), again.parameters()):
        assert torch.equal(a, b)
