"""Runs the notebooks and tests that a change touches, nearest first, as many as end within 50 seconds: `make quick`.

    python tests/touched.py [--since main] [--workers 2] [--seconds 50] [--list]

Changed is what differs from where this branch left `main`, committed or not. A notebook or test is one step away from
what it imports or names, two steps from what that imports, and so on; a module is no step away from its notebook.
"""

import argparse
import ast
import json
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from conftest import LONGEST

ALWAYS = 'tests/test_repository.py'  # is about all files
SHARED = 'tests/conftest.py'  # every test stands on it, and none imports it
ENDINGS = ('.py', '.ipynb')


# ---- what is changed -------------------------------------------------------------------------------------------------


def changed(root, since='main'):
    "Files that differ from the last commit that this branch shares with `since`, and those that git does not know yet."

    def git(*words):
        done = subprocess.run(['git', *words], cwd=root, capture_output=True, text=True)
        return done.stdout if done.returncode == 0 else ''

    if not git('rev-parse', '--verify', 'HEAD'):
        sys.exit('This is no checkout of git, which would know what is changed: `make test` runs everything.')
    start = git('merge-base', 'HEAD', since).strip() or 'HEAD'
    lists = (
        git('diff', '--relative', '--name-only', '--no-renames', '-z', start),
        git('ls-files', '--others', '--exclude-standard', '-z'),
    )
    return {name for names in lists for name in names.split('\0') if name}


# ---- what stands on it -----------------------------------------------------------------------------------------------


def imports(tree, module):
    "Dotted names that the code `tree` of mvssl.`module` imports, absolute."
    package = ['mvssl', *module.split('.')[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = package[: len(package) - node.level + 1] if node.level else []
            base = '.'.join(up + ([node.module] if node.module else []))
            yield base
            yield from (f'{base}.{alias.name}' for alias in node.names)


def cells_of(path):
    "Code of a file, cell by cell; a module is one cell."
    text = path.read_text(encoding='utf-8')
    if path.suffix == '.py':
        return [text]
    return [''.join(cell['source']) for cell in json.loads(text)['cells'] if cell['cell_type'] == 'code']


def imported(cells, module):
    "Dotted names that cells import. One that is no Python, as with a magic in it, imports nothing."
    found = set()
    for code in cells:
        if 'import' not in code:
            continue
        try:
            found.update(imports(ast.parse(code), module))
        except SyntaxError:
            pass
    return found


def known_as(name):
    "What a file is imported as: the path of a module of the library, the name of a file beside the tests."
    if name.startswith('tests/'):
        return Path(name).stem
    return name.removesuffix('.py').removesuffix('/__init__').replace('/', '.')


def uses(files, changes=()):
    "File -> {file that it stands on: steps}; `files` are names with cells, `changes` may name files that are gone."
    modules = {known_as(name): name for name in (*files, *changes) if name.endswith('.py')}
    found = {name: {} for name in files}
    for name, cells in files.items():
        code = '\n'.join(cells)
        own = name.removeprefix('mvssl/').removesuffix('.py').replace('/', '.')
        if name == SHARED:
            continue  # what its fixtures use is imported by the tests that ask for them
        found[name] = {modules[one]: 1 for one in imported(cells, own) if one in modules}
        if name.startswith('tests/'):
            words = set(re.findall(r'[\w.]+', code)) | {f'{stem}.ipynb' for stem in re.findall(r"'(\w+)'", code)}
            found[name] |= {
                other: 1 for other in {*files, *changes} - {name, *modules.values()} if Path(other).name in words
            } | {SHARED: 1}
        if name.endswith('.ipynb') and (exported := re.search(r'^#\|\s*default_exp\s+(\S+)', code, re.M)):
            found.setdefault(modules.get(f'mvssl.{exported[1]}'), {})[name] = 0
    return found


def steps_from(changes, found):
    "File -> steps from the nearest of `changes`, for all that stand on one of them; `found` is what `uses` says."
    steps, nearer = dict.fromkeys(changes, 0), True
    while nearer:
        far = {
            name: min((steps[base] + n for base, n in bases.items() if base in steps), default=99)
            for name, bases in found.items()
        }
        nearer = {name: n for name, n in far.items() if n < steps.get(name, 99)}
        steps |= nearer
    return steps


def touched(root, changes):
    "Notebooks and tests that are run -> steps from `changes`, in order: tests before notebooks, what takes long last."
    paths = [path for folder in ('mvssl', 'nbs', 'tests') for path in sorted((root / folder).rglob('*'))]
    files = {
        path.relative_to(root).as_posix(): cells_of(path)
        for path in paths
        if path.suffix in ENDINGS and '.ipynb_checkpoints' not in path.parts
    }
    steps = steps_from(changes, uses(files, changes)) | dict.fromkeys([ALWAYS] if changes else [], 0)

    def is_run(name):
        return name in files and (
            name.startswith('tests/')
            and Path(name).name.startswith('test_')
            or name.endswith('.ipynb')
            and not (root / name).with_name('.notest').exists()
        )

    return dict(
        sorted(
            filter(lambda item: is_run(item[0]), steps.items()),
            key=lambda item: (item[1], Path(item[0]).stem in LONGEST, item[0].endswith('.ipynb'), item[0]),
        )
    )


# ---- running it ------------------------------------------------------------------------------------------------------


def run(root, name, seconds):
    "Runs a notebook or file of tests; returns whether it passed, None if stopped after `seconds`, and what it said."
    if name.endswith('.ipynb'):
        command = [Path(sys.executable).with_name('nbdev_test'), '--n_workers', '0', '--path', name]
    else:
        command = [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', name]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            said = process.communicate(timeout=seconds)[0]
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)  # as Ctrl-C: what it has begun is stopped too
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
            return None, ''
    return process.returncode == 0, said


def run_all(root, names, workers, seconds):
    "Runs them, so many at once, until `seconds` are over; returns name -> whether it passed, for those that ended."
    began, passed = time.perf_counter(), {}

    def one(name):
        start = time.perf_counter() - began
        if start >= seconds:
            return
        result, said = run(root, name, seconds - start)
        took = time.perf_counter() - began - start
        if result is not None:
            passed[name] = result
        print(
            f'{took:5.1f} s  {name}'
            if result
            else f'{took:5.1f} s  {name}: stopped'
            if result is None
            else f'{said}\nfailed: {name}',
            flush=True,
        )

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(one, names))
    return passed


def main(words=None, root=Path(__file__).parents[1]):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--since', default='main', help='branch or commit that is compared with')
    parser.add_argument('--workers', type=int, default=2, help='how many run at once')
    parser.add_argument('--seconds', type=float, default=50, help='what has not ended by then is stopped')
    parser.add_argument('--list', action='store_true', help='list what is touched, and by how many steps; run nothing')
    asked = parser.parse_args(words)
    steps = touched(root, changed(root, asked.since))
    if not steps:
        return print('Nothing is changed.')
    if asked.list:
        return print('\n'.join(f'{n} {name}' for name, n in steps.items()))
    passed = run_all(root, steps, asked.workers, asked.seconds)
    if left := [name for name in steps if name not in passed]:
        print('Touched too, and left to `make test`:', *left)
    if failed := [name for name in passed if not passed[name]]:
        sys.exit(f'failed: {" ".join(failed)}')


if __name__ == '__main__':
    main()
