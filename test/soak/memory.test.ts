import t from 'tap'
import { startProcess } from '../helpers/node-process.js'

/** More of them in `npm run soak`. */
const TURNS = Number(process.env.TURNS ?? 30_000)
const CONVERSATIONS = TURNS / 20

t.test(`${TURNS} turns in ${CONVERSATIONS} conversations take no more memory than the first tenth of them`, async (t) => {
  const { lines, exited } = startProcess(t, 'many-turns.js', String(TURNS), String(CONVERSATIONS))
  const tenths: Array<{ heap: number, resident: number }> = []
  for (let line = await lines.next(); line.done !== true; line = await lines.next()) tenths.push(JSON.parse(line.value))
  t.match(await exited, { code: 0, errors: '' })
  const [first, last] = [tenths[0], tenths.at(-1)] as [typeof tenths[0], typeof tenths[0]]
  t.comment(`MB: ${tenths.map(({ heap, resident }) => `${Math.round(heap / 1e6)}/${Math.round(resident / 1e6)}`).join(' ')}`)
  t.ok((last?.heap as number) < (first?.heap as number) * 1.1, 'heap in use')
  // What a process has got from its system it does not give back at once: with few turns that says little.
  if (TURNS >= 1_000_000) t.ok((last?.resident as number) < (first?.resident as number) * 1.1, 'resident memory')
})
