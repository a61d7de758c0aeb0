import { html } from './lit-html/lit-html.js'
import { repeat } from './lit-html/directives/repeat.js'
import { counted, time } from './format.js'
import { documentLink } from './model.js'
import { shownName } from './names.js'

/** @import { Seen } from '../inspected-turns.js' */

/** How many are listed: a filter finds the others. */
const LISTED = 100

/**
 * Conversations and users, the one seen last first.
 *
 * @param {Seen[]} seen
 * @param {string[]} shown keys of the documents that are shown
 */
export function seenList (seen, shown) {
  return html`
    <ul class="seen">
      ${repeat(seen.slice(0, LISTED), ({ key }) => key, ({ key, scope, id, channelId, botId, turns, at }) => html`
        <li>
          <a href=${documentLink(key)} title=${key} aria-current=${shown.includes(key)}>
            <span class="scope">${scope}</span> <span class="id">${shownName(id)}</span>
            <span class="more">${shownName(channelId)} / ${shownName(botId)}</span>
            <span class="more">${counted(turns, 'turn')} · ${time(at)}</span>
          </a>
        </li>`)}
    </ul>
    ${seen.length > LISTED ? html`<p class="more">and ${seen.length - LISTED} more: filter them</p>` : ''}`
}
