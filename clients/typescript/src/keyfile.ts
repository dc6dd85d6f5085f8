// The private key that a create answer brings, kept in a file that only its owner can read.
import { randomBytes } from "node:crypto";
import { open, rename, unlink } from "node:fs/promises";

/** How to save a key. */
export interface KeyFileOptions {
  /** Replace a file that is there. Default: false. */
  readonly overwrite?: boolean;
}

/**
 * Writes a private key to a file with mode 0600. Rejects, with the code `EEXIST`, when there is a file already: it may be the
 * key of another machine.
 */
export async function saveKey(path: string, privateKey: string, options: KeyFileOptions = {}): Promise<void> {
  if (privateKey === "") throw new TypeError("there is no private key to save: the session was created with a key of your own");
  // An old file keeps its name until the new one is complete.
  const target = options.overwrite ? `${path}.${randomBytes(6).toString("hex")}.new` : path;
  const file = await open(target, "wx", 0o600);
  try {
    await file.chmod(0o600);
    await file.writeFile(privateKey);
    await file.sync();
    if (options.overwrite) await rename(target, path);
  } catch (error) {
    await unlink(target).catch(() => {});
    throw error;
  } finally {
    await file.close();
  }
}
