/** whether the newest turns, which are at the right, are looked at */
let isAtEnd = true
/** @type {number | undefined} the turn that was chosen when the page was drawn last */
let chosen

document.addEventListener('scroll', ({ target }) => {
  if (!(target instanceof HTMLElement) || !target.classList.contains('lanes')) return
  isAtEnd = target.scrollLeft + target.clientWidth >= target.scrollWidth - 4
}, { capture: true, passive: true })

/**
 * Brings a turn into sight that is chosen anew; otherwise who looks at the newest turns goes on to.
 *
 * @param {number | undefined} id of the turn that is chosen; left out where the page follows the latest one
 */
export function keepInSight (id) {
  const lanes = document.querySelector('.lanes')
  if (lanes === null) return
  if (id === undefined && chosen !== undefined) isAtEnd = true
  if (id !== undefined && id !== chosen) document.querySelector('a.bar[aria-current=true]')?.scrollIntoView({ block: 'nearest', inline: 'nearest' })
  else if (isAtEnd) lanes.scrollLeft = lanes.scrollWidth
  chosen = id
}
