/** Where the storage of a program and of a function lies in the simulated memory. */
import { type Func, type Local, type Static, isAggregate } from "../ir.ts";
import { alignOf, alignUp, sizeOf } from "../layout.ts";
import { visitStatements } from "../walk.ts";

export interface Frame {
  /** Offsets of the locals that live in memory. */
  readonly offsets: Map<Local, number>;
  readonly size: number;
  readonly align: number;
}

/** Statics one after the other, from `base`. */
export function placeStatics(statics: Static[], base: number): Map<Static, number> {
  const addresses = new Map<Static, number>();
  let next = base;
  for (const one of statics) {
    next = alignUp(next, Math.max(one.align, alignOf(one.type)));
    addresses.set(one, next);
    next += sizeOf(one.type);
  }
  return addresses;
}

export function frameOf(func: Func): Frame {
  const offsets = new Map<Local, number>();
  let size = 0;
  let align = 16;
  const add = (local: Local): void => {
    if (!local.addressed && !isAggregate(local.type)) return;
    const own = Math.max(local.align, alignOf(local.type));
    align = Math.max(align, own);
    offsets.set(local, alignUp(size, own));
    size = offsets.get(local)! + sizeOf(local.type);
  };
  func.params.forEach(add);
  visitStatements(func.body ?? [], (stmt) => {
    if (stmt.kind === "let") add(stmt.local);
  });
  return { offsets, size: alignUp(size, align), align };
}
