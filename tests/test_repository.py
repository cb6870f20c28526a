"""What holds for the repository as a whole. `make test` itself checks that export and clean leave no diff."""

import ast
import builtins
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from configparser import ConfigParser
from functools import cache
from importlib import metadata
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from packaging.requirements import Requirement

from touched import cells_of, imports

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
NOTEBOOKS = sorted(path for path in (ROOT / 'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in path.parts)
MODULES = {
    '.'.join(path.relative_to(ROOT / 'mvssl').with_suffix('').parts): path
    for path in sorted((ROOT / 'mvssl').rglob('*.py'))
    if path.name not in ('__init__.py', '_modidx.py')
}
SETTINGS = ConfigParser(delimiters='=', interpolation=None)
SETTINGS.read(ROOT / 'settings.ini', encoding='utf-8')
SETTINGS = SETTINGS['DEFAULT']


def named(path):
    return str(path.relative_to(ROOT))


def exported_to(nb):
    "Module that the notebook `nb` is exported to, None if it is not."
    return next(
        (found[1] for cell in nb.cells if (found := re.search(r'^#\|\s*default_exp\s+(\S+)', cell.source, re.M))), None
    )


def is_python(code):
    "Whether a cell is plain Python, without magics."
    try:
        ast.parse(code)
    except SyntaxError:
        return False
    return True


# ---- which module may import which -----------------------------------------------------------------------------------

# What a module stands on. What those stand on is allowed too. A new module adds its line here.
STANDS_ON = {
    'refusal': [],
    'ground.texts': [],
    'ground.progress': [],
    'ground.arrays': [],
    'ground.device': [],
    'skeleton': ['ground.arrays'],
    'cameras': ['ground.arrays'],
    'runs': ['ground.device'],
    'journal': [],
    'dataset': ['journal', 'skeleton', 'ground.progress', 'ground.texts'],
    'evaluation': ['skeleton'],
    'loss': [],
    'encoder': [],
    'export': ['encoder'],
    'trained': ['encoder'],
    'optimizer': [],
    'sampler': ['dataset'],
    'batches': ['sampler', 'ground.device'],
    'config': ['batches', 'optimizer'],
    'embedding': ['encoder', 'evaluation', 'ground.device', 'ground.progress'],
    'training': ['config', 'embedding', 'loss', 'runs'],
    'retrieval': ['evaluation'],
    'show.plots': ['ground.arrays'],
    'show.sheets': ['show.plots', 'skeleton'],
    'show.embedding_map': ['retrieval'],
    'show.pages': [],
    'show.atlas': ['show.embedding_map', 'show.pages', 'runs', 'ground.progress'],
    'show.search': ['training', 'trained', 'show.atlas', 'show.pages', 'show.plots'],
    'study.courses': ['evaluation'],
    'study.paper': [],
    'study.negatives': ['training'],
    'study.margins': ['evaluation'],
    'study.scores': ['training', 'evaluation'],
    'study.claims': ['study.margins', 'evaluation', 'ground.progress', 'runs'],
    'study.report': ['runs', 'ground.progress', 'show.pages', 'study.profiles'],
    'study.errors': ['training', 'evaluation'],
    'study.profiles': ['study.paper'],
    'study.keys': ['runs', 'ground.texts'],
    'study.batch': ['training', 'study.profiles', 'study.keys'],
    'study.jobs': ['study.batch'],
    'study.estimate': ['training', 'sources.synthetic'],
    'study.outlook': ['ground.progress', 'study.estimate'],
    'study.plan': ['study.batch', 'study.outlook'],
    'study.reproduce': ['study.errors', 'study.jobs', 'study.plan', 'study.report'],
    'study.artefacts': ['study.keys'],
    'study.ways': ['study.claims', 'study.margins', 'evaluation'],
    'names': [],
}
SOURCES = ['motion', 'labels', 'mocap', 'roles', 'bodies', 'rendering', 'clothes', 'synthetic', 'crops', 'decoding']
SOURCES += ['filming', 'videos', 'human36m', 'mpi_inf_3dhp']
for at, source in enumerate(SOURCES):  # a source may use the ground, the sheets and the sources before it
    below_it = [f'sources.{lower}' for lower in SOURCES[:at]]
    STANDS_ON[f'sources.{source}'] = ['dataset', 'cameras', 'ground.device', 'show.sheets', *below_it]
STANDS_ON['commands.terminal'] = []
STANDS_ON['commands.options'] = ['commands.terminal', 'show.search']
STANDS_ON['commands.data'] = ['commands.options', *(f'sources.{source}' for source in SOURCES), 'show.plots']
STANDS_ON['commands.networks'] = ['commands.options', 'export', 'show.atlas', 'study.scores', 'sources.synthetic']
STANDS_ON['cli'] = list(STANDS_ON)
for module, lower in STANDS_ON.items():  # everybody but data may refuse
    if module not in ('refusal', 'study.paper', 'names'):
        lower.append('refusal')


def below(module):
    "Every module that `module` may import."
    return set(STANDS_ON[module]).union(*(below(lower) for lower in STANDS_ON[module]))


def library_imports(source, module, known):
    "Modules of mvssl among `known`, without the leading 'mvssl.', that the code `source` of `module` imports."
    return {name.removeprefix('mvssl.') for name in imports(ast.parse(source), module)} & set(known)


def test_every_module_has_its_place():
    assert sorted(set(MODULES) - set(STANDS_ON)) == []


@pytest.mark.parametrize('module', MODULES)
def test_imports_go_only_down(module):
    upwards = library_imports(MODULES[module].read_text(encoding='utf-8'), module, STANDS_ON) - below(module)
    assert not upwards, f'mvssl.{module} may not import {sorted(upwards)}'


@pytest.mark.parametrize(
    'line',
    [
        'from ..cli import main',
        'from .. import cli',
        'import mvssl.cli',
        'from mvssl import cli',
        'from mvssl.cli import main',
        'def later():\n    from mvssl.cli import main',
    ],
)
def test_an_import_is_seen_however_it_is_written(line):
    assert library_imports(line, 'sources.motion', STANDS_ON) == {'cli'}


ORDER = {
    exported: path.name
    for path in NOTEBOOKS
    if path.name[:2].isdigit() and (exported := exported_to(nbformat.read(path, as_version=4)))
}


@pytest.mark.parametrize('module', ORDER)
def test_a_notebook_uses_only_what_those_before_it_define(module):
    "By the numbers of the files, examples and pictures included: the notebooks can be read in their order."
    own = next(path for path in NOTEBOOKS if path.name == ORDER[module])
    used = library_imports(
        '\n'.join(code for code in cells_of(own) if 'import' in code and is_python(code)), module, ORDER
    )
    assert {ORDER[other] for other in used - {module} if ORDER[other] >= ORDER[module]} == set()


def raised(source):
    "Names of the exceptions that code raises by name."
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Raise) and node.exc:
            what = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            if isinstance(what, ast.Name):
                yield what.id


OURS_TO_MEND = {
    'NotImplementedError',  # a kind of sampler that does not say what an epoch is
    'AttributeError',
    'RuntimeError',
}  # told to whoever writes code, never to whoever asks for something


@pytest.mark.parametrize('module', MODULES)
def test_what_a_module_refuses_is_a_refusal(module):
    "The command line shows the text of refusals alone; whatever else is raised ends in a traceback there."
    builtin = {
        name
        for name in raised(MODULES[module].read_text(encoding='utf-8'))
        if isinstance(found := getattr(builtins, name, None), type) and issubclass(found, Exception)
    }  # Ctrl-C is none
    assert builtin - OURS_TO_MEND <= ({'OSError'} if module == 'refusal' else set())


def test_an_error_that_is_no_refusal_is_seen():
    assert sorted(raised("if x: raise ValueError('x')\nraise Refusal('y') from None\nraise KeyError")) == [
        'KeyError',
        'Refusal',
        'ValueError',
    ]


def test_imports_between_sources_are_seen():
    assert library_imports('from .motion import walk\nfrom ..dataset import open', 'sources.synthetic', STANDS_ON) == {
        'sources.motion',
        'dataset',
    }


# ---- what the library needs ------------------------------------------------------------------------------------------

EXTRAS = {
    key.removesuffix('_requirements'): value.split() for key, value in SETTINGS.items() if key.endswith('_requirements')
}
FOR_USERS = [requirement for extra, requirements in EXTRAS.items() if extra != 'dev' for requirement in requirements]


def plain(name):
    "A distribution's name as indexes compare it."
    return re.sub(r'[-_.]+', '-', name).lower()


def closure(requirements):
    "Names of the distributions that installing `requirements` brings, as far as they are installed here."
    found, todo = set(), [(Requirement(text), '') for text in requirements]
    while todo:
        requirement, extra = todo.pop()
        wanted = [(plain(requirement.name), asked) for asked in ('', *requirement.extras)]
        if requirement.marker and not requirement.marker.evaluate({'extra': extra}):
            continue
        for name, asked in set(wanted) - found:
            found.add((name, asked))
            try:
                todo += [(Requirement(text), asked) for text in metadata.requires(name) or []]
            except metadata.PackageNotFoundError:
                pass
    return {name for name, _ in found}


@cache
def providers():
    "Import name -> names of the distributions that provide it."
    return {name: {plain(dist) for dist in dists} for name, dists in metadata.packages_distributions().items()}


def outside(names, allowed):
    "Top-level names among `names` that neither Python, mvssl nor the `allowed` distributions provide."
    tops = {name.split('.')[0] for name in names} - sys.stdlib_module_names - {'mvssl'}
    return sorted(top for top in tops if not providers().get(top, set()) & allowed)


def without_functions(tree):
    "The part of `tree` that runs when the module is imported."

    class Drop(ast.NodeTransformer):
        def visit_FunctionDef(self, node):
            return ast.Pass()

        visit_AsyncFunctionDef = visit_FunctionDef

    return Drop().visit(tree)


@pytest.mark.parametrize('module', MODULES)
def test_imports_are_declared(module):
    "At the top what a plain `pip install .` brings, inside functions also what an extra for users brings: never nbdev."
    source = MODULES[module].read_text(encoding='utf-8')
    required = {plain(Requirement(text).name) for text in SETTINGS['requirements'].split()}
    extra = {plain(Requirement(text).name) for text in FOR_USERS}
    assert outside(imports(without_functions(ast.parse(source)), module), required) == []
    assert outside(imports(ast.parse(source), module), required | extra) == []


def test_an_undeclared_import_is_seen():
    lazily = ast.parse('import torch\ndef f():\n    import fastcore.test')
    assert outside(imports(lazily, 'loss'), {'torch'}) == ['fastcore']
    assert outside(imports(without_functions(lazily), 'loss'), {'torch'}) == []


IMPORT_ALL = """
import importlib, sys

class Absent:
    "Makes what a plain installation lacks look absent."
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in absent:
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)

absent = set(sys.argv[1].split(','))
sys.meta_path.insert(0, Absent())
for module in sys.argv[2].split(','):
    importlib.import_module(module)
loaded = absent & set(sys.modules)
assert not loaded, loaded
"""


def import_all(modules):
    "Imports `modules` in a new interpreter where only what `pip install .` brings can be found."
    installed = closure(SETTINGS['requirements'].split()) | {'mvssl', 'pip', 'setuptools'}
    absent = sorted(name for name, dists in providers().items() if not dists & installed)
    assert {'nbdev', 'fastcore', 'execnb', 'papermill', 'jupyter_client', 'nbformat', 'IPython'} <= set(absent)
    return subprocess.run(
        [sys.executable, '-c', IMPORT_ALL, ','.join(absent), ','.join(modules)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def test_imports_with_a_plain_installation():
    done = import_all(['mvssl', *(f'mvssl.{module}' for module in MODULES)])
    assert done.returncode == 0, done.stderr


def test_a_plain_installation_has_no_notebook_tools():
    done = import_all(['fastcore.test'])
    assert done.returncode == 1 and "No module named 'fastcore'" in done.stderr


def test_every_requirement_is_pinned_within_its_range():
    lines = (ROOT / 'constraints.txt').read_text(encoding='utf-8').splitlines()
    pins = {plain(name): version for name, version in (line.split('==') for line in lines if not line.startswith('#'))}
    requirements = [
        Requirement(text) for texts in [SETTINGS['requirements'].split(), *EXTRAS.values()] for text in texts
    ]
    assert [
        str(wanted) for wanted in requirements if not wanted.specifier.contains(pins.get(plain(wanted.name), '0'))
    ] == []


# ---- notebooks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('path', NOTEBOOKS, ids=named)
def test_notebook_is_valid_and_ran_without_error(path):
    nb = nbformat.read(path, as_version=4)
    nbformat.validate(nb)
    failed = [
        cell.source
        for cell in nb.cells
        if cell.cell_type == 'code' and any(out.output_type == 'error' for out in cell.outputs)
    ]
    assert failed == []


def test_every_library_notebook_is_a_module_and_every_module_a_notebook():
    exported = {
        named(path): exported_to(nbformat.read(path, as_version=4))
        for path in NOTEBOOKS
        if path.name != 'index.ipynb' and path.parent.name not in ('experiments', 'tutorials')
    }
    expected = {
        name: re.sub(r'(^|\.)\d\d_', r'\1', '.'.join(Path(name).relative_to('nbs').with_suffix('').parts))
        for name in exported
    }
    assert exported == expected
    assert sorted(exported.values()) == sorted(MODULES)


def test_every_folder_of_modules_is_a_package():
    "Otherwise it would be left out of what is installed."
    assert [named(path.parent) for path in MODULES.values() if not (path.parent / '__init__.py').exists()] == []


def test_experiments_take_parameters_and_are_not_a_library():
    for path in (ROOT / 'nbs' / 'experiments').glob('*.ipynb'):
        nb = nbformat.read(path, as_version=4)
        assert sum('parameters' in cell.metadata.get('tags', []) for cell in nb.cells) == 1, named(path)
        assert exported_to(nb) is None, named(path)


PARAMETERS = new_notebook(
    cells=[new_code_cell('margin: float = 0.6', metadata={'tags': ['parameters'], 'collapsed': False})]
)


@pytest.mark.parametrize('allowed, kept', [('tags jupyter', {'tags': ['parameters']}), ('', {})])
def test_clean_keeps_the_parameters_tag(tmp_path, allowed, kept):
    "With this repository's settings, and for comparison without the one that matters."
    settings = (ROOT / 'settings.ini').read_text(encoding='utf-8')
    changed = re.sub(r'^(allowed_cell_metadata_keys =).*$', rf'\1 {allowed}', settings, flags=re.M)
    assert (changed == settings) == bool(allowed)
    (tmp_path / 'settings.ini').write_text(changed, encoding='utf-8')
    (tmp_path / 'nbs').mkdir()
    nbformat.write(PARAMETERS, tmp_path / 'nbs' / 'train.ipynb')
    subprocess.run([BIN / 'nbdev_clean'], cwd=tmp_path, check=True, capture_output=True)
    assert nbformat.read(tmp_path / 'nbs' / 'train.ipynb', as_version=4).cells[0].metadata == kept


# ---- the house: sizes, names, places ---------------------------------------------------------------------------------

# What is still over a limit. Whoever brings it under takes its line away: a line that is no longer needed fails.
# notebook -> how many exported cells are longer than 40 lines
LONG_CELLS = {}
# public name -> modules that define it
DEFINED_TWICE = {
    'ACTIONS': 'sources.human36m sources.motion',
    'ARMS': 'config sources.motion',
    'BONES': 'skeleton sources.bodies',
    'GROUPS': 'sources.motion study.profiles',
    'Take': 'sources.filming sources.synthetic',
    'compare_with_complete': 'sources.human36m sources.mpi_inf_3dhp',
    'forward_kinematics': 'sources.mocap sources.motion',
    'mirror': 'skeleton sources.motion',
}


def is_data(code):
    "Whether a cell binds literal values only, however many: tables of names, numbers and texts."

    def is_literal(node):
        return not any(isinstance(part, (ast.FunctionDef, ast.ClassDef, ast.For, ast.If)) for part in ast.walk(node))

    return all(
        isinstance(node, (ast.Assign, ast.AnnAssign, ast.Expr)) and is_literal(node) for node in ast.parse(code).body
    )


def exported_cells(path):
    "Sources of the cells that a notebook exports, without its directives and empty lines at the ends."
    for code in cells_of(path):
        if re.match(r'\s*#\|\s*export', code):
            yield re.sub(r'^#\|.*\n*', '', code, flags=re.M).strip()


@pytest.mark.parametrize(
    'path', [path for path in NOTEBOOKS if exported_to(nbformat.read(path, as_version=4))], ids=named
)
def test_exported_cells_fit_on_a_screen(path):
    "40 lines, data excepted."
    long = [code.partition('\n')[0] for code in exported_cells(path) if code.count('\n') >= 40 and not is_data(code)]
    assert len(long) == LONG_CELLS.get(named(path), 0), f'longer than 40 lines: {long}; see LONG_CELLS'


def test_every_notebook_with_long_cells_is_there():
    assert sorted(set(LONG_CELLS) - set(map(named, NOTEBOOKS))) == []


def test_a_long_cell_is_told_from_data():
    assert is_data("NAMES = ('a', 'b')\nSIZES: dict = dict(a=1)")
    assert not is_data('def f(): return 1') and not is_data('import os') and not is_data('X = 1\nclass A: pass')


def defined(source):
    "Public names that a module defines itself, at its top; the commands of a command line are no names for others."
    for node in ast.parse(source).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            if not any('command' in ast.unparse(decorator) for decorator in node.decorator_list):
                yield node.name
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name))


# The contract with users: each reader of data has a function `prepare`.
SAME_BY_CONTRACT = {'prepare', '__all__'}


def homes(sources):
    "Public name -> modules that define it, for names with several; `sources` are module -> code."
    found = {}
    for module, source in sources.items():
        for name in set(defined(source)) - SAME_BY_CONTRACT:
            if not name.startswith('_'):
                found.setdefault(name, []).append(module)
    return {name: modules for name, modules in found.items() if len(modules) > 1}


def test_a_public_name_means_one_thing():
    found = homes({module: path.read_text(encoding='utf-8') for module, path in MODULES.items()})
    assert {name: ' '.join(modules) for name, modules in sorted(found.items())} == DEFINED_TWICE, 'see DEFINED_TWICE'


def test_a_name_with_two_meanings_is_seen():
    code = {'a': 'SIDE, SIZE = 1, 2\ndef prepare(): pass', 'b': 'class SIZE: pass\ndef prepare(): pass\n_x = 1'}
    assert homes(code) == {'SIZE': ['a', 'b']}
    assert list(defined('@app.command()\ndef train(): pass')) == []


RUFF = tomllib.loads((ROOT / 'ruff.toml').read_text(encoding='utf-8'))
LIMITS = {'E501', 'C901'}  # length of a line, cyclomatic complexity


def over_the_limits(*files):
    "File -> limits of ruff.toml that it exceeds, no exceptions granted; no files: all."
    found = subprocess.run(
        [BIN / 'ruff', 'check', '--isolated', '--quiet', '--output-format=json', '--select', ','.join(sorted(LIMITS))]
        + ['--config', f"line-length={RUFF['line-length']}"]
        + ['--config', f"lint.mccabe.max-complexity={RUFF['lint']['mccabe']['max-complexity']}"]
        + ['--extend-exclude', 'mvssl', '--no-cache', *(files or ['.'])],
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout
    over = {}
    for one in json.loads(found):
        over.setdefault(Path(os.path.relpath(one['filename'], ROOT)).as_posix(), set()).add(one['code'])
    return over


def test_limits_are_on():
    assert RUFF['line-length'] == 120 and RUFF['lint']['mccabe']['max-complexity'] == 12
    assert LIMITS <= set(RUFF['lint']['select']) and not LIMITS & set(RUFF['lint']['ignore'])


def test_only_what_exceeds_a_limit_is_excepted_from_it():
    "In ruff.toml; and `make lint` refuses what exceeds one without an exception."
    excepted = {
        name: LIMITS & set(codes) for name, codes in RUFF['lint']['per-file-ignores'].items() if LIMITS & set(codes)
    }
    over = over_the_limits()
    needless = {name: sorted(codes - over.get(name, set())) for name, codes in excepted.items()}
    assert {name: codes for name, codes in needless.items() if codes} == {}, 'take these out of ruff.toml'


def test_a_long_line_and_a_tangled_function_are_seen(tmp_path):
    tangled = 'def f(x):\n' + ''.join(f'    if x == {n}:\n        x += 1\n' for n in range(12)) + '    return x\n'
    (tmp_path / 'a.py').write_text(f"{tangled}\nwide = '{'x' * 120}'\n", encoding='utf-8')
    assert list(over_the_limits(tmp_path / 'a.py').values()) == [LIMITS]


# Tests of the whole, not of one module; and modules that have no file of tests, with those that guard them.
OF_THE_WHOLE = {
    'repository',
    'docs',
    'lab',
    'answers',
    'hidden',
    'refusals',
    'touched',
    'tutorials',
    'whole_chain',
    'field_cases',
    'study.recipe_search',
}
GUARDED_ELSEWHERE = {
    'commands.data': 'test_cli',
    'commands.networks': 'test_cli',
    'commands.options': 'test_cli',
    'refusal': 'test_refusals',
    'sources.bodies': 'sources/test_rendering',
    'study.artefacts': 'its notebook',
    'study.outlook': 'study/test_estimate',
    'export': 'its notebook',
    'study.errors': 'its notebook',
    'commands.terminal': 'test_cli',
}


def test_tests_mirror_the_wings():
    "tests/WING/test_NAME.py guards mvssl/WING/NAME.py."
    there = {
        '.'.join([*path.relative_to(ROOT / 'tests').parent.parts, path.stem.removeprefix('test_')])
        for path in (ROOT / 'tests').rglob('test_*.py')
    }
    assert sorted(there - set(MODULES) - OF_THE_WHOLE) == [], 'tests of no module'
    assert sorted(set(MODULES) - there) == sorted(GUARDED_ELSEWHERE), 'modules without a file of tests'


# ---- what is committed -----------------------------------------------------------------------------------------------

MACHINE_PATH = re.compile(r'(?<![\w.~])/(?:home|root|work|tmp|Users|mnt|private|var/folders)/[\w.-]')


def texts_of(path):
    "What a reader sees in a notebook: sources and outputs, without the bytes of pictures."
    for cell in nbformat.read(path, as_version=4).cells:
        yield cell.source
        for output in cell.get('outputs', []):
            data = {kind: value for kind, value in output.get('data', {}).items() if not kind.startswith('image/')}
            yield re.sub(
                r'base64,[\w+/=]+', '', json.dumps([data, output.get('text', ''), output.get('traceback', [])])
            )


@pytest.mark.parametrize('path', NOTEBOOKS + sorted(MODULES.values()), ids=named)
def test_no_path_of_one_machine(path):
    texts = texts_of(path) if path.suffix == '.ipynb' else [path.read_text(encoding='utf-8')]
    assert [found[0] for text in texts if (found := MACHINE_PATH.search(text))] == []


def test_a_path_of_one_machine_is_seen():
    assert MACHINE_PATH.search(json.dumps({'text': "PosixPath('/tmp/x')"}))
    assert not MACHINE_PATH.search('see https://example.org/home/x and data/tmp/x')


SHOWN = (
    ast.Name | ast.Attribute | ast.Subscript | ast.Tuple | ast.List | ast.Dict | ast.DictComp | ast.ListComp | ast.BinOp
)


def shows(source):
    "Whether a cell prints something, or ends in a value that is no call, so that something must be below it."
    try:
        body = ast.parse(source).body
    except SyntaxError:  # a magic
        return False
    calls = [node.value for node in body if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)]
    prints = any(isinstance(call.func, ast.Name) and call.func.id == 'print' for call in calls)
    last = body[-1] if body else None
    return prints or isinstance(last, ast.Expr) and isinstance(last.value, SHOWN) and not source.rstrip().endswith(';')


@pytest.mark.parametrize('path', [path for path in NOTEBOOKS if path.parent.name != 'experiments'], ids=named)
def test_what_a_cell_shows_is_below_it(path):
    "Cells that were changed and never run, which `make outputs` mends. Answers of experiments have tests of their own."
    silent = [
        cell.source
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == 'code'
        and not cell.outputs
        and 'parameters' not in cell.metadata.get('tags', ())
        and shows(cell.source)
    ]
    assert silent == [], 'make outputs'


@pytest.mark.parametrize(
    'source, shown',
    [
        ('print(1)', True),
        ('x = 1\nx', True),
        ('table.T', True),
        ('x, y', True),
        ('x = 1', False),
        ('test_eq(x, 1)', False),
        ('plot();', False),
        ("'a string';", False),
        ('', False),
    ],
)
def test_a_cell_that_shows_is_told_from_one_that_does_not(source, shown):
    assert shows(source) is shown


@pytest.fixture
def checkout(tmp_path):
    "A repository with this one's attributes, settings and ignored files, and a home of its own."
    for name in ('.gitattributes', '.gitignore', 'settings.ini'):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / 'nbs').mkdir()
    (tmp_path / 'home').mkdir()
    env = os.environ | {'HOME': str(tmp_path / 'home'), 'PATH': f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    author = ['-c', 'user.name=x', '-c', 'user.email=x@example.org']

    def git(*words):
        return subprocess.run(['git', *author, *words], cwd=tmp_path, env=env, capture_output=True, text=True)

    git('init', '-q', '-b', 'main')
    nbformat.write(new_notebook(cells=[new_code_cell(code, id=code) for code in 'abc']), tmp_path / 'nbs' / 'x.ipynb')
    git('add', '.gitattributes', '.gitignore', 'settings.ini', 'nbs')
    git('commit', '-qm', 'begin')
    subprocess.run([BIN / 'nbdev_install_hooks'], cwd=tmp_path, env=env, check=True, capture_output=True)
    return git


def test_git_knows_what_is_generated(checkout):
    attributes = {
        name: checkout('check-attr', 'linguist-generated', name).stdout.split()[-1]
        for name in ('README.md', 'mvssl/loss.py', 'mvssl/show/plots.py', 'mvssl/__init__.py', 'nbs/40_loss.ipynb')
    }
    assert list(attributes.values()) == ['set', 'set', 'set', 'unset', 'unspecified']


def test_installed_hooks_merge_notebooks_and_change_no_file(checkout, tmp_path):
    path = tmp_path / 'nbs' / 'x.ipynb'

    def change(cell):
        nb = nbformat.read(path, as_version=4)
        nb.cells[cell].source += ' + 1'
        nbformat.write(nb, path)
        checkout('commit', '-qam', f'cell {cell}')

    assert checkout('status', '--short').stdout == '?? home/\n'
    checkout('checkout', '-qb', 'other')
    change(0)
    checkout('checkout', '-q', 'main')
    change(1)
    merged = checkout('merge', 'other', '-m', 'both')
    assert merged.returncode == 0, merged.stdout + merged.stderr
    assert [cell.source for cell in nbformat.read(path, as_version=4).cells] == ['a + 1', 'b + 1', 'c']


# ---- artefacts -------------------------------------------------------------------------------------------------------


def test_committed_artefacts_come_from_clean_checkouts():
    "Otherwise nobody could go back to what made them: commit first, then make artefacts."
    sidecars = {path: json.loads(path.read_text(encoding='utf-8')) for path in sorted(ROOT.glob('figures/*/*.json'))}
    assert sidecars and [named(path) for path, sidecar in sidecars.items() if sidecar.get('clean') is not True] == []


@pytest.fixture(scope='module')
def unpacked(tmp_path_factory):
    "The source distribution, built without a network in a copy and unpacked."
    at = tmp_path_factory.mktemp('sdist')
    kept = ('mvssl', 'nbs', 'tests', 'benchmarks', 'figures')
    for name in kept:
        shutil.copytree(
            ROOT / name, at / 'copy' / name, ignore=shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints')
        )
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, at / 'copy')
    subprocess.run(
        [sys.executable, 'setup.py', '-q', 'sdist', '--dist-dir', at], cwd=at / 'copy', check=True, capture_output=True
    )
    with tarfile.open(next(at.glob('*.tar.gz'))) as files:
        files.extractall(at, filter='data')
    return next(path for path in at.iterdir() if path.is_dir() and path.name.startswith('mvssl-'))


def test_the_source_distribution_is_all_that_is_kept(unpacked):
    "Modules that only tests import too, notebooks, pictures: whatever lies in these folders."
    for name in ('mvssl', 'nbs', 'tests', 'benchmarks', 'figures'):
        there = {
            path.relative_to(ROOT)
            for path in (ROOT / name).rglob('*')
            if path.is_file() and not {'__pycache__', '.ipynb_checkpoints', '_modidx.py'} & set(path.parts)
        }
        assert sorted(str(path) for path in there if not (unpacked / path).is_file()) == []
    assert {
        'constraints.txt',
        'Makefile',
        'settings.ini',
        'pytest.ini',
        'ruff.toml',
        'CITATION.cff',
        'CHANGELOG.md',
        'CONTRIBUTING.md',
        'LICENSE',
        'README.md',
        'setup.py',
    } <= {path.name for path in unpacked.iterdir()}
    assert not [path for path in unpacked.rglob('*') if path.name == '__pycache__']


def test_what_is_installed_has_its_data(unpacked, tmp_path):
    "Files that are no code, as templates and the mark that types are given, go where the modules go."
    subprocess.run(
        [sys.executable, 'setup.py', '-q', 'build', '--build-base', tmp_path / 'base', '--build-lib', tmp_path / 'lib'],
        cwd=unpacked,
        check=True,
        capture_output=True,
    )
    kept = [path for path in (ROOT / 'mvssl').rglob('*') if path.is_file() and '__pycache__' not in path.parts]
    there = {path.relative_to(ROOT) for path in kept if path.name != '_modidx.py'}
    assert sorted(str(path) for path in there if not (tmp_path / 'lib' / path).is_file()) == []
    assert Path('mvssl/py.typed') in there


def test_tests_of_the_source_distribution_find_what_they_import(unpacked):
    "Collected there, from nothing but what was unpacked."
    done = subprocess.run(
        [sys.executable, '-m', 'pytest', '--collect-only', '-q', '-p', 'no:cacheprovider', 'tests'],
        cwd=unpacked,
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if name != 'PYTHONPATH'},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


# ---- README ----------------------------------------------------------------------------------------------------------

README = (ROOT / 'README.md').read_text(encoding='utf-8')


def test_readme_is_made_from_the_index(tmp_path):
    subprocess.run([sys.executable, ROOT / 'nbs' / 'readme.py', tmp_path], check=True)
    made = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()}
    pictures = [path for path in (ROOT / 'nbs' / 'images').glob('*')]
    kept = [ROOT / 'README.md', ROOT / 'nbs' / 'README.md', *pictures]
    assert made == {named(path): path.read_bytes() for path in kept}, 'run: make readme'


def test_every_notebook_is_listed_beside_them():
    listed = (ROOT / 'nbs' / 'README.md').read_text(encoding='utf-8')
    sentences = dict(re.findall(r'\]\(([^)]*\d\d_\w+\.ipynb)\) \| (.*) \|', listed))
    expected = {
        path.relative_to(ROOT / 'nbs').as_posix(): re.search(r'^> (.*)', '\n'.join(texts_of(path)), re.M)[1]
        for path in NOTEBOOKS
        if path.name[:2].isdigit()
    }
    assert sentences == expected, 'run: make readme'
    assert [path.name for path in NOTEBOOKS if f'({path.relative_to(ROOT / "nbs").as_posix()})' not in listed] == []


@pytest.mark.parametrize('page', ['README.md', 'nbs/README.md', 'CONTRIBUTING.md', 'CHANGELOG.md'])
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding='utf-8')
    links = [link for link in re.findall(r'\]\(([^)\s]+)\)', text) if not re.match(r'\w+:|#', link)]
    assert [link for link in links if not ((ROOT / page).parent / link).exists()] == []


def test_readme_is_read_in_some_minutes():
    "Words, without code and the targets of links."
    text = re.sub(r'```.*?```|\]\([^)]*\)|https?:\S+', ' ', README, flags=re.S)
    assert len([word for word in text.split() if re.search(r'\w', word)]) <= 1200


def test_versions_agree():
    assert f"version: {SETTINGS['version']}\n" in (ROOT / 'CITATION.cff').read_text(encoding='utf-8')
    assert metadata.version('mvssl') == SETTINGS['version']
    assert re.search(r'^## (\S+)', (ROOT / 'CHANGELOG.md').read_text(encoding='utf-8'), re.M)[1] == SETTINGS['version']
