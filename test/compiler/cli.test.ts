import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Session, compile } from "../../compiler/compile.ts";
import { emitC } from "../../compiler/emit-c/program.ts";
import { entries, explain } from "../../compiler/explain.ts";
import { GUARDED } from "./worlds.ts";

const CLI = ["compiler/understudy-compiler.cjs"];
let dir: string;
beforeEach(() => { dir = fs.mkdtempSync(path.join(os.tmpdir(), "dialect-")); });
afterEach(() => fs.rmSync(dir, { recursive: true }));

describe("a session", () => {
  const one = path.resolve("one.ts");
  const two = path.resolve("two.ts");
  const main = path.resolve("main.ts");
  const texts = new Map([
    [one, "export class Pair extends Struct { a: u32; b: u32; total(): u32 { return this.a + this.b; } }\nexport const LIMIT = 3;\nexport enum Kind { A, B }\nlet count: u32 = 1;\nconst table: FixedArray<Pair, 4> = zeroed();\nassertLayout<Pair>(8);\nexport function next(p: Pair, n: u32): u32 { p.a += n; count++; return count + table[n & 3].total(); }"],
    [two, "import { LIMIT, Kind, Pair, next } from './one';\nexport function twice(p: Pair): u32 { return next(p, LIMIT) + next(p, u32(Kind.B)); }"],
    [main, "import { Pair } from './one';\nimport { twice } from './two';\nconst pair: Pair = zeroed();\n/** @entry */\nexport function run(x: u32): u32 { pair.b = x; return twice(pair); }"],
  ]);
  const generic = path.resolve("generic.ts");
  const types = path.resolve("types.ts");
  texts.set(types, "export class Entry extends Struct { key: u32; }\nexport type Found = { ok: true; at: u32 } | { ok: false };\nexport function keyOf(e: Entry): u32 { return e.key; }");
  texts.set(generic, "import { Found } from './types';\nexport class Box<T, N extends number> extends Struct { items: FixedArray<T, N>; n: u32; last(): T { return this.items[this.n % this.items.length]; } }\nexport function find<T extends number>(list: Slice<T>, x: T): Found { for (let i: u32 = 0; i < list.length; i++) if (list[i] === x) return { ok: true, at: i }; return { ok: false }; }\nfunction fill(t: FixedArray<u8, 4>): void { for (let i: u32 = 0; i < t.length; i++) t[i] = wrapU8(i * 3); }\nexport const TABLE: FixedArray<u8, 4> = filled(fill);");
  texts.set(two, "import { LIMIT, Kind, Pair, next } from './one';\nimport { Box, find, TABLE } from './generic';\nimport { Entry, keyOf } from './types';\nconst box: Box<Entry, 3> = zeroed();\nconst numbers: FixedArray<u16, 5> = zeroed();\nexport function twice(p: Pair): u32 { const f = find(sliceOf(numbers), 7); const at = f.ok ? f.at : keyOf(box.last()); return next(p, LIMIT) + next(p, u32(Kind.B)) + at + u32(TABLE[1]); }");
  const edits: [what: string, file: string, from: string, to: string][] = [
    ["the body of a function that others call", one, "p.a += n;", "\n p.a = n * n; store32(addressOf(n), 1);"],
    ["a mistake in a body", one, "count++;", "count += 1n;"],
    ["back to what it was", one, "count += 1n;", "count++;"],
    ["a constant that others fold", one, "LIMIT = 3", "LIMIT = 5"],
    ["a field", one, "a: u32; b: u32;", "b: u32; a: u32;"],
    ["the body of a method", one, "this.a + this.b", "this.a * this.b"],
    ["a mistake that others see", one, "p: Pair, n: u32", "p: Pair, n: u64"],
    ["its repair", one, "p: Pair, n: u64", "p: Pair, n: u32"],
    ["a comment", two, "export function", "/** Two steps. */\nexport function"],
    ["the entry", main, "pair.b = x;", "pair.b = x + 1;"],
    ["the body of a generic function", generic, "return { ok: true, at: i }", "return { ok: true, at: i + 1 }"],
    ["another instance", two, "find(sliceOf(numbers), 7)", "find(sliceOf(TABLE), 7)"],
    ["a method of a generic class", generic, "this.n % this", "(this.n + 1) % this"],
    ["a type argument", types, "key: u32;", "reserved: u32; key: u32;"],
    ["a mistake in an instance", generic, "list[i] === x", "list[i] === i"],
    ["its repair", generic, "list[i] === i", "list[i] === x"],
    ["a record", types, "| { ok: false }", "| { ok: false; why: u8 }"],
    ["what makes it again", generic, "return { ok: false }", "return { ok: false, why: 3 }"],
    ["what a table is computed by", generic, "i * 3", "i * 5"],
    ["recursion", one, "count++;", "count++; next(p, n);"],
    ["no recursion", one, "count++; next(p, n);", "count++;"],
  ];

  test("says after every change what a compilation from scratch says", () => {
    const overlay = new Map([...texts].map(([file, text]) => [file, text + GUARDED]));
    const session = new Session({ entries: [main], overlay }, "entries");
    const outcome = ({ program, errors }: ReturnType<typeof compile>): unknown =>
      (errors.length > 0 ? errors.map((error) => [error.code, error.message, error.loc.start]) : emitC(program));
    expect(outcome(session.compile())).toEqual(outcome(compile({ entries: [main], overlay }, "entries")));
    for (const [what, file, from, to] of edits) {
      expect(overlay.get(file), what).toContain(from);
      overlay.set(file, overlay.get(file)!.replace(from, to));
      expect(outcome(session.compile()), what).toEqual(outcome(compile({ entries: [main], overlay }, "entries")));
    }
  });
});

describe("explain", () => {
  test("knows every code that the compiler has, and no other", () => {
    const source = fs.readFileSync("compiler/diagnostics.ts", "utf8");
    const codes = [...new Set(source.match(/\bUS\d{4}\b/g))].sort();
    expect([...entries().keys()].sort()).toEqual(codes);
    expect(explain("us1013")).toBe("US1013 `==` and `!=`. Write `===` and `!==`.");
    expect(explain("US9999")).toBeNull();
  });
});

describe("the command line", () => {
  test("shows fifty errors, and says of how many", () => {
    const file = path.join(dir, "many.ts");
    const lines = Array.from({ length: 70 }, (_, i) => `  const x${i}: u8 = 256;\n`);
    fs.writeFileSync(file, `export function f(): void {\n${lines.join("")}}\n`);
    const check = (...more: string[]) => spawnSync(process.execPath, [...CLI, "check", ...more, file], { encoding: "utf8" });
    const { status, stderr } = check();
    expect(status).toBe(1);
    expect(stderr.match(/error: 256 does not fit u8/g)).toHaveLength(50);
    expect(stderr).toMatch(/\n70 errors, the first 50 shown\n$/);
    expect(JSON.parse(check("--json").stdout)).toHaveLength(70);
  }, 60_000);

  test("gives editors JSON, several errors a run", () => {
    const file = path.join(dir, "main.ts");
    fs.writeFileSync(file, "export function f(a: u8): u32 { return a; }\nexport function g(a: u32): u32 { return a ** 2; }\n");
    const { status, stdout } = spawnSync(process.execPath, [...CLI, "check", "--json", file], { encoding: "utf8" });
    expect(status).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject([
      { line: 1, column: 40, endLine: 1, endColumn: 41, code: "US2002", instead: "u32(a)" },
      { line: 2, column: 43, code: "US1012", message: "** is not in the dialect" },
    ]);
  }, 30_000);

  test("fixes what has one remedy, and leaves choices to the author", () => {
    const file = path.join(dir, "main.ts");
    const source = [
      "class Entry extends Struct {",
      "  key: u8;",
      "  value: u32;",
      "  used: boolean;",
      "}",
      "const entry: Entry = zeroed();",
      "/** @entry */",
      "export function f(a: u8, b: u32, w: u64): u32 {",
      "  var sum = b + a;",
      "  if (sum == 3 && (a | 1) >>> 1 != 0) sum = a;",
      "  if (w > 5) return entry.value;",
      "  while (sum) sum--;",
      "  a = b;",
      "  return sum;",
      "}",
    ];
    const fixed = [
      "class Entry extends Struct {",
      "  key: u8;",
      "  reserved: FixedArray<u8, 3>;",
      "  value: u32;",
      "  used: boolean;",
      "  reserved2: FixedArray<u8, 3>;",
      ...source.slice(4, 8),
      "  let sum = b + u32(a);",
      "  if (sum === 3 && (a | 1) >> 1 !== 0) sum = u32(a);",
      "  if (w > 5n) return entry.value;",
      "  while (sum !== 0) sum--;",
      "  a = b;",
      "  return sum;",
      "}",
    ];
    fs.writeFileSync(file, source.join("\n") + GUARDED);
    const { status, stdout, stderr } = spawnSync(process.execPath, [...CLI, "fix", file], { encoding: "utf8" });
    expect(stderr).toContain("u32 where u8 is needed [US2002]");
    expect(stderr).toContain("1 error\n");
    expect(fs.readFileSync(file, "utf8")).toEqual(fixed.join("\n") + GUARDED);
    expect([status, stdout.match(/\bfixed\b/g)?.length]).toEqual([1, 10]);
  }, 60_000);

  test("fixes a module that Node would run: imports what it is refused by", () => {
    const file = path.join(dir, "main.ts");
    const source = '/** A module. */\nimport { Two } from "./two.ts";\nexport function f(two: Two): u32 { return two.a; }\n';
    fs.writeFileSync(file, source);
    fs.writeFileSync(path.join(dir, "two.ts"), "export class Two extends Struct { a: u32; b: u32; }\n");
    const guard = `import "${path.relative(dir, path.resolve("compiler/core/dialect.mjs"))}";\n`;
    expect(spawnSync(process.execPath, [...CLI, "fix", file], { encoding: "utf8" })).toMatchObject({ status: 0, stderr: "" });
    expect(fs.readFileSync(file, "utf8")).toEqual(source.replace("import", `${guard}import`));
  }, 60_000);

  test("tests a folder of modules", () => {
    const run = (folder: string) => spawnSync(process.execPath, [...CLI, "test", folder], { encoding: "utf8" });
    const good = run("test/compiler/fixtures/driver");
    expect([good.status, good.stdout]).toEqual([0, expect.stringMatching(/3 passed/)]);
    expect(run(dir).status).toBe(1);
  }, 60_000);

  test("watches: errors after a change, C after the next", async () => {
    const file = path.join(dir, "main.ts");
    const text = (type: string): string => `/** @entry */\nexport function f(a: ${type}): u32 { return a; }${GUARDED}`;
    fs.writeFileSync(file, text("u32"));
    const watcher = spawn(process.execPath, [...CLI, "build", "--watch", "--out-dir", dir, file], { stdio: ["ignore", "ignore", "pipe"] });
    const said = lines(watcher);
    try {
      expect(await said("no errors after")).not.toContain("error:");
      fs.writeFileSync(file, text("u8"));
      expect(await said("failed after")).toContain("main.ts:2:40: error: u8 where u32 is needed [US2002]");
      fs.writeFileSync(file, text("u32").replace("return a", "return a + 1"));
      await said("no errors after");
      expect(fs.readFileSync(path.join(dir, "vmm.c"), "utf8")).toContain("return a + 1u;");
    } finally {
      watcher.kill();
    }
  }, 60_000);
});

/** Waits until the process has said a text; gives what it said up to there since the last time. */
function lines(process: ChildProcess): (text: string) => Promise<string> {
  let said = "";
  process.stderr!.on("data", (data) => { said += data; });
  return async (text) => {
    while (!said.includes(text)) await new Promise((resolve) => setTimeout(resolve, 20));
    const until = said;
    said = "";
    return until;
  };
}
