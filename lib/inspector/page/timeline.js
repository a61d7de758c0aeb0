import { html } from './lit-html/lit-html.js'
import { repeat } from './lit-html/directives/repeat.js'
import { counted, duration } from './format.js'
import { documentLink, turnLink } from './model.js'
import { layout } from './timeline-layout.js'

/** @import { Seen } from '../inspected-turns.js' */
/** @import { TurnSummary } from '../inspected-turn.js' */
/** @import { Bar, Lane, Pause } from './timeline-layout.js' */

/** In pixels. */
const ROW = 34
/** The shortest pause of which the length is written down, in milliseconds. */
const TOLD_PAUSE = 1000

/** What a mark beside a turn stands for. @type {Array<[sign: string, text: string, isMarked: (bar: Bar) => boolean]>} */
export const MARKS = [
  ['✕', 'failed', ({ turn }) => turn.outcome === 'failed'],
  ['⇥', 'replaced by a later turn', ({ turn }) => turn.outcome === 'replaced'],
  ['⇄', 'replayed: its activity was handled before', ({ turn }) => turn.outcome === 'replayed'],
  ['↻', 'the storage had to try again', ({ turn }) => turn.retries > 0],
  ['∥', 'beside another turn of the conversation', ({ turn, isBeside }) => isBeside || turn.isOverlapped]
]

/**
 * @param {TurnSummary[]} turns
 * @param {Map<string, Seen>} seen
 * @param {TurnSummary | undefined} selected
 * @param {number} now by the clock of the server, in milliseconds since 1970
 */
export function timeline (turns, seen, selected, now) {
  if (turns.length === 0) return html`<p class="empty">No turn yet. Say something to the bot.</p>`
  const { lanes, pauses, width } = layout(turns, now)
  const reached = selected !== undefined && turns.includes(selected) ? selected.id : turns.at(-1)?.id
  return html`
    <div class="lanes" @keydown=${moveAmongBars} @scroll=${onScroll} .style=${`--width: ${width}px`}>
      ${repeat(lanes, ({ key }) => key, (lane) => laneView(lane, pauses, /** @type {Seen} */ (seen.get(lane.key)), selected?.id, reached))}
    </div>`
}

let isAtEnd = true

/** @param {Event} event */
function onScroll ({ currentTarget }) {
  const { scrollLeft, clientWidth, scrollWidth } = /** @type {Element} */ (currentTarget)
  isAtEnd = scrollLeft + clientWidth >= scrollWidth - 4
}

/** The newest turns are at the right: who looks at them goes on to. */
export function keepEndInSight () {
  const lanes = document.querySelector('.lanes')
  if (isAtEnd && lanes !== null) lanes.scrollLeft = lanes.scrollWidth
}

/**
 * @param {Lane} lane
 * @param {Pause[]} pauses
 * @param {Seen} seen
 * @param {number | undefined} selected
 * @param {number | undefined} reached the turn that the tabulator key leads to: from there the arrow keys do
 */
function laneView ({ key, rows, bars }, pauses, seen, selected, reached) {
  return html`
    <section class="lane" aria-label=${`Turns of ${key}`}>
      <h3><a href=${documentLink(key)} title=${key}>${seen.id}</a></h3>
      <div class="bars" .style=${`height: ${rows * ROW}px`}>
        ${pauses.filter(({ milliseconds }) => milliseconds >= TOLD_PAUSE).map(pauseView)}
        <ol>${repeat(bars, ({ turn }) => turn.id, (bar) => barView(bar, selected, reached))}</ol>
      </div>
    </section>`
}

/** @param {Pause} pause */
function pauseView ({ x, width, milliseconds }) {
  return html`<span class="pause" aria-hidden="true" .style=${`left: ${x}px; width: ${width}px`}>${duration(milliseconds)}</span>`
}

/**
 * @param {Bar} bar
 * @param {number | undefined} selected
 * @param {number | undefined} reached
 */
function barView (bar, selected, reached) {
  const { turn, x, width, row, phases } = bar
  const marks = MARKS.filter(([, , isMarked]) => isMarked(bar))
  return html`
    <li class="turn" .style=${`left: ${x}px; top: ${row * ROW}px`}>
      <a class="bar ${turn.outcome}" href=${turnLink(turn.id)} data-turn=${turn.id} tabindex=${turn.id === reached ? 0 : -1}
        aria-label=${labelOf(bar, marks.map(([, text]) => text))} aria-current=${turn.id === selected} title=${labelOf(bar, marks.map(([, text]) => text))}>
        <span class="phases" aria-hidden="true" .style=${`width: ${width}px`}>
          ${phases.map((phase) => html`<span class="phase ${phase.name}" .style=${`left: ${phase.x}px; width: ${phase.width}px`}></span>`)}
        </span>
        <span class="marks" aria-hidden="true">${marks.map(([sign]) => sign)}</span>
      </a>
    </li>`
}

/**
 * @param {Bar} bar
 * @param {string[]} marks
 */
function labelOf ({ turn }, marks) {
  const { id, from, to, outcome, code, changeCount } = turn
  const took = to === undefined ? 'open' : duration(to - from)
  return [`Turn ${id}: ${outcome}`, took, code, changeCount > 0 && counted(changeCount, 'change'), ...marks.filter((mark) => mark !== outcome)]
    .filter(Boolean).join(', ')
}

/** Left and right lead to the turn before and after, up and down to another conversation. @param {KeyboardEvent} event */
function moveAmongBars (event) {
  const target = /** @type {Element | null} */ (event.target)
  const bar = target?.closest('a.bar')
  const lane = bar?.closest('.lane')
  if (bar == null || lane == null) return
  /** @param {Element | null | undefined} within */
  const barsIn = (within) => [...within?.querySelectorAll('a.bar') ?? []]
    .sort((one, other) => one.getBoundingClientRect().left - other.getBoundingClientRect().left)
  const index = barsIn(lane).indexOf(bar)
  /** @type {Record<string, () => Element | undefined>} */
  const moves = {
    ArrowLeft: () => barsIn(lane)[index - 1],
    ArrowRight: () => barsIn(lane)[index + 1],
    ArrowUp: () => nearest(bar, barsIn(lane.previousElementSibling)),
    ArrowDown: () => nearest(bar, barsIn(lane.nextElementSibling)),
    Home: () => barsIn(lane)[0],
    End: () => barsIn(lane).at(-1)
  }
  const next = moves[event.key]?.()
  if (!(next instanceof HTMLElement)) return
  event.preventDefault()
  next.focus()
}

/**
 * @param {Element} bar
 * @param {Element[]} others
 */
function nearest (bar, others) {
  const { left } = bar.getBoundingClientRect()
  /** @param {Element} other */
  const distance = (other) => Math.abs(other.getBoundingClientRect().left - left)
  return others.sort((one, other) => distance(one) - distance(other))[0]
}

/** What colours and signs mean. */
export const legend = html`
  <p class="legend">
    ${['waiting', 'loading', 'handler', 'saving'].map((name) => html`<span><span class="phase ${name}"></span> ${name}</span>`)}
    ${MARKS.map(([sign, text]) => html`<span><span class="sign" aria-hidden="true">${sign}</span> ${text}</span>`)}
    <span>longer is wider, but not to scale</span>
  </p>`
