#!/usr/bin/env python3
"""Draws what runs of acp-train have written: one CSV, PNG pictures and a self-contained HTML page.

usage: plot.py [--out DIR] [--title TEXT] [--metrics DIR] [--batch NAME] RUNS.json...

RUNS.json holds the JSON lines of acp-train (--json). The name of a run (--name) is WORK/METHOD or
WORK/METHOD/KEY=VALUE (a point of a sweep); a run without such a name is MODEL/COMPRESSOR. --metrics: the folder that
has each run's --metrics file, called as the run with what is no letter, digit, '=', '.' or '-' made '_'. --batch: puts
that batch's published figures (published.json) beside ours.

Pictures: step times as stacks; sweeps; the metric over time and over bytes; compression ratio over steps; compression
error added up over the steps. matplotlib is taken from this Python, else from a virtual environment that is made once in
.cache/plot (pip); without either there are the CSV and a page of tables.
"""

import argparse
import base64
import csv
import html
import importlib.util
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENV = HERE.parent / ".cache" / "plot"
HIGHER_IS_BETTER = ("accuracy", "HR@")


def provide_matplotlib():
    """Goes on in an interpreter that has matplotlib; returns whether this one has it."""
    if importlib.util.find_spec("matplotlib"):
        return True
    python = VENV / "bin" / "python"
    if os.environ.get("ACP_PLOT_VENV") == "no" or Path(sys.prefix) == VENV:
        return False
    if not (VENV / "complete").exists():
        print(f"plot.py: making {VENV} with matplotlib (or install python3-matplotlib)", file=sys.stderr)
        for command in ([sys.executable, "-m", "venv", VENV],
                        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "matplotlib<4"]):
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
            if done.returncode != 0:
                reason = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
                print("plot.py: no matplotlib, so tables alone:", *reason, file=sys.stderr)
                return False
        (VENV / "complete").touch()
    os.execv(python, [str(python), __file__, *sys.argv[1:]])


# --- what the runs say -----------------------------------------------------------------------------------------------

class Run:
    def __init__(self, record, metrics_folder):
        self.record = record
        parts = (record.get("name") or "").split("/")
        if len(parts) < 2:
            if "model" not in record:
                sys.exit("plot.py: a line is no run of acp-train (--json); is it a --metrics file?")
            parts = [record["model"], record["compressor"]]
        self.work, self.method, self.variant = parts[0], parts[1], "/".join(parts[2:])
        self.label = "/".join(parts[1:])
        self.epochs, self.steps = [], []
        if metrics_folder and record.get("name"):
            file = Path(metrics_folder) / (re.sub(r"[^A-Za-z0-9=.-]", "_", record["name"]) + ".json")
            for line in read_lines([file]) if file.exists() else []:
                if line["kind"] == "step":
                    self.steps.append(line)
                elif line.get("eval") and line["eval"]["value"] is not None:  # infinite: null
                    self.epochs.append(line)

    def ms(self, part):
        return self.record["step_ms"][part]

    @property
    def metric(self):
        figure = self.record.get("eval")
        return figure if figure and figure["value"] is not None else None

    def errors(self, key):
        """Steps and their figure `key`, where it was measured."""
        found = [(step["step"], step[key]) for step in self.steps if step.get(key) is not None]
        return [s for s, _ in found], [e for _, e in found]

    def error_sum(self, key):
        errors = self.errors(key)[1]
        return sum(errors) if errors else None


# What compression leaves out of a step, on rank 0, as acp-train logs it: the squared norm |y - s|^2, whose sum over the
# steps is what Sahu et al. call total error, and where that is missing the relative |y - s| / |y|, whose sum is not.
SQUARED, RELATIVE = "compression_error_squared", "compression_error"
ERROR_NAMES = {SQUARED: "sum of |y - s|^2 (total error)", RELATIVE: "sum of |y - s| / |y| (relative errors)"}


def error_key(runs):
    """The better figure that all of these runs with any have; nothing if none has one."""
    measured = [r for r in runs if r.error_sum(RELATIVE) is not None or r.error_sum(SQUARED) is not None]
    for key in (SQUARED, RELATIVE):
        if measured and all(r.error_sum(key) is not None for r in measured):
            return key
    return None


def quotient(a, b):
    """a / b, or nothing where one of them was not measured or b is 0."""
    return a / b if a is not None and b else None


def read_lines(files):
    result = []
    for file in files:
        for number, text in enumerate(open(file, encoding="utf-8"), 1):
            if not text.strip():
                continue
            try:
                result.append(json.loads(text))
            except ValueError as error:
                sys.exit(f"plot.py: {file}, line {number}: not JSON ({error})")
    return result


def in_order(values):
    return list(dict.fromkeys(values))


def is_higher_better(name):
    return name.startswith(HIGHER_IS_BETTER)


COLUMNS = ("work method variant model compressor memory policy world_size batch_size iterations samples_per_second "
           "payload_bytes_per_step bytes_sent_per_step compression_ratio plan_changes train_loss seed backend version").split()
TIMES = "median mean data compute exposed_comm encode decode comm".split()


def write_csv(runs, path):
    with open(path, "w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(COLUMNS + [f"{t}_ms" for t in TIMES] + ["metric", "value", "sum_of_squared_errors", "sum_of_relative_errors"])
        for run in runs:
            row = [run.work, run.method, run.variant] + [run.record.get(c) for c in COLUMNS[3:]]
            row += [run.ms(t) for t in TIMES] + [run.metric and run.metric["name"], run.metric and run.metric["value"]]
            writer.writerow(row + [run.error_sum(SQUARED), run.error_sum(RELATIVE)])


# --- the published figures -------------------------------------------------------------------------------------------

def seconds_to(run, target, higher):
    for line in run.epochs:
        value = line["eval"]["value"]
        if value >= target if higher else value <= target:
            return line["train_seconds"]
    return None


def target_of(runs, work):
    """What S-SGD reaches at its best, less 3 % of it."""
    dense = [r for r in runs if r.work == work and r.label == "ssgd" and r.epochs]
    if not dense:
        return None
    higher = is_higher_better(dense[0].epochs[0]["eval"]["name"])
    values = [line["eval"]["value"] for line in dense[0].epochs]
    return (max(values) * 0.97, True) if higher else (min(values) * 1.03, False)


def compare(runs, work, figure, of, to):
    """Our figure for one work, as a number, or a sentence why there is none."""
    found = [next((r for r in runs if r.work == work and r.label == label), None) for label in (of, to)]
    ours, other = found
    if ours is None or (to and other is None):
        return None
    record, against = ours.record, other and other.record
    if figure == "ratio":
        return record["compression_ratio"]
    if figure == "speed":
        return quotient(record["samples_per_second"], against["samples_per_second"])
    if figure == "compression":
        return quotient(record["compression_ratio"], against["compression_ratio"])
    if figure == "volume":
        return quotient(record["payload_bytes_per_step"], against["payload_bytes_per_step"])
    if figure == "error":
        key = error_key(found)
        ratio = key and quotient(ours.error_sum(key), other.error_sum(key))
        return ratio if ratio is None or key == SQUARED else f"{ratio:.3f} of summed relative errors |y - s| / |y|, rank 0"
    if figure in ("points", "perplexity"):
        if not ours.metric or not other.metric or (ours.metric["name"] == "perplexity") != (figure == "perplexity"):
            return None
        values = ours.metric["value"], other.metric["value"]
        return values[0] - values[1] if figure == "points" else 100 * (1 - values[0] / values[1])
    if figure == "time":
        target = target_of(runs, work)
        times = [target and seconds_to(run, *target) for run in found]
        if times[0] and times[1]:
            return times[1] / times[0]
        if not target:
            return None
        missed = [label for label, time in zip((of, to), times) if not time]
        return f"{' and '.join(missed)} did not reach {target[0]:.4g}"
    raise ValueError(figure)


FORMS = {"speed": "{:.2f} times", "compression": "{:.2f} times", "ratio": "{:.4g}", "volume": "{:.2f}", "error": "{:.3f}",
         "points": "{:+.2f}", "perplexity": "{:.1f} %", "time": "{:.2f} times"}


def setting_of(runs, work):
    """What a work is here: the largest of its runs."""
    record = max((run.record for run in runs if run.work == work), key=lambda r: r["steps"])
    return f"{work}: {record['model']}, {record['world_size']} x {record['batch_size']}, {record['steps']} steps"


def published_rows(runs, published):
    """What, the published figure, ours, and what ours were measured on."""
    rows = []
    for row in published["rows"]:
        ours, settings, numbers = [], [], []
        rule = row["ours"]
        for work in in_order(r.work for r in runs):
            value = compare(runs, work, rule["figure"], rule["of"], rule.get("to"))
            if value is None:
                continue
            settings.append(setting_of(runs, work))
            if isinstance(value, str):
                ours.append(f"{work}: {value}")
            else:
                numbers.append(value)
                ours.append(f"{work}: " + FORMS[rule["figure"]].format(value))
        if len(numbers) > 1 and "mean" in row["what"]:
            ours.append("mean: " + FORMS[rule["figure"]].format(statistics.mean(numbers)))
        rows.append([row["what"], row["published"], "; ".join(ours) or "not measured here", "; ".join(settings)])
    return rows


# --- pictures --------------------------------------------------------------------------------------------------------

class Painter:
    def __init__(self, out):
        import matplotlib
        matplotlib.use("Agg")
        import matplotlib.pyplot
        self.plt, self.out, self.made = matplotlib.pyplot, out, []
        self.plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 130})

    def panels(self, count, width=5.2, height=3.4):
        columns = min(count, 2)
        rows = (count + columns - 1) // columns
        figure, axes = self.plt.subplots(rows, columns, figsize=(width * columns, height * rows), squeeze=False)
        flat = [axis for row in axes for axis in row]
        for axis in flat[count:]:
            axis.remove()
        return figure, flat[:count]

    def save(self, figure, name, caption):
        figure.tight_layout()
        figure.savefig(self.out / f"{name}.png")
        self.plt.close(figure)
        self.made.append((f"{name}.png", caption))

    def stacks(self, runs, name, caption, label=lambda run: run.method):
        """A bar a method: compute, compression and communication that were waited for, waiting for data."""
        works = in_order(r.work for r in runs)
        figure, axes = self.panels(len(works))
        for axis, work in zip(axes, works):
            mine = [r for r in runs if r.work == work]
            parts = {"compute": [], "compression, exposed": [], "communication, exposed": [], "data": []}
            for run in mine:
                coding, exposed = run.ms("encode") + run.ms("decode"), run.ms("exposed_comm")
                # What the user's thread waited for, in proportion to the work behind it.
                share = coding / (coding + run.ms("comm")) if coding + run.ms("comm") > 0 else 0
                for part, value in zip(parts, (run.ms("compute"), exposed * share, exposed * (1 - share), run.ms("data"))):
                    parts[part].append(value)
            bottom = [0.0] * len(mine)
            for (part, values), colour in zip(parts.items(), ("#4878a8", "#e8a33d", "#c44e52", "#b0b0b0")):
                axis.bar(range(len(mine)), values, bottom=bottom, label=part, color=colour, width=0.65)
                bottom = [a + b for a, b in zip(bottom, values)]
            for x, top in enumerate(bottom):
                axis.text(x, top, f"{top:.0f}" if top >= 100 else f"{top:.3g}", ha="center", va="bottom", fontsize=7)
            axis.set_xticks(range(len(mine)), [label(r) for r in mine], rotation=30, ha="right")
            axis.set_title(work)
            axis.set_ylabel("ms per step")
            axis.margins(y=0.25)  # room for the legend
        axes[0].legend(fontsize=7, frameon=False, ncols=2)
        self.save(figure, name, caption)

    def sweep(self, runs, key):
        works = in_order(r.work for r in runs)
        figure, axes = self.panels(len(works))
        for axis, work in zip(axes, works):
            for method in in_order(r.method for r in runs if r.work == work):
                points = sorted((float(r.variant.split("=")[1]), r.ms("median")) for r in runs if (r.work, r.method) == (work, method))
                axis.plot(*zip(*points), marker="o", markersize=4, label=method)
            axis.set_title(work)
            axis.set_xlabel({"threshold": "fusion threshold, MB"}.get(key, key))
            axis.set_ylabel("ms per step (median)")
            axis.set_ylim(bottom=0)
            axis.legend(fontsize=7, frameon=False)
        self.save(figure, f"sweep-{key}", f"Step time over {key}.")

    def lines(self, runs, name, caption, series, xlabel, ylabel, log=False):
        """series(run): x and y values, or nothing."""
        drawn = [(r, series(r)) for r in runs]
        drawn = [(r, xy) for r, xy in drawn if xy and len(xy[0]) > 0]
        if not drawn:
            return
        works = in_order(r.work for r, _ in drawn)
        figure, axes = self.panels(len(works))
        for axis, work in zip(axes, works):
            for run, (x, y) in drawn:
                if run.work == work:
                    axis.plot(x, y, marker="o" if len(x) < 40 else None, markersize=3, linewidth=1.2, label=run.label)
            axis.set_title(work)
            axis.set_xlabel(xlabel)
            axis.set_ylabel(ylabel if isinstance(ylabel, str) else ylabel(next(r for r, _ in drawn if r.work == work)))
            if log:
                axis.set_yscale("log")
                axis.yaxis.set_major_formatter("{x:g}")
                axis.yaxis.set_minor_formatter("{x:g}")
            axis.legend(fontsize=6, frameon=False)
        self.save(figure, name, caption)


def draw(runs, out):
    painter = Painter(out)
    measured = [r for r in runs if r.ms("mean") is not None]
    plain = [r for r in measured if not r.variant]
    if plain:
        painter.stacks(plain, "step-times", "Mean step. What the training waited for is split in proportion to the compressor's work "
                       "and the time that collectives took; what overlapped with computing is in neither.")
    variants = [r for r in measured if r.variant]
    for key in in_order(r.variant.split("=")[0] for r in variants):
        mine = [r for r in variants if r.variant.split("=")[0] == key]
        if all(re.fullmatch(r"[^=]+=[0-9.]+", r.variant) for r in mine) and len({r.variant for r in mine}) > 1:
            painter.sweep(mine, key)
        else:
            painter.stacks(mine, f"step-times-{key}", f"Mean step by {key}.", lambda r: f"{r.method} {r.variant.split('=')[-1]}")
    name = lambda run: run.epochs[0]["eval"]["name"]
    value = lambda run: [line["eval"]["value"] for line in run.epochs]
    painter.lines(runs, "metric-over-time", "The metric over the time spent in training steps (evaluations left out).",
                  lambda r: r.epochs and ([line["train_seconds"] for line in r.epochs], value(r)), "seconds of training", name)
    painter.lines(runs, "metric-over-bytes", "The metric over what a rank has put into collectives.",
                  lambda r: r.epochs and ([line["payload_bytes"] / 1e6 for line in r.epochs], value(r)), "MB of payload a rank", name)
    painter.lines(runs, "ratio-over-steps", "Compression ratio of each step (mean of two: ACP-SGD takes turns).",
                  lambda r: r.record["compressor"] != "none" and ratio_series(r), "step", "dense / payload", log=True)
    key = error_key(runs)
    if key:
        painter.lines(runs, "compression-error", "What compression left out of rank 0's steps (y to be sent, s sent), added up: "
                      f"{ERROR_NAMES[key]}.", lambda r: error_series(r, key), "step", ERROR_NAMES[key])
    return painter.made


def ratio_series(run):
    pairs, i = [], 0
    while i + 1 < len(run.steps):  # with a gap in the log, two lines may be of the same turn
        is_pair = run.steps[i + 1]["step"] - run.steps[i]["step"] == 1
        if is_pair:
            pairs.append(run.steps[i:i + 2])
        i += 2 if is_pair else 1
    sums = [(p[1]["step"], sum(s["dense_bytes"] for s in p), sum(s["payload_bytes"] for s in p)) for p in pairs]
    sums = [s for s in sums if s[2] > 0]
    return [s[0] for s in sums], [s[1] / s[2] for s in sums]


def error_series(run, key):
    steps, errors = run.errors(key)
    return steps, list(itertools.accumulate(errors))


# --- the page --------------------------------------------------------------------------------------------------------

STYLE = ("body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}"
         "table{border-collapse:collapse;margin:1em 0;font-size:13px}td,th{border:1px solid #ccc;padding:3px 8px;text-align:left}"
         "th{background:#f2f2f2}td.n{text-align:right}img{max-width:100%}figure{margin:1.5em 0}figcaption{color:#555;font-size:13px}")


def table(header, rows):
    text = "<table><tr>" + "".join(f"<th>{html.escape(h)}</th>" for h in header) + "</tr>\n"
    for row in rows:
        cells = []
        for cell in row:
            number = isinstance(cell, (int, float))
            shown = "" if cell is None else f"{cell:.5g}" if number else html.escape(str(cell))
            cells.append(f"<td{' class=n' if number else ''}>{shown}</td>")
        text += "<tr>" + "".join(cells) + "</tr>\n"
    return text + "</table>\n"


def write_page(runs, pictures, published, compared, title, out):
    parts = [f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title><style>{STYLE}</style>",
             f"<h1>{html.escape(title)}</h1>"]
    if published:
        first = runs[0].record
        parts.append("<h2>Published and ours</h2>")
        parts.append(f"<p>{html.escape(published['paper'])}. Published: {html.escape(published['setting'])}.</p>")
        parts.append(f"<p>Ours: {first['world_size']} ranks over {html.escape(first['backend'])}, "
                     "models and lengths as in the table below, scaled down unless the scale is 2; no slow link unless the title names "
                     "one, so what compression saves in time shows only where links are limited.</p>")
        parts.append(table(["what", "published", "ours, scaled", "our set-up"], compared))
    for file, caption in pictures:
        data = base64.b64encode((out / file).read_bytes()).decode()
        parts.append(f'<figure><img alt="{html.escape(caption)}" src="data:image/png;base64,{data}">'
                     f"<figcaption>{html.escape(caption)}</figcaption></figure>")
    if not pictures:
        parts.append("<p>No pictures: matplotlib is missing (python3-matplotlib, or a way to PyPI).</p>")
    parts.append("<h2>All runs</h2>")
    rows = []
    for run in runs:
        r = run.record
        rows.append([run.work, run.method, run.variant, r["model"], r["compressor"], r["policy"], r["world_size"], r["batch_size"],
                     run.ms("median"), run.ms("compute"), run.ms("exposed_comm"), run.ms("encode"), run.ms("decode"), run.ms("comm"),
                     r["samples_per_second"], r["payload_bytes_per_step"] and r["payload_bytes_per_step"] / 1e6, r["compression_ratio"],
                     run.metric and f"{run.metric['name']} {run.metric['value']:.4g}"])
    parts.append(table(["work", "method", "variant", "model", "compressor", "policy", "ranks", "batch", "ms/step", "compute", "exposed",
                        "encode", "decode", "comm.", "samples/s", "MB/step", "ratio", "metric"], rows))
    (out / "index.html").write_text("\n".join(parts), encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUNS.json")
    parser.add_argument("--out", default=".", type=Path)
    parser.add_argument("--title", default="acp-train")
    parser.add_argument("--metrics", metavar="DIR")
    parser.add_argument("--batch", metavar="NAME")
    options = parser.parse_args()
    for file in options.runs:
        if not os.path.isfile(file):
            sys.exit(f"plot.py: {file}: no such file")
    published = None
    if options.batch:
        known = json.loads((HERE / "published.json").read_text())
        published = known.get(options.batch) or sys.exit(f"plot.py: --batch {options.batch}: known: {', '.join(known)}")
    records = read_lines(options.runs)
    if not records:
        sys.exit("plot.py: no runs in " + ", ".join(options.runs))
    newest = {r.get("name") or f"run {i}": r for i, r in enumerate(records)}
    runs = [Run(record, options.metrics) for record in newest.values()]
    options.out.mkdir(parents=True, exist_ok=True)
    has_matplotlib = provide_matplotlib()
    write_csv(runs, options.out / "runs.csv")
    pictures = draw(runs, options.out) if has_matplotlib else []
    compared = published_rows(runs, published) if published else []
    write_page(runs, pictures, published, compared, options.title, options.out)
    if published:
        print("published | ours, scaled | our set-up")
        for what, theirs, ours, setting in compared:
            print(f"{what}:\n  {theirs} | {ours} | {setting}")


main()
