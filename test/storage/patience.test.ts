import t from 'tap'
import { Patience } from '../../lib/storage/patience.js'

t.test('a signal is aborted with the first reason, also where it is read later', async (t) => {
  const early = new Patience()
  const late = new Patience()
  const { signal } = early
  for (const patience of [early, late]) for (const reason of ['first', 'second']) patience.end(new Error(reason))
  for (const one of [signal, early.signal, late.signal]) t.match(one, { aborted: true, reason: { message: 'first' } })
})
