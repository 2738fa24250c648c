"""What the client programs in Python share: the arguments, the records, and how they tell what they saw (see README.md)."""

import argparse
import json
import os
import sys
import threading
import time
import zlib


def tell(*what):
    sys.stdout.write(json.dumps(what) + "\n")


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode", choices=["produce", "consume", "member"], required=True)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--partitions", type=int, required=True)
    parser.add_argument("--records", type=int, default=0)
    parser.add_argument("--values", help="the file with the values, one after the other")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--compression", default="none")
    parser.add_argument("--idempotence", choices=["on", "off"], default="off")
    parser.add_argument("--gate", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--before", type=float, default=0)
    parser.add_argument("--group")
    parser.add_argument("--protocol", choices=["classic", "consumer"], default="classic")
    parser.add_argument("--session", type=int, default=3000)
    return parser.parse_args()


class Record:
    def __init__(self, args, number, value):
        self.number = number
        self.partition = number % args.partitions
        self.key = f"key-{number}".encode()
        self.value = value
        self.headers = [("number", str(number).encode()), ("twice", b"first"), ("twice", b"second")]


def records(args):
    with open(args.values, "rb") as values:
        for number in range(args.records):
            yield Record(args, number, values.read(args.size))


class Pace:
    """Waits at the gate for a line on standard input, and spreads what comes after it over the time that was asked for.

    `even`: what comes before it, too. With --before that is spread over a time of its own, in clumps, as long as the gate
    is shut.
    """

    CLUMP = 60

    def __init__(self, args, even=False):
        self.gate = args.gate
        self.started = time.monotonic()
        self.began = self.started if even else None
        self.step = args.seconds / max(1, args.records - args.gate)
        self.before = args.before / max(1, args.gate)
        self.opened = None
        self.open = threading.Event()
        if self.gate > 0:
            threading.Thread(target=lambda: (os.read(0, 1), self.open.set()), daemon=True).start()

    def ahead(self, number):
        """How many seconds to wait, and then to ask again; 0 if it is time for this record."""
        if self.before and number < self.gate:
            ahead = self.started + self.before * number - time.monotonic()
            return min(ahead, 0.05) if ahead > 0 and number % self.CLUMP == 0 and not self.open.is_set() else 0
        if self.gate == 0 or number < self.gate:
            ahead = self.began + self.step * number - time.monotonic() if self.began and self.gate else 0
            return ahead if ahead > 0.005 else 0
        if self.opened is None:
            if not self.open.is_set():
                sys.stdout.flush()
                return 0.01
            self.opened = time.monotonic()
        ahead = self.opened + self.step * (number - self.gate) - time.monotonic()
        return ahead if ahead > 0.005 else 0


def acknowledged(number, partition, offset):
    tell("acknowledged", number, partition, offset)
    # The harness wants to know how far we are.
    if number % 50 == 0:
        sys.stdout.flush()


def failed(number, error):
    tell("failed", number, str(error) or type(error).__name__)


def in_range(partition, beginning, end):
    tell("range", partition, beginning, end)
    sys.stdout.flush()


def read(partition, offset, key, value, headers):
    headers = [[name, text(data)] for name, data in headers or []]
    tell("read", partition, offset, text(key), zlib.crc32(value or b""), len(value or b""), headers)


def text(data):
    return None if data is None else data.decode(errors="replace")


def process(partition, offset, key, value, headers):
    """A member's work with a record: it is done when the line is out, and takes a while."""
    read(partition, offset, key, value, headers)
    sys.stdout.flush()
    time.sleep(0.002)


class Group:
    """What a member tells of its group, and which offsets it is to commit."""

    def __init__(self):
        self.assignment = None
        self.due = {}

    def assigned(self, partitions):
        """Tells the partitions if they are others than before."""
        partitions = sorted(partitions)
        if partitions != self.assignment:
            tell("assigned", partitions)
            sys.stdout.flush()
            self.assignment = partitions

    def committed(self, partition, offset):
        """The commit was acknowledged."""
        tell("committed", partition, offset)
        sys.stdout.flush()

    def lag(self, partition, committed, end):
        """Committed offset and end of a partition, as the client itself finds them."""
        tell("lag", partition, committed, end)


def not_committed(error):
    """A rebalance, or the coordinator is somewhere else: the records come again, or are committed with the next."""
    sys.stderr.write(f"commit: {error}\n")


def until_told():
    """An event that is set when standard input ends: the harness has seen all that it waits for."""
    told = threading.Event()

    def wait():
        # Not through sys.stdin: Python dies of a lock on that if the program ends early, and the reason is lost.
        while os.read(0, 4096):
            pass
        told.set()

    threading.Thread(target=wait, daemon=True).start()
    return told


def finish():
    tell("done")
    sys.stdout.flush()
