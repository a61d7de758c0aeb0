import fc from 'fast-check'
import t from 'tap'
import { pageModule } from '../../helpers/page-module.js'

const { addNews, emptyModel, focusOf, focusOn, documentLink, turnLink } = await pageModule<{
  emptyModel (server: string): { turns: Map<number, object>, seen: Map<string, object> }
  addNews (model: object, news: object, limits: { turns: number, seen: number }): void
  focusOf (hash: string): object
  documentLink (key: string): string
  turnLink (id: number, model: { server: string }): string
  focusOn (focus: object, model: { server: string }): object
}>('model')

t.test('the page remembers no more than the server, the last ones, in their order', async (t) => {
  const model = emptyModel('')
  for (let id = 1; id <= 10; id++) addNews(model, { turns: [{ id }], seen: [{ key: `k${id % 7}` }] }, { turns: 3, seen: 4 })
  t.strictSame([...model.turns.keys()], [8, 9, 10])
  t.strictSame([...model.seen.keys()], ['k0', 'k1', 'k2', 'k3'])
})

t.test('a link leads to what it was made of, whatever the ids are', async (t) => {
  fc.assert(fc.property(fc.string({ unit: 'grapheme' }), (key) => t.strictSame(focusOf(documentLink(key)), { key })))
  const link = focusOf(turnLink(7, { server: 's' }))
  t.strictSame(focusOn(link, { server: 's' }), { turn: 7, of: 's' })
  t.strictSame(focusOn(link, { server: 'another' }), {}, 'a turn of the server before is none of this one')
  t.strictSame(focusOn(focusOf('#/turn=7'), { server: 's' }), { turn: 7, of: null })
  t.strictSame(focusOf(''), {})
})
