"""The encoder: torchvision's layout, precision, memory formats, independence of images, processes, files, learning."""

import json
import math
import socket
import urllib.error

import pytest
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close

from mvssl import encoder as module
from mvssl.encoder import (
    PoseEncoder,
    PoseHead,
    PoseNet,
    Standardise,
    load_imagenet,
    load_network,
    read_header,
    save_weights,
)
from mvssl.refusal import Refusal


def resnet18_layout():
    "Names and shapes in the state dict of torchvision's resnet18, without its classifier fc."
    layout = {'conv1.weight': (64, 3, 7, 7), **bn('bn1', 64)}
    for stage, (inputs, outputs) in enumerate([(64, 64), (64, 128), (128, 256), (256, 512)], 1):
        for block in (0, 1):
            name = f'layer{stage}.{block}'
            layout |= {
                f'{name}.conv1.weight': (outputs, inputs if block == 0 else outputs, 3, 3),
                **bn(f'{name}.bn1', outputs),
            }
            layout |= {f'{name}.conv2.weight': (outputs, outputs, 3, 3), **bn(f'{name}.bn2', outputs)}
        if stage > 1:
            name = f'layer{stage}.0.downsample'
            layout |= {f'{name}.0.weight': (outputs, inputs, 1, 1), **bn(f'{name}.1', outputs)}
    return layout


def bn(name, channels):
    vectors = {f'{name}.{part}': (channels,) for part in ('weight', 'bias', 'running_mean', 'running_var')}
    return vectors | {f'{name}.num_batches_tracked': ()}


def shapes(network):
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def some_images(B=4, side=32, seed=0):
    return torch.randint(0, 256, (B, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def small(kind=PoseEncoder, **options):
    torch.manual_seed(0)
    return kind(**dict(width=8, dim=16) | options)


# ---- torchvision's layout --------------------------------------------------------------------------------------------


def test_layout_is_torchvisions_at_width_64():
    layout = resnet18_layout()
    assert (
        len(layout) == 120
        and sum(math.prod(shape) for name, shape in layout.items() if 'running' not in name and 'num_' not in name)
        == 11_176_512
    )
    assert {
        name: shape
        for name, shape in shapes(PoseEncoder()).items()
        if not name.startswith(('projection', 'standardise'))
    } == layout


def test_group_norm_keeps_the_parameter_names():
    batch, group = (dict(small(norm=norm).named_parameters()) for norm in ('batch', 'group'))
    assert {n: p.shape for n, p in batch.items()} == {n: p.shape for n, p in group.items()}


@pytest.mark.parametrize('width', [8, 16, 24])
def test_width_scales_every_stage(width):
    assert shapes(small(width=width))['layer4.1.conv2.weight'] == (8 * width, 8 * width, 3, 3)
    assert small(width=width, norm='group').features(some_images()).shape == (4, 8 * width)


def functional_resnet(weights, x):
    "ResNet-18 with running statistics, written out from the paper and torchvision's names."

    def norm(x, name):
        return F.batch_norm(
            x, *(weights[f'{name}.{part}'] for part in ('running_mean', 'running_var', 'weight', 'bias')), eps=1e-5
        )

    x = F.max_pool2d(F.relu(norm(F.conv2d(x, weights['conv1.weight'], stride=2, padding=3), 'bn1')), 3, 2, 1)
    for stage in range(1, 5):
        for block in range(2):
            name, stride = f'layer{stage}.{block}', 2 if stage > 1 and block == 0 else 1
            y = F.relu(norm(F.conv2d(x, weights[f'{name}.conv1.weight'], stride=stride, padding=1), f'{name}.bn1'))
            y = norm(F.conv2d(y, weights[f'{name}.conv2.weight'], padding=1), f'{name}.bn2')
            if stride == 2:
                x = norm(F.conv2d(x, weights[f'{name}.downsample.0.weight'], stride=2), f'{name}.downsample.1')
            x = F.relu(x + y)
    return x.mean((2, 3))


def test_features_are_resnet18s():
    net = small(width=16)
    net.features(some_images(16, 64))  # running statistics that are not the initial ones
    pixels = some_images(3, 64) / 255
    for c, (mean, std) in enumerate([(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)]):
        pixels[:, c] = (pixels[:, c] - mean) / std
    assert_close(
        net.eval().features(some_images(3, 64)), functional_resnet(net.state_dict(), pixels), rtol=1e-4, atol=1e-5
    )


# ---- ImageNet weights ------------------------------------------------------------------------------------------------


def fake_imagenet(change=lambda weights: None):
    "What torch.hub would return, with the classifier and, as in old files, without counters."
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: torch.rand(shape, generator=generator)
        for name, shape in resnet18_layout().items()
        if not name.endswith('tracked')
    }
    weights |= {'fc.weight': torch.zeros(1000, 512), 'fc.bias': torch.zeros(1000)}
    change(weights)
    return weights


def test_imagenet_weights_are_all_loaded(monkeypatch):
    asked = {}
    monkeypatch.setattr(
        torch.hub, 'load_state_dict_from_url', lambda url, **options: asked.update(options, url=url) or fake_imagenet()
    )
    net = PoseEncoder()
    projection = net.projection.weight.clone()
    assert load_imagenet(net) is net
    for name, value in fake_imagenet().items():
        if not name.startswith('fc'):
            assert_close(net.state_dict()[name], value)
    assert_close(net.projection.weight, projection)
    assert asked['weights_only'] and asked['check_hash'] and asked['url'].endswith('resnet18-f37072fd.pth')


@pytest.mark.parametrize(
    'change, message',
    [
        (
            lambda w: w.pop('layer3.0.downsample.0.weight'),
            r'layer3.0.downsample.0.weight: absent, needs \(256, 128, 1, 1\)',
        ),
        (
            lambda w: w.update({'conv1.weight': torch.zeros(64, 3, 3, 3)}),
            r'conv1.weight: \(64, 3, 3, 3\), needs \(64, 3, 7, 7\)',
        ),
        (lambda w: w.update({'layer1.2.conv1.weight': torch.zeros(1)}), r'layer1.2.conv1.weight: \(1,\), needs absent'),
    ],
)
def test_imagenet_weights_that_do_not_fit_change_nothing(monkeypatch, change, message):
    monkeypatch.setattr(torch.hub, 'load_state_dict_from_url', lambda *args, **options: fake_imagenet(change))
    net = PoseEncoder()
    before = net.bn1.weight.clone()
    with pytest.raises(ValueError, match=message):
        load_imagenet(net)
    assert_close(net.bn1.weight, before)


@pytest.mark.parametrize(
    'error', [urllib.error.URLError('no network'), RuntimeError('invalid hash value'), socket.timeout('timed out')]
)
def test_imagenet_offline_says_what_to_do(monkeypatch, error):
    def fail(*args, **options):
        raise error

    monkeypatch.setattr(torch.hub, 'load_state_dict_from_url', fail)
    with pytest.raises(
        Refusal, match='(?s)could not be fetched from https.*Put that file, whole, at .*resnet18-f37072fd.pth'
    ):
        load_imagenet(PoseEncoder())


@pytest.mark.parametrize('options', [dict(width=32), dict(norm='group')])
def test_imagenet_needs_the_network_it_was_made_for(options):
    with pytest.raises(ValueError, match="width 64 and norm 'batch'"):
        load_imagenet(PoseEncoder(**options))


# ---- images in, unit vectors out -------------------------------------------------------------------------------------


@pytest.mark.parametrize('side', [32, 33, 64, 100, 128, 224, 256])
@pytest.mark.parametrize('norm', ['batch', 'group'])
def test_every_side_from_32_to_256(side, norm):
    net = small(norm=norm).eval()
    with torch.no_grad():
        z = net(some_images(2, side))
    assert z.shape == (2, 16)
    assert_close(z.norm(dim=1), torch.ones(2))


@pytest.mark.parametrize('given', [torch.uint8, torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize('autocast', [None, torch.bfloat16])
@pytest.mark.parametrize('training', [True, False])
def test_unit_length_in_single_precision_whatever_goes_in(given, autocast, training):
    net, images = small(PoseNet).train(training), some_images(8)
    images = images if given == torch.uint8 else (images / 255).to(given)
    with torch.autocast('cpu', dtype=autocast or torch.bfloat16, enabled=autocast is not None):
        z, pose = net(images)
    assert z.dtype == pose.dtype == torch.float32
    assert_close(z.norm(dim=1), torch.ones(8), rtol=0, atol=1e-6)
    (z.square().sum() + pose.square().sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_uint8_and_floats_from_0_to_1_are_the_same_image():
    net, images = small().eval(), some_images()
    assert_close(net(images / 255), net(images))
    assert_close(net(images.double() / 255), net(images))


def test_autocast_does_not_reach_the_metric_branch():
    net, features = small().eval(), torch.rand(4, 64)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        z = net.embed(features)
    assert torch.equal(z, net.embed(features))


@pytest.mark.parametrize('head_reads', ['embedding', 'features'])
def test_poses_teach_the_convolutions_and_features_leave_the_metric_branch_alone(head_reads):
    net = small(PoseNet, head_reads=head_reads)
    net(some_images())[1].sum().backward()
    assert net.encoder.conv1.weight.grad.abs().max() > 0
    assert (net.encoder.projection.weight.grad is None) == (head_reads == 'features')


@pytest.mark.parametrize('dtype, result', [(torch.float64, torch.float64), (torch.bfloat16, torch.float32)])
def test_networks_of_other_precision(dtype, result):
    z, pose = small(PoseNet).to(dtype).eval()(some_images())
    assert z.dtype == result
    assert_close(z.norm(dim=1), torch.ones(4, dtype=result))


@pytest.mark.parametrize('norm', ['batch', 'group'])
def test_channels_last_from_the_stores_own_layout(norm):
    net, images = small(norm=norm).eval(), some_images(4, 64)
    stored = images.permute(0, 2, 3, 1).contiguous()
    expected = net(images)
    assert stored.permute(0, 3, 1, 2).is_contiguous(memory_format=torch.channels_last)
    assert_close(net.to(memory_format=torch.channels_last)(stored.permute(0, 3, 1, 2)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    'images',
    [
        torch.zeros(3, 64, 64),
        torch.zeros(1, 1, 64, 64),
        torch.zeros(1, 3, 31, 64),
        torch.zeros(1, 3, 64, 64).long(),
        torch.zeros(1, 3, 64, 64, dtype=torch.bool),
    ],
)
def test_what_is_no_image_is_refused(images):
    with pytest.raises(ValueError, match=r'images must be \(B, 3, S, S\)'):
        small()(images)


@pytest.mark.parametrize('head_reads', ['embedding', 'features'])
def test_with_group_norm_poses_depend_on_no_other_image_unless_they_read_the_standardised_embedding(head_reads):
    net = small(PoseNet, norm='group', head_reads=head_reads)
    alone, together = net(some_images(8)[:3])[1], net(some_images(8))[1][:3]
    assert torch.allclose(alone, together, rtol=1e-4, atol=1e-3) == (head_reads == 'features')
    net = small(PoseNet, norm='group', head_reads=head_reads, standardise=False)
    assert_close(net(some_images(8)[:3])[1], net(some_images(8))[1][:3], rtol=1e-4, atol=1e-3)


# ---- the heads -------------------------------------------------------------------------------------------------------


def test_standardise_is_batch_norm_without_affine():
    ours, torchs = Standardise(6).double(), nn.BatchNorm1d(6, affine=False).double()
    for seed in range(5):
        x = 3 + 2 * torch.randn(20, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        assert_close(ours(a), torchs(b))
        ours(a).pow(3).sum().backward(), torchs(b).pow(3).sum().backward()
        assert_close(a.grad, b.grad)
    assert_close(ours.mean, torchs.running_mean)
    assert_close(ours.var, torchs.running_var, rtol=0.06, atol=0)  # torch keeps the variance with n - 1
    assert torch.equal(ours.eval()(x[:3]), ours(x)[:3])


def test_a_batch_of_equal_images_stays_finite():
    net = small()
    z = net(some_images(1).expand(4, -1, -1, -1))
    z.sum().backward()
    assert z.isfinite().all() and all(p.grad.isfinite().all() for p in net.parameters())


def in_one_of_two_processes(rank, file, results):
    torch.set_num_threads(1)
    torch.distributed.init_process_group('gloo', init_method=f'file://{file}', rank=rank, world_size=2)
    whole = torch.randn(8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    part = whole[:3] if rank == 0 else whole[3:]  # also of unequal size
    x, layer = part.clone().requires_grad_(), Standardise(5).double()
    y = layer(x)
    y.pow(3).sum().backward()
    results[rank] = tuple(t.detach().tolist() for t in (y, x.grad, layer.mean, layer.var))
    torch.distributed.destroy_process_group()


def test_two_processes_standardise_as_one(tmp_path):
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(in_one_of_two_processes, (tmp_path / 'meet', results), nprocs=2)
        (y0, g0, *running0), (y1, g1, *running1) = results[0], results[1]
    x = torch.randn(8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    layer = Standardise(5).double()
    y = layer(x)
    y.pow(3).sum().backward()
    assert_close(torch.tensor(y0 + y1, dtype=y.dtype), y.detach())
    assert_close(torch.tensor(g0 + g1, dtype=y.dtype), x.grad)
    assert running0 == running1 == [layer.mean.tolist(), layer.var.tolist()] or all(
        torch.allclose(torch.tensor(a, dtype=y.dtype), b) for a, b in zip(running0, (layer.mean, layer.var))
    )


@pytest.mark.parametrize('blocks', [0, 3])
def test_head_has_a_root_at_zero_and_sixteen_joints_that_learn(blocks):
    head = PoseHead(16, hidden=24, blocks=blocks)
    pose = head(torch.randn(5, 16))
    assert pose.shape == (5, 17, 3) and (pose[:, 0] == 0).all() and (pose[:, 1:] != 0).all()
    pose.sum().backward()
    assert all(p.grad.abs().max() > 0 for p in head.parameters())


def test_head_units_near_one():
    "Joints that scatter as the unit says are reached by outputs of the last layer near 1."
    head = PoseHead(16)
    nn.init.constant_(head.leave.bias, 1.0)
    nn.init.zeros_(head.leave.weight)
    assert (head(torch.randn(2, 16))[:, 1:] == module.UNIT_MM).all()


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(width=0), 'width must be a positive multiple of 8, got 0'),
        (dict(width=12), 'got 12'),
        (dict(dim=1), 'dim must be at least 2, got 1'),
        (dict(norm='instance'), "norm must be 'batch' or 'group', got 'instance'"),
        (dict(head_reads='image'), "head_reads must be .* got 'image'"),
    ],
)
def test_refused_options(options, message):
    with pytest.raises(ValueError, match=message):
        PoseNet(**options)


# ---- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'kind, options',
    [
        (PoseEncoder, {}),
        (PoseEncoder, dict(norm='group', standardise=False)),
        (PoseNet, {}),
        (PoseNet, dict(head_reads='features', hidden=20)),
    ],
)
def test_saved_and_loaded_gives_the_same_bits(tmp_path, kind, options):
    net = small(kind, **options)
    net(some_images(16))
    net.to(memory_format=torch.channels_last)
    save_weights(tmp_path / 'a.safetensors', net, notes=dict(seed=3))
    again = load_network(str(tmp_path / 'a.safetensors'))
    assert type(again) is kind and again.config == net.config and not again.training
    assert read_header(tmp_path / 'a.safetensors')['notes'] == dict(seed=3)
    out, expected = again(some_images()), net.to(memory_format=torch.contiguous_format).eval()(some_images())
    assert all(torch.equal(a, b) for a, b in zip(out, expected))


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    net, file = small(), tmp_path / 'a.safetensors'
    save_weights(file, net)
    before = file.read_bytes()

    def fail(*args):
        raise OSError('disk full')

    monkeypatch.setattr(module.os, 'replace', fail)
    with pytest.raises(Refusal, match='a.safetensors, disk: disk full. Make room'):
        save_weights(file, small(norm='group'))
    assert file.read_bytes() == before and list(tmp_path.iterdir()) == [file]


def weights_file(path, header, tensors=None):
    save_file(tensors or {'x': torch.zeros(1)}, path, metadata=header and {'mvssl': header})
    return path


def test_files_that_are_no_weights_of_ours(tmp_path):
    file, net = tmp_path / 'a.safetensors', small()
    good = dict(network='PoseEncoder', config=net.config, notes={})
    (tmp_path / 'pickle').write_bytes(b'\x80\x02' + 100 * b'x')
    (tmp_path / 'empty').write_bytes(b'')
    for path in (tmp_path / 'pickle', tmp_path / 'empty', weights_file(file, None)):
        with pytest.raises(ValueError, match='path must be a file that save_weights wrote'):
            load_network(path)
    for change in (dict(network='Mystery'), dict(config=dict(depth=50))):
        with pytest.raises(ValueError, match='path must hold a network this version knows'):
            load_network(weights_file(file, json.dumps(good | change)))
    with pytest.raises(ValueError, match=r'do not fit: bn1.bias: absent, needs \(8,\)'):
        load_network(weights_file(file, json.dumps(good)))
    with pytest.raises(Refusal, match='absent.safetensors, file: is not there'):
        load_network(tmp_path / 'absent.safetensors')


# ---- export and learning ---------------------------------------------------------------------------------------------


def test_export_keeps_uint8_and_any_batch_size():
    net = small(PoseNet).eval()
    exported = torch.export.export(net, (some_images(4),), dynamic_shapes=({0: torch.export.Dim('B', min=2)},)).module()
    for out, expected in zip(exported(some_images(7)), net(some_images(7))):
        assert_close(out, expected)


@pytest.mark.parametrize('norm', ['batch', 'group'])
@pytest.mark.parametrize('head_reads', ['embedding', 'features'])
def test_eight_images_are_learnt_by_heart(norm, head_reads):
    net, images = small(PoseNet, norm=norm, head_reads=head_reads), some_images(8)
    true = 300 * torch.randn(8, 17, 3, generator=torch.Generator().manual_seed(1))
    true[:, 0] = 0
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for _ in range(120):
        error = (net(images)[1] - true).norm(dim=-1).mean()
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
    assert error < 60  # mm, from about 450
