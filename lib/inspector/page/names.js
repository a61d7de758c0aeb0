/** What turns the direction of text, and other characters that are not seen. */
const UNSEEN = /[\p{Cc}\u061C\u200B-\u200F\u2028-\u202E\u2060-\u2069\uFEFF]/gu

/** How much is shown of a name, in characters. */
const MAX_LENGTH = 200

/**
 * A name that somebody has chosen, as it is shown: nothing of it is hidden, and nothing of it moves what stands beside it.
 *
 * @param {string} name
 */
export function shownName (name) {
  if (name === '') return '""'
  const cut = name.length > MAX_LENGTH ? `${name.slice(0, MAX_LENGTH)}…` : name
  // What joins emoji is part of them.
  return cut.replace(UNSEEN, (character) => character === '\u200D' ? character : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

/**
 * The way to a value, as one writes it in JavaScript.
 *
 * @param {Array<string | number>} path
 */
export function pathText (path) {
  return path.map((step, index) => {
    if (typeof step === 'number') return `[${step}]`
    const isIdentifier = /^[\p{ID_Start}_$][\p{ID_Continue}$]*$/u.test(step)
    const text = shownName(isIdentifier ? step : JSON.stringify(step))
    if (index === 0) return text
    return isIdentifier ? `.${text}` : `[${text}]`
  }).join('')
}
