import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { compile } from "../../compiler/compile.ts";
import { emitC } from "../../compiler/emit-c/program.ts";
import { type Calls, type StackOptions, callsOf, describeStack, proveStack } from "../../compiler/stack.ts";
import { GUARDED } from "./worlds.ts";

const SOURCE = `
class Buffer extends Struct { bytes: FixedArray<u8, 512>; }
export declare function port(at: u64): void;
function fill(buffer: Buffer, n: u32): u32 { port(addressOf(buffer)); return u32(buffer.bytes[n]); }
function deep(n: u32): u32 { const buffer: Buffer = zeroed(); return fill(buffer, n) + n; }
function wrapper(n: u32): u32 { return deep(n) + 1; }
/** @entry */
export function work(n: u32): u32 { return wrapper(n); }
/** @entry */
export function interrupt(): void { port(1n); }
/** @entry */
export function onTrap(site: u32): never { port(u64(site)); while (true) {} }
`;
const GRAPH = (...lines: string[]): string => ['graph: { title: "x.c"', ...lines, "}"].join("\n");
const node = (name: string, bytes: string): string => `node: { title: "x.c:${name}" label: "${name}\\nx.ts:1:1\\n${bytes}" }`;
const edge = (from: string, to: string): string => `edge: { sourcename: "x.c:${from}" targetname: "${to}" label: "x.ts:1:1" }`;
const calls = (functions: Record<string, string[]>): Calls => ({
  entries: ["entry"], functions: Object.fromEntries(Object.entries(functions).map(([name, list]) => [name, { at: `${name}.ts`, calls: list }])),
});
const options = (more: Partial<StackOptions> = {}): StackOptions => ({ limit: 8192, pushed: {}, assembly: {}, nested: [], ...more });

describe("the stack of a program", () => {
  let dir: string;
  let found: Calls;
  let frames: string;
  beforeAll(() => {
    dir = fs.mkdtempSync(path.join(os.tmpdir(), "dialect-"));
    const file = path.resolve("snippet.ts");
    const { program } = compile({ entries: [file], overlay: new Map([[file, SOURCE + GUARDED]]) }, "entries");
    found = callsOf(program);
    fs.writeFileSync(path.join(dir, "x.c"), emitC(program));
    const flags = ["-std=c11", "-ffreestanding", "-O2", "-fcallgraph-info=su", "-fno-strict-aliasing", `-I${path.resolve("compiler/emit-c")}`];
    execFileSync("gcc", [...flags, "-c", "x.c"], { cwd: dir });
    frames = fs.readFileSync(path.join(dir, "x.ci"), "utf8");
  });
  afterAll(() => fs.rmSync(dir, { recursive: true }));

  test("is the deepest chain of calls, with what interrupts put on top", () => {
    const proof = proveStack(found, frames, options({ pushed: { work: 32, interrupt: 120 }, assembly: { port: 8 }, nested: ["interrupt"] }));
    const [work] = proof.chains;
    expect(work!.entry).toBe("work");
    expect(work!.bytes).toBeGreaterThan(512 + 32);
    expect(work!.frames.map((frame) => frame.name)).toEqual(expect.arrayContaining(["work", "wrapper", "deep"]));
    expect(proof.nested.map((chain) => chain.entry)).toEqual(["interrupt"]);
    expect(proof.worst).toBe(work!.bytes + proof.nested[0]!.bytes);
    expect(describeStack(proof)).toContain(`${proof.worst}  of 8192 bytes at worst\n\ndeepest chain of work:\n    32  pushed before the call\n`);
  });

  test("that is too small is reported with how much is missing", () => {
    const proof = proveStack(found, frames, options({ limit: 500, assembly: { port: 8 } }));
    expect(describeStack(proof)).toContain(`of 500 bytes at worst: ${proof.worst - 500} too many`);
  });

  test("has to be told what assembly uses", () => {
    expect(() => proveStack(found, frames, options())).toThrow("how much stack these use is not known: port");
  });
});

describe("what the C compiler made of it", () => {
  test("inlined functions are part of their callers, clones and merged functions count", () => {
    const graph = GRAPH(node("entry", "16 bytes (static)"), node("half.part.0", "100 bytes (static)"), node("twin", "300 bytes (static)"), edge("entry", "x.c:twin"));
    const proof = proveStack(calls({ entry: ["inlined", "other"], inlined: ["half"], half: [], other: [] }), graph, options());
    expect(proof.worst).toBe(316);
    const split = proveStack(calls({ entry: ["inlined"], inlined: ["half"], half: [] }), graph.replace("300", "30"), options());
    expect(split.chains[0]!.frames.map(({ name, bytes }) => [name, bytes])).toEqual([["entry", 16], ["inlined", 0], ["half", 0], ["half.part.0", 100]]);
  });

  test("a frame of no fixed size, a cycle and a wrong name are refused", () => {
    expect(() => proveStack(calls({ entry: [] }), GRAPH(node("entry", "16 bytes (dynamic)")), options())).toThrow("entry (x.ts:1:1) has a frame of no fixed size");
    const cycle = GRAPH(node("entry", "16 bytes (static)"), node("helper", "8 bytes (static)"), edge("entry", "x.c:helper"), edge("helper", "x.c:entry"));
    expect(() => proveStack(calls({ entry: [] }), cycle, options())).toThrow("recursion: entry → helper → entry");
    expect(() => proveStack(calls({ entry: [] }), "", options({ pushed: { other: 8 } }))).toThrow("other is no entry point");
  });
});
