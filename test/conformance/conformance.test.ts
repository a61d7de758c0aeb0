import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { type StorageFeatures, type OpenStorage, conformance } from '../../lib/conformance/conformance.js'
import { MemoryStorage, type StateDocument, type Storage } from '../../lib/index.js'
import { LeasingStorage } from '../helpers/leasing-storage.js'
import { shellEnvironment } from '../helpers/node-process.js'

const suite = fileURLToPath(new URL('../processes/storage-of-an-author.js', import.meta.url))

/** The titles of the promises that a storage breaks. */
async function broken (open: OpenStorage, features?: StorageFeatures): Promise<string[]> {
  const tests: Array<[title: string, work: () => Promise<void>]> = []
  conformance((title, work) => tests.push([title, work]), open, features)
  const results = await Promise.allSettled(tests.map(([, work]) => work()))
  return tests.filter((_, index) => results[index]?.status === 'rejected').map(([title]) => title)
}

/** Whole documents in a Map: the least that a storage can be. */
function plainStorage (): Storage {
  const texts = new Map<string, string>()
  return {
    read: async (keys) => Object.fromEntries(keys.filter((key) => texts.has(key)).map((key) => [key, JSON.parse(texts.get(key) as string)])),
    write: async (documents) => { for (const [key, document] of Object.entries(documents)) texts.set(key, JSON.stringify(document)) },
    delete: async (keys) => { for (const key of keys) texts.delete(key) }
  }
}

/** A storage that has one method of its own. */
const butWith = (storage: Storage, methods: Partial<Storage>): Storage => ({ ...methodsOf(storage), ...methods })

function methodsOf (storage: Storage): Storage {
  return {
    read: (keys) => storage.read(keys),
    write: (documents) => storage.write(documents),
    delete: (keys) => storage.delete(keys),
    update: async (...args) => storage.update?.(...args),
    close: async () => storage.close?.()
  }
}

t.test('a storage with read, write and delete conforms', async (t) => {
  t.strictSame(await broken(plainStorage, { update: false }), [])
})

t.test('a storage of which a method is expected and that has none is told so', async (t) => {
  const missing = [
    [{}, /no method "update"; where that is meant, say \{ update: false \}/],
    [{ update: false, lease: true }, /no method "lease"; where that is meant, say \{ lease: false \}/],
    [{ update: false, once: true }, /no method "commit"; where that is meant, say \{ once: false \}/]
  ] as const
  for (const [features, message] of missing) {
    const tests: Array<() => Promise<void>> = []
    conformance((_title, work) => tests.push(work), plainStorage, features)
    const errors = (await Promise.allSettled(tests.map((work) => work()))).filter(({ status }) => status === 'rejected')
    t.match(errors[0], { reason: { message } })
  }
})

const faults: Array<[title: string, break_: (storage: Storage) => Storage, promise: string]> = [
  ['gives a document for every key', (storage) => butWith(storage, {
    read: async (keys) => ({ ...Object.fromEntries(keys.map((key) => [key, {}])), ...await storage.read(keys) })
  }), 'a key that is not stored is left out'],
  ['takes an empty document for none', (storage) => butWith(storage, {
    read: async (keys) => Object.fromEntries(Object.entries(await storage.read(keys)).filter(([, document]) => Object.keys(document as object).length > 0))
  }), 'an empty document is a document'],
  ['merges what is written', (storage) => butWith(storage, {
    write: async (documents) => {
      for (const [key, document] of Object.entries(documents)) {
        const old = (await storage.read([key]))[key] as object | undefined
        await storage.write({ [key]: { ...old, ...document as object } })
      }
    }
  }), 'a write replaces the whole document'],
  ['folds the case and form of keys', (storage) => butWith(storage, {
    read: async (keys) => {
      const documents = await storage.read(keys.map((key) => key.normalize('NFC')))
      return Object.fromEntries(keys.flatMap((key) => key.normalize('NFC') in documents ? [[key, documents[key.normalize('NFC')]]] : []))
    },
    write: async (documents) => storage.write(Object.fromEntries(Object.entries(documents).map(([key, document]) => [key.normalize('NFC'), document])))
  }), 'keys may hold any Unicode text'],
  ['deletes with an error what is not there', (storage) => butWith(storage, {
    delete: async (keys) => {
      for (const key of keys) if (!(key in await storage.read([key]))) throw new Error('not found')
      await storage.delete(keys)
    }
  }), 'deleting is idempotent'],
  ['cannot be closed twice', (storage) => {
    let closed = false
    return butWith(storage, {
      close: async () => {
        if (closed) throw new Error('closed already')
        closed = true
      }
    })
  }, 'closing is idempotent'],
  ['updates by reading and writing', (storage) => butWith(storage, {
    update: async (key, change) => {
      const next = change((await storage.read([key]))[key] as StateDocument | undefined)
      await new Promise((resolve) => setImmediate(resolve))
      if (next === undefined) await storage.delete([key])
      else await storage.write({ [key]: next })
    }
  }), 'of 100 updates at once none is lost'],
  ['believes that what was loaded is still there', (storage) => butWith(storage, {
    update: async (key, change, loaded) => {
      if (loaded === undefined) return storage.update?.(key, change)
      await storage.update?.(key, () => change(loaded))
    }
  }), 'an update notices what was written since the document was loaded'],
  ['keeps an empty document where an update removes it', (storage) => butWith(storage, {
    update: async (key, change) => storage.update?.(key, (current) => change(current) ?? {})
  }), 'an update that gives undefined removes the document'],
  ['swallows the error of an update', (storage) => butWith(storage, {
    update: async (...args) => storage.update?.(...args).catch(() => {})
  }), 'an update that throws passes its error on and stores nothing']
]

for (const [title, break_, promise] of faults) {
  t.test(`a storage that ${title} does not conform`, async (t) => {
    t.strictSame(await broken(() => methodsOf(new MemoryStorage())), [], 'without the fault it does')
    t.ok((await broken(() => break_(new MemoryStorage()))).includes(promise), promise)
  })
}

t.test('a storage that hands out what it holds does not conform', async (t) => {
  const open = (): Storage => {
    const documents = new Map<string, unknown>()
    return {
      read: async (keys) => Object.fromEntries(keys.filter((key) => documents.has(key)).map((key) => [key, documents.get(key)])),
      write: async (changes) => { for (const [key, document] of Object.entries(changes)) documents.set(key, document) },
      delete: async (keys) => { for (const key of keys) documents.delete(key) },
      update: async (key, change) => {
        const next = change(documents.get(key) as StateDocument | undefined)
        if (next === undefined) documents.delete(key)
        else documents.set(key, next)
      }
    }
  }
  t.strictSame(await broken(open), [
    'what is written or read is a copy', 'what an update is given or gives is a copy', 'an update that throws passes its error on and stores nothing'
  ])
})

t.test('a storage that forgets nothing, or too soon, does not keep a time to live', async (t) => {
  t.strictSame(await broken(() => new MemoryStorage(), { ttl: true }), [
    'a document is forgotten when its time to live has passed since the last save',
    'an update renews the time to live',
    'an update finds nothing where the document has expired since it was loaded',
    'an update removes nothing where the document has expired'
  ])
  t.strictSame(await broken(plainStorage, { update: false, ttl: true }), ['a document is forgotten when its time to live has passed since the last save'])
})

const ALL = { lease: true, once: true }

t.test('a storage with leases, commits and records conforms', async (t) => {
  t.strictSame(await broken(() => new LeasingStorage(), ALL), [])
})

t.test('a storage whose leases, commits or records are not what they should be does not conform', async (t) => {
  const faulty: Array<[title: string, make: () => Storage]> = [
    ['gives a lease to everybody', () => butWith(new LeasingStorage(), { lease: async (_name, holder) => holder })],
    ['gives no lease back', () => {
      const storage = new LeasingStorage()
      return butWith(storage, { lease: (name, holder, milliseconds, instead) => storage.lease(name, holder, milliseconds || 60_000, instead) })
    }],
    ['keeps a lease for ever', () => {
      const storage = new LeasingStorage()
      return butWith(storage, { lease: (name, holder, milliseconds, instead) => storage.lease(name, holder, milliseconds && 10_000, instead) })
    }],
    ['keeps a lease as a document', () => {
      const storage = new LeasingStorage()
      return butWith(storage, {
        async lease (name, holder, milliseconds, instead) {
          await storage.write({ [name]: {} })
          return storage.lease(name, holder, milliseconds, instead)
        }
      })
    }],
    ['does not look at the lease', () => {
      const storage = new LeasingStorage()
      return butWith(storage, { commit: ({ lease, ...commit }) => storage.commit(commit) })
    }],
    ['keeps no record', () => {
      const storage = new LeasingStorage()
      return butWith(storage, { commit: ({ record, ...commit }) => storage.commit(commit) })
    }],
    ['keeps a record for ever', () => {
      const storage = new LeasingStorage()
      return butWith(storage, { commit: ({ record, ...commit }) => storage.commit(record === undefined ? commit : { ...commit, record: { ...record, seconds: 100 } }) })
    }],
    ['saves one by one', () => {
      const storage = new LeasingStorage()
      return butWith(storage, {
        async commit ({ changes, ...commit }) {
          for (const change of changes) await storage.commit({ changes: [change] })
          return storage.commit({ changes: [], ...commit })
        }
      })
    }]
  ]
  for (const [title, make] of faulty) t.not((await broken(make, ALL)).length, 0, title)
})

t.test('the author of a storage runs the suite with node:test', async (t) => {
  const { stdout } = await promisify(execFile)(process.execPath, ['--test', '--test-reporter=tap', suite], { env: shellEnvironment })
  t.match(stdout, /^# pass 30$/m)
  t.match(stdout, /^# fail 0$/m)
})
