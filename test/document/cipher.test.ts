import { createCipheriv, createSecretKey } from 'node:crypto'
import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import t from 'tap'
import { Cipher, type Subject, isEncrypted } from '../../lib/document/cipher.js'

interface Vector extends Subject {
  text: string
  nonce: string
  associatedData: string
  ciphertext: string
  tag: string
  stored: string
}

const { keyId, secret, vectors }: { keyId: string, secret: string, vectors: Vector[] } =
  JSON.parse(readFileSync(new URL('../vectors/encrypted.json', import.meta.url), 'utf8'))
const cipherOf = (keys: Record<string, Buffer>, current: string) => {
  const all = Object.entries(keys).map(([id, key]) => ({ id, secret: createSecretKey(key) }))
  return new Cipher(all, all.find(({ id }) => id === current))
}
const cipher = cipherOf({ [keyId]: Buffer.from(secret, 'hex') }, keyId)

t.test('the vectors for other languages open, and are what AES-256-GCM makes of their parts', async (t) => {
  for (const vector of vectors) {
    const { kind, key, name, text, nonce, associatedData, stored } = vector
    t.equal(cipher.decrypt(stored, { kind, key, name }), text)
    t.equal(associatedData, `${kind}:${Buffer.byteLength(key)}:${key}${name}`)
    const gcm = createCipheriv('aes-256-gcm', Buffer.from(secret, 'hex'), Buffer.from(nonce, 'hex')).setAAD(Buffer.from(associatedData))
    const ciphertext = Buffer.concat([gcm.update(text, 'utf8'), gcm.final()])
    t.strictSame([ciphertext.toString('hex'), gcm.getAuthTag().toString('hex')], [vector.ciphertext, vector.tag])
    t.equal(stored, `~encrypted:1:${keyId}:${Buffer.concat([Buffer.from(nonce, 'hex'), ciphertext, gcm.getAuthTag()]).toString('base64url')}`)
  }
})

const subject = fc.record<Subject>({ kind: fc.constantFrom('member', 'reply'), key: fc.string({ unit: 'grapheme' }), name: fc.string({ unit: 'grapheme' }) })

t.test('any text opens in its subject, in no other one, and never looks the same twice', async () => {
  fc.assert(fc.property(fc.string({ unit: 'grapheme' }), subject, subject, (text, where, elsewhere) => {
    const encrypted = cipher.encrypt(text, where)
    if (!isEncrypted(encrypted) || cipher.decrypt(encrypted, where) !== text || cipher.encrypt(text, where) === encrypted) return false
    const isSame = where.kind === elsewhere.kind && where.key === elsewhere.key && where.name === elsewhere.name
    return isSame || !opens(encrypted, elsewhere)
  }), { numRuns: 300 })
})

t.test('the end of a key is not the beginning of a name', async (t) => {
  const encrypted = cipher.encrypt('1', { kind: 'member', key: 'a/b', name: 'c' })
  for (const [key, name] of [['a/', 'bc'], ['a/bc', ''], ['', 'a/bc']] as const) t.notOk(opens(encrypted, { kind: 'member', key, name }))
})

t.test('what was changed anywhere, truncated or extended does not open, and the error quotes nothing of it', async () => {
  const where: Subject = { kind: 'member', key: 'k', name: 'n' }
  const encrypted = cipher.encrypt('"hunter2"', where)
  const content = encrypted.slice(encrypted.lastIndexOf(':') + 1)
  fc.assert(fc.property(fc.nat(encrypted.length - 1), fc.nat(content.length - 1), fc.constantFrom('A', 'z', '9', '_', '', '!'), (at, length, character) => {
    const changed = encrypted.slice(0, at) + character + encrypted.slice(at + 1)
    const truncated = encrypted.slice(0, encrypted.length - content.length + length)
    return [changed, truncated, `${encrypted}AAAA`].every((text) => text === encrypted || !opens(text, where))
  }), { numRuns: 500 })
})

/** Throws where it is refused in another way than by its code. */
function opens (encrypted: string, where: Subject): boolean {
  try {
    cipher.decrypt(encrypted, where)
    return true
  } catch (error) {
    const { code, message, cause } = error as Error & { code: string }
    if (code !== 'FST_BOTAS_STATE_CANNOT_DECRYPT' || cause !== undefined || message.includes('hunter2') || message.includes(encrypted)) throw error
    return false
  }
}
