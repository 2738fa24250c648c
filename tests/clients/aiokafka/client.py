"""aiokafka under the contract of ../README.md."""

import asyncio
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent))

import aiokafka
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

import contract


async def produce(args):
    producer = AIOKafkaProducer(
        bootstrap_servers=args.bootstrap,
        acks="all",
        enable_idempotence=args.idempotence == "on",
        compression_type=None if args.compression == "none" else args.compression,
        linger_ms=5,
        retry_backoff_ms=50,
        request_timeout_ms=60000,
    )

    def delivered(number):
        def report(sent):
            if sent.exception() is not None:
                contract.failed(number, sent.exception())
            else:
                contract.acknowledged(number, sent.result().partition, sent.result().offset)
        return report

    async with producer:
        pace = contract.Pace(args)
        for record in contract.records(args):
            while (ahead := pace.ahead(record.number)) > 0:
                await asyncio.sleep(ahead)
            sent = await producer.send(args.topic, record.value, record.key, partition=record.partition,
                                       headers=record.headers)
            sent.add_done_callback(delivered(record.number))
        await producer.flush()


async def consume(args):
    told = contract.until_told()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=args.bootstrap,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        fetch_max_wait_ms=50,
        retry_backoff_ms=50,
    )
    async with consumer:
        partitions = [TopicPartition(args.topic, partition) for partition in range(args.partitions)]
        consumer.assign(partitions)
        beginnings, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        for partition in partitions:
            contract.in_range(partition.partition, beginnings[partition], ends[partition])
            consumer.seek(partition, beginnings[partition])
        while not told.is_set():
            for messages in (await consumer.getmany(timeout_ms=100, max_records=1000)).values():
                for message in messages:
                    contract.read(message.partition, message.offset, message.key, message.value, message.headers)
            sys.stdout.flush()


def main():
    args = contract.arguments()
    contract.tell("versions", f"aiokafka {aiokafka.__version__}")
    asyncio.run(produce(args) if args.mode == "produce" else consume(args))
    contract.finish()


main()
