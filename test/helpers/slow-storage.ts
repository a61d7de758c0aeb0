import { RecordingStorage } from './recording-storage.js'

/** A storage that takes its time, as files, Redis and databases do: what memory does at once hides many a fault. */
export function slowStorage (milliseconds = 10): RecordingStorage {
  const storage = new RecordingStorage()
  storage.latency.read = storage.latency.update = milliseconds
  return storage
}
