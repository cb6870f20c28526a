"""Precision and layout: chosen by what the device reports, kept by a run that moves; no default asks for bfloat16."""

import inspect
import json
import os
import subprocess
import sys
import warnings
from dataclasses import MISSING, fields, is_dataclass, replace
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import nn

import mvssl
from mvssl.ground import device
from mvssl.ground.device import (
    Way,
    cores,
    fastest_precision,
    fastest_way,
    has_native_bf16,
    instruction_set,
    measured_format,
)
from mvssl.sources.synthetic import make_dataset
from mvssl.study.reproduce import PROFILES, groups
from mvssl.training import TrainConfig, Trainer, TrainingWarning, embed, train

TINY = TrainConfig(
    steps=4,
    labelled=('S1',),
    validation=('S8',),
    test=('S9',),
    n_pairs=4,
    n_labelled=4,
    subjects_per_batch=2,
    width=8,
    dim=16,
    memory_format='channels_last',
    log_every=1,
    validate_every=2,
)


@pytest.fixture(scope='module')
def store(tmp_path_factory):
    return make_dataset(
        tmp_path_factory.mktemp('device') / 'studio',
        subjects=('S1', 'S5', 'S8', 'S9'),
        instants=80,
        side=32,
        progress=False,
    )


def pretend(monkeypatch, capability='AVX512', features=(), isa=None):
    "Replaces what torch and the processor report."
    monkeypatch.setattr(torch.backends.cpu, 'get_cpu_capability', lambda: capability)
    monkeypatch.setattr(
        torch.cpu, 'get_capabilities', lambda: dict.fromkeys(features, True) | dict(cpu_name='made up'), raising=False
    )
    monkeypatch.delenv('DNNL_MAX_CPU_ISA', raising=False)
    monkeypatch.delenv('ONEDNN_MAX_CPU_ISA', raising=False)
    if isa:
        monkeypatch.setenv('ONEDNN_MAX_CPU_ISA', isa)


@pytest.mark.parametrize(
    'reported, expected',
    [
        (dict(capability='AVX2', features=('avx2',)), 'fp32'),
        (dict(capability='AVX512', features=('avx2', 'avx512_f', 'avx512_bw')), 'fp32'),
        (dict(capability='AVX512', features=('avx2', 'avx512_f', 'avx512_bf16')), 'bf16'),
        (dict(capability='AVX512', features=('avx2', 'avx512_f', 'amx_tile', 'amx_bf16')), 'bf16'),
        (dict(capability='AVX512', features=('avx2', 'avx512_f', 'amx_tile', 'amx_int8')), 'fp32'),
        (dict(capability='AVX2', features=('avx2', 'avx512_bf16', 'amx_bf16')), 'fp32'),  # ATen may not use it
        (dict(capability='AVX512', features=('avx512_bf16', 'amx_bf16'), isa='AVX2'), 'fp32'),  # oneDNN may not
        (dict(capability='AVX512', features=('avx512_bf16', 'amx_bf16'), isa='avx512_core_amx'), 'bf16'),
        (dict(capability='DEFAULT'), 'fp32'),
        (dict(capability='NEON', features=('neon', 'bf16')), 'fp32'),
    ],
)
def test_precision_follows_what_the_processor_reports(monkeypatch, reported, expected):
    pretend(monkeypatch, **reported)
    assert fastest_precision('cpu') == expected and has_native_bf16() == (expected == 'bf16')
    assert ('bf16' in instruction_set()) == (expected == 'bf16') and instruction_set().startswith(
        reported['capability']
    )
    assert {fastest_precision('cpu', asked) for asked in ('bf16', 'fp32')} == {'bf16', 'fp32'}, (
        'what is asked for decides'
    )


@pytest.mark.parametrize('native, expected', [(True, 'bf16'), (False, 'fp32')])
def test_precision_of_a_gpu_is_what_it_says(monkeypatch, native, expected):
    asked = []
    monkeypatch.setattr(
        torch.cuda, 'is_bf16_supported', lambda including_emulation=True: asked.append(including_emulation) or native
    )
    assert fastest_precision('cuda') == expected and asked == [False], 'emulation does not count'


def test_flags_of_the_system_where_torch_cannot_tell(monkeypatch):
    monkeypatch.delattr(torch.cpu, 'get_capabilities', raising=False)
    monkeypatch.setattr(
        device.Path,
        'read_text',
        lambda self, encoding=None: 'model name\t: Made Up 3000\nflags\t\t: fpu avx2 avx512_bf16 amx_bf16\n',
    )
    assert device.cpu_features() == {'fpu', 'avx2', 'avx512_bf16', 'amx_bf16'} and device.processor() == 'Made Up 3000'


@pytest.mark.parametrize(
    'quota, allowed, expected',
    [('max 100000', 4, 4), ('150000 100000', 4, 2), ('50000 100000', 4, 1), ('800000 100000', 4, 4)],
)
def test_cores_are_those_that_a_container_grants(monkeypatch, quota, allowed, expected):
    monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: set(range(allowed)))
    monkeypatch.setattr(device.Path, 'read_text', lambda self, encoding=None: quota)
    assert cores() == expected


@pytest.mark.parametrize(
    'slow, expected', [('channels_last', 'contiguous'), ('contiguous', 'channels_last'), (None, 'channels_last')]
)
def test_the_layout_is_the_faster_one_and_channels_last_where_they_are_alike(monkeypatch, slow, expected):
    device._tried.clear()
    took = {name: 2.0 if name == slow else 1.0 for name in device.MEMORY_FORMATS}
    monkeypatch.setattr(device, '_seconds', lambda network, images, way, *rest: took[way.memory_format])
    assert fastest_way(nn.Conv2d(3, 8, 3), 16, precision='fp32') == Way('fp32', expected)
    device._tried.clear()


def test_layouts_are_really_tried():
    seen = []

    def run(network, images):
        seen.append(
            images.is_contiguous(memory_format=torch.channels_last)
            and network.weight.is_contiguous(memory_format=torch.channels_last)
        )
        return network(images)

    assert measured_format(nn.Conv2d(3, 8, 3), 16, 'fp32', n_images=3, run=run) in device.MEMORY_FORMATS
    assert {True, False} == set(seen)


def defaults_of(module):
    "Every default of a public function, method or field of a module, with where it stands."
    for name, item in vars(module).items():
        if getattr(item, '__module__', None) != module.__name__:
            continue
        if is_dataclass(item):
            yield from (
                (f'{name}.{field.name}', field.default) for field in fields(item) if field.default is not MISSING
            )
        members = (
            [(name, item)]
            if inspect.isfunction(item)
            else inspect.getmembers(item, inspect.isfunction)
            if inspect.isclass(item)
            else []
        )
        for member, function in members:
            yield from (
                (f'{member}({parameter.name})', parameter.default)
                for parameter in inspect.signature(function).parameters.values()
            )


def test_no_default_anywhere_asks_for_bf16():
    home = Path(mvssl.__file__).parent
    modules = [
        '.'.join(('mvssl', *path.relative_to(home).with_suffix('').parts))
        for path in home.rglob('*.py')
        if path.stem not in ('__init__', '_modidx')
    ]
    found = [
        f'{module} {where}'
        for module in modules
        for where, value in defaults_of(import_module(module))
        if str(value) in ('bf16', 'torch.bfloat16')
    ]
    assert found == []
    assert TrainConfig().precision == 'auto' and inspect.signature(embed).parameters['precision'].default == 'auto', (
        'else the search above looks at nothing'
    )
    for profile in PROFILES.values():
        assert {
            changes.get('precision', profile.train.get('precision', 'auto')) for changes in groups(profile).values()
        } == {'auto'}, profile.name


def test_a_run_says_how_it_was_run(store, tmp_path, monkeypatch):
    pretend(monkeypatch, 'AVX2', ('avx2',))
    metrics = train(TINY, store, tmp_path / 'run', progress=False)
    first = json.loads((tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()[0])
    part = json.loads((tmp_path / 'run' / 'provenance.json').read_text())[-1]
    for said in (first, part):
        assert (said['precision'], said['memory_format'], said['instructions']) == (
            'fp32',
            'channels_last',
            'AVX2',
        ) and 'AVX2' in said['device']
    assert (metrics['precision'], metrics['memory_format']) == ('fp32', 'channels_last')


def begun(store, monkeypatch, features, **changes):
    "State of a training after two steps on a made-up processor."
    pretend(monkeypatch, 'AVX512' if features else 'AVX2', features)
    trainer = Trainer(replace(TINY, **changes), store)
    for _ in range(2):
        trainer.step()
    return trainer.state_dict()


def test_a_run_that_moves_keeps_its_precision(store, monkeypatch):
    state = begun(store, monkeypatch, ())
    pretend(monkeypatch, features=('avx512_bf16',))
    trainer = Trainer(TINY, store)
    assert trainer.way.precision == 'bf16'
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        trainer.load_state_dict(state)
    assert trainer.way.precision == 'fp32'


def test_a_run_that_moves_to_where_its_precision_is_emulated_says_why_it_does_not_keep_it(store, monkeypatch):
    state = begun(store, monkeypatch, ('avx512_bf16',))
    pretend(monkeypatch, 'AVX2', ('avx2',))
    trainer = Trainer(TINY, store)
    with pytest.warns(TrainingWarning, match='begun in bf16, which is only emulated here .*: it goes on in fp32'):
        trainer.load_state_dict(state)
    assert trainer.way.precision == 'fp32'


def test_a_precision_that_was_asked_for_is_kept_wherever(store, monkeypatch):
    state = begun(store, monkeypatch, ('avx512_bf16',), precision='bf16')
    pretend(monkeypatch, 'AVX2', ('avx2',))
    trainer = Trainer(replace(TINY, precision='bf16'), store)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        trainer.load_state_dict(state)
    assert trainer.way.precision == 'bf16'


def test_a_layout_is_kept_with_the_weights(store, monkeypatch):
    pretend(monkeypatch, 'AVX2', ('avx2',))
    config = replace(TINY, memory_format='auto')
    monkeypatch.setattr(device, 'measured_format', lambda *args, **kwargs: 'contiguous')
    state = Trainer(config, store).state_dict()
    monkeypatch.setattr(device, 'measured_format', lambda *args, **kwargs: 'channels_last')
    trainer = Trainer(config, store)
    trainer.load_state_dict(state)
    pairs, labelled = trainer.next_batches()
    assert trainer.way.memory_format == 'contiguous' and pairs.images.is_contiguous()
    assert all(p.is_contiguous() for network in (trainer.network, trainer.average) for p in network.parameters())
    trainer.step()
    assert all(
        torch.equal(mean, dict(trainer.average.state_dict())[name])
        for name, mean in trainer.average.state_dict().items()
    )


def test_emulated_by_the_environment():
    "The variables that make a machine use less than it has reach the choice in a process of its own."
    code = 'from mvssl.ground.device import *; print(instruction_set(), fastest_precision())'
    env = os.environ | dict(ATEN_CPU_CAPABILITY='avx2', ONEDNN_MAX_CPU_ISA='AVX2')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=env, check=True)
    if torch.backends.cpu.get_cpu_capability() in ('AVX2', 'AVX512'):
        assert done.stdout == 'AVX2 fp32\n'
    else:
        assert done.stdout.endswith('fp32\n')
