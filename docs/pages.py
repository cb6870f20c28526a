"""Makes the documentation from the notebooks and the comments beside parameters: python docs/pages.py OUT

OUT/source holds the pages, laid out as the repository is, so that links between notebooks lead where they did; OUT/html
is the site. No notebook is executed and nothing is fetched: the site is read without a network, from a folder.
"""

import argparse
import importlib
import inspect
import json
import posixpath
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from fastcore.docments import docments

ROOT = Path(__file__).resolve().parents[1]
HERE = Path(__file__).parent
WINGS = {
    '.': 'The method',
    'ground': 'What all of it uses',
    'sources': 'Where pictures come from',
    'show': 'Pictures and pages',
    'study': "The paper's study",
    'commands': 'The command line',
}
DIRECTIVE = re.compile(r'^#\|[^\n]*\n?', re.M)
LINK = re.compile(r'(\]\()([^)\s]+)(\))')
CHAPTERS = (
    'Start <nbs/index>,tutorials,notebooks,experiments,atlas,reference,command_line,differences,CHANGELOG,CONTRIBUTING'
)
ATLAS_OF, ATLAS_SEED = 'studio-joint', 5
DIFFERENCES = re.compile(r'^## Differences from the paper\s*$', re.M)


@dataclass(frozen=True)
class Notebook:
    "One notebook of nbs/: where it lies, what is in it, and the module that it is exported to."

    path: Path  # from the root
    cells: list
    module: str | None

    @property
    def title(self):
        "Its first heading, without marks."
        for cell in self.cells:
            if cell.cell_type == 'markdown' and (found := re.search(r'^#\s+(.+)', cell.source, re.M)):
                return found[1].strip()
        return self.path.stem

    @property
    def sentence(self):
        "The line under the title."
        text = '\n'.join(cell.source for cell in self.cells if cell.cell_type == 'markdown')
        found = re.search(r'^> (.*)', text, re.M)
        return found[1] if found else ''


def read_notebooks(root):
    "All notebooks below `root`/nbs in reading order: by number, then by name."
    found = []
    for path in sorted((root / 'nbs').rglob('*.ipynb'), key=lambda path: path.name):
        if '.ipynb_checkpoints' in path.parts:
            continue
        cells = nbformat.read(path, as_version=4).cells
        exported = (re.search(r'^#\|\s*default_exp\s+(\S+)', cell.source, re.M) for cell in cells)
        module = next((hit[1] for hit in exported if hit), None)
        found.append(Notebook(path.relative_to(root), cells, module))
    return found


@dataclass
class Site:
    "Where the pages are written, and which folders of the repository they link to."

    source: Path
    folders: set = field(default_factory=set)

    @property
    def whole(self):
        "Where pages lie that are whole by themselves, as reports are: shown as they are, under these paths."
        return self.source.with_name('whole')

    def write(self, name, *parts):
        "A page out of parts."
        page = self.source / name
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text('\n\n'.join(parts) + '\n', encoding='utf-8')

    def copy(self, name):
        "A file of the repository to where it lies there."
        (self.source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, self.source / name)


# ---- notebooks -------------------------------------------------------------------------------------------------------


def as_shown(cell):
    "A cell as a reader sees it: without nbdev's directives, and None where they say that it is not for readers."
    if cell.cell_type == 'code' and re.search(r'^#\|\s*hide\b', cell.source, re.M):
        return None
    shown = nbformat.from_dict(json.loads(json.dumps(cell)))
    if cell.cell_type == 'code':
        if re.search(r'^#\|\s*echo:\s*false', cell.source, re.M):
            shown.metadata['tags'] = ['remove-input']
        shown.source = DIRECTIVE.sub('', cell.source).strip('\n')
    return shown if shown.source.strip() else None


def leads_to(link, page):
    "Where a relative link of `page` leads, as a path from the root; None where it leads out of the repository."
    target = posixpath.normpath(posixpath.join(page.parent.as_posix(), link.partition('#')[0]))
    return None if target.startswith('..') or not (ROOT / target).exists() else target


def relink(text, page, site, shown_on=None):
    "Links of `page` as they lead from where `text` is shown; what they lead to is copied, folders become pages."
    base = (shown_on or page).parent.as_posix()

    def one(found):
        target = None if re.match(r'\w+:|#', found[2]) else leads_to(found[2], page)
        if target is None:
            return found[0]
        if target == 'nbs/README.md':
            target = 'notebooks.md'
        elif (ROOT / target).is_dir():
            site.folders.add(target)
            target = f'files/{target}.md'
        elif not target.endswith('.ipynb'):
            site.copy(target)
        return f'{found[1]}{posixpath.relpath(target, base)}{found[3]}'

    return LINK.sub(one, text)


def texts_out(cell):
    "A code cell's Markdown outputs as cells of their own, whose links are then followed as those of any text are."
    for output in [output for output in cell.get('outputs', []) if 'text/markdown' in output.get('data', {})]:
        cell.outputs.remove(output)
        yield nbformat.v4.new_markdown_cell(output.data['text/markdown'])


def write_notebook(notebook, site):
    "The page of a notebook."
    shown = [cell for cell in map(as_shown, notebook.cells) if cell is not None]
    cells = [one for cell in shown for one in (cell, *texts_out(cell))]
    for cell in cells:
        if cell.cell_type == 'markdown':
            cell.source = relink(cell.source, notebook.path, site)
    kernel = dict(kernelspec=dict(display_name='Python 3', language='python', name='python3'))
    page = site.source / notebook.path
    page.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), page)


# ---- reference -------------------------------------------------------------------------------------------------------


def as_it_is(text):
    "Text of a comment as Markdown that shows every character of it; what stands in backquotes is code already."
    parts = re.split(r'(`[^`]*`)', ' '.join(str(text).split()))
    return ''.join(part if at % 2 else re.sub(r'([\\*_<>$\[\]{}#~^])', r'\\\1', part) for at, part in enumerate(parts))


def in_table(text):
    "The same where a bar would end the cell."
    return as_it_is(text).replace('|', '\\|')


def type_in_words(annotation):
    "An annotation as it is written in the source."
    if annotation in (None, inspect.Parameter.empty):
        return ''
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace('typing.', '')


def is_default(value):
    return value is not inspect.Parameter.empty


def parameter_rows(found):
    "Rows of a table of parameters from what docments found: name, type and default, meaning."
    for name, facts in found.items():
        if name in ('self', 'cls', 'return'):
            continue
        default = f' = {facts.default!r}' if is_default(facts.default) and len(repr(facts.default)) < 60 else ''
        what = (type_in_words(facts.anno) + default).replace('|', '\\|')
        yield f'| `{name}` | {what and f"`{what}`"} | {in_table(facts.docment or "")} |'


def signature_of(thing):
    "The call of `thing` with its parameters' names and short defaults."
    try:
        parameters = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError):
        return '()'
    bare = []
    for one in parameters:
        if one.name in ('self', 'cls'):
            continue
        default = repr(one.default)
        short = default if len(default) < 30 and re.fullmatch(r"[\w.'+\- (),\[\]{}:]*", default) else '...'
        star = {one.VAR_POSITIONAL: '*', one.VAR_KEYWORD: '**'}.get(one.kind, '')
        bare.append(f'{star}{one.name}' + (f'={short}' if is_default(one.default) else ''))
    return f'({", ".join(bare)})'


def described(thing):
    "Docstring, parameters and result of a function or class, as Markdown."
    try:
        found = docments(inspect.unwrap(thing), full=True, returns=True)
    except Exception:  # no source, as of an alias to a builtin type
        found = {}
    yield as_it_is(inspect.getdoc(thing) or '')
    rows = list(parameter_rows(found))
    if rows:
        yield '\n'.join(['| parameter | type | meaning |', '|---|---|---|', *rows])
    back = found.get('return')
    if back is not None and (back.docment or back.anno not in (None, inspect.Parameter.empty)):
        what = type_in_words(back.anno)
        yield 'Returns ' + ': '.join(
            part for part in (f'`{what}`' if what else '', in_table(back.docment or '')) if part
        )


def indented(text, by):
    return '\n'.join(f'{by}{line}' if line.strip() else '' for line in text.splitlines())


def entry(kind, name, thing, depth=3):
    "One function, class or method with what it takes."
    fence = ':' * (depth + 2)
    inside = '\n\n'.join(part for part in described(thing) if part)
    if kind == 'class':
        methods = [
            (key, value)
            for key, value in vars(thing).items()
            if not key.startswith('_') and (inspect.isfunction(value) or isinstance(value, (classmethod, property)))
        ]
        for key, value in methods:
            plain = value.fget if isinstance(value, property) else getattr(value, '__func__', value)
            if plain is None or not plain.__doc__:
                continue
            of = 'property' if isinstance(value, property) else 'method'
            inside += '\n\n' + entry(of, f'{name}.{key}', plain, depth - 1)
    call = '' if kind == 'property' else signature_of(thing)
    return f'{fence}{{py:{kind}}} {name}{call}\n\n{inside}\n{fence}'


def public(module):
    "Names and things that a module defines and offers, in the order of its source."
    for name in getattr(module, '__all__', []):
        thing = getattr(module, name, None)
        is_code = inspect.isclass(thing) or inspect.isfunction(inspect.unwrap(thing)) if callable(thing) else False
        if is_code and getattr(thing, '__module__', None) == module.__name__:
            yield name, thing


def write_reference(notebook, site):
    "The page of a module: every public function and class with its parameters. Whether there is anything to say."
    module = importlib.import_module(f'mvssl.{notebook.module}')
    entries = [entry('class' if inspect.isclass(thing) else 'function', name, thing) for name, thing in public(module)]
    if entries:
        intro = f'{notebook.sentence}\n\nHow it works: [{notebook.path.stem}](../{notebook.path.as_posix()})'
        here = f'```{{py:currentmodule}} mvssl.{notebook.module}\n```'
        site.write(f'reference/{notebook.module}.md', f'# mvssl.{notebook.module}', intro, here, *entries)
    return bool(entries)


# ---- the other pages -------------------------------------------------------------------------------------------------


def toctree(entries, *options):
    "The list of pages below a page."
    return '\n'.join(['```{toctree}', *options, '', *entries, '```'])


def names_of(command, path=()):
    "Every command below `command`, as words."
    below = getattr(command, 'commands', {})
    if not below:
        yield path
    for name in sorted(below):
        yield from names_of(below[name], (*path, name))


def write_command_line(site):
    "One page of all commands, as they explain themselves at 80 columns."
    from typer.main import get_command
    from typer.testing import CliRunner

    from mvssl.cli import app

    def said(path):
        plain = {'COLUMNS': '80', 'TERMINAL_WIDTH': '80', 'TERM': 'dumb', 'NO_COLOR': '1'}
        return CliRunner().invoke(app, [*path, '--help'], env=plain, prog_name='mvssl').output

    paths = [(), *names_of(get_command(app))]
    parts = [f'## {" ".join(("mvssl", *path))}\n\n```text\n{said(path).strip()}\n```' for path in paths]
    site.write('command_line.md', '# Command line', 'What each command says with `--help`.', *parts)


def differences_of(notebook):
    "What a notebook says under its last heading, '' where it knows of none."
    for cell in notebook.cells:
        if cell.cell_type == 'markdown' and (found := DIFFERENCES.search(cell.source)):
            text = cell.source[found.end() :].strip()
            return '' if re.match(r'none\b', text, re.I) else re.sub(r'^#+ ', '#### ', text, flags=re.M)
    return ''


def write_differences(notebooks, site):
    "Where the project departs from the paper, of all notebooks on one page."
    page, parts = Path('differences.md'), []
    for notebook in notebooks:
        if text := differences_of(notebook):
            link = f'[{notebook.path.stem}]({notebook.path.as_posix()})'
            parts += [f'## {notebook.title}', link, relink(text, notebook.path, site, page)]
    site.write(
        'differences.md', '# What differs from the paper', 'Each notebook says so at its end; here at once.', *parts
    )


def write_folder(folder, site):
    "The page that stands for a folder: its files."
    files = sorted(
        path.relative_to(ROOT).as_posix() for path in (ROOT / folder).iterdir() if path.suffix not in ('', '.md')
    )
    for name in files:
        site.copy(name)
    page = f'files/{folder}.md'
    links = [f'- [{Path(name).name}]({posixpath.relpath(name, posixpath.dirname(page))})' for name in files]
    site.write(page, '---\norphan: true\n---', f'# {folder}', '\n'.join(links))


def lists(notebooks, folder):
    "Pages of the notebooks that lie in nbs/`folder` itself."
    return [
        notebook.path.as_posix()
        for notebook in notebooks
        if notebook.path.parent.as_posix() == posixpath.normpath(f'nbs/{folder}')
    ]


def by_wing(pages):
    "Lists of pages under the names of the wings; `pages` are pairs of a wing and a page."
    for wing, title in WINGS.items():
        yield toctree([page for at, page in pages if at == wing], ':maxdepth: 1', f':caption: {title}')


def reports(site):
    "A line for each study whose figures are committed: what came out, and its report, largest profile first."
    from mvssl.study.profiles import PROFILES
    from mvssl.study.report import in_a_sentence

    order = list(PROFILES)[::-1]
    folders = [path.parent for path in (ROOT / 'figures').glob('*/report.html')]
    for folder in sorted(folders, key=lambda path: (order.index(path.name.partition('-')[0]), path.name)):
        page = Path('whole') / folder.name / 'report.html'
        (site.whole / page).parent.mkdir(parents=True)
        shutil.copy(folder / 'report.html', site.whole / page)
        yield f'- <a href="{page.as_posix()}">{folder.name}</a>: {in_a_sentence(folder)}'


def write_atlas_page(site):
    "People whom a network that comes along has never seen, filmed and embedded now, as a map to look around in."
    from mvssl.show.atlas import write_atlas
    from mvssl.sources.synthetic import make_dataset
    from mvssl.trained import trained_network
    from mvssl.training import embed

    who = tuple(f'N{i}' for i in range(1, 9))
    with tempfile.TemporaryDirectory() as home:
        how = dict(instants=40 * len(who), side=48, seed=ATLAS_SEED, people='dressed', labels='all', progress=False)
        store = make_dataset(Path(home) / 'new', subjects=who, **how)
        facts = dict(network=f'{ATLAS_OF}, which has seen none of these people')
        write_atlas(site.whole / 'whole' / 'atlas.html', embed(trained_network(ATLAS_OF), store), store, facts=facts)
    site.write(
        'atlas.md',
        '# Atlas',
        f'Eight synthetic people before four cameras, embedded by the network `{ATLAS_OF}` that comes along and has '
        'never seen them. Near means alike in pose, whoever it is and wherever the camera stands: '
        '<a href="whole/atlas.html">look around in it</a>. One of your own: '
        '`mvssl atlas RUN --data STORE --out FILE`.',
    )


def write_lists(notebooks, documented, site):
    "The pages that list others: what is read, what is looked up."
    tutorials = toctree(lists(notebooks, 'tutorials'), ':maxdepth: 1')
    site.write('tutorials.md', '# Tutorials', 'From the files that you have to a trained network.', tutorials)
    found = toctree(lists(notebooks, 'experiments'), ':maxdepth: 1')
    site.write(
        'experiments.md',
        '# Experiments',
        'What the supplementary shows, and what came out here. All results of a study on one page:',
        '\n'.join(reports(site)),
        found,
    )
    chapters = [(wing, name) for wing in WINGS for name in lists(notebooks, wing) if not name.endswith('index.ipynb')]
    intro = 'The library as it is written. The numbers of the notebooks are an order in which all of them can be read.'
    site.write('notebooks.md', '# How it works', intro, *by_wing(chapters))
    pages = [(name.rpartition('.')[0] or '.', f'reference/{name}') for name in documented]
    site.write('reference.md', '# Reference', 'Every public function and class with its parameters.', *by_wing(pages))


def write_pages(source):
    "All pages of the site into the folder `source`."
    site = Site(source)
    notebooks = read_notebooks(ROOT)
    for notebook in notebooks:
        write_notebook(notebook, site)
    documented = [notebook.module for notebook in notebooks if notebook.module and write_reference(notebook, site)]
    write_command_line(site)
    write_differences(notebooks, site)
    write_atlas_page(site)
    write_lists(notebooks, documented, site)
    for folder in sorted(site.folders):
        write_folder(folder, site)
    for name in ('CHANGELOG.md', 'CONTRIBUTING.md'):
        site.copy(name)
    site.write(
        'index.md', (HERE / 'index.md').read_text(encoding='utf-8').strip(), toctree(CHAPTERS.split(','), ':hidden:')
    )


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('out', type=Path, help='folder that is made anew')
    out = parser.parse_args(words).out
    shutil.rmtree(out, ignore_errors=True)
    (out / 'source').mkdir(parents=True)
    write_pages(out / 'source')
    how = ['--fail-on-warning', '--keep-going', '--quiet', '-D', f'html_extra_path={out.resolve() / "whole"}']
    done = subprocess.run(
        [sys.executable, '-m', 'sphinx', *how, '-c', HERE, '-b', 'html', out / 'source', out / 'html']
    )
    if done.returncode:
        sys.exit(done.returncode)
    print(f'open {out / "html" / "index.html"}')


if __name__ == '__main__':
    main()
