/** Runs snippets of the dialect through both back ends and compares what they say. */
import { expect } from "vitest";
import { emitC } from "../../compiler/emit-c/program.ts";
import { type Call, compileSource, harness, runCSync, runNode } from "./worlds.ts";

export { type Call, compileSource } from "./worlds.ts";

/** Makes the calls in Node and in C, expects the same results and traps in both, and gives them. */
export function expectSameInNodeAndC(source: string, calls: Call[], flags: string[] = ["-O1"]): string[] {
  const { program, errors } = compileSource(source);
  if (errors) throw new Error(`\n${errors}`);
  const inNode = runNode(program, calls);
  expect(runCSync(`${emitC(program)}\n${harness(program, calls)}`, { compiler: "gcc", flags })).toEqual(inNode);
  return inNode;
}
