import type { ts } from "./typescript.cjs";
import type { Site } from "../ir.ts";
import type { Scope } from "./front.ts";

/** A place in the source where a check may fail. */
export function site(scope: Scope, node: ts.Node, what: string): Site {
  return { loc: scope.front.loc(node), what, id: -1 };
}
