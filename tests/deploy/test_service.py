"""The service as a process of its own: load, bad requests, memory, shutdown, and its page in a browser."""

import http.client
import io
import json
import pickle
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import ROOT
from test_predict import as_json

from paddleskel.deploy.predictor import Predictor

for package in ("fastapi", "uvicorn", "prometheus_client"):
    pytest.importorskip(package, reason="pip install -r requirements-serve.txt")


class Service:
    """tools/serve.py running."""

    def __init__(self, model, *flags):
        command = [sys.executable, "tools/serve.py", "--model", model, "--port", "0", *flags]
        self.process = subprocess.Popen(
            [str(part) for part in command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        line = self.process.stdout.readline()
        match = re.search(r"http://127.0.0.1:(\d+)", line)
        assert match, line + self.process.stderr.read()
        self.port = int(match[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.ask("GET", "/health")

    def ask(self, method, path, body=None, kind="application/json", connection=None):
        """Return (status, content)."""
        mine = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        mine.request(method, path, body, {"Content-Type": kind})
        response = mine.getresponse()
        content = response.read()
        if connection is None:
            mine.close()
        return response.status, json.loads(content) if "json" in response.headers["content-type"] else content.decode()

    def memory(self) -> float:
        """Resident memory in MiB."""
        text = open(f"/proc/{self.process.pid}/status").read()
        return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@pytest.fixture(scope="module")
def service(exported):
    running = Service(exported[0], "--max_request", "4", "--body_timeout", "6", "--batch_wait", "20")
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.process.stderr.read()


@pytest.fixture(scope="module")
def samples(toy_file, exported):
    """(annotation, expected class, expected score) of clips of many lengths."""
    annotations = pickle.loads(toy_file.read_bytes())["annotations"][:24]
    predictions = Predictor(exported[0]).predict(annotations)
    return [(item, int(p.classes[0]), p.score) for item, p in zip(annotations, predictions)]


def as_npz(annotation) -> bytes:
    buffer = io.BytesIO()
    arrays = {key: annotation[key] for key in ("keypoint", "keypoint_score", "img_shape")}
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def bad_requests(annotation) -> list[tuple[bytes, str, int, str]]:
    """(body, content type, status, what the answer says)."""
    plain = as_json(annotation)
    joints = {**plain, "keypoint": [[[[1.0, 2.0]] * 25] * 4], "keypoint_score": None, "total_frames": 4}
    hole = json.loads(json.dumps(plain))
    hole["keypoint"][0][0][0][0] = float("nan")
    whole = json.dumps(plain).encode()
    kind = "application/json"
    return [
        (json.dumps(joints).encode(), kind, 422, "25 joints, but the layout 'coco' has 17"),
        (json.dumps(hole).encode(), kind, 422, "NaN or infinite"),
        (whole[: len(whole) // 2], kind, 400, "not JSON"),
        (b"[" * 100_000, kind, 400, "not JSON"),
        (b'{"points": 1}', kind, 422, "keypoint"),
        (b'{"samples": []}', kind, 422, "at least one sample"),
        (json.dumps({**plain, "keypoint_score": None}).encode(), kind, 422, "does it have confidences"),
        (as_npz(annotation)[:300], "application/octet-stream", 400, "not a readable .npz"),
        (pickle.dumps(annotation), "application/octet-stream", 400, "not a readable .npz"),
        (whole, "text/plain", 415, "content type"),
        (b"x" * (50 * 2**20), kind, 413, "larger than 4 MiB"),
    ]


def test_two_hundred_requests_over_sixteen_connections(service, samples):
    """Good ones get right answers in the company of bad ones and of a client that never finishes."""
    bad = bad_requests(samples[0][0])
    jobs = [("bad", bad[number % len(bad)]) if number % 5 == 0 else ("good", number) for number in range(200)]
    slow = socket.create_connection(("127.0.0.1", service.port))
    slow.sendall(
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    )

    def work(lane):
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
        found = []
        for kind, job in jobs[lane::16]:
            if kind == "bad":
                body, content, status, said = job
                got, answer = service.ask("POST", "/predict", body, content)
                found.append((got, said in answer["error"]) == (status, True) or (status, said, got, answer))
                continue
            count = 1 + job % 3
            chosen = [samples[(job + i) % len(samples)] for i in range(count)]
            if count == 1 and job % 2:
                sent = as_npz(chosen[0][0]), "application/octet-stream"
            else:
                sent = json.dumps({"samples": [as_json(item) for item, _, _ in chosen]}), "application/json"
            got, answer = service.ask("POST", "/predict?topk=3", *sent, connection)
            right = got == 200 and all(
                result["class_index"] == label and abs(result["score"] - score) < 1e-4 and len(result["top"]) == 3
                for result, (_, label, score) in zip(answer["results"], chosen)
            )
            found.append((right and len(answer["results"]) == count) or (job, got, answer))
        connection.close()
        return found

    with ThreadPoolExecutor(16) as pool:
        found = [result for part in pool.map(work, range(16)) for result in part]
    assert [result for result in found if result is not True] == []
    assert len(found) == 200
    slow.settimeout(20)
    assert b" 408 " in slow.recv(4096)
    slow.close()
    metrics = service.ask("GET", "/metrics")[1]
    lines = re.finditer(r'paddleskel_requests_total{path="/predict",status="(\d+)"} ([\d.]+)', metrics)
    counted = {int(line[1]): float(line[2]) for line in lines}
    assert counted[200] == 160
    assert sum(counted[status] for status in (400, 408, 413, 415, 422)) == 41
    runs = float(re.search(r"paddleskel_batch_size_count ([\d.]+)", metrics)[1])
    clips = float(re.search(r"paddleskel_batch_size_sum ([\d.]+)", metrics)[1])
    assert clips > runs  # some ran together


def test_memory_stays_flat(service, samples):
    """Four times as many requests as it takes to warm up need no more memory."""
    body = as_npz(samples[0][0])

    def lane(count):
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
        for _ in range(count):
            status, answer = service.ask("POST", "/predict", body, "application/octet-stream", connection)
            assert status == 200, answer
        connection.close()

    def send(count):
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lane, [count // 16] * 16))

    send(160)
    before = service.memory()
    send(640)
    assert service.memory() - before < 16


def test_what_it_tells_about_itself(service):
    status, health = service.ask("GET", "/health")
    assert (status, health["status"], health["classes"], health["layout"]) == (200, "ok", 12, "coco")
    schema = service.ask("GET", "/openapi.json")[1]
    content = schema["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert set(content) == {"application/json", "application/octet-stream"}
    assert service.ask("GET", "/nowhere")[0] == 404
    assert service.ask("POST", "/predict?topk=0", b"{}")[0] == 422


def test_sigterm_loses_no_accepted_request(exported, samples):
    """Sixteen requests are on their way through a slow batch when the signal comes."""
    service = Service(exported[0], "--batch_wait", "700", "--max_batch", "64")
    body, answers = as_npz(samples[0][0]), []

    def send():
        answers.append(service.ask("POST", "/predict", body, "application/octet-stream")[0])

    threads = [threading.Thread(target=send) for _ in range(16)]
    for thread in threads:
        thread.start()
    time.sleep(0.35)  # all have been read, none has been answered
    assert answers == []
    assert service.stop() == 0
    for thread in threads:
        thread.join(30)
    assert answers == [200] * 16
    with pytest.raises(OSError, match="refused"):
        service.ask("GET", "/health")


def test_a_port_that_is_taken(exported, run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run("serve", "--model", exported[0], "--port", taken.getsockname()[1])
    assert result.code == 2
    assert "cannot listen there" in result.err


UPLOAD = """(() => {
  const files = new DataTransfer(), input = document.getElementById("file");
  files.items.add(new File([%s], %s));
  input.files = files.files;
  input.dispatchEvent(new Event("change"));
})()"""


def test_the_page_in_a_browser(service, samples, browser, tmp_path):
    annotation, _, score = samples[0]
    browser.size(1100, 900)
    browser.open(service.url)
    browser.evaluate(UPLOAD % (json.dumps(json.dumps(as_json(annotation))), '"mine.json"'))
    browser.until("!document.getElementById('result').hidden", 20)
    assert f"{score * 100:.1f} %" in browser.evaluate("document.getElementById('best').textContent")
    assert "mine.json" in browser.evaluate("document.getElementById('say').textContent")
    assert browser.evaluate("document.querySelectorAll('.sp-legend i').length") >= 2
    assert browser.evaluate("document.querySelectorAll('#segments td').length") % 3 == 0
    for _ in range(3):  # file input, sample button: by keyboard alone
        browser.key("Tab")
    browser.evaluate("document.getElementById('sample').focus()")
    browser.key("Enter")
    browser.until("document.getElementById('say').textContent.startsWith('the sample')", 20)
    browser.size(360, 740)
    assert browser.evaluate("document.documentElement.scrollWidth") <= 360
    browser.dark()
    browser.screenshot(tmp_path / "page.png")
    assert browser.errors == []
    browser.evaluate(UPLOAD % ('"{"', '"broken.json"'))
    browser.until("document.getElementById('say').className == 'bad'", 20)
    assert "broken.json" in browser.evaluate("document.getElementById('say').textContent")
    browser.errors.clear()  # the browser itself notes the 422
    assert browser.evaluate("performance.getEntriesByType('resource').every((e) => e.name.startsWith(location.origin))")
