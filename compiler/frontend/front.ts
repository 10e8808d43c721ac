/** What the front end knows while it works: the program, the errors so far, and the declarations by symbol. */
import { ts } from "./typescript.cjs";
import { CONSEQUENCE, type Construct, type Diagnostic, Refusal, refuse } from "../diagnostics.ts";
import type { EnumDecl, Expr, Func, Local, Static, StructType, Type } from "../ir.ts";
import type { Loc } from "../source.ts";
import { type Instance, Instances, ROOT, instanceName } from "./instance.ts";
import type { SourceProgram } from "./program.ts";
import { Resolver } from "./resolve.ts";

/** What a name at module level stands for. */
export type Global =
  | { kind: "constant"; value: Expr }
  | { kind: "static"; static: Static }
  | { kind: "func"; func: Func };

/** What a name inside a function stands for. */
export type Binding = { kind: "constant"; value: Expr } | { kind: "local"; local: Local };

export class Front {
  readonly errors: Diagnostic[] = [];
  hasConsequences = false;
  readonly globals = new Map<ts.Node, Global>();
  readonly enums = new Map<ts.EnumDeclaration, EnumDecl>();
  /** Which types are records. */
  readonly recordDeclarations = new Map<ts.Node, boolean>();
  /** Structs, records and functions with what they were made for; what is not generic has one. */
  readonly instances = new Instances();
  /** Types in what is not generic; an instance has its own. */
  readonly types = new Map<ts.TypeNode, Type>();
  readonly laidOut = new Set<StructType>();
  /** Structs and constants that are being evaluated, to find definitions that go round. */
  readonly pendingStructs = new Set<StructType>();
  readonly pending = new Set<ts.Node>();
  readonly failed = new Map<ts.Node, Refusal>();
  /** Function bodies and assertions, for when everything is declared; instances add theirs. */
  readonly work: (() => void)[] = [];
  /** Functions whose bodies are in it, or were. */
  readonly queued = new Set<Func>();
  /** What is being declared or lowered. */
  instance: Instance = ROOT;
  private readonly resolver: Resolver;

  /** Names of bit fields, whatever struct they are in. */
  readonly bitNames: ReadonlySet<string>;

  constructor(readonly program: SourceProgram) {
    this.resolver = new Resolver(program);
    const members = program.modules.flatMap((module) => module.statements.filter(ts.isClassDeclaration)).flatMap((one) => [...one.members]);
    this.bitNames = new Set(members.filter(ts.isPropertyDeclaration).filter(isBits).map((member) => member.name.getText()));
  }

  loc(node: ts.Node): Loc {
    return this.program.loc(node);
  }

  refuse(node: ts.Node, construct: Construct): Refusal {
    return refuse.construct(this.loc(node), construct);
  }

  /** The symbol that a name stands for, through imports. */
  symbolOf(name: ts.Node): ts.Symbol | undefined {
    return this.resolver.symbolOf(name);
  }

  /** The declaration that a name stands for. */
  declarationOf(name: ts.Node): ts.Declaration | undefined {
    return this.resolver.declarationOf(name);
  }

  /** Runs `work`, in which type parameters mean what they do in the instance. */
  within<T>(instance: Instance, work: () => T): T {
    const outer = this.instance;
    if (outer === instance) return work();
    this.instance = instance;
    try {
      return work();
    } finally {
      this.instance = outer;
    }
  }

  /** Runs `work`; a refusal is recorded, once. */
  attempt<T>(work: () => T): T | undefined {
    try {
      return work();
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      this.record(error.diagnostic);
      return undefined;
    }
  }

  record(diagnostic: Diagnostic): void {
    if (diagnostic.code === CONSEQUENCE) {
      this.hasConsequences = true;
      return;
    }
    const known = this.errors.some((other) =>
      other.code === diagnostic.code && other.loc.source === diagnostic.loc.source && other.loc.start === diagnostic.loc.start);
    if (known) return;
    const { declaration, args } = this.instance;
    const name = declaration ? instanceName(ts.getNameOfDeclaration(declaration as ts.Declaration)?.getText() ?? "", args) : null;
    this.errors.push(name ? { ...diagnostic, message: `${diagnostic.message} (in ${name})` } : diagnostic);
  }
}

/** A function while its body is lowered; `func` is null in a constant expression. */
export interface Scope {
  readonly front: Front;
  readonly func: Func | null;
  readonly bindings: Map<ts.Node, Binding>;
  /** Declarations of variables whose address is taken somewhere in the function. */
  readonly addressed: Set<ts.Node>;
  /** Declarations of variables that are assigned after it. */
  readonly assigned: Set<ts.Node>;
}

/** The scope of an expression that has to be constant. */
export function constantScope(front: Front): Scope {
  return { front, func: null, bindings: new Map(), addressed: new Set(), assigned: new Set() };
}

/** Whether a member is declared as Bit or BitRange. */
export function isBits({ type }: ts.PropertyDeclaration): boolean {
  return type !== undefined && ts.isTypeReferenceNode(type) && /^Bit(Range)?$/.test(type.typeName.getText());
}

/** Whether a declaration's doc comment has `@tag`. */
export function hasTag(node: ts.Node, tag: string): boolean {
  return docOf(node).split(/\s+/).includes(`@${tag}`);
}

export function hasModifier(node: ts.Node, kind: ts.SyntaxKind): boolean {
  return ts.canHaveModifiers(node) && (ts.getModifiers(node)?.some((modifier) => modifier.kind === kind) ?? false);
}

/** First line of a declaration's doc comment, up to a tag. */
export function docLine(node: ts.Node): string {
  return docOf(node).split(/\n|(?<!\S)@/, 1)[0]!.trim();
}

/** The text of a declaration's doc comment, without stars. tsc would parse those of the whole program, and take a while. */
function docOf(node: ts.Node): string {
  const statement = ts.isVariableDeclaration(node) ? node.parent.parent : node;
  const { text } = node.getSourceFile();
  const comments = ts.getLeadingCommentRanges(text, statement.pos)?.map(({ pos, end }) => text.slice(pos, end)) ?? [];
  const doc = comments.findLast((comment) => comment.startsWith("/**")) ?? "";
  return doc.slice(3, -2).replace(/^\s*\*/gm, "").trim();
}
