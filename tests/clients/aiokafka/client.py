"""aiokafka under the contract of ../README.md."""

import asyncio
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent))

import aiokafka
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

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


class Listener(ConsumerRebalanceListener):
    def __init__(self, group):
        self.group = group

    async def on_partitions_revoked(self, revoked):
        # They are read again from the offset that is committed, here or by another member.
        self.group.due.clear()

    async def on_partitions_assigned(self, assigned):
        self.group.assigned(partition.partition for partition in assigned)


async def member(args):
    told, group = contract.until_told(), contract.Group()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=args.bootstrap,
        group_id=args.group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=args.session,
        heartbeat_interval_ms=args.session // 10,
        fetch_max_wait_ms=50,
        retry_backoff_ms=50,
    )
    consumer.subscribe([args.topic], listener=Listener(group))
    async with consumer:
        while not told.is_set():
            for partition, messages in (await consumer.getmany(timeout_ms=100, max_records=100)).items():
                for message in messages:
                    contract.process(message.partition, message.offset, message.key, message.value, message.headers)
                # The library has the heartbeats in this thread.
                await asyncio.sleep(0)
                if partition in consumer.assignment():
                    group.due[partition] = messages[-1].offset + 1
            if group.due:
                due = dict(group.due)
                try:
                    await consumer.commit(due)
                    for partition, offset in due.items():
                        group.committed(partition.partition, offset)
                    group.due.clear()
                except KafkaError as error:
                    contract.not_committed(error)
        partitions = [TopicPartition(args.topic, partition) for partition in range(args.partitions)]
        ends = await consumer.end_offsets(partitions)
        for partition in partitions:
            group.lag(partition.partition, await consumer.committed(partition), ends[partition])


def main():
    args = contract.arguments()
    contract.tell("versions", f"aiokafka {aiokafka.__version__}")
    asyncio.run({"produce": produce, "consume": consume, "member": member}[args.mode](args))
    contract.finish()


main()
