/** How interrupts reach the VMM itself on VT-x. */
import { acceptInterrupts } from '../../machine/intrinsics.ts';

/** Interrupt stacks (TSS.IST) of NMIs, which arrive at any instruction, and of machine checks. */
export const NMI_STACK: u64 = 1n;
export const MACHINE_CHECK_STACK: u64 = 2n;

/** The interrupt of highest priority that is pending goes through the VMM's own IDT. */
export function acceptPending(): void {
  acceptInterrupts();
}
