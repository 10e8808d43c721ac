/** What names stand for: tsc knows. It looks a name up anew each time it is asked, so it is asked as seldom as possible. */
import { ts } from "./typescript.cjs";

export class Resolver {
  private readonly known = new Map<ts.Node, ts.Declaration | undefined>();
  /** Of each module, what its names mean where nothing inside a statement hides them. */
  private readonly inModules = new Map<ts.Node, Map<string, ts.Declaration | undefined>>();
  /** Names that are declared inside a statement of a module. */
  private readonly inStatements = new Map<ts.Node, Set<string>>();

  constructor(private readonly checker: ts.TypeChecker) {}

  /** The symbol that a name stands for, through imports. */
  symbolOf(name: ts.Node): ts.Symbol | undefined {
    // In `{ size }` the name is a property to tsc; what it stands for is the variable.
    const isShorthand = ts.isShorthandPropertyAssignment(name.parent) && name.parent.name === name;
    const symbol = isShorthand ? this.checker.getShorthandAssignmentValueSymbol(name.parent) : this.checker.getSymbolAtLocation(name);
    return symbol && symbol.flags & ts.SymbolFlags.Alias ? this.checker.getAliasedSymbol(symbol) : symbol;
  }

  /** The declaration that a name stands for. */
  declarationOf(name: ts.Node): ts.Declaration | undefined {
    if (!this.known.has(name)) this.known.set(name, ts.isIdentifier(name) && isFree(name) ? this.lookUp(name) : this.ask(name));
    return this.known.get(name);
  }

  private ask(name: ts.Node): ts.Declaration | undefined {
    return this.symbolOf(name)?.declarations?.[0];
  }

  private lookUp(name: ts.Identifier): ts.Declaration | undefined {
    let statement: ts.Node = name;
    while (!ts.isSourceFile(statement.parent)) statement = statement.parent;
    if (this.declaredIn(statement).has(name.text)) return this.ask(name);
    const module = this.inModules.get(statement.parent) ?? new Map<string, ts.Declaration | undefined>();
    this.inModules.set(statement.parent, module);
    const key = `${spaceOf(name)} ${name.text}`;
    if (!module.has(key)) module.set(key, this.ask(name));
    return module.get(key);
  }

  private declaredIn(statement: ts.Node): Set<string> {
    let names = this.inStatements.get(statement);
    if (!names) {
      names = new Set();
      addDeclared(statement, names);
      this.inStatements.set(statement, names);
    }
    return names;
  }
}

/** Whether an identifier is looked up in what surrounds it: it is not the name of a declaration, nor what follows a dot. */
function isFree(name: ts.Identifier): boolean {
  const { parent } = name;
  return !("name" in parent && parent.name === name) && !(ts.isQualifiedName(parent) && parent.right === name);
}

/** Types, namespaces and values may have the same name. */
function spaceOf({ parent }: ts.Identifier): string {
  return ts.isTypeReferenceNode(parent) ? "type" : ts.isQualifiedName(parent) ? "namespace" : "value";
}

/** The names that are declared in a node, at any depth; expressions and types of the dialect declare none. */
function addDeclared(node: ts.Node, names: Set<string>): void {
  ts.forEachChild(node, (child) => {
    if (ts.isExpression(child) || ts.isTypeNode(child)) return;
    const name = ts.getNameOfDeclaration(child as ts.Declaration);
    if (name && ts.isIdentifier(name)) names.add(name.text);
    addDeclared(child, names);
  });
}
