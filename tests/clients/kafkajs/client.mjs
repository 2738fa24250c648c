// kafkajs under the contract of ../README.md. It cannot assign partitions by hand, so it reads only in groups.

import { createRequire } from 'node:module'
import { setTimeout as sleep } from 'node:timers/promises'
import kafkajs from 'kafkajs'
import SnappyCodec from 'kafkajs-snappy'

import { acknowledged, assigned, committed, groups, lag, main, tell, untilTold, work } from '../contract.mjs'

const { CompressionCodecs, CompressionTypes, Kafka, Partitioners, logLevel } = kafkajs
CompressionCodecs[CompressionTypes.Snappy] = SnappyCodec

const COMPRESSION = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy }

const connect = args => new Kafka({
  clientId: 'check',
  brokers: args.bootstrap,
  logLevel: logLevel[process.env.KAFKAJS_LOG ?? 'NOTHING'],
  retry: { initialRetryTime: 50, maxRetryTime: 500, retries: 100 },
  requestTimeout: 10000
})

async function produce(args) {
  const kafka = connect(args)
  const producer = kafka.producer({
    idempotent: args.idempotence === 'on',
    maxInFlightRequests: 1,
    allowAutoTopicCreation: false,
    createPartitioner: Partitioners.DefaultPartitioner
  })
  await producer.connect()
  for await (const group of groups(args, 600)) {
    const messages = group.map(({ number, partition, key, value }) => ({
      key, value, partition, headers: { number: String(number), twice: ['first', 'second'] }
    }))
    const told = new Map()
    try {
      // If a leader dies, and its partitions go to a broker that has answered already, `send` forgets them and ends with
      // success (tulios/kafkajs#1303). Its result does not name them, so they can be sent again.
      let left = messages
      while (left.length > 0) {
        const results = await producer.send({
          topic: args.topic, acks: -1, compression: COMPRESSION[args.compression], messages: left
        })
        for (const { partition, baseOffset } of results) told.set(partition, BigInt(baseOffset))
        left = left.filter(({ partition }) => !told.has(partition))
      }
      acknowledged(group, told)
    } catch (error) {
      for (const { number } of group) tell('failed', number, String(error))
    }
  }
  await producer.disconnect()
}

async function member(args) {
  const state = untilTold()
  const kafka = connect(args)
  const consumer = kafka.consumer({
    groupId: args.group,
    sessionTimeout: args.session,
    heartbeatInterval: args.session / 10,
    maxWaitTimeInMs: 50
  })
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => assigned(payload.memberAssignment[args.topic] ?? []))
  consumer.on(consumer.events.COMMIT_OFFSETS, ({ payload }) => {
    for (const { partition, offset } of payload.topics.flatMap(({ partitions }) => partitions)) {
      committed(Number(partition), offset)
    }
  })
  await consumer.connect()
  await consumer.subscribe({ topics: [args.topic], fromBeginning: true })
  await consumer.run({
    // It commits after each batch by itself.
    eachMessage: async ({ partition, message: { offset, key, value, headers } }) => {
      const pairs = Object.entries(headers).flatMap(([name, data]) => [data].flat().map(one => [name, one]))
      await work(partition, offset, key, value, pairs)
    }
  })
  while (!state.told) await sleep(20)
  const admin = kafka.admin()
  await admin.connect()
  const ends = new Map((await admin.fetchTopicOffsets(args.topic)).map(({ partition, high }) => [partition, high]))
  const [{ partitions }] = await admin.fetchOffsets({ groupId: args.group, topics: [args.topic] })
  for (const { partition, offset } of partitions) lag(partition, offset, ends.get(partition))
  await admin.disconnect()
  await consumer.disconnect()
}

const version = createRequire(import.meta.url)('kafkajs/package.json').version
await main(`kafkajs ${version}, Node.js ${process.version}`, { produce, member })
