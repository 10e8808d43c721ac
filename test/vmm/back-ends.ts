/** The VMM's two back ends, for tests whose subject is neither: `describe.each(backEnds)("…, on %s", (_name, Kind) => …)`. */
import { SvmVmm } from "./svm.ts";
import { Vmm } from "./vmm.ts";

export type BackEnd = typeof Vmm | typeof SvmVmm;

export const backEnds: [name: string, Kind: BackEnd][] = [["VT-x", Vmm], ["AMD-V", SvmVmm]];
