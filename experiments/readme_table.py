"""Write the README's results table from results/.

    .venv/bin/python experiments/readme_table.py
"""

import re

from bench import RESULTS

from sbridge.evidence import FLOOR, Comparison

README = RESULTS.parent / "README.md"
NAMES = ("path_kl", "cbw_uvp", "bw_uvp", "fit_seconds")
PROBLEMS = {
    "recover_gaussian": "Gaussian, d = 2, ε = 0.5",
    "recover_mixture_d2_eps0.5": "mixture, d = 2, ε = 0.5",
    "recover_mixture_d16_eps0.5": "mixture, d = 16, ε = 0.5",
    "recover_mixture_d16_eps0.05": "mixture, d = 16, ε = 0.05",
}


def lines() -> list[str]:
    """Markdown lines: a header, and one line for every method on every problem."""
    found = []
    for folder, problem in PROBLEMS.items():
        table = Comparison.read(RESULTS / folder / "comparison.json")
        columns = [column for column in table.columns if column.name in NAMES]
        if not found:
            heads = ["problem", "method", *(column.heading for column in columns)]
            found += ["| " + " | ".join(heads) + " |", "| --- | --- |" + " ---: |" * len(columns)]
        rows = {name: row for name, row in table.rows.items() if name != "truth"}
        for name, row in rows.items():
            cells = [problem, "floor" if name == FLOOR else name, *(column.cell(row) for column in columns)]
            found.append("| " + " | ".join(cells) + " |")
    return found


text = README.read_text(encoding="utf-8")
block = "<!-- results -->\n" + "\n".join(lines()) + "\n<!-- end of results -->"
text = re.sub(r"<!-- results -->.*<!-- end of results -->", lambda _: block, text, flags=re.DOTALL)
README.write_text(text, encoding="utf-8")
