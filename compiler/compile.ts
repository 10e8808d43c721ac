/** The compiler from end to end: front end, checks on the whole program, what is reachable, names. */
import { checkEscape } from "./check-escape.ts";
import { callGraph, checkRecursion } from "./check-recursion.ts";
import type { Diagnostic } from "./diagnostics.ts";
import { fillTables } from "./evaluate.ts";
import type { Base } from "./frontend/carry.ts";
import { checkGuards } from "./frontend/check-guards.ts";
import type { Input } from "./frontend/program.ts";
import { lowerProgram } from "./frontend/lower-module.ts";
import type { Program } from "./ir.ts";
import { assignNames } from "./names.ts";
import { type Roots, keepReachable } from "./reachability.ts";

export interface Compiled {
  program: Program;
  errors: Diagnostic[];
}

export function compile(input: Input, roots: Roots): Compiled {
  return new Session(input, roots).compile();
}

/** Compiles again and again; what has not changed since the last time without errors is not compiled again. */
export class Session {
  private base: Base | null = null;

  constructor(private readonly input: Input, private readonly roots: Roots) {}

  compile(): Compiled {
    const { program, errors, base } = lowerProgram(this.input, this.base);
    this.base = base;
    if (errors.length > 0) return { program, errors };
    const unguarded = (this.input.guarded ?? this.roots === "entries") ? checkGuards(base!.front) : [];
    if (unguarded.length > 0) return { program, errors: unguarded };
    const graph = callGraph(program);
    const recursion = checkRecursion(graph);
    if (recursion.length > 0) return { program, errors: recursion };
    const escapes = checkEscape(graph);
    if (escapes.length > 0) return { program, errors: escapes };
    const failed = fillTables(program, graph);
    if (failed.length > 0) return { program, errors: failed };
    const kept = keepReachable(program, graph, this.roots);
    assignNames(kept);
    return { program: kept, errors: [] };
  }

  /** The files that the last good compilation read. */
  get files(): string[] {
    return this.base?.front.program.modules.map((module) => module.fileName) ?? [];
  }
}
