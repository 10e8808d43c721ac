/**
 * Many random programs through the compiler: right ones, which have to say the same in every world, and wrong ones,
 * which have to be refused. Says how far it is; keeps what differs, made small, in build/fuzz.
 *
 *   npx tsx test/compiler/fuzz.ts [programs, 1000] [seed]
 */
import fs from "node:fs";
import path from "node:path";
import { BATCH, batchOf, choicesOf, difference, smallest } from "./differential.ts";
import { misjudged } from "./wrong.ts";

const OUT = "build/fuzz";
/** Between two lines of progress, where nobody watches. */
const PROGRESS_MS = process.stdout.isTTY ? 1000 : 60_000;
/** After so many the compiler needs work rather than more programs. */
const ENOUGH = 10;

const programs = Number(process.argv[2] ?? 1000);
const seed = Number(process.argv[3] ?? Date.now() & 0x7fffffff);
const started = performance.now();
let lastLine = started;
let failures = 0;

function progress(what: string, done: number, last: boolean): void {
  const now = performance.now();
  if (!last && now - lastLine < PROGRESS_MS) return;
  lastLine = now;
  const line = `${what}: ${done} of ${programs}, ${failures} failures, ${Math.round((now - started) / 1000)} s`;
  process.stdout.write(process.stdout.isTTY && !last ? `\r${line}` : `${process.stdout.isTTY ? "\r" : ""}${line}\n`);
}

function keep(name: string, what: string, text: string): void {
  failures++;
  fs.mkdirSync(OUT, { recursive: true });
  const file = path.join(OUT, `${name}.ts`);
  fs.writeFileSync(file, text);
  process.stdout.write(`\n${what}\n  kept as ${file}\n`);
}

/** Each batch is compiled to C here while the C compilers are busy with the one before. */
async function rightPrograms(): Promise<void> {
  const judge = async (batch: number): Promise<void> => {
    const lists = choicesOf(seed + batch, Math.min(BATCH, programs - batch * BATCH));
    const what = await difference(batchOf(lists));
    if (!what) return;
    const small = await smallest(lists);
    keep(`program-${seed + batch}`, small?.what ?? what, small?.text ?? [...batchOf(lists).values()].join("\n"));
  };
  let before = Promise.resolve();
  const batches = Math.ceil(programs / BATCH);
  for (let batch = 0; batch < batches && failures < ENOUGH; batch++) {
    const now = judge(batch);
    await before;
    before = now;
    progress("programs in Node, gcc -O0, gcc -O2 with sanitizers, clang", batch * BATCH, false);
  }
  await before;
  progress("programs in Node, gcc -O0, gcc -O2 with sanitizers, clang", programs, true);
}

function wrongPrograms(): void {
  for (let i = 0; i < programs && failures < ENOUGH; i++) {
    const found = misjudged(seed + i);
    if (found) keep(`wrong-${seed + i}`, found.what, found.text);
    progress("wrong programs", i, false);
  }
  progress("wrong programs", programs, true);
}

process.stdout.write(`seed ${seed}\n`);
await rightPrograms();
wrongPrograms();
process.exitCode = failures > 0 ? 1 : 0;
