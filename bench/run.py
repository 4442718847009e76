"""One table: how many trades a second each contestant delivers, beside the floors, in one run on this machine.

    python bench/run.py [--frames 300000] [--rounds 3] [--only cryptofeed,floor] [--profile]

A server in its own process (and on its own core, where there are two) sends the frames as fast as they are read. Each
contestant runs alone, in a fresh process, once per round; the rounds are interleaved, so that a busy moment of the
machine hits all of them. Compare the ratios: the absolute figures belong to the machine.
"""

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Self

HERE = Path(__file__).resolve().parent
FLOOR, PEER, SLOW = "floor", "cryptofeed", "ccxt.pro"
CONTESTANTS = {  # name: (script, what it does)
    "socket": ("floors.py", "bytes off a socket: the server's speed"),
    "websockets": ("floors.py", "receive only"),
    "websockets+msgspec": ("floors.py", "receive and typed decode"),
    "picows": ("floors.py", "receive only"),
    FLOOR: ("floors.py", "picows and typed decode, text prices"),
    PEER: ("peers.py", "callback that counts"),
    SLOW: ("peers.py", "watch_trades_for_symbols"),
    "tradeflood+websockets": ("ours.py", "Trade objects"),
    "tradeflood+picows": ("ours.py", "Trade objects"),
    "one by one": ("ours.py", "Trade objects, one by one, websockets"),
    "durable": ("ours.py", "into chdb, websockets"),
}
FEWER = {SLOW: 100_000}  # so slow that it would take most of the time of the bench
ENOUGH = 100_000  # frames from which on a rate means something
LIMIT = 30.0  # seconds for one contestant in one round
BUDGET = 150.0  # seconds after which no further round begins


class Server:
    """The frames server as a child process, alive between `with` and its end."""

    def __init__(self, frames: int) -> None:
        command = [sys.executable, str(HERE / "frames_server.py"), "--frames", str(frames)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        words = (self.process.stdout.readline() or "the frames server did not start").split()
        if words[0] != "ready":
            self.__exit__()
            raise SystemExit(" ".join(words))
        self.port = int(words[1])
        return self

    def __exit__(self, *failure: object) -> None:
        self.process.terminate()
        self.process.wait(10)

    def sends(self, frames: int, *, raw: bool) -> int:
        """The number of frames that the next connection is sent; the server rounds up to whole chunks."""
        query = f"frames={frames}" + ("&form=raw" if raw else "")
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/bench?{query}", timeout=60) as reply:
            return json.load(reply)["frames"]


def measured(name: str, server: Server, frames: int) -> dict[str, object]:
    """The result of one contestant in a fresh process; `missing` says why there is none."""
    sent = server.sends(min(frames, FEWER.get(name, frames)), raw=name == SLOW)  # the /ws form
    command = [sys.executable, str(HERE / CONTESTANTS[name][0]), name, str(server.port), str(sent)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return {"missing": f"stopped after {LIMIT:.0f} s"}
    if done.returncode:
        return {"missing": "failed: " + (done.stderr.strip().splitlines() or ["without a word"])[-1]}
    return {"sent": sent} | json.loads(done.stdout.splitlines()[-1])


def profiled(server: Server, frames: int) -> str:
    """Where the time of our own goes."""
    server.sends(frames, raw=False)
    command = [
        sys.executable,
        str(HERE / "ours.py"),
        "tradeflood+websockets",
        str(server.port),
        str(frames),
        "--profile",
    ]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=4 * LIMIT, check=True).stdout


def table(results: dict[str, list[dict[str, object]]], rounds: int) -> str:
    """The results as text, medians over the rounds."""
    rates = {
        name: [row["delivered"] / row["seconds"] for row in rows if row.get("seconds")]
        for name, rows in results.items()
    }
    middle = {name: statistics.median(some) for name, some in rates.items() if some}
    head = f"{'':24}{'per second':>12}{'lowest–highest':>22}{'× floor':>9}{'× cryptofeed':>14}{'× ccxt':>8}{'µs CPU':>9}{'delivered / sent':>20}"
    lines = [head]
    for name, rows in results.items():
        if name not in middle:
            lines.append(
                f"{name:24}{'–':>12}   {rows[-1].get('missing', 'nothing was delivered') if rows else 'not run'}"
            )
            continue
        last = min((row for row in rows if "sent" in row), key=lambda row: row["delivered"] / row["sent"])
        spread = f"{min(rates[name]):,.0f}–{max(rates[name]):,.0f}"
        floor = f"{middle[name] / middle[FLOOR]:.3f}" if FLOOR in middle else "–"
        peer = f"{middle[name] / middle[PEER]:.2f}" if PEER in middle else "–"
        slow = f"{middle[name] / middle[SLOW]:.0f}" if SLOW in middle else "–"
        spent = statistics.median(1e6 * row["cpu"] / row["delivered"] for row in rows if row.get("seconds"))
        share = f"{last['delivered']:,} / {last['sent']:,}"
        note = f" ({last['note']})" if last.get("note") else ""
        what = CONTESTANTS[name][1] + note
        lines.append(
            f"{name:24}{middle[name]:>12,.0f}{spread:>22}{floor:>9}{peer:>14}{slow:>8}{spent:>9.2f}{share:>20}   {what}"
        )
    done = {name: len(some) for name, some in rates.items() if some}
    short = [f"{name} {count}" for name, count in done.items() if count < rounds]
    lines.append("")
    fewer = f" (fewer: {', '.join(short)})" if short else ""
    lines.append(f"Median of {rounds} interleaved rounds{fewer}; each contestant alone in a fresh process.")
    lines.append("µs CPU is what a delivered one took of the processor: where others work on it too, compare that.")
    lines.append("Delivered / sent is that of the worst round. The clock runs from the first delivery to the last.")
    for name, few in FEWER.items():
        if name in middle:
            lines.append(f"{name} is sent at most {few:,}, so that the bench ends; its rate counts what it delivered.")
    return "\n".join(lines)


def chosen(text: str) -> list[str]:
    """The contestants named in the option --only."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in CONTESTANTS]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; there are {', '.join(CONTESTANTS)}")
    return [name for name in CONTESTANTS if name in names]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=300_000, help="sent to each contestant (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--only", type=chosen, default=list(CONTESTANTS), help="some of: " + ", ".join(CONTESTANTS))
    parser.add_argument("--profile", action="store_true", help="print only where the time of TradeFlood goes")
    arguments = parser.parse_args()
    if arguments.frames < 1 or arguments.rounds < 1:
        parser.error("--frames and --rounds start at 1")
    if importlib.util.find_spec("websockets") is None:
        raise SystemExit("The bench needs websockets: install tradeflood first.")
    if arguments.profile:
        with Server(arguments.frames) as server:
            print(profiled(server, arguments.frames))
        return
    begin = time.monotonic()
    results: dict[str, list[dict[str, object]]] = {name: [] for name in arguments.only}
    out = set()  # who cannot take part is asked once
    with Server(arguments.frames) as server:
        for number in range(arguments.rounds):
            if number and time.monotonic() - begin > BUDGET * number / (number + 1):
                print(f"Round {number + 1} and later are left out: the time is up.", file=sys.stderr)
                break
            for name in arguments.only:
                if name in out:
                    continue
                result = measured(name, server, arguments.frames)
                results[name].append(result)
                if "missing" in result:
                    out.add(name)
                    print(f"{name}: {result['missing']}", file=sys.stderr)
            print(f"round {number + 1} of {arguments.rounds}: {time.monotonic() - begin:.0f} s", file=sys.stderr)
    print(table(results, arguments.rounds))
    if arguments.frames < ENOUGH:
        print(
            f"With less than {ENOUGH:,} frames most of them wait in buffers when the clock starts: the rates say little."
        )


if __name__ == "__main__":
    main()
