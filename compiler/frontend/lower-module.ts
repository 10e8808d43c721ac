/** Modules: what may stand at module level, and the program made of it. */
import { ts } from "./typescript.cjs";
import { type Diagnostic, Refusal, UNKNOWN_NAME, refuse } from "../diagnostics.ts";
import type { Program } from "../ir.ts";
import { sizeOf } from "../layout.ts";
import { type Base, carryOver, changesSince } from "./carry.ts";
import { constantOf, enumOf } from "./constants.ts";
import { checkTrapHandler, declareMethods, globalOf } from "./declare.ts";
import { type Front, type Scope, constantScope, hasModifier, hasTag } from "./front.ts";
import { type Made, ROOT } from "./instance.ts";
import { checkArguments, structArgument } from "./lower-builtin.ts";
import { builtinName } from "./lower-call.ts";
import { refusedExpression } from "./lower-expression.ts";
import { queueBody, refusedStatement } from "./lower-statement.ts";
import { type Input, SourceProgram } from "./program.ts";
import { isRecordDeclaration, recordOf } from "./records.ts";
import { complete, structOf, typeConstant, typeOfNode } from "./types.ts";

export interface Lowered {
  program: Program;
  errors: Diagnostic[];
  /** What the next compilation may go on from. */
  base: Base | null;
}

/** The whole front end: sources to IR, or the reasons why not. */
export function lowerProgram(input: Input, before: Base | null = null): Lowered {
  const empty: Program = { structs: [], values: [], statics: [], funcs: [], constants: new Map(), enums: [], asmConsts: [], exports: [], sites: [] };
  let source: SourceProgram;
  try {
    source = new SourceProgram(input, before?.front.program);
  } catch (error) {
    if (error instanceof Refusal) return { program: empty, errors: [error.diagnostic], base: before };
    throw error;
  }
  const syntax = source.syntaxErrors();
  if (syntax.length > 0) return { program: empty, errors: syntax, base: before };
  const changes = changesSince(source, before);
  const front = carryOver(source, before, changes);
  for (const module of source.modules) {
    const isNew = changes.get(module) !== "none";
    for (const statement of module.statements) front.attempt(() => declareStatement(front, empty, statement, isNew));
  }
  for (const one of front.work) front.attempt(one); // and those that these add
  for (const module of source.modules) for (const statement of module.statements) checkUnused(front, statement);
  collect(front, empty);
  const errors = merge(front.errors, source.typeErrors(source.modules.filter((module) => changes.get(module) !== "none")));
  const [unplaced] = errors.length === 0 ? source.globalErrors() : [];
  if (unplaced) throw new Error(unplaced);
  if (errors.length === 0 && front.hasConsequences) throw new Error("an error went unreported");
  return { program: empty, errors, base: errors.length === 0 ? { front, touched: new Set() } : before };
}

/** Declares; bodies and assertions are left for when everything is declared. */
function declareStatement(front: Front, program: Program, node: ts.Statement, isNew: boolean): void {
  switch (node.kind) {
    case ts.SyntaxKind.ImportDeclaration: return checkImport(front, node as ts.ImportDeclaration);
    case ts.SyntaxKind.ExportDeclaration: return;
    case ts.SyntaxKind.ExportAssignment: throw refuse.defaultExport(front.loc(node));
    case ts.SyntaxKind.EmptyStatement: return;
    case ts.SyntaxKind.ModuleDeclaration: throw front.refuse(node, "namespace");
    case ts.SyntaxKind.InterfaceDeclaration:
    case ts.SyntaxKind.TypeAliasDeclaration:
      return declareType(front, node as ts.InterfaceDeclaration | ts.TypeAliasDeclaration);
    case ts.SyntaxKind.ClassDeclaration: return declareClass(front, node as ts.ClassDeclaration, isNew);
    case ts.SyntaxKind.EnumDeclaration:
      if (hasModifier(node, ts.SyntaxKind.DeclareKeyword)) throw front.refuse(node, "ambient");
      declareEnum(front, program, node as ts.EnumDeclaration);
      return;
    case ts.SyntaxKind.VariableStatement: return declareVariables(front, program, node as ts.VariableStatement);
    case ts.SyntaxKind.FunctionDeclaration: return declareFunction(front, node as ts.FunctionDeclaration, isNew);
    case ts.SyntaxKind.ExpressionStatement:
      if (isNew) front.work.push(() => checkAssertion(front, (node as ts.ExpressionStatement).expression));
      return;
    default: throw refuse.moduleStatement(front.loc(node));
  }
}

function declareType(front: Front, node: ts.InterfaceDeclaration | ts.TypeAliasDeclaration): void {
  const isRecord: boolean = isRecordDeclaration(front, node);
  if (isRecord) {
    if (!node.typeParameters) front.work.push(() => recordOf(front, node, [], node));
    return;
  }
  if (ts.isInterfaceDeclaration(node)) return; // what type arguments have to have; as a type it is refused
  if (node.typeParameters) return;
  front.work.push(() => { if (typeConstant(front, node.type) === null) complete(front, typeOfNode(front, node.type)); });
}

function declareEnum(front: Front, program: Program, node: ts.EnumDeclaration): void {
  const one = enumOf(front, node);
  program.enums.push(one);
  if (!hasModifier(node, ts.SyntaxKind.ExportKeyword)) return;
  const members = Object.fromEntries([...one.members].map(([name, value]) => [name, Number(value)]));
  program.exports.push({ path: front.loc(node).source.path, name: one.name, text: JSON.stringify(members) });
}

function checkImport(front: Front, node: ts.ImportDeclaration): void {
  if (node.importClause?.name) throw refuse.defaultExport(front.loc(node.importClause.name));
}

function declareVariables(front: Front, program: Program, node: ts.VariableStatement): void {
  const flavour = node.declarationList.flags & ts.NodeFlags.BlockScoped;
  if (flavour !== ts.NodeFlags.Let && flavour !== ts.NodeFlags.Const) throw front.refuse(node.declarationList, "varDeclaration");
  for (const declaration of node.declarationList.declarations) {
    if (!ts.isIdentifier(declaration.name)) throw front.refuse(declaration.name, "destructuring");
    const name = declaration.name.text;
    front.work.push(() => {
      const global = globalOf(front, declaration, declaration);
      if (global.kind === "static") program.statics.push(global.static);
      if (global.kind !== "constant" || global.value.kind !== "const") return;
      const { value, type } = global.value;
      program.constants.set(name, value);
      if (hasModifier(node, ts.SyntaxKind.ExportKeyword)) {
        const big = (type.kind === "int" && type.bits === 64) || (type.kind === "literal" && type.js === "bigint");
        const text = type.kind === "bool" ? String(value !== 0n) : `${value}${big ? "n" : ""}`;
        program.exports.push({ path: front.loc(node).source.path, name, text });
      }
      if (hasTag(declaration, "asm")) program.asmConsts.push({ name, value });
    });
  }
}

function declareFunction(front: Front, node: ts.FunctionDeclaration, isNew: boolean): void {
  const made = [...(front.instances.funcs.get(node)?.values() ?? [])];
  if (isNew) for (const { value, instance } of made) queueBody(front, value, node, instance);
  if (node.typeParameters) {
    if (node.name && (hasTag(node, "entry") || !node.body)) throw refuse.genericEntry(front.loc(node.name), node.name.text);
    return;
  }
  const global = globalOf(front, node, node);
  if (global.kind !== "func" || !isNew) return;
  if (global.func.name === "onTrap") checkTrapHandler(global.func);
  queueBody(front, global.func, node, ROOT);
}

function declareClass(front: Front, node: ts.ClassDeclaration, isNew: boolean): void {
  if (!node.typeParameters) {
    const struct = structOf(front, node);
    front.work.push(() => complete(front, struct));
  }
  for (const { value } of front.instances.structs.get(node)?.values() ?? []) declareMethods(front, value, isNew);
}

/** A generic that nobody uses is not lowered; what the dialect does not have at all is refused in it all the same. */
function checkUnused(front: Front, node: ts.Statement): void {
  if (!(ts.isFunctionDeclaration(node) || ts.isClassDeclaration(node)) || !node.typeParameters) return;
  if (front.instances.funcs.get(node)?.size || front.instances.structs.get(node)?.size) return;
  const visit = (child: ts.Node): void => {
    const construct = refusedExpression(child) ?? refusedStatement(child);
    if (construct) front.record(front.refuse(child, construct).diagnostic);
    else ts.forEachChild(child, visit);
  };
  if (ts.isClassDeclaration(node)) node.members.forEach(visit);
  else if (node.body) visit(node.body);
}

/** Structs and functions in the order of the source, instances where their declaration stands. */
function collect(front: Front, program: Program): void {
  const byName = <T extends { name: string }>(made: Map<string, Made<T>> | undefined): T[] =>
    [...(made?.values() ?? [])].map((one) => one.value).sort((a, b) => a.name.localeCompare(b.name));
  for (const statement of front.program.modules.flatMap((module) => module.statements)) {
    if (ts.isClassDeclaration(statement)) {
      for (const struct of byName(front.instances.structs.get(statement))) {
        program.structs.push(struct);
        for (const member of statement.members) {
          const method = ts.isMethodDeclaration(member) && struct.methods.get(member.name.getText());
          if (method) program.funcs.push(method);
        }
      }
    }
    if (!ts.isFunctionDeclaration(statement)) continue;
    const global = front.globals.get(statement);
    if (global?.kind === "func") program.funcs.push(global.func);
    program.funcs.push(...byName(front.instances.funcs.get(statement)));
  }
}

function checkAssertion(front: Front, node: ts.Expression): void {
  const scope = constantScope(front);
  const name = ts.isCallExpression(node) ? builtinName(scope, node) : null;
  if (!ts.isCallExpression(node) || (name !== "assertStatic" && name !== "assertLayout")) throw refuse.moduleStatement(front.loc(node));
  checkArguments(scope, node, name);
  if (name === "assertLayout") return checkLayout(front, scope, node);
  const condition = constantOf(front, node.arguments[0]!);
  if (condition.type.kind !== "bool") throw refuse.notConstant(front.loc(node.arguments[0]!));
  if (condition.value === 0n) throw refuse.staticFails(front.loc(node), node.arguments[0]!.getText());
}

function checkLayout(front: Front, scope: Scope, node: ts.CallExpression): void {
  const struct = structArgument(scope, node);
  const [sizeNode, offsets] = node.arguments;
  const size = constantOf(front, sizeNode!).value;
  if (size !== BigInt(sizeOf(struct))) throw refuse.layoutDiffers(front.loc(sizeNode!), `${struct.name} has ${sizeOf(struct)} bytes, not ${size}`);
  if (!offsets) return;
  if (!ts.isObjectLiteralExpression(offsets)) throw refuse.notConstant(front.loc(offsets));
  for (const property of offsets.properties) {
    if (!ts.isPropertyAssignment(property)) throw refuse.notConstant(front.loc(property));
    const field = struct.fields.find((one) => one.name === property.name.getText());
    if (!field) throw refuse.unknownName(front.loc(property.name), `${struct.name}.${property.name.getText()}`);
    const offset = constantOf(front, property.initializer).value;
    if (offset !== BigInt(field.offset)) {
      throw refuse.layoutDiffers(front.loc(property), `${struct.name}.${field.name} is at offset ${field.offset}, not ${offset}`);
    }
  }
}

/** Both checkers' errors in the order of the source; where both object to a line, ours says what to write. */
function merge(ours: Diagnostic[], theirs: Diagnostic[]): Diagnostic[] {
  const line = (diagnostic: Diagnostic): string => {
    const { source, start } = diagnostic.loc;
    return `${source.path}:${source.position(start).line}`;
  };
  const theirLines = new Set(theirs.map(line));
  const kept = ours.filter((diagnostic) => diagnostic.code !== UNKNOWN_NAME || !theirLines.has(line(diagnostic)));
  const ourLines = new Set(kept.map(line));
  const all = [...kept, ...theirs.filter((diagnostic) => !ourLines.has(line(diagnostic)))];
  return all.sort((a, b) => a.loc.source.path.localeCompare(b.loc.source.path) || a.loc.start - b.loc.start);
}

