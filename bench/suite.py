"""The whole suite: our savers beside the incumbent's and the floor, on one server, in one run. Writes a results file.

python bench/suite.py [--quick] [--only agent,channels] [--uri URI | --programs DIR] [--out docs/benchmarks.json]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import psycopg
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from typing_extensions import LiteralString

from bench import conversation
from bench.context import Context, Scale
from bench.headlines import HEADLINES, find
from bench.results import Measure, Results, now, these_versions, this_machine
from bench.show import figure, times
from bench.workloads import WORKLOADS, Workload
from eventlog.embedded import embedded_server
from tests.support.server import run_server

__all__ = ["main", "run"]

console = Console()

Options = dict[str, str | int | bool]

#: A server checkpoint or vacuum that one saver's bytes cause would slow the saver that runs at that moment.
QUIET: tuple[LiteralString, ...] = (
    "alter system set checkpoint_timeout = '1h'",
    "alter system set max_wal_size = '16GB'",
    "alter system set autovacuum = off",
    "select pg_reload_conf()",
)


def run(uri: str, chosen: Sequence[tuple[str, Workload]], scale: Scale, options: Options) -> Results:
    """Measure the chosen workloads on a server, with a bar for each.

    Raises:
        SystemExit: when savers disagree about what was saved.
    """
    with psycopg.connect(uri, autocommit=True) as conn:
        row = conn.execute("show server_version").fetchone()
    assert row is not None
    # Read it now: the code on disk may change during the run.
    versions = these_versions(str(row[0]).split(" ")[0])
    began, started, measures, took = now(), time.perf_counter(), list[Measure](), dict[str, float]()
    columns = (TextColumn("{task.description:>12}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        for name, workload in chosen:
            task = progress.add_task(name, total=1.0)
            context = Context(uri, scale, partial(_tell, progress, task))
            begun = time.perf_counter()
            measures += workload(context)
            took[name] = round(time.perf_counter() - begun, 1)
            progress.update(task, completed=1.0)
            progress.stop_task(task)
    return Results(
        measured_at=began,
        seconds=round(time.perf_counter() - started, 1),
        took=took,
        machine=this_machine(),
        versions=versions,
        options=options,
        measures=measures,
    )


def _tell(progress: Progress, task: TaskID, done: float) -> None:
    progress.update(task, completed=done)


def show(results: Results) -> None:
    """Print a table of all measures, and the headlines."""
    table = Table(title=f"{len(results.measures)} figures in {results.seconds:.0f} s")
    for heading in ("workload", "", "eventlog", "postgres", "ratio", "floor", "× floor"):
        table.add_column(heading, justify="left" if heading in ("workload", "") else "right")
    for workload, measures in results.workloads().items():
        for number, each in enumerate(measures):
            table.add_row(
                workload if not number else "",
                each.name,
                figure(each.eventlog, each.unit),
                figure(each.postgres, each.unit),
                times(each.ratio),
                figure(each.floor, each.unit),
                times(each.over_floor),
                end_section=number == len(measures) - 1,
            )
    console.print(table)
    console.print(f"Of them {', '.join(f'{name} {seconds:.0f} s' for name, seconds in results.took.items())}.")
    felt = Table("", "times better", title="What users feel")
    for headline in HEADLINES:
        if (measure := find(headline, results)) is not None:
            felt.add_row(headline.says, times(measure.ratio))
    console.print(felt)


@contextlib.contextmanager
def server(uri: str | None, programs: Path | None = None) -> Iterator[str]:
    """The given server; or a private one, embedded or from `programs`."""
    if uri:
        yield uri
        return
    if programs is not None:
        # On a disk, as the embedded one.
        os.environ.setdefault("TMPDIR", tempfile.gettempdir())
        os.environ["EVENTLOG_TEST_PG_BIN"] = str(programs)
        with run_server(fsync="on", synchronous_commit="on", full_page_writes="on") as made:
            with psycopg.connect(made.uri("postgres"), autocommit=True) as conn:
                for setting in QUIET:
                    conn.execute(setting)
            yield made.uri("postgres")
        return
    with tempfile.TemporaryDirectory() as folder, embedded_server(Path(folder) / "pg") as made:
        with psycopg.connect(made, autocommit=True) as conn:
            for setting in QUIET:
                conn.execute(setting)
        yield made


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse arguments, measure, write the file, print."""
    names = [name for name, _ in WORKLOADS]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    scales = parser.add_mutually_exclusive_group()
    scales.add_argument("--quick", action="store_const", const="quick", dest="scale", help="less of everything")
    scales.add_argument("--tiny", action="store_const", const="tiny", dest="scale", help="only to see that it runs")
    parser.add_argument("--only", help=f"of {', '.join(names)}: these, with commas between them")
    parser.add_argument("--uri", help="a server where databases can be made; by default an embedded one is started")
    parser.add_argument("--programs", type=Path, metavar="DIR", help="of PostgreSQL: start that server instead")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the results there, as JSON")
    parser.add_argument("--incompressible", action="store_true", help="random text instead of prose")
    args = parser.parse_args(arguments)
    only = args.only.split(",") if args.only else names
    if unknown := [name for name in only if name not in names]:
        parser.error(f"unknown workload {', '.join(unknown)}; there are {', '.join(names)}")
    scale: Scale = args.scale or "full"
    conversation.incompressible = args.incompressible
    chosen = [(name, workload) for name, workload in WORKLOADS if name in only]
    options: Options = {
        "scale": scale,
        "only": ",".join(only) if args.only else "",
        "incompressible": args.incompressible,
        "server": "given" if args.uri else "installed" if args.programs else "embedded",
    }
    with server(args.uri, args.programs) as uri:
        results = run(uri, chosen, scale, options)
    if args.out is not None:
        results.save(args.out)
    show(results)


if __name__ == "__main__":
    main()
