// @platformatic/kafka under the contract of ../README.md. Its stream of messages joins a group, its `fetch` does not.

import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { Consumer, ListOffsetTimestamps, Producer } from '@platformatic/kafka'

import { acknowledged, assigned, committed, flush, groups, lag, main, read, tell, untilTold, work } from '../contract.mjs'

const base = args => ({ clientId: 'check', bootstrapBrokers: args.bootstrap, retries: 100, retryDelay: 50 })

async function produce(args) {
  const producer = new Producer({ ...base(args), idempotent: args.idempotence === 'on', autocreateTopics: false })
  for await (const group of groups(args, 600)) {
    const messages = group.map(({ number, partition, key, value }) => ({
      topic: args.topic,
      partition,
      key: Buffer.from(key),
      value,
      // The names are buffers, so that one may be there twice.
      headers: new Map([['number', String(number)], ['twice', 'first'], ['twice', 'second']]
        .map(([name, data]) => [Buffer.from(name), Buffer.from(data)]))
    }))
    try {
      const { offsets } = await producer.send({ acks: -1, compression: args.compression, messages })
      acknowledged(group, offsets.map(({ partition, offset }) => [partition, offset]))
    } catch (error) {
      for (const { number } of group) tell('failed', number, describe(error))
    }
  }
  await producer.close()
}

function describe(error) {
  const inner = [error.cause, ...(error.errors ?? [])].filter(Boolean).map(describe)
  return [`${error.code ?? error.name}: ${error.message}`, ...inner].join('; ')
}

async function consume(args) {
  const state = untilTold()
  const consumer = new Consumer({ ...base(args), groupId: 'unused', maxWaitTime: 50, autocommit: false })
  const partitions = [...Array(args.partitions).keys()]
  const listed = { topics: [args.topic], partitions: { [args.topic]: partitions } }
  const beginnings = (await consumer.listOffsets({ ...listed, timestamp: ListOffsetTimestamps.EARLIEST })).get(args.topic)
  const ends = (await consumer.listOffsets({ ...listed, timestamp: ListOffsetTimestamps.LATEST })).get(args.topic)
  const due = new Map()
  for (const partition of partitions) {
    tell('range', partition, Number(beginnings[partition]), Number(ends[partition]))
    due.set(partition, beginnings[partition])
  }
  flush()
  while (!state.told) {
    const metadata = await consumer.metadata({ topics: [args.topic], forceUpdate: state.stale })
    state.stale = false
    const topic = metadata.topics.get(args.topic)
    const leaders = new Set(topic.partitions.map(({ leader }) => leader).filter(leader => metadata.brokers.has(leader)))
    await Promise.all([...leaders].map(node => fetchFrom(consumer, topic, node, due, state)))
    flush()
    if (state.stale) await sleep(50)
  }
  await consumer.close(true)
}

async function fetchFrom(consumer, topic, node, due, state) {
  const wanted = [...due].filter(([partition]) => topic.partitions[partition].leader === node)
  const partitions = wanted.map(([partition, fetchOffset]) => ({
    partition,
    currentLeaderEpoch: topic.partitions[partition].leaderEpoch,
    fetchOffset,
    lastFetchedEpoch: -1,
    partitionMaxBytes: 1 << 20
  }))
  let response
  try {
    response = await consumer.fetch({ node, maxWaitTime: 50, minBytes: 1, topics: [{ topicId: topic.id, partitions }] })
  } catch (error) {
    // The leader is gone or another one: look again.
    if (process.env.CLIENT_LOG) console.error(describe(error))
    state.stale = true
    return
  }
  for (const { partitionIndex, records } of response.responses.flatMap(({ partitions }) => partitions)) {
    for (const batch of records ?? []) {
      for (const record of batch.records) {
        const offset = batch.firstOffset + BigInt(record.offsetDelta)
        // A batch is sent whole, also if the fetch begins in the middle of it.
        if (offset < due.get(partitionIndex)) continue
        read(partitionIndex, offset, record.key, record.value, record.headers)
        due.set(partitionIndex, offset + 1n)
      }
    }
  }
}

async function member(args) {
  const state = untilTold()
  const times = { sessionTimeout: args.session, rebalanceTimeout: 10000, heartbeatInterval: args.session / 10 }
  const consumer = new Consumer({
    ...base(args),
    groupId: args.group,
    maxWaitTime: 50,
    autocommit: false,
    highWaterMark: 50,
    ...(args.protocol === 'consumer' ? { groupProtocol: 'consumer' } : times)
  })
  consumer.on('error', error => console.error(describe(error)))
  const owned = () => (consumer.assignments ?? []).filter(({ topic }) => topic === args.topic)
    .flatMap(({ partitions }) => partitions)
  consumer.on('consumer:group:join', () => assigned(owned()))
  const done = new Map()
  const watch = setInterval(() => assigned(owned()), 20)
  while (!state.told) {
    try {
      await readStream(args, consumer, owned, done, state)
    } catch (error) {
      // A commit met a rebalance, or a broker is gone: the stream is over, a new one begins at the committed offsets.
      console.error(describe(error))
      await sleep(50)
    }
  }
  clearInterval(watch)
  const partitions = [...Array(args.partitions).keys()]
  const commits = await consumer.listCommittedOffsets({ topics: [{ topic: args.topic, partitions }] })
  const ends = await consumer.listOffsets({ topics: [args.topic], timestamp: ListOffsetTimestamps.LATEST })
  for (const partition of partitions) lag(partition, commits.get(args.topic)[partition], ends.get(args.topic)[partition])
  await consumer.close(true)
}

async function readStream(args, consumer, owned, done, state) {
  const stream = await consumer.consume({ topics: [args.topic], mode: 'committed', fallbackMode: 'earliest' })
  const over = setInterval(() => { if (state.told) stream.destroy() }, 20)
  try {
    for await (const { partition, offset, key, value, headerEntries, commit } of stream) {
      if (state.told) break
      // It was read ahead of a rebalance.
      if (!owned().includes(partition)) continue
      await work(partition, offset, key, value, headerEntries)
      // After a rebalance the stream may give again what it had given, and was committed since.
      if (offset < done.get(partition)) continue
      await commit()
      done.set(partition, offset + 1n)
      committed(partition, offset + 1n)
    }
  } catch (error) {
    if (!state.told) throw error
  } finally {
    clearInterval(over)
    stream.destroy()
  }
}

const { version } = JSON.parse(readFileSync(new URL('node_modules/@platformatic/kafka/package.json', import.meta.url)))
await main(`@platformatic/kafka ${version}, Node.js ${process.version}`, { produce, consume, member })
