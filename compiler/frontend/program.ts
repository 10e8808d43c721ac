/** The TypeScript program: files, its own diagnostics, and the modules in the order of their dependence. */
import fs from "node:fs";
import path from "node:path";
import { ts } from "./typescript.cjs";
import { type Diagnostic, refuse } from "../diagnostics.ts";
import { CORE, GUARD } from "../files.ts";
import { type Loc, Source } from "../source.ts";

const OPTIONS = {
  noLib: true,
  strict: true,
  strictPropertyInitialization: false,
  noEmit: true,
  target: ts.ScriptTarget.ES2022,
  module: ts.ModuleKind.ESNext,
  moduleResolution: ts.ModuleResolutionKind.Bundler,
  allowImportingTsExtensions: true,
  noImplicitReturns: true,
  noFallthroughCasesInSwitch: true,
  types: [],
} satisfies ts.CompilerOptions;

export interface Input {
  entries: string[];
  /** The tsconfig.json whose `paths` say what an alias such as "#processor/…" stands for; else the nearest one above the first entry. */
  project?: string;
  /** Whether each module with functions has to be one that Node refuses; where only entries are roots it has. */
  guarded?: boolean;
  /** Texts that stand in for files, by absolute path. */
  overlay?: Map<string, string>;
}

export class SourceProgram {
  readonly checker: ts.TypeChecker;
  /** Imported modules before those that import them. */
  readonly modules: ts.SourceFile[] = [];
  readonly imports = new Map<ts.SourceFile, ts.SourceFile[]>();
  /** The modules that the specifiers of imports name. */
  readonly targets = new Map<ts.Expression, ts.SourceFile>();
  /** Modules that import what Node refuses them by. */
  readonly guarded = new Set<ts.SourceFile>();
  private readonly program: ts.Program;
  readonly core: ts.SourceFile;
  private readonly sources = new Map<ts.SourceFile, Source>();
  private readonly aliases: string[];

  /** `before` lends what has not changed since. */
  constructor(input: Input, before?: SourceProgram) {
    const entries = input.entries.map((entry) => path.resolve(entry));
    const paths = readPaths(input.project ?? nearestProject(entries[0]));
    this.aliases = Object.keys(paths).map((pattern) => pattern.replace(/\*$/, ""));
    const options: ts.CompilerOptions = { ...OPTIONS, paths };
    this.program = ts.createProgram([CORE, ...entries], options, overlayHost(input.overlay, before?.program), before?.program);
    this.checker = this.program.getTypeChecker();
    this.core = this.program.getSourceFile(CORE)!;
    for (const entry of entries) {
      const file = this.program.getSourceFile(entry);
      if (!file) throw new Error(`cannot read ${entry}`);
      this.visitModule(file, []);
    }
  }

  isCore(node: ts.Node): boolean {
    return node.getSourceFile() === this.core;
  }

  loc(node: ts.Node): Loc {
    return { source: this.sourceOf(node.getSourceFile()), start: node.getStart(), end: node.getEnd() };
  }

  moduleName(file: ts.SourceFile): string {
    return path.basename(file.fileName).replace(/\.ts$/, "").replace(/\W/g, "_");
  }

  syntaxErrors(): Diagnostic[] {
    return this.translate(this.program.getSyntacticDiagnostics());
  }

  typeErrors(files: readonly ts.SourceFile[]): Diagnostic[] {
    return this.translate(files.flatMap((file) => this.program.getSemanticDiagnostics(file)));
  }

  /** What tsc misses without saying where: it follows from what the dialect leaves out. */
  globalErrors(): string[] {
    return this.program.getGlobalDiagnostics().map((diagnostic) => ts.flattenDiagnosticMessageText(diagnostic.messageText, "\n"));
  }

  private visitModule(file: ts.SourceFile, path: ts.SourceFile[]): void {
    if (this.imports.has(file)) return;
    const imports: ts.SourceFile[] = [];
    for (const statement of file.statements) {
      if (!ts.isImportDeclaration(statement) && !ts.isExportDeclaration(statement)) continue;
      const specifier = statement.moduleSpecifier;
      if (!specifier || !ts.isStringLiteral(specifier)) continue;
      const target = this.resolve(specifier);
      if (target?.fileName === GUARD) {
        this.guarded.add(file);
        continue;
      }
      if (![".", ...this.aliases].some((start) => specifier.text.startsWith(start))) throw refuse.importPath(this.loc(specifier));
      if (!target) continue; // tsc says so
      this.targets.set(specifier, target);
      imports.push(target);
      const cycleStart = [...path, file].indexOf(target);
      if (cycleStart >= 0) {
        const cycle = [...path, file].slice(cycleStart).concat(target);
        throw refuse.moduleCycle(this.loc(specifier), cycle.map((module) => this.moduleName(module)));
      }
      this.visitModule(target, [...path, file]);
    }
    this.imports.set(file, imports);
    this.modules.push(file);
  }

  private resolve(specifier: ts.StringLiteral): ts.SourceFile | undefined {
    const symbol = this.checker.getSymbolAtLocation(specifier);
    return symbol?.declarations?.find(ts.isSourceFile);
  }

  private sourceOf(file: ts.SourceFile): Source {
    let source = this.sources.get(file);
    if (!source) {
      source = new Source(path.relative(process.cwd(), file.fileName), file.text);
      this.sources.set(file, source);
    }
    return source;
  }

  private translate(diagnostics: readonly ts.Diagnostic[]): Diagnostic[] {
    return diagnostics.flatMap((diagnostic) => {
      const chain = diagnostic.messageText;
      const whole = typeof chain === "string" ? chain : chain.messageText;
      const message = whole.replace(/ Do you need to .*/, ""); // install types, change `lib`: there is none
      if (!diagnostic.file) return [];
      const start = diagnostic.start ?? 0;
      const loc = { source: this.sourceOf(diagnostic.file), start, end: start + (diagnostic.length ?? 1) };
      return { code: `TS${diagnostic.code}`, message, instead: flavourAdvice(message, loc), loc };
    });
  }
}

function nearestProject(entry: string | undefined): string | undefined {
  return entry && ts.findConfigFile(path.dirname(entry), fs.existsSync);
}

/** `compilerOptions.paths` of a tsconfig.json, or of one that it extends; its targets absolute. */
function readPaths(project: string | undefined): ts.MapLike<string[]> {
  if (!project) return {};
  const { config } = ts.readConfigFile(project, (name) => fs.readFileSync(name, "utf8")) as { config?: { extends?: string; compilerOptions?: { paths?: ts.MapLike<string[]> } } };
  const folder = path.dirname(path.resolve(project));
  const paths = config?.compilerOptions?.paths;
  if (!paths) return config?.extends ? readPaths(path.join(folder, config.extends)) : {};
  return Object.fromEntries(Object.entries(paths).map(([pattern, targets]) => [pattern, targets.map((target) => path.resolve(folder, target))]));
}

/** tsc says that flavours differ; we say how to convert. */
function flavourAdvice(message: string, loc: Loc): string | undefined {
  const match = /type '([ui]\d+)' is not assignable to (?:parameter of )?type '([ui]\d+)'/i.exec(message);
  if (!match) return undefined;
  const text = loc.source.text.slice(loc.start, loc.end);
  const target = match[2]!;
  if (!/^[\w.[\]()]+$/.test(text)) return `${target}(…)`;
  return `${target}(${text}), which traps if it does not fit, or wrap${target.toUpperCase()}(${text}), which keeps the low bits`;
}

function overlayHost(overlay: Map<string, string> | undefined, before: ts.Program | undefined): ts.CompilerHost {
  const host = ts.createCompilerHost(OPTIONS);
  const read = (name: string): string | undefined => {
    const text = overlay?.get(name);
    if (text !== undefined) return text;
    try {
      return fs.readFileSync(name, "utf8");
    } catch {
      return undefined;
    }
  };
  host.fileExists = (name) => overlay?.has(name) || fs.existsSync(name);
  host.readFile = read;
  host.jsDocParsingMode = ts.JSDocParsingMode.ParseNone; // front.ts reads the few that matter
  host.getSourceFile = (name, options) => {
    const text = read(name);
    if (text === undefined) return undefined;
    const known = before?.getSourceFile(name) ?? parsed.get(name);
    if (known?.text === text) return known;
    const file = ts.createSourceFile(name, text, options); // the checker sets the parents
    parsed.set(name, file);
    return file;
  };
  return host;
}

/** The last parse of each file: a process that compiles many programs has the core library and much else in common. */
const parsed = new Map<string, ts.SourceFile>();

