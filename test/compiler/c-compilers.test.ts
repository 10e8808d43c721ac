/**
 * What the compiler emits passes two C compilers' warnings, as errors: the whole VMM, and the kernels of the benchmark.
 * And gdb, on what gcc makes of it, shows the TypeScript.
 */
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { compile } from "../../compiler/compile.ts";
import { emitC } from "../../compiler/emit-c/program.ts";
import { reportAll } from "../../compiler/report.ts";
import { compileSource, harness } from "./worlds.ts";

const KERNELS = "bench/compiler/kernels";
const FLAGS = ["-std=c11", "-ffreestanding", "-O2", "-g", "-fno-strict-aliasing", "-mgeneral-regs-only", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror", "-I.", "-Icompiler/emit-c"];

let dir: string;
beforeAll(() => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), "dialect-"));
  emit("vmm", ["vmm-src/entry/main.ts"], "vmm-src/machine/intrinsics.h");
  for (const file of fs.readdirSync(KERNELS)) if (file.endsWith(".ts")) emit(path.basename(file, ".ts"), [path.join(KERNELS, file)]);
});
afterAll(() => fs.rmSync(dir, { recursive: true }));

function emit(name: string, entries: string[], externals?: string): void {
  const { program, errors } = compile({ entries }, "entries");
  expect(reportAll(errors)).toBe("\n\n0 errors\n");
  fs.writeFileSync(path.join(dir, `${name}.c`), emitC(program, { externals }));
}

/** The VMM as a compiler makes it, once. */
function vmmObject(compiler: string): string {
  const object = path.join(dir, `vmm-${compiler}.o`);
  if (!fs.existsSync(object)) execFileSync(compiler, [...FLAGS, "-c", path.join(dir, "vmm.c"), "-o", object]);
  return object;
}

describe.each(["gcc", "clang"])("%s says nothing", (compiler) => {
  test("of the VMM", () => {
    expect(fs.existsSync(vmmObject(compiler))).toBe(true);
  });

  test.each(fs.readdirSync(KERNELS).filter((file) => file.endsWith(".ts")))("of %s", (file) => {
    execFileSync(compiler, [...FLAGS, "-c", path.join(dir, file.replace(".ts", ".c")), "-o", path.join(dir, "kernel.o")]);
  });
});

describe("gdb", () => {
  const gdb = (file: string, ...commands: string[]): string =>
    execFileSync("gdb", ["-nx", "-batch", "-iex", "set width 0", ...commands.flatMap((command) => ["-ex", command]), file], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });

  test("knows the VMM's functions by their TypeScript lines, and their locals by name", () => {
    const source = fs.readFileSync("vmm-src/entry/exit.ts", "utf8").split("\n");
    const said = gdb(vmmObject("gcc"), "info functions ^handleRareExit$", "info scope handleRareExit");
    const [, file, line = "0"] = /File (\S+):\n(\d+):.*handleRareExit/.exec(said) ?? [];
    expect(file).toBe("vmm-src/entry/exit.ts");
    expect(source[Number(line) - 1]).toContain("function handleRareExit");
    const parameter = /function handleRareExit\((\w+)/.exec(source.join("\n"))![1];
    expect(said).toContain(`Symbol ${parameter} is`);
  });

  test("stops at a line of TypeScript and prints structs, integers and who called", () => {
    const text = [
      "class Ring extends Struct { head: u32; tail: u32; }",
      "const events: Ring = zeroed();",
      "function push(ring: Ring, count: u32): u32 {",
      "  const before: u32 = ring.head;",
      "  ring.head += count;",
      "  return ring.head - before;",
      "}",
      "export function run(count: u32): u32 { return push(events, count) + push(events, 1); }",
    ].join("\n");
    const { program } = compileSource(text);
    fs.writeFileSync(path.join(dir, "ring.c"), `#define UNDERSTUDY_HOSTED\n${emitC(program)}\n${harness(program, [["run", 5]])}`);
    execFileSync("gcc", ["-g", "-O0", "-Icompiler/emit-c", path.join(dir, "ring.c"), "-o", path.join(dir, "ring")]);
    const said = gdb(path.join(dir, "ring"), "break snippet.ts:6", "run", "backtrace 2", "info locals", "print *ring", "continue", "print *ring");
    expect(said).toContain("push (ring=");
    expect(said).toMatch(/#1 .* run \(count=5\) at .*snippet\.ts:8/);
    expect(said).toContain("before = 0");
    expect(said).toContain("{head = 5, tail = 0}");
    expect(said).toContain("{head = 6, tail = 0}");
  });
});
