import fc from 'fast-check'
import t from 'tap'
import { pageModule } from '../../helpers/page-module.js'

const { addNews, emptyModel, focusOf, documentLink, turnLink } = await pageModule<{
  emptyModel (): { turns: Map<number, object>, seen: Map<string, object> }
  addNews (model: object, news: object, limits: { turns: number, seen: number }): void
  focusOf (hash: string): object
  documentLink (key: string): string
  turnLink (id: number): string
}>('model')

t.test('the page remembers no more than the server, the last ones, in their order', async (t) => {
  const model = emptyModel()
  for (let id = 1; id <= 10; id++) addNews(model, { turns: [{ id }], seen: [{ key: `k${id % 7}` }] }, { turns: 3, seen: 4 })
  t.strictSame([...model.turns.keys()], [8, 9, 10])
  t.strictSame([...model.seen.keys()], ['k0', 'k1', 'k2', 'k3'])
})

t.test('a link leads to what it was made of, whatever the ids are', async (t) => {
  fc.assert(fc.property(fc.string({ unit: 'grapheme' }), (key) => t.strictSame(focusOf(documentLink(key)), { key })))
  t.strictSame(focusOf(turnLink(7)), { turn: 7 })
  t.strictSame(focusOf(''), {})
})
