"""The catalogue: complete entries, look-ups with the nearest name, a page that is current, and no torch."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from stablegrad.diagnostics import catalogue
from stablegrad.errors import UserError

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def test_every_entry_is_complete_and_named_once() -> None:
    names = [entry.name for entry in catalogue.entries()]
    assert len(names) == len(set(names))
    assert len(names) > 80
    for entry in catalogue.entries():
        for field in dataclasses.fields(entry):
            assert getattr(entry, field.name).strip(), f"{entry.name}: {field.name} is empty"
        assert entry.healthy in get_args(catalogue.Healthy), entry.name
        assert set(re.findall(r"{(\w+)}", entry.name)) <= {"layer", "index", "term"}, entry.name


def test_logged_names_find_their_pattern() -> None:
    assert catalogue.entry("units/dead/trunk.blocks.0.linear1").name == "units/dead/{layer}"
    assert catalogue.entry("gradients/raw/encoder.net.0.conv").unit == "loss / weight"
    assert catalogue.entry("features/spectrum/512").name == "features/spectrum/{index}"


def test_an_exact_name_stands_before_a_pattern() -> None:
    assert catalogue.entry("units/dead/total").name == "units/dead/total"
    assert catalogue.entry("units/dead/{layer}").name == "units/dead/{layer}"


@pytest.mark.parametrize("wrong", ["ranks/sranc", "losses", "units/dead", "units/dead/", "ranks/srank/x", ""])
def test_an_unknown_name_is_a_usage_error(wrong: str) -> None:
    with pytest.raises(UserError, match=f"no metric '{wrong}'"):
        catalogue.entry(wrong)


def test_the_nearest_name_is_offered() -> None:
    with pytest.raises(UserError, match="did you mean 'ranks/srank'"):
        catalogue.entry("ranks/sranc")


def test_explain_says_everything_there_is() -> None:
    text = catalogue.explain("ranks/srank")
    assert text.startswith("ranks/srank\n")
    for part in ("99 %", "directions", "what feeds the head", "higher", "Kumar et al., 2021"):
        assert part in text


def test_the_page_in_docs_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == catalogue.markdown(), (
        "run `python -m stablegrad.diagnostics.catalogue > docs/metrics.md`"
    )


def test_the_catalogue_is_free_of_torch() -> None:
    code = "import sys, stablegrad.diagnostics.catalogue as c; c.markdown(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
