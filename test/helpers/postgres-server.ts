import { execFileSync } from 'node:child_process'
import { readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ChildProcess } from 'node:child_process'
import type { Test } from 'tap'
import pg from 'pg'
import { settled } from './build-fastify.js'
import { freePort } from './free-port.js'
import { ended, serverDirectory, startServer, startWithTest } from './server-process.js'
import { programPath } from './server-programs.js'

/** Postgres refuses to run as root. */
const user = process.getuid?.() === 0
  ? { uid: Number(execFileSync('id', ['-u', 'postgres'])), gid: Number(execFileSync('id', ['-g', 'postgres'])) }
  : {}

/** A Postgres that can be stopped and started again, with all that it confirmed. Its user `bot` may do everything. */
export async function restartablePostgres (t: Test, settings: Record<string, string> = {}) {
  const directory = serverDirectory(t, user)
  const data = join(directory, 'data')
  execFileSync(programPath('initdb'), ['-D', data, '-U', 'bot', '--auth', 'trust', '--no-sync', '-E', 'UTF8', '--locale', 'C'], { ...user, cwd: directory, stdio: 'pipe' })
  const port = await freePort()
  let server: ChildProcess | undefined
  const processes = (): number[] => server === undefined ? [] : [server.pid as number, ...childrenOf(server.pid as number)]
  const stop = async (signal: NodeJS.Signals = 'SIGINT'): Promise<void> => {
    if (server === undefined) return
    const all = processes()
    if (signal === 'SIGKILL') for (const pid of all) kill(pid, 'SIGCONT')
    // Of Postgres's own ways to end, SIGTERM waits for the clients.
    await ended(server, signal === 'SIGTERM' ? 'SIGINT' : signal)
    await settled(() => all.every((pid) => !isAlive(pid)))
    server = undefined
  }
  t.teardown(() => stop('SIGKILL'))
  return {
    port,
    url: `postgres://bot@127.0.0.1:${port}/postgres`,
    start: async () => {
      const options = { fsync: 'off', listen_addresses: '127.0.0.1', unix_socket_directories: '', max_connections: '200', ...settings }
      server = await startServer(programPath('postgres'), ['-D', data, '-p', String(port), ...Object.entries(options).flatMap(([name, value]) => ['-c', `${name}=${value}`])],
        directory, 'ready to accept connections', user)
    },
    /** To the server and all its processes, each of which serves one connection. */
    signal: (signal: NodeJS.Signals) => { for (const pid of processes()) kill(pid, signal) },
    stop,
    /** Who may connect how, from now on. */
    authenticate: (rules: string) => {
      writeFileSync(join(data, 'pg_hba.conf'), rules)
      server?.kill('SIGHUP')
    }
  }
}

/** A Postgres that runs until the end of the test. */
export async function startPostgres (t: Test, settings?: Record<string, string>) {
  const postgres = await restartablePostgres(t, settings)
  await postgres.start()
  return postgres
}

/** A pool of pg of the test's own. */
export function poolOf (t: Test, url: string, options: pg.PoolConfig = {}): pg.Pool {
  const pool = new pg.Pool({ connectionString: url, ...options })
  pool.on('error', () => {})
  t.teardown(() => pool.end())
  return pool
}

function childrenOf (parent: number): number[] {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name)).map(Number).filter((pid) => parentOf(pid) === parent)
}

function parentOf (pid: number): number | undefined {
  try {
    return Number(/\) \S (\d+)/.exec(readFileSync(`/proc/${pid}/stat`, 'utf8'))?.[1])
  } catch {
    // It has just ended.
  }
}

function isAlive (pid: number): boolean {
  return parentOf(pid) !== undefined
}

function kill (pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch {
    // It has just ended.
  }
}

/** A PgBouncer before a server, which gives its connections to one transaction at a time. */
export async function startPgBouncer (t: Test, to: number): Promise<{ url: string }> {
  const directory = serverDirectory(t, user)
  const port = await freePort()
  const settings = join(directory, 'pgbouncer.ini')
  writeFileSync(join(directory, 'users.txt'), '"bot" ""\n')
  writeFileSync(settings, `[databases]\npostgres = host=127.0.0.1 port=${to} user=bot\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = ${port}\n` +
    `unix_socket_dir =\nauth_type = any\nauth_file = ${join(directory, 'users.txt')}\npool_mode = transaction\ndefault_pool_size = 3\nmax_client_conn = 500\n`)
  await startWithTest(t, programPath('pgbouncer'), [settings], directory, 'process up', user)
  return { url: `postgres://bot@127.0.0.1:${port}/postgres` }
}
