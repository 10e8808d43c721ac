/** Runs snippets of the dialect through both back ends and compares what they say. */
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "vitest";
import { compile } from "../../compiler/compile.ts";
import { emitC } from "../../compiler/emit-c/program.ts";
import { DialectTrap, type DialectValue, instantiate } from "../../compiler/emit-js/load.ts";
import type { Diagnostic } from "../../compiler/diagnostics.ts";
import type { Func, Program, Type } from "../../compiler/ir.ts";
import { reportAll } from "../../compiler/report.ts";

const RUNTIME_DIR = fileURLToPath(new URL("../../compiler/emit-c", import.meta.url));
const WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror", "-Wno-unused-function"];

/** A call: the function's name and its arguments. */
export type Call = [name: string, ...args: DialectValue[]];

/** Compiles the text of one module, every exported function a root. */
export function compileSource(source: string): { program: Program; errors: string } {
  const file = path.resolve("snippet.ts");
  const { program, errors } = compile({ entries: [file], overlay: new Map([[file, source]]) }, "exports");
  return { program, errors: errors.length > 0 ? reportAll(errors) : "" };
}

/** Makes the calls in Node and in C, expects the same results and traps in both, and gives them. */
export function expectSameInNodeAndC(source: string, calls: Call[], flags: string[] = ["-O1"]): string[] {
  const { program, errors } = compileSource(source);
  if (errors) throw new Error(`\n${errors}`);
  const inC = runC(emitC(program), program, calls, flags);
  const inNode = runNode(program, calls);
  expect(inC).toEqual(inNode);
  return inNode;
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

export function runC(code: string, program: Program, calls: Call[], flags: string[], compiler = "gcc"): string[] {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), "dialect-"));
  try {
    fs.writeFileSync(path.join(dir, "program.c"), `#define UNDERSTUDY_HOSTED\n${code}\n${harness(program, calls)}`);
    execFileSync(compiler, ["-std=c11", ...flags, ...WARNINGS, "-fno-strict-aliasing", `-I${RUNTIME_DIR}`, "-o", "program", "program.c"], { cwd: dir, stdio: "pipe", encoding: "utf8" });
    const output = execFileSync("./program", { cwd: dir, encoding: "utf8" });
    return output.split("\0").slice(0, -1);
  } catch (error) {
    throw new Error(`${(error as { stderr?: string }).stderr ?? ""}\n${code}`, { cause: error });
  } finally {
    fs.rmSync(dir, { recursive: true });
  }
}

function harness(program: Program, calls: Call[]): string {
  const lines = calls.map(([name, ...args], i) => {
    const func = program.funcs.find((one) => one.name === name && one.body);
    if (!func) throw new Error(`the snippet does not export ${name}`);
    return `  if (setjmp(escape) == 0) { ${callText(func, args)} }\n  putchar(0); // ${i}`;
  });
  return `
#line 1 "harness.c"
#include <setjmp.h>
#include <stdio.h>
static jmp_buf escape;
${program.funcs.some((func) => func.name === "print") ? "void print(const char *text) { fputs(text, stdout); }" : ""}
_Noreturn void onTrap(uint32_t site) {
  printf("trap %s", trapText(site));
  longjmp(escape, 1);
}
int main(void) {
${lines.join("\n")}
  return 0;
}
`;
}

function callText(func: Func, args: DialectValue[]): string {
  const call = `${func.cName}(${args.map((arg, i) => argument(func.params[i]!.type, arg)).join(", ")})`;
  const { result } = func;
  switch (result.kind) {
    case "void": return `${call}; printf("done");`;
    case "bool": return `printf("%s", ${call} ? "true" : "false");`;
    case "string": return `printf("%s", ${call});`;
    case "ref": return `printf("%s", ${call} == NULL ? "null" : "reference");`;
    case "int": return `printf("${result.signed ? "%lld" : "%llu"}", (${result.signed ? "" : "unsigned "}long long)${call});`;
    default: throw new Error(result.kind);
  }
}

function argument(type: Type, value: DialectValue): string {
  if (type.kind === "string") return JSON.stringify(value);
  if (type.kind === "bool" || value === null) return String(value ?? "NULL");
  if (type.kind === "int" && type.signed) return value === -(2n ** 63n) ? "INT64_MIN" : `(int${type.bits}_t)(${value}l)`;
  return `${value}ul`;
}
