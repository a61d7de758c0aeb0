import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { FileStorage } from '../../lib/index.js'
import { installPackage } from '../helpers/installed-package.js'
import { shellEnvironment } from '../helpers/node-process.js'
import { activity, snippet } from '../helpers/pages.js'

const run = promisify(execFile)
const TSC = fileURLToPath(new URL('../../node_modules/typescript/bin/tsc', import.meta.url))

const program = `
import 'reflect-metadata'
import { Controller, Module, Post, Req } from '@nestjs/common'
import { NestFactory } from '@nestjs/core'
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify'
import type { FastifyRequest } from 'fastify'
import botasState, { FileStorage } from 'fastify-botas-state'

@Controller('api/messages')
class BotController {
  @Post()
  answer (@Req() { state }: FastifyRequest) {
    return { n: state.conversation.update<number>('n', (n = 0) => n + 1) }
  }
}

@Module({ controllers: [BotController] })
class BotModule {}

const storage = new FileStorage('./state')
${snippet('nestjs').replace('3978', "0, '127.0.0.1'")}
for (let message = 1; message <= 2; message++) {
  const reply = await fetch(await app.getUrl() + '/api/messages', {
    method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(${JSON.stringify(activity)})
  })
  console.log(reply.status, await reply.text())
}
process.kill(process.pid, 'SIGTERM')
`

t.test('a controller of NestJS has the state of its turn, and SIGTERM closes it', async (t) => {
  const nest = ['common', 'core', 'platform-fastify'].map((name) => `@nestjs/${name}@^12.5.0`)
  const { directory, write } = await installPackage(t, [...nest, 'reflect-metadata@^0.2.2', 'rxjs@^7.8.2', 'fastify@^5.12.8', '@types/node@^20.19.43'])
  await write('bot.ts', program)
  const options = ['--ignoreConfig', '--strict', '--experimentalDecorators', '--skipLibCheck', '--module', 'nodenext', '--target', 'es2023', '--types', 'node']
  const { stdout: complaints } = await run(process.execPath, [TSC, ...options, 'bot.ts'], { cwd: directory }).catch((error) => error)
  t.equal(complaints, '')
  const { stdout } = await run(process.execPath, [join(directory, 'bot.js')], { cwd: directory, env: { ...shellEnvironment, NO_COLOR: '1' } })
  t.match(stdout, /^201 \{"n":1\}\n201 \{"n":2\}$/m)
  t.strictSame(await new FileStorage(join(directory, 'state')).read(['test/bot/conversations/c']), { 'test/bot/conversations/c': { n: 2 } })
})
