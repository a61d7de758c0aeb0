import t from 'tap'
import { pageModule } from '../../helpers/page-module.js'

const { duration, size, counted } = await pageModule<{
  duration (milliseconds: number): string
  size (bytes: number): string
  counted (count: number, singular: string): string
}>('format')

t.test('times and sizes are told in the unit that one would say', async (t) => {
  t.strictSame([0.04, 9.9, 10, 999, 1000, 59_900, 60_000, 3_599_000, 7_200_000, 86_400_000 * 90].map(duration),
    ['0.0 ms', '9.9 ms', '10 ms', '999 ms', '1.0 s', '59.9 s', '1 min', '60 min', '2 h', '90 days'])
  t.strictSame([2, 999, 1000, 999_999, 1_000_000].map(size), ['2 B', '999 B', '1.0 kB', '1000.0 kB', '1.0 MB'])
  t.strictSame([counted(0, 'turn'), counted(1, 'turn'), counted(2, 'turn')], ['0 turns', '1 turn', '2 turns'])
})
