"""Rules of the whole house that no single room can check."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stablegrad.agents import AGENTS
from stablegrad.cli import COMMANDS
from stablegrad.reports.arms import BOOKKEEPING
from stablegrad.runs.config import known_fields

REPO = Path(__file__).parents[2]
SOURCES = sorted((REPO / "src" / "stablegrad").rglob("*.py"))
PAGES = [REPO / "README.md", *sorted((REPO / "docs").glob("*.md"))]

TORCH_FREE = [
    "stablegrad", "stablegrad.cli", "stablegrad.registry", "stablegrad.settings", "stablegrad.tables.scores",
    "stablegrad.reports.stats", "stablegrad.reports.report", "stablegrad.nn.spec", "stablegrad.envs.spec",
    "stablegrad.diagnostics.catalogue", "stablegrad.runs.files", "stablegrad.runs.config", "stablegrad.doctor",
    "stablegrad.commands.sweep", "stablegrad.commands.sweep_status",
]  # fmt: skip


def test_what_reads_files_only_does_not_import_torch():
    code = "import sys, importlib\n" + "\n".join(f"importlib.import_module({name!r})" for name in TORCH_FREE)
    code += "\nprint([name for name in ('torch', 'matplotlib') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Drawing from, or seeding, the generators that belong to the user's process.
_GLOBAL_RANDOMNESS = re.compile(
    r"np\.random\.(seed|rand|randn|randint|random|choice|normal|uniform|shuffle|permutation)\("
    r"|torch\.(manual_seed|seed)\("
    r"|(?<![\w.])random\.(seed|random|randint|choice|shuffle|uniform)\("
)


@pytest.mark.parametrize("line", ["np.random.seed(1)", "x = torch.manual_seed(0)", "random.shuffle(y)"])
def test_the_search_for_global_randomness_finds_it(line):
    assert _GLOBAL_RANDOMNESS.search(line)


def test_nothing_draws_from_or_seeds_a_global_generator():
    found = [
        f"{path.relative_to(REPO)}:{number}"
        for path in SOURCES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if _GLOBAL_RANDOMNESS.search(line)
    ]
    assert found == []


_ASKS_FOR_ENVIRONMENT = re.compile(r"(?<!assert )(self|run|config)(\.\w+)?\.env is (not )?None|has_environment")


@pytest.mark.parametrize("line", ["if run.config.env is None:", "x = 1 if config.env is not None else 2"])
def test_the_search_for_who_asks_for_an_environment_finds_it(line):
    assert _ASKS_FOR_ENVIRONMENT.search(line)
    assert not _ASKS_FOR_ENVIRONMENT.search("assert config.env is not None")


def test_few_modules_ask_whether_a_run_has_an_environment():
    """Training on images and in environments differ where one is chosen and in what is shown; a new place is a choice
    that belongs to one of these."""
    asking = {str(path.relative_to(REPO / "src/stablegrad")) for path in SOURCES
              if _ASKS_FOR_ENVIRONMENT.search(path.read_text(encoding="utf-8"))}  # fmt: skip
    assert asking == {
        "launch.py", "run.py", "runs/config.py", "supervised/classifier.py", "sweeps/cost.py", "training/memory.py",
        "commands/evaluate.py", "commands/progress.py", "commands/train.py",
    }  # fmt: skip


@pytest.mark.parametrize("algo", AGENTS)
def test_what_cannot_change_a_result_tells_no_arms_apart(algo):
    fields = known_fields(algo)
    without_identity = {name for name, field in fields.items() if not field.metadata.get("identity", True)}
    assert without_identity
    assert without_identity <= BOOKKEEPING


def test_no_module_swallows_every_exception_in_silence():
    """A broad `except` is allowed where somebody else's code is called, and then it has to say something."""
    silent = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ExceptHandler):
                name = getattr(node.type, "id", None)
                quiet = all(isinstance(statement, ast.Pass | ast.Continue) for statement in node.body)
                if (node.type is None or name in ("Exception", "BaseException")) and quiet:
                    silent.append(f"{path.relative_to(REPO)}:{node.lineno}")
    assert silent == []


def test_every_public_module_function_and_class_has_a_docstring():
    missing = []
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if path.name != "__init__.py" and not ast.get_docstring(tree):
            missing.append(f"{path.relative_to(REPO)}")
        missing += [
            f"{path.relative_to(REPO)}:{node.name}"
            for node in tree.body
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and not ast.get_docstring(node)
        ]
    assert missing == []


def _links(page: Path) -> list[str]:
    return [
        target.partition("#")[0]
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
        if not target.startswith(("http", "#", "mailto:"))
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page):
    assert [target for target in _links(page) if target and not (page.parent / target).exists()] == []


@pytest.mark.parametrize("file", sorted((REPO / "benchmarks/results").iterdir()), ids=lambda file: file.name)
def test_every_record_of_a_measurement_holds_something_and_stands_on_a_page(file):
    text = file.read_text(encoding="utf-8")
    for record in map(json.loads, text.splitlines() if file.suffix == ".jsonl" else [text]):
        assert record
        assert [name for name, value in record.items() if value in ([], {}, None)] == []
    assert any(file.name in page.read_text(encoding="utf-8") for page in PAGES)


def _commands(page: Path) -> set[str]:
    text = page.read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"```(?:bash|sh|console)?\n(.*?)```", text, re.DOTALL))
    lines = [line.split("#")[0].strip() for line in blocks.replace("\\\n", " ").splitlines()]
    return {line for line in lines if line.startswith("stablegrad ")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_line_of_a_page_names_a_command(page):
    unknown = [line for line in _commands(page) if line.split()[1] not in (*COMMANDS, "--help", "--version", "COMMAND")]
    assert unknown == []


def test_every_test_that_the_page_of_faults_names_is_one():
    named = set(re.findall(r"`(test_\w+)`", (REPO / "docs" / "faults.md").read_text(encoding="utf-8")))
    tests = {
        node.name
        for path in (REPO / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    }
    assert len(named) > 40
    assert named - tests == set()
