// kafkajs under the contract of ../README.md. It cannot assign partitions by hand, so here it only produces.

import { createRequire } from 'node:module'
import kafkajs from 'kafkajs'
import SnappyCodec from 'kafkajs-snappy'

import { acknowledged, groups, main, tell } from '../contract.mjs'

const { CompressionCodecs, CompressionTypes, Kafka, Partitioners, logLevel } = kafkajs
CompressionCodecs[CompressionTypes.Snappy] = SnappyCodec

const COMPRESSION = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy }

async function produce(args) {
  const kafka = new Kafka({
    clientId: 'check',
    brokers: args.bootstrap,
    logLevel: logLevel[process.env.KAFKAJS_LOG ?? 'NOTHING'],
    retry: { initialRetryTime: 50, maxRetryTime: 500, retries: 100 },
    requestTimeout: 10000
  })
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

const version = createRequire(import.meta.url)('kafkajs/package.json').version
await main(`kafkajs ${version}, Node.js ${process.version}`, produce, async () => {
  throw new Error('kafkajs reads only in groups')
})
