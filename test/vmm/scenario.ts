/** Two instances on the simulated machine, and what their kernels do there. */
import { GIB, MIB, bytes, writeKernel } from "./firmware.ts";
import { KERNEL_CR3, OK, RAX, RBX, Reason, Vmm, type VmmOptions } from "./vmm.ts";

export const HYPERCALL = {
  ATTACH: 0x55530001, RELEASE_BEGIN: 0x55530002, RELEASE: 0x55530003, STATUS: 0x55530004, EVENTS: 0x55530005, CONSOLE_READ: 0x55530006,
  CONSOLE_WRITE: 0x55530007, BOOT: 0x55530008, STOP: 0x55530009, TAKE: 0x5553000a, GIVE_BACK: 0x5553000b, HIDE: 0x5553000c, EJECT: 0x5553000d, DEVIRTUALIZE: 0x5553000e,
  WEIGHT: 0x55530010, PAUSE: 0x55530011,
};

/** The second instance's range, and where its kernel is staged in it. */
export const BASE = GIB + 256n * MIB;
export const SIZE = 256n * MIB;
export const LOAD = BASE + 64n * MIB;
/** A buffer of the first instance's, page aligned. */
export const BUFFER = 0x2200_0000n;
/** Where each instance's kernel has the code that touches devices. */
const CODE = [0n, 0x210_0000n, BASE + 32n * MIB] as const;

export interface Request { memoryBase?: bigint; memorySize?: bigint; kernelAddress?: bigint; kernelSize?: bigint; initrdAddress?: bigint; initrdSize?: bigint; cpuMask?: bigint; shareMask?: bigint; weight?: number; commandLine?: string; functionCount?: number; functions?: number[] }

/** Writes a request that is right in everything but `changes`, kernel and all. */
export function writeRequest(vmm: Vmm, changes: Request = {}, at = BUFFER): void {
  const kernelAddress = writeKernel(vmm.machine, LOAD);
  vmm.machine.memory.writeBytes(at, new Uint8Array(2184));
  const { commandLine, functions = [], ...fields } = {
    memoryBase: BASE, memorySize: SIZE, kernelAddress, kernelSize: 8n * MIB, initrdAddress: BASE + 200n * MIB, initrdSize: 20n * MIB, cpuMask: 0b10n, shareMask: 0n, weight: 1, commandLine: "console=ttyS0", ...changes,
  };
  const request = vmm.view("BootRequest", at);
  Object.assign(request, fields);
  functions.forEach((bdf, i) => vmm.machine.memory.write(request.bdf + BigInt(2 * i), 2, BigInt(bdf)));
  vmm.machine.memory.writeBytes(request.commandLine, bytes(commandLine));
}

/** What the kernel on a processor is answered when it asks for a second instance. */
export function boot(vmm: Vmm, changes: Request = {}, cpu = 0): number {
  writeRequest(vmm, changes);
  return vmm.hypercall(cpu, HYPERCALL.BOOT, { rdi: BUFFER, rsi: 2184n });
}

/** A captured machine on which a second instance runs on the processors in `cpuMask`. */
export function booted(options: VmmOptions = {}, cpuMask = 0b10n, Kind = Vmm): Vmm {
  return bootBeside(Kind.captured(options), cpuMask);
}

/** The same on a machine that is captured already. */
export function bootBeside<Kind extends Vmm>(vmm: Kind, cpuMask: bigint): Kind {
  mapKernel(vmm);
  const result = boot(vmm, { cpuMask });
  if (result !== OK) throw new Error(`boot refused: ${result}`);
  return vmm;
}

/** Gives the first kernel page tables: all memory at its own address, in pages of 1 GiB. */
export function mapKernel(vmm: Vmm): void {
  const { memory } = vmm.machine;
  memory.write(KERNEL_CR3, 8, (KERNEL_CR3 + 0x1000n) | 3n);
  for (let i = 0n; i < 512n; i++) memory.write(KERNEL_CR3 + 0x1000n + 8n * i, 8, (i << 30n) | 0x83n);
}

/** The kernel on a processor executes an instruction that the memory map does not let through. */
export function touch(vmm: Vmm, cpu: number, physical: bigint, code: number[], instance = vmm.vcpu(cpu).instance as 1 | 2): void {
  vmm.machine.memory.writeBytes(CODE[instance], Uint8Array.from(code));
  vmm.write(cpu, "GUEST_RIP", CODE[instance]);
  if (isApicPage(physical) && vmm.readsApic(cpu, TPR) !== null) {
    vmm.exit(cpu, Reason.APIC_ACCESS, { qualification: physical & 0xfffn, length: code.length });
    return;
  }
  vmm.exit(cpu, Reason.EPT_VIOLATION, { physical, qualification: 0x182n, length: code.length });
}

const TPR = 0x80;
const isApicPage = (physical: bigint): boolean => physical >> 12n === 0xfee00n;

/** mov [rbx], eax */
export function store(vmm: Vmm, cpu: number, physical: bigint, value: bigint | number): void {
  if (isApicPage(physical) && vmm.writesApic(cpu, Number(physical & 0xfffn), Number(value))) return;
  vmm.setRegister(cpu, RAX, BigInt(value));
  touch(vmm, cpu, physical, [0x89, 0x03]);
}

/** mov [rbx], rax, which exits where the first instance's memory map does not let it through. */
export function store64(vmm: Vmm, cpu: number, physical: bigint, value: bigint): void {
  if ((reaches(vmm, 1, physical)?.permissions ?? 0n) & 2n) return vmm.machine.memory.write(physical, 8, value);
  vmm.setRegister(cpu, RAX, value);
  touch(vmm, cpu, physical, [0x48, 0x89, 0x03]);
}

/** mov eax, [rbx] */
export function load(vmm: Vmm, cpu: number, physical: bigint): bigint {
  const own = isApicPage(physical) ? vmm.readsApic(cpu, Number(physical & 0xfffn)) : null;
  if (own !== null) return BigInt(own);
  vmm.setRegister(cpu, RAX, 0xdead_beef_dead_beefn);
  vmm.setRegister(cpu, RBX, physical);
  touch(vmm, cpu, physical, [0x8b, 0x03]);
  return vmm.register(cpu, RAX);
}

/** IN and OUT of an instance whose ports exit. */
export function inb(vmm: Vmm, cpu: number, port: number, size = 1): number {
  vmm.setRegister(cpu, RAX, 0n);
  vmm.exit(cpu, Reason.IO, { qualification: BigInt((port << 16) | (size - 1) | 8), length: 1 });
  return Number(vmm.register(cpu, RAX));
}

export function outb(vmm: Vmm, cpu: number, port: number, value: number, size = 1): void {
  vmm.setRegister(cpu, RAX, BigInt(value));
  vmm.exit(cpu, Reason.IO, { qualification: BigInt((port << 16) | (size - 1)), length: 1 });
}

/** Interrupt command in xAPIC mode: high word, then low word, by a guarded page. */
export function sendIpi(vmm: Vmm, cpu: number, command: number, destination = 0): void {
  store(vmm, cpu, 0xfee0_0310n, (destination << 24) >>> 0);
  store(vmm, cpu, 0xfee0_0300n, command);
}

export interface Page { host: bigint; permissions: bigint; type: number }

/** What an instance reaches at a guest-physical address, by its own tables. */
export function reaches(vmm: Vmm, instance: number, address: bigint): Page | null {
  let table = vmm.call.mapPointer!(instance) & ~0xfffn;
  for (const shift of [39n, 30n, 21n, 12n]) {
    const entry = vmm.machine.memory.read(table + ((address >> shift) & 511n) * 8n, 8);
    if ((entry & 7n) === 0n) return null;
    if (shift === 12n || (entry & 0x80n) !== 0n) {
      const within = (1n << shift) - 1n;
      return { host: (entry & 0xfffffffff000n & ~within) | (address & within), permissions: entry & 7n, type: Number((entry >> 3n) & 7n) };
    }
    table = entry & 0xfffffffff000n;
  }
  return null;
}

/** Host addresses and permissions alone. */
export function reachable(vmm: Vmm, instance: number, ...addresses: bigint[]): (string | null)[] {
  return addresses.map((address) => {
    const page = reaches(vmm, instance, address);
    return page && `${page.host === address ? "same" : page.host.toString(16)} ${page.permissions}`;
  });
}
