import { html, render } from './lit-html/lit-html.js'
import { listen } from './connection.js'
import { DocumentsView } from './documents-view.js'
import { addNews, emptyModel, focusOf, focusOn, found, lookedAt } from './model.js'
import { Resource } from './resource.js'
import { seenList } from './seen-list.js'
import { timeline } from './timeline.js'
import { keepInSight } from './timeline-scroll.js'
import { turnDetails } from './turn-details.js'

/** @import { TurnDetails, TurnSummary } from '../inspected-turn.js' */

/** How often a turn that is open is drawn anew, and what else changes with time, in milliseconds. */
const TICK = 200
const SECOND = 1000

let model = emptyModel('')
let limits = { turns: 0, seen: 0 }
let focus = focusOf(location.hash)
let filter = ''
let isLive = false
/** what the clock of the server is ahead of that of the page, whose time begins with it */
let ahead = 0
let isToRender = false
/** @type {Map<number, Resource<TurnDetails>>} of the turn that is looked at */
let turns = new Map()
const documents = new DocumentsView(changed)

listen({
  begin (given) {
    limits = given.limits
    model = emptyModel(given.server)
    turns = new Map()
    documents.forget()
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
addEventListener('keydown', ({ key, target }) => { if (key === 'Escape' && !(target instanceof HTMLInputElement)) location.hash = '' })
setInterval(() => { if ([...model.turns.values()].some(({ to }) => to === undefined)) changed() }, TICK)
setInterval(changed, SECOND)
changed()

/** Draws the page when the browser does. */
function changed () {
  if (isToRender) return
  isToRender = true
  requestAnimationFrame(() => {
    isToRender = false
    const on = focusOn(focus, model)
    render(page(on), document.body)
    keepInSight(on.turn ?? (on.key === undefined ? undefined : lookedAt(model, [], on).turn?.id))
  })
}

/** @param {import('./model.js').Focus} focus */
function page (focus) {
  const { turns, seen } = found(model, filter)
  const { turn, keys } = lookedAt(model, turns, focus)
  const isFollowing = focus.turn === undefined && focus.key === undefined
  const nothing = model.turns.size === 0 ? 'No turn yet: say something to the bot.' : 'Nothing matches the filter.'
  return html`
    <header>
      <h1>Inspector</h1>
      <p role="status" class=${isLive ? 'live' : 'lost'}>${isLive ? 'live' : 'connecting …'}</p>
      <label>Filter <input type="search" .value=${filter} @input=${onFilter} placeholder="a part of an id"></label>
      <p>${isFollowing ? 'follows the latest turn' : html`<a href="#/">Follow the latest turn</a> (Esc)`}</p>
    </header>
    <main>
      <nav aria-labelledby="seen"><h2 id="seen">Conversations and users</h2>${seenList(seen, keys)}</nav>
      <section class="timeline" aria-labelledby="turns">
        <h2 id="turns">Turns</h2>
        ${turns.length === 0 ? html`<p class="empty">${nothing}</p>` : timeline(turns, model, turn, ahead + performance.now())}
      </section>
      <section class="details" aria-label="Turn">${turn === undefined ? html`<h2>Turn</h2><p class="empty">${focus.turn === undefined ? '' : 'No longer kept.'}</p>` : turnView(turn)}</section>
      <section class="documents" aria-labelledby="documents"><h2 id="documents">Stored documents</h2>${documents.view(keys, model)}</section>
    </main>`
}

/** @param {Event} event */
function onFilter ({ target }) {
  filter = /** @type {HTMLInputElement} */ (target).value
  changed()
}

/** @param {TurnSummary} turn */
function turnView (turn) {
  const resource = turns.get(turn.id) ?? new Resource(`turns/${turn.id}`, changed)
  turns = new Map([[turn.id, resource]])
  resource.load(`${turn.outcome} ${turn.to}`)
  return turnDetails(turn, resource.value)
}
