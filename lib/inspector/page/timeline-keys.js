/** Left and right lead to the turn before and after, up and down to another conversation. @param {KeyboardEvent} event */
export function moveAmongBars (event) {
  const target = /** @type {Element | null} */ (event.target)
  const bar = target?.closest('a.bar')
  const lane = bar?.closest('.lane')
  if (bar == null || lane == null) return
  const bars = barsIn(lane)
  const index = bars.indexOf(bar)
  /** @type {Record<string, () => Element | undefined>} */
  const moves = {
    ArrowLeft: () => bars[index - 1],
    ArrowRight: () => bars[index + 1],
    ArrowUp: () => nearest(bar, barsIn(lane.previousElementSibling)),
    ArrowDown: () => nearest(bar, barsIn(lane.nextElementSibling)),
    Home: () => bars[0],
    End: () => bars.at(-1)
  }
  const next = moves[event.key]?.()
  if (!(next instanceof HTMLElement)) return
  event.preventDefault()
  next.focus()
}

/**
 * From left to right.
 *
 * @param {Element | null} within
 */
function barsIn (within) {
  return [...within?.querySelectorAll('a.bar') ?? []].sort((one, other) => leftOf(one) - leftOf(other))
}

/**
 * @param {Element} bar
 * @param {Element[]} others
 */
function nearest (bar, others) {
  /** @param {Element} other */
  const distance = (other) => Math.abs(leftOf(other) - leftOf(bar))
  return others.sort((one, other) => distance(one) - distance(other))[0]
}

/** @param {Element} element */
function leftOf (element) {
  return element.getBoundingClientRect().left
}
