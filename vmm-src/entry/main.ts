/** What boot/enter.asm calls when the loader enters the VMM (linux/abi.h, "Late launch"). */
import { PREPARE, Result } from '../abi.ts';
import { capture, prepare, undoCapture } from '../instance/capture.ts';
import './exit.ts';
import './panic.ts';

/** Prepares one step, or captures this processor up to the VM entry. OK after a capture: the stub enters. @entry */
export function enter(cpu: u32, rip: u64, rsp: u64, cr3: u64): Result {
  if ((cpu & PREPARE) !== 0) return prepare(cpu & ~PREPARE);
  return capture(cpu, rip, rsp, cr3);
}

/** The entry after a capture failed. @entry */
export function enterFailed(cpu: u32): Result {
  undoCapture(cpu);
  return Result.PROCESSOR;
}
