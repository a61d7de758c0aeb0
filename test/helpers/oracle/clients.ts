import { fork } from 'node:child_process'
import type { Duplex } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { shellEnvironment } from '../node-process.js'
import type { Answers, Order } from './client.js'

/** The process of the clients, as the servers see it. */
export class Clients {
  readonly #process = fork(fileURLToPath(new URL('client.ts', import.meta.url)), { execArgv: ['--import=tsx'], env: shellEnvironment })
  readonly #waiting = new Map<number, { resolve: (answers: Answers) => void, reject: (error: Error) => void }>()
  #opened = 0

  constructor () {
    this.#process.on('message', (message) => {
      const answers = message as Answers
      this.#waiting.get(answers.id)?.resolve(answers)
      this.#waiting.delete(answers.id)
    })
    this.#process.once('exit', () => {
      for (const { reject } of this.#waiting.values()) reject(new Error('the process of the clients has ended'))
    })
  }

  /** Has a new client send its message, and perhaps the next one. */
  talk (order: Omit<Order & { do: 'talk' }, 'id' | 'do'>) {
    const id = ++this.#opened
    const tell = (told: Order): void => { this.#process.send(told) }
    tell({ id, do: 'talk', ...order })
    return {
      answers: new Promise<Answers>((resolve, reject) => this.#waiting.set(id, { resolve, reject })),
      leave: () => tell({ id, do: 'leave' }),
      close: () => tell({ id, do: 'close' })
    }
  }

  close (): void {
    this.#process.disconnect()
  }
}

/** Resolves when the server knows that its client is gone. */
export async function gone ({ socket, stream = socket }: { socket: Duplex, stream?: Duplex }): Promise<void> {
  if (!stream.closed) await new Promise((resolve) => stream.once('close', resolve))
}
