import neostandard from 'neostandard'

/** The arrows of the house, see CONTRIBUTING.md: from where a folder imports, beside its own files and `errors.ts`. */
const arrows = {
  'lib/fastify': ['turn/', 'state/', 'document/'],
  'lib/turn': ['state/', 'document/', 'waiting/', 'storage/storage.js', 'storage/document-store.js'],
  'lib/state': ['document/'],
  'lib/document': [],
  'lib/waiting': [],
  'lib/storage': ['document/', 'waiting/', 'memory/', 'file/', 'redis/'],
  'lib/storage/memory': ['document/', 'waiting/'],
  'lib/storage/file': ['document/', 'waiting/'],
  'lib/storage/redis': ['document/', 'waiting/'],
  'lib/conformance': ['document/', 'storage/storage.js']
}

const noArrow = ([folder, targets]) => {
  const allowed = ['errors.js', ...targets].map((target) => target.replaceAll('.', '\\.')).join('|')
  // A storage may import what stands in lib/storage, but nothing of another storage.
  const regex = folder.startsWith('lib/storage/') ? `^\\.\\./\\.\\./(?!${allowed})|^\\.\\./\\w+/` : `^\\.\\./(?!${allowed})`
  return {
    files: [`${folder}/*.ts`],
    rules: { 'no-restricted-imports': ['error', { patterns: [{ regex, message: 'There is no arrow from here to there: see CONTRIBUTING.md.' }] }] }
  }
}

export default [
  ...neostandard({ ts: true, ignores: ['dist', 'build', '.tap'] }),
  ...Object.entries(arrows).map(noArrow)
]
