"""Prints a checksum of what counts in every notebook and module: python nbs/contents.py [ROOT]

Metadata of a notebook as a whole does not count: Lab writes name and version of the kernel there on mere reading. Nor
does which cells are folded.
"""

import json
import sys
from hashlib import sha256
from pathlib import Path


def counted(path):
    "The bytes of a file that matter."
    data = path.read_bytes()
    if path.suffix != '.ipynb':
        return data
    try:
        cells = json.loads(data)['cells']
        for cell in cells:
            cell.get('metadata', {}).pop('jupyter', None)
        return json.dumps(cells, sort_keys=True).encode()
    except (ValueError, KeyError):  # no notebook: whatever it is
        return data


def main(root='.'):
    root = Path(root)
    for folder in ('nbs', 'mvssl'):
        for path in sorted(path for ending in ('*.ipynb', '*.py') for path in (root / folder).rglob(ending)):
            if not any(part.startswith('.') or part == '_modidx.py' for part in path.relative_to(root).parts):
                print(sha256(counted(path)).hexdigest(), path.relative_to(root).as_posix())


if __name__ == '__main__':
    main(*sys.argv[1:])
