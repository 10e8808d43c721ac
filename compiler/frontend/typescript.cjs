// TypeScript through a require that Node does not see: it would read nine megabytes to find what an ES import
// could name, half a second for nothing. It is one name here, since a bundler copies all names of what it imports.
const load = require;
exports.ts = load("typescript");
