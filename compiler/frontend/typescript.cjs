// TypeScript through a require that Node does not see: it would read nine megabytes to find what an ES import
// could name, half a second for nothing.
const load = require;
module.exports = load("typescript");
