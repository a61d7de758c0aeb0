import { html } from './lit-html/lit-html.js'
import { repeat } from './lit-html/directives/repeat.js'
import { counted, duration } from './format.js'
import { MARKS } from './marks.js'
import { documentLink, turnLink } from './model.js'
import { shownName } from './names.js'
import { moveAmongBars } from './timeline-keys.js'
import { layout } from './timeline-layout.js'

/** @import { Seen } from '../inspected-turns.js' */
/** @import { Model } from './model.js' */
/** @import { TurnSummary } from '../inspected-turn.js' */
/** @import { Bar, Lane, Pause } from './timeline-layout.js' */

/** In pixels. */
const ROW = 34
/** The shortest pause of which the length is written down, in milliseconds. */
const TOLD_PAUSE = 1000

/**
 * @param {TurnSummary[]} turns
 * @param {Model} model
 * @param {TurnSummary | undefined} selected
 * @param {number} now by the clock of the server, in milliseconds since 1970
 */
export function timeline (turns, model, selected, now) {
  const { lanes, pauses, width } = layout(turns, now)
  const reached = selected !== undefined && turns.includes(selected) ? selected.id : turns.at(-1)?.id
  return html`
    ${legend}
    <div class="lanes" @keydown=${moveAmongBars} .style=${`--width: ${width}px`}>
      <div class="pauses" aria-hidden="true"><div class="bars">${pauses.filter(({ milliseconds }) => milliseconds >= TOLD_PAUSE).map(pauseView)}</div></div>
      ${repeat(lanes, ({ key }) => key, (lane) => laneView(lane, model, selected?.id, reached))}
    </div>`
}

/**
 * @param {Lane} lane
 * @param {Model} model
 * @param {number | undefined} selected
 * @param {number | undefined} reached the turn that the tabulator key leads to: from there the arrow keys do
 */
function laneView ({ key, rows, bars }, model, selected, reached) {
  const { id } = /** @type {Seen} */ (model.seen.get(key))
  return html`
    <section class="lane" aria-label=${`Turns of ${shownName(key)}`}>
      <h3><a href=${documentLink(key)} title=${key}>${shownName(id)}</a></h3>
      <div class="bars" .style=${`height: ${rows * ROW}px`}>
        <ol>${repeat(bars, ({ turn }) => turn.id, (bar) => barView(bar, model, selected, reached))}</ol>
      </div>
    </section>`
}

/** @param {Pause} pause */
function pauseView ({ x, width, milliseconds }) {
  return html`<span class="pause" .style=${`left: ${x}px; width: ${width}px`}>${duration(milliseconds)}</span>`
}

/**
 * @param {Bar} bar
 * @param {Model} model
 * @param {number | undefined} selected
 * @param {number | undefined} reached
 */
function barView (bar, model, selected, reached) {
  const { turn, x, width, row, phases, marks } = bar
  const label = labelOf(bar)
  return html`
    <li class="turn" .style=${`left: ${x}px; top: ${row * ROW}px`}>
      <a class="bar ${turn.outcome}" href=${turnLink(turn.id, model)} tabindex=${turn.id === reached ? 0 : -1}
        aria-label=${label} aria-current=${turn.id === selected} title=${label}>
        <span class="phases" aria-hidden="true" .style=${`width: ${width}px`}>
          ${phases.map((phase) => html`<span class="phase ${phase.name}" .style=${`left: ${phase.x}px; width: ${phase.width}px`}></span>`)}
        </span>
        <span class="marks" aria-hidden="true">${marks.map(({ sign }) => sign)}</span>
      </a>
    </li>`
}

/** @param {Bar} bar */
function labelOf ({ turn, marks }) {
  const { id, from, to, outcome, code, changeCount } = turn
  const took = to === undefined ? [] : [duration(to - from)]
  const said = code === undefined ? [] : [shownName(code)]
  const changes = changeCount === 0 ? [] : [counted(changeCount, 'change')]
  const texts = marks.map(({ text }) => text).filter((text) => text !== outcome)
  return [`Turn ${id}: ${outcome}`, ...took, ...said, ...changes, ...texts].join(', ')
}

/** What colours and signs mean. */
const legend = html`
  <p class="legend">
    ${['waiting', 'loading', 'handler', 'saving'].map((name) => html`<span><span class="phase ${name}"></span> ${name}</span>`)}
    ${MARKS.map(({ sign, text }) => html`<span><span class="sign" aria-hidden="true">${sign}</span> ${text}</span>`)}
    <span>longer is wider, but not to scale</span>
  </p>`
