/** The worlds that a program of the dialect runs in: Node, and C by way of a C compiler. */
import { execFile, execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { promisify } from "node:util";
import { compile } from "../../compiler/compile.ts";
import type { Diagnostic } from "../../compiler/diagnostics.ts";
import { DialectTrap, type DialectValue, instantiate } from "../../compiler/emit-js/load.ts";
import { RUNTIME } from "../../compiler/files.ts";
import type { Func, Program, Type } from "../../compiler/ir.ts";
import { reportAll } from "../../compiler/report.ts";

const RUNTIME_DIR = path.dirname(RUNTIME);
const run = promisify(execFile);

/** All that is exported is there, used or not. */
const WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror", "-Wno-unused-function", "-Wno-unused-const-variable"];

/** A C compiler and its flags. */
export interface CWorld { compiler: "gcc" | "clang"; flags: string[] }

const SANITIZERS = ["-fsanitize=undefined,address", "-fno-sanitize=alignment", "-fno-sanitize-recover"];
export const GCC_PLAIN: CWorld = { compiler: "gcc", flags: ["-O0"] };
/** With sanitizers gcc warns of what cannot happen, such as an index behind its failed check. */
export const GCC_SANITIZED: CWorld = { compiler: "gcc", flags: ["-O2", ...SANITIZERS, "-w"] };
export const CLANG: CWorld = { compiler: "clang", flags: ["-O2"] };
export const ALL_C: CWorld[] = [GCC_PLAIN, GCC_SANITIZED, CLANG];

/** A call: the function's name and its arguments. */
export type Call = [name: string, ...args: DialectValue[]];

/** The line by which Node refuses a module, as modules outside of any folder name it; it stands at the end, so that lines keep their numbers. */
export const GUARDED = `\nimport ${JSON.stringify(path.resolve("compiler/core/dialect.mjs"))};\n`;

/** Compiles the text of one module, every exported function a root. */
export function compileSource(source: string): { program: Program; errors: string } {
  const { program, errors } = compileModules({ "snippet.ts": source });
  return { program, errors: errors.length > 0 ? reportAll(errors) : "" };
}

/** Compiles modules, given by name, every exported function a root. */
export function compileModules(modules: Record<string, string>): { program: Program; errors: Diagnostic[] } {
  const overlay = new Map(Object.entries(modules).map(([name, text]) => [path.resolve(name), text]));
  return compile({ entries: [...overlay.keys()], overlay }, "exports");
}

/** `print` goes into the result, so that a call with output is "said: … = result". */
export function runNode(program: Program, calls: Call[]): string[] {
  let said = "";
  const { call } = instantiate(program, { externals: { print: (text: string) => { said += text; } } });
  return calls.map(([name, ...args]) => {
    said = "";
    try {
      const result = call[name]!(...args);
      return said + (result === undefined ? "done" : String(result));
    } catch (error) {
      if (!(error instanceof DialectTrap)) throw error;
      return `${said}trap ${error.text}`;
    }
  });
}

/** What a complete C program (with a main) says, item by item: each ends with a zero byte. Other work may go on meanwhile. */
export async function runC(code: string, world: CWorld): Promise<string[]> {
  const dir = writeProgram(code);
  try {
    await run(world.compiler, compileArguments(world), { cwd: dir });
    const { stdout } = await run("./program", RUN_OPTIONS(dir));
    return items(stdout);
  } catch (error) {
    throw failure(error, world);
  } finally {
    fs.rmSync(dir, { recursive: true });
  }
}

/** The same, at once. */
export function runCSync(code: string, world: CWorld): string[] {
  const dir = writeProgram(code);
  try {
    execFileSync(world.compiler, compileArguments(world), { cwd: dir, stdio: "pipe" });
    return items(execFileSync("./program", RUN_OPTIONS(dir)));
  } catch (error) {
    throw failure(error, world);
  } finally {
    fs.rmSync(dir, { recursive: true });
  }
}

/** There is no heap to leak, and the leak checker does not run everywhere. */
const RUN_OPTIONS = (cwd: string) => ({ cwd, env: { ...process.env, ASAN_OPTIONS: "detect_leaks=0" }, encoding: "utf8", maxBuffer: 1 << 28, timeout: 60_000 }) as const;

function writeProgram(code: string): string {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), "dialect-"));
  fs.writeFileSync(path.join(dir, "program.c"), `#define UNDERSTUDY_HOSTED\n${code}`);
  return dir;
}

function compileArguments({ flags }: CWorld): string[] {
  return ["-std=c11", ...WARNINGS, ...flags, "-fno-strict-aliasing", `-I${RUNTIME_DIR}`, "-o", "program", "program.c"];
}

function items(output: string): string[] {
  return output.split("\0").slice(0, -1);
}

function failure(error: unknown, { compiler, flags }: CWorld): Error {
  const { code, stderr, signal } = error as { code?: string; stderr?: string | Buffer; signal?: string };
  if (code === "ENOENT") return new Error(`${compiler} is not installed; \`make setup\` brings it`, { cause: error });
  return new Error(`${compiler} ${flags.join(" ")}: ${stderr?.toString() || (signal ?? String(error))}`, { cause: error });
}

/** Where a trap goes in a test: it is said, and the call has ended. */
export const CATCH_TRAPS = `
#line 1 "harness.c"
#include <setjmp.h>
#include <stdio.h>
static jmp_buf escape;
_Noreturn void onTrap(uint32_t site) {
  printf("trap %s", trapText(site));
  longjmp(escape, 1);
}
`;

/** A main that makes the calls. Those of one function in a row are one loop over a table, which C compilers take fast. */
export function harness(program: Program, calls: Call[]): string {
  const rows: Call[][] = [];
  for (const call of calls) {
    if (rows.at(-1)?.[0]![0] === call[0]) rows.at(-1)!.push(call);
    else rows.push([call]);
  }
  const loops = rows.map((row, i) => {
    const name = row[0]![0];
    const func = program.funcs.find((one) => one.name === name && one.body);
    if (!func) throw new Error(`the snippet does not export ${name}`);
    return loopOver(`calls${i}`, func, row.map(([, ...args]) => args));
  });
  return `${CATCH_TRAPS}
${program.funcs.some((func) => func.name === "print") ? "void print(const char *text) { fputs(text, stdout); }" : ""}
${loops.join("\n")}
int main(void) {
${rows.map((_, i) => `  calls${i}();`).join("\n")}
  return 0;
}
`;
}

function loopOver(name: string, func: Func, lists: DialectValue[][]): string {
  const kinds = func.params.map((param) => param.type);
  const fields = kinds.map((kind, i) => `${cType(kind)} p${i};`).join(" ");
  const table = `  static const struct { ${fields} } rows[] = {\n${lists.map((args) => `    {${args.map((arg, i) => argument(kinds[i]!, arg)).join(", ")}},`).join("\n")}\n  };\n`;
  const call = `${func.cName}(${kinds.map((kind, i) => `${kind.kind === "ref" ? "(void *)" : ""}rows[i].p${i}`).join(", ")})`;
  return `static void ${name}(void) {
${kinds.length > 0 ? table : ""}  static int i;
  for (i = 0; i < ${lists.length}; i++) {
    if (setjmp(escape) == 0) { ${sayResult(func, call)} }
    putchar(0);
  }
}`;
}

function sayResult({ result }: Func, call: string): string {
  switch (result.kind) {
    case "void":
    case "never": return `${call}; printf("done");`;
    case "bool": return `printf("%s", ${call} ? "true" : "false");`;
    case "string": return `printf("%s", ${call});`;
    case "ref": return `printf("%s", ${call} == NULL ? "null" : "reference");`;
    case "int": return `printf("${result.signed ? "%lld" : "%llu"}", (${result.signed ? "" : "unsigned "}long long)${call});`;
    default: throw new Error(result.kind);
  }
}

function cType(type: Type): string {
  switch (type.kind) {
    case "int": return `${type.signed ? "" : "u"}int${type.bits}_t`;
    case "bool": return "bool";
    case "string": return "const char *";
    case "ref": return "const void *";
    default: throw new Error(type.kind);
  }
}

function argument(type: Type, value: DialectValue): string {
  if (type.kind === "string") return JSON.stringify(value);
  if (type.kind === "bool" || value === null) return String(value ?? "NULL");
  if (type.kind === "int" && type.signed) return value === -(2n ** 63n) ? "INT64_MIN" : `(int${type.bits}_t)(${value}l)`;
  return `${value}ul`;
}
