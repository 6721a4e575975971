"""What MkDocs calls while it builds the site: formulas, tables of results, notebooks, and folders in the navigation."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path as Outline
from matplotlib.textpath import TextPath
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from notebooks import CODE, notebook
from numpy.typing import NDArray

from results import RESULTS, filled

DOCS = Path(__file__).parent
_LETTERS = {Outline.MOVETO: "M", Outline.LINETO: "L", Outline.CURVE3: "Q", Outline.CURVE4: "C", Outline.CLOSEPOLY: "Z"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Formulas become outlines, which need no script and no font; a folder in the navigation stands for its pages."""
    fence = {"name": "math", "class": "formula", "format": formula}
    config.mdx_configs.setdefault("pymdownx.superfences", {})["custom_fences"] = [fence]
    assert config.nav is not None
    config.nav = list(expanded(config.nav))
    return config


def formula(source: str, *settings: Any, **more: Any) -> str:
    """The formula of a fence ```math, which GitHub shows too."""
    return f'<div class="formula">{outlined(" ".join(source.split()))}</div>'


def outlined(source: str) -> str:
    """A formula as an svg of the size and colour of the text around it."""
    drawn = TextPath((0, 0), f"${source}$", size=1, prop=FontProperties(math_fontfamily="stix"))
    box = drawn.get_extents()
    left, top, width, height = box.x0 - 0.1, -box.y1 - 0.1, box.width + 0.2, box.height + 0.2
    shape = "".join(_LETTERS[code] + _places(points, code) for points, code in drawn.iter_segments())
    view = f'viewBox="{left:.3f} {top:.3f} {width:.3f} {height:.3f}" style="width: {width:.2f}em"'
    return f'<svg role="img" aria-label="{escape(source)}" {view}><path fill="currentColor" d="{shape}"/></svg>'


def _places(points: NDArray[np.float64], code: np.uint8) -> str:
    """The points of a part of an outline, with the vertical axis down."""
    return "" if code == Outline.CLOSEPOLY else " ".join(f"{x:.3f},{-y:.3f}" for x, y in points.reshape(-1, 2))


def expanded(nav: list[Any]) -> Iterator[Any]:
    """The navigation with the pages of a folder, by name, in place of the folder; without folders that are empty."""
    for entry in nav:
        ((title, value),) = entry.items() if isinstance(entry, dict) else [("", entry)]
        if isinstance(value, str) and value.endswith("/"):
            value = [str(path.relative_to(DOCS)) for path in sorted((DOCS / value).glob("*.md"))]
        if value:
            yield {title: value} if title else value


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the figures of results/."""
    for path in sorted(RESULTS.rglob("*.png")):
        files.append(File.generated(config, f"results/{path.relative_to(RESULTS)}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in the tables of results; a page with Python can be had as a notebook."""
    text = filled(markdown)
    if not CODE.search(text):
        return text
    path = Path(page.file.abs_dest_path).with_suffix(".ipynb")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(notebook(text), encoding="utf-8")
    return f'{text}\n\n<a href="{path.name}" download>This page as a notebook</a>\n'
