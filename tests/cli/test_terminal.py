"""What comes from files is seen in the terminal, and does not act there."""

import io
import logging
import os
import re
import subprocess
import sys

import pytest
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from stablegrad.cli import main
from stablegrad.commands.terminal import Terminal
from stablegrad.text import printable, say

# Set the title, clear the screen, recolour, ring, go back, the 8-bit introducer, turn the writing around, half a pair.
HOSTILE = "a\x1b]0;title\x07\x1b[2J\x1b[31m\x08\r\x9b1mb\u202ec\ud800"


def acts(text: str) -> list[str]:
    """The characters of a text that a terminal obeys instead of showing."""
    return re.findall("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]", text)


def test_each_character_that_acts_becomes_one_that_is_seen():
    assert printable(HOSTILE) == "a␛]0;title␇␛[2J␛[31m␈␍�1mb�c�"
    assert len(printable(HOSTILE)) == len(HOSTILE)
    assert printable("two\nlines") == "two␊lines"
    assert printable("two\nlines", lines=True) == "two\nlines"
    assert printable("Ä, 日本, 🦙, a\u00a0b") == "Ä, 日本, 🦙, a\u00a0b"


def shown_by(console: Console) -> str:
    table = Table(HOSTILE, title=HOSTILE)
    table.add_row(HOSTILE)
    table.add_row(Text(HOSTILE, style="red"))
    console.print(HOSTILE, table, Text(HOSTILE))
    with Live(table, console=console, auto_refresh=False) as live:
        live.update(Text(HOSTILE), refresh=True)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_nothing_that_is_printed_acts():
    assert acts(shown_by(Terminal(file=io.StringIO(), width=200))) == []


def test_rich_alone_lets_escapes_through():
    """The negative control: a console of rich takes the bell and the backspace out, and leaves the rest."""
    assert "\x1b[2J" in shown_by(Console(file=io.StringIO(), width=200))


def test_text_in_brackets_is_text():
    """As markup, `[/x]` closes what nobody opened: an exception. `[bold]` vanishes."""
    terminal = Terminal(file=io.StringIO())
    terminal.print("runs/[/x] [bold] :smile:")
    assert terminal.file.getvalue() == "runs/[/x] [bold] :smile:\n"


def test_plain_lines_warnings_and_errors_do_not_act(capsys):
    say(HOSTILE, "two\nlines")
    assert main(["pqn", "--optimizer", HOSTILE]) == 2
    # Without the half of a pair: pytest's own record of the warning could not be sent between its processes.
    logging.getLogger("stablegrad").warning("%s is not there", HOSTILE[:-1])
    captured = capsys.readouterr()
    assert acts(captured.out + captured.err) == []
    assert captured.out.endswith("two\nlines\n")
    assert captured.err.count("error: ") == 1
    assert "is not there\n" in captured.err


def test_an_error_is_one_line_whatever_the_name_holds(capsys):
    assert main(["resume", "no\nerror: such\nrun"]) == 2
    assert capsys.readouterr().err.splitlines() == ["error: no␊error: such␊run is not a run: there is no such folder"]


@pytest.mark.parametrize("command", ["pqn", "sweep"])
def test_help_under_a_forced_ascii_locale(command):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}
    line = [sys.executable, "-m", "stablegrad", command, "--help"]
    done = subprocess.run(line, capture_output=True, env=environment, check=False)
    assert done.returncode == 0
    assert done.stderr == b""
    assert done.stdout.startswith(f"usage: stablegrad {command}".encode())


@pytest.mark.parametrize(("call", "code"), [("drop_lost_output()", 75), ("None", 120)])
def test_output_that_nobody_takes_any_more_leaves_the_exit_code_alone(call: str, code: int) -> None:
    """Python itself, which tries again at its end, exits with 120."""
    program = f"""
import os, sys
from stablegrad.text import drop_lost_output
reading, writing = os.pipe()
os.dup2(writing, 1), os.close(writing), os.close(reading)
try:
    print("lost", flush=True)
except BrokenPipeError:
    {call}
sys.exit(75)
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    ended = subprocess.run([sys.executable, "-c", program], stderr=subprocess.DEVNULL, env=environment)
    assert ended.returncode == code
