"""Guards of the documentation: all parameters with their comments, no broken link, no network; in a browser too."""

import ast
import html
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from browser import Browser, needs_chromium

ROOT = Path(__file__).parents[1]
MODULES = [path for path in sorted((ROOT / 'mvssl').rglob('*.py')) if not path.name.startswith('_')]


@pytest.fixture(scope='module')
def site(once):
    "The whole site, made once. Sphinx itself fails here where a page or a link between pages is broken."

    def make(folder):
        done = subprocess.run(
            [sys.executable, ROOT / 'docs' / 'pages.py', folder / 'docs'], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]

    return once('documentation', make) / 'docs' / 'html'


class Targets(HTMLParser):
    "What a page leads to, what it loads by itself, and the places in it."

    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.places = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.places |= {attrs.get('id'), attrs.get('name')} - {None}
        if tag == 'a' and 'href' in attrs:
            self.links.append(attrs['href'])
        for key in ('src', 'href') if tag == 'link' else ('src',):
            if key in attrs:
                self.loads.append(attrs[key])


@pytest.fixture(scope='module')
def pages(site):
    "Path -> what it leads to and loads."
    found = [path for path in site.rglob('*.html') if not {'_downloads', '_static'} & set(path.parts)]
    return {path.resolve(): Targets(path.read_text(encoding='utf-8')) for path in found}


def is_outside(link):
    return urlsplit(link).scheme not in ('', 'file')


def test_no_link_leads_nowhere(pages):
    broken = []
    for path, page in pages.items():
        for link in page.links + page.loads:
            if is_outside(link) or link.startswith('data:') or link == '#':
                continue
            parts = urlsplit(link)
            at = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            fragment = unquote(parts.fragment)
            if not at.exists() or fragment and at in pages and fragment not in pages[at].places:
                broken.append((path.name, link))
    assert broken == []


def test_pages_load_nothing_from_elsewhere(pages):
    assert [
        load for page in pages.values() for load in page.loads if is_outside(load) and urlsplit(load).scheme != 'data'
    ] == []


def test_links_that_are_broken_would_be_seen(tmp_path):
    page = Targets('<a id="here" href="gone.html"><img src="https://example.org/x.png"><link href="a.css">')
    assert (page.links, page.loads, page.places) == (['gone.html'], ['https://example.org/x.png', 'a.css'], {'here'})


def test_every_report_and_an_atlas_can_be_opened(site, pages):
    "Of each study whose figures are committed; the atlas shows people of its own, whole in one file."
    there = {path.parent.name for path in (ROOT / 'figures').glob('*/report.html')}
    assert there <= {link.split('/')[-2] for link in pages[(site / 'experiments.html').resolve()].links if '/' in link}
    assert 'whole/atlas.html' in pages[(site / 'atlas.html').resolve()].links
    atlas = (site / 'whole' / 'atlas.html').read_text(encoding='utf-8')
    assert 'studio-joint' in atlas and all(f'N{i}' in atlas for i in range(1, 9))
    assert [load for load in Targets(atlas).loads if is_outside(load) and urlsplit(load).scheme != 'data'] == []


def documented_parameters(path):
    "(function, parameter, comment beside it) for every public function of a module, read from its text alone."
    text = path.read_text(encoding='utf-8')
    lines, tree = text.splitlines(), ast.parse(text)
    offered = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', '') == '__all__'
    )
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name in offered:
            for arg in node.args.posonlyargs + node.args.args + node.args.kwonlyargs:
                own = lines[arg.lineno - 1]
                alone = re.match(rf'\s+{arg.arg}\b', own) and '#' in own[arg.end_col_offset :]
                yield node.name, arg.arg, own[arg.end_col_offset :].partition('# ')[2].strip() if alone else ''


def plain(text):
    "Text as a page shows it, without marks and spaces."
    return re.sub(r'[\s`]+', '', html.unescape(re.sub(r'<[^>]+>', '', text)))


@pytest.mark.parametrize('path', MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_public_function_is_there_with_what_explains_it(site, path):
    wanted = list(documented_parameters(path)) if '__all__ =' in path.read_text(encoding='utf-8') else []
    module = '.'.join(path.relative_to(ROOT / 'mvssl').with_suffix('').parts)
    page = site / 'reference' / f'{module}.html'
    if not wanted:
        return
    text = page.read_text(encoding='utf-8')
    shown = plain(text)
    assert {name for name, _, _ in wanted if f'id="mvssl.{module}.{name}"' not in text} == set()
    assert [
        (name, arg) for name, arg, comment in wanted if comment and re.sub(r'[\s`]+', '', comment) not in shown
    ] == []


def test_some_comment_is_read_at_all():
    found = dict(((name, arg), comment) for name, arg, comment in documented_parameters(ROOT / 'mvssl' / 'loss.py'))
    assert 'chord length' in found['hinge', 'margin']


def test_every_notebook_has_a_page(site):
    notebooks = [
        path.relative_to(ROOT) for path in (ROOT / 'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in path.parts
    ]
    assert [str(path) for path in notebooks if not (site / path.with_suffix('.html')).exists()] == []


def test_directives_and_hidden_cells_are_no_matter_for_a_reader(site):
    text = plain((site / 'nbs' / '40_loss.html').read_text(encoding='utf-8'))
    assert '#|' not in text and 'default_exp' not in text and 'fastcore.test' not in text
    assert 'defconsistency_loss(' in text


def test_no_page_shows_a_directive(site):
    directive = re.compile(r'#\|(hide|export|exporti|exports|default_exp|echo)')
    pages = sorted((site / 'nbs').rglob('*.html'))
    assert len(pages) > 50
    assert [page.name for page in pages if directive.search(plain(page.read_text(encoding='utf-8')))] == []


# ---- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def browser():
    with Browser() as browser:
        yield browser


PAGES = ('index', 'reference/loss', 'nbs/40_loss', 'nbs/experiments/2_margin_ablation', 'command_line', 'differences')


@needs_chromium
@pytest.mark.parametrize('name', PAGES)
def test_a_page_opens_without_complaint_and_without_the_network(browser, site, name):
    page = browser.open(site / f'{name}.html')
    page.settle()
    assert page.complaints == []
    assert [request for request in page.requests if not request.startswith('file:')] == []
    assert page.value('document.documentElement.scrollWidth <= innerWidth'), 'wider than the window'


@needs_chromium
def test_formulas_are_set(browser, site):
    page = browser.open(site / 'nbs' / '40_loss.html')
    page.wait_for("document.querySelectorAll('mjx-container').length > 3")


@needs_chromium
def test_the_search_finds_a_function(browser, site):
    page = browser.open(site / 'search.html')
    page.call('Page.navigate', url=(site / 'search.html').absolute().as_uri() + '?q=hardest_negative')
    page.wait_for("document.querySelectorAll('#search-results li a').length > 0")
    found = page.value(
        "[...document.querySelectorAll('#search-results li a')].map(link => link.getAttribute('href')).join(' ')"
    )
    assert 'reference/loss.html' in found
