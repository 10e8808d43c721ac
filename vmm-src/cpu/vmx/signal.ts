/**
 * How one processor makes another leave its guest on VT-x: INIT makes it exit if
 * it runs a guest, SIPI if it waits for one (INIT is blocked there: SDM Vol. 3C,
 * 26.2 "Other causes of VM exits"). Neither reaches the guest. A guest's own INIT
 * and SIPI exit on the processor that they arrive at.
 */
import { ICR_ASSERT, ICR_LEVEL, ICR_MODE, ICR_MODE_INIT, ICR_MODE_STARTUP } from '../../machine/apic.ts';
import { Cpu, isWaiting } from '../cpu.ts';
import { sendIpi } from '../local-apic.ts';

/** The processor exits when its guest's INIT and SIPI arrive, so nobody has to look at those that are sent. */
export const STARTUP_EXITS: boolean = true;

/** Makes a processor look at its mailbox. */
export function signal(cpu: Cpu): void {
  if (isWaiting(cpu)) sendIpi(cpu.apicId, ICR_MODE_STARTUP | ICR_ASSERT);
  else sendIpi(cpu.apicId, ICR_MODE_INIT | ICR_LEVEL | ICR_ASSERT);
}

/** A ring is an INIT, which a processor may miss that is in the VMM. */
export const RINGS_ARE_KEPT: boolean = false;

/** Makes a shared processor exit, and look at what has been posted for its tenant. */
export function sendRing(cpu: Cpu): void {
  signal(cpu);
}

/** An order was carried out without its signal, which is still to come. */
export function expectSignal(cpu: Cpu): void {
  cpu.strayInits++;
}

/** Whether the signal that has just arrived is left over from an order that was carried out without it. */
export function isLeftOver(cpu: Cpu): boolean {
  if (cpu.strayInits === 0) return false;
  cpu.strayInits--;
  return true;
}

/** Sends a guest's own INIT or SIPI, `command` as in its ICR, to a processor that its instance holds. */
export function sendStartup(cpu: Cpu, command: u32): void {
  if ((command & ICR_MODE) === ICR_MODE_INIT) atomicStore(cpu.guestInit, 1);
  sendIpi(cpu.apicId, command);
}

/** Whether the processor waits for its SIPI in the VMM. On VT-x it does so in the guest's wait-for-SIPI state. */
export function waitsHere(_cpu: Cpu): boolean {
  return false;
}

/** Waits in the VMM for the next signal. */
export function waitForSignal(_cpu: Cpu): void {}
