// What the client programs in JavaScript share: the arguments, the records, and how they tell what they saw (see README.md).

import { openSync, readSync, writeSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { crc32 } from 'node:zlib'

const text = { type: 'string' }

export function readArguments() {
  const { values } = parseArgs({
    options: {
      mode: text,
      bootstrap: text,
      topic: text,
      partitions: text,
      records: { ...text, default: '0' },
      values: text,
      size: { ...text, default: '1024' },
      compression: { ...text, default: 'none' },
      idempotence: { ...text, default: 'off' },
      gate: { ...text, default: '0' },
      seconds: { ...text, default: '0' },
      group: text,
      protocol: { ...text, default: 'classic' },
      session: { ...text, default: '3000' }
    }
  })
  for (const number of ['partitions', 'records', 'size', 'gate', 'seconds', 'session']) values[number] = Number(values[number])
  values.bootstrap = values.bootstrap.split(',')
  return values
}

// Lines go out in blocks: a call of the system for each would be most of the work.
let waiting = []

export function tell(...what) {
  waiting.push(JSON.stringify(what))
  if (waiting.length >= 200) flush()
}

export function flush() {
  if (waiting.length === 0) return
  let bytes = Buffer.from(`${waiting.join('\n')}\n`)
  waiting = []
  while (bytes.length > 0) {
    try {
      bytes = bytes.subarray(writeSync(1, bytes))
    } catch (error) {
      // The pipe is full; the harness is reading.
      if (error.code !== 'EAGAIN') throw error
    }
  }
}

// The records in groups. At the gate it waits for a line on standard input, and spreads what comes after it over the time
// that was asked for.
export async function* groups(args, most) {
  const file = openSync(args.values, 'r')
  let opened = args.gate === 0 ? performance.now() : undefined
  if (args.gate > 0) process.stdin.once('data', () => { opened = performance.now() })
  const after = args.records - args.gate
  let number = 0
  while (number < args.records) {
    const share = opened === undefined ? 0 : (performance.now() - opened) / 1000 / args.seconds
    const due = args.seconds === 0 && opened !== undefined ? args.records : Math.ceil(args.gate + share * after)
    const group = []
    while (number < Math.min(due, args.records) && group.length < most) {
      const value = Buffer.alloc(args.size)
      readSync(file, value, 0, args.size, number * args.size)
      group.push({ number, partition: number % args.partitions, key: `key-${number}`, value })
      number += 1
    }
    if (group.length > 0) yield group
    else await sleep(5)
  }
}

// A client that sends a group in one call is told the offset of the first record in each partition.
export function acknowledged(group, bases) {
  const next = new Map(bases)
  for (const { number, partition } of group) {
    const offset = next.get(partition)
    if (offset === undefined) {
      tell('failed', number, `no offset for partition ${partition}`)
      continue
    }
    tell('acknowledged', number, partition, Number(offset))
    next.set(partition, offset + 1n)
  }
  flush()
}

export function read(partition, offset, key, value, headers) {
  const string = bytes => bytes === null || bytes === undefined ? null : bytes.toString()
  const pairs = headers.map(([name, data]) => [string(name), string(data)])
  tell('read', partition, Number(offset), string(key), crc32(value), value.length, pairs)
}

// A member's work with a record: it is done when the line is out, and takes a while.
export async function work(partition, offset, key, value, headers) {
  read(partition, offset, key, value, headers)
  flush()
  await sleep(2)
}

// A member's partitions, if they are others than before.
let assignment
export function assigned(partitions) {
  const sorted = JSON.stringify([...partitions].sort())
  if (sorted === assignment) return
  assignment = sorted
  tell('assigned', JSON.parse(sorted))
  flush()
}

// A commit was acknowledged.
export function committed(partition, offset) {
  tell('committed', partition, Number(offset))
  flush()
}

// The committed offset and the end of a partition, as the client itself finds them.
export function lag(partition, committed, end) {
  tell('lag', partition, Number(committed), Number(end))
}

// An object whose `told` becomes true when standard input ends: the harness has seen all that it waits for.
export function untilTold() {
  const state = { told: false }
  process.stdin.on('end', () => { state.told = true })
  process.stdin.resume()
  return state
}

export async function main(versions, modes) {
  const args = readArguments()
  tell('versions', versions)
  try {
    await modes[args.mode](args)
    tell('done')
    flush()
    process.exit(0)
  } catch (error) {
    flush()
    console.error(error)
    process.exit(1)
  }
}
