"""A page in headless Chromium, driven through the DevTools protocol: what tests of pages and of Lab need."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest
import websocket

CHROMIUM = next(
    (
        path
        for name in ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')
        if (path := shutil.which(name))
    ),
    None,
)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason='needs Chromium in PATH: apt-get install chromium')
PATIENCE_S = 120


class Browser:
    "Headless Chromium without any way to the network but this machine's own. Use as a context; `open` gives a page."

    def __enter__(self):
        self.home = tempfile.mkdtemp()
        self.process = subprocess.Popen(
            [
                CHROMIUM,
                '--headless=new',
                '--no-sandbox',
                '--disable-gpu',
                '--disable-dev-shm-usage',
                '--no-first-run',
                '--disable-background-networking',
                '--disable-component-update',
                '--disable-sync',
                '--force-device-scale-factor=1',
                '--remote-debugging-port=0',
                f'--user-data-dir={self.home}',
                'about:blank',
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            at = Path(self.home) / 'DevToolsActivePort'
            until(
                lambda: at.exists() and at.read_text().count('\n') or self.process.poll() is not None,
                'Chromium to start',
            )
            if self.process.poll() is not None:
                raise RuntimeError(f'{CHROMIUM} ended with status {self.process.returncode}')
            self.port = int(at.read_text().split()[0])
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error):
        self.process.terminate()
        self.process.wait(20)
        shutil.rmtree(self.home, ignore_errors=True)

    def open(self, path, width=1440, height=900):
        "A page: the path of a file, or the address of a server on this machine."
        new = urllib.request.Request(f'http://127.0.0.1:{self.port}/json/new?about:blank', method='PUT')
        with urllib.request.urlopen(new, timeout=PATIENCE_S) as answer:
            return Page(json.load(answer)['webSocketDebuggerUrl'], path, width, height)


class Page:
    "A page that was opened; what it asked for and what it complained of."

    def __init__(self, address, where, width, height):
        is_file = not str(where).startswith('http://127.0.0.1:')
        self.socket, self.sent = websocket.create_connection(address, timeout=PATIENCE_S, suppress_origin=True), 0
        self.requests, self.complaints = [], []
        for domain in ('Page', 'Runtime', 'Network', 'Log'):
            self.call(f'{domain}.enable')
        if is_file:
            self.call(
                'Network.emulateNetworkConditions', offline=True, latency=0, downloadThroughput=0, uploadThroughput=0
            )
        self.call('Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call('Page.navigate', url=Path(where).absolute().as_uri() if is_file else where)
        self.wait_for(
            f"document.readyState === 'complete' && location.protocol === '{'file:' if is_file else 'http:'}'"
        )

    def call(self, method, **params):
        self.sent += 1
        self.socket.send(json.dumps(dict(id=self.sent, method=method, params=params)))
        while True:
            answer = json.loads(self.socket.recv())
            if answer.get('id') == self.sent:
                assert 'error' not in answer, answer
                return answer['result']
            self._note(answer.get('method'), answer.get('params'))

    def _note(self, event, params):
        if event == 'Network.requestWillBeSent' and not params['request']['url'].startswith(('data:', 'about:')):
            self.requests.append(params['request']['url'])
        elif event == 'Runtime.exceptionThrown':
            self.complaints.append(
                params['exceptionDetails'].get('exception', {}).get('description', params['exceptionDetails']['text'])
            )
        elif event == 'Runtime.consoleAPICalled' and params['type'] in ('error', 'warning', 'assert'):
            self.complaints.append(' '.join(str(part.get('value', part.get('description'))) for part in params['args']))
        elif event == 'Log.entryAdded' and params['entry']['level'] in ('error', 'warning'):
            self.complaints.append(params['entry']['text'])

    def value(self, expression):
        "Of a JavaScript expression, as JSON has it."
        answer = self.call('Runtime.evaluate', expression=expression, returnByValue=True, awaitPromise=True)
        assert 'exceptionDetails' not in answer, answer['exceptionDetails']
        return answer['result'].get('value')

    def wait_for(self, expression):
        return until(lambda: self.value(expression), expression)

    def settle(self):
        "Until the page has drawn what it was told."
        self.value('new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))')

    def mouse(self, kind, x, y, **more):
        self.call('Input.dispatchMouseEvent', type=kind, x=x, y=y, **more)

    def point_at(self, x, y):
        self.mouse('mouseMoved', x - 3, y)
        self.mouse('mouseMoved', x, y)
        self.settle()

    def click(self, x, y):
        self.point_at(x, y)
        self.mouse('mousePressed', x, y, button='left', buttons=1, clickCount=1)
        self.mouse('mouseReleased', x, y, button='left', clickCount=1)
        self.settle()

    def picture(self, path=None):
        "A screenshot as PNG."
        self.settle()
        data = base64.b64decode(self.call('Page.captureScreenshot', format='png')['data'])
        if path:
            Path(path).write_bytes(data)
        return data


def until(is_so, what):
    "Asks again and again until it is so."
    end = time.monotonic() + PATIENCE_S * (4 if os.environ.get('CI') else 1)
    while not (answer := is_so()):
        assert time.monotonic() < end, f'waited in vain for {what}'
        time.sleep(0.05)
    return answer
