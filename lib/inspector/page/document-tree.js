import { html } from './lit-html/lit-html.js'
import { repeat } from './lit-html/directives/repeat.js'
import { counted, duration, size } from './format.js'
import { shownName } from './names.js'
import { textView } from './text-view.js'

/** @import { ShownDocument } from '../shown-document.js' */
/** @import { ShownText } from '../shown-text.js' */

/** More values are shown in parts. */
const PART = 100
/** In a shorter document, what has no more values is open from the beginning; in characters. */
const OPEN = 4000
const FEW = 6
const SHALLOW = 4
/** What is deeper inside is not shown. */
const DEEP = 20
/** What is shorter is counted before it is opened, in characters. */
const COUNTED = 100_000

/**
 * What trees have in common.
 *
 * @typedef {object} Tree
 * @property {Map<string, boolean>} open the values that were opened, and closed, by hand
 * @property {ReadonlySet<string>} changed the members that have changed since the document was shown before
 * @property {() => void} changes is called whenever one is opened or closed
 * @property {boolean} isSmall
 * @property {number} depth
 */

/**
 * A document as a tree: what is inside a value is made when it is opened.
 *
 * @param {ShownDocument} document
 * @param {number} age how long ago it was read, in milliseconds
 * @param {Omit<Tree, 'isSmall' | 'depth'>} tree
 */
export function documentTree ({ key, members, leftOut, size: bytes, timeLeft }, age, tree) {
  if (bytes === undefined) return html`<p class="empty">Nothing is stored.</p>`
  const entries = new Part(members.map((member) => [member.name, new Member(member)])).parts()
  return html`
    <p class="more">${size(bytes)} · ${expiry(timeLeft, age)}</p>
    <div class="tree">${childrenView(entries, JSON.stringify([key]), { ...tree, isSmall: bytes < OPEN, depth: 0 })}</div>
    ${leftOut > 0 ? html`<p class="more">Cut: ${counted(leftOut, 'more member')}.</p>` : ''}`
}

/**
 * @param {number | null | undefined} timeLeft in milliseconds
 * @param {number} age
 */
function expiry (timeLeft, age) {
  if (timeLeft === undefined) return 'expiry unknown'
  return timeLeft === null ? 'no expiry' : `expires in ${duration(Math.max(timeLeft - age, 0))}`
}

/**
 * @param {Array<[name: string, child: unknown]>} children
 * @param {string} place
 * @param {Tree} tree
 * @returns {ReturnType<typeof html>}
 */
function childrenView (children, place, tree) {
  /** @type {Map<string, number>} names that were cut may be the same */
  const counts = new Map()
  /** @param {[string, unknown]} child */
  const keyOf = ([name]) => {
    const count = counts.get(name) ?? 0
    counts.set(name, count + 1)
    return `${count} ${name}`
  }
  return html`<ul>${repeat(children, keyOf, ([name, child]) => childView(name, child, `${place}${JSON.stringify([name])}`, tree))}</ul>`
}

/**
 * @param {string} name
 * @param {unknown} child
 * @param {string} place
 * @param {Tree} tree
 */
function childView (name, child, place, tree) {
  if (child instanceof Part) return html`<li>${nodeView({ name, hint: '', isFew: false, place, children: () => child.parts() }, tree)}</li>`
  if (child instanceof Member) return html`<li class=${tree.changed.has(name) ? 'is-changed' : ''}>${memberView(name, child, place, tree)}</li>`
  if (typeof child === 'object' && child !== null) {
    return html`<li>${tree.depth < DEEP ? containerView(name, child, place, tree) : html`<span class="name">${shownName(name)}</span>: nested too deeply to be shown`}</li>`
  }
  const text = JSON.stringify(child)
  return html`<li>${leafView(name, { text, length: text.length })}</li>`
}

/**
 * @param {string} name
 * @param {Member} member
 * @param {string} place
 * @param {Tree} tree
 */
function memberView (name, { shown }, place, tree) {
  // A text that was cut is no JSON any more.
  if (shown.text.length < shown.length || !/^\s*[[{]/.test(shown.text)) return leafView(name, shown)
  if (shown.length <= COUNTED) return containerView(name, valueOf(shown), place, tree)
  const hint = `${shown.text.trimStart()[0] === '[' ? '[…]' : '{…}'} ${shown.length.toLocaleString('en')} characters`
  return nodeView({ name, hint, isFew: false, place, children: () => partsOf(valueOf(shown)) }, tree)
}

/**
 * @param {string} name
 * @param {object} value
 * @param {string} place
 * @param {Tree} tree
 */
function containerView (name, value, place, tree) {
  const count = Object.keys(value).length
  const hint = Array.isArray(value) ? `[${counted(count, 'item')}]` : `{${counted(count, 'member')}}`
  return nodeView({ name, hint, isFew: count <= FEW, place, children: () => partsOf(value) }, tree)
}

/**
 * @param {string} name
 * @param {ShownText} text
 */
function leafView (name, text) {
  return html`<span class="leaf"><span class="name">${shownName(name)}</span>: ${textView(text)}</span>`
}

/**
 * A value with values inside.
 *
 * @param {{ name: string, hint: string, isFew: boolean, place: string, children: () => Array<[name: string, child: unknown]> }} node
 * @param {Tree} tree
 * @returns {ReturnType<typeof html>}
 */
function nodeView ({ name, hint, isFew, place, children }, tree) {
  const isOpen = tree.open.get(place) ?? (isFew && tree.isSmall && tree.depth < SHALLOW)
  /** @param {Event} event */
  const onToggle = ({ currentTarget }) => {
    const { open } = /** @type {HTMLDetailsElement} */ (currentTarget)
    if (open === isOpen) return
    tree.open.set(place, open)
    tree.changes()
  }
  return html`
    <details ?open=${isOpen} @toggle=${onToggle}>
      <summary><span class="name">${shownName(name)}</span> <span class="more">${hint}</span></summary>
      ${isOpen ? childrenView(children(), place, { ...tree, depth: tree.depth + 1 }) : ''}
    </details>`
}

/** A member of the document, which is a text until it is opened. */
class Member {
  /** @param {ShownText} shown */
  constructor (shown) {
    this.shown = shown
  }
}

/** @type {WeakMap<ShownText, object>} a member is drawn often, and parsed once */
const values = new WeakMap()

/** @param {ShownText} shown */
function valueOf (shown) {
  const value = values.get(shown) ?? /** @type {object} */ (JSON.parse(shown.text))
  values.set(shown, value)
  return value
}

/** A part of a list that is too long to be shown at once. */
class Part {
  #entries

  /** @param {Array<[string, unknown]>} entries */
  constructor (entries) {
    this.#entries = entries
  }

  /** @returns {Array<[name: string, child: unknown]>} */
  parts () {
    const entries = this.#entries
    if (entries.length <= PART) return entries
    const length = PART ** Math.ceil(Math.log(entries.length) / Math.log(PART) - 1)
    return Array.from({ length: Math.ceil(entries.length / length) }, (_, index) => {
      const part = entries.slice(index * length, (index + 1) * length)
      return [`${part[0]?.[0]} … ${part.at(-1)?.[0]}`, new Part(part)]
    })
  }
}

/** @param {object} value */
function partsOf (value) {
  return new Part(Object.entries(value)).parts()
}
