"""A page as a notebook: its Python blocks are the code cells, and the text between them the others."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

__all__ = ["CODE", "notebook"]

CODE = re.compile(r"^```python\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(\]\((?!https?:)[^)#]+)\.md\b")


def notebook(text: str) -> str:
    """The notebook, as the JSON of nbformat 4.5."""
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    numbered = [{"id": f"cell-{number}", **cell} for number, cell in enumerate(_cells(text))]
    content = {"nbformat": 4, "nbformat_minor": 5, "metadata": kernel, "cells": numbered}
    return json.dumps(content, ensure_ascii=False, indent=1)


def _cells(text: str) -> Iterator[dict[str, Any]]:
    """Text and code in turn; links lead to the pages of the site."""
    for place, part in enumerate(CODE.split(text)):
        if place % 2:
            yield {"cell_type": "code", "source": part.rstrip(), "metadata": {}, "outputs": [], "execution_count": None}
        elif part.strip():
            yield {"cell_type": "markdown", "source": _LINK.sub(r"\1.html", part.strip()), "metadata": {}}
