import { writeFileSync } from "node:fs";

const S_IFLNK = 0o120000;
const S_IFREG = 0o100000;
const S_IFDIR = 0o040000;
const S_IFCHR = 0o020000;

/** Writes the archive that Linux unpacks as its first root ("newc"), device nodes included, without being root. */
export class CpioArchive {
  private parts: Buffer[] = [];
  private known = new Set<string>();

  file(path: string, content: Buffer | string, mode = 0o644): this {
    return this.add(path, S_IFREG | mode, Buffer.from(content));
  }

  symlink(path: string, target: string): this {
    return this.add(path, S_IFLNK | 0o777, Buffer.from(target));
  }

  directory(path: string): this {
    if (path === "" || this.known.has(path)) return this;
    return this.add(path, S_IFDIR | 0o755, Buffer.alloc(0));
  }

  device(path: string, major: number, minor: number): this {
    return this.add(path, S_IFCHR | 0o600, Buffer.alloc(0), [major, minor]);
  }

  write(path: string): void {
    this.record("TRAILER!!!", 0, Buffer.alloc(0), [0, 0]);
    writeFileSync(path, Buffer.concat(this.parts));
  }

  private add(path: string, mode: number, content: Buffer, device: [number, number] = [0, 0]): this {
    if (this.known.has(path)) throw new Error(`cpio: ${path} added twice`);
    this.directory(path.split("/").slice(0, -1).join("/"));
    this.known.add(path);
    this.record(path, mode, content, device);
    return this;
  }

  /** 110 characters of header, the name, the content; name and content each padded to four bytes. */
  private record(name: string, mode: number, content: Buffer, [major, minor]: [number, number]): void {
    const inode = this.known.size;
    const fields = [inode, mode, 0, 0, 1, 0, content.length, 0, 0, major, minor, name.length + 1, 0];
    const header = "070701" + fields.map((value) => value.toString(16).padStart(8, "0")).join("") + name + "\0";
    this.parts.push(Buffer.from(header), padding(header.length), content, padding(content.length));
  }
}

function padding(length: number): Buffer {
  return Buffer.alloc(-length & 3);
}
