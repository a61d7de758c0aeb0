/** Where the JSON text of a member stands in the bytes of a document. */
export interface MemberText {
  readonly bytes: Buffer
  readonly start: number
  readonly end: number
}

/**
 * Finds the texts of the members of a JSON object, without parsing or decoding them: one pass, in which strings are
 * skipped. What a string holds, its escapes for instance, is looked at when its member is parsed.
 *
 * @param bytes valid UTF-8
 * @returns nothing where this is not the text of a JSON object
 */
export function memberTexts (bytes: Buffer): Map<string, MemberText> | undefined {
  const members = new Map<string, MemberText>()
  let at = skipSpace(bytes, 0)
  if (byteAt(bytes, at) !== OPENING_BRACE) return undefined
  at = skipSpace(bytes, at + 1)
  if (byteAt(bytes, at) === CLOSING_BRACE) return isEnd(bytes, at + 1) ? members : undefined
  for (;;) {
    const nameEnd = endOfString(bytes, at)
    const start = afterColon(bytes, nameEnd)
    const end = start < 0 ? NOWHERE : endOfValue(bytes, start)
    const name = end < 0 ? undefined : nameIn(bytes.toString('utf8', at, nameEnd))
    if (name === undefined) return undefined
    members.set(name, { bytes, start, end })
    at = skipSpace(bytes, end)
    const mark = byteAt(bytes, at)
    if (mark === CLOSING_BRACE) return isEnd(bytes, at + 1) ? members : undefined
    if (mark !== COMMA) return undefined
    at = skipSpace(bytes, at + 1)
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

/** As a position: not JSON. As a byte: end of input. */
const NOWHERE = -1

/** Where the value that begins here ends. Iterative: JSON may nest deeper than the call stack. */
function endOfValue (bytes: Buffer, start: number): number {
  /** the marks that close what is open */
  const closing: number[] = []
  let at = start
  for (;;) {
    const mark = byteAt(bytes, at)
    if (mark === OPENING_BRACE || mark === OPENING_BRACKET) {
      // In ASCII both closing marks come two after their opening ones.
      const close = mark + 2
      const inside = skipSpace(bytes, at + 1)
      if (byteAt(bytes, inside) !== close) {
        closing.push(close)
        at = mark === OPENING_BRACE ? afterName(bytes, inside) : inside
        if (at < 0) return NOWHERE
        continue
      }
      at = inside + 1
    } else {
      at = mark === QUOTE ? endOfString(bytes, at) : endOfLiteral(bytes, at, mark)
    }
    at = nextValue(bytes, at, closing)
    if (at < 0 || closing.length === 0) return at
  }
}

/** From the end of a value to the next one that is to be read; or, where nothing is open any more, to the end of it all. */
function nextValue (bytes: Buffer, end: number, closing: number[]): number {
  let at = end
  while (at >= 0 && closing.length > 0) {
    at = skipSpace(bytes, at)
    const mark = byteAt(bytes, at++)
    const close = closing[closing.length - 1]
    if (mark === COMMA) {
      at = skipSpace(bytes, at)
      return close === CLOSING_BRACE ? afterName(bytes, at) : at
    }
    if (mark !== close) return NOWHERE
    closing.pop()
  }
  return at
}

/** Where the value begins that belongs to the name that begins here. */
function afterName (bytes: Buffer, start: number): number {
  return afterColon(bytes, endOfString(bytes, start))
}

function afterColon (bytes: Buffer, nameEnd: number): number {
  if (nameEnd < 0) return NOWHERE
  const colon = skipSpace(bytes, nameEnd)
  return byteAt(bytes, colon) === COLON ? skipSpace(bytes, colon + 1) : NOWHERE
}

/** Characters in a name that need JSON.parse. */
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

function endOfString (bytes: Buffer, start: number): number {
  if (byteAt(bytes, start) !== QUOTE) return NOWHERE
  for (let at = start + 1; at <= start + SHORT; at++) {
    const mark = byteAt(bytes, at)
    if (mark === QUOTE) return at + 1
    if (mark === BACKSLASH) return endOfLongString(bytes, at)
  }
  return endOfLongString(bytes, start + SHORT + 1)
}

/** The closing quote is the first one that an even number of backslashes precedes. */
function endOfLongString (bytes: Buffer, start: number): number {
  for (let from = start; ; from++) {
    from = bytes.indexOf(QUOTE, from)
    if (from < 0) return NOWHERE
    let backslashes = 0
    while (byteAt(bytes, from - 1 - backslashes) === BACKSLASH) backslashes++
    if (backslashes % 2 === 0) return from + 1
  }
}

const LITERALS = ['true', 'false', 'null'].map((literal) => Buffer.from(literal))

function endOfLiteral (bytes: Buffer, start: number, mark: number): number {
  if (mark === MINUS || (mark >= ZERO && mark <= NINE)) return endOfNumber(bytes, start)
  const literal = LITERALS.find((literal) => literal[0] === mark)
  return literal?.every((byte, index) => bytes[start + index] === byte) === true ? start + literal.length : NOWHERE
}

function endOfNumber (bytes: Buffer, start: number): number {
  const first = byteAt(bytes, start) === MINUS ? start + 1 : start
  let at = byteAt(bytes, first) === ZERO ? first + 1 : endOfDigits(bytes, first)
  if (at >= 0 && byteAt(bytes, at) === POINT) at = endOfDigits(bytes, at + 1)
  if (at >= 0 && isExponent(byteAt(bytes, at))) at = endOfDigits(bytes, isSign(byteAt(bytes, at + 1)) ? at + 2 : at + 1)
  return at
}

function endOfDigits (bytes: Buffer, start: number): number {
  let at = start
  for (let mark = byteAt(bytes, at); mark >= ZERO && mark <= NINE; mark = byteAt(bytes, at)) at++
  return at > start ? at : NOWHERE
}

function isExponent (mark: number): boolean {
  return mark === 0x65 || mark === 0x45
}

function isSign (mark: number): boolean {
  return mark === MINUS || mark === 0x2B
}

function skipSpace (bytes: Buffer, start: number): number {
  let at = start
  while (isSpace(byteAt(bytes, at))) at++
  return at
}

function isSpace (mark: number): boolean {
  return mark <= 0x20 && (mark === 0x20 || mark === 0x0A || mark === 0x0D || mark === 0x09)
}

function isEnd (bytes: Buffer, at: number): boolean {
  return skipSpace(bytes, at) === bytes.length
}

function byteAt (bytes: Buffer, at: number): number {
  return bytes[at] ?? NOWHERE
}
