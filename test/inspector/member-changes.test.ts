import fc from 'fast-check'
import t from 'tap'
import { type MemberChange, memberChanges } from '../../lib/inspector/member-changes.js'

/** What the member becomes by its changes: those of one list are given in the order in which they are done. */
function changed (before: unknown, changes: MemberChange[]): unknown {
  const document: Record<string, unknown> = { member: structuredClone(before) }
  // What goes is named by where it was, and what comes by where it is.
  const removals = changes.filter(({ after }) => after === undefined).reverse()
  for (const change of [...removals, ...changes.filter(({ after }) => after !== undefined)]) change1(document, change)
  return document.member
}

function change1 (document: Record<string, unknown>, { path, before, after }: MemberChange): void {
  const parents = path.slice(0, -1)
  const last = path.at(-1) as string | number
  const target = parents.reduce<unknown>((value, step) => (value as Record<string, unknown>)[step], document) as Record<string, unknown>
  if (Array.isArray(target) && after === undefined) target.splice(last as number, 1)
  else if (Array.isArray(target) && before === undefined) target.splice(last as number, 0, JSON.parse(after?.text as string))
  else if (after === undefined) delete target[last]
  else Object.defineProperty(target, last, { value: JSON.parse(after.text), enumerable: true, configurable: true, writable: true })
}

t.test('the changes of a list of plain values lead from what was there to what is', async (t) => {
  const list = fc.array(fc.oneof(fc.integer({ min: 0, max: 4 }), fc.constantFrom('a', 'b', null, true)), { maxLength: 12 })
  fc.assert(fc.property(list, list, (before, after) => {
    const changes = memberChanges('member', JSON.stringify(before), JSON.stringify(after))
    t.strictSame(changed(before, changes), after)
  }), { numRuns: 500 })
})

t.test('the changes of an object lead from what was there to what is, and say what was there', async (t) => {
  const value = fc.letrec((tie) => ({
    object: fc.dictionary(fc.constantFrom('a', 'b', 'c', '__proto__', 'constructor', ''), fc.oneof({ maxDepth: 3 }, fc.integer({ min: 0, max: 3 }), fc.string(), tie('object')), { maxKeys: 4 })
  })).object
  fc.assert(fc.property(value, value, (before, after) => {
    const plain = (object: unknown): unknown => JSON.parse(JSON.stringify(object))
    const changes = memberChanges('member', JSON.stringify(before), JSON.stringify(after))
    t.strictSame(sorted(changed(plain(before), changes)), sorted(plain(after)))
    for (const { before, after } of changes) t.not(before?.text, after?.text)
  }), { numRuns: 500 })
})

function sorted (value: unknown): string {
  return JSON.stringify(value, (_name, inner) => inner !== null && typeof inner === 'object' && !Array.isArray(inner)
    ? Object.entries(inner).sort(([one], [other]) => one < other ? -1 : 1)
    : inner)
}

const shown = (changes: MemberChange[]) => changes.map(({ path, before, after }) => [path.join('.'), before?.text, after?.text])

t.test('of a history that is kept short, what went and what came is told', async (t) => {
  const before = Array.from({ length: 20 }, (_, index) => ({ role: 'user', text: `message ${index}` }))
  const after = [...before.slice(2), { role: 'user', text: 'hello' }, { role: 'bot', text: 'hi' }]
  t.strictSame(shown(memberChanges('history', JSON.stringify(before), JSON.stringify(after))), [
    ['history.0', '{"role":"user","text":"message 0"}', undefined],
    ['history.1', '{"role":"user","text":"message 1"}', undefined],
    ['history.18', undefined, '{"role":"user","text":"hello"}'],
    ['history.19', undefined, '{"role":"bot","text":"hi"}']
  ])
})

t.test('an item that changed in its place is told by what changed in it', async (t) => {
  t.strictSame(shown(memberChanges('cart', '[{"id":1,"n":1},{"id":2,"n":1}]', '[{"id":1,"n":1},{"id":2,"n":5}]')), [['cart.1.n', '1', '5']])
})

t.test('a member that came, went, is of another kind, or has changed all over is told as a whole', async (t) => {
  t.strictSame(shown(memberChanges('m', undefined, '{"a":1}')), [['m', undefined, '{"a":1}']])
  t.strictSame(shown(memberChanges('m', '[1]', undefined)), [['m', '[1]', undefined]])
  t.strictSame(shown(memberChanges('m', '[1]', '{"0":1}')), [['m', '[1]', '{"0":1}']])
  t.strictSame(shown(memberChanges('m', '"a"', '"a"')), [])
  t.strictSame(shown(memberChanges('m', '{"a":1}', '{ "a": 1 }')), [], 'written in another way, it is the same')
  const many = (from: number, count = 500): string => JSON.stringify(Array.from({ length: count }, (_, index) => from + index))
  t.equal(memberChanges('m', many(0), many(1000)).length, 1)
  t.equal(memberChanges('m', many(0, 150), many(1000, 150)).length, 1)
  const wide = (value: number): string => JSON.stringify(Object.fromEntries(Array.from({ length: 150 }, (_, index) => [`m${index}`, value])))
  t.equal(memberChanges('m', wide(1), wide(2)).length, 1)
  const slow = (isTurned: boolean): string => JSON.stringify(Object.fromEntries(Array.from({ length: 90 }, (_, index) => {
    const list = Array.from({ length: 3000 }, (_, item) => item * index)
    return [`m${index}`, isTurned ? list.reverse() : list]
  })))
  t.equal(memberChanges('m', slow(false), slow(true)).length, 1, 'what would take long is not compared in detail')
  const deep = (leaf: string, depth: number): string => '{"a":'.repeat(depth) + leaf + '}'.repeat(depth)
  t.equal(memberChanges('m', deep('1', 50), deep('2', 50))[0]?.path.length, 21)
  t.equal(memberChanges('m', deep('1', 20_000), deep('2', 20_000)).length, 1)
})

t.test('long texts and names are cut, and their lengths are told', async (t) => {
  const [change] = memberChanges('n'.repeat(5000), undefined, JSON.stringify('x'.repeat(50_000)))
  t.equal(String(change?.path[0]).length, 201)
  t.equal(change?.after?.text.length, 10_000)
  t.equal(change?.after?.length, 50_002)
})
