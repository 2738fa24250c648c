"""kafka-python, old and new, under the contract of ../README.md."""

import logging
import os
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent))

import kafka
from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaError

import contract

NEW = int(kafka.__version__.split(".")[0]) >= 3
PATIENT = {"reconnect_backoff_ms": 10, "reconnect_backoff_max_ms": 200, "retry_backoff_ms": 50}


def produce(args):
    idempotent = args.idempotence == "on"
    settings = {"enable_idempotence": idempotent, "delivery_timeout_ms": 90000} if NEW else {"retries": 1000}
    producer = KafkaProducer(
        **PATIENT,
        **settings,
        bootstrap_servers=args.bootstrap.split(","),
        acks="all",
        # Without idempotence a record that is sent again must not overtake another.
        max_in_flight_requests_per_connection=5 if idempotent else 1,
        compression_type=None if args.compression == "none" else args.compression,
        linger_ms=5,
        request_timeout_ms=10000,
        max_block_ms=60000,
    )
    pace = contract.Pace(args)
    for record in contract.records(args):
        while (ahead := pace.ahead(record.number)) > 0:
            time.sleep(ahead)
        sent = producer.send(args.topic, record.value, record.key, record.headers, partition=record.partition)
        sent.add_callback(lambda told, number=record.number: contract.acknowledged(number, told.partition, told.offset))
        sent.add_errback(lambda error, number=record.number: contract.failed(number, error))
    producer.flush(timeout=90)
    producer.close(timeout=30)


def consume(args):
    told = contract.until_told()
    consumer = KafkaConsumer(
        **PATIENT,
        bootstrap_servers=args.bootstrap.split(","),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        fetch_max_wait_ms=50,
        request_timeout_ms=10000,
    )
    partitions = [TopicPartition(args.topic, partition) for partition in range(args.partitions)]
    consumer.assign(partitions)
    beginnings, ends = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
    for partition in partitions:
        contract.in_range(partition.partition, beginnings[partition], ends[partition])
        consumer.seek(partition, beginnings[partition])
    while not told.is_set():
        for messages in consumer.poll(timeout_ms=100, max_records=1000).values():
            for message in messages:
                contract.read(message.partition, message.offset, message.key, message.value, message.headers)
        sys.stdout.flush()
    consumer.close()


class Listener(ConsumerRebalanceListener):
    def __init__(self, group):
        self.group = group

    def on_partitions_revoked(self, revoked):
        # They are read again from the offset that is committed, here or by another member.
        self.group.due.clear()

    def on_partitions_assigned(self, assigned):
        pass


def member(args):
    told, group = contract.until_told(), contract.Group()
    consumer = KafkaConsumer(
        **PATIENT,
        bootstrap_servers=args.bootstrap.split(","),
        group_id=args.group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=args.session,
        heartbeat_interval_ms=args.session // 10,
        max_poll_records=100,
        fetch_max_wait_ms=50,
        request_timeout_ms=10000,
    )
    consumer.subscribe([args.topic], listener=Listener(group))
    more = ["", -1] if NEW else [""]
    while not told.is_set():
        polled = consumer.poll(timeout_ms=100)
        group.assigned(p.partition for p in consumer.assignment())
        for partition, messages in polled.items():
            for message in messages:
                contract.process(message.partition, message.offset, message.key, message.value, message.headers)
            group.due[partition] = messages[-1].offset + 1
        if group.due:
            due = dict(group.due)
            try:
                consumer.commit({partition: OffsetAndMetadata(offset, *more) for partition, offset in due.items()})
                for partition, offset in due.items():
                    group.committed(partition.partition, offset)
                group.due.clear()
            except KafkaError as error:
                contract.not_committed(error)
    partitions = [TopicPartition(args.topic, partition) for partition in range(args.partitions)]
    # The library does not look for a leader that has changed while it asks for offsets; this lets it.
    consumer.topics()
    ends = consumer.end_offsets(partitions)
    for partition in partitions:
        group.lag(partition.partition, consumer.committed(partition), ends[partition])
    consumer.close()


def main():
    args = contract.arguments()
    if os.environ.get("CLIENT_LOG"):
        logging.basicConfig(level=logging.DEBUG, format="%(asctime)s %(threadName)s %(name)s %(message)s")
    contract.tell("versions", f"kafka-python {kafka.__version__}")
    {"produce": produce, "consume": consume, "member": member}[args.mode](args)
    contract.finish()


main()
