"""What the client programs in Python share: the arguments, the records, and how they tell what they saw (see README.md)."""

import argparse
import json
import sys
import threading
import time
import zlib


def tell(*what):
    sys.stdout.write(json.dumps(what) + "\n")


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode", choices=["produce", "consume"], required=True)
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

    `even`: what comes before it, too.
    """

    def __init__(self, args, even=False):
        self.gate = args.gate
        self.began = time.monotonic() if even else None
        self.step = args.seconds / max(1, args.records - args.gate)
        self.opened = None
        self.open = threading.Event()
        if self.gate > 0:
            threading.Thread(target=lambda: (sys.stdin.readline(), self.open.set()), daemon=True).start()

    def ahead(self, number):
        """How many seconds to wait, and then to ask again; 0 if it is time for this record."""
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


def until_told():
    """An event that is set when standard input ends: the harness has seen all that it waits for."""
    told = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.buffer.read(), told.set()), daemon=True).start()
    return told


def finish():
    tell("done")
    sys.stdout.flush()
