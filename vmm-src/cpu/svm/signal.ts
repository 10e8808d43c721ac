/**
 * How one processor makes another leave its guest on AMD-V: by NMI, which exits
 * always. INIT would do on hardware only with VM_CR.R_INIT, and not in QEMU, where
 * it resets the processor, VMM and all. So a guest's own INITs and SIPIs are taken
 * where it sends them, and put into the mailbox of the processor that they name.
 */
import { CpuState } from '../../abi.ts';
import { ICR_ASSERT, ICR_MODE, ICR_MODE_INIT, ICR_MODE_NMI, ICR_VECTOR } from '../../machine/apic.ts';
import { Command, Cpu, isWaiting } from '../cpu.ts';
import { sendIpi } from '../local-apic.ts';

/** A guest's INIT and SIPI do not exit where they arrive: its interrupt commands have to be looked at. */
export const STARTUP_EXITS: boolean = false;
/** Makes a SIPI in the mailbox differ from none. */
const SIPI_PRESENT: u32 = 0x100;

/** In boot/svm/nmi.asm: halts until an NMI. */
declare function waitForNmi(): void;

/** Makes a processor look at its mailbox. */
export function signal(cpu: Cpu): void {
  atomicAdd(cpu.signals, 1);
  sendIpi(cpu.apicId, ICR_MODE_NMI | ICR_ASSERT);
}

/**
 * Of the interrupts that a shared processor takes for the VMM: the turn's timer (share.ts), and rings. No kernel sees
 * it, and none uses it: Linux has it for spurious interrupts, which have no request.
 */
export const TURN_VECTOR: u32 = 0xff;

/** A ring is an interrupt, which waits in the local APIC until it is taken. */
export const RINGS_ARE_KEPT: boolean = true;

/**
 * Makes a shared processor exit, and look at what has been posted for its tenant. Not by NMI: those of several senders at
 * a time could not be told from one of the guest's own, as a signal is counted before it arrives.
 */
export function sendRing(cpu: Cpu): void {
  sendIpi(cpu.apicId, TURN_VECTOR | ICR_ASSERT);
}

/** An order was carried out without its signal, which is still to come: it is known by `signals`. */
export function expectSignal(_cpu: Cpu): void {}

function hasStartup(cpu: Cpu): boolean {
  return atomicLoad(cpu.guestInit) !== 0 || atomicLoad(cpu.guestSipi) !== 0;
}

/** An NMI has arrived. Several signals may have become one. */
export function noteNmi(cpu: Cpu): void {
  cpu.signalled = atomicExchange(cpu.signals, 0);
}

/** Whether the NMI that has just arrived was a signal for which there is nothing left to do. */
export function isLeftOver(cpu: Cpu): boolean {
  return cpu.signalled !== 0 && !hasStartup(cpu);
}

/** Sends a guest's own INIT or SIPI, `command` as in its ICR, to a processor of its instance. */
export function sendStartup(cpu: Cpu, command: u32): void {
  if (cpu.state === CpuState.BARE) {
    sendIpi(cpu.apicId, command);
    return;
  }
  if ((command & ICR_MODE) === ICR_MODE_INIT) {
    atomicStore(cpu.guestSipi, 0);
    atomicStore(cpu.guestInit, 1);
  } else {
    // A processor that does not wait for one ignores it.
    if (cpu.state !== CpuState.WAITING && atomicLoad(cpu.guestInit) === 0) return;
    atomicStore(cpu.guestSipi, SIPI_PRESENT | (command & ICR_VECTOR));
  }
  signal(cpu);
}

/** Whether the processor waits in the VMM: for its guest's SIPI, or until the VMM needs it. */
export function waitsHere(cpu: Cpu): boolean {
  return isWaiting(cpu);
}

/** Waits in the VMM for the next signal. */
export function waitForSignal(cpu: Cpu): void {
  if (atomicLoad(cpu.command) === Command.NONE && !hasStartup(cpu)) waitForNmi();
  noteNmi(cpu);
}
