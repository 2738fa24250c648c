"""Writes records with confluent-kafka (librdkafka), and reads them back as a consumer in a rack.

One JSON array a line on standard output, for the test to judge:
  ["read", offset, value]   in the order in which they came
  ["asked", node, fetches]  how often the consumer has sent a Fetch to this node, by the library's own statistics
  ["done"]
"""

import argparse
import json
import sys
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic


def tell(*what):
    sys.stdout.write(json.dumps(what) + "\n")


def create(args):
    admin = AdminClient({"bootstrap.servers": args.bootstrap})
    # The first replica leads.
    topic = NewTopic(args.topic, 1, replica_assignment=[args.replicas], config={"min.insync.replicas": "2"})
    admin.create_topics([topic], operation_timeout=20)[args.topic].result(timeout=30)


def write(args, producer, start):
    for number in range(start, start + args.records):
        producer.produce(args.topic, str(number).encode(), partition=0)
    if producer.flush(60) != 0:
        sys.exit("records were neither acknowledged nor refused")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", default="racks")
    parser.add_argument("--rack", required=True)
    parser.add_argument("--replicas", type=int, nargs="+", required=True)
    parser.add_argument("--records", type=int, default=500)
    args = parser.parse_args()
    create(args)
    producer = Producer({"bootstrap.servers": args.bootstrap, "acks": "all", "linger.ms": 1})
    asked = {}

    def statistics(text):
        for broker in json.loads(text)["brokers"].values():
            asked[broker["nodeid"]] = broker["req"].get("Fetch", 0)

    consumer = Consumer({
        "bootstrap.servers": args.bootstrap,
        "client.rack": args.rack,
        "group.id": "unused",
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
        "fetch.wait.max.ms": 50,
        "statistics.interval.ms": 100,
        "stats_cb": statistics,
    })
    consumer.assign([TopicPartition(args.topic, 0, 0)])
    read = 0
    # In two halves, so that the second one comes while the consumer is where it wants to be.
    for half in range(2):
        write(args, producer, half * args.records)
        deadline = time.monotonic() + 60
        while read < (half + 1) * args.records:
            if time.monotonic() > deadline:
                sys.exit(f"only {read} records were read; fetches: {asked}")
            message = consumer.poll(0.2)
            if message is None:
                continue
            if message.error() is not None:
                raise KafkaException(message.error())
            tell("read", message.offset(), message.value().decode())
            read += 1
    # The statistics come by themselves.
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        consumer.poll(0.1)
    consumer.close()
    for node, fetches in asked.items():
        if node > 0:
            tell("asked", node, fetches)
    tell("done")


main()
