#!/usr/bin/env node
/**
 * The command line, quick to start: cli.ts and all that it imports as one file of JavaScript, with the code that V8 made
 * of it and of TypeScript in an earlier run. Both are kept in build/cache/compiler and made anew when a source changes.
 */
const { createHash } = require("node:crypto");
const fs = require("node:fs");
const { Module, createRequire } = require("node:module");
const path = require("node:path");
const { pathToFileURL } = require("node:url");
const v8 = require("node:v8");
const vm = require("node:vm");

// Functions have to run longer than usual before V8 optimises them: in a second or two most of that work is for nothing,
// and takes a third of the processor time of a compilation.
v8.setFlagsFromString("--interrupt-budget=200000");

const CACHE = path.join(__dirname, "../build/cache/compiler");
const KEPT_DAYS = 7;
const TYPESCRIPT = require.resolve("typescript");

/** What the bundle is made of, as a hash: it goes by size and time, as make does. */
function version() {
  const hash = createHash("sha256").update(`${process.version} ${process.arch} ${__dirname}`);
  const files = fs.readdirSync(__dirname, { recursive: true }).filter((file) => /\.c?ts$|\.cjs$/.test(file)).sort();
  for (const file of [...files.map((name) => path.join(__dirname, name)), TYPESCRIPT]) {
    const { size, mtimeMs } = fs.statSync(file);
    hash.update(`${file} ${size} ${mtimeMs}\n`);
  }
  return hash.digest("hex").slice(0, 16);
}

/** Whole files only: another run may be about to read them. */
function put(file, bytes) {
  fs.writeFileSync(`${file}.${process.pid}`, bytes);
  fs.renameSync(`${file}.${process.pid}`, file);
}

function bundle(file) {
  const { buildSync } = createRequire(require.resolve("tsx"))("esbuild");
  fs.mkdirSync(path.dirname(file), { recursive: true });
  const { outputFiles } = buildSync({
    entryPoints: [path.join(__dirname, "cli.ts")], bundle: true, write: false, platform: "node", format: "cjs", external: ["typescript", "ts-morph"],
    define: { "import.meta.url": "ownUrl" }, // files.ts asks for it
    banner: { js: `const ownUrl = ${JSON.stringify(pathToFileURL(path.join(__dirname, "files.ts")).href)};` },
    logLevel: "error",
  });
  put(file, outputFiles[0].text.replace(/^#!.*/, ""));
  forgetOld();
}

function forgetOld() {
  for (const name of fs.readdirSync(CACHE)) {
    const dir = path.join(CACHE, name);
    if (Date.now() - fs.statSync(dir).mtimeMs > KEPT_DAYS * 86_400_000) fs.rmSync(dir, { recursive: true, force: true });
  }
}

/** Runs a CommonJS module with V8's code for it, which is written down when the process ends if there was none. */
function load(file, codeFile, requireFrom) {
  const cachedData = fs.existsSync(codeFile) ? fs.readFileSync(codeFile) : undefined;
  const script = new vm.Script(Module.wrap(fs.readFileSync(file, "utf8")), { filename: file, cachedData });
  if (!cachedData || script.cachedDataRejected) process.on("exit", () => put(codeFile, script.createCachedData()));
  const module = { exports: {} };
  script.runInThisContext()(module.exports, requireFrom, module, file, path.dirname(file));
  return module.exports;
}

const dir = path.join(CACHE, version());
const cli = path.join(dir, "cli.cjs");
if (!fs.existsSync(cli)) bundle(cli);
const ownRequire = createRequire(path.join(__dirname, "cli.ts"));
load(cli, path.join(dir, "cli.code"), (name) =>
  (name === "typescript" ? load(TYPESCRIPT, path.join(dir, "typescript.code"), createRequire(TYPESCRIPT)) : ownRequire(name)));
