#!/usr/bin/env -S npx tsx
/** The command line: `build` makes C, `check` only looks. */
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { Command } from "commander";
import { type Compiled, compile } from "./compile.ts";
import { emitAsmInclude } from "./emit-c/asm-include.ts";
import { emitC } from "./emit-c/program.ts";
import { reportAll } from "./report.ts";

const RUNTIME = fileURLToPath(new URL("./emit-c/runtime.h", import.meta.url));

function compileOrExit(entries: string[]): Compiled["program"] {
  const { program, errors } = compile({ entries }, "entries");
  if (errors.length > 0) {
    process.stderr.write(reportAll(errors));
    process.exit(1);
  }
  return program;
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
    fs.copyFileSync(RUNTIME, path.join(options.outDir, "runtime.h"));
  });

cli.command("check")
  .description("report errors and write nothing")
  .argument("<entry...>", "entry modules")
  .action((entries: string[]) => void compileOrExit(entries));

cli.parse();
