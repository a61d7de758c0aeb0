// Lints texts as if they stood in some files. Its argument is a JSON list of files and texts; prints, for each, the rules that
// refuse it.
import { ESLint } from 'eslint'

const eslint = new ESLint()
const refusals = []
for (const [filePath, text] of JSON.parse(process.argv[2])) {
  const [{ messages }] = await eslint.lintText(`${text}\n`, { filePath })
  refusals.push(messages.map(({ ruleId }) => ruleId))
}
console.log(JSON.stringify(refusals))
