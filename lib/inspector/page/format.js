/** @param {number} milliseconds */
export function duration (milliseconds) {
  if (milliseconds < 9.95) return `${milliseconds.toFixed(1)} ms`
  if (milliseconds < 999.5) return `${Math.round(milliseconds)} ms`
  if (milliseconds < 59_950) return `${(milliseconds / 1000).toFixed(1)} s`
  if (milliseconds < 3_600_000) return `${Math.round(milliseconds / 60_000)} min`
  if (milliseconds < 48 * 3_600_000) return `${Math.round(milliseconds / 3_600_000)} h`
  return `${Math.round(milliseconds / 86_400_000)} days`
}

/** @param {number} bytes */
export function size (bytes) {
  if (bytes < 1000) return `${bytes} B`
  return bytes < 1_000_000 ? `${(bytes / 1000).toFixed(1)} kB` : `${(bytes / 1_000_000).toFixed(1)} MB`
}

/** @param {number} at in milliseconds since 1970 */
export function time (at) {
  return new Date(at).toLocaleTimeString('en-GB')
}

/**
 * @param {number} count
 * @param {string} singular
 */
export function counted (count, singular) {
  return `${count} ${singular}${count === 1 ? '' : 's'}`
}
