#!/usr/bin/env -S npx tsx
/** The command line: `build` makes C, `check` only looks. */
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { Command, InvalidArgumentError } from "commander";
import { type Compiled, compile } from "./compile.ts";
import { emitAsmInclude } from "./emit-c/asm-include.ts";
import { emitC } from "./emit-c/program.ts";
import { reportAll } from "./report.ts";
import { type Calls, StackError, callsOf, describeStack, proveStack } from "./stack.ts";

const RUNTIME = fileURLToPath(new URL("./emit-c/runtime.h", import.meta.url));

function compileOrExit(entries: string[]): Compiled["program"] {
  const { program, errors } = compile({ entries }, "entries");
  if (errors.length > 0) {
    process.stderr.write(reportAll(errors));
    process.exit(1);
  }
  return program;
}

type Sizes = Record<string, number>;

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
  .requiredOption("--out-dir <dir>", "where the C goes", "build/vmm")
  .option("--name <name>", "base name of the files", "vmm")
  .option("--externals <header>", "header that declares the external functions")
  .action((entries: string[], options: { outDir: string; name: string; externals?: string }) => {
    const program = compileOrExit(entries);
    fs.mkdirSync(options.outDir, { recursive: true });
    const write = (file: string, text: string) => fs.writeFileSync(path.join(options.outDir, file), text);
    write(`${options.name}.c`, emitC(program, { externals: options.externals }));
    write(`${options.name}.inc`, emitAsmInclude(program));
    write(`${options.name}.calls.json`, `${JSON.stringify(callsOf(program), null, 1)}\n`);
    fs.copyFileSync(RUNTIME, path.join(options.outDir, "runtime.h"));
  });

cli.command("check")
  .description("report errors and write nothing")
  .argument("<entry...>", "entry modules")
  .action((entries: string[]) => void compileOrExit(entries));

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
