"""Apache Kafka from the command line.

python tests/kafka/broker.py start [--nodes 3 | --tiered | --secure] [--data DIR] [--address-file FILE]
    runs brokers in the foreground until SIGTERM or SIGINT, and prints their addresses. Without --data nothing is left behind.
python tests/kafka/broker.py prepare
    fetches the jars, and makes brokers start in half the time from then on, once for a machine.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

import jars
from cluster import Cluster
from processes import BrokerFailed
from properties import Shape
from security import LISTENERS

CANNOT = 2


class Recorder(Cluster):
    """A cluster whose programs write down, as they end, which classes they loaded."""

    def _archive(self, name: str) -> list[str]:
        return [f"-XX:ArchiveClassesAtExit={self.recorded(name)}"]

    def recorded(self, name: str) -> Path:
        """The archive before it is in its place."""
        path = jars.archive(name)
        return path.with_name(f"{path.name}.{os.getpid()}")


def prepare() -> None:
    """Fetches the jars and records the archives of classes, where they are not there yet."""
    if all(jars.archive(name).exists() for name in ("format", "broker")):
        return
    print("preparing Apache Kafka for quick starts, once for this machine (half a minute)", file=sys.stderr)
    cluster = Recorder()
    with cluster:
        cluster.stop()
        for name in ("format", "broker"):
            if cluster.recorded(name).exists():
                cluster.recorded(name).rename(jars.archive(name))


def start(args: argparse.Namespace) -> None:
    """Runs a cluster until a signal comes or a node ends."""
    config = dict(each.split("=", 1) for each in args.config)
    shape = Shape(args.nodes, args.tiered, args.secure, heap=args.heap, fast_start=not args.bench, config=config)
    with Cluster(shape, args.data) as cluster:
        lines = [cluster.bootstrap]
        if cluster.security:
            clients = {
                name: {"bootstrap.servers": cluster.address(name), **cluster.security.client(name)} for name in LISTENERS
            }
            lines.append(json.dumps(clients, indent=2))
        print("\n".join(lines), flush=True)
        memory = ", ".join(f"{cluster.memory(node)[0] >> 20} MiB" for node in cluster.nodes)
        print(f"ready after {cluster.started_in:.1f} s; memory {memory}; data in {cluster.folder}", file=sys.stderr)
        if args.address_file:
            part = args.address_file.with_name(f"{args.address_file.name}.part")
            part.write_text(cluster.bootstrap + "\n")
            part.rename(args.address_file)
        while all(cluster.is_running(node) for node in cluster.nodes):
            time.sleep(0.2)
        raise BrokerFailed("\n".join(f"node {node} ended; its log ends with\n{cluster.log(node)}" for node in cluster.nodes))


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("prepare", help="fetch the jars, make starts quick")
    add = commands.add_parser("start", help="run brokers in the foreground").add_argument
    add("--nodes", type=int, default=1, choices=(1, 3), help="3: replicas 3, at least 2 in sync (1)")
    add("--tiered", action="store_true", help="tiered storage in the data folder, for topics with remote.storage.enable=true")
    add("--secure", action="store_true", help="also listeners with TLS and SASL; prints the clients' settings as JSON")
    add("--data", type=Path, metavar="DIR", help="keep data and ports here (a temporary folder, removed at the end)")
    add("--address-file", type=Path, metavar="FILE", help="write the bootstrap addresses to a file once the brokers are ready")
    add("--heap", default="512m", help="of each node (512m)")
    add("--bench", action="store_true", help="Java's full compiler and its usual collector: slower to start, faster later")
    add("--config", action="append", default=[], metavar="KEY=VALUE", help="a broker setting; may be repeated")
    return parser


def interrupted(*_: object) -> None:
    """A signal ends the foreground in order."""
    raise KeyboardInterrupt


def main() -> int:
    """Runs a command; the exit status."""
    args = arguments().parse_args()
    signal.signal(signal.SIGTERM, interrupted)
    try:
        if args.command == "prepare":
            prepare()
        else:
            start(args)
    except KeyboardInterrupt:
        return 0
    except (jars.Missing, BrokerFailed) as error:
        print(f"error: {error}", file=sys.stderr)
        return CANNOT
    return 0


if __name__ == "__main__":
    sys.exit(main())
