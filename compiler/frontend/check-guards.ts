/**
 * Node refuses the modules of the dialect: as ordinary TypeScript they would neither wrap nor trap. A module with functions
 * imports the guard, core/dialect.mjs, or uses a value of a module that Node refuses for it. An import of types alone is no
 * such use, since Node is not given it.
 */
import path from "node:path";
import { ts } from "./typescript.cjs";
import { type Diagnostic, refuse } from "../diagnostics.ts";
import { GUARD } from "../files.ts";
import type { Front } from "./front.ts";

export function checkGuards(front: Front): Diagnostic[] {
  const { program } = front;
  const refused = new Set<ts.SourceFile>(program.guarded);
  return program.modules.flatMap((module) => { // after those that it imports
    const isRefused = refused.has(module) || usesValueOf(front, module, importedBy(module), refused);
    const code = module.statements.find(hasCode);
    if (isRefused || code) refused.add(module); // those that import it have no need of more
    return code && !isRefused ? [refuse.unguarded(front.loc(code.name ?? code), guardFrom(module)).diagnostic] : [];
  });
}

function hasCode(node: ts.Statement): node is ts.FunctionDeclaration | ts.ClassDeclaration {
  return (ts.isFunctionDeclaration(node) && node.body !== undefined) || (ts.isClassDeclaration(node) && node.members.some(ts.isMethodDeclaration));
}

/** The names that a module imports. */
function importedBy(module: ts.SourceFile): Set<string> {
  return new Set(module.statements.filter(ts.isImportDeclaration).flatMap(({ importClause }) => {
    const names = importClause?.namedBindings;
    return names ? (ts.isNamespaceImport(names) ? [names] : [...names.elements]).map((one) => one.name.text) : [];
  }));
}

/** Whether a node uses a value, not only a type, that one of the modules declares, by one of the names. */
function usesValueOf(front: Front, node: ts.Node, names: ReadonlySet<string>, modules: ReadonlySet<ts.SourceFile>): boolean {
  if (ts.isTypeNode(node) || ts.isImportDeclaration(node)) return false;
  if (ts.isPropertyAccessExpression(node)) return usesValueOf(front, node.expression, names, modules); // a field's name is no use of its module
  if (!ts.isIdentifier(node)) return ts.forEachChild(node, (child) => usesValueOf(front, child, names, modules)) ?? false;
  if (!names.has(node.text)) return false;
  const file = front.declarationOf(node)?.getSourceFile();
  return file !== undefined && file !== node.getSourceFile() && modules.has(file);
}

/** How a module names the guard. */
function guardFrom(module: ts.SourceFile): string {
  const relative = path.relative(path.dirname(module.fileName), GUARD.replace(/\.d\.mts$/, ".mjs"));
  return relative.startsWith(".") ? relative : `./${relative}`;
}
