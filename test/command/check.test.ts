import { describe, expect, it } from "vitest";
import { complaints, file, understudy } from "./command.ts";

type Dump = Record<string, bigint | number | string>;

const high = (...bits: number[]) => bits.reduce((mask, bit) => mask | (1n << BigInt(32 + bit)), 0n);
const low = (...bits: number[]) => bits.reduce((mask, bit) => mask | (1n << BigInt(bit)), 0n);

/** A CPU that has all that the VMM needs, as IA32_FEATURE_CONTROL and the VMX capability MSRs say it. */
function goodCpu(cpu: number): Dump {
  const msrs: Record<string, bigint> = {
    "3a": 5n,
    480: low(55),
    485: low(6, 8),
    "48b": high(1, 3, 5, 7, 12, 20),
    "48c": low(6, 14, 16, 17, 20, 25, 32, 41),
    "48d": high(6),
    "48e": high(25, 27, 28, 31),
    "48f": high(2, 9, 20, 21),
    490: high(2, 9, 15),
  };
  const dump: Dump = { [`cpu${cpu}.cr4`]: 0x3506e0 };
  for (const [msr, value] of Object.entries(msrs)) dump[`cpu${cpu}.msr.${msr}`] = value;
  return dump;
}

const goodMachine: Dump = {
  "cpuid.vendor": "GenuineIntel",
  "cpuid.1.ecx": low(5),
  "cpuid.7.ebx": low(10),
  "cpuid.d.1.eax": low(3),
  "cpuid.80000001.edx": low(26, 27, 29),
  "cpu.count": 2,
  "msr.source": "module",
  ...goodCpu(0),
  ...goodCpu(1),
};

/** The good machine with some keys changed; `undefined` leaves a key out. */
function machine(changes: Record<string, bigint | number | string | undefined> = {}): string {
  return Object.entries({ ...goodMachine, ...changes })
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => `${key} ${typeof value === "bigint" ? `0x${value.toString(16)}` : value}\n`)
    .join("");
}

const check = (dump: string, ...options: string[]) => understudy("check", "--from", file(dump), ...options);
const codes = (dump: string): string[] =>
  JSON.parse(check(dump, "--json").output).missing.map((missing: { code: string }) => missing.code);

const without = (key: string, bit: number) => ({ [key]: (goodMachine[key] as bigint) & ~(1n << BigInt(bit)) });

/** A CPU of AMD's that has all that the VMM needs. */
const amdMachine: Dump = {
  "cpuid.vendor": "AuthenticAMD",
  "cpuid.1.ecx": 0,
  "cpuid.80000001.ecx": low(2),
  "cpuid.80000001.edx": low(26, 27, 29),
  "cpuid.8000000a.ebx": 16,
  "cpuid.8000000a.edx": low(0),
  "cpu.count": 2,
  "msr.source": "module",
  "cpu0.cr4": 0x3506e0, "cpu0.msr.c0000080": 0xd01, "cpu0.msr.c0010114": 0,
  "cpu1.cr4": 0x3506e0, "cpu1.msr.c0000080": 0xd01, "cpu1.msr.c0010114": 0,
};

describe("check of an AMD machine", () => {
  const amd = (changes: Parameters<typeof machine>[0] = {}): string => machine({ ...Object.fromEntries(Object.keys(goodMachine).map((key) => [key, undefined])), ...amdMachine, ...changes });

  it("is content with one that has everything", () => {
    expect(check(amd())).toEqual({ exitCode: 0, output: "ready: 2 CPUs with AMD-V and nested paging\n", errors: "" });
  });

  it.each([
    { why: "no nested paging", changes: { "cpuid.8000000a.edx": 0 }, says: "AMD-V without nested paging: this CPU can't be captured" },
    { why: "too few ASIDs", changes: { "cpuid.8000000a.ebx": 2 }, says: "AMD-V with fewer than 3 address space identifiers: this CPU can't be captured" },
    { why: "AMD-V locked off", changes: { "cpu1.msr.c0010114": 0x18 }, says: "AMD-V is locked off in VM_CR (CPU 1): turn it on in the firmware's setup" },
    { why: "AMD-V off", changes: { "cpu0.msr.c0010114": 0x10 }, says: "AMD-V is off in VM_CR (CPU 0): turn it on in the firmware's setup" },
    { why: "an SVM that is in use", changes: { "cpu1.msr.c0000080": 0x1d01 }, says: "AMD-V is in use (EFER.SVME is set on CPU 1): stop its guests and unload kvm_amd" },
    { why: "KVM's guests", changes: { "kvm.users": 1 }, says: "KVM is in use (1 users of kvm_amd): stop its guests" },
    { why: "memory encryption", changes: { "cpu0.encrypts": 1 }, says: "the kernel encrypts its memory: boot with mem_encrypt=off" },
    { why: "no 1 GiB pages", changes: { "cpuid.80000001.edx": 0 }, says: "no 1 GiB pages (pdpe1gb): this CPU can't be captured" },
    { why: "MSRs that can't be read", changes: { "msr.source": "none" }, says: "AMD-V's details can't be read: run as root with understudy.ko or the msr module at hand" },
    { why: "being captured already", changes: { hypervisor: "Understudy" }, says: "captured already: an Understudy VMM is beneath this kernel: see understudy status" },
  ])("refuses $why in one line", ({ changes, says }) => {
    const run = check(amd(changes));
    expect([run.exitCode, complaints(run), run.output]).toEqual([1, [says], ""]);
  });
});

describe("check", () => {
  it("is content with a machine that has everything", () => {
    expect(check(machine())).toEqual({
      exitCode: 0,
      output: "ready: 2 CPUs with VT-x, EPT and unrestricted guest\n",
      errors: "",
    });
    expect(JSON.parse(check(machine(), "--json").output)).toEqual({ ready: true, cpus: 2, missing: [] });
  });

  it.each([
    ["none", "no IOMMU: not enforced is what a device reaches by DMA, which is all memory, whoever holds it"],
    ["vt-d", "IOMMU VT-d: devices reach only the memory of the instance that holds them\ninterrupts: devices reach only CPUs of the instance that holds them, where this kernel remaps interrupts"],
    ["amd-vi", "IOMMU AMD-Vi: devices reach only the memory of the instance that holds them\ninterrupts: devices of a second instance reach only its CPUs; this kernel may have its own reach any"],
  ])("says in a line or two what an IOMMU enforces (%s)", (iommu, says) => {
    const text = machine({ iommu });
    expect(check(text)).toEqual({ exitCode: 0, output: `ready: 2 CPUs with VT-x, EPT and unrestricted guest\n${says}\n`, errors: "" });
    expect(JSON.parse(check(text, "--json").output)).toEqual({ ready: true, cpus: 2, iommu, missing: [] });
  });

  it.each([
    ["vt-d", "scalable", "IOMMU VT-d is left to this kernel, since this kernel may use its scalable mode, but not with intel_iommu=sm_off; not enforced is what devices reach by DMA, and by interrupts"],
    ["vt-d", "segment", "IOMMU VT-d is left to this kernel, since it is for a PCI segment other than 0; not enforced is what devices reach by DMA, and by interrupts"],
    ["amd-vi", "buses", "IOMMU AMD-Vi is left to this kernel, since there are more PCI buses than the VMM has tables for; not enforced is what devices reach by DMA, and by interrupts"],
  ])("says in one line why one is not driven (%s, %s)", (iommu, limit, says) => {
    const text = machine({ iommu, "iommu.limit": limit });
    expect(check(text)).toEqual({ exitCode: 0, output: `ready: 2 CPUs with VT-x, EPT and unrestricted guest\n${says}\n`, errors: "" });
    expect(JSON.parse(check(text, "--json").output)).toEqual({ ready: true, cpus: 2, iommu, iommu_limit: limit, missing: [] });
  });

  it("can tell a dump again", () => {
    expect(check(machine(), "--dump").output).toBe(machine());
  });

  it("describes this machine in a dump that it can judge", () => {
    const dump = understudy("check", "--dump");
    expect(dump.exitCode).toBe(0);
    expect(check(dump.output, "--json").output).toBe(understudy("check", "--json").output);
  });

  it.each([
    { why: "no VT-x", changes: { "cpuid.1.ecx": 0 }, says: "no VT-x: CPUID does not show VMX" },
    {
      why: "another maker's CPU",
      changes: { "cpuid.1.ecx": 0, "cpuid.vendor": "CentaurHauls" },
      says: "no VT-x: an Intel or AMD CPU is needed, this one is CentaurHauls",
    },
    { why: "an AMD CPU without AMD-V", changes: { "cpuid.1.ecx": 0, "cpuid.vendor": "AuthenticAMD" }, says: "no AMD-V: CPUID does not show SVM" },
    {
      why: "a hypervisor that does not nest",
      changes: { "cpuid.1.ecx": low(31), hypervisor: "Microsoft Hv" },
      says: "beneath a hypervisor (Microsoft Hv) that shows neither VT-x nor AMD-V: turn nesting on there",
    },
    {
      why: "being captured already",
      changes: { hypervisor: "Understudy" },
      says: "captured already: an Understudy VMM is beneath this kernel: see understudy status",
    },
    {
      why: "VT-x locked off",
      changes: { "cpu1.msr.3a": 1 },
      says: "VT-x is locked off in IA32_FEATURE_CONTROL (CPU 1): turn it on in the firmware's setup",
    },
    {
      why: "VT-x not locked on",
      changes: { "cpu0.msr.3a": 4 },
      says: "IA32_FEATURE_CONTROL is not locked (CPU 0): the firmware or kernel must turn VT-x on and lock it",
    },
    {
      why: "a VMX that is in use",
      changes: { "cpu1.cr4": 0x2000 },
      says: "VT-x is in use (CR4.VMXE is set on CPU 1): stop its guests and unload kvm_intel",
    },
    { why: "KVM's guests", changes: { "kvm.users": 3 }, says: "KVM is in use (3 users of kvm_intel): stop its guests" },
    {
      why: "no 1 GiB pages",
      changes: without("cpuid.80000001.edx", 26),
      says: "no 1 GiB pages (pdpe1gb): this CPU can't be captured",
    },
    {
      why: "too many CPUs",
      changes: { "cpu.count": 33 },
      says: "33 CPUs are more than 32: boot with maxcpus=32",
    },
    {
      why: "MSRs that can't be read",
      changes: { "msr.source": "none" },
      says: "VT-x's details can't be read: run as root with understudy.ko or the msr module at hand",
    },
  ])("refuses $why in one line", ({ changes, says }) => {
    const run = check(machine(changes));
    expect(run.exitCode).toBe(1);
    expect(complaints(run)).toEqual([says]);
    expect(run.output).toBe("");
  });

  it.each([
    { code: "true-controls", key: "cpu0.msr.480", bit: 55 },
    { code: "preemption-timer", key: "cpu0.msr.48d", bit: 38 },
    { code: "io-bitmaps", key: "cpu0.msr.48e", bit: 57 },
    { code: "monitor-trap-flag", key: "cpu0.msr.48e", bit: 59 },
    { code: "msr-bitmaps", key: "cpu0.msr.48e", bit: 60 },
    { code: "secondary-controls", key: "cpu0.msr.48e", bit: 63 },
    { code: "ept", key: "cpu0.msr.48b", bit: 33 },
    { code: "rdtscp", key: "cpu0.msr.48b", bit: 35 },
    { code: "vpid", key: "cpu0.msr.48b", bit: 37 },
    { code: "unrestricted-guest", key: "cpu0.msr.48b", bit: 39 },
    { code: "invpcid", key: "cpu0.msr.48b", bit: 44 },
    { code: "xsaves", key: "cpu0.msr.48b", bit: 52 },
    { code: "exit-debug", key: "cpu0.msr.48f", bit: 34 },
    { code: "exit-64-bit", key: "cpu0.msr.48f", bit: 41 },
    { code: "exit-save-efer", key: "cpu0.msr.48f", bit: 52 },
    { code: "exit-load-efer", key: "cpu0.msr.48f", bit: 53 },
    { code: "entry-debug", key: "cpu0.msr.490", bit: 34 },
    { code: "entry-64-bit", key: "cpu0.msr.490", bit: 41 },
    { code: "entry-load-efer", key: "cpu0.msr.490", bit: 47 },
    { code: "activity-hlt", key: "cpu0.msr.485", bit: 6 },
    { code: "activity-sipi", key: "cpu0.msr.485", bit: 8 },
    { code: "ept-4-levels", key: "cpu0.msr.48c", bit: 6 },
    { code: "ept-write-back", key: "cpu0.msr.48c", bit: 14 },
    { code: "ept-2m", key: "cpu0.msr.48c", bit: 16 },
    { code: "ept-1g", key: "cpu0.msr.48c", bit: 17 },
    { code: "invept", key: "cpu0.msr.48c", bit: 20 },
    { code: "invept-single", key: "cpu0.msr.48c", bit: 25 },
    { code: "invvpid", key: "cpu0.msr.48c", bit: 32 },
    { code: "invvpid-single", key: "cpu0.msr.48c", bit: 41 },
  ])("refuses VT-x without $code", ({ code, key, bit }) => {
    expect(codes(machine(without(key, bit)))).toEqual([code]);
    expect(codes(machine(without(key.replace("cpu0", "cpu1"), bit)))).toEqual([code]);
  });

  it("needs controls only for instructions that the CPU has", () => {
    const old = { "cpuid.7.ebx": 0, "cpuid.d.1.eax": 0, "cpuid.80000001.edx": low(26) };
    const secondary = { "cpu0.msr.48b": high(1, 5, 7), "cpu1.msr.48b": high(1, 5, 7) };
    expect(codes(machine({ ...old, ...secondary }))).toEqual([]);
    expect(codes(machine(secondary))).toEqual(["rdtscp", "invpcid", "xsaves"]);
  });

  it("says everything that is missing, a line each", () => {
    const run = check(machine({ ...without("cpu0.msr.48b", 39), ...without("cpuid.80000001.edx", 26), "cpu0.cr4": 0x2000 }));
    expect(run.exitCode).toBe(1);
    expect(complaints(run)).toHaveLength(3);
  });

  it("refuses a file that is no dump", () => {
    const path = file("hello\n");
    expect(complaints(understudy("check", "--from", path))).toEqual([`--from ${path}: line 1 is not \`key value\``]);
    const other = file("# nothing of use\nsome words\n");
    expect(complaints(understudy("check", "--from", other))).toEqual([
      `--from ${other}: not a dump: it says nothing of cpuid.1.ecx`,
    ]);
    expect(complaints(understudy("check", "--from", "/nowhere"))).toEqual(["--from /nowhere: No such file or directory"]);
  });
});
