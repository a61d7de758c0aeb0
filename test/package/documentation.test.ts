import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import ts from 'typescript'

const root = fileURLToPath(new URL('../..', import.meta.url))
const { exports } = JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as { exports: Record<string, { types?: string }> }
const { options } = ts.parseJsonConfigFileContent(ts.readConfigFile(`${root}tsconfig.json`, ts.sys.readFile).config, ts.sys, root)

/** The source files of the entries, by the names that users import. */
const entries = Object.entries(exports).flatMap(([name, { types }]) =>
  types === undefined ? [] : [[name, types.replace(/^\.\/dist(.*)\.d\.ts$/, `${root}lib$1.ts`)] as const])
const program = ts.createProgram(entries.map(([, file]) => file), options)
const checker = program.getTypeChecker()

const isOurs = (symbol: ts.Symbol): boolean => symbol.declarations?.some((one) => one.getSourceFile().fileName.startsWith(`${root}lib/`)) ?? false

const textOf = (symbol: ts.Symbol): string => ts.displayPartsToString(symbol.getDocumentationComment(checker))

/** What an editor shows at a public name and at each of its members, unless that is private. */
function * publicNames (exported: ts.Symbol): Generator<[path: string, documentation: string]> {
  const path = exported.name
  const symbol = exported.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(exported) : exported
  yield [path, textOf(symbol) || textOf(exported)]
  const type = symbol.flags & ts.SymbolFlags.Type ? checker.getDeclaredTypeOfSymbol(symbol) : checker.getTypeOfSymbol(symbol)
  yield * membersOf(type, path)
}

/** The members of a type, and those of the object types that are written out in it. */
function * membersOf (type: ts.Type, path: string): Generator<[path: string, documentation: string]> {
  for (const member of type.getProperties()) {
    if (!isOurs(member) || member.name.startsWith('#')) continue
    const memberPath = `${path}.${member.name}`
    yield [memberPath, textOf(member)]
    const memberType = checker.getNonNullableType(checker.getTypeOfSymbol(member))
    if (memberType.symbol?.name === '__type' && memberType.getCallSignatures().length === 0) yield * membersOf(memberType, memberPath)
  }
}

for (const [name, file] of entries) {
  t.test(`every public name of ${name} has a doc comment`, async (t) => {
    const module = checker.getSymbolAtLocation(program.getSourceFile(file) as ts.SourceFile) as ts.Symbol
    for (const exported of checker.getExportsOfModule(module)) {
      for (const [path, documentation] of publicNames(exported)) t.not(documentation, '', path)
    }
  })
}

t.test('at a call an editor shows what the method of a turn does, whether the key is declared or not', async (t) => {
  const file = `${root}test/types/hovered.ts`
  const ofScope = /key/
  const byPath = /`conversation\.key`.*`temp`/s
  const calls: Array<[call: string, more: string, documented: RegExp]> = [
    ['conversation.get', '', ofScope], ['conversation.set', ', 1 as any', ofScope], ['conversation.update', ', (() => 1) as any', ofScope],
    ['getValue', '', byPath], ['setValue', ', 1 as any', byPath], ['hasValue', '', byPath], ['deleteValue', '', byPath],
    ['updateValue', ', (() => 1) as any', byPath]
  ]
  const text = `
    import type { TurnState } from '../../lib/index.js'
    declare module '../../lib/index.js' { interface TempState { declared: number } interface ConversationState { declared: number } }
    declare const state: TurnState
    ${calls.flatMap(([call, more]) => ['declared', 'other'].map((key) => `state.${call}('${key}'${more})`)).join('\n')}`
  const service = ts.createLanguageService({
    ...ts.sys,
    useCaseSensitiveFileNames: () => ts.sys.useCaseSensitiveFileNames,
    getCompilationSettings: () => options,
    getCurrentDirectory: () => root,
    getDefaultLibFileName: ts.getDefaultLibFilePath,
    getScriptFileNames: () => [file],
    getScriptVersion: () => '1',
    getScriptSnapshot: (name) => {
      const content = name === file ? text : ts.sys.readFile(name)
      return content === undefined ? undefined : ts.ScriptSnapshot.fromString(content)
    }
  })
  for (const [call, , documented] of calls) {
    for (const key of ['declared', 'other']) {
      const { documentation, displayParts } = service.getQuickInfoAtPosition(file, text.indexOf(`${call}('${key}'`) + call.length - 1) as ts.QuickInfo
      t.match(ts.displayPartsToString(documentation), documented, ts.displayPartsToString(displayParts))
    }
  }
})
