/**
 * The worst-case stack of each entry point: our own call graph, which knows every call of the source and has no
 * cycle, with the frames and calls that gcc was left with after inlining (`-fcallgraph-info=su`). A path that either
 * of them knows counts, so that neither a function that gcc merged with its twin nor one of a C header is forgotten.
 */
import { callGraph } from "./check-recursion.ts";
import type { Func, Program } from "./ir.ts";
import { describe } from "./source.ts";
import { sitesOf } from "./walk.ts";

/** What `build` writes for the proof, so that nothing is compiled twice. */
export interface Calls {
  entries: string[];
  functions: Record<string, { at: string; calls: string[] }>;
}

export interface StackOptions {
  /** Bytes of the stack that an entry point runs on. */
  limit: number;
  /** Bytes on the stack already when assembly calls an entry point. */
  pushed: Record<string, number>;
  /** Bytes that a function of assembly uses, with its return address. */
  assembly: Record<string, number>;
  /** Entry points that may come on top of any other, such as an interrupt's; with what is pushed for them. */
  nested: string[];
}

export interface Frame { name: string; at: string; bytes: number }
export interface Chain { entry: string; pushed: number; bytes: number; frames: Frame[] }
export interface StackProof {
  chains: Chain[];
  nested: Chain[];
  /** The deepest chain and all that may come on top of it. */
  worst: number;
  limit: number;
}

export class StackError extends Error {}

interface Node { at: string; bytes: number | null; calls: Set<string> }

/** What gcc may call without being asked, from any function. */
const IMPLICIT = ["memcpy", "memmove", "memset"];

export function callsOf(program: Program): Calls {
  const graph = callGraph(program);
  const traps = program.funcs.find((func) => func.name === "onTrap");
  const functions: Calls["functions"] = {};
  for (const func of program.funcs) {
    const callees = new Set([...graph.get(func) ?? []].map((callee) => callee.cName));
    if (traps && func !== traps && sitesOf(func.body ?? []).length > 0) callees.add(traps.cName);
    functions[func.cName] = { at: describe(func.loc), calls: [...callees] };
  }
  return { entries: program.funcs.filter((func: Func) => func.entry).map((func) => func.cName), functions };
}

export function proveStack(calls: Calls, callGraphInfo: string, options: StackOptions): StackProof {
  const graph = merge(calls, readCallGraph(callGraphInfo), options);
  for (const name of [...Object.keys(options.pushed), ...options.nested]) {
    if (!calls.entries.includes(name)) throw new StackError(`${name} is no entry point; there are ${calls.entries.join(", ")}`);
  }
  const deepest = deepestFrom(graph);
  const chains = calls.entries.map((entry): Chain => {
    const pushed = options.pushed[entry] ?? 0;
    const frames = deepest(entry, []);
    return { entry, pushed, bytes: pushed + sum(frames), frames };
  }).sort((a, b) => b.bytes - a.bytes);
  const nested = chains.filter((chain) => options.nested.includes(chain.entry));
  const outer = chains.filter((chain) => !nested.includes(chain));
  const worst = (outer[0]?.bytes ?? 0) + nested.reduce((total, chain) => total + chain.bytes, 0);
  return { chains: outer, nested, worst, limit: options.limit };
}

/** gcc's nodes and edges. Clones (`name.part.0`) count as calls of `name`, with frames of their own. */
function readCallGraph(text: string): Map<string, Node> {
  const nodes = new Map<string, Node>();
  const node = (title: string): Node => {
    const name = nameOf(title);
    if (!nodes.has(name)) nodes.set(name, { at: "", bytes: null, calls: new Set() });
    return nodes.get(name)!;
  };
  for (const line of text.split("\n")) {
    const edge = /^edge: \{ sourcename: "([^"]*)" targetname: "([^"]*)"/.exec(line);
    if (edge) {
      node(edge[1]!).calls.add(nameOf(edge[2]!));
      continue;
    }
    const found = /^node: \{ title: "([^"]*)" label: "([^"]*)"/.exec(line);
    if (!found) continue;
    const [, place = "", usage] = found[2]!.split("\\n");
    const one = node(found[1]!);
    one.at = place;
    if (!usage) continue;
    const size = /^(\d+) bytes \((.*)\)$/.exec(usage);
    if (!size || size[2] === "dynamic") throw new StackError(`${nameOf(found[1]!)} (${place}) has a frame of no fixed size: ${usage}`);
    one.bytes = Number(size[1]);
  }
  addClones(nodes);
  return nodes;
}

/** "/dir/vmm.c:name.part.0" → "name.part.0" */
function nameOf(title: string): string {
  return title.slice(title.lastIndexOf(":") + 1);
}

function addClones(nodes: Map<string, Node>): void {
  for (const name of [...nodes.keys()]) {
    const original = name.split(".", 1)[0]!;
    if (original === name) continue;
    const one = nodes.get(original) ?? { at: nodes.get(name)!.at, bytes: null, calls: new Set<string>() };
    one.calls.add(name);
    nodes.set(original, one);
  }
}

/** Both graphs in one. A function of ours that gcc does not have is part of its callers' frames. */
function merge(calls: Calls, compiled: Map<string, Node>, options: StackOptions): Map<string, Node> {
  const graph = new Map<string, Node>();
  for (const [name, node] of compiled) graph.set(name, { ...node, bytes: node.bytes ?? options.assembly[name] ?? null });
  const library = IMPLICIT.filter((name) => compiled.get(name)?.bytes);
  const missing: string[] = [];
  for (const [name, node] of compiled) {
    const isExternal = node.bytes === null && !name.includes(".") && ![...node.calls].some((callee) => callee.startsWith(`${name}.`));
    if (isExternal && options.assembly[name] === undefined) missing.push(name);
    if (!isExternal && !library.includes(name)) library.forEach((one) => graph.get(name)!.calls.add(one));
  }
  if (missing.length > 0) throw new StackError(`how much stack these use is not known: ${missing.join(", ")}`);
  for (const [name, { at, calls: callees }] of Object.entries(calls.functions)) {
    const node = graph.get(name) ?? { at, bytes: 0, calls: new Set<string>() };
    node.at = at;
    callees.forEach((callee) => node.calls.add(callee));
    graph.set(name, node);
  }
  return graph;
}

function deepestFrom(graph: Map<string, Node>): (name: string, path: string[]) => Frame[] {
  const known = new Map<string, Frame[]>();
  const visit = (name: string, path: string[]): Frame[] => {
    const done = known.get(name);
    if (done) return done;
    const node = graph.get(name);
    if (!node) throw new StackError(`${path.join(" → ")} calls ${name}, of which nothing is known`);
    if (path.includes(name)) throw new StackError(`recursion: ${[...path, name].join(" → ")}`);
    let below: Frame[] = [];
    for (const callee of node.calls) {
      const chain = visit(callee, [...path, name]);
      const gain = sum(chain) - sum(below);
      // Of equal ones the longer: it names what was inlined on the way.
      if (gain > 0 || (gain === 0 && chain.length > below.length)) below = chain;
    }
    const frames = [{ name, at: node.at, bytes: node.bytes ?? 0 }, ...below];
    known.set(name, frames);
    return frames;
  };
  return visit;
}

function sum(frames: Frame[]): number {
  return frames.reduce((total, frame) => total + frame.bytes, 0);
}

/** One line for each entry point, then the deepest chain frame by frame. */
export function describeStack(proof: StackProof): string {
  const { chains, nested, worst, limit } = proof;
  const lines = chains.map((chain) => `${String(chain.bytes).padStart(6)}  ${chain.entry}`);
  for (const chain of nested) lines.push(`${String(chain.bytes).padStart(6)}  ${chain.entry}, on top of any of these`);
  const fits = worst <= limit;
  lines.push(`${String(worst).padStart(6)}  of ${limit} bytes at worst${fits ? "" : `: ${worst - limit} too many`}`);
  for (const chain of [chains[0], ...(fits ? [] : nested)]) {
    if (!chain) continue;
    lines.push("", `deepest chain of ${chain.entry}:`);
    if (chain.pushed > 0) lines.push(`${String(chain.pushed).padStart(6)}  pushed before the call`);
    for (const { name, at, bytes } of chain.frames) {
      lines.push(`${bytes === 0 ? "inline" : String(bytes).padStart(6)}  ${name}${at ? `  ${at}` : ""}`);
    }
  }
  return `${lines.join("\n")}\n`;
}
