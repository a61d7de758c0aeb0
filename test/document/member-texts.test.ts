import fc from 'fast-check'
import t from 'tap'
import { memberTexts } from '../../lib/document/member-texts.js'

const RUNS = Number(process.env.PROPERTY_RUNS ?? 300) * 10

/** What may go wrong with a text: some characters are replaced by others. */
const edits = fc.array(fc.record({
  at: fc.nat(),
  removed: fc.nat(3),
  added: fc.constantFrom('', '{', '}', '[', ']', ',', ':', '"', '\\', '0', '1', '-', '.', 'e', '+', 't', 'true', 'null', 'x', ' ', '\n')
}), { maxLength: 2 })

function edited (text: string, edits: Array<{ at: number, removed: number, added: string }>): string {
  return edits.reduce((text, { at, removed, added }) => {
    const start = at % (text.length + 1)
    return text.slice(0, start) + added + text.slice(start + removed)
  }, text)
}

/** The members of a text, as strings. */
function membersOf (text: string): Map<string, string> | undefined {
  const found = memberTexts(Buffer.from(text))
  return found && new Map([...found].map(([name, { bytes, start, end }]) => [name, bytes.toString('utf8', start, end)]))
}

function parsed (text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {}
}

t.test('a text is cut into the members that JSON.parse finds in it, whatever their names and values, and however it is indented', async (t) => {
  fc.assert(fc.property(fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 4 })), fc.constantFrom(undefined, 1, '\t', '\r\n'), (document, indent) => {
    const text = ` ${JSON.stringify(document, null, indent)}\n`
    const members = [...membersOf(text) ?? []]
    t.strictSame(Object.fromEntries(members.map(([name, member]) => [name, JSON.parse(member)])), JSON.parse(text))
    for (const [, member] of members) t.ok(text.includes(member) && member === member.trim())
  }), { numRuns: RUNS / 10 })
})

t.test('what is not the text of a JSON object is not cut, and what is not noticed is in a string', async () => {
  fc.assert(fc.property(fc.jsonValue({ maxDepth: 4 }), fc.constantFrom(undefined, 2), edits, (value, indent, edits) => {
    const text = edited(JSON.stringify({ a: value, 'b"\\': -1.5e-7, c: [value, {}] }, null, indent), edits)
    const document = parsed(text)
    const isDocument = typeof document === 'object' && document !== null && !Array.isArray(document)
    const members = membersOf(text)
    if (isDocument) return members?.size === Object.keys(document).length
    // Escapes and control characters are looked at when a member is parsed.
    return members === undefined || [...members.values()].some((member) => parsed(member) === undefined && /["\\]/.test(member))
  }), { numRuns: RUNS })
})

t.test('what follows an object makes it no object, be it empty or not', async (t) => {
  for (const text of ['{} x', '{}{}', '{"a":1},', '{"a":1}}']) t.equal(membersOf(text), undefined, text)
  t.equal(membersOf(' {} \n')?.size, 0)
})

t.test('the last of two members of one name counts, as for JSON.parse', async (t) => {
  t.strictSame([...membersOf('{"a":1,"b":2,"a":3}') ?? []], [['a', '3'], ['b', '2']])
})

t.test('nesting is as deep as it likes', async (t) => {
  const deep = '['.repeat(200_000) + ']'.repeat(200_000)
  t.equal(membersOf(`{"deep":${deep}}`)?.get('deep'), deep)
  t.equal(membersOf(`{"deep":${deep.slice(1)}}`), undefined)
})
