"""Downloads against a server on this machine: resumed, checked, and honest about what went wrong."""

import dataclasses
import hashlib
import io
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from stablegrad.errors import UserError
from stablegrad.supervised import catalogue, datasets
from stablegrad.supervised.catalogue import FASHION_MNIST, Published
from stablegrad.supervised.download import Remote, fetch, progress_line

CONTENT = bytes(range(256)) * 4096  # 1 MiB
CHECKSUM = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


class Server(ThreadingHTTPServer):
    """Serves `files`; breaks each of the first `breaks` connections halfway; may not know Range."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {"set.bin": CONTENT}
        self.breaks = 0
        self.knows_range = True
        self.ranges: list[str | None] = []

    def remote(self, name: str = "set.bin", checksum: str = CHECKSUM) -> Remote:
        return Remote(f"http://127.0.0.1:{self.server_address[1]}/{name}", checksum)


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.ranges.append(wanted)
        content = self.server.files.get(self.path.lstrip("/"))
        if content is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.knows_range else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if self.server.breaks:
            self.server.breaks -= 1
            self.wfile.write(content[start : start + (len(content) - start) // 2])
            self.close_connection = True
        else:
            self.wfile.write(content[start:])

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_a_file_arrives_once(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    path = fetch(server.remote(), tmp_path / "new", progress=lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [entry.name for entry in path.parent.iterdir()] == ["set.bin"]
    fetch(server.remote(), tmp_path / "new")
    assert server.ranges == [None]


def test_a_broken_connection_is_taken_up_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.breaks = 2
    assert fetch(server.remote(), tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={len(CONTENT) // 2}-", f"bytes={len(CONTENT) * 3 // 4}-"]


def test_a_later_call_goes_on(server: Server, tmp_path: Path) -> None:
    server.breaks = 3
    arrived = len(CONTENT) * 7 // 8
    with pytest.raises(UserError, match=f"the connection broke: .*go on from {arrived} bytes"):
        fetch(server.remote(), tmp_path)
    assert not (tmp_path / "set.bin").exists()
    assert fetch(server.remote(), tmp_path).read_bytes() == CONTENT
    assert server.ranges[-1] == f"bytes={arrived}-"


def test_a_server_without_ranges_sends_it_all_again(server: Server, tmp_path: Path) -> None:
    server.breaks, server.knows_range = 1, False
    assert fetch(server.remote(), tmp_path).read_bytes() == CONTENT


def test_a_part_that_was_complete_already_is_checked(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".set.bin.part").write_bytes(CONTENT)
    assert fetch(server.remote(), tmp_path).read_bytes() == CONTENT
    assert server.ranges == [f"bytes={len(CONTENT)}-"]


def test_a_wrong_checksum_keeps_nothing(server: Server, tmp_path: Path) -> None:
    server.files["set.bin"] = CONTENT[:-1] + b"x"
    with pytest.raises(UserError, match=f"set.bin is not the published file.* should be {CHECKSUM}"):
        fetch(server.remote(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_local_file_is_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set.bin").write_bytes(b"damaged")
    assert fetch(server.remote(), tmp_path).read_bytes() == CONTENT


def test_without_a_network_the_error_says_what_to_do(server: Server, tmp_path: Path) -> None:
    remote = Remote("http://127.0.0.1:9/set.bin", CHECKSUM)  # the discard port: nobody listens
    with pytest.raises(UserError, match=f"no connection: .*put set.bin into {tmp_path} by hand"):
        fetch(remote, tmp_path, timeout=2)


def test_a_missing_remote_file_is_reported(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing.bin could not be downloaded \(the server answers 404"):
        fetch(server.remote("nothing.bin"), tmp_path)


def test_a_folder_that_cannot_be_written_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=f"{tmp_path}/file/sub cannot be written"):
        fetch(server.remote(), tmp_path / "file" / "sub")


def _fashion_mnist_of(server: Server, folder: Path) -> Published:
    """Fashion-MNIST with the files in `folder` as the published ones."""
    content = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    server.files.update(content)
    return dataclasses.replace(
        FASHION_MNIST,
        remotes=tuple(server.remote(name, f"md5:{hashlib.md5(file).hexdigest()}") for name, file in content.items()),
    )


def test_a_downloaded_set_is_found(server: Server, tmp_path: Path, write_fashion_mnist: Any) -> None:
    published = _fashion_mnist_of(server, write_fashion_mnist(tmp_path / "published"))
    place = catalogue.download(published, tmp_path / "data")
    assert place.path == tmp_path / "data" / "fashion-mnist"
    assert catalogue.load(published, place)[0].labels.tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_is_told_how_much_has_come(
    server: Server, tmp_path: Path, write_fashion_mnist: Any, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    published = _fashion_mnist_of(server, write_fashion_mnist(tmp_path / "published"))
    monkeypatch.setattr(sys, "stderr", written := io.StringIO())
    monkeypatch.setattr(written, "isatty", lambda: terminal)
    catalogue.download(published, tmp_path / "data")
    expected = "".join(f"\r{remote.name}: 0.0 of 0.0 MB\n" for remote in published.remotes)
    assert written.getvalue() == (expected if terminal else "")


def test_the_line_is_written_over_until_all_has_come(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    for done in (0, 85_000_000, 170_498_071):
        progress_line("set.bin")(done, 170_498_071)
    progress_line("other")(2_500_000, None)
    assert capsys.readouterr().err == (
        "\rset.bin: 0.0 of 170.5 MB\rset.bin: 85.0 of 170.5 MB\rset.bin: 170.5 of 170.5 MB\n\rother: 2.5 MB"
    )


def test_an_interrupted_download_of_several_files_is_taken_up(
    server: Server, tmp_path: Path, write_fashion_mnist: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = _fashion_mnist_of(server, write_fashion_mnist(tmp_path / "published"))
    monkeypatch.setitem(datasets._PUBLISHED, "fashion_mnist", published)
    third = published.remotes[2].name
    content = server.files.pop(third)
    with pytest.raises(UserError, match=f"{third} could not be downloaded"):
        datasets.load_arrays("fashion_mnist", data_dir=tmp_path / "data", download=True)
    server.files[third] = content
    server.ranges.clear()
    with pytest.raises(UserError, match="has a part of Fashion-MNIST, but 'train-images-idx3-ubyte' is missing"):
        datasets.load_arrays("fashion_mnist", data_dir=tmp_path / "data")
    arrays = datasets.load_arrays("fashion_mnist", data_dir=tmp_path / "data", download=True)
    assert arrays.train.labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert len(server.ranges) == 2, "the two that had come are not fetched again"
