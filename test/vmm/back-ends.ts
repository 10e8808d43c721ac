/** The VMM's two back ends, for tests whose subject is neither: `describe.each(backEnds)("…, on %s", (_name, Kind) => …)`. */
import type { Program } from "../../compiler/ir.ts";
import { SvmVmm } from "./svm.ts";
import { Vmm, compileVmm } from "./vmm.ts";

export type BackEnd = typeof Vmm | typeof SvmVmm;

export const backEnds: [name: string, Kind: BackEnd][] = [["VT-x", Vmm], ["AMD-V", SvmVmm]];

/** The whole VMM, compiled for a back end's processors. */
export function programOf(Kind: BackEnd): Program {
  return compileVmm(["entry/main.ts"], Kind === Vmm ? "tsconfig.json" : "tsconfig.svm.json");
}
