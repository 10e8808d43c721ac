/**
 * What a compilation takes over from the last good one, for watch mode. A module whose text did not change, and that
 * imports none that did, stays as it was. Where only the insides of functions changed, the module's declarations stay
 * the same objects, so that those who import it stay too. Everything else is made anew.
 */
import ts from "./typescript.cjs";
import { Front } from "./front.ts";
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
  const stays = (node: ts.Node): boolean => changes.get(node.getSourceFile()) === "none";
  copy(old.globals, front.globals, stays);
  copy(old.structs, front.structs, stays);
  copy(old.enums, front.enums, stays);
  copy(old.types, front.types, stays);
  for (const [file, change] of changes) {
    if (change !== "bodies") continue;
    base.touched.add(file.fileName);
    const before = old.program.modules.find((one) => one.fileName === file.fileName)!;
    file.statements.forEach((statement, i) => carryStatement(old, front, before.statements[i]!, statement));
  }
  for (const struct of front.structs.values()) if (old.laidOut.has(struct)) front.laidOut.add(struct);
  return front;
}

function copy<K extends ts.Node, V>(from: Map<K, V>, to: Map<K, V>, stays: (node: ts.Node) => boolean): void {
  for (const [node, value] of from) if (stays(node)) to.set(node, value);
}

/** The same declaration in its new place in the file. */
function carryStatement(old: Front, front: Front, before: ts.Statement, after: ts.Statement): void {
  if (ts.isClassDeclaration(before) && ts.isClassDeclaration(after)) {
    move(old.structs, front.structs, before, after);
    after.members.forEach((member, i) => {
      if (ts.isMethodDeclaration(member)) carryFunction(old, front, before.members[i] as ts.MethodDeclaration, member);
    });
  }
  if (ts.isEnumDeclaration(before) && ts.isEnumDeclaration(after)) move(old.enums, front.enums, before, after);
  if (ts.isVariableStatement(before) && ts.isVariableStatement(after)) {
    after.declarationList.declarations.forEach((one, i) => {
      const global = move(old.globals, front.globals, before.declarationList.declarations[i]!, one);
      if (global?.kind === "static") Object.assign(global.static, { loc: front.loc(one.name) });
    });
  }
  if (ts.isFunctionDeclaration(before) && ts.isFunctionDeclaration(after)) carryFunction(old, front, before, after);
}

type FunctionNode = ts.FunctionDeclaration | ts.MethodDeclaration;

function carryFunction(old: Front, front: Front, before: FunctionNode, after: FunctionNode): void {
  const global = move(old.globals, front.globals, before, after);
  if (global?.kind !== "func") return;
  const { func } = global;
  const end = { ...front.loc(after), start: after.getEnd() - 1 };
  Object.assign(func, { loc: front.loc(after.name!), end, temps: [], body: func.body && [] });
  for (const param of func.params) Object.assign(param, { reads: 0, max: undefined });
}

function move<K extends ts.Node, V>(from: Map<K, V>, to: Map<K, V>, before: K, after: K): V | undefined {
  const value = from.get(before);
  if (value !== undefined) to.set(after, value);
  return value;
}
