import t from 'tap'
import { pageModule } from '../../helpers/page-module.js'

const { pathText, shownName } = await pageModule<{ pathText (path: Array<string | number>): string, shownName (name: string): string }>('names')

t.test('the way to a value is told as one writes it', async (t) => {
  t.equal(pathText(['history', 3, 'text']), 'history[3].text')
  t.equal(pathText(['größe', 'a b', '1']), 'größe["a b"]["1"]')
  t.equal(pathText(['a b']), '"a b"')
})

t.test('a name hides nothing, and moves nothing that stands beside it', async (t) => {
  t.equal(shownName('Ada'), 'Ada')
  t.equal(shownName(''), '""')
  t.equal(shownName('\u202e<script>\u0000'), '\\u202e<script>\\u0000')
  t.equal(shownName('\u{1f468}\u200d\u{1f469}'), '\u{1f468}\u200d\u{1f469}', 'what joins emoji is part of them')
  t.equal(shownName('x'.repeat(5000)).length, 201)
})
