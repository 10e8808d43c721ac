/**
 * What a compilation takes over from the last good one, for watch mode. A module whose text did not change, and that
 * imports none that did, stays as it was. Where only the insides of functions changed, the module's declarations stay
 * the same objects, so that those who import it stay too. Everything else is made anew.
 */
import { ts } from "./typescript.cjs";
import type { Func } from "../ir.ts";
import { Front } from "./front.ts";
import { type Generic, type Made, ROOT, type TypeArgument, newInstance } from "./instance.ts";
import type { SourceProgram } from "./program.ts";

/** A compilation without errors, to go on from. */
export interface Base {
  readonly front: Front;
  /** Modules whose functions a later, failed compilation has worked on. */
  readonly touched: Set<string>;
}

export type Change = "none" | "bodies" | "all";

/** How far each module is still what it was. */
export function changesSince(program: SourceProgram, base: Base | null): Map<ts.SourceFile, Change> {
  const before = new Map(base?.front.program.modules.map((file) => [file.fileName, file]));
  const changes = new Map<ts.SourceFile, Change>();
  for (const file of program.modules) { // after those that it imports
    const imported = program.imports.get(file) ?? [];
    const old = before.get(file.fileName);
    if (!old || imported.some((one) => changes.get(one) === "all")) changes.set(file, "all");
    else if (old === file) changes.set(file, base!.touched.has(file.fileName) ? "bodies" : "none");
    else changes.set(file, skeleton(old) === skeleton(file) ? "bodies" : "all");
  }
  return changes;
}

/** A module without the insides of its functions. Every declaration says its types, so nobody else depends on those. */
function skeleton(file: ts.SourceFile): string {
  return file.statements.map((statement) => {
    const end = ts.isFunctionDeclaration(statement) && statement.body ? statement.body.pos : statement.end;
    return file.text.slice(statement.pos, end);
  }).join("\0");
}

/** A front end that knows already what has not changed. */
export function carryOver(program: SourceProgram, base: Base | null, changes: Map<ts.SourceFile, Change>): Front {
  const front = new Front(program);
  if (!base) return front;
  const old = base.front;
  // The core library's own types stay as long as its file does.
  const stays = (node: ts.Node): boolean => changes.get(node.getSourceFile()) === "none" || program.isCore(node);
  copy(old.globals, front.globals, stays);
  copy(old.enums, front.enums, stays);
  copy(old.types, front.types, stays);
  for (const kind of ["structs", "records", "funcs"] as const) copy<ts.Node, unknown>(old.instances[kind], front.instances[kind], stays);
  for (const [key, slice] of old.instances.slices) front.instances.slices.set(key, slice);
  for (const [file, change] of changes) {
    if (change !== "bodies") continue;
    base.touched.add(file.fileName);
    const before = old.program.modules.find((one) => one.fileName === file.fileName)!;
    file.statements.forEach((statement, i) => carryStatement(old, front, before.statements[i]!, statement));
  }
  dropStale(front);
  for (const [declaration, made] of front.instances.structs) {
    for (const { value, instance } of made.values()) {
      front.instances.classes.set(value, { declaration: declaration as ts.ClassDeclaration, instance });
      if (old.laidOut.has(value)) front.laidOut.add(value);
    }
  }
  return front;
}

function copy<K extends ts.Node, V>(from: Map<K, V>, to: Map<K, V>, stays: (node: ts.Node) => boolean): void {
  for (const [node, value] of from) if (stays(node)) to.set(node, value);
}

/** Instances for types that are made anew are nobody's any more. */
function dropStale(front: Front): void {
  const { structs, records, funcs } = front.instances;
  const current = new Set<unknown>(front.enums.values());
  for (const made of [...structs.values(), ...records.values()]) for (const one of made.values()) current.add(one.value);
  for (const made of [...structs.values(), ...records.values(), ...funcs.values()] as Map<string, Made<unknown>>[]) {
    for (const [key, { value, instance }] of made) {
      if (instance.args.every((argument) => madeOf(argument, current))) continue;
      made.delete(key);
      current.delete(value);
    }
  }
}

function madeOf(type: TypeArgument, current: Set<unknown>): boolean {
  switch (type.kind) {
    case "struct":
    case "record":
      return current.has(type);
    case "int": return !type.enum || current.has(type.enum);
    case "array":
    case "slice":
      return madeOf(type.element, current);
    case "ref": return madeOf(type.target, current);
    default: return true;
  }
}

/** The same declaration in its new place in the file. */
function carryStatement(old: Front, front: Front, before: ts.Statement, after: ts.Statement): void {
  if (ts.isClassDeclaration(before) && ts.isClassDeclaration(after)) {
    for (const struct of carryInstances(old.instances.structs, front.instances.structs, before, after)) {
      for (const member of after.members) {
        const method = ts.isMethodDeclaration(member) && struct.methods.get(member.name.getText());
        if (method) renew(front, method, member as ts.MethodDeclaration);
      }
    }
  }
  if (isTypeDeclaration(before) && isTypeDeclaration(after)) carryInstances(old.instances.records, front.instances.records, before, after);
  if (ts.isEnumDeclaration(before) && ts.isEnumDeclaration(after)) move(old.enums, front.enums, before, after);
  if (ts.isVariableStatement(before) && ts.isVariableStatement(after)) {
    after.declarationList.declarations.forEach((one, i) => {
      const global = move(old.globals, front.globals, before.declarationList.declarations[i]!, one);
      if (global?.kind === "static") Object.assign(global.static, { loc: front.loc(one.name) });
    });
  }
  if (!ts.isFunctionDeclaration(before) || !ts.isFunctionDeclaration(after)) return;
  const global = move(old.globals, front.globals, before, after);
  if (global?.kind === "func") renew(front, global.func, after);
  for (const func of carryInstances(old.instances.funcs, front.instances.funcs, before, after)) renew(front, func, after);
}

function isTypeDeclaration(node: ts.Statement): node is ts.TypeAliasDeclaration | ts.InterfaceDeclaration {
  return ts.isTypeAliasDeclaration(node) || ts.isInterfaceDeclaration(node);
}

/** What a declaration was made into, with its type parameters in their new place. */
function carryInstances<T>(from: Map<ts.Node, Map<string, Made<T>>>, to: Map<ts.Node, Map<string, Made<T>>>, before: Generic, after: Generic): T[] {
  const made = from.get(before);
  if (!made) return [];
  to.set(after, new Map([...made].map(([key, { value, instance }]) =>
    [key, { value, instance: instance === ROOT ? ROOT : newInstance(after, instance.args, instance.parent) }])));
  return [...made.values()].map((one) => one.value);
}

/** A function that stays what it is to others, and gets a new body. */
function renew(front: Front, func: Func, after: ts.FunctionDeclaration | ts.MethodDeclaration): void {
  const end = { ...front.loc(after), start: after.getEnd() - 1 };
  Object.assign(func, { loc: front.loc(after.name!), end, temps: [], body: func.body && [] });
  for (const param of func.params) Object.assign(param, { reads: 0, max: undefined });
}

function move<K extends ts.Node, V>(from: Map<K, V>, to: Map<K, V>, before: K, after: K): V | undefined {
  const value = from.get(before);
  if (value !== undefined) to.set(after, value);
  return value;
}
