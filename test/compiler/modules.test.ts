import { execFileSync, spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { compile } from "../../compiler/compile.ts";
import { emitAsmInclude } from "../../compiler/emit-c/asm-include.ts";
import { emitC } from "../../compiler/emit-c/program.ts";
import { loadDialect } from "../../compiler/emit-js/load.ts";
import { report } from "../../compiler/report.ts";
import { GUARDED } from "./worlds.ts";

type Files = Record<string, string>;

function overlayOf(files: Files): { entry: string; overlay: Map<string, string> } {
  const overlay = new Map(Object.entries(files).map(([name, text]) => [path.resolve(name), text]));
  return { entry: path.resolve(Object.keys(files).at(-1)!), overlay };
}

/** The last file is the entry. */
function compileFiles(files: Files) {
  const { entry, overlay } = overlayOf(files);
  for (const [file, text] of overlay) overlay.set(file, text + GUARDED);
  return compile({ entries: [entry], overlay }, "entries");
}

function load(files: Files) {
  const { entry, overlay } = overlayOf(files);
  return loadDialect(entry, { overlay });
}

describe("modules", () => {
  test("names, renamed names, namespaces, and private names that clash", () => {
    const { call } = load({
      "one.ts": "let count: u32 = 10;\nfunction step(): u32 { count++; return count; }\nexport function next(): u32 { return step(); }\nexport const LIMIT = 3;\nexport enum E { A = 7 }",
      "two.ts": "import { LIMIT } from './one';\nlet count: u32 = 100;\nfunction step(): u32 { count += LIMIT; return count; }\nexport function next(): u32 { return step(); }",
      "main.ts": "import { next as first, E } from './one';\nimport * as Two from './two';\nimport * as One from './one';\nexport function run(next: u32): u32 { return first() * 1000 + Two.next() + next + (next === 5 ? u32(One.E.A) : u32(E.A)); }",
    });
    expect([call.run!(0), call.run!(5)]).toEqual([11 * 1000 + 103 + 7, 12 * 1000 + 106 + 5 + 7]);
  });

  test("modules that import each other are refused", () => {
    const { errors } = compileFiles({ "one.ts": "import { b } from './two';\nexport const a = 1;", "two.ts": "import { a } from './one';\nexport const b = a;" });
    expect(errors.map(report)).toEqual([
      "one.ts:1:19: error: modules import each other: two → one → two [US4001]\n"
      + "  1 | import { b } from './two';\n    |                   ^~~~~~~\n"
      + "  write instead: move what both need into a third module",
    ]);
  });

  test("tsc's own errors are reported too, in order, with how to convert", () => {
    const { errors } = compileFiles({ "main.ts": "export function f(a: u8): u32 { return a; }\nexport function g(): u32 { return missing; }\nexport function h(a: u32): boolean { return a == 1; }" });
    expect(errors.map((error) => error.code)).toEqual(["US2002", "TS2304", "US1013"]);
    expect(report(errors[0]!)).toContain("write instead: u32(a)");
  });

  test("only what @entry functions reach is in the C, and names stay what they were", () => {
    const { program } = compileFiles({
      "main.ts": "let used: u32 = 1;\nlet unused: u32 = 2;\nfunction dead(): u32 { return unused; }\nexport function alsoDead(): u32 { return dead(); }\nfunction live(): u32 { return used; }\n/** Goes in.\n * @entry */\nexport function enter(): u32 { return live(); }",
    });
    expect(program.funcs.map((func) => func.cName)).toEqual(["live", "enter"]);
    expect(program.statics.map((one) => one.cName)).toEqual(["used"]);
  });

  test("assembly sees layouts and constants that are tagged @asm", () => {
    const { program } = compileFiles({
      "main.ts": "class Inner extends Struct { a: u64; b: u64; }\n/** @asm */\nclass Cpu extends Struct { id: u64; inner: Inner; }\n/** @asm */\nexport const STACK: u32 = 0x4000;\n/** @asm */\nconst cpu: Cpu = zeroed(64);",
    });
    expect(emitAsmInclude(program).split("\n").slice(1, -1)).toEqual([
      "%define Cpu.id 0", "%define Cpu.inner 8", "%define Cpu_size 24", "%define STACK 0x4000",
    ]);
    expect(emitC(program)).toContain("\n_Alignas(64) struct Cpu cpu;");
  });
});

describe("a module that Node would run as ordinary TypeScript", () => {
  const guard = 'import "./compiler/core/dialect.mjs";\n';
  const codes = (files: Files): string[] => {
    const { entry, overlay } = overlayOf(files);
    return compile({ entries: [entry], overlay }, "entries").errors.map(({ code, loc, instead }) => `${loc.source.path} ${code} ${instead}`);
  };
  const adds = "export function add(a: u8, b: u8): u8 { return a + b; }";

  test("is refused: it has functions and does not import the guard", () => {
    const missing = 'US4015 import "./compiler/core/dialect.mjs" at its start, by which Node refuses it';
    expect(codes({ "main.ts": adds })).toEqual([`main.ts ${missing}`]);
    expect(codes({ "one.ts": adds, "main.ts": "import { add } from './one';\nexport function twice(a: u8): u8 { return add(a, a); }" })).toEqual([`one.ts ${missing}`]);
    const types = `${guard}export class Pair extends Struct { a: u8; b: u8; }`;
    expect(codes({ "types.ts": types, "main.ts": "import { Pair } from './types';\nexport function sum(pair: Pair): u8 { return pair.a + pair.b; }" })).toEqual([`main.ts ${missing}`]);
  });

  test("is taken with the guard, or if it uses a value of a module that has it, or has no functions", () => {
    expect(codes({ "main.ts": guard + adds })).toEqual([]);
    expect(codes({ "one.ts": guard + adds, "main.ts": "import * as One from './one';\nexport function twice(a: u8): u8 { return One.add(a, a); }" })).toEqual([]);
    expect(codes({ "main.ts": "export const LIMIT = 3;\nexport enum E { A }\nexport declare function f(): void;" })).toEqual([]);
  });

  test("does not run in Node, nor does what uses its values", () => {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), "dialect-"));
    try {
      fs.writeFileSync(path.join(dir, "one.ts"), adds + GUARDED);
      fs.writeFileSync(path.join(dir, "two.ts"), "import { add } from './one';\nexport function twice(a: u8): u8 { return add(a, a); }");
      for (const file of ["vmm-src/instance/schedule.ts", path.join(dir, "two.ts")]) {
        const { status, stderr } = spawnSync("node_modules/.bin/tsx", [file], { encoding: "utf8" });
        expect([status, stderr]).toEqual([1, expect.stringContaining("Error: a module of the dialect is imported as ordinary TypeScript, which would neither wrap nor trap")]);
      }
    } finally {
      fs.rmSync(dir, { recursive: true });
    }
  }, 60_000);
});

describe("the C", () => {
  const FILES: Files = {
    "list.ts": `/** One entry of the list. */
export class Entry extends Struct {
  key: u32;
  used: boolean;
  reserved: FixedArray<u8, 3>;
  next: Entry | null;
}
export const LIMIT = 4;
const entries: FixedArray<Entry, typeof LIMIT> = zeroed(64);
const WEIGHTS: FixedArray<u16, 3> = [1, 10, 100];
let head: Entry | null = null;

/** Puts a key at the front; false if there is no room. */
export function add(key: u32): boolean {
  for (let i: u32 = 0; i < LIMIT; i++) {
    const entry = entries[i];
    if (entry.used) continue;
    entry.key = key;
    entry.used = true;
    entry.next = head;
    head = entry;
    return true;
  }
  return false;
}

export function weigh(at: u32): u32 {
  let sum: u32 = 0;
  for (let entry: Entry | null = head; entry !== null; entry = entry.next) {
    sum += entry.key * u32(WEIGHTS[at]);
  }
  return sum;
}
`,
    "main.ts": `import { add, weigh } from './list';

enum Order { ADD, WEIGH = 5 }

export declare function port(value: u8): void;

/**
 * Does what it is told.
 * @entry
 */
export function order(what: u32, value: u32): u32 {
  switch (what as Order) {
    case Order.ADD:
      return add(value) ? 1 : 0;
    case Order.WEIGH: {
      const weight = weigh(value);
      if (weight > 1000) port(u8(weight >> 8));
      else port(0);
      return weight;
    }
  }
}

/** @entry */
export function onTrap(site: u32): never {
  for (let i: u32 = 0; byteAt(trapText(site), i) !== 0; i++) port(byteAt(trapText(site), i));
  while (true) {}
}
`,
  };

  test("reads like the TypeScript that it was made of", async () => {
    const { program, errors } = compileFiles(FILES);
    expect(errors).toEqual([]);
    await expect(emitC(program)).toMatchFileSnapshot("snapshots/list.c");
  });

  test("is warning-free and freestanding, and its data needs no relocation", () => {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), "dialect-"));
    try {
      fs.writeFileSync(path.join(dir, "list.c"), emitC(compileFiles(FILES).program));
      const flags = "-std=c11 -ffreestanding -O2 -Wall -Wextra -Wconversion -Werror -fPIE -fno-jump-tables -mgeneral-regs-only -fno-strict-aliasing -c".split(" ");
      execFileSync("gcc", [...flags, `-I${path.resolve("compiler/emit-c")}`, "list.c"], { cwd: dir });
      const relocations = execFileSync("readelf", ["-r", "list.o"], { cwd: dir, encoding: "utf8" });
      expect(relocations).not.toMatch(/\.rela\.(data|rodata)/);
    } finally {
      fs.rmSync(dir, { recursive: true });
    }
  });
});

describe("the command line", () => {
  test("writes C, include file and runtime; or errors and exit code 1", () => {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), "dialect-"));
    const run = (...args: string[]) => spawnSync(process.execPath, ["compiler/understudy-compiler.cjs", ...args], { encoding: "utf8" });
    try {
      const entry = path.join(dir, "main.ts");
      fs.writeFileSync(entry, `/** @entry */\nexport function f(): u32 { return 1; }${GUARDED}`);
      expect(run("build", entry, "--out-dir", dir, "--externals", "mine.h")).toMatchObject({ status: 0, stderr: "" });
      expect(fs.readdirSync(dir).sort()).toEqual(["main.ts", "runtime.h", "vmm.c", "vmm.calls.json", "vmm.inc"]);
      expect(fs.readFileSync(path.join(dir, "vmm.c"), "utf8")).toContain('#include "mine.h"');
      fs.writeFileSync(entry, "export function f(): u32 { return 1.5; }\n");
      const failed = run("check", entry);
      expect(failed.status).toBe(1);
      expect(failed.stderr).toContain("main.ts:1:35: error: a number that is not an integer is not in the dialect [US1027]");
      expect(failed.stderr).toContain("1 error\n");
      expect(run("check", path.join(dir, "absent.ts"))).toMatchObject({ status: 1, stderr: expect.stringContaining("cannot read") });
    } finally {
      fs.rmSync(dir, { recursive: true });
    }
  }, 60_000);
});
