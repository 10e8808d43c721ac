/**
 * How interrupts reach the VMM itself on AMD-V: while the global interrupt flag is
 * clear, from an exit to the next entry, not even NMIs do. They are let in only at
 * chosen places, so they need no stack of their own. The interrupt flag is set while
 * the global one is clear: so VMRUN is to find it (share.ts).
 */
import { acceptInterrupts, clgi, stgi } from '../../machine/intrinsics.ts';

export const NMI_STACK: u64 = 0n;
export const MACHINE_CHECK_STACK: u64 = 0n;

/** The interrupt of highest priority that is pending goes through the VMM's own IDT. */
export function acceptPending(): void {
  stgi();
  acceptInterrupts();
  clgi();
}

/** The NMI that is pending goes through the VMM's own IDT, where it ends. */
export function acceptNmi(): void {
  stgi();
  clgi();
}
