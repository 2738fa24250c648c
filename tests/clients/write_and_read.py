"""Writes records with confluent-kafka (librdkafka), reads them back by assignment, and tells what it saw.

One JSON array a line on standard output, for the test to judge:
  ["versions", confluent-kafka, librdkafka]
  ["half"]                                  half of the records have been handed over
  ["acknowledged", number, partition, offset]
  ["failed", number, error]
  ["read", partition, offset, number]       number is null if the value is none of ours
  ["done"]
Record number i goes to partition i modulo the number of partitions, in the order of the numbers.
"""

import argparse
import json
import sys
import time

import confluent_kafka
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic


def tell(*what):
    sys.stdout.write(json.dumps(what) + "\n")


def value(number, size):
    return f"record-{number:08d}-".encode().ljust(size, b"abcdefgh"[number % 8:number % 8 + 1])


def number_in(data, size):
    """The number of a record of ours; None if a single byte differs."""
    try:
        number = int(data[len(b"record-"):len(b"record-") + 8])
    except (TypeError, ValueError):
        return None
    return number if data == value(number, size) else None


def create(args):
    topic = NewTopic(args.topic, args.partitions, 3, config={"min.insync.replicas": "2"})
    admin = AdminClient({"bootstrap.servers": args.bootstrap})
    admin.create_topics([topic], operation_timeout=20)[args.topic].result(timeout=30)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        known = admin.list_topics(args.topic, timeout=10).topics[args.topic].partitions
        if len(known) == args.partitions and all(p.leader > 0 for p in known.values()):
            return
        time.sleep(0.02)
    sys.exit("the topic has no leaders")


def write(args):
    producer = Producer({
        "bootstrap.servers": args.bootstrap,
        "acks": "all",
        "enable.idempotence": args.idempotence == "on",
        "linger.ms": 5,
        "retry.backoff.ms": 20,
        "retry.backoff.max.ms": 200,
        "reconnect.backoff.ms": 10,
        "reconnect.backoff.max.ms": 200,
        "message.timeout.ms": 60000,
    })

    def delivered(number):
        def report(error, message):
            if error is not None:
                tell("failed", number, str(error))
            else:
                tell("acknowledged", number, message.partition(), message.offset())
        return report

    start = time.monotonic()
    for number in range(args.records):
        if number == args.records // 2:
            tell("half")
            sys.stdout.flush()
        while True:
            try:
                producer.produce(args.topic, value(number, args.size), partition=number % args.partitions,
                                 on_delivery=delivered(number))
                break
            except BufferError:
                producer.poll(0.05)
        ahead = start + args.seconds * number / args.records - time.monotonic()
        producer.poll(max(0, ahead) if ahead > 0.005 else 0)
    if producer.flush(90) != 0:
        sys.exit("records were neither acknowledged nor refused")


def read(args):
    consumer = Consumer({
        "bootstrap.servers": args.bootstrap,
        # The library wants a group's name; nothing here joins or commits.
        "group.id": "unused",
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
        "enable.partition.eof": True,
        "fetch.wait.max.ms": 50,
        "reconnect.backoff.ms": 10,
        "reconnect.backoff.max.ms": 200,
    })
    consumer.assign([TopicPartition(args.topic, p, 0) for p in range(args.partitions)])
    ended = set()
    deadline = time.monotonic() + 60
    while len(ended) < args.partitions:
        if time.monotonic() > deadline:
            sys.exit(f"only the partitions {sorted(ended)} were read to their end")
        for message in consumer.consume(1000, timeout=0.5):
            error = message.error()
            if error is None:
                tell("read", message.partition(), message.offset(), number_in(message.value(), args.size))
            elif error.code() == KafkaError._PARTITION_EOF:
                ended.add(message.partition())
            else:
                raise KafkaException(error)
    consumer.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--records", type=int, required=True)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--partitions", type=int, default=6)
    parser.add_argument("--idempotence", choices=["on", "off"], required=True)
    parser.add_argument("--seconds", type=float, default=0, help="spread the writing over this time")
    args = parser.parse_args()
    tell("versions", confluent_kafka.__version__, confluent_kafka.libversion()[0])
    create(args)
    write(args)
    read(args)
    tell("done")


main()
