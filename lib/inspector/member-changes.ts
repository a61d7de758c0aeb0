import { diffArrays } from 'diff'
import { isObject } from '../document/describe-type.js'
import { type ShownText, shortened, shortenedName } from './shown-text.js'

/** What a turn made of one value in a document: without `before` it was added, without `after` removed. */
export interface MemberChange {
  /** The way to it: names of members, and positions in lists. */
  path: Array<string | number>
  before?: ShownText
  after?: ShownText
}

/** How deep a change is looked for: beyond that a value is shown as a whole. */
const MAX_DEPTH = 20
/** How many changes of one member are shown one by one: beyond that it is shown as a whole. */
const MAX_CHANGES = 100
/** How much lists may differ to be compared item by item. */
const MAX_EDITS = 200
/** How long one member may be compared, in milliseconds: the bot waits for it. */
const TIMEOUT = 50

/**
 * What became of a member.
 *
 * @param before its JSON text, `undefined` where there was none
 */
export function memberChanges (name: string, before: string | undefined, after: string | undefined): MemberChange[] {
  if (before === after) return []
  const whole = changeOf([name], before, after)
  if (before === undefined || after === undefined) return [whole]
  const changes: MemberChange[] = []
  try {
    const until = performance.now() + TIMEOUT
    for (const change of changesOf([name], JSON.parse(before), JSON.parse(after), until)) {
      if (changes.push(change) > MAX_CHANGES) return [whole]
    }
  } catch {
    // It takes too long, or is nested too deeply to be encoded again.
    return [whole]
  }
  return changes
}

/** @throws where it is not done in time */
function * changesOf (path: MemberChange['path'], before: unknown, after: unknown, until: number): Generator<MemberChange> {
  if (performance.now() > until) throw new Error('too late')
  const isDeep = path.length > MAX_DEPTH
  if (!isDeep && Array.isArray(before) && Array.isArray(after)) yield * itemChanges(path, before, after, until)
  else if (!isDeep && isObject(before) && isObject(after)) yield * propertyChanges(path, before, after, until)
  else {
    const [text, next] = [JSON.stringify(before), JSON.stringify(after)]
    if (text !== next) yield changeOf(path, text, next)
  }
}

function * propertyChanges (path: MemberChange['path'], before: Record<string, unknown>, after: Record<string, unknown>, until: number): Generator<MemberChange> {
  for (const name of new Set([...Object.keys(before), ...Object.keys(after)])) {
    const isInBoth = Object.hasOwn(before, name) && Object.hasOwn(after, name)
    if (isInBoth) yield * changesOf([...path, name], before[name], after[name], until)
    else yield changeOf([...path, name], textIn(before, name), textIn(after, name))
  }
}

/** Items are told apart by their texts: what is removed at the place where something is added has changed. */
function * itemChanges (path: MemberChange['path'], before: unknown[], after: unknown[], until: number): Generator<MemberChange> {
  const [texts, nextTexts] = [before.map(textOf), after.map(textOf)]
  const parts = diffArrays(texts, nextTexts, { maxEditLength: MAX_EDITS, timeout: TIMEOUT })
  if (parts === undefined) return yield changeOf(path, `[${texts.join()}]`, `[${nextTexts.join()}]`)
  let [from, to, gone] = [0, 0, 0]
  // What is removed comes right before what is added in its place. The last part is none.
  for (const { added, removed, count } of [...parts, { added: false, removed: false, count: 0 }]) {
    if (removed) gone = count
    else {
      const changed = added ? Math.min(gone, count) : 0
      for (let item = 0; item < changed; item++) yield * changesOf([...path, to + item], before[from + item], after[to + item], until)
      for (let item = changed; item < gone; item++) yield changeOf([...path, from + item], texts[from + item], undefined)
      for (let item = changed; item < (added ? count : 0); item++) yield changeOf([...path, to + item], undefined, nextTexts[to + item])
      from += added ? gone : gone + count
      to += count
      gone = 0
    }
  }
}

function changeOf (path: MemberChange['path'], before: string | undefined, after: string | undefined): MemberChange {
  return { path: path.map((step) => typeof step === 'string' ? shortenedName(step) : step), ...before !== undefined && { before: shortened(before) }, ...after !== undefined && { after: shortened(after) } }
}

function textIn (object: Record<string, unknown>, name: string): string | undefined {
  return Object.hasOwn(object, name) ? textOf(object[name]) : undefined
}

function textOf (value: unknown): string {
  return JSON.stringify(value)
}
