/**
 * What `run` resolved to, as it is kept for the next deliveries of its activity: as JSON, and nothing where that cannot hold it, or
 * where it is too long.
 *
 * @param limit in bytes
 */
export function keptResult (result: unknown, limit: number): string {
  try {
    const text = JSON.stringify(result) ?? ''
    return Buffer.byteLength(text) > limit ? '' : text
  } catch {
    return ''
  }
}

/** @param kept see `keptResult` */
export function resultOf (kept: string): unknown {
  return kept === '' ? undefined : JSON.parse(kept)
}
