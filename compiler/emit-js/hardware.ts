/**
 * Ports and model-specific registers of a simulated machine. `externals()` implements the functions that a driver of the
 * dialect declares to reach them: portIn8…32(port: u16), portOut8…32(port: u16, value), readMsr(index: u32): u64 and
 * writeMsr(index: u32, value: u64).
 */

/** An exception that the processor raises: the end of what ran. */
export class HardwareFault extends Error { override readonly name = "HardwareFault"; }

type Externals = Record<string, (...args: any[]) => unknown>;

/** What answers at a port; `size` is 1, 2 or 4 bytes. */
export interface Port { in?: (size: number) => number; out?: (value: number, size: number) => void }
export interface PortWrite { port: number; size: number; value: number }

/** Ports by number. One where nothing answers reads as ones and takes no writes, as on a PC. */
export class Ports extends Map<number, Port> {
  /** Every write, in order, whoever answers. */
  readonly writes: PortWrite[] = [];

  externals(): Externals {
    return { ...this.ofWidth(8), ...this.ofWidth(16), ...this.ofWidth(32) };
  }

  private ofWidth(bits: number): Externals {
    const size = bits / 8;
    return {
      [`portIn${bits}`]: (port: number) => Number(BigInt.asUintN(bits, BigInt(this.get(port)?.in?.(size) ?? -1))),
      [`portOut${bits}`]: (port: number, value: number) => {
        this.writes.push({ port, size, value });
        this.get(port)?.out?.(value, size);
      },
    };
  }
}

/** Model-specific registers by number. One that is not there faults: #GP(0), SDM Vol. 2B, RDMSR and WRMSR. */
export class Msrs extends Map<number, bigint> {
  read(index: number): bigint {
    const value = this.get(index);
    if (value === undefined) throw new HardwareFault(`#GP: RDMSR of 0x${index.toString(16)}`);
    return value;
  }

  write(index: number, value: bigint): void {
    if (!this.has(index)) throw new HardwareFault(`#GP: WRMSR of 0x${index.toString(16)}`);
    this.set(index, value);
  }

  externals(): Externals {
    return { readMsr: (index: number) => this.read(index), writeMsr: (index: number, value: bigint) => this.write(index, value) };
  }
}
