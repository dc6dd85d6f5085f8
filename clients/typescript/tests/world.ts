// A world to test in (clients/conformance/world.py) as a child: marketplaces, a server and a proxy that cuts.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import type { TestContext } from "node:test";
import { fileURLToPath } from "node:url";

/** A folder that is there as long as its test. */
export function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "gpu-shopper-test-"));
  t.after(() => rmSync(path, { recursive: true, force: true, maxRetries: 10, retryDelay: 200 }));
  return path;
}

export interface World {
  /** The proxy before the server. */
  readonly url: string;
  /** The server itself. */
  readonly direct: string;
  /** Asks for a cut, a restart, … */
  order(what: string): Promise<string>;
  close(): Promise<void>;
}

/** Settings of the server are given as `NAME=value`. */
export async function world(...settings: string[]): Promise<World> {
  const script = join(dirname(fileURLToPath(import.meta.url)), "../../../conformance/world.py");
  const child = spawn("python3", [script, ...settings], { stdio: ["pipe", "pipe", "inherit"] });
  const first = createInterface({ input: child.stdout })[Symbol.asyncIterator]().next();
  const said = await Promise.race([first, once(child, "error").then(([e]) => Promise.reject(e as Error))]);
  if (said.done) throw new Error("the world did not come to be; its reason stands above");
  const facts = JSON.parse(said.value) as { url: string; direct: string; control: string };
  return {
    url: facts.url,
    direct: facts.direct,
    async order(what) {
      const answer = await fetch(`${facts.control}/${what}`, { method: "POST" });
      if (!answer.ok) throw new Error(`${what}: ${await answer.text()}`);
      return answer.text();
    },
    async close() {
      const gone = once(child, "exit");
      child.stdin.end();
      await gone;
    },
  };
}
