/**
 * The dialect against its peers: the same kernels in the dialect, in C as one writes it by hand, and in AssemblyScript,
 * in Node and through wasm2c where that is installed (Debian: wabt). All variants of a kernel take turns, so that
 * what else the machine does meets them all; medians are compared, and C against itself shows the noise.
 *
 *   npx tsx bench/compiler/bench.ts [kernel…]     writes build/bench-compiler.json
 */
import { execFileSync, spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { compile } from "../../compiler/compile.ts";
import { emitC } from "../../compiler/emit-c/program.ts";
import { reportAll } from "../../compiler/report.ts";
import { assemblyScriptOf } from "./assemblyscript.ts";
import { compileTimes } from "./compile-time.ts";

const HERE = import.meta.dirname;
const ROOT = path.join(HERE, "../..");
const OUT = path.join(ROOT, "build/bench-compiler");
const KERNELS = ["crc32", "sha256", "pagewalk", "pidsort", "ring", "msrbitmap", "bignum"];
const C_FLAGS = ["-std=gnu11", "-O2", "-fno-strict-aliasing", "-Wall", "-Wextra"];
const TURNS = Number(process.env.TURNS ?? 15);
/** How long one turn should take, about. */
const TURN_MS = 20;
const WASM2C = process.env.WASM2C ?? "wasm2c";
/** Where wabt has wasm-rt.h and wasm-rt-impl.c. */
const WASM_RT = [process.env.WASM_RT ?? "/usr/share/wabt/wasm2c", process.env.WASM_RT_INCLUDE ?? "/usr/include"];

/** Node has it; the types that say so come with a browser's. */
const wasmApi = (globalThis as unknown as { WebAssembly: { Module: new (bytes: Uint8Array) => object; Instance: new (module: object) => { exports: object } } }).WebAssembly;

/** Runs rounds of a kernel: its checksum, and nanoseconds. */
type Variant = (rounds: number) => { sum: string; time: number };
interface Row { kernel: string; timeRatioToC: number; textRatioToC: number; assemblyScriptRatioToC: number; wasm2cRatioToC: number | null; noise: number }

function gcc(output: string, ...args: string[]): string {
  const file = path.join(OUT, output);
  execFileSync("gcc", [...C_FLAGS, ...args, "-o", file], { stdio: ["ignore", "inherit", "inherit"] });
  return file;
}

function native(kernel: string, name: string, object: string): Variant {
  return executable(gcc(name, `-DINIT=${kernel}_init`, `-DRUN=${kernel}_run`, path.join(HERE, "driver.c"), object));
}

function executable(file: string): Variant {
  return (rounds) => {
    const [sum = "", time = ""] = execFileSync(file, [String(rounds)], { encoding: "utf8" }).trim().split(" ");
    return { sum, time: Number(time) };
  };
}

/** The kernel's object file from the dialect, every check in it. */
function dialectObject(kernel: string): string {
  const { program, errors } = compile({ entries: [path.join(HERE, `kernels/${kernel}.ts`)] }, "entries");
  if (errors.length > 0) throw new Error(reportAll(errors));
  const file = path.join(OUT, `${kernel}-dialect.c`);
  fs.writeFileSync(file, `#define UNDERSTUDY_HOSTED\n${emitC(program)}`);
  const strict = ["-Wconversion", "-Wshadow", "-Werror", "-fno-delete-null-pointer-checks"];
  return gcc(`${kernel}-dialect.o`, ...strict, "-I", path.join(ROOT, "compiler/emit-c"), "-c", file);
}

function textSize(object: string): number {
  const sections = execFileSync("size", ["-A", object], { encoding: "utf8" });
  return [...sections.matchAll(/^\.text\S*\s+(\d+)/gm)].reduce((sum, match) => sum + Number(match[1]), 0);
}

function assemblyScript(kernel: string): { wasm: string; run: Variant } {
  const source = path.join(OUT, `${kernel}.as.ts`);
  const wasm = path.join(OUT, `${kernel}.wasm`);
  fs.writeFileSync(source, assemblyScriptOf(fs.readFileSync(path.join(HERE, `kernels/${kernel}.ts`), "utf8")));
  execFileSync(path.join(ROOT, "node_modules/.bin/asc"), [path.relative(ROOT, source), "-O3", "--runtime", "stub", "--use", "abort=", "-o", wasm], { cwd: ROOT, stdio: "inherit" });
  const module = new wasmApi.Module(fs.readFileSync(wasm));
  return {
    wasm,
    run: (rounds) => {
      const { exports } = new wasmApi.Instance(module);
      const call = exports as Record<string, (rounds?: number) => number>;
      call[`${kernel}_init`]!();
      const warm = call[`${kernel}_run`]!(1);
      const start = process.hrtime.bigint();
      const sum = call[`${kernel}_run`]!(rounds);
      return { sum: String((sum + warm) >>> 0), time: Number(process.hrtime.bigint() - start) };
    },
  };
}

/** AssemblyScript's WebAssembly as C; null where wasm2c is not installed. */
function wasm2c(kernel: string, wasm: string): Variant | null {
  if (spawnSync(WASM2C, ["--version"]).error) return null;
  const file = path.join(OUT, `${kernel}-wasm.c`);
  execFileSync(WASM2C, [wasm, "--module-name", kernel, "-o", file]);
  const name = `Z_${kernel}`;
  const defines = {
    WASM: `"${kernel}-wasm.h"`, INSTANCE: `${name}_instance_t`, INIT_MODULE: `${name}_init_module`, INSTANTIATE: `${name}_instantiate`,
    INIT: `${name}Z_${kernel}_init`, RUN: `${name}Z_${kernel}_run`,
  };
  const includes = [OUT, ...WASM_RT].flatMap((dir) => ["-I", dir]);
  return executable(gcc(`${kernel}-wasm`, "-w", ...Object.entries(defines).map(([key, value]) => `-D${key}=${value}`), ...includes,
    path.join(HERE, "driver.c"), file, path.join(WASM_RT[0]!, "wasm-rt-impl.c"), "-lm"));
}

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[values.length >> 1]!;
}

function measure(kernel: string): Row {
  const plainObject = gcc(`${kernel}-c.o`, "-c", path.join(HERE, `kernels/${kernel}.c`));
  const ownObject = dialectObject(kernel);
  const script = assemblyScript(kernel);
  const variants: Record<string, Variant | null> = {
    c: native(kernel, `${kernel}-c`, plainObject), dialect: native(kernel, `${kernel}-dialect`, ownObject),
    again: executable(path.join(OUT, `${kernel}-c`)), assemblyScript: script.run, wasm2c: wasm2c(kernel, script.wasm),
  };
  const trial = variants.c!(8);
  const rounds = Math.max(1, Math.round((TURN_MS * 1e6 * 8) / trial.time));
  const times: Record<string, number[]> = {};
  const sums = new Map<string, string>();
  for (let turn = 0; turn < TURNS; turn++) {
    for (const [name, run] of Object.entries(variants)) {
      if (!run) continue;
      const { sum, time } = run(rounds);
      (times[name] ??= []).push(time);
      sums.set(name, sum);
    }
  }
  if (new Set(sums.values()).size > 1) throw new Error(`${kernel}: checksums differ: ${[...sums].map((one) => one.join(" ")).join(", ")}`);
  const ratio = (name: string): number => Number((median(times[name]!) / median(times.c!)).toFixed(3));
  return {
    kernel, timeRatioToC: ratio("dialect"), textRatioToC: Number((textSize(ownObject) / textSize(plainObject)).toFixed(3)),
    assemblyScriptRatioToC: ratio("assemblyScript"), wasm2cRatioToC: variants.wasm2c ? ratio("wasm2c") : null, noise: ratio("again"),
  };
}

fs.mkdirSync(OUT, { recursive: true });
const chosen = process.argv.slice(2);
const rows = KERNELS.filter((kernel) => chosen.length === 0 || chosen.includes(kernel)).map((kernel) => {
  const row = measure(kernel);
  if (kernel === (chosen[0] ?? KERNELS[0])) console.log("relative to gcc -O2   time   .text  AssemblyScript  by wasm2c  C again");
  const cell = (value: number | null, width: number): string => (value === null ? "–" : value.toFixed(2)).padStart(width);
  console.log(`${kernel.padEnd(20)} ${cell(row.timeRatioToC, 5)} ${cell(row.textRatioToC, 7)} ${cell(row.assemblyScriptRatioToC, 15)} ${cell(row.wasm2cRatioToC, 10)} ${cell(row.noise, 8)}`);
  return row;
});
fs.writeFileSync(path.join(ROOT, "build/bench-compiler.json"), `${JSON.stringify(rows, null, 2)}\n`);
if (chosen.length === 0) {
  const { cold, tsc, ratio, change } = compileTimes(path.join(OUT, "vmm"));
  console.log(`\nthe VMM compiled: ${cold} ms from nothing, ${ratio} of tsc --noEmit (${tsc} ms); ${change} ms after a change of one file`);
}
