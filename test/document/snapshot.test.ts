import fc from 'fast-check'
import t from 'tap'
import { isAs, snapshotOf, valueOf } from '../../lib/document/snapshot.js'

const RUNS = Number(process.env.PROPERTY_RUNS ?? 300) * 10

/** What a handler may store: plain data, and what JSON makes something else of. */
const values = fc.letrec((tie) => ({
  value: fc.oneof({ maxDepth: 4 },
    fc.string({ maxLength: 3 }), fc.integer({ min: -2, max: 2 }), fc.boolean(), fc.constant(null), fc.constant(undefined),
    fc.date({ noInvalidDate: true, min: new Date(0), max: new Date(2) }),
    fc.uint8Array({ maxLength: 2 }),
    fc.constantFrom({ toJSON: () => 'told' }, { toJSON: () => undefined }),
    fc.array(tie('value'), { maxLength: 3 }),
    fc.dictionary(fc.constantFrom('a', 'b', '__proto__', '1'), tie('value'), { maxKeys: 3, noNullPrototype: false }))
})).value

const inJson = (value: unknown): string | undefined => JSON.stringify(value, function (this: Record<string, unknown>, name, member) {
  const original = this[name]
  return original instanceof Uint8Array ? Buffer.from(original).toString('base64') : member
})

t.test('a value that is as the snapshot of another one is the same in JSON, and of its own it always is', async () => {
  fc.assert(fc.property(values, values, (one, other) => {
    const isSame = inJson(one) === inJson(other)
    const snapshot = snapshotOf(one, 'name', 'temp')
    // A listed value and one that is told by its text may be the same in JSON: its text tells, later.
    return isAs(one, snapshot) && (isAs(other, snapshot) ? isSame : !isSame || typeof other === 'object')
  }), { numRuns: RUNS })
})

t.test('a snapshot gives back what JSON would, and shares nothing with the value', async (t) => {
  fc.assert(fc.property(values, (value) => {
    const text = inJson(value)
    const copy = valueOf(snapshotOf(value, 'name', 'temp'))
    t.equal(inJson(copy), text)
    if (typeof copy === 'object' && copy !== null) t.not(copy, value)
  }), { numRuns: RUNS / 10 })
})

t.test('every change in place is noticed', async (t) => {
  const value = { list: [1, { deep: 'x' }], at: new Date(0) } as { list: any[], at: Date, more?: unknown, toJSON?: unknown }
  const changes: Array<() => void> = [
    () => { value.list[1].deep = 'y' }, () => { value.list.push(2) }, () => { value.list[1] = null }, () => { value.list.length = 1 },
    () => { value.at.setTime(1) }, () => { value.more = null }, () => { delete value.more }, () => { value.toJSON = () => ({}) }
  ]
  for (const change of changes) {
    const snapshot = snapshotOf(value, 'name', 'temp')
    t.ok(isAs(value, snapshot))
    change()
    t.notOk(isAs(value, snapshot), String(change))
  }
})
