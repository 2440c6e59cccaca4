"""What a study found: the table, the CSV file, and pictures of the trade."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

from optuna.trial import TrialState
from spikeloom import files

#: The figures of a trial: name, how it is shown, and its unit.
COLUMNS = {"accuracy": ("accuracy", "{:.2%}", ""), "energy": ("energy", "{:.3g}", "µJ per sample, modelled"),
           "cycles": ("cycles", "{:.0f}", "clock cycles per sample of several, simulated"),
           "predicted": ("predicted", "{:.0f}", "clock cycles of a sample alone, by the compiler"),
           "luts": ("LUTs", "{}", "estimated"), "blocks": ("block RAMs", "{}", "estimated"),
           "weight_bytes": ("weights", "{:.0f}", "bytes in the shortest format, with its metadata"),
           "sparsity": ("sparsity", "{:.1%}", "weights that are zero"),
           "spikes": ("spikes", "{:.0f}", "per sample"),
           "sparse": ("sparse", "{}", "layers whose words of zeros are skipped")}

#: Where a trial's files are: of its figures, those that name a folder in the study's ``runs`` and ``programs``.
FOLDERS = ("run", "program")

#: What accuracy is drawn against, each in a picture.
AGAINST = ("energy", "cycles", "luts", "weight_bytes")


@dataclass(frozen=True)
class Row:
    """A trial that is over.

    Parameters
    ----------
    number : int
    values : dict
        of the parameters
    figures : dict or None
        by name, as in `COLUMNS`; None where there are none
    error : str
        why not
    """

    number: int
    values: dict
    figures: dict | None
    error: str


def rows(found, definition):
    """Of an Optuna study, each combination's last trial that is over, in the order of the parameters' values."""
    trials = found.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.PRUNED])
    order = {parameter.name: {value: at for at, value in enumerate(parameter.choices or ())}
             for parameter in definition.parameters}
    last = {}
    for each in trials:
        if "config" in each.user_attrs:  # not one that found nothing left to do
            values = {parameter.name: each.params[parameter.name] for parameter in definition.parameters}
            last[tuple(values.items())] = Row(each.number, values, each.user_attrs.get("figures"),
                                              each.user_attrs.get("error", ""))
    return sorted(last.values(), key=lambda row: [order[name].get(value, value) for name, value in row.values.items()])


def summary(figures):
    """Figures in a line."""
    return ", ".join(f"{COLUMNS[name][0]} {COLUMNS[name][1].format(figures[name])}"
                     for name in ("accuracy", "energy", "cycles", "luts"))


def pareto(rows, against):
    """Those of the ``rows`` that no other is as accurate as for as little of the figure ``against``, by that figure."""
    best, front = float("-inf"), []
    good = [row for row in rows if row.figures]
    for row in sorted(good, key=lambda row: (row.figures[against], -row.figures["accuracy"])):
        if row.figures["accuracy"] > best:
            best = row.figures["accuracy"]
            front.append(row)
    return front


def table(rows):
    """The rows as text; a star where none is more accurate for as little energy."""
    if not rows:
        return "no trial is over yet"
    names = list(rows[0].values)
    front = {row.number for row in pareto(rows, "energy")}
    lines = [("trial", *names, *(title for title, _, _ in COLUMNS.values()), "")]
    for row in rows:
        cells = [form.format(_shown(row.figures[name])) for name, (_, form, _) in COLUMNS.items() if row.figures]
        lines.append((str(row.number), *(str(row.values[name]) for name in names), *cells,
                      "*" if row.number in front else row.error if not row.figures else ""))
    widths = [max(len(line[at]) for line in lines if len(line) == len(lines[0])) for at in range(len(lines[0]) - 1)]
    text = ["  ".join(cell.rjust(width) for cell, width in zip(line[:-1], widths, strict=False))
            + (f"  {line[-1]}" if line[-1] else "") for line in lines]
    units = [f"{title}: {unit}" for title, _, unit in COLUMNS.values() if unit]
    return "\n".join([*text, "; ".join(units) + "; *: none is more accurate for as little energy"])


def _shown(value):
    return " ".join(value) or "none" if isinstance(value, list) else value


def write(rows, definition, out):
    """Write ``table.txt``, ``results.csv`` and the pictures to the folder ``out``."""
    files.write_text(out / "table.txt", table(rows) + "\n")
    text = io.StringIO()
    names = [parameter.name for parameter in definition.parameters]
    writer = csv.writer(text)
    writer.writerow(["trial", *names, *COLUMNS, *FOLDERS, "error"])
    for row in rows:
        figures = row.figures or dict.fromkeys((*COLUMNS, *FOLDERS), "")
        writer.writerow([row.number, *(row.values[name] for name in names),
                         *(_shown(figures[name]) for name in (*COLUMNS, *FOLDERS)), row.error])
    files.write_text(out / "results.csv", text.getvalue())
    good = [row for row in rows if row.figures]
    if good:
        _draw(good, names, out)


def _draw(rows, names, out):
    """Accuracy against each of `AGAINST`: colours are the first parameter's, sizes the second's, marks the third's."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot

    kinds = {name: list(dict.fromkeys(row.values[name] for row in rows)) for name in names}

    def place(row, at, count):
        return kinds[names[at]].index(row.values[names[at]]) % count if at < len(names) else 0

    corners = "lower right", "center right", "lower center"
    for against in AGAINST:
        figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
        for row in rows:
            axes.plot(row.figures[against], 100 * row.figures["accuracy"], linestyle="none",
                      marker="osD^v"[place(row, 2, 5)], color=f"C{place(row, 0, 10)}",
                      markersize=4 + 1.5 * place(row, 1, 8), alpha=0.7)
        front = pareto(rows, against)
        axes.step([row.figures[against] for row in front], [100 * row.figures["accuracy"] for row in front],
                  where="post", color="black", linewidth=0.8)
        for at, look in enumerate(("colour", "size", "mark")[:len(names)]):
            shown = [pyplot.Line2D([], [], linestyle="none", label=f"{names[at]} {value}",
                                   marker="osD^v"[number % 5] if look == "mark" else "o",
                                   color=f"C{number % 10}" if look == "colour" else "grey",
                                   markersize=4 + 1.5 * (number % 8) if look == "size" else 6)
                     for number, value in enumerate(kinds[names[at]])]
            axes.add_artist(axes.legend(handles=shown, fontsize=7, loc=corners[at]))
        title, _, unit = COLUMNS[against]
        axes.set(xlabel=f"{title} ({unit})", ylabel="accuracy (%)")
        axes.grid(alpha=0.3)
        with files.replacing(out / f"accuracy-{against}.png") as file:
            figure.savefig(file, dpi=120, format="png")
        pyplot.close(figure)
