import { html } from './lit-html/lit-html.js'

/** @import { ShownText } from '../shown-text.js' */

/** How much of a text is shown before it is opened, in characters. */
const SHORT = 160

/**
 * A JSON text, as it is where it is short; otherwise its beginning, which opens.
 *
 * @param {ShownText} shown
 */
export function textView ({ text, length }) {
  const isCut = text.length < length
  if (length <= SHORT && !isCut) return html`<code>${text}</code>`
  return html`
    <details class="long">
      <summary><code>${text.slice(0, SHORT)}…</code> <span class="more">${length.toLocaleString('en')} characters</span></summary>
      <pre tabindex="0">${isCut ? `${text}…` : readable(text)}</pre>
      ${isCut ? html`<p class="more">Cut: the first ${text.length.toLocaleString('en')} of ${length.toLocaleString('en')} characters.</p>` : ''}
    </details>`
}

/**
 * A string as it was written, with its lines.
 *
 * @param {string} text
 */
function readable (text) {
  return text.startsWith('"') ? JSON.parse(text) : text
}
