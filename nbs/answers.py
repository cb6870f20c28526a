"""Gives the experiments their answers, to be committed with them: python nbs/answers.py --runs RUNS

`mvssl reproduce` leaves each notebook as it ran in the folder of its run. Here the outputs are taken from there into
nbs/experiments/, small: pictures are those of figures/, made narrower, and no path of the machine is kept. The cell of
parameters keeps its defaults and says of which study the answers below it are, until the notebook is run again.
A notebook whose code is not what ran, or whose outputs are not those of the committed figures, is named and left as it
is; the others are taken. Notebooks that no study runs (recipe_search, real_footage) are named as papermill left them.
`--away` takes all answers away, `--check` says what of them does not belong. tests/test_answers.py guards the same.
"""

import argparse
import base64
import io
import json
import math
import re
import sys
from collections import Counter
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from execnb.nbio import read_nb, write_nb
from nbdev.clean import clean_nb
from PIL import Image

from mvssl.study.keys import stripped

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = 'nbs/experiments'
STUDIES = ('desk-synthetic', 'few-synthetic', 'laptop-synthetic')  # what may be shown; the first where none is named
TRAINING = 'joint-100-s0'  # shown as the example of a training
SHOWN_DPI, SHARP_PX, MOST_BYTES = 130, 900, 300_000
MOST_UNLIKE = 12  # of a small table drawn at another size; other pictures of one shape differ by more
MOST_CHANGED = 24  # by fewer colours; a mark of a figure that moves changes its block by more
KIND = {'PNG': 'image/png', 'JPEG': 'image/jpeg'}


class Wrong(Exception):
    "Answers that do not belong to what is committed."


def text_of(value):
    "A field that a notebook keeps as a text or as lines."
    return ''.join(value) if isinstance(value, list) else value or ''


def has_tag(cell, tag):
    return tag in cell['metadata'].get('tags', ())


def code_cells(nb):
    return [cell for cell in nb['cells'] if cell['cell_type'] == 'code']


def does(nb):
    "What its code does, cell by cell, without comments and layout; the parameters are left out."
    return {cell['id']: stripped(text_of(cell['source'])) for cell in code_cells(nb) if not has_tag(cell, 'parameters')}


def digest(value):
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def outputs_of(nb):
    return [output for cell in code_cells(nb) for output in cell['outputs']]


def said_of(nb):
    "All outputs as plain texts, whichever way the file keeps them."
    for output in outputs_of(nb):
        data = {kind: text_of(value).strip() for kind, value in output.get('data', {}).items()}
        yield [output['output_type'], text_of(output.get('text')), data, dict(output.get('metadata') or {})]


# ---- what is committed -----------------------------------------------------------------------------------------------


def sidecars_in(figures):
    "Artefacts in a folder of figures: name -> what its sidecar says."
    return {path.stem: json.loads(path.read_text(encoding='utf-8')) for path in sorted(figures.glob('*.json'))}


def sidecars_of(name, figures):
    "Those of one experiment."
    source = f'{EXPERIMENTS}/{name}.ipynb'
    return {key: sidecar for key, sidecar in sidecars_in(figures).items() if sidecar.get('source') == source}


def run_of(name, figures):
    "Name of the run that the artefacts of an experiment, or the training that is shown, come from."
    if name == 'train':
        read = [sidecar.get('inputs', {}).get(TRAINING) for sidecar in sidecars_in(figures).values()]
        most = Counter(key for key in read if key).most_common(1)  # others are of earlier trainings
        return f'{TRAINING}-{most[0][0]}' if most else None
    return next((sidecar['run'] for sidecar in sidecars_of(name, figures).values()), None)


def about(name, nb, figures):
    "What a notebook with answers says of them: whose they are, and digests of all that must not change apart."
    sidecars = sidecars_of(name, figures)
    artefacts = {file: sha for sidecar in sidecars.values() for file, sha in sidecar['artefacts'].items()}
    commit = next((sidecar['commit'] for sidecar in sidecars.values()), None)
    return dict(
        study=figures.name,
        run=run_of(name, figures),
        commit=commit,
        artefacts=artefacts,
        code=digest(does(nb)),
        outputs=digest(list(said_of(nb))),
    )


# ---- pictures --------------------------------------------------------------------------------------------------------


def opened(data):
    with Image.open(io.BytesIO(data)) as picture:
        return picture.convert('RGB')


def unlike(one, other):
    "Mean difference of two pictures, 0 to 255, both no larger than 256 px; infinite where they differ in shape."
    if not math.isclose(one.width / one.height, other.width / other.height, rel_tol=0.03):
        return math.inf
    size = [max(1, round(side * 256 / max(one.size))) for side in one.size]
    a, b = (np.asarray(picture.resize(size, Image.Resampling.BOX), float) for picture in (one, other))
    return float(np.abs(a - b).mean())


def changed(picture, whole, block=16):
    "The largest mean difference within a block of pixels between a picture and a wider one, narrowed; 0 to 255."
    if not math.isclose(picture.width / picture.height, whole.width / whole.height, rel_tol=0.03):
        return math.inf
    narrow = whole.resize(picture.size, Image.Resampling.LANCZOS)
    apart = np.abs(np.asarray(picture, float) - np.asarray(narrow, float)).mean(axis=2)
    starts = [np.arange(0, n, block) for n in apart.shape]
    sums = np.add.reduceat(np.add.reduceat(apart, starts[0], axis=0), starts[1], axis=1)
    sizes = np.outer(*(np.diff([*start, n]) for start, n in zip(starts, apart.shape)))
    return float((sums / sizes)[sizes > block * block / 4].max())


def narrowed(data, most_bytes):
    "A picture as wide as a reader needs it, in no more than so many bytes: its kind and its data."
    with Image.open(io.BytesIO(data)) as picture:
        dpi, whole = picture.info.get('dpi', (SHOWN_DPI,))[0], picture.convert('RGB')
    width = min(whole.width, SHARP_PX, round(whole.width * SHOWN_DPI / dpi))
    while True:
        small = whole.resize((width, round(whole.height * width / whole.width)), Image.Resampling.LANCZOS)
        drawn = small.quantize(256, dither=Image.Dither.NONE)
        for picture, kind, how in ((drawn, 'PNG', dict(optimize=True)), (small, 'JPEG', dict(quality=82))):
            file = io.BytesIO()
            picture.save(file, kind, **how)
            if file.tell() <= most_bytes or width < 300:
                return kind, file.getvalue()
        width = round(width * 0.9)


def show_artefacts(nb, name, figures):
    "In place of each picture of a notebook the committed one that it was saved as, narrowed."
    pngs = {key: figures / f'{key}.png' for key in sidecars_of(name, figures)}
    pngs = {key: path.read_bytes() for key, path in pngs.items() if path.exists()}
    shown = [output for output in outputs_of(nb) if 'image/png' in output.get('data', {})]
    for output in shown:
        data = base64.b64decode(text_of(output['data'].pop('image/png')))
        far = {key: unlike(opened(data), opened(png)) for key, png in pngs.items()}
        nearest = min(far, key=far.get, default=None)
        if nearest and far[nearest] < MOST_UNLIKE:
            data = pngs[nearest]
            output['metadata'] = dict(alt=nearest)
        elif pngs:
            raise Wrong(f'{name}: a picture that it shows was saved under no name')
        kind, small = narrowed(data, int(0.6 * MOST_BYTES / len(shown)))
        output['data'] = {KIND[kind]: base64.b64encode(small).decode(), 'text/plain': ['<figure>']}


# ---- texts -----------------------------------------------------------------------------------------------------------


def without_paths(text, root):
    "Without the folder in which the study was made."
    return text.replace(f'{root}/', '').replace(str(root), '.')


def plain_output(output, root):
    "An output without what differs from machine to machine; None for warnings."
    if output['output_type'] == 'stream':
        if output['name'] != 'stdout':
            return None
        return dict(output, text=without_paths(text_of(output['text']), root).splitlines(True))
    data = {
        kind: value if kind.startswith('image/') else without_paths(text_of(value), root).splitlines(True)
        for kind, value in output.get('data', {}).items()
        if isinstance(value, (str, list))
    }
    return dict(output, data=data, metadata={})


def whose(study, sidecars, figures):
    "The line under the parameters."
    commit = next((sidecar['commit'][:8] for sidecar in sidecars.values()), '')
    profile, _, data = study.partition('-')
    who = f'profile `{profile}`, {data} data' if data in ('synthetic', 'cmu') else study
    made = f', made at commit {commit}' if commit else ''
    return (
        f'**The answers below are of {who}**{made}; they belong to `{figures.parent.name}/{study}`. '
        'Run with the parameters above, this notebook shows other numbers.'
    )


# ---- taking ----------------------------------------------------------------------------------------------------------


def taken(name, executed, figures):
    "The notebook of an experiment with the outputs of `executed`, one that papermill left."
    nb, ran = read_nb(ROOT / EXPERIMENTS / f'{name}.ipynb'), read_nb(executed)
    ran['cells'] = [cell for cell in ran['cells'] if not has_tag(cell, 'injected-parameters')]
    if does(nb) != does(ran):
        raise Wrong(f'{name}: its code is not what was run as {executed}')
    given = ran['metadata'].get('papermill', {}).get('parameters', {})
    root = given.get('out') or ROOT
    outputs = {cell['id']: cell['outputs'] for cell in code_cells(ran)}
    for cell in code_cells(nb):
        plain = [plain_output(output, root) for output in outputs.get(cell['id'], ())]
        cell['outputs'] = [output for output in plain if output]
        if has_tag(cell, 'parameters'):
            said = whose(figures.name, sidecars_of(name, figures), figures)
            data = {'text/markdown': [said], 'text/plain': [re.sub(r'[*`]', '', said)]}
            cell['outputs'] = [dict(output_type='display_data', data=data, metadata={})]
    if any(output['output_type'] == 'error' for output in outputs_of(nb)):
        raise Wrong(f'{name}: {executed} ended in an error')
    show_artefacts(nb, name, figures)
    return sealed(nb, name, figures)


def cleaned(nb):
    clean_nb(nb, allowed_metadata_keys=['answers'], allowed_cell_metadata_keys=['tags', 'jupyter'])
    return nb


def sealed(nb, name, figures):
    nb['metadata']['answers'] = about(name, cleaned(nb), figures)
    return nb


def without_answers(nb):
    for cell in code_cells(nb):
        cell['outputs'] = []
    nb['metadata'].pop('answers', None)
    return cleaned(nb)


# ---- do they belong? -------------------------------------------------------------------------------------------------


class Tables(HTMLParser):
    "Rows of all tables of a page, cells as texts; what spans several rows stands in each."

    def __init__(self, html):
        super().__init__()
        self.rows, self.down, self.cell = [], {}, None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if tag == 'tr':
            self.rows.append([])
            self.spanned()
        elif tag in ('td', 'th'):
            self.cell, self.lines = [], int(dict(attrs).get('rowspan', 1))

    def handle_data(self, data):
        if self.cell is not None:
            self.cell.append(data)

    def handle_endtag(self, tag):
        if tag in ('td', 'th') and self.cell is not None:
            text, at = ' '.join(''.join(self.cell).split()), len(self.rows[-1])
            self.rows[-1].append(text)
            if self.lines > 1:
                self.down[at] = [self.lines - 1, text]
            self.cell = None
            self.spanned()

    def spanned(self):
        row = self.rows[-1]
        while self.down.get(len(row), [0])[0]:
            left = self.down[len(row)]
            left[0] -= 1
            row.append(left[1])


def is_same(saved, shown):
    "Whether two cells say the same; numbers as far as the one with fewer digits says them."
    if saved == shown:
        return True
    try:
        a, b = float(saved), float(shown)
    except ValueError:
        return False
    places = min(len(text.partition('.')[2]) for text in (f'{a:.4g}', shown))
    return abs(a - b) <= 0.501 * 10**-places or math.isclose(a, b, rel_tol=6e-4)


def rows_of_markdown(text):
    lines = [line for line in text.splitlines() if line.startswith('|')]
    cells = [[cell.strip().replace('\\|', '|') for cell in re.split(r'(?<!\\)\|', line)[1:-1]] for line in lines]
    return cells[2:]  # below the heads


def missing_rows(saved, html):
    "Rows of a saved table that no table of a notebook shows."
    shown = Tables(html).rows
    for row in saved:
        wanted = [cell for cell in row if cell not in ('', 'nan')]
        if not any(all(any(is_same(cell, other) for other in line) for cell in wanted) for line in shown):
            yield row


def said_by(nb, kind):
    return '\n'.join(text_of(output.get('data', {}).get(kind)) for output in outputs_of(nb))


def wrong_pictures(nb, figures):
    for output in outputs_of(nb):
        for kind in KIND.values():
            if kind not in output.get('data', {}):
                continue
            picture, alt = opened(base64.b64decode(text_of(output['data'][kind]))), output['metadata'].get('alt')
            if alt and changed(picture, opened((figures / f'{alt}.png').read_bytes())) > MOST_CHANGED:
                yield f'a picture is not {alt}.png'


def not_shown(name, nb, figures):
    "Claims, tables and pictures that are committed and not shown."
    sidecars = sidecars_of(name, figures)
    marks, html = said_by(nb, 'text/markdown'), said_by(nb, 'text/html')
    alts = {output.get('metadata', {}).get('alt') for output in outputs_of(nb)}
    for key, sidecar in sidecars.items():
        claim = sidecar.get('claim')
        if claim and not (claim['ours'] in marks and f"{claim['title']}: {claim['verdict']}." in marks):
            yield f'the claim of {key}.json'
        if f'{key}.png' in sidecar['artefacts'] and key not in alts:
            yield f'{key}.png'
        if f'{key}.md' in sidecar['artefacts']:
            saved = rows_of_markdown((figures / f'{key}.md').read_text(encoding='utf-8'))
            for row in missing_rows(saved, html):
                yield f"the row {' | '.join(row)[:80]} of {key}.md"


def problems(name, nb, figures):
    "What about the answers of a notebook does not belong to the committed artefacts."
    said, now = nb['metadata']['answers'], about(name, nb, figures)
    again = f'python nbs/answers.py --study {figures.name} --runs RUNS'
    for key, what in dict(
        code=f'its code has changed since it ran: {again}, or --away',
        outputs='its outputs are others than were taken: git checkout, or ' + again,
        artefacts=f'the artefacts have been made again: {again}',
        run=f'the artefacts come from another run: {again}',
        commit=f'the artefacts come from another commit: {again}',
    ).items():
        if said.get(key) != now[key]:
            yield what
    size = len(json.dumps(nb))
    if size > MOST_BYTES * 1.1:
        yield f'it has {size / 1000:.0f} kB'
    yield from (f'it does not show {what}' for what in not_shown(name, nb, figures))
    yield from wrong_pictures(nb, figures)


def answered(root=ROOT):
    "Experiments that are committed with answers: name -> notebook, figures that they belong to."
    for path in sorted((root / EXPERIMENTS).glob('*.ipynb')):
        nb = read_nb(path)
        if 'answers' in nb['metadata']:
            yield path.stem, nb, root / 'figures' / nb['metadata']['answers']['study']


# ---- the command -----------------------------------------------------------------------------------------------------


def executed_in(figures, runs):
    "Experiments of a study, as its runs have left them."
    for path in sorted((ROOT / EXPERIMENTS).glob('*.ipynb')):
        run = run_of(path.stem, figures)
        if run and (runs / figures.name / run / 'executed.ipynb').exists():
            yield path.stem, runs / figures.name / run / 'executed.ipynb', figures


def named(executed, figures):
    "The same of a notebook that papermill left somewhere: its figures are where its artefacts are."
    name = Path(read_nb(executed)['metadata']['papermill']['input_path']).stem
    folders = [folder for folder in sorted(figures.iterdir()) if sidecars_of(name, folder)]
    if len(folders) != 1:
        raise Wrong(f'{name}: artefacts in {len(folders)} folders of figures/, there should be one')
    return name, executed, folders[0]


def take(todo, into):
    "Takes the answers of all that belong; a line for each that does not."
    left = []
    for name, executed, figures in todo:
        try:
            nb = taken(name, executed, figures)
            if wrong := list(problems(name, nb, figures)):
                raise Wrong(f'{name}: ' + '; '.join(wrong))
        except Wrong as error:
            left.append(f'not taken: {error}')
            continue
        write_nb(nb, into / f'{name}.ipynb')
        print(f'{name}: of {figures.name}, {len(json.dumps(nb)) / 1000:.0f} kB')
    return left


def asked_for(asked):
    "Notebooks to take: name, the file as it ran, figures."
    if asked.executed:
        return [named(path, asked.figures) for path in asked.executed]
    study = asked.study or next((name for name in STUDIES if (asked.figures / name).is_dir()), STUDIES[0])
    todo = list(executed_in(asked.figures / study, asked.runs))
    if not todo:
        raise Wrong(f'{study} has no executed notebook under {asked.runs}: mvssl reproduce leaves them')
    return todo


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('executed', nargs='*', type=Path, help='notebooks that papermill left; none: those of a study')
    parser.add_argument('--runs', type=Path, default=ROOT / 'runs', help='where the study was run: holds STUDY/RUN/')
    parser.add_argument('--study', help=f'folder of figures/; else the first that is there of {", ".join(STUDIES)}')
    parser.add_argument('--figures', type=Path, default=ROOT / 'figures', help='what they must belong to; holds STUDY/')
    parser.add_argument(
        '--into', type=Path, default=ROOT / EXPERIMENTS, help='folder that the notebooks are written to'
    )
    parser.add_argument('--away', action='store_true', help='take all answers away')
    parser.add_argument('--check', action='store_true', help='say what does not belong, and change nothing')
    asked = parser.parse_args(words)
    if asked.away:
        for name, nb, _ in answered():
            write_nb(without_answers(nb), ROOT / EXPERIMENTS / f'{name}.ipynb')
        return
    if asked.check:
        wrong = [f'{name}: {what}' for name, nb, figures in answered() for what in problems(name, nb, figures)]
        sys.exit('\n'.join(wrong) or None)
    try:
        left = take(asked_for(asked), asked.into)
    except Wrong as error:
        sys.exit(str(error))
    sys.exit('\n'.join(left) or None)


if __name__ == '__main__':
    main()
