// Reads SQL texts with Trino's grammar: a JSON list of texts in, a JSON list of lists of mistakes out.
import { registerHooks } from "node:module";

// The package is written for bundlers: it imports folders and files without their endings.
registerHooks({
  resolve(name, context, next) {
    if (!name.startsWith(".")) return next(name, context);
    for (const ending of ["", ".js"]) {
      try {
        return next(name + ending, context);
      } catch {
        continue;
      }
    }
    return next(`${name}/index.js`, context);
  },
});

const { TrinoSQL } = await import("dt-sql-parser/dist/parser/trino/index.js");

let text = "";
for await (const part of process.stdin) text += part;
const parser = new TrinoSQL();
const mistakes = JSON.parse(text).map((statement) =>
  parser.validate(statement).map((each) => `line ${each.startLine}, column ${each.startColumn}: ${each.message}`),
);
process.stdout.write(JSON.stringify(mistakes));
