import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import ts from 'typescript'

const root = fileURLToPath(new URL('..', import.meta.url))
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
  for (const member of type.getProperties()) {
    if (isOurs(member) && !member.name.startsWith('#')) yield [`${path}.${member.name}`, textOf(member)]
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
