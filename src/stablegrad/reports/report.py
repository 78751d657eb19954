"""Write a report: one HTML file that needs nothing else, a Markdown twin, and every figure as a file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stablegrad.reports.load import load_runs
from stablegrad.runs.files import check_writable, make_folder, write_text


def write_report(
    run_dirs: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    title: str | None = None,
    command: str | Sequence[str] | None = None,
    baseline: str | None = None,
    findings: Sequence[Mapping[str, Any]] = (),
    files: bool = True,
) -> Path:
    """Judge the runs in `run_dirs` (run folders, or folders of them) and write the report; returns the HTML's path.

    `out` is the HTML file, or a folder that gets `report.html`. Beside it go a Markdown version and, in
    `<name>_files/`, every figure as PNG, SVG and CSV; `files=False` writes the HTML alone, which is complete
    without them. `command` is what made the report, `baseline` (part of) the label of the arm to compare with,
    `findings` the doctor's, as data: `name`, `severity`, `summary`, `evidence`. Raises UserError where there is no
    run, a run cannot be read, no arm fits `baseline`, or `out` cannot be written.
    """
    # matplotlib takes half a second to import, and the command line imports this module for its name only.
    from stablegrad.reports.compose import compose
    from stablegrad.reports.figures import save
    from stablegrad.reports.html import render_html
    from stablegrad.reports.markdown import render_markdown

    target = Path(out)
    if target.suffix.lower() not in (".html", ".htm"):
        target = target / "report.html"
    folder = target.with_name(f"{target.stem}_files")
    markdown = target.with_suffix(".md")
    for path in (target, markdown, folder / "figure.csv") if files else (target,):
        check_writable(path, f"{path}")
    runs = load_runs([run_dirs] if isinstance(run_dirs, str | Path) else run_dirs)
    document = compose(runs, title=title, command=command, baseline=baseline, findings=findings)
    make_folder(target.parent)
    if files:
        for figure in document.figures():
            save(figure, folder)
        write_text(markdown, render_markdown(document, figures=folder.name))
    write_text(target, render_html(document))
    return target
