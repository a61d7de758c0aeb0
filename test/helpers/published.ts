import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import type { Test } from 'tap'

/** What is published on a channel, from now until the end of the test. */
export function published (t: Test, channel: string): unknown[] {
  const events: unknown[] = []
  const listen = (event: unknown) => { events.push(event) }
  subscribe(channel, listen)
  t.teardown(() => unsubscribe(channel, listen))
  return events
}
