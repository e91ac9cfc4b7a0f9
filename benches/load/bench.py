#!/usr/bin/env python3
"""Measures iSCSI targets beside one another with ./iload. Destroys the data of their LUNs.

    bench.py --target name=tgt,portal=127.0.0.1:4000,iqn=iqn.x,lun=1,pid=123 \\
             --target name=huntaway,portal=127.0.0.1:4001,iqn=iqn.y,lun=0,pid=124+125 --pin 1

For each load and round every target is measured once, in turn (A B A B ...), so that noise of the machine hits all alike.
Each measurement is a JSON line in --out. The table at the end has medians over the rounds; ratios are to the first target.
`bench.py --table FILE` prints the table of an earlier run.

With --pin all threads of the targets and the load generator share one CPU: then the IOPS are the inverse of the whole path's
CPU cost, which is the steadiest figure on a shared machine. The CPU time of a target is that of its processes (pid=).
benches/load/compare starts huntaway and tgt and calls this.
"""

import argparse
import glob
import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass

HERE = os.path.dirname(os.path.abspath(__file__))

# name: mode, bytes of an I/O, depth, sessions, digests
LOADS = {
    "read 4k q1": ("randread", "4k", 1, 1, "n"),
    "write 4k q1": ("randwrite", "4k", 1, 1, "n"),
    "read 4k q32": ("randread", "4k", 32, 1, "n"),
    "write 4k q32": ("randwrite", "4k", 32, 1, "n"),
    "read 4k q32 x4": ("randread", "4k", 32, 4, "n"),
    "write 4k q32 x4": ("randwrite", "4k", 32, 4, "n"),
    "70% read 4k q32": ("randrw", "4k", 32, 1, "n"),
    "read 64k q8": ("randread", "64k", 8, 1, "n"),
    "write 64k q8": ("randwrite", "64k", 8, 1, "n"),
    "read 1m q8": ("read", "1m", 8, 1, "n"),
    "write 1m q8": ("write", "1m", 8, 1, "n"),
    "read 4k q32, digests": ("randread", "4k", 32, 1, "hd"),
    "write 4k q32, digests": ("randwrite", "4k", 32, 1, "hd"),
    "read 1m q8, digests": ("read", "1m", 8, 1, "hd"),
    "write 1m q8, digests": ("write", "1m", 8, 1, "hd"),
    "write through 4k q1": ("fua", "4k", 1, 1, "n"),
    "write + flush 4k q1": ("flush", "4k", 1, 1, "n"),
}
QUICK = ["read 4k q1", "write 4k q1", "read 4k q32", "write 4k q32", "read 1m q8", "write 1m q8"]


@dataclass
class Target:
    """One side of the comparison."""

    name: str
    portal: str
    iqn: str
    lun: str
    pids: list[int]

    @staticmethod
    def parse(text: str) -> "Target":
        fields = dict(part.split("=", 1) for part in text.split(","))
        pids = [int(pid) for pid in fields["pid"].split("+")]
        return Target(fields["name"], fields["portal"], fields["iqn"], fields.get("lun", "0"), pids)

    def pin(self, cpus: set[int]) -> None:
        for pid in self.pids:
            for task in glob.glob(f"/proc/{pid}/task/[0-9]*"):
                os.sched_setaffinity(int(os.path.basename(task)), cpus)


def iload(args: argparse.Namespace, target: Target, options: list[str]) -> dict:
    """Runs the load generator once. A failure is an answer with the key `error`."""
    command = ["taskset", "-c", str(args.pin)] if args.pin is not None else []
    command += [args.iload, "-p", target.portal, "-t", target.iqn, "-l", target.lun, "-P", ",".join(map(str, target.pids))]
    command += options
    if args.span:
        command += ["-s", args.span]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=args.seconds + args.warm + 300, check=False)
        answer = json.loads(run.stdout)
    except (subprocess.TimeoutExpired, json.JSONDecodeError) as error:
        return {"error": str(error)}
    if run.returncode:
        answer["error"] = run.stderr.strip() or f"exit status {run.returncode}"
    return answer


def measure(args: argparse.Namespace, target: Target, load: str) -> dict:
    mode, size, depth, sessions, digests = LOADS[load]
    options = ["-w", mode, "-b", size, "-q", str(depth), "-c", str(sessions), "-d", digests]
    options += ["-T", str(args.seconds), "-W", str(args.warm)]
    if args.verify:
        options += ["-V"] + (["-F"] if mode in ("randread", "read", "randrw") else [])
    answer = iload(args, target, options)
    if digests == "hd" and "error" not in answer and not (answer["hd"] and answer["dd"]):
        answer["error"] = "the target refused digests"
    return {"load": load, "target": target.name, **answer}


def run(args: argparse.Namespace, targets: list[Target], loads: list[str]) -> list[dict]:
    """Measures everything in turn and writes each measurement to --out."""
    measurements = []
    with open(args.out, "w", encoding="utf-8") as out:
        for target in targets:  # holes are cheap to read: write every block once
            iload(args, target, ["-w", "write", "-b", "1m", "-q", "8", "-T", "0", "-W", "0", "-F"])
        for number in range(args.rounds):
            for load in loads:
                for target in targets:
                    measurement = {"round": number, **measure(args, target, load)}
                    out.write(json.dumps(measurement) + "\n")
                    out.flush()
                    measurements.append(measurement)
                    if "error" in measurement:
                        print(f"{target.name}: {load}: {measurement['error']}", file=sys.stderr)
    return measurements


def table(measurements: list[dict]) -> str:
    """A Markdown table of the medians."""
    lines = [
        "| load | target | n | IOPS (least..most) | MB/s | p50 us | p99 us | CPU us per I/O | IOPS ratio | CPU ratio |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    names = list(dict.fromkeys(m["target"] for m in measurements))
    for load in dict.fromkeys(m["load"] for m in measurements):
        base = None
        for name in names:
            good = [m for m in measurements if m["load"] == load and m["target"] == name and "error" not in m]
            if not good:
                lines.append(f"| {load} | {name} | 0 | | | | | | | |")
                continue
            iops = statistics.median(m["iops"] for m in good)
            cpu = statistics.median(m["tgt_us_per_io"] for m in good)
            rate = statistics.median(m["MBps"] for m in good)
            p50 = statistics.median(m["lat_us"]["p50"] for m in good)
            p99 = statistics.median(m["lat_us"]["p99"] for m in good)
            base = base or (iops, cpu)
            least, most = min(m["iops"] for m in good), max(m["iops"] for m in good)
            iops_ratio = f"{iops / base[0]:.2f}" if base[0] else ""
            cpu_ratio = f"{cpu / base[1]:.2f}" if base[1] else ""
            lines.append(
                f"| {load} | {name} | {len(good)} | {iops:.0f} ({least:.0f}..{most:.0f}) | {rate:.1f} | {p50:.0f} | {p99:.0f}"
                f" | {cpu:.2f} | {iops_ratio} | {cpu_ratio} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", action="append", default=[], metavar="name=,portal=,iqn=,lun=,pid=")
    parser.add_argument("--loads", default="all", help="all, quick, or names joined by ';': " + "; ".join(LOADS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2, help="of each measurement")
    parser.add_argument("--warm", type=float, default=0.4, help="seconds before each measurement")
    parser.add_argument("--span", help="use only so much of the LUNs, e.g. 512m")
    parser.add_argument("--verify", action="store_true", help="check all data that is read (costs CPU on the initiator's side)")
    parser.add_argument("--pin", type=int, metavar="CPU", help="put the targets and the load generator on this CPU")
    parser.add_argument("--iload", default=os.path.join(HERE, "iload"))
    parser.add_argument("--out", default="bench.jsonl")
    parser.add_argument("--table", metavar="FILE", help="only print the table of this file")
    args = parser.parse_args()

    if args.table:
        with open(args.table, encoding="utf-8") as file:
            print(table([json.loads(line) for line in file]))
        return
    targets = [Target.parse(text) for text in args.target]
    if not targets:
        parser.error("--target is missing")
    loads = {"all": list(LOADS), "quick": QUICK}.get(args.loads) or args.loads.split(";")
    if args.pin is not None:
        for target in targets:
            target.pin({args.pin})
    measurements = run(args, targets, loads)
    print(table(measurements))
    sys.exit(1 if any("error" in m for m in measurements) else 0)


if __name__ == "__main__":
    main()
