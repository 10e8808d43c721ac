/** Compiles whenever a file of the program changes. */
import fs from "node:fs";
import path from "node:path";
import { type Compiled, Session } from "./compile.ts";
import type { Input } from "./frontend/program.ts";

/** Editors write a file in several steps. */
const SETTLE_MS = 30;

export interface Watching {
  close(): void;
}

/** Calls back with the first result and after each change. `input.entries` name the program while it has never compiled. */
export function watch(input: Input, done: (compiled: Compiled, milliseconds: number) => void): Watching {
  const session = new Session(input, "entries");
  const watchers = new Map<string, fs.FSWatcher>();
  let timer: NodeJS.Timeout | undefined;
  const run = (): void => {
    const start = performance.now();
    const compiled = session.compile();
    const milliseconds = performance.now() - start;
    followAll([...session.files, ...compiled.errors.map((error) => error.loc.source.path)]);
    done(compiled, milliseconds); // who hears of it may change a file at once
  };
  const followAll = (files: string[]): void => {
    for (const folder of new Set(files.map((file) => path.dirname(path.resolve(file))))) follow(folder);
  };
  const follow = (folder: string): void => {
    if (watchers.has(folder)) return;
    watchers.set(folder, fs.watch(folder, (_event, name) => {
      if (name && !name.endsWith(".ts")) return;
      clearTimeout(timer);
      timer = setTimeout(run, SETTLE_MS);
    }));
  };
  followAll(input.entries);
  run();
  return {
    close() {
      clearTimeout(timer);
      watchers.forEach((watcher) => watcher.close());
    },
  };
}
