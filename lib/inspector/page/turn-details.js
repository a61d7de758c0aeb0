import { html } from './lit-html/lit-html.js'
import { counted, duration, time } from './format.js'
import { documentLink } from './model.js'
import { pathText, shownName } from './names.js'
import { textView } from './text-view.js'

/** @import { DocumentChanges } from '../document-changes.js' */
/** @import { TurnDetails, TurnSummary } from '../inspected-turn.js' */
/** @import { MemberChange } from '../member-changes.js' */

const OUTCOMES = {
  open: 'still running',
  saved: 'all that it changed is stored',
  unchanged: 'succeeded, nothing to save',
  failed: 'nothing of it is saved',
  replaced: 'replaced by a later turn, nothing of it is saved',
  replayed: 'its activity was handled before: it got that reply'
}

/**
 * @param {TurnSummary} turn
 * @param {TurnDetails | undefined} details left out while they are not there
 */
export function turnDetails (turn, details) {
  const { id, via, outcome, code, saved, retries, isOverlapped, phases, from, to } = turn
  return html`
    <h2>Turn ${id} <span class="outcome ${outcome}">${outcome}</span></h2>
    <p>${outcome !== 'saved' && saved.length > 0 ? 'saved in part' : OUTCOMES[outcome]}${code === undefined ? '' : html`: <code>${shownName(code)}</code>`}</p>
    ${details?.message === undefined ? '' : html`<p class="message">${details.message}</p>`}
    ${outcome === 'failed' && code === undefined && details !== undefined && details.message === undefined ? html`<p>Its reply was a server error, <code>fail()</code> was called, or what was thrown says nothing.</p>` : ''}
    ${retries > 0 ? html`<p>The storage had to try again ${retries === 1 ? 'once' : `${retries} times`}.</p>` : ''}
    ${isOverlapped ? html`<p>It lost its place in the conversation, and was merged with the turns that came between.</p>` : ''}
    ${(details?.documents ?? []).map((document) => changesView(document, saved.includes(document.key)))}
    <h3>Time</h3>
    <dl>
      ${phases.map(({ name, from: begin }, index) => html`
        <div><dt><span class="phase ${name}"></span> ${name}</dt><dd>${timeTaken(begin, phases[index + 1]?.from ?? to)}</dd></div>`)}
      <div><dt>total</dt><dd>${timeTaken(from, to)}, from ${time(from)}</dd></div>
    </dl>
    <h3>Identity</h3>
    <dl>
      ${Object.entries(turn.identity).map(([name, value]) => html`<div><dt>${name}</dt><dd class="id">${shownName(value)}</dd></div>`)}
      <div><dt>started by</dt><dd>${via === 'run' ? 'botasState.run' : 'a request'}</dd></div>
    </dl>`
}

/**
 * @param {number} from
 * @param {number | undefined} to
 */
function timeTaken (from, to) {
  return to === undefined ? 'running' : duration(to - from)
}

/**
 * @param {DocumentChanges} document
 * @param {boolean} isSaved
 */
function changesView ({ key, changes, leftOut, wasUnreadable }, isSaved) {
  return html`
    <h3>${isSaved ? 'Changed' : 'Not saved'} in <a class="id" href=${documentLink(key)} title=${key}>${shownName(key)}</a></h3>
    ${wasUnreadable ? html`<p>What was stored before could not be read.</p>` : ''}
    <ul class="changes">${changes.map(changeView)}</ul>
    ${leftOut > 0 ? html`<p class="more">and ${counted(leftOut, 'more change')}</p>` : ''}`
}

/** @param {MemberChange} change */
function changeView ({ path, before, after }) {
  const kind = before === undefined ? 'added' : after === undefined ? 'removed' : 'changed'
  // Where it was: the items after it have moved up.
  const was = kind === 'removed' && typeof path.at(-1) === 'number' ? ' from where it was' : ''
  return html`
    <li class=${kind}>
      <span class="name">${pathText(path)}</span> <span class="kind">${kind}${was}</span>
      <span class="values">
        ${before === undefined ? '' : html`<del>${textView(before)}</del>`}
        ${before === undefined || after === undefined ? '' : html`<span class="arrow" role="img" aria-label="became">→</span>`}
        ${after === undefined ? '' : html`<ins>${textView(after)}</ins>`}
      </span>
    </li>`
}
