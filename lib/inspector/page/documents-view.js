import { html } from './lit-html/lit-html.js'
import { documentTree } from './document-tree.js'
import { shownName } from './names.js'
import { Resource } from './resource.js'

/** @import { ShownDocument } from '../shown-document.js' */
/** @import { Model } from './model.js' */

/** How old what is shown may be, in milliseconds: another process may have changed it; and where its time has passed. */
const REFRESH = 3000
const EXPIRED = 500

/** The documents that are shown, as they are stored now. */
export class DocumentsView {
  #changes
  /** @type {Map<string, boolean>} */
  #open = new Map()
  /** @type {Map<string, { resource: Resource<ShownDocument>, changed: ReadonlySet<string> }>} */
  #documents = new Map()

  /** @param {() => void} changes is called whenever something is to be drawn anew */
  constructor (changes) {
    this.#changes = changes
  }

  /** The server is another one. */
  forget () {
    this.#documents = new Map()
  }

  /**
   * @param {string[]} keys
   * @param {Model} model
   */
  view (keys, model) {
    this.#documents = new Map(keys.map((key) => [key, this.#documents.get(key) ?? this.#newDocument(key)]))
    return [...this.#documents].map(([key, { resource, changed }]) => {
      const seen = model.seen.get(key)
      if (seen === undefined) return html`<h3>${shownName(key)}</h3><p class="empty">No longer kept.</p>`
      const age = performance.now() - resource.at
      const isExpired = typeof resource.value?.timeLeft === 'number' && resource.value.timeLeft < age
      resource.load(lastSave(key, model), isExpired ? EXPIRED : REFRESH)
      return html`
        <article aria-label=${shownName(key)}>
          <h3><span class="scope">${seen.scope}</span> <span class="id" title=${key}>${shownName(seen.id)}</span></h3>
          ${resource.problem === undefined ? '' : html`<p class="message">${resource.problem}</p>`}
          ${resource.value === undefined ? '' : documentTree(resource.value, age, { open: this.#open, changed, changes: this.#changes })}
        </article>`
    })
  }

  /** @param {string} key */
  #newDocument (key) {
    /** @type {{ resource: Resource<ShownDocument>, changed: ReadonlySet<string> }} */
    const shown = {
      resource: new Resource(`document?${new URLSearchParams({ key })}`, (before, value) => {
        const changed = changedMembers(before, value)
        if (changed.size > 0) shown.changed = changed
        this.#changes()
      }),
      changed: new Set()
    }
    return shown
  }
}

/**
 * The members that are not as they were.
 *
 * @param {ShownDocument | undefined} before
 * @param {ShownDocument | undefined} value
 */
function changedMembers (before, value) {
  if (before === undefined || value === undefined) return new Set()
  const texts = new Map(before.members.map(({ name, text }) => [name, text]))
  return new Set(value.members.filter(({ name, text }) => texts.get(name) !== text).map(({ name }) => name))
}

/**
 * When the last turn was over that may have stored a document.
 *
 * @param {string} key
 * @param {Model} model
 */
function lastSave (key, { turns }) {
  return [...turns.values()].reduce((last, { keys, to = 0 }) => keys.includes(key) ? Math.max(last, to) : last, 0)
}
