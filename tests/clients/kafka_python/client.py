"""kafka-python, old and new, under the contract of ../README.md."""

import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent))

import kafka
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

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


def main():
    args = contract.arguments()
    contract.tell("versions", f"kafka-python {kafka.__version__}")
    produce(args) if args.mode == "produce" else consume(args)
    contract.finish()


main()
