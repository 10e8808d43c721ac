#!/usr/bin/env -S npx tsx
/** The command line. */
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { Command, InvalidArgumentError } from "commander";
import { type Compiled, compile } from "./compile.ts";
import { emitAsmInclude } from "./emit-c/asm-include.ts";
import { emitC } from "./emit-c/program.ts";
import { explain } from "./explain.ts";
import { RUNTIME, TEST_CONFIG, VITEST } from "./files.ts";
import { reportAll, reportJson } from "./report.ts";
import { type Calls, StackError, callsOf, describeStack, proveStack } from "./stack.ts";
import { describe } from "./source.ts";
import { watch } from "./watch.ts";

interface CheckOptions { json?: boolean; watch?: boolean; project?: string }
interface BuildOptions extends CheckOptions { outDir: string; name: string; externals?: string }
type Sizes = Record<string, number>;

/** Reports the errors, or goes on with the program; once or after each change. */
function compileAnd(entries: string[], options: CheckOptions, use: (compiled: Compiled) => void): void {
  const finish = (compiled: Compiled): boolean => {
    const { errors } = compiled;
    if (options.json) process.stdout.write(reportJson(errors));
    else if (errors.length > 0) process.stderr.write(reportAll(errors));
    if (errors.length === 0) use(compiled);
    return errors.length === 0;
  };
  if (!options.watch) {
    if (!finish(compile({ entries, project: options.project }, "entries"))) process.exitCode = 1;
    return;
  }
  watch({ entries, project: options.project }, (compiled, milliseconds) => {
    const good = finish(compiled);
    if (!options.json) process.stderr.write(`${good ? "no errors" : "failed"} after ${Math.round(milliseconds)} ms\n`);
  });
}

function write({ program }: Compiled, options: BuildOptions): void {
  fs.mkdirSync(options.outDir, { recursive: true });
  const put = (file: string, text: string): void => fs.writeFileSync(path.join(options.outDir, file), text);
  put(`${options.name}.c`, emitC(program, { externals: options.externals }));
  put(`${options.name}.inc`, emitAsmInclude(program));
  put(`${options.name}.calls.json`, `${JSON.stringify(callsOf(program), null, 1)}\n`);
  fs.copyFileSync(RUNTIME, path.join(options.outDir, "runtime.h"));
}

/** "name=bytes", once or more. */
function sizes(argument: string, before: Sizes): Sizes {
  const [, name, bytes] = /^(\w+)=(\d+)$/.exec(argument) ?? [];
  if (!name) throw new InvalidArgumentError("name=bytes");
  return { ...before, [name]: Number(bytes) };
}

const cli = new Command("understudy-compiler").description("Compiles the Understudy dialect of TypeScript to C");

cli.command("build")
  .description("compile to C")
  .argument("<entry...>", "entry modules")
  .option("--out-dir <dir>", "where the C goes", "build/vmm")
  .option("--name <name>", "base name of the files", "vmm")
  .option("--externals <header>", "header that declares the external functions")
  .option("--project <tsconfig>", "whose paths say what import aliases stand for (the nearest tsconfig.json)")
  .option("--json", "errors as JSON on standard output, for editors")
  .option("--watch", "again after each change")
  .action((entries: string[], options: BuildOptions) => compileAnd(entries, options, (compiled) => write(compiled, options)));

cli.command("check")
  .description("report errors and write nothing")
  .argument("<entry...>", "entry modules")
  .option("--project <tsconfig>", "whose paths say what import aliases stand for (the nearest tsconfig.json)")
  .option("--json", "errors as JSON on standard output, for editors")
  .option("--watch", "again after each change")
  .action((entries: string[], options: CheckOptions) => compileAnd(entries, options, () => {}));

cli.command("fix")
  .description("rewrite the sources where an error has one mechanical remedy, and report the others")
  .argument("<entry...>", "entry modules")
  .action(async (entries: string[]) => {
    const { fix } = await import("./frontend/fix.ts"); // with a second TypeScript, which takes a while to load
    let compiled = compile({ entries }, "entries");
    for (let fixed = fix(compiled.errors); fixed.length > 0; fixed = fix(compiled.errors)) {
      for (const { code, loc, message } of fixed) process.stdout.write(`${describe(loc)}: fixed: ${message} [${code}]\n`);
      compiled = compile({ entries }, "entries"); // what was hidden behind the fixed ones
    }
    if (compiled.errors.length > 0) process.stderr.write(reportAll(compiled.errors));
    process.exitCode = compiled.errors.length > 0 ? 1 : 0;
  });

cli.command("test")
  .description("run the tests (*.test.ts) of a folder of modules, in Node with the wraps and traps of the machine")
  .argument("[folder]", "where the modules and their tests are", ".")
  .option("--watch", "again after each change")
  .action((folder: string, { watch }: { watch?: boolean }) => {
    const mode = watch ? "watch" : "run";
    process.exitCode = spawnSync(process.execPath, [VITEST(), mode, "--config", TEST_CONFIG, "--root", "."], { cwd: folder, stdio: "inherit" }).status ?? 1;
  });

cli.command("explain")
  .description("print the reference entry of a diagnostic")
  .argument("<code>", "such as US2001")
  .action((code: string) => {
    const text = explain(code);
    (text ? process.stdout : process.stderr).write(`${text ?? `there is no diagnostic ${code}; they are listed in docs/language.md`}\n`);
    process.exitCode = text ? 0 : 1;
  });

cli.command("stack")
  .description("prove the worst-case stack of each entry point against the stack's size")
  .argument("<calls>", "the .calls.json that build wrote")
  .requiredOption("--frames <file>", "what gcc -fcallgraph-info=su wrote (.ci)")
  .requiredOption("--limit <bytes>", "size of the stack", Number)
  .option("--pushed <entry=bytes...>", "what lies on the stack when an entry point is called", sizes, {})
  .option("--asm <name=bytes...>", "what a function of assembly uses, with its return address", sizes, {})
  .option("--nested <entry...>", "entry points that may come on top of any other")
  .action((file: string, options: { frames: string; limit: number; pushed: Sizes; asm: Sizes; nested?: string[] }) => {
    const calls = JSON.parse(fs.readFileSync(file, "utf8")) as Calls;
    const { limit, pushed, asm: assembly, nested = [] } = options;
    try {
      const proof = proveStack(calls, fs.readFileSync(options.frames, "utf8"), { limit, pushed, assembly, nested });
      const fits = proof.worst <= proof.limit;
      (fits ? process.stdout : process.stderr).write(describeStack(proof));
      process.exitCode = fits ? 0 : 1;
    } catch (error) {
      if (!(error instanceof StackError)) throw error;
      process.stderr.write(`stack: ${error.message}\n`);
      process.exitCode = 1;
    }
  });

cli.parse();
