"""confluent-kafka, which is librdkafka, under the contract of ../README.md."""

import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent))

import confluent_kafka
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

import contract

PATIENT = {"reconnect.backoff.ms": 10, "reconnect.backoff.max.ms": 200, "retry.backoff.ms": 20}


def produce(args):
    producer = Producer({
        **PATIENT,
        "bootstrap.servers": args.bootstrap,
        "acks": "all",
        "enable.idempotence": args.idempotence == "on",
        # Without idempotence a record that is sent again must not overtake another.
        **({} if args.idempotence == "on" else {"max.in.flight.requests.per.connection": 1}),
        "compression.type": args.compression,
        "linger.ms": 5,
        "message.timeout.ms": 60000,
    })

    def delivered(number):
        def report(error, message):
            if error is not None:
                contract.failed(number, error)
            else:
                contract.acknowledged(number, message.partition(), message.offset())
        return report

    pace = contract.Pace(args)
    for record in contract.records(args):
        while (ahead := pace.ahead(record.number)) > 0:
            producer.poll(ahead)
        while True:
            try:
                producer.produce(args.topic, record.value, record.key, partition=record.partition,
                                 headers=record.headers, on_delivery=delivered(record.number))
                break
            except BufferError:
                producer.poll(0.05)
        producer.poll(0)
    if producer.flush(90) != 0:
        sys.exit("records were neither acknowledged nor refused")


def consume(args):
    told = contract.until_told()
    consumer = Consumer({
        **PATIENT,
        "bootstrap.servers": args.bootstrap,
        # The library wants a group's name; nothing here joins or commits.
        "group.id": "unused",
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
        "fetch.wait.max.ms": 50,
    })
    starts = []
    for partition in range(args.partitions):
        beginning, end = ends_of(consumer, TopicPartition(args.topic, partition))
        contract.in_range(partition, beginning, end)
        starts.append(TopicPartition(args.topic, partition, beginning))
    consumer.assign(starts)
    while not told.is_set():
        for message in consumer.consume(1000, timeout=0.1):
            error = message.error()
            # The consumer goes on by itself after these, and tells them only so that one may look.
            if error is not None and not error.retriable() and error.name() not in ("_TRANSPORT", "_ALL_BROKERS_DOWN"):
                raise KafkaException(error)
            if error is None:
                contract.read(message.partition(), message.offset(), message.key(), message.value(), message.headers())
        sys.stdout.flush()
    consumer.close()


def member(args):
    told, group = contract.until_told(), contract.Group()
    # Old versions do not know the word group.protocol, and in the new protocol the broker has the times.
    settings = {"group.protocol": "consumer"} if args.protocol == "consumer" else {
        "session.timeout.ms": args.session, "heartbeat.interval.ms": args.session // 10}
    consumer = Consumer({
        **PATIENT,
        **settings,
        "bootstrap.servers": args.bootstrap,
        "group.id": args.group,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "fetch.wait.max.ms": 50,
    })
    consumer.subscribe([args.topic])
    while not told.is_set():
        messages = [message for message in consumer.consume(100, timeout=0.1) if message.error() is None]
        group.assigned(p.partition for p in consumer.assignment())
        for message in messages:
            contract.process(message.partition(), message.offset(), message.key(), message.value(), message.headers())
        if messages:
            try:
                for done in consumer.commit(asynchronous=False):
                    if done.error is None and done.offset >= 0:
                        group.committed(done.partition, done.offset)
            except KafkaException as error:
                contract.not_committed(error)
    partitions = [TopicPartition(args.topic, partition) for partition in range(args.partitions)]
    for found in consumer.committed(partitions, timeout=30):
        group.lag(found.partition, found.offset, ends_of(consumer, found)[1])
    consumer.close()


def ends_of(consumer, partition):
    """The library asks only once, and its leader may just have changed."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return consumer.get_watermark_offsets(partition, timeout=30)
        except KafkaException:
            if time.monotonic() > deadline:
                raise
            consumer.list_topics(partition.topic, timeout=30)
            time.sleep(0.05)


def main():
    args = contract.arguments()
    contract.tell("versions", f"confluent-kafka {confluent_kafka.__version__}, "
                              f"librdkafka {confluent_kafka.libversion()[0]}")
    {"produce": produce, "consume": consume, "member": member}[args.mode](args)
    contract.finish()


main()
