/**
 * Beside each row stand the marks of its last writes: of each process that wrote it lately its last one. A write that is sent again
 * after its answer was lost is recognised by its mark, whoever has written after it. The writes of one key by one process follow each
 * other, so that one mark a process is enough.
 */

/** More processes do not write one row while one of them waits for a lost answer. What stands beside a blob has 8 KB. */
const MAX_MARKS = 64

/** Names a write. */
export interface Mark {
  /** names the process and its storage */
  readonly origin: string
  readonly number: number
}

/** Puts a mark before those of other processes. */
export function withMark (marks: string, { origin, number }: Mark): string {
  const others = listOf(marks).filter((mark) => !mark.startsWith(`${origin}:`))
  return [`${origin}:${number}`, ...others].slice(0, MAX_MARKS).join()
}

export function hasMark (marks: string, { origin, number }: Mark): boolean {
  return listOf(marks).includes(`${origin}:${number}`)
}

function listOf (marks: string): string[] {
  return marks === '' ? [] : marks.split(',')
}
