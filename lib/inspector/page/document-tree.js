import { html } from './lit-html/lit-html.js'
import { repeat } from './lit-html/directives/repeat.js'
import { counted, duration, size } from './format.js'
import { textView } from './text-view.js'

/** @import { ShownDocument } from '../shown-document.js' */

/** A longer list is shown in parts. */
const PART = 100
/** What is shorter is open from the beginning, in characters; inside, what has no more values. */
const OPEN = 400
const FEW = 4
/** What is shorter is counted before it is opened, in characters. */
const COUNTED = 10_000

/**
 * A document as a tree: what is inside a value is made when it is opened.
 *
 * @param {ShownDocument} document
 * @param {object} tree
 * @param {Map<string, boolean>} tree.open the values that were opened, and closed, by hand
 * @param {ReadonlySet<string>} tree.changed the members that have changed since the document was shown before
 * @param {() => void} tree.changes is called whenever one is
 */
export function documentTree ({ key, members, leftOut, size: bytes, timeLeft }, tree) {
  if (bytes === undefined) return html`<p class="empty">Nothing is stored.</p>`
  return html`
    <p class="more">${size(bytes)} · ${lifeOf(timeLeft)}</p>
    <ul class="tree">
      ${repeat(members, ({ name }) => name, (member) => html`
        <li class=${tree.changed.has(member.name) ? 'is-changed' : ''}>${memberView(member, JSON.stringify([key, member.name]), tree)}</li>`)}
    </ul>
    ${leftOut > 0 ? html`<p class="more">Cut: ${counted(leftOut, 'more member')}.</p>` : ''}`
}

/** @param {number | null | undefined} timeLeft in milliseconds */
function lifeOf (timeLeft) {
  if (timeLeft === undefined) return 'the storage does not tell when it is forgotten'
  return timeLeft === null ? 'kept for ever' : `forgotten in ${duration(timeLeft)}`
}

/**
 * @param {ShownDocument['members'][number]} member
 * @param {string} place
 * @param {Parameters<typeof documentTree>[1]} tree
 */
function memberView (member, place, tree) {
  const isContainer = /^\s*[[{]/.test(member.text)
  // A text that was cut is no JSON any more.
  if (member.text.length < member.length || !isContainer) return leafView(member.name, member)
  return nodeView({ name: member.name, hint: hintOf(member), isShort: member.length <= OPEN, place, children: () => partsOf(JSON.parse(member.text)) }, tree)
}

/** @param {ShownDocument['members'][number]} member */
function hintOf ({ text, length }) {
  if (length <= COUNTED) return countOf(JSON.parse(text))
  return `${text.trimStart().startsWith('[') ? '[…]' : '{…}'} ${length.toLocaleString()} characters`
}

/** @param {object} value */
function countOf (value) {
  const count = Object.keys(value).length
  return Array.isArray(value) ? `[${counted(count, 'item')}]` : `{${counted(count, 'member')}}`
}

/**
 * @param {string} name
 * @param {import('../shown-text.js').ShownText} text
 */
function leafView (name, text) {
  return html`<span class="name">${name}</span>: ${textView(text)}`
}

/**
 * A value with values inside.
 *
 * @param {{ name: string, hint: string, isShort: boolean, place: string, children: () => Array<[name: string, child: unknown]> }} node
 * @param {Parameters<typeof documentTree>[1]} tree
 * @returns {ReturnType<typeof html>}
 */
function nodeView ({ name, hint, isShort, place, children }, tree) {
  const isOpen = tree.open.get(place) ?? isShort
  /** @param {Event} event */
  const onToggle = ({ currentTarget }) => {
    const { open } = /** @type {HTMLDetailsElement} */ (currentTarget)
    if (open === isOpen) return
    tree.open.set(place, open)
    tree.changes()
  }
  return html`
    <details ?open=${isOpen} @toggle=${onToggle}>
      <summary><span class="name">${name}</span> <span class="more">${hint}</span></summary>
      ${isOpen ? html`<ul>${children().map(([name, child]) => html`<li>${childView(name, child, `${place}${JSON.stringify([name])}`, tree)}</li>`)}</ul>` : ''}
    </details>`
}

/**
 * @param {string} name
 * @param {unknown} child
 * @param {string} place
 * @param {Parameters<typeof documentTree>[1]} tree
 */
function childView (name, child, place, tree) {
  if (child instanceof Part) return nodeView({ name, hint: '', isShort: false, place, children: () => child.parts() }, tree)
  if (typeof child !== 'object' || child === null) {
    const text = JSON.stringify(child)
    return leafView(name, { text, length: text.length })
  }
  return nodeView({ name, hint: countOf(child), isShort: Object.keys(child).length <= FEW, place, children: () => partsOf(child) }, tree)
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
