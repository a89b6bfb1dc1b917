// Parses the AsyncAPI document on standard input; prints what the parser finds wrong, and ends with 1 where that is
// anything.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';

const installed = process.argv[2];
const { Parser } = createRequire(resolve(installed, 'package.json'))('@asyncapi/parser');
const { document, diagnostics } = await new Parser().parse(readFileSync(0, 'utf8'));
// 0 is an error, 1 a warning; what remains is advice (an owner's address, tags).
const wrong = diagnostics.filter(({ severity }) => severity <= 1);
for (const { message, path } of wrong) {
  console.log(`${path.join('.')}: ${message}`);
}
if (!document || wrong.length > 0) {
  console.log(`${wrong.length} found`);
  process.exit(1);
}
console.log(`${document.channels().all().length} channels, ${document.operations().all().length} operations, ${document.messages().all().length} messages`);
