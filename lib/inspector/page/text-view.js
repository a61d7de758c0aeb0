import { html } from './lit-html/lit-html.js'

/** @import { ShownText } from '../shown-text.js' */

/** How much of a text is shown before it is opened, in characters. */
const SHORT = 160

/**
 * A text, as it is where it is short; otherwise its beginning, which opens.
 *
 * @param {ShownText} shown
 */
export function textView ({ text, length }) {
  const isCut = text.length < length
  if (length <= SHORT) return html`<code>${text}${isCut ? '…' : ''}</code>`
  return html`
    <details class="long">
      <summary><code>${text.slice(0, SHORT)}…</code> <span class="more">${length.toLocaleString()} characters</span></summary>
      <pre tabindex="0">${text}${isCut ? '…' : ''}</pre>
      ${isCut ? html`<p class="more">Cut: the first ${text.length.toLocaleString()} of ${length.toLocaleString()} characters.</p>` : ''}
    </details>`
}
