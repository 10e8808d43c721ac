/**
 * How long the whole VMM takes to compile: from the start of the process to the C, against `tsc --noEmit` on the same
 * files by turns; and from a change of one file to the C in watch mode.
 */
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { Session } from "../../compiler/compile.ts";
import { emitC } from "../../compiler/emit-c/program.ts";

const ROOT = path.join(import.meta.dirname, "../..");
const ENTRY = path.join(ROOT, "vmm-src/entry/main.ts");
const CHANGED = path.join(ROOT, "vmm-src/instance/hypercall.ts");
const TURNS = 10;
const EDITS = 10;

/** Milliseconds, medians; `ratio` is of cold to tsc. */
export interface CompileTimes { cold: number; tsc: number; ratio: number; change: number }

export function compileTimes(out: string): CompileTimes {
  const project = path.join(out, "tsconfig.json");
  fs.mkdirSync(out, { recursive: true });
  fs.writeFileSync(project, JSON.stringify({ extends: path.join(ROOT, "vmm-src/tsconfig.json"), files: [ENTRY, path.join(ROOT, "compiler/core/core.d.ts")], include: [] }));
  const compiler = [path.join(ROOT, "compiler/understudy-compiler.cjs"), "build", ENTRY, "--out-dir", out];
  const tsc = [path.join(ROOT, "node_modules/typescript/bin/tsc"), "--noEmit", "-p", project];
  run(compiler); // bundles the compiler, if it is not yet
  const turns = Array.from({ length: TURNS }, () => [run(compiler), run(tsc)] as const);
  const cold = median(turns.map(([ours]) => ours));
  const theirs = median(turns.map(([, one]) => one));
  return { cold, tsc: theirs, ratio: Number((cold / theirs).toFixed(2)), change: median(changes()) };
}

function run(args: string[]): number {
  const start = performance.now();
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: ROOT, encoding: "utf8" });
  if (status !== 0) throw new Error(`${args.join(" ")} failed: ${stdout}${stderr}`);
  return Math.round(performance.now() - start);
}

/** What watch mode does after each edit of a function's body. */
function changes(): number[] {
  const text = fs.readFileSync(CHANGED, "utf8");
  const overlay = new Map<string, string>();
  const session = new Session({ entries: [ENTRY], overlay }, "entries");
  session.compile();
  return Array.from({ length: EDITS }, (_, i) => {
    overlay.set(CHANGED, text.replace(/(function \w+\([^)]*\): \w+ \{\n)/, `$1  // ${i}\n`));
    const start = performance.now();
    const { program, errors } = session.compile();
    if (errors.length > 0) throw new Error("the VMM does not compile");
    emitC(program);
    return Math.round(performance.now() - start);
  });
}

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[values.length >> 1]!;
}
