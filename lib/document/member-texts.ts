const PUNCTUATION = /["{}[\],:]/g

/** The text of each member of a JSON object, as it stands there. The text is known to be valid JSON. */
export function memberTexts (text: string): Map<string, string> {
  const texts = new Map<string, string>()
  let depth = 0
  let name = ''
  let start: number | undefined
  for (let at = nextPunctuation(text, 0); at < text.length; at = nextPunctuation(text, at + 1)) {
    const mark = text[at] as string
    if (mark === '}' || mark === ']') depth--
    if (mark === '"') {
      const end = endOfString(text, at)
      if (start === undefined) name = text.slice(at, end + 1)
      at = end
    } else if (start !== undefined && (depth === 0 || (depth === 1 && mark === ','))) {
      texts.set(JSON.parse(name), text.slice(start, at).trim())
      start = undefined
    } else if (start === undefined && mark === ':') {
      start = at + 1
    }
    if (mark === '{' || mark === '[') depth++
  }
  return texts
}

function nextPunctuation (text: string, from: number): number {
  PUNCTUATION.lastIndex = from
  return PUNCTUATION.exec(text)?.index ?? text.length
}

/** The closing quote of a string: the first one that an even number of backslashes precedes. */
function endOfString (text: string, start: number): number {
  let end = start
  let backslashes: number
  do {
    end = text.indexOf('"', end + 1)
    backslashes = 0
    while (text[end - 1 - backslashes] === '\\') backslashes++
  } while (backslashes % 2 === 1)
  return end
}
