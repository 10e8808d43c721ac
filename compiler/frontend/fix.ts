/**
 * Rewrites sources where a diagnostic has one mechanical remedy, one that changes no value: what an operator is called,
 * a conversion that always fits, a suffix, padding. Whatever is a choice stays with the author.
 */
import path from "node:path";
import { IndentationText, Node, Project, type SourceFile, SyntaxKind, VariableDeclarationKind } from "ts-morph";
import type { Diagnostic } from "../diagnostics.ts";

/** Rewrites the node that a diagnostic points at; false if this one is for the author. */
type Remedy = (node: Node, diagnostic: Diagnostic) => boolean;

const REMEDIES: Record<string, Remedy> = {
  US1013: (node) => replace(node, `${node.getText()}=`),
  US1014: (node) => replace(node, ">>"),
  US1016: declareByLet,
  US2001: convertOperand,
  US2002: replaceByAdvice,
  US2006: replaceByAdvice,
  US2021: replaceByAdvice,
  US3001: addPadding,
  US4015: importGuard,
};

/** Applies what remedies there are, each file from its end, and gives the diagnostics that were fixed. */
export function fix(diagnostics: readonly Diagnostic[]): Diagnostic[] {
  const project = new Project({
    skipAddingFilesFromTsConfig: true, compilerOptions: { noLib: true }, manipulationSettings: { indentationText: IndentationText.TwoSpaces },
  });
  const backwards = [...diagnostics].sort((a, b) => b.loc.start - a.loc.start);
  const fixed: Diagnostic[] = [];
  /** Where the last rewritten node of a file began: what reaches into it is for another round. */
  const untouched = new Map<SourceFile, number>();
  for (const diagnostic of backwards) {
    const remedy = REMEDIES[diagnostic.code];
    if (!remedy) continue;
    const { source, start, end } = diagnostic.loc;
    const file = project.addSourceFileAtPath(path.resolve(source.path));
    const node = end <= (untouched.get(file) ?? Infinity) ? file.getDescendantAtStartWithWidth(start, end - start) : undefined;
    if (!node || !remedy(node, diagnostic)) continue;
    untouched.set(file, start);
    fixed.push(diagnostic);
  }
  project.saveSync();
  return fixed.reverse();
}

function replace(node: Node, text: string): boolean {
  node.replaceWithText(text);
  return true;
}

/** What the diagnostic says to write instead, if it is one expression and not a choice. */
function replaceByAdvice(node: Node, { instead }: Diagnostic): boolean {
  return instead !== undefined && isExpression(instead) && replace(node, instead);
}

function isExpression(text: string): boolean {
  return !/…|, or | as /.test(text);
}

/** `u32(b)` for the operand b of the two. */
function convertOperand(node: Node, { instead }: Diagnostic): boolean {
  const operand = /^\w+\((.*)\)$/s.exec(instead ?? "")?.[1];
  if (!Node.isBinaryExpression(node) || operand === undefined) return false;
  const side = [node.getLeft(), node.getRight()].find((one) => one.getText() === operand);
  return side !== undefined && replace(side, instead!);
}

function declareByLet(node: Node): boolean {
  const statement = node.getFirstAncestorByKind(SyntaxKind.VariableStatement);
  statement?.setDeclarationKind(VariableDeclarationKind.Let);
  return statement !== undefined;
}

/** The field that the diagnostic names, before the one that it points at, or at the end of the class. */
function addPadding(node: Node, { instead }: Diagnostic): boolean {
  const type = /reserved: (.*);$/.exec(instead ?? "")?.[1];
  const struct = node.getFirstAncestorByKind(SyntaxKind.ClassDeclaration);
  if (!type || !struct) return false;
  let name = "reserved";
  for (let i = 2; struct.getProperty(name); i++) name = `reserved${i}`;
  if (Node.isPropertyDeclaration(node)) struct.insertProperty(node.getChildIndex(), { name, type });
  else struct.insertProperty(struct.getProperties().length, { name, type });
  return true;
}

/** The import that the diagnostic names: before the others, or at the start where there are none. */
function importGuard(node: Node, { instead }: Diagnostic): boolean {
  const guard = /^import ".*"/.exec(instead ?? "")?.[0];
  if (!guard) return false;
  const file = node.getSourceFile();
  const [first] = file.getImportDeclarations();
  file.insertText(first?.getStart() ?? 0, first ? `${guard};\n` : `${guard};\n\n`);
  return true;
}
