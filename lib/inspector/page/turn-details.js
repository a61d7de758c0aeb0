import { html } from './lit-html/lit-html.js'
import { counted, duration, pathText, time } from './format.js'
import { documentLink } from './model.js'
import { textView } from './text-view.js'

/** @import { DocumentChanges, TurnSummary } from '../inspected-turn.js' */
/** @import { MemberChange } from '../member-changes.js' */

/**
 * What the server tells of a turn on demand.
 *
 * @typedef {{ turn: TurnSummary, message?: string, documents: DocumentChanges[] }} TurnDetails
 */

const OUTCOMES = {
  open: 'not over yet',
  saved: 'what it changed is stored',
  unchanged: 'succeeded, and had nothing to save',
  failed: 'failed, nothing of it is saved',
  replaced: 'replaced by a later turn, nothing of it is saved',
  replayed: 'replayed: its activity was handled before'
}

/**
 * @param {TurnSummary} turn
 * @param {TurnDetails | undefined} details left out while they are not there
 */
export function turnDetails (turn, details) {
  const { id, via, outcome, code, retries, isOverlapped, phases, from, to } = turn
  return html`
    <h2>Turn ${id} <span class="outcome ${outcome}">${outcome}</span></h2>
    <p>${OUTCOMES[outcome]}${code === undefined ? '' : html`: <code>${code}</code>`}</p>
    ${details?.message === undefined ? '' : html`<p class="message">${details.message}</p>`}
    ${retries > 0 ? html`<p>The storage had to try again ${retries === 1 ? 'once' : `${retries} times`}.</p>` : ''}
    ${isOverlapped ? html`<p>It lost its place in the conversation, and was merged with the turns that came between.</p>` : ''}
    ${changesView(details?.documents ?? [], outcome)}
    <h3>Time</h3>
    <dl>
      ${phases.map(({ name, from: begin }, index) => html`
        <div><dt><span class="phase ${name}"></span> ${name}</dt><dd>${timeTaken(begin, phases[index + 1]?.from ?? to)}</dd></div>`)}
      <div><dt>all</dt><dd>${timeTaken(from, to)}, from ${time(from)}</dd></div>
    </dl>
    <h3>Whose it is</h3>
    <dl>
      ${Object.entries(turn.identity).filter(([, value]) => value != null).map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}
      <div><dt>begun by</dt><dd>${via === 'run' ? 'botasState.run' : 'a request'}</dd></div>
    </dl>`
}

/**
 * @param {number} from
 * @param {number | undefined} to
 */
function timeTaken (from, to) {
  return to === undefined ? 'goes on' : duration(to - from)
}

/**
 * @param {DocumentChanges[]} documents
 * @param {TurnSummary['outcome']} outcome
 */
function changesView (documents, outcome) {
  if (documents.length === 0) return outcome === 'saved' ? html`<p>It stored no other values than were there.</p>` : ''
  return html`
    <h3>What it changed</h3>
    ${documents.map(({ key, changes, leftOut }) => html`
      <h4><a href=${documentLink(key)}>${key}</a></h4>
      <ul class="changes">${changes.map(changeView)}</ul>
      ${leftOut > 0 ? html`<p>and ${counted(leftOut, 'more change')}</p>` : ''}`)}`
}

/** @param {MemberChange} change */
function changeView ({ path, before, after }) {
  const kind = before === undefined ? 'added' : after === undefined ? 'removed' : 'changed'
  return html`
    <li class=${kind}>
      <span class="name">${pathText(path)}</span> <span class="kind">${kind}</span>
      <span class="values">
        ${before === undefined ? '' : html`<del>${textView(before)}</del>`}
        ${before === undefined || after === undefined ? '' : html`<span class="arrow" aria-label="became">→</span>`}
        ${after === undefined ? '' : html`<ins>${textView(after)}</ins>`}
      </span>
    </li>`
}
