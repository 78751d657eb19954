"""Whole reports: complete in themselves, the same for the same runs, and honest about what is missing."""

import json
import re
import subprocess
import sys
import time
from html.parser import HTMLParser

import pytest
from synthetic_runs import write_run, write_sweep

from stablegrad.errors import UserError
from stablegrad.reports.compose import compose
from stablegrad.reports.load import load_runs
from stablegrad.reports.report import write_report

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Outline(HTMLParser):
    """Headings, text, ids, and whether every element is closed in order."""

    def __init__(self, page):
        super().__init__()
        self.open, self.text, self.ids, self.headings, self.links = [], [], [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if "id" in attrs:
            self.ids.append(attrs["id"])
        self.links += [attrs[name] for name in ("href", "src") if name in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)
        if not {"script", "style"} & set(self.open):
            self.text.append(data)


def page_of(paths, out, **options):
    target = write_report(paths, out, files=False, **options)
    return target, target.read_text()


@pytest.fixture(scope="module")
def sweep_page(sweep, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    target = write_report([sweep], out, command=["stablegrad", "report", "a folder"], title="Four arms <&> two games")
    return target, target.read_text()


def test_the_page_is_well_formed_and_has_its_sections(sweep_page):
    outline = Outline(sweep_page[1])
    assert outline.headings == [
        "What the evidence supports",
        "Learning curves",
        "Aggregate scores",
        "Game by game",
        "Layer by layer",
        "Diagnostics",
        "What was run",
        "How it was made",
        "Definitions",
    ]
    assert len(outline.ids) == len(set(outline.ids))


def test_nothing_is_loaded_from_anywhere(sweep_page):
    page = sweep_page[1]
    outline = Outline(page)
    inside = {f"#{name}" for name in outline.ids}
    assert all(link in inside or link.startswith(("data:image/png;base64,", "#")) for link in outline.links)
    addresses = set(re.findall(r"https?://[^\s\"'<>)]+", page)) - {"http://www.w3.org/2000/svg"}
    assert addresses == set()
    assert "@import" not in page
    assert re.findall(r"<script[^>]+src=", page) == []


def test_user_text_is_escaped(sweep_page):
    assert "<h1>Four arms &lt;&amp;&gt; two games</h1>" in sweep_page[1]


def test_what_is_said_and_shown(sweep_page):
    text = " ".join(Outline(sweep_page[1]).text)
    assert "multi-skip, Kron has the highest IQM of 4 arms on 2 games" in text
    assert "Fewer than 10 seeds" in text
    assert "Each point is the mean over the 6,000 steps before it" in text
    assert "stablegrad report 'a folder'" in text
    assert "2.13.0+cpu" in text
    assert "range-normalised score" in text
    assert "(ours − base) / max(|base|, 0.01)" in text


def test_only_differences_stand_in_the_table_of_differences(sweep_page):
    section = sweep_page[1].split('id="what-was-run"')[1].split("</table>")[0]
    columns = re.findall(r'<button type="button">([^<]+)</button>', section)
    assert columns == ["arm", "mlp type", "optimizer", "lr", "lr scale", "runs"]


def test_files_beside_the_page(sweep_page):
    target = sweep_page[0]
    folder = target.parent / "report_files"
    names = {path.stem for path in folder.iterdir()}
    assert {"learning_curves", "aggregates", "performance_profiles", "improvement", "layers_gradients_raw"} <= names
    assert all((folder / f"{name}.{kind}").stat().st_size > 50 for name in names for kind in ("png", "svg", "csv"))
    markdown = (target.parent / "report.md").read_text()
    assert markdown.startswith("# Four arms <&> two games\n")
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", markdown)
    assert len(pictures) == len(names)
    assert all((target.parent / picture).is_file() for picture in pictures)
    assert "| arm | seeds | IQM |" in markdown
    assert not list(target.parent.glob(".*"))


def test_learning_curves_csv_has_what_was_logged(sweep_page):
    lines = (sweep_page[0].parent / "report_files" / "learning_curves.csv").read_text().splitlines()
    assert lines[0] == "panel,arm,step,iqm,low,high"
    panels = {line.split(",")[0] for line in lines[1:]}
    assert panels == {"All 2 games", "MinAtar/Asterix", "MinAtar/Breakout"}


def test_the_same_runs_give_the_same_page(tmp_path):
    write_sweep(tmp_path / "runs", seeds=2, rows=5, blocks=1)
    assert page_of(tmp_path / "runs", tmp_path / "a")[1] == page_of(tmp_path / "runs", tmp_path / "b")[1]


def test_a_single_run(run, tmp_path):
    target, page = page_of(run, run / "report.html", findings=[
        {"name": "Rank collapse", "severity": "info", "summary": "It fell.", "evidence": "see the curve"},
        {
            "name": "Vanishing gradients", "severity": "critical", "summary": "They vanish.", "since": 4_000,
            "layers": ["trunk.first"], "confidence": 0.93, "evidence": {"norm": 3.2e-7},
            "picture": {"metric": "gradients/raw/trunk.first", "steps": [1, 2], "values": [1.0, 1e-6], "log": True},
            "remedies": [{"flags": "--optimizer kron", "why": "it helps", "shown": "ours", "source": "here"}],
        },
    ])  # fmt: skip
    assert target == run / "report.html"
    assert not (run / "report_files").exists()
    outline = Outline(page)
    text = " ".join(outline.text)
    assert "one seed gives no interval, supports no claim" in text
    assert outline.headings[1] == "What the doctor found"
    assert text.index("Vanishing gradients") < text.index("Rank collapse")
    assert "--optimizer kron" in text
    assert "3.2e-07" in text
    assert "since" in text
    assert "One seed an arm: no band can be given." in text


def test_a_run_without_anything_logged(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(json.dumps({"algo": "pqn", "seed": 1, "env_id": "CartPole-v1"}))
    _, page = page_of(tmp_path / "run", tmp_path / "out")
    assert "nothing can be said about results" in page
    assert "Learning curves" not in Outline(page).headings


def test_arms_that_have_not_begun_take_no_colour(tmp_path):
    write_run(tmp_path / "a", rows=4)
    path = write_run(tmp_path / "b", optimizer="kron", state="created")
    for name in ("metrics.jsonl", "episodes.jsonl"):
        (path / name).unlink()
    document = compose(load_runs([tmp_path]))
    assert {len(figure.legend) for figure in document.figures()} == {0}
    assert "2" in {value for value, what in document.facts if what == "arms"}


def test_an_evaluation_before_the_first_training_game_has_ended(tmp_path):
    for optimizer in ("radam", "kron"):
        write_run(tmp_path / optimizer, optimizer=optimizer, rows=4, evaluations=1, mlp_depth=1)
        write_run(tmp_path / f"{optimizer}-deep", optimizer=optimizer, rows=4, evaluations=1, mlp_depth=2)
    (tmp_path / "kron" / "metrics.jsonl").write_text('{"step": 10, "losses/loss": 1.0}\n')
    (tmp_path / "kron" / "episodes.jsonl").write_text("")
    _, page = page_of(tmp_path, tmp_path / "out")
    assert "evaluation return" in page


def test_runs_under_way_do_not_cut_the_curves_of_those_that_are_done(tmp_path):
    write_run(tmp_path / "a", seed=1, rows=20)
    write_run(tmp_path / "b", seed=2, rows=20)
    write_run(tmp_path / "c", seed=3, rows=20, state="running")
    (curves,) = (f for f in compose(load_runs([tmp_path])).figures() if f.name == "learning_curves")
    assert curves.panels[0].rows[-1][1] == 120_000


def test_a_run_that_has_only_diagnostics_of_its_first_rows(make_run, tmp_path):
    path = make_run("a", rows=1)
    _, page = page_of(path, tmp_path / "out")
    assert "Layer by layer" in Outline(page).headings


def test_runs_of_different_algorithms_and_depths(tmp_path):
    write_run(tmp_path / "a", algo="pqn", seed=1, blocks=1, rows=5)
    write_run(tmp_path / "b", algo="ppo", seed=1, blocks=4, rows=5, clip_coef=0.1, mlp_depth=4)
    _, page = page_of(tmp_path, tmp_path / "out")
    text = " ".join(Outline(page).text)
    assert "PPO" in text
    assert "clip coef" in text


def test_network_size_has_its_own_section(tmp_path):
    write_sweep(
        tmp_path / "runs", seeds=2, depths=("small", "large"), widths=("small", "medium"), rows=8, diagnostics=False
    )
    target = write_report(tmp_path / "runs", tmp_path / "out.html")
    assert target == tmp_path / "out.html"
    text = " ".join(Outline(target.read_text()).text)
    assert "4 network sizes taken together" in text
    files = tmp_path / "out_files"
    grid = (files / "scaling_grid.csv").read_text().splitlines()
    assert grid[0] == "panel,depth,width,iqm,low,high"
    assert len(grid) == 1 + 4 * 4
    assert (files / "scaling_scores.png").exists()
    assert (files / "scaling_diagnostics.png").exists()
    assert (files / "scaling_curves.png").exists()


def test_human_normalised_scores_name_their_table_and_predict_the_57_game_median(tmp_path):
    for game in ("BattleZone-v5", "ALE/NameThisGame-v5", "PhoenixNoFrameskip-v4"):
        for seed in (1, 2):
            write_run(tmp_path / f"{game.replace('/', '-')}-{seed}", env_id=game, seed=seed, unit=5e3, rows=5)
    _, page = page_of(tmp_path, tmp_path / "out")
    text = " ".join(Outline(page).text)
    assert "table dqn_zoo-57" in text
    assert "predicted 57-game median (Atari-3)" in text
    assert "off by 14\u00a0%" in text


def test_layers_stand_in_the_order_of_the_network(tmp_path):
    """The deeper network comes second: its inner layers must not be appended behind the head of the shallower."""
    write_run(tmp_path / "a", mlp_depth=1, blocks=1, rows=3)
    write_run(tmp_path / "b", mlp_depth=3, blocks=3, rows=3)
    figures = {figure.name: figure for figure in compose(load_runs([tmp_path])).figures()}
    shallow, deeper = figures["layers_gradients_raw"].panels
    assert deeper.title == "depth 3"
    assert len(dict.fromkeys(row[0] for row in shallow.rows)) == 7
    deep = list(dict.fromkeys(row[0] for row in deeper.rows))
    assert deep[0] == "encoder.conv1"
    assert deep[-2:] == ["trunk.last", "head"]
    assert len(deep) == 11


def test_mistakes(tmp_path, sweep):
    with pytest.raises(UserError, match="does not exist"):
        write_report(tmp_path / "absent", tmp_path / "out")
    with pytest.raises(UserError, match="no arm is called 'resnet'"):
        write_report(sweep, tmp_path / "out", baseline="resnet")
    assert not (tmp_path / "out").exists()


def test_reports_need_no_torch_and_the_command_line_no_matplotlib():
    code = (
        "import sys, stablegrad.reports.report; assert 'matplotlib' not in sys.modules;"
        "import stablegrad.reports.compose, stablegrad.reports.html, stablegrad.reports.markdown;"
        "import stablegrad.reports.stats, stablegrad.reports.scores;"
        "assert 'torch' not in sys.modules; assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_hundred_runs_take_a_fifth_of_the_time_that_five_hundred_may(tmp_path):
    for seed in range(100):
        write_run(tmp_path / str(seed), seed=seed % 10, mlp_depth=1 + seed // 10, rows=40, diagnostics=False)
    start = time.process_time()
    write_report(tmp_path, tmp_path / "out", files=False)
    assert time.process_time() - start < 6
