"""A member of a consumer group, and who looks at the group, with confluent-kafka (librdkafka).

One JSON array a line on standard output, for the test to judge. A member says:
  ["assigned", [partition, …]]   its partitions, when they change
  ["read", partition, offset]    a record was processed
  ["done"]                       it has left the group, when its standard input has ended
Who watches says, until its standard input has ended:
  ["committed", partition, offset]  a committed offset, when it changes
  ["lag", lag]                      the sum over all partitions
And "coordinator" says once: ["coordinator", node].
"""

import argparse
import json
import socket
import struct
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaException, TopicPartition


def tell(*what):
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def ended():
    """True once standard input has ended."""
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    return over.is_set


def consumer(args, **more):
    config = {
        "bootstrap.servers": args.bootstrap,
        "group.id": args.group,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "fetch.wait.max.ms": 50,
        "reconnect.backoff.max.ms": 500,
    }
    return Consumer({**config, **more})


def member(args):
    more = {"group.protocol": args.protocol}
    if args.protocol == "classic":
        more |= {"session.timeout.ms": 2000, "heartbeat.interval.ms": 300}
    reader = consumer(args, **more)
    reader.subscribe([args.topic])
    over, before = ended(), None
    while not over():
        messages = reader.consume(100, timeout=0.1)
        assigned = sorted(p.partition for p in reader.assignment())
        if assigned != before:
            tell("assigned", assigned)
            before = assigned
        for message in messages:
            if message.error() is None:
                tell("read", message.partition(), message.offset())
        if any(m.error() is None for m in messages):
            try:
                # After the records were processed: at least once.
                reader.commit(asynchronous=False)
            except KafkaException as error:
                # A rebalance, or the coordinator is somewhere else: the records come again, or are committed with the next.
                sys.stderr.write(f"commit: {error}\n")
    reader.close()
    tell("done")


def watch(args):
    looker = consumer(args)
    over = ended()
    # The library remembers for long that a topic was not there.
    while not over() and len(looker.list_topics(args.topic, timeout=10).topics[args.topic].partitions) < args.partitions:
        time.sleep(0.1)
    partitions = [TopicPartition(args.topic, p) for p in range(args.partitions)]
    before = {}
    while not over():
        try:
            lag = 0
            for found in looker.committed(partitions, timeout=5):
                offset = max(found.offset, 0)
                if found.error is None and found.offset >= 0 and before.get(found.partition) != offset:
                    before[found.partition] = offset
                    tell("committed", found.partition, offset)
                lag += looker.get_watermark_offsets(TopicPartition(args.topic, found.partition), timeout=5)[1] - offset
            tell("lag", lag)
        except KafkaException as error:
            sys.stderr.write(f"watch: {error}\n")
        time.sleep(0.2)


def coordinator(args):
    """FindCoordinator, version 0, by hand: the library does not say."""
    for address in args.bootstrap.split(","):
        host, port = address.rsplit(":", 1)
        try:
            with socket.create_connection((host, int(port)), timeout=5) as stream:
                key = args.group.encode()
                request = struct.pack(">hhihh", 10, 0, 1, -1, len(key)) + key
                stream.sendall(struct.pack(">i", len(request)) + request)
                answer = stream.makefile("rb")
                (size,) = struct.unpack(">i", answer.read(4))
                _, error, node = struct.unpack(">ihi", answer.read(size)[:10])
                if error == 0:
                    return tell("coordinator", node)
        except OSError as error:
            sys.stderr.write(f"{address}: {error}\n")
    sys.exit("nobody knows the coordinator")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=["member", "watch", "coordinator"])
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", default="e2e")
    parser.add_argument("--partitions", type=int, default=6)
    parser.add_argument("--group", default="readers")
    parser.add_argument("--protocol", choices=["classic", "consumer"], default="classic")
    args = parser.parse_args()
    {"member": member, "watch": watch, "coordinator": coordinator}[args.role](args)


if __name__ == "__main__":
    main()
