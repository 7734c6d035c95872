"""A log on Citus against one PostgreSQL server: times of calls, throughput of one and two workers, CPU time, bytes.

A coordinator and two workers run on this machine, with a plain database on the coordinator's server. All have the same
programs, and wait for no disk unless you ask for it. The savers make the same calls in turns: on the plain database,
through the coordinator, on the worker that has the thread, and on the other one. A conversation has twenty steps, each
a `put`, a `put_writes` and a `get_tuple`.

    python bench/citus.py --programs /path/to/postgres/bin [--quick] [--durable] [--json FILE]

All nodes and clients share this machine's cores. So what several machines would do is computed from the CPU time that a
call takes on each node, and marked as computed. With ``--durable`` commits wait for the disk that TMPDIR is on.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table

from bench.workers import STEPS, Step, Worker, states
from langgraph.checkpoint.eventlog import EventLogSaver
from tests.support.cluster import Cluster, Node, run_cluster

#: Where a saver is connected, seen from its thread.
PLAIN, COORDINATOR, WORKER, OTHER = "plain PostgreSQL", "coordinator", "the thread's worker", "the other worker"
CALLS = ("put", "put_writes", "get_tuple")
SHARDS = 8
#: Workers of the cluster for which a throughput is computed.
COMPUTED = (1, 2, 4, 8)
#: Client processes of the measured throughput.
CLIENTS = 4

TABLES = ("streams", "events", "checkpoints", "snapshots")
DURABLE: Any = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
TICK = os.sysconf("SC_CLK_TCK")


class Log:
    """The databases of one run.

    Args:
        cluster: with two workers.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.nodes = cluster.nodes
        self._name, self._plain = cluster.create_database(), cluster.create_plain_database()
        self.coordinator, self.plain = cluster.uri(self._name), cluster.uri(self._plain)
        with EventLogSaver.from_conn_string(self.plain) as saver:
            saver.setup()
        with EventLogSaver.from_conn_string(self.coordinator) as saver:
            saver.setup(citus=True, shards=SHARDS)
        self.conn = psycopg.connect(self.coordinator, autocommit=True)
        self._conversations = 0

    def uri(self, where: str, worker: Node) -> str:
        """To connect to, for a thread of that worker."""
        if where in (PLAIN, COORDINATOR):
            return self.plain if where == PLAIN else self.coordinator
        (other,) = (node for node in self.nodes[1:] if node is not worker)
        return (worker if where == WORKER else other).uri(self._name)

    def names(self, worker: Node, count: int) -> list[str]:
        """Names for `bench.workers.Worker`, of which the first thread is on that worker."""
        self._conversations += 1
        found = self.conn.execute(
            """
            select t.name from (
                select format('bench %%s %%s', %s::int, n) as name from generate_series(1, %s::int) as n
            ) as t
            inner join pg_dist_placement as p
                on p.shardid = get_shard_id_for_distribution_column('eventlog.streams', t.name || ', 0')
            inner join pg_dist_node as n on n.groupid = p.groupid
            where n.nodeport = %s limit %s
            """,
            (self._conversations, 8 * count + 64, worker.port, count),
        ).fetchall()
        return [name for (name,) in found]

    def bytes(self) -> tuple[int, int]:
        """Of the tables with their indexes: plain, and of all shards."""
        with psycopg.connect(self.plain) as conn:
            (plain,) = conn.execute(
                "select sum(pg_total_relation_size(t.relid)) from unnest(%s::text[]) as n (name),"
                " pg_partition_tree(('eventlog.' || n.name)::regclass) as t",
                (list(TABLES),),
            ).fetchone() or (0,)
        parts = self.conn.execute(
            "select sum(citus_total_relation_size(t.relid)) from unnest(%s::text[]) as n (name),"
            " pg_partition_tree(('eventlog.' || n.name)::regclass) as t where t.isleaf",
            (list(TABLES),),
        ).fetchone() or (0,)
        return int(plain), int(parts[0])


def run(saver: EventLogSaver, step: Step) -> tuple[float, float, float]:
    """The seconds of a step's calls."""
    times = [time.perf_counter()]
    saver.put(*step.put)
    times.append(time.perf_counter())
    saver.put_writes(*step.put_writes)
    times.append(time.perf_counter())
    step.check(saver.get_tuple(step.get_tuple))
    times.append(time.perf_counter())
    return times[1] - times[0], times[2] - times[1], times[3] - times[2]


def cpu(node: Node) -> float:
    """Seconds of CPU time that a server has used so far, of all its processes."""
    postmaster = int((node.data / "postmaster.pid").read_text().split("\n")[0])
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    # Its own with its ended children, and of each child its own.
    return _ticks(postmaster, 4) + sum(_ticks(int(child), 2) for child in children)


def _ticks(pid: int, fields: int) -> float:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return 0.0
    return sum(map(int, stat.rpartition(")")[2].split()[11 : 11 + fields])) / TICK


def measure_calls(log: Log, conversations: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each call, the median: all ways in turns, one thread of calls."""
    times: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    data = states()
    ways = (PLAIN, COORDINATOR, WORKER, OTHER)
    with ExitStack() as stack:
        savers: dict[str, EventLogSaver] = {}

        def saver_at(uri: str) -> EventLogSaver:
            if uri not in savers:
                savers[uri] = stack.enter_context(EventLogSaver.from_conn_string(uri, pool_max_size=1))
            return savers[uri]

        for number in range(conversations):
            worker = log.nodes[1 + number % 2]
            names = log.names(worker, len(ways))
            steps = {
                way: (saver_at(log.uri(way, worker)), Worker(name, data).steps())
                for way, name in zip(ways, names, strict=True)
            }
            for count in range(STEPS):
                for way, (saver, going) in steps.items():
                    found = run(saver, next(going))
                    if count:  # The first append of a thread makes its stream.
                        for call, seconds in zip(CALLS, found, strict=True):
                            times[way][call].append(seconds * 1000)
    return {way: {call: median(each) for call, each in calls.items()} for way, calls in times.items()}


def measure_cpu(log: Log, conversations: int) -> dict[str, dict[str, float]]:
    """Milliseconds of CPU time of an append, on each node and in the client: put and put_writes count as two."""
    found: dict[str, dict[str, float]] = {}
    data = states()
    for way in (PLAIN, COORDINATOR, WORKER, OTHER):
        worker = log.nodes[1]
        with EventLogSaver.from_conn_string(log.uri(way, worker), pool_max_size=1) as saver:
            names = log.names(worker, conversations)
            _append(saver, names[:1], data)  # Plans and caches are warm then.
            client, before = time.process_time(), [cpu(node) for node in log.nodes]
            _append(saver, names[1:], data)
            used = [cpu(node) - each for node, each in zip(log.nodes, before, strict=True)]
            client = time.process_time() - client
        appends = (len(names) - 1) * STEPS * 2
        servers = {PLAIN: used[0]} if way == PLAIN else {COORDINATOR: used[0], WORKER: used[1], OTHER: used[2]}
        found[way] = {name: each / appends * 1000 for name, each in {**servers, "client": client}.items()}
    return found


def _append(saver: EventLogSaver, names: list[str], data: Any) -> None:
    for name in names:
        for step in islice(Worker(name, data).steps(), STEPS):
            saver.put(*step.put)
            saver.put_writes(*step.put_writes)


def measure_throughput(log: Log, seconds: float) -> dict[str, float]:
    """Appends per second of four client processes, with one worker and with two. The clients are on the workers."""
    first, second = log.nodes[1:]
    found = {}
    for title, nodes in (("one worker", [first] * CLIENTS), ("two workers", [first, second] * (CLIENTS // 2))):
        children = [
            subprocess.Popen(
                [sys.executable, __file__, "--child", log.uri(WORKER, node), "--seconds", str(seconds)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for node in nodes
        ]
        for child, node in zip(children, nodes, strict=True):
            assert child.stdin is not None
            child.stdin.write(json.dumps(log.names(node, round(40 * seconds))))
            child.stdin.close()
        rates = []
        for child in children:
            assert child.stdout is not None
            rates.append(json.loads(child.stdout.read())["rate"])
            child.wait()
        found[title] = sum(rates)
    return found


def append_for(uri: str, names: list[str], seconds: float) -> None:
    """Run in a separate process: prints the appends per second."""
    data, appends = states(), 0
    with EventLogSaver.from_conn_string(uri, pool_max_size=1) as saver:
        _append(saver, names[:1], data)
        began = time.perf_counter()
        for name in names[1:]:
            _append(saver, [name], data)
            appends += 2 * STEPS
            if time.perf_counter() - began > seconds:
                break
        print(json.dumps({"rate": appends / (time.perf_counter() - began)}))


def compute(used: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Appends per second and core of a node, from the CPU time of an append."""
    local = used[WORKER][WORKER]
    # On a worker that does not have the thread, and on the coordinator.
    hop, front = used[OTHER][OTHER], used[COORDINATOR][COORDINATOR]
    behind = used[COORDINATOR][WORKER]
    found: dict[str, dict[str, float]] = {PLAIN: {"clients on the server": 1000 / used[PLAIN][PLAIN]}}
    for workers in COMPUTED:
        away = 1 - 1 / workers
        found[f"{workers} workers" if workers > 1 else "1 worker"] = {
            "clients on the workers": workers * 1000 / (local + away * hop),
            "clients on the coordinator": min(workers * 1000 / behind, 1000 / front),
        }
    return found


def main() -> None:
    """Measure, and show the figures."""
    parser = argparse.ArgumentParser(description="Measures a log on Citus.")
    parser.add_argument("--programs", type=Path, help="PostgreSQL's programs, with Citus installed")
    parser.add_argument("--quick", action="store_true", help="less than two minutes")
    parser.add_argument("--durable", action="store_true", help="commits wait for the disk")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        append_for(given.child, json.load(sys.stdin), given.seconds)
        return
    if given.programs is None:
        parser.error("give --programs")
    console = Console(stderr=True)
    scale = 1 if given.quick else 5
    with run_cluster(given.programs, workers=2, **(DURABLE if given.durable else {})) as cluster:
        log = Log(cluster)
        with console.status("Calls in turns"):
            times = measure_calls(log, 12 * scale)
        before = log.bytes()
        with console.status("CPU time"):
            used = measure_cpu(log, 1 + 20 * scale)
        # As many conversations plain as on each of three ways of the cluster.
        events = (1 + 20 * scale) * STEPS * 2
        after = log.bytes()
        with console.status("Throughput"):
            rates = measure_throughput(log, 4.0 * scale)
        log.conn.close()
    figures: dict[str, Any] = {
        "milliseconds of a call": times,
        "times plain PostgreSQL": {
            way: {call: each / times[PLAIN][call] for call, each in calls.items()} for way, calls in times.items()
        },
        "CPU milliseconds of an append": used,
        "appends per second, measured on these cores": rates,
        "appends per second and core of a node, computed": compute(used),
        "bytes of an event, with indexes and projections": {
            PLAIN: {"bytes": (after[0] - before[0]) / events},
            "Citus": {"bytes": (after[1] - before[1]) / events / 3},
        },
        "this machine": {"cores": os.cpu_count() or 0, "peak MiB of the client": peak()},
    }
    for title, rows in figures.items():
        show(title, rows)
    if given.json:
        given.json.write_text(json.dumps({**figures, "durable": given.durable}, indent=2))


def peak() -> float:
    """The most memory that this process has used, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def show(title: str, rows: dict[str, Any]) -> None:
    """Print a table: each row a figure, or figures by name."""
    nested = {name: row if isinstance(row, dict) else {"": row} for name, row in rows.items()}
    columns = list(dict.fromkeys(column for row in nested.values() for column in row))
    table = Table(title, *columns)
    for name, row in nested.items():
        table.add_row(name, *(f"{row[column]:,.2f}" if column in row else "" for column in columns))
    Console().print(table)


if __name__ == "__main__":
    main()
