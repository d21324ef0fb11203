"""`reco embed`, `classify` and `bench` against a running service: what they write, tell and refuse."""

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from reco.asking import api_key, lines_of
from reco.backend import milvus_server
from reco.classify import _end_of, _why_plain
from reco.cli import app
from reco.embedding_files import ArrayFile, JsonLines, OutputError
from reco.load import measure, text_requests
from reco.train_entities import read_names

TEXTS = ["a red bird", "a duck", "two umbrellas"]


@pytest.fixture
def photos(tmp_path: Path, photo_bytes: dict[str, bytes]) -> Path:
    """A folder of pictures, one of them damaged, and what is none."""
    folder = tmp_path / "photos"
    (folder / "b").mkdir(parents=True)
    for name, place in (("jpeg", "1.jpg"), ("webp", "2.WEBP"), ("png", "b/3.png")):
        (folder / place).write_bytes(photo_bytes[name])
    (folder / "cut.jpg").write_bytes(photo_bytes["jpeg"][:300])
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture
def run(service: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command against the service."""
    monkeypatch.setenv("RECO_URL", service.url)
    monkeypatch.setenv("COLUMNS", "200")

    def invoke(*arguments: str, stdin: str | None = None) -> Any:
        return CliRunner().invoke(app, [*map(str, arguments)], input=stdin)

    return invoke


def embedded(client: httpx.Client, texts: list[str], **options: Any) -> np.ndarray[Any, Any]:
    data = client.post("/embed/text", json={"texts": texts, **options}).json()["data"]
    return np.array([item["embedding"] for item in data], dtype=np.float32)


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_texts_to_lines_of_json(run: Any, client: httpx.Client) -> None:
    done = run("embed", "--texts", "-", "--text", TEXTS[0], stdin=f"\n{TEXTS[1]}\n  \n{TEXTS[2]}\n")
    assert done.exit_code == 0, done.stderr
    items = lines(done.stdout)
    assert [item["key"] for item in items] == TEXTS
    np.testing.assert_allclose([item["embedding"] for item in items], embedded(client, TEXTS), atol=1e-6)
    plain = run("embed", "--text", TEXTS[0], "--plain")
    expected = embedded(client, TEXTS[:1], enhance=False)
    np.testing.assert_allclose([lines(plain.stdout)[0]["embedding"]], expected, atol=1e-6)


def test_the_mark_that_an_editor_puts_first_is_no_part_of_a_line(tmp_path: Path) -> None:
    written = tmp_path / "by-notepad.txt"
    written.write_text("wren\r\n\r\nfirecrest\r\n", encoding="utf-8-sig")
    assert list(lines_of(written)) == read_names(written).names == ["wren", "firecrest"]
    written.write_text("reco_key\r\n", encoding="utf-8-sig")
    assert api_key(written) == "reco_key"
    assert milvus_server("http://127.0.0.1:19530", written).token == "reco_key"


def test_images_to_an_array_with_its_items(run: Any, client: httpx.Client, photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.npy"
    done = run("embed", photos, "-o", output)
    assert done.exit_code == 1
    assert ": image_truncated\n" in done.stderr
    array, items = np.load(output), lines((tmp_path / "out.items.jsonl").read_text())
    names = ["1.jpg", "2.WEBP", "b/3.png", "cut.jpg"]
    assert [item["key"] for item in items] == [str(photos / name) for name in names]
    assert [item.get("row") for item in items] == [0, 1, 2, None]
    assert items[3]["error"] == "image_truncated"
    files = [("files", (photos / name).read_bytes()) for name in names[:3]]
    told = client.post("/embed/image", files=files).json()["data"]
    np.testing.assert_allclose(array, [item["embedding"] for item in told], atol=1e-4)
    assert (array.dtype, array.shape) == (np.float32, (3, 128))
    assert not list(tmp_path.glob("*.part"))


def test_a_folder_is_embedded_to_its_end_beside_a_file_that_no_request_may_hold(
    run: Any, photos: Path, tmp_path: Path
) -> None:
    with (photos / "2b.jpg").open("wb") as file:
        file.truncate(65 * 2**20)
    done = run("embed", photos, "-o", tmp_path / "out.npy")
    assert done.exit_code == 1
    assert f"2 failed: 1 body_too_large, 1 image_truncated. The first: {str(photos)[:20]}" in done.stderr
    assert done.stderr.endswith("/photos/2b.jpg\n")
    assert np.load(tmp_path / "out.npy").shape == (3, 128)


def test_a_line_of_a_slow_pipe_is_answered_before_the_next_comes(service: Any) -> None:
    command = [sys.executable, "-m", "reco.cli", "--quiet", "embed", "--texts", "-", "--url", service.url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdin is not None and process.stdout is not None
        too_late = threading.Timer(30, process.kill)
        too_late.start()
        for typed, keys in (("a red bird\n", ["a red bird"]), ("\n a duck\na wren\na wa", ["a duck", "a wren"])):
            process.stdin.write(typed)
            process.stdin.flush()
            told = [process.stdout.readline() for _ in keys]
            assert [json.loads(line)["key"] for line in told if line] == keys, "it waits for more lines"
        last, _ = process.communicate("der\n")
        too_late.cancel()
    assert ([item["key"] for item in lines(last)], process.returncode) == (["a wader"], 0)


@pytest.mark.parametrize("name", ["out.jsonl", "out.npy"])
def test_a_run_goes_on_where_it_stopped(run: Any, tmp_path: Path, name: str) -> None:
    texts = tmp_path / "texts"
    texts.write_text("\n".join(f"bird {number}" for number in range(6)))
    whole, output = tmp_path / f"whole-{name}", tmp_path / name
    assert run("embed", "--texts", texts, "-o", whole).exit_code == 0
    unfinished(output, whole, done=3)
    assert run("embed", "--texts", texts, "-o", output).exit_code == 2
    resumed = run("embed", "--texts", texts, "-o", output, "--resume")
    assert resumed.exit_code == 0, resumed.stderr
    assert "embedded 3 texts" in resumed.stderr
    if name.endswith("npy"):
        np.testing.assert_allclose(np.load(output), np.load(whole), atol=1e-6)
    else:
        assert [item["key"] for item in lines(output.read_text())] == [f"bird {number}" for number in range(6)]

    unfinished(output, whole, done=3)
    texts.write_text("another\ntext\n")
    assert run("embed", "--texts", texts, "-o", output, "--resume").exit_code == 2
    unfinished(output, whole, done=3)
    assert run("embed", "--text", "bird 0", "-o", output, "--resume", "--plain").exit_code == 2  # another space


def unfinished(output: Path, whole: Path, *, done: int) -> None:
    """What a killed run leaves: some whole items, and the beginning of one more."""
    if output.suffix == ".jsonl":
        kept = whole.read_text().splitlines(keepends=True)
        output.write_text("".join(kept[:done]) + kept[done][:20])
        return
    output.unlink(missing_ok=True)
    kept = whole.with_suffix(".items.jsonl").read_text().splitlines(keepends=True)
    output.with_suffix(".items.jsonl").write_text("".join(kept[:done]) + kept[done][:20])
    rows = np.load(whole)[: done + 1].tobytes()
    output.with_name(output.name + ".part").write_bytes(rows[: (done * 128 + 5) * 4])


def test_another_file_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    for content in ('{"a": 1}\n', "text\n", "[1]\n"):
        path.write_text(content)
        with pytest.raises(OutputError, match="no file of `reco embed`"):
            JsonLines(path, resume=True)
        assert path.read_text() == content
    array = tmp_path / "a.npy"
    array.write_bytes(b"rows")
    with pytest.raises(OutputError, match="and whole"):
        ArrayFile(array, resume=True)
    (tmp_path / "b.items.jsonl").write_text('{"key": "x", "row": 9, "space": "s", "embed_dim": 4}\n')
    with pytest.raises(OutputError, match="no file of `reco embed`"):
        ArrayFile(tmp_path / "b.npy", resume=True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["embed"], "name either images or texts"),
        (["embed", "x.jpg", "--text", "a"], "name either images or texts"),
        (["embed", "nowhere.jpg"], "nowhere.jpg is not there"),
        (["embed", "--texts", "nowhere"], "No such file"),
        (["embed", "--text", "a", "-o", "a.csv"], "is a .npy or a .jsonl file"),
        (["embed", "--text", "a", "-o", "nowhere/a.npy"], "nowhere is no folder"),
        (["embed", "--text", "a", "--resume"], "needs the --output"),
        (["embed", "--text", "a", "--key-file", "nowhere"], "--key-file nowhere: No such file"),
        (["classify", "."], "name the labels once"),
        (["classify", ".", "--labels", __file__], f"--labels-file {__file__} reads it"),
        (["bench", "-c", "1,x"], "--concurrency is a number"),
        (["bench", "-c", "0"], "--concurrency is a number"),
        (["bench", "--what", "sounds"], "--what is images"),
    ],
)
def test_a_wrong_command_is_one_sentence_and_exit_code_2(run: Any, arguments: list[str], told: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_labels_that_are_given_one_by_one_may_hold_commas(run: Any, photos: Path) -> None:
    several = run("classify", photos, "--labels", "duck, white", "--labels", "swift", "--json")
    one = run("classify", photos, "--labels", "duck, white", "--json")
    labels = [{best["label"] for best in json.loads(done.stdout.splitlines()[0])["top"]} for done in (several, one)]
    assert labels == [{"duck, white", "swift"}, {"duck", "white"}]


def test_nobody_there_and_a_refusal_are_one_sentence_and_exit_code_1(run: Any, photos: Path) -> None:
    done = run("embed", "--text", "a", "--k", "1000")
    assert done.exit_code == 1
    assert "k_out_of_range (422)" in done.stderr
    done = run("classify", photos, "--label-set", "nowhere")
    assert (done.exit_code, "label_set_not_found" in done.stderr) == (1, True)


def test_a_run_that_outruns_its_rate_is_told_what_to_do(serve: Any, run: Any) -> None:
    with serve(rate_limit=0.2, rate_burst_s=20.0) as service:
        texts = "\n".join(f"a duck {number}" for number in range(640))
        done = run("embed", "--texts", "-", "--url", service.url, stdin=texts)
        assert done.exit_code == 1
        told = done.stderr
    assert 0 < told.index("--in-flight") < told.index("rate_limited (429)") < told.index("It asks to come back in ")


def test_classify_as_lines_and_as_a_table(run: Any, client: httpx.Client, photos: Path) -> None:
    asked = ["classify", photos, "--labels", "songbird, duck,raptor", "--template", "a {}", "--top", "2", "--compare"]
    done = run(*asked, "--json")
    assert done.exit_code == 1  # one is damaged
    items = lines(done.stdout)
    form = {"labels": '["songbird", "duck", "raptor"]', "templates": '["a {}"]', "top_k": "2", "compare": "true"}
    told = client.post("/classify", files={"files": (photos / "1.jpg").read_bytes()}, data=form).json()["data"][0]
    assert items[0]["image"] == str(photos / "1.jpg")
    assert (items[0]["label"], items[0]["original_label"]) == (told["label"], told["original"]["label"])
    assert [one["probability"] for one in items[0]["top"]] == pytest.approx(
        [one["probability"] for one in told["top"]], abs=1e-5
    )
    assert items[3] == {"image": str(photos / "cut.jpg"), "error": "image_truncated"}
    table = run(*asked)
    assert told["label"] in table.stdout
    assert f"{told['top'][0]['probability']:.1%}" in table.stdout
    assert "image_truncated" in table.stdout


def test_a_memory_that_knows_few_of_the_labels_is_told_with_what_to_do() -> None:
    without = {"text": 0.0, "image": 0.0}
    assert "call things as they do, or add pairs" in _why_plain({**without, "unknown_labels": 0.5})
    assert "call things" not in _why_plain({**without, "unknown_labels": 0.0})
    assert _why_plain({"text": 1.0, "image": 0.0, "unknown_labels": 0.2}) == _why_plain({}) == ""


def test_bench_counts_items_and_refusals(run: Any) -> None:
    done = run("bench", "--seconds", "0.5", "-c", "1,4", "--batch", "2", "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["model"], told["embeddings"], told["batch"]) == ("tiny-clip", "refined", 2)
    assert [(row["what"], row["concurrency"]) for row in told["results"]] == [
        ("images", 1),
        ("images", 4),
        ("texts", 1),
        ("texts", 4),
    ]
    for row in told["results"]:
        assert row["failed"] == 0
        assert row["items_per_s"] == pytest.approx(2 * row["requests_per_s"], rel=0.01)
        assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
    assert "items/s" in run("bench", "--seconds", "0.2", "-c", "1", "--what", "texts").stdout


def test_a_bench_that_nobody_answered_has_failed(run: Any, tmp_path: Path) -> None:
    """A job that watches rates must not take 0 of a service that refuses all for a good end."""
    (tmp_path / "long").write_text("bird " * 5000)
    asked = ("bench", "--seconds", "0.3", "-c", "1,2", "--texts", tmp_path / "long")
    done = run(*asked, "--what", "texts", "--json")
    assert done.exit_code == 1
    failed = sum(row["failed"] for row in json.loads(done.stdout)["results"])
    assert f"no request of texts was answered: {failed:,} text_too_long" in done.stderr
    both = run(*asked, "--what", "both")
    assert both.exit_code == 1, "images that are answered say nothing of texts"
    assert "items/s" in both.stdout
    (tmp_path / "long").write_text(f"{'bird ' * 5000}\na bird\n")
    assert run(*asked, "--what", "texts").exit_code == 0, "some were answered"


def test_what_bench_cannot_read_is_told_before_anybody_is_asked(run: Any, tmp_path: Path) -> None:
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    done = run("bench", "http://127.0.0.1:9", "--images", tmp_path)
    assert done.exit_code == 2, done.stderr
    assert f"{tmp_path / 'gone.jpg'} cannot be read: No such file" in done.stderr


def test_load_tells_refusals_apart_from_answers(service: Any) -> None:
    import asyncio

    async def load() -> dict[str, Any]:
        requests = [*text_requests(["a bird"], 1, enhance=None), *text_requests([""], 1, enhance=None)]
        async with httpx.AsyncClient(base_url=service.url) as client:
            return (await measure(client, requests, concurrency=2, seconds=0.3)).summary()

    told = asyncio.run(load())
    assert told["codes"] == {"text_empty": told["failed"]}
    assert abs(told["failed"] - told["requests"]) <= 2


@pytest.mark.parametrize("seconds", [0.2, 1.0])
def test_a_slow_service_is_not_told_to_do_nothing(seconds: float) -> None:
    """Its answers were under way when the clock started, and none came in time to be begun and counted after that."""
    import asyncio

    async def answer(_: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.4)
        return httpx.Response(200, json={})

    async def load() -> dict[str, Any]:
        transport = httpx.MockTransport(answer)
        async with httpx.AsyncClient(transport=transport, base_url="http://slow") as client:
            requests = text_requests(["a bird", "a duck"], 2, enhance=None)
            return (await measure(client, requests, concurrency=4, seconds=seconds)).summary()

    told = asyncio.run(load())
    assert told["requests"] >= 4
    assert told["requests_per_s"] == pytest.approx(4 / 0.4, rel=0.2)
    assert told["items_per_s"] == pytest.approx(2 * 4 / 0.4, rel=0.2)


TAKEN = """
import os, signal, sys
from pathlib import Path
import numpy as np
from reco.embedding_files import ArrayFile
file = ArrayFile(Path(sys.argv[1]))
for row in range(int(sys.argv[2])):
    file.write(f"{row} " + "long " * 400, np.full(8, row, dtype=np.float32), "space")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("rows", [1, 5, 60, 700])
def test_X02_an_array_goes_on_after_a_kill_at_any_row(tmp_path: Path, rows: int) -> None:
    """Of long keys the items reach the disk long before the rows they name."""
    path = tmp_path / "out.npy"
    killed = subprocess.run([sys.executable, "-c", TAKEN, str(path), str(rows)], check=False)
    assert killed.returncode == -signal.SIGKILL
    file = ArrayFile(path, resume=True)
    for row in range(len(file.done), 700):
        file.write(f"{row} " + "long " * 400, np.full(8, row, dtype=np.float32), "space")
    file.finish()
    np.testing.assert_array_equal(np.load(path), np.arange(700.0)[:, None] * np.ones(8))
    items = lines((tmp_path / "out.items.jsonl").read_text())
    assert [(item["row"], item["key"].split()[0]) for item in items] == [(row, str(row)) for row in range(700)]


@pytest.mark.parametrize("content", ['{"a": 1}', "one line of text", '{"keys": ["x"]}'])
def test_a_file_of_one_line_that_is_not_ours_is_left_as_it_is(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    (tmp_path / "b.items.jsonl").write_text(content)
    with pytest.raises(OutputError, match="no file of `reco embed`"):
        JsonLines(tmp_path / "a.jsonl", resume=True)
    with pytest.raises(OutputError, match="no file of `reco embed`"):
        ArrayFile(tmp_path / "b.npy", resume=True)
    assert (tmp_path / "a.jsonl").read_text() == (tmp_path / "b.items.jsonl").read_text() == content


@pytest.mark.parametrize("left", ['{"key": "bird 0", "embed', '{"k', ""])
def test_a_run_killed_in_its_first_line_begins_again(tmp_path: Path, left: str) -> None:
    (tmp_path / "a.jsonl").write_text(left)
    file = JsonLines(tmp_path / "a.jsonl", resume=True)
    assert file.done == []
    file.write_error("bird 0", "text_empty")
    file.close()
    assert lines((tmp_path / "a.jsonl").read_text()) == [{"key": "bird 0", "error": "text_empty"}]


def test_a_port_is_the_clients_as_it_is_the_servers(run: Any, service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RECO_URL")
    monkeypatch.setenv("RECO_PORT", service.url.rpartition(":")[2])
    done = run("embed", "--text", TEXTS[0])
    assert done.exit_code == 0, done.stderr


def test_hidden_images_of_a_folder_are_not_sent_and_told(run: Any, photos: Path, tmp_path: Path) -> None:
    (photos / "cut.jpg").unlink()
    (photos / "._1.jpg").write_bytes(b"what macOS keeps beside 1.jpg")
    (photos / ".thumbnails").mkdir()
    (photos / ".thumbnails" / "1.jpg").write_bytes(b"")
    done = run("embed", photos)
    assert (done.exit_code, len(lines(done.stdout))) == (0, 3), done.stderr
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "._1.jpg").write_bytes(b"")
    alone = run("embed", tmp_path / "only")
    assert (alone.exit_code, "but 1 hidden file, such as" in alone.stderr) == (2, True), alone.stderr


def test_only_an_operators_command_speaks_of_the_operators_key(run: Any, photos: Path) -> None:
    asked = run("operator", "list")
    assert "--only-operator" in asked.stderr
    wrong = run("classify", photos / "1.jpg", "--label-set", "nobodys")
    assert (wrong.exit_code, "operator" in wrong.stderr) == (1, False), wrong.stderr


def test_a_long_path_is_cut_on_a_terminal_and_whole_in_a_pipe(run: Any, photos: Path) -> None:
    picture = photos / "1.jpg"
    table = run("classify", picture, "--labels", "songbird,duck").stdout
    assert f"{picture} " in table
    assert "next best" in table
    assert _end_of(str(picture), 20) == "…" + str(picture)[-19:]
    assert _end_of("1.jpg", 20) == "1.jpg"
