// The source maps of tsx carry no source text. v8-to-istanbul takes "null" for the text of an empty file, of which everything
// is covered: without the member it reads the file.
import { readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const directory = '.tap/coverage'
for (const name of readdirSync(directory)) {
  const file = join(directory, name)
  const coverage = JSON.parse(readFileSync(file, 'utf8'))
  for (const { data } of Object.values(coverage['source-map-cache'] ?? {})) delete data?.sourcesContent
  writeFileSync(file, JSON.stringify(coverage))
}
