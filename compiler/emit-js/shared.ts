/**
 * The dialect modules that a test imports (compiler/vitest-plugin.ts), as one program over one simulated machine.
 * It is compiled when something is first called, when everything that the test imports is known.
 */
import { Msrs, Ports } from "./hardware.ts";
import { type DialectValue, type LoadOptions, type Loaded, Memory, loadDialect } from "./load.ts";

const files = new Set<string>();
let loaded: Loaded | null = null;

/** What the modules run on. A test puts its own in before its first call, or after `reset()`. */
export const machine = {
  memory: new Memory(),
  /** What answers behind portIn8 and the like, and what was written. */
  ports: new Ports(),
  /** Behind readMsr and writeMsr. */
  msrs: new Msrs(),
  /** What `export declare function` stands for, by name. */
  externals: {} as NonNullable<LoadOptions["externals"]>,

  /** Fresh memory and static storage, no devices, no externals. */
  reset(): void {
    machine.memory = new Memory();
    machine.ports = new Ports();
    machine.msrs = new Msrs();
    machine.externals = {};
    loaded = null;
  },

  /** The program behind the imports: addresses, layouts, storage. */
  get program(): Loaded {
    if (!loaded) {
      const externals = { ...machine.ports.externals(), ...machine.msrs.externals(), ...machine.externals };
      loaded = loadDialect([...files], { memory: machine.memory, externals });
    }
    return loaded;
  },
};

/** What the plugin makes of an exported function. */
export function shared(file: string, name: string): (...args: DialectValue[]) => unknown {
  files.add(file);
  return (...args) => machine.program.callIn(file, name)(...args);
}
