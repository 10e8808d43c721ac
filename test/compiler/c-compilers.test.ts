/** What the compiler emits passes two C compilers' warnings, as errors: the whole VMM, and the kernels of the benchmark. */
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { compile } from "../../compiler/compile.ts";
import { emitC } from "../../compiler/emit-c/program.ts";
import { reportAll } from "../../compiler/report.ts";

const KERNELS = "bench/compiler/kernels";
const FLAGS = ["-std=c11", "-ffreestanding", "-O1", "-fno-strict-aliasing", "-mgeneral-regs-only", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror", "-I.", "-Icompiler/emit-c"];

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

describe.each(["gcc", "clang"])("%s says nothing", (compiler) => {
  test("of the VMM", () => {
    execFileSync(compiler, [...FLAGS, "-c", path.join(dir, "vmm.c"), "-o", path.join(dir, "vmm.o")]);
  });

  test.each(fs.readdirSync(KERNELS).filter((file) => file.endsWith(".ts")))("of %s", (file) => {
    execFileSync(compiler, [...FLAGS, "-c", path.join(dir, file.replace(".ts", ".c")), "-o", path.join(dir, "kernel.o")]);
  });
});
