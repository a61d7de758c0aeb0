// Compares the plugin with what one would write without it: real server processes, a load generator in another one, a real
// servers of the storages. All variants run in turn, in several rounds; the figures are ratios within a round. SECONDS and ROUNDS make it
// longer or shorter, ROWS (a part of their titles) narrower.
import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { arch, cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { startRedis, startServer } from './processes.js'
import { comparisons, series } from './rows.js'
import { median, table } from './report.js'
import { testedServers } from '../helpers/tested-servers.ts'

const SECONDS = Number(process.env.SECONDS ?? 1)
const ROUNDS = Number(process.env.ROUNDS ?? 12)
const wanted = ({ title }) => title.includes(process.env.ROWS ?? '')
const chosenComparisons = comparisons.filter(wanted)
const chosenSeries = series.filter(wanted)

const directory = await mkdtemp(join(tmpdir(), 'botas-bench-'))
const redis = await startRedis(directory)
const servers = new Map()
const teardowns = []
const isWanted = (kind) => chosenComparisons.some(({ ours, theirs }) => [ours, theirs].some(({ variant }) => variant.startsWith(kind)))

/** A server as the tests start it, where a row needs it. */
async function urlOf (kind, name) {
  if (!isWanted(kind)) return ''
  const server = await testedServers[name]({ teardown: (work) => teardowns.unshift(work) })
  await server.start()
  return server.urlAt(server.port)
}

const env = {
  REDIS: redis.url,
  DIRECTORY: directory,
  POSTGRES: await urlOf('postgres', 'Postgres'),
  BLOB: await urlOf('blob', 'Azure Blob Storage'),
  COSMOS: await urlOf('cosmos', 'Azure Cosmos DB')
}

/** A server for each load, so that none is busier, and warmer, than what it is compared with. */
async function serverOf (load) {
  if (!servers.has(load)) servers.set(load, await startServer(load.variant, env))
  return servers.get(load)
}

/** Some rounds of several loads in turn, forth and back, after one to warm up. */
async function measure (loads) {
  const rounds = loads.map(() => [])
  for (let round = -1; round < ROUNDS; round++) {
    const inTurn = [...loads.entries()]
    for (const [index, load] of round % 2 === 0 ? inTurn : inTurn.reverse()) {
      const result = await (await serverOf(load)).round({ seconds: SECONDS, ...load })
      if (round >= 0) rounds[index].push(result)
    }
    process.stderr.write('.')
  }
  return rounds
}

try {
  console.log(`${cpus()[0].model.trim()}, ${cpus().length} cores, ${process.platform} ${arch()}; Node ${process.version}, ` +
    `${['fastify', 'ioredis', 'pg', 'autocannon'].map((name) => `${name} ${versionOf(name)}`).join(', ')}, ${redis.version}; ` +
    `${ROUNDS} rounds of ${SECONDS} s\n`)

  const loads = chosenComparisons.flatMap(({ ours, theirs }) => [ours, theirs])
  const results = await measure(loads)
  console.log(table(
    ['work', 'against', 'target', 'requests/s', 'CPU a request', 'our requests/s', 'our µs of CPU', 'p99 in ms'],
    chosenComparisons.map(({ title, against, target }, index) => {
      const [ours, theirs] = results.slice(2 * index, 2 * index + 2)
      const ratios = (figure) => ours.map((round, index) => figure(round, theirs[index]))
      return [
        title, against, target,
        spread(ratios((our, their) => our.rate / their.rate)),
        spread(ratios((our, their) => their.cpu / our.cpu)),
        Math.round(median(ours.map(({ rate }) => rate))).toLocaleString('en'),
        `${median(ours.map(({ cpu }) => cpu)).toFixed(1)} : ${median(theirs.map(({ cpu }) => cpu)).toFixed(1)}`,
        `${median(ours.map(({ p99 }) => p99))} : ${median(theirs.map(({ p99 }) => p99))}`
      ]
    })))

  for (const { title, loads } of chosenSeries) {
    const results = await measure(loads)
    console.log(`\n${table([title, 'requests/s', 'against the first', 'µs of CPU a request', 'p99 in ms'], results.map((rounds, index) => [
      loads[index].title,
      Math.round(median(rounds.map(({ rate }) => rate))).toLocaleString('en'),
      spread(rounds.map(({ rate }, round) => rate / results[0][round].rate)),
      median(rounds.map(({ cpu }) => cpu)).toFixed(1),
      median(rounds.map(({ p99 }) => p99))
    ]))}`)
  }
} finally {
  await Promise.all([...servers.values()].map((server) => server.stop()))
  await redis.stop()
  for (const work of teardowns) await work()
  await rm(directory, { recursive: true, force: true })
}

/** The median, and between which the others are. */
function spread (figures) {
  return `${median(figures).toFixed(2)} (${Math.min(...figures).toFixed(2)}–${Math.max(...figures).toFixed(2)})`
}

function versionOf (name) {
  return JSON.parse(readFileSync(new URL(`../../node_modules/${name}/package.json`, import.meta.url))).version
}
