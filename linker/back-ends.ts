/** The kinds of processors that the VMM is built for: one image each. */
export interface BackEnd {
  /** Of its folder in vmm-src/cpu and boot, and of its image. */
  name: "vmx" | "svm";
  /** Resolves #processor/…. */
  project: string;
  /** Its assembly. */
  assembly: string[];
  /** Functions of its assembly that call nothing: their return address is all that they use of the stack. */
  leaves: string[];
  /** Others, `name=bytes`. */
  callees: string[];
}

export const backEnds: BackEnd[] = [
  { name: "vmx", project: "vmm-src/tsconfig.json", assembly: ["exit", "nmi", "release"], leaves: ["exitStub", "nmiStub", "releaseNmiStub"], callees: [] },
  { name: "svm", project: "vmm-src/tsconfig.svm.json", assembly: ["exit", "nmi", "release", "paging"], leaves: ["nmiStub"], callees: ["waitForNmi=56"] },
];
