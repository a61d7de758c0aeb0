/**
 * Cuts the text of a JSON object into the texts of its members, as they stand there, without parsing these: one pass, in
 * which strings are skipped. What a string holds, its escapes for instance, is looked at when its member is parsed.
 *
 * @returns nothing where the text is not that of a JSON object
 */
export function memberTexts (text: string): Map<string, string> | undefined {
  const members = new Map<string, string>()
  let at = skipSpace(text, 0)
  if (text.charCodeAt(at) !== OPENING_BRACE) return undefined
  at = skipSpace(text, at + 1)
  if (text.charCodeAt(at) === CLOSING_BRACE) return isEnd(text, at + 1) ? members : undefined
  for (;;) {
    const nameEnd = endOfString(text, at)
    const start = afterColon(text, nameEnd)
    const end = start < 0 ? NOWHERE : endOfValue(text, start)
    const name = end < 0 ? undefined : nameIn(text.slice(at, nameEnd))
    if (name === undefined) return undefined
    members.set(name, text.slice(start, end))
    at = skipSpace(text, end)
    const mark = text.charCodeAt(at)
    if (mark === CLOSING_BRACE) return isEnd(text, at + 1) ? members : undefined
    if (mark !== COMMA) return undefined
    at = skipSpace(text, at + 1)
  }
}

const QUOTE = 0x22
const COMMA = 0x2C
const MINUS = 0x2D
const POINT = 0x2E
const ZERO = 0x30
const NINE = 0x39
const COLON = 0x3A
const OPENING_BRACKET = 0x5B
const BACKSLASH = 0x5C
const OPENING_BRACE = 0x7B
const CLOSING_BRACE = 0x7D

/** In place of a position: the text is no JSON. */
const NOWHERE = -1

/** Where the value that begins here ends. A loop, for JSON may be nested deeper than calls. */
function endOfValue (text: string, start: number): number {
  /** the marks that close what is open */
  const closing: number[] = []
  let at = start
  for (;;) {
    const mark = text.charCodeAt(at)
    if (mark === OPENING_BRACE || mark === OPENING_BRACKET) {
      // In ASCII both closing marks come two after their opening ones.
      const close = mark + 2
      const inside = skipSpace(text, at + 1)
      if (text.charCodeAt(inside) !== close) {
        closing.push(close)
        at = mark === OPENING_BRACE ? afterName(text, inside) : inside
        if (at < 0) return NOWHERE
        continue
      }
      at = inside + 1
    } else {
      at = mark === QUOTE ? endOfString(text, at) : endOfLiteral(text, at, mark)
    }
    at = nextValue(text, at, closing)
    if (at < 0 || closing.length === 0) return at
  }
}

/** From the end of a value to the next one that is to be read; or, where nothing is open any more, to the end of it all. */
function nextValue (text: string, end: number, closing: number[]): number {
  let at = end
  while (at >= 0 && closing.length > 0) {
    at = skipSpace(text, at)
    const mark = text.charCodeAt(at++)
    const close = closing[closing.length - 1]
    if (mark === COMMA) {
      at = skipSpace(text, at)
      return close === CLOSING_BRACE ? afterName(text, at) : at
    }
    if (mark !== close) return NOWHERE
    closing.pop()
  }
  return at
}

/** Where the value begins that belongs to the name that begins here. */
function afterName (text: string, start: number): number {
  return afterColon(text, endOfString(text, start))
}

function afterColon (text: string, nameEnd: number): number {
  if (nameEnd < 0) return NOWHERE
  const colon = skipSpace(text, nameEnd)
  return text.charCodeAt(colon) === COLON ? skipSpace(text, colon + 1) : NOWHERE
}

/** What is not to be taken as it stands in a name. */
const SPECIAL = /[\\\p{Cc}]/u

function nameIn (text: string): string | undefined {
  if (!SPECIAL.test(text)) return text.slice(1, -1)
  try {
    return JSON.parse(text)
  } catch {
    // Not a name: the caller says that the text is corrupt.
  }
}

/** A search is faster than a loop where a string is long, and slower where it is short, as most names are. */
const SHORT = 16

function endOfString (text: string, start: number): number {
  if (text.charCodeAt(start) !== QUOTE) return NOWHERE
  for (let at = start + 1; at <= start + SHORT; at++) {
    const mark = text.charCodeAt(at)
    if (mark === QUOTE) return at + 1
    if (mark === BACKSLASH) return endOfLongString(text, at)
  }
  return endOfLongString(text, start + SHORT + 1)
}

/** The closing quote is the first one that an even number of backslashes precedes. */
function endOfLongString (text: string, start: number): number {
  for (let from = start; ; from++) {
    from = text.indexOf('"', from)
    if (from < 0) return NOWHERE
    let backslashes = 0
    while (text.charCodeAt(from - 1 - backslashes) === BACKSLASH) backslashes++
    if (backslashes % 2 === 0) return from + 1
  }
}

function endOfLiteral (text: string, start: number, mark: number): number {
  if (mark === MINUS || (mark >= ZERO && mark <= NINE)) return endOfNumber(text, start)
  const literal = ['true', 'false', 'null'].find((literal) => text.startsWith(literal, start))
  return literal === undefined ? NOWHERE : start + literal.length
}

function endOfNumber (text: string, start: number): number {
  const first = text.charCodeAt(start) === MINUS ? start + 1 : start
  let at = text.charCodeAt(first) === ZERO ? first + 1 : endOfDigits(text, first)
  if (at >= 0 && text.charCodeAt(at) === POINT) at = endOfDigits(text, at + 1)
  if (at >= 0 && isExponent(text.charCodeAt(at))) at = endOfDigits(text, isSign(text.charCodeAt(at + 1)) ? at + 2 : at + 1)
  return at
}

function endOfDigits (text: string, start: number): number {
  let at = start
  for (let mark = text.charCodeAt(at); mark >= ZERO && mark <= NINE; mark = text.charCodeAt(at)) at++
  return at > start ? at : NOWHERE
}

function isExponent (mark: number): boolean {
  return mark === 0x65 || mark === 0x45
}

function isSign (mark: number): boolean {
  return mark === MINUS || mark === 0x2B
}

function skipSpace (text: string, start: number): number {
  let at = start
  while (isSpace(text.charCodeAt(at))) at++
  return at
}

function isSpace (mark: number): boolean {
  return mark <= 0x20 && (mark === 0x20 || mark === 0x0A || mark === 0x0D || mark === 0x09)
}

function isEnd (text: string, at: number): boolean {
  return skipSpace(text, at) === text.length
}
