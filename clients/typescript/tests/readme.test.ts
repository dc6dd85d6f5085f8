// What the README shows works as it stands there.
import { transform } from "esbuild";
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { world } from "./world.js";

test("the README's program does the whole job", { timeout: 180_000 }, async () => {
  const readme = await readFile(new URL("../../README.md", import.meta.url), "utf8");
  const program = /```ts\n([^]*?)```/.exec(readme)?.[1] ?? "";
  assert.ok(program.trim().split("\n").length <= 12, program);
  const w = await world();
  try {
    const here = program.replace("@gpu-shopper/client", new URL("../src/index.js", import.meta.url).href).replace("http://127.0.0.1:8080", w.url);
    const folder = await mkdtemp(join(tmpdir(), "gpu-shopper-readme-"));
    await writeFile(join(folder, "rent.mjs"), (await transform(here, { loader: "ts" })).code);
    const { stdout } = await promisify(execFile)(process.execPath, ["rent.mjs"], { cwd: folder, timeout: 120_000 });
    assert.match(stdout, /^ssh -p \d+ \S+@127\.0\.0\.1 -i key\.pem\n0\.\d+\n$/);
    assert.match(await readFile(join(folder, "key.pem"), "utf8"), /PRIVATE KEY/);
  } finally {
    await w.close();
  }
});
