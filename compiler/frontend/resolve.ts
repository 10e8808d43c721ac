/**
 * What names stand for. The dialect's scopes are few, and found here: tsc looks a name up anew each time it is asked, and
 * takes a tenth of a compilation for it. What they leave open is tsc's: members of values, names that nobody declares.
 */
import { ts } from "./typescript.cjs";
import type { SourceProgram } from "./program.ts";

/** Types and values may have the same name; enumerations and classes are both. */
type Space = "type" | "value";
type Names = Readonly<Record<Space, Map<string, ts.Declaration>>>;

export class Resolver {
  private readonly known = new Map<ts.Node, ts.Declaration | undefined>();
  private readonly scopes = new Map<ts.Node, Names>();

  constructor(private readonly program: SourceProgram) {}

  /** The symbol that a name stands for, through imports. */
  symbolOf(name: ts.Node): ts.Symbol | undefined {
    // In `{ size }` the name is a property to tsc; what it stands for is the variable.
    const isShorthand = ts.isShorthandPropertyAssignment(name.parent) && name.parent.name === name;
    const symbol = isShorthand ? this.program.checker.getShorthandAssignmentValueSymbol(name.parent) : this.program.checker.getSymbolAtLocation(name);
    return symbol && symbol.flags & ts.SymbolFlags.Alias ? this.program.checker.getAliasedSymbol(symbol) : symbol;
  }

  /** The declaration that a name stands for, through imports; that of a module is its file. */
  declarationOf(name: ts.Node): ts.Declaration | undefined {
    if (!this.known.has(name)) this.known.set(name, this.find(name) ?? this.symbolOf(name)?.declarations?.[0]);
    return this.known.get(name);
  }

  private find(name: ts.Node): ts.Declaration | undefined {
    if (!ts.isIdentifier(name)) return undefined;
    const { parent } = name;
    if (ts.isPropertyAccessExpression(parent) && parent.name === name) return this.findMember(parent.expression, name.text);
    const space = spaceOf(name);
    if (!space) return undefined;
    for (let scope: ts.Node = parent; scope; scope = scope.parent) {
      const found = this.namesIn(scope)[space].get(name.text);
      if (found) return this.throughImport(found, space);
    }
    return this.namesIn(this.program.core)[space].get(name.text);
  }

  /** `Enumeration.member`, `module.name`. */
  private findMember(owner: ts.Expression, name: string): ts.Declaration | undefined {
    const declaration = this.find(ts.isPropertyAccessExpression(owner) ? owner.name : owner);
    if (!declaration) return undefined;
    if (ts.isSourceFile(declaration)) return this.exported(declaration, name, "value");
    return ts.isEnumDeclaration(declaration) ? this.namesIn(declaration).value.get(name) : undefined;
  }

  private throughImport(found: ts.Declaration, space: Space): ts.Declaration | undefined {
    if (ts.isNamespaceImport(found)) return this.program.targets.get(found.parent.parent.moduleSpecifier);
    if (!ts.isImportSpecifier(found)) return found;
    const target = this.program.targets.get(found.parent.parent.parent.moduleSpecifier);
    return target && this.exported(target, (found.propertyName ?? found.name).text, space);
  }

  /** What a module exports where it declares it. */
  private exported(module: ts.SourceFile, name: string, space: Space): ts.Declaration | undefined {
    const found = this.namesIn(module)[space].get(name);
    return found && ts.getCombinedModifierFlags(found) & ts.ModifierFlags.Export ? found : undefined;
  }

  private namesIn(scope: ts.Node): Names {
    let names = this.scopes.get(scope);
    if (!names) {
      const declarations = declarationsIn(scope);
      if (!declarations) return NONE;
      names = namesOf(declarations);
      this.scopes.set(scope, names);
    }
    return names;
  }
}

const NONE: Names = { type: new Map(), value: new Map() };

/** Where an identifier is looked up; null if it is not looked up in what surrounds it, or in another way. */
function spaceOf(name: ts.Identifier): Space | null {
  const { parent } = name;
  const isOther = ("name" in parent && parent.name === name) || ts.isQualifiedName(parent) || ts.isImportSpecifier(parent) || ts.isExportSpecifier(parent);
  if (isOther) return null;
  return ts.isTypeReferenceNode(parent) ? "type" : "value";
}

/** What is declared in a scope itself, not in those inside it; null for other nodes. */
function declarationsIn(node: ts.Node): readonly ts.Node[] | null {
  switch (node.kind) {
    case ts.SyntaxKind.SourceFile:
    case ts.SyntaxKind.Block:
      return (node as ts.Block | ts.SourceFile).statements.flatMap(declaredBy);
    case ts.SyntaxKind.CaseBlock:
      return (node as ts.CaseBlock).clauses.flatMap((clause) => clause.statements.flatMap(declaredBy));
    case ts.SyntaxKind.ForStatement:
    case ts.SyntaxKind.ForOfStatement:
    case ts.SyntaxKind.ForInStatement: {
      const { initializer } = node as ts.ForStatement | ts.ForInOrOfStatement;
      return initializer && ts.isVariableDeclarationList(initializer) ? initializer.declarations : null;
    }
    case ts.SyntaxKind.FunctionDeclaration:
    case ts.SyntaxKind.MethodDeclaration:
    case ts.SyntaxKind.MethodSignature: {
      const { parameters, typeParameters = [] } = node as ts.FunctionDeclaration | ts.MethodDeclaration | ts.MethodSignature;
      return [...parameters, ...typeParameters];
    }
    case ts.SyntaxKind.ClassDeclaration:
    case ts.SyntaxKind.InterfaceDeclaration:
    case ts.SyntaxKind.TypeAliasDeclaration:
      return (node as ts.ClassDeclaration | ts.InterfaceDeclaration | ts.TypeAliasDeclaration).typeParameters ?? null;
    case ts.SyntaxKind.EnumDeclaration: return (node as ts.EnumDeclaration).members;
    default: return null;
  }
}

function declaredBy(statement: ts.Statement): readonly ts.Node[] {
  if (ts.isVariableStatement(statement)) return statement.declarationList.declarations;
  if (!ts.isImportDeclaration(statement)) return [statement];
  const bindings = statement.importClause?.namedBindings;
  return bindings ? (ts.isNamespaceImport(bindings) ? [bindings] : bindings.elements) : [];
}

function namesOf(declarations: readonly ts.Node[]): Names {
  const names: Names = { type: new Map(), value: new Map() };
  for (const declaration of declarations as readonly ts.Declaration[]) {
    const name = ts.getNameOfDeclaration(declaration);
    if (!name || !ts.isIdentifier(name)) continue;
    for (const space of spacesOf(declaration)) if (!names[space].has(name.text)) names[space].set(name.text, declaration);
  }
  return names;
}

function spacesOf(declaration: ts.Declaration): readonly Space[] {
  if (ts.isInterfaceDeclaration(declaration) || ts.isTypeAliasDeclaration(declaration) || ts.isTypeParameterDeclaration(declaration)) return ["type"];
  if (ts.isVariableDeclaration(declaration) || ts.isParameter(declaration) || ts.isFunctionDeclaration(declaration)) return ["value"];
  return ["type", "value"];
}
