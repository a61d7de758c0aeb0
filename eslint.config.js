import neostandard from 'neostandard'

/**
 * The arrows of the house, see CONTRIBUTING.md: what the files of a folder may import beside each other and `errors.ts`, a
 * folder, a file or a package. The last one that fits a file counts; a new folder may import nothing.
 */
const arrows = {
  'lib/**/*.ts': [],
  'lib/{index,plugin,options,document-options,check-documents}.ts': ['./fastify/', './turn/', './turn/overlap/', './state/', './document/', './storage/', './storage/(memory|file)/', 'fastify'],
  'lib/check-documents.ts': ['./turn/', './document/', './storage/'],
  'lib/fastify/**/*.ts': ['../turn/', '../turn/overlap/', '../state/', '../document/', 'fastify', 'node:https?', 'node:http2'],
  'lib/turn/**/*.ts': ['./overlap/', '../state/', '../document/', '../waiting/', '../storage/storage.js', '../storage/document-store.js'],
  'lib/turn/overlap/**/*.ts': ['../../storage/document-store.js'],
  'lib/state/**/*.ts': ['../document/'],
  'lib/storage/*.ts': ['../document/', '../waiting/'],
  'lib/storage/open-storage.ts': ['./(memory|file|redis|postgres)/'],
  'lib/storage/*/**/*.ts': ['../../document/', '../../waiting/', '../(storage|document-store|option-checks|expiry|file-name).js'],
  'lib/storage/driver/**/*.ts': ['../../document/', '../../waiting/', '../(storage|document-store|outage-gate|patience|compare-and-set|in-turn|read-documents|place-times|expiry|file-name).js'],
  'lib/storage/postgres/**/*.ts': ['../../document/', '../driver/', '../(outage-gate|patience|option-checks|expiry).js'],
  'lib/storage/{blob,cosmos}/**/*.ts': ['../../document/', '../driver/', '../(file-name|option-checks|expiry).js'],
  'lib/storage/redis/**/*.ts': ['../../document/', '../../waiting/', '../(storage|document-store|outage-gate|compare-and-set|in-turn|read-documents|place-times|option-checks|expiry).js', 'ioredis'],
  'lib/conformance/**/*.ts': ['../document/', '../storage/storage.js'],
  'lib/inspector/**/*.ts': ['../fastify/', '../turn/', '../state/', '../document/', '../storage/(storage|document-store|look|option-checks).js', 'fastify'],
  'lib/testing/**/*.ts': ['../plugin.js', '../turn/', '../document/', '../storage/document-store.js', 'fastify', 'node:https?', 'node:http2']
}

/** Packages that are for some folders only. */
const GUARDED = ['fastify', 'ioredis', 'pg', '@azure/.*', 'node:https?', 'node:http2', 'fastify-botas-state(/.*)?']

/** What the inspector's page uses of a browser beside what Node has as well. */
const BROWSER = Object.fromEntries(['EventSource', 'HTMLElement', 'HTMLInputElement', 'addEventListener', 'document', 'location', 'requestAnimationFrame']
  .map((name) => [name, 'readonly']))

function arrow ([files, targets]) {
  const allowed = targets.map((target) => target.endsWith('/') ? `${target}[\\w-]+\\.js` : target.replaceAll('.js', '\\.js'))
  const packages = GUARDED.filter((name) => !targets.includes(name))
  const regex = `^(?!(?:\\./[\\w-]+\\.js|(?:\\.\\./)+errors\\.js|${[...allowed, '[^.].*'].join('|')})$)|^(?:${packages.join('|')})$`
  const message = 'There is no arrow from here to there: see CONTRIBUTING.md.'
  return {
    files: [files],
    rules: {
      'no-restricted-imports': ['error', { patterns: [{ regex, message }] }],
      'no-restricted-syntax': ['error', ...['ImportExpression', 'TSImportType'].map((selector) => ({ selector, message: 'Import it above.' }))]
    }
  }
}

export default [
  ...neostandard({ ts: true, ignores: ['dist', '.tap'] }),
  ...Object.entries(arrows).map(arrow),
  { files: ['lib/inspector/page/*.js'], languageOptions: { globals: BROWSER } }
]
