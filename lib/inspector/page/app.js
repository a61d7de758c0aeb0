import { html, render } from './lit-html/lit-html.js'
import { listen } from './connection.js'
import { documentTree } from './document-tree.js'
import { addNews, emptyModel, focusOf, lookedAt } from './model.js'
import { Resource } from './resource.js'
import { seenList } from './seen-list.js'
import { keepEndInSight, legend, timeline } from './timeline.js'
import { turnDetails } from './turn-details.js'

/** @import { Seen } from '../inspected-turns.js' */
/** @import { ShownDocument } from '../shown-document.js' */
/** @import { TurnSummary } from '../inspected-turn.js' */
/** @import { TurnDetails } from './turn-details.js' */

/** How often a turn that is open is drawn anew, in milliseconds. */
const TICK = 200

let model = emptyModel()
let limits = { turns: 0, seen: 0 }
let focus = focusOf(location.hash)
let filter = ''
let isLive = false
/** what the clock of the server is ahead of that of the page, whose time begins with it */
let ahead = 0
let isToRender = false
/** @type {Map<string, boolean>} */
const open = new Map()
/** @type {Map<number, Resource<TurnDetails>>} of the turn that is looked at */
let turns = new Map()
/** @type {Map<string, { resource: Resource<ShownDocument>, changed: ReadonlySet<string> }>} those that are shown */
let documents = new Map()

listen({
  begin (given) {
    limits = given
    model = emptyModel()
    turns = new Map()
    documents = new Map()
    changed()
  },
  news (news) {
    ahead = news.now - performance.now()
    addNews(model, news, limits)
    changed()
  },
  live (live) {
    isLive = live
    changed()
  }
})

addEventListener('hashchange', () => {
  focus = focusOf(location.hash)
  changed()
})
addEventListener('resize', changed)
addEventListener('keydown', ({ key }) => { if (key === 'Escape') location.hash = '' })
setInterval(() => { if ([...model.turns.values()].some(({ to }) => to === undefined)) changed() }, TICK)
changed()

/** Draws the page when the browser does. */
function changed () {
  if (isToRender) return
  isToRender = true
  requestAnimationFrame(() => {
    isToRender = false
    render(page(), document.body)
    keepEndInSight()
  })
}

function page () {
  const { turn, keys } = lookedAt(model, focus)
  const isFollowing = focus.turn === undefined && focus.key === undefined
  return html`
    <header>
      <h1>Inspector</h1>
      <p role="status" class=${isLive ? 'live' : 'lost'}>${isLive ? 'live' : 'connecting …'}</p>
      <label>Filter <input type="search" .value=${filter} @input=${onFilter} placeholder="a part of an id"></label>
      <p>${isFollowing ? 'follows the latest turn' : html`<a href="#">Follow the latest turn</a> (Esc)`}</p>
    </header>
    <main>
      <nav aria-labelledby="seen"><h2 id="seen">Conversations and users</h2>${seenList(found([...model.seen.values()]).reverse(), keys)}</nav>
      <section class="timeline" aria-labelledby="turns">
        <h2 id="turns">Turns</h2>
        ${legend}
        ${timeline([...model.turns.values()].filter(isFound), model.seen, turn, ahead + performance.now())}
      </section>
      <section class="details" aria-label="Turn">${turn === undefined ? html`<h2>Turn</h2><p class="empty">${focus.turn === undefined ? 'None yet.' : 'It is not remembered any more.'}</p>` : turnView(turn)}</section>
      <section class="documents" aria-labelledby="documents"><h2 id="documents">What is stored</h2>${documentsView(keys)}</section>
    </main>`
}

/** @param {Event} event */
function onFilter ({ target }) {
  filter = /** @type {HTMLInputElement} */ (target).value
  changed()
}

/** @param {Seen[]} seen */
function found (seen) {
  return seen.filter(({ key }) => includesFilter(key))
}

/** @param {TurnSummary} turn */
function isFound ({ keys }) {
  return keys.some(includesFilter)
}

/** @param {string} key */
function includesFilter (key) {
  return key.toLowerCase().includes(filter.trim().toLowerCase())
}

/** @param {TurnSummary} turn */
function turnView (turn) {
  const resource = turns.get(turn.id) ?? new Resource(`turns/${turn.id}`, changed)
  turns = new Map([[turn.id, resource]])
  resource.load(turn.outcome === 'open' ? turn.outcome : turn.to)
  return turnDetails(turn, resource.value)
}

/** @param {string[]} keys */
function documentsView (keys) {
  documents = new Map(keys.map((key) => [key, documents.get(key) ?? newDocument(key)]))
  if (keys.length === 0) return html`<p class="empty">Nothing yet.</p>`
  return keys.map((key) => {
    const seen = model.seen.get(key)
    if (seen === undefined) return html`<h3>${key}</h3><p class="empty">It is not remembered any more.</p>`
    const { resource, changed: members } = /** @type {{ resource: Resource<ShownDocument>, changed: ReadonlySet<string> }} */ (documents.get(key))
    resource.load(lastSave(key))
    return html`
      <article aria-label=${key}>
        <h3><span class="scope">${seen.scope}</span> ${seen.id}</h3>
        ${resource.problem === undefined ? '' : html`<p class="message">${resource.problem}</p>`}
        ${resource.value === undefined ? '' : documentTree(resource.value, { open, changed: members, changes: changed })}
      </article>`
  })
}

/** @param {string} key */
function newDocument (key) {
  /** @type {{ resource: Resource<ShownDocument>, changed: ReadonlySet<string> }} */
  const shown = {
    resource: new Resource(`document?${new URLSearchParams({ key })}`, (before, value) => {
      shown.changed = changedMembers(before, value)
      changed()
    }),
    changed: new Set()
  }
  return shown
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

/** When the last turn was over that may have stored a document. @param {string} key */
function lastSave (key) {
  return [...model.turns.values()].reduce((last, { keys, to = 0 }) => keys.includes(key) ? Math.max(last, to) : last, 0)
}
