/**
 * Each file of fixtures/constructs shows some constructs. Its first lines say what calls give, which has to be so in
 * Node and in C by gcc and clang; and its C is kept beside it, to be looked at.
 */
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { compile } from "../../compiler/compile.ts";
import { emitC } from "../../compiler/emit-c/program.ts";
import type { DialectValue } from "../../compiler/emit-js/load.ts";
import { reportAll } from "../../compiler/report.ts";
import { ALL_C, type Call, harness, runC, runNode } from "./worlds.ts";

const FOLDER = fileURLToPath(new URL("fixtures/constructs", import.meta.url));

/** `// name(1, 2n, true) → 3` */
function expectations(source: string): { call: Call; result: string }[] {
  return [...source.matchAll(/^\/\/ (\w+)\((.*)\) → (.*)$/gm)].map(([, name, args, result]) => ({
    call: [name!, ...(args ? args.split(", ").map(valueOf) : [])], result: result!,
  }));
}

function valueOf(text: string): DialectValue {
  if (text === "true" || text === "false") return text === "true";
  return text.endsWith("n") ? BigInt(text.slice(0, -1)) : Number(text);
}

describe.each(fs.readdirSync(FOLDER).filter((name) => name.endsWith(".ts")))("%s", (name) => {
  const file = path.join(FOLDER, name);
  const source = fs.readFileSync(file, "utf8");
  const compiled = () => {
    // As if it stood in the working directory: places are the same wherever the tests run.
    const { program, errors } = compile({ entries: [path.resolve(name)], overlay: new Map([[path.resolve(name), source]]) }, "exports");
    if (errors.length > 0) throw new Error(`\n${reportAll(errors)}`);
    return program;
  };

  test("gives what it says, in Node and in C", async () => {
    const program = compiled();
    const cases = expectations(source);
    const calls = cases.map((one) => one.call);
    const results = cases.map((one) => one.result);
    expect(results.length).toBeGreaterThan(0);
    expect(runNode(program, calls)).toEqual(results);
    const code = `${emitC(program)}\n${harness(program, calls)}`;
    for (const world of ALL_C) expect(await runC(code, world), world.compiler).toEqual(results);
  }, 60_000);

  test("has this C", async () => {
    await expect(emitC(compiled())).toMatchFileSnapshot(`snapshots/${name.replace(/\.ts$/, ".c")}`);
  });
});
