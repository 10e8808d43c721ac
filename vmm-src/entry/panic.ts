/**
 * The end of this processor's work: a bug in the VMM. One line on the first serial
 * port, then halt. The other processors go on.
 */
import { failProcessor } from '../cpu/kick.ts';
import { haltForever, portIn8, portOut8, readTsc } from '../machine/intrinsics.ts';

const COM1_DATA: u16 = 0x3f8;
const COM1_STATUS: u16 = 0x3fd;
const TRANSMITTER_EMPTY: u8 = 0x20;
const MAX_POLLS: u32 = 100000;

function printByte(byte: u8): void {
  for (let i: u32 = 0; i < MAX_POLLS; i++) {
    if ((portIn8(COM1_STATUS) & TRANSMITTER_EMPTY) !== 0) break;
  }
  portOut8(COM1_DATA, byte);
}

function print(text: string): void {
  for (let i: u32 = 0; byteAt(text, i) !== 0; i++) printByte(byteAt(text, i));
}

function printHex(value: u64): void {
  print(' 0x');
  for (let i: u32 = 0; i < 16; i++) {
    const digit: u8 = wrapU8((value >> u64(60 - 4 * i)) & 15n);
    printByte(digit < 10 ? 48 + digit : 87 + digit);
  }
}

/** Prints `text` and two numbers, and halts. */
export function panic(text: string, a: u64, b: u64): never {
  print('\r\nunderstudy: panic: ');
  print(text);
  printHex(a);
  printHex(b);
  print(' at tick');
  printHex(readTsc());
  print('\r\n');
  failProcessor();
  haltForever();
}

/** A failed check in the VMM's own code. @entry */
export function onTrap(site: u32): never {
  panic(trapText(site), u64(site), 0n);
}

/** An exception in the VMM's own code: vector, error code, RIP on the stack frame that boot/interrupts.asm passes. @entry */
export function onException(vector: u64, rip: u64): never {
  panic('exception in the VMM, vector and RIP:', vector, rip);
}

/** The VM entry failed. @entry */
export function onEntryFailure(error: u64): never {
  panic('VM entry refused, error:', error, 0n);
}

/** VMWRITE failed: a field that this processor does not have. @entry */
export function vmwriteFailed(): never {
  panic('VMWRITE failed', 0n, 0n);
}
